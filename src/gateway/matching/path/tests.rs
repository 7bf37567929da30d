//! Tables of accepted and refused paths, and properties that hold for any bytes.

use proptest::prelude::*;

use super::normal_form::is_plain;
use super::*;

fn parsed(raw: &str) -> Result<String, PathRefusal> {
    NormalPath::parse(raw, PathParameters::Refuse).map(|path| path.as_str().to_owned())
}

#[test]
fn accepted_paths_are_brought_into_normal_form() {
    for (name, raw, expect) in [
        ("root", "/", "/"),
        ("plain", "/orders/7", "/orders/7"),
        ("a trailing slash matters", "/orders/", "/orders/"),
        ("PA-4: letters keep their case", "/API/Admin", "/API/Admin"),
        ("unreserved escapes are decoded", "/%6Frders/%7e%2D%5f", "/orders/~-_"),
        ("a dot inside a segment", "/a%2Eb/...", "/a.b/..."),
        ("hidden files", "/.well-known/.x", "/.well-known/.x"),
        ("dots and spaces with a name", "/..a%20/.%20.b", "/..a%20/.%20.b"),
        ("hex digits become upper case", "/a%3a%2c%c3%a9", "/a%3A%2C%C3%A9"),
        ("sub-delimiters are unchanged", "/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b"),
        ("and so are their escapes", "/%21%2A", "/%21%2A"),
        ("PA-6: escaped query and fragment marks stay escaped", "/a%3fb%23x", "/a%3Fb%23x"),
        ("an escaped percent sign without digits after it", "/100%25", "/100%25"),
        ("an escaped percent sign before one digit", "/100%25a", "/100%25a"),
        ("PA-5: an escaped semicolon stays escaped", "/a%3bb", "/a%3Bb"),
        ("PA-7: a longer name is a different name", "/api/adminx", "/api/adminx"),
        ("four bytes of UTF-8", "/%f0%9f%98%80", "/%F0%9F%98%80"),
    ] {
        assert_eq!(parsed(raw).as_deref(), Ok(expect), "{name}");
    }
}

#[test]
fn ambiguous_paths_are_refused() {
    use PathRefusal::*;
    for (name, raw, expect) in [
        ("empty", "", NotAbsolute),
        ("asterisk form", "*", NotAbsolute),
        ("A50: no leading slash", "api/admin/x", NotAbsolute),
        ("PA-1: dot segments", "/public/../api/x", DotSegment),
        ("PA-1: at the end", "/public/..", DotSegment),
        ("PA-1: single dot", "/api/./x", DotSegment),
        ("PA-1: escaped", "/public/%2e%2e/api/x", DotSegment),
        ("PA-1: half escaped, mixed case", "/public/.%2E/api/x", DotSegment),
        ("PA-1: escaped twice", "/public/%252e%252e/api/x", DoubleEscape),
        ("PA-1: followed by a space", "/public/..%20/api/x", DotSegment),
        ("PA-1: followed by an escaped semicolon", "/public/..%3b/api/x", DotSegment),
        ("PA-1: followed by an escaped question mark", "/public/..%3Fx", DotSegment),
        ("PA-11: after a space", "/public/%20../api/x", DotSegment),
        ("PA-11: with a space between", "/public/.%20./api/x", DotSegment),
        ("PA-11: with a space between, and parameters", "/public/.%20.%20%3Bx/api/x", DotSegment),
        ("PA-11: three dots and a space", "/public/...%20/api/x", DotSegment),
        ("PA-1: followed by a NUL", "/public/..%00/api/x", EncodedControl),
        ("PA-1: overlong dots", "/public/%c0%ae%c0%ae/api", InvalidUtf8),
        ("PA-2: escaped slash", "/public%2F..%2Fapi/x", EncodedSeparator),
        ("PA-2: lower case", "/api%2fadmin", EncodedSeparator),
        ("PA-2: escaped backslash", "/public/..%5capi", EncodedSeparator),
        ("PA-2: escaped backslash twice", "/public/..%255capi/x", DoubleEscape),
        ("PA-2: an escape made of escapes", "/public/..%25%35%63api", DoubleEscape),
        ("PA-2: an escape partly made of escapes", "/public%25%32f", DoubleEscape),
        ("PA-2: raw backslash", "/public\\..\\api", ForbiddenByte),
        ("PA-2: overlong slash", "/public%c0%af", InvalidUtf8),
        ("PA-3: two slashes", "/public//api", EmptySegment),
        ("PA-3: two leading slashes", "//evil.example/api", EmptySegment),
        ("PA-3: two slashes at the end", "/api/x//", EmptySegment),
        ("PA-5: parameters", "/api/admin;x=1/x", Parameters),
        ("PA-5: parameters after dots", "/public/..;/api/x", Parameters),
        ("PA-6: raw fragment", "/api/x#/public", ForbiddenByte),
        ("PA-6: raw question mark", "/api/x?/public", ForbiddenByte),
        ("PA-10: raw space", "/a b", ForbiddenByte),
        ("PA-10: raw control", "/a\tb", ForbiddenByte),
        ("PA-10: raw NUL", "/a\0", ForbiddenByte),
        ("PA-10: raw non-ASCII", "/é", ForbiddenByte),
        ("PA-10: quote", "/a\"b", ForbiddenByte),
        ("PA-10: braces", "/a{b}", ForbiddenByte),
        ("PA-10: escaped line break", "/a%0d%0aX: y", EncodedControl),
        ("PA-10: escaped DEL", "/a%7F", EncodedControl),
        ("broken escape", "/a%", BrokenEscape),
        ("broken escape with one digit", "/a%4", BrokenEscape),
        ("broken escape with no hex digit", "/a%zz", BrokenEscape),
        ("broken escape before another", "/a%2%35", BrokenEscape),
        ("a lone continuation byte", "/%80", InvalidUtf8),
        ("a truncated character", "/%e2%82", InvalidUtf8),
        ("a surrogate", "/%ed%a0%80", InvalidUtf8),
    ] {
        assert_eq!(parsed(raw), Err(expect), "{name}");
    }
}

