//! Properties that hold for any bytes, whatever a backend does to an accepted path.

use proptest::prelude::*;

use super::super::normal_form::is_plain;
use super::*;
use crate::gateway::matching::path::backend_model::{Step, read};

/// Paths made of pieces that have been used in attacks.
fn hostile_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", ".", "..", "a", "api", ";", ";x=1", "%2e", "%2E", "%2f", "%2F", "%5c", "%25", "%25", "%252e",
        "%252f", "%253b", "%255c", "%3b", "%3F", "%23", "%20", "%00", "%c0", "%ae", "%C3%A9", "%", "%4", "2", "f",
        "%32", "%66", "%35", "%63", "e", "u002e", "\\", "?", "#", "é", " ", "~", "%7e", "*", "{", "[", "|",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn accepted() -> impl Strategy<Value = UnusualForms> {
    let forms =
        [UnusualForm::DoubleEscape, UnusualForm::EmptySegment, UnusualForm::EncodedSlash, UnusualForm::Parameters];
    prop_oneof![
        Just(UnusualForms::ALL),
        prop::sample::subsequence(forms.to_vec(), 0..=4).prop_map(UnusualForms::from_iter),
    ]
}

fn check_guarantees(raw: &str, accepted: UnusualForms, steps: &[Step]) -> Result<(), TestCaseError> {
    let Ok(path) = NormalPath::parse(raw, accepted) else { return Ok(()) };
    let text = path.as_str();
    // The normal form of a normal form is itself, and what is marked does not depend on spelling.
    prop_assert_eq!(&NormalPath::parse(text, accepted), &Ok(path.clone()));
    prop_assert!(text.starts_with('/') && !text.starts_with("//") && text.is_ascii());
    prop_assert!(text.bytes().all(|byte| is_plain(byte) || byte == b'%'));
    let upper = text.to_ascii_uppercase();
    prop_assert!(["%5C", "%00", "%0A", "%7F", "%2E", "%41"].iter().all(|escape| !upper.contains(escape)));
    for (form, mark) in
        [(UnusualForm::Parameters, ";"), (UnusualForm::EncodedSlash, "%2F"), (UnusualForm::EmptySegment, "//")]
    {
        prop_assert!(accepted.contains(form) || !text.contains(mark), "{:?} in {}", form, text);
    }
    // After decoding once, or twice where that is accepted, nothing is left to decode.
    let decodings = if accepted.contains(UnusualForm::DoubleEscape) { 2 } else { 1 };
    let decoded = read(text, &vec![Step::Decode; decodings]);
    prop_assert_eq!(read(&decoded, &[Step::Decode]), decoded);
    let seen = read(text, steps);
    let has_dots = seen.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."));
    prop_assert!(!has_dots, "{} read as {}", text, seen);
    prop_assert!(!seen.contains('\\') && !seen.contains(char::is_control), "{} read as {:?}", text, seen);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reading_of_an_accepted_hostile_path_has_dots(
        raw in hostile_path(), accepted in accepted(), steps in Step::sequences(),
    ) {
        check_guarantees(&raw, accepted, &steps)?;
    }

    #[test]
    fn no_reading_of_any_accepted_text_has_dots(
        raw in "/?\\PC{0,40}", accepted in accepted(), steps in Step::sequences(),
    ) {
        check_guarantees(&raw, accepted, &steps)?;
    }

    #[test]
    fn no_reading_of_accepted_bytes_has_dots(
        bytes in prop::collection::vec(any::<u8>(), 0..40), accepted in accepted(), steps in Step::sequences(),
    ) {
        check_guarantees(&String::from_utf8_lossy(&bytes), accepted, &steps)?;
    }

    #[test]
    fn the_case_of_hex_digits_makes_no_difference(bytes in prop::collection::vec(any::<u8>(), 1..12)) {
        let escapes = bytes.iter().fold(String::from("/"), |text, byte| text + &format!("%{byte:02X}"));
        prop_assert_eq!(parsed(&escapes), parsed(&escapes.to_ascii_lowercase()));
    }
}
