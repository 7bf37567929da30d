//! Double escapes: what a backend makes of a path that decodes it twice.

use percent_encoding::percent_decode_str;

use super::PathRefusal;
use super::normal_form::{hex_value, is_unreserved};

/// Whether `text`, in normal form, has `%25` before two hex digits, or before `u` and four hex
/// digits, which old Microsoft servers decode too.
pub(super) fn has_double_escape(text: &str) -> bool {
    text.match_indices("%25").any(|(at, _)| {
        let after = &text.as_bytes()[at + 3..];
        hex_value(after).is_some() || is_unicode_escape(after)
    })
}

fn is_unicode_escape(after: &[u8]) -> bool {
    let Some((b'u' | b'U', digits)) = after.split_first() else { return false };
    digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit)
}

/// `text` with each escaped escape replaced by the escape, and that brought into normal form.
///
/// # Errors
///
/// A second decoding must give nothing that would be refused in an ordinary path: no control byte,
/// no `\`, no overlong UTF-8, and nothing that can be decoded a third time. Single bytes that are
/// not UTF-8 are accepted, for otherwise `50%25ab` would not be.
pub(super) fn decode_twice(text: &str) -> Result<String, PathRefusal> {
    let mut twice = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("%25") {
        let (before, escape) = rest.split_at(at);
        twice.push_str(before);
        let Some(value) = hex_value(&escape.as_bytes()[3..]) else {
            twice.push_str(&escape[..3]);
            rest = &escape[3..];
            continue;
        };
        match value {
            b'\\' => return Err(PathRefusal::EncodedBackslash),
            0..=0x1F | 0x7F => return Err(PathRefusal::EncodedControl),
            value if is_unreserved(value) => twice.push(char::from(value)),
            _ => {
                twice.push('%');
                twice.push_str(&escape[3..5].to_ascii_uppercase());
            }
        }
        rest = &escape[5..];
    }
    twice.push_str(rest);
    if has_double_escape(&twice) {
        return Err(PathRefusal::NestedEscape);
    }
    let bytes: Vec<u8> = percent_decode_str(&twice).collect();
    if bytes.windows(2).any(|pair| is_overlong(pair[0], pair[1])) {
        return Err(PathRefusal::InvalidUtf8);
    }
    Ok(twice)
}

/// Whether a careless UTF-8 decoder reads a character of ASCII, or one of fewer bytes, from a
/// sequence that begins with these bytes.
fn is_overlong(first: u8, second: u8) -> bool {
    let is_continuation = matches!(second, 0x80..=0xBF);
    match first {
        0xC0 | 0xC1 | 0xF8..=0xFD => is_continuation,
        0xE0 => is_continuation && second < 0xA0,
        0xF0 => is_continuation && second < 0x90,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3629 §3: what decoders have taken for `/`, `.` or a shorter character.
    #[test]
    fn an_overlong_sequence_is_told_from_a_valid_and_from_a_broken_one() {
        for (name, first, second, expected) in [
            ("a slash in two bytes", 0xC0, 0xAF, true),
            ("the end of ASCII in two bytes", 0xC1, 0xBF, true),
            ("two bytes, broken off", 0xC0, b'A', false),
            ("the shortest of two bytes", 0xC2, 0x80, false),
            ("two bytes in three", 0xE0, 0x80, true),
            ("the last of them", 0xE0, 0x9F, true),
            ("the shortest of three bytes", 0xE0, 0xA0, false),
            ("three bytes, broken off", 0xE0, b'A', false),
            ("three bytes in four", 0xF0, 0x80, true),
            ("the last of them", 0xF0, 0x8F, true),
            ("the shortest of four bytes", 0xF0, 0x90, false),
            ("four bytes, broken off", 0xF0, b'A', false),
            ("a sequence of five bytes", 0xF8, 0x88, true),
            ("and of six", 0xFD, 0x80, true),
            ("ASCII", b'A', 0x80, false),
        ] {
            assert_eq!(is_overlong(first, second), expected, "{name}: {first:x} {second:x}");
        }
    }
}