#[test]
fn parameters_pass_if_allowed_but_never_hide_a_segment() {
    let parsed = |raw| NormalPath::parse(raw, PathParameters::Allow).map(|path| path.as_str().to_owned());
    for (name, raw, expect) in [
        ("kept", "/a;v=1/b", Ok("/a;v=1/b")),
        ("dots before", "/public/..;/api/x", Err(PathRefusal::DotSegment)),
        ("escaped dots before", "/public/%2e%2e;x=1/api", Err(PathRefusal::DotSegment)),
        ("a single dot before", "/a/.;x", Err(PathRefusal::DotSegment)),
        ("nothing before", "/a/;x=1/b", Err(PathRefusal::EmptySegment)),
        ("nothing before, at the end", "/a/;x", Err(PathRefusal::EmptySegment)),
    ] {
        assert_eq!(parsed(raw).as_deref(), expect.as_ref().copied(), "{name}");
    }
}

/// PA-9: normalization is linear in the length, and the depth is limited.
#[test]
fn the_number_of_segments_is_limited() {
    assert!(parsed(&"/a".repeat(MAX_SEGMENTS)).is_ok());
    assert_eq!(parsed(&"/a".repeat(MAX_SEGMENTS + 1)), Err(PathRefusal::TooManySegments));
}

#[test]
fn a_path_in_normal_form_is_not_copied() {
    let path = NormalPath::parse("/a/%C3%A9/b", PathParameters::Refuse).unwrap();
    assert!(matches!(path.text, Cow::Borrowed(_)));
    let path = NormalPath::parse("/a/%c3%a9/b", PathParameters::Refuse).unwrap();
    assert!(matches!(path.text, Cow::Owned(_)));
}

/// PA-8.
#[test]
fn a_prefix_follows_the_rules_of_paths() {
    for (text, expect) in [("/a/%7e/", "/a/~"), ("/api", "/api"), ("/", "")] {
        let prefix = PathPrefix::parse(text).unwrap();
        assert_eq!(prefix.as_str(), expect);
        assert_eq!(prefix.segments().fold(String::new(), |path, segment| path + "/" + segment), expect);
    }
    assert_eq!(PathPrefix::parse("/a//"), Err(PathRefusal::EmptySegment));
    assert_eq!(PathPrefix::parse("/a/../b"), Err(PathRefusal::DotSegment));
    assert_eq!(PathPrefix::parse("/a;b"), Err(PathRefusal::Parameters));
    assert_eq!(PathPrefix::parse("api"), Err(PathRefusal::NotAbsolute));
}

/// A name, and one way in which a backend may interpret a path before it looks up the resource.
type Interpretation = (&'static str, fn(&str) -> String);

const INTERPRETATIONS: [Interpretation; 6] = [
    ("decode", decoded),
    ("decode, merge slashes", |path| merged(&decoded(path))),
    ("remove parameters, decode", |path| decoded(&without_parameters(path))),
    ("decode, remove parameters", |path| without_parameters(&decoded(path))),
    ("decode, backslash is slash", |path| decoded(path).replace('\\', "/")),
    ("decode, end the path at ? and #", |path| decoded(path).split(['?', '#']).next().unwrap().to_owned()),
];

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

fn merged(path: &str) -> String {
    let mut text = path.to_owned();
    while text.contains("//") {
        text = text.replace("//", "/");
    }
    text
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/")
}

/// Removes dot segments, like Go's `path.Clean` and RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Paths made of pieces that have been used in attacks.
fn hostile_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", ".", "..", "a", "api", ";", ";x=1", "%2e", "%2E", "%2f", "%5c", "%25", "%252e", "%3b", "%3F",
        "%23", "%20", "%00", "%c0", "%ae", "%C3%A9", "%", "%4", "2", "f", "%32", "%66", "%35", "%63", "\\", "?", "#",
        "é", " ", "~", "%7e", "*", "{",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn parameters() -> impl Strategy<Value = PathParameters> {
    prop::sample::select(vec![PathParameters::Allow, PathParameters::Refuse])
}

fn check_guarantees(raw: &str, parameters: PathParameters) -> Result<(), TestCaseError> {
    let Ok(path) = NormalPath::parse(raw, parameters) else { return Ok(()) };
    let text = path.as_str();
    let again = NormalPath::parse(text, parameters);
    prop_assert_eq!(again.as_ref().map(NormalPath::as_str), Ok(text));
    prop_assert!(text.starts_with('/') && !text.contains("//") && text.is_ascii());
    prop_assert!(text.bytes().all(|byte| is_plain(byte) || byte == b'%'));
    prop_assert!(parameters == PathParameters::Allow || !text.contains(';'));
    let upper = text.to_ascii_uppercase();
    prop_assert!(["%2F", "%5C", "%00", "%0A", "%7F", "%2E", "%41"].iter().all(|escape| !upper.contains(escape)));
    // After decoding once, nothing is left to decode.
    let once = decoded(text);
    prop_assert_eq!(&decoded(&once), &once);
    for (name, interpret) in INTERPRETATIONS {
        let seen = interpret(text);
        prop_assert_eq!(&without_dots(&seen), &seen, "{}", name);
        // A segment that starts with an escaped `;` is an ordinary name, which this interpretation
        // empties. Only a dot segment could lead to another path.
        prop_assert!(name == "decode, remove parameters" || merged(&seen) == seen, "{}: {}", name, seen);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interpretation_of_an_accepted_hostile_path_has_dots_or_empty_segments(raw in hostile_path(), parameters in parameters()) {
        check_guarantees(&raw, parameters)?;
    }

    #[test]
    fn no_interpretation_of_any_accepted_text_has_dots_or_empty_segments(raw in "/?\\PC{0,40}", parameters in parameters()) {
        check_guarantees(&raw, parameters)?;
    }

    #[test]
    fn no_interpretation_of_accepted_bytes_has_dots_or_empty_segments(bytes in prop::collection::vec(any::<u8>(), 0..40), parameters in parameters()) {
        check_guarantees(&String::from_utf8_lossy(&bytes), parameters)?;
    }

    #[test]
    fn the_case_of_hex_digits_makes_no_difference(bytes in prop::collection::vec(any::<u8>(), 1..12)) {
        let escapes = bytes.iter().fold(String::from("/"), |text, byte| text + &format!("%{byte:02X}"));
        prop_assert_eq!(parsed(&escapes), parsed(&escapes.to_ascii_lowercase()));
    }
}
