//! Normal form: which bytes of a path are rewritten, and which are refused.

use std::borrow::Cow;

use super::forms::UnusualForm;
use super::segments::check_segments;
use super::{NormalPath, PathMarks, PathRefusal};

/// Whether `byte` is an unreserved character (RFC 3986 §2.3), whose escape means the same as
/// itself.
pub(super) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether `byte` may appear unescaped in a path: `pchar` of RFC 3986 §3.3 without `%`, or `/`.
pub(super) const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

/// The escape of a byte that RFC 3986 does not allow in a path, but that browsers and other URL
/// libraries leave as it is (URL standard, "path percent-encode set"; `^` is in that set only since
/// 2024).
const fn missing_escape(byte: u8) -> Option<&'static str> {
    match byte {
        b'[' => Some("%5B"),
        b']' => Some("%5D"),
        b'^' => Some("%5E"),
        b'|' => Some("%7C"),
        _ => None,
    }
}

/// Brings `raw`, which starts with `/`, into normal form.
pub(super) fn normalize(raw: &str) -> Result<NormalPath<'_>, PathRefusal> {
    let bytes = raw.as_bytes();
    let mut rewrite = Rewrite { raw, text: None };
    let mut marks = PathMarks::default();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            if !is_plain(byte) {
                let escape = missing_escape(byte).ok_or(PathRefusal::ForbiddenByte)?;
                marks.has_escapes = true;
                rewrite.replace(at).push_str(escape);
                at += 1;
                continue;
            }
            if byte == b';' {
                marks.forms.insert(UnusualForm::Parameters);
            }
            rewrite.keep(at, 1);
            at += 1;
            continue;
        }
        match decode_escape(bytes, at)? {
            b'\\' => return Err(PathRefusal::EncodedBackslash),
            0..=0x1F | 0x7F => return Err(PathRefusal::EncodedControl),
            value if is_unreserved(value) => {
                rewrite.replace(at).push(char::from(value));
                at += 3;
            }
            lead @ 0x80.. => {
                let length = utf8_escapes(bytes, at, lead)?;
                marks.has_escapes = true;
                for _ in 0..length {
                    rewrite.keep_escape(at);
                    at += 3;
                }
            }
            value => {
                marks.has_escapes = true;
                marks.has_readings |= matches!(value, b' ' | b'#' | b';' | b'?');
                if value == b'/' {
                    marks.forms.insert(UnusualForm::EncodedSlash);
                }
                rewrite.keep_escape(at);
                at += 3;
            }
        }
    }
    let text = rewrite.finish();
    check_segments(&text, &mut marks)?;
    Ok(NormalPath { text, marks })
}

/// The byte that the escape at `at` encodes.
fn decode_escape(bytes: &[u8], at: usize) -> Result<u8, PathRefusal> {
    match bytes.get(at) {
        Some(b'%') => hex_value(&bytes[at + 1..]).ok_or(PathRefusal::BrokenEscape),
        Some(_) | None => Err(PathRefusal::BrokenEscape),
    }
}

/// The value of the two hex digits that `bytes` begins with.
pub(super) fn hex_value(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    Some(u8::try_from(digit(0)? * 16 + digit(1)?).expect("two hex digits are at most 255"))
}

/// The number of escapes, from `at` on, that encode one UTF-8 character. `lead` is its first byte.
fn utf8_escapes(bytes: &[u8], at: usize, lead: u8) -> Result<usize, PathRefusal> {
    let length = match lead {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return Err(PathRefusal::InvalidUtf8),
    };
    let mut character = [0; 4];
    for (index, place) in character[..length].iter_mut().enumerate() {
        let at = at + 3 * index;
        *place = match bytes.get(at) {
            Some(b'%') => decode_escape(bytes, at)?,
            Some(_) | None => return Err(PathRefusal::InvalidUtf8),
        };
    }
    std::str::from_utf8(&character[..length]).map_err(|_| PathRefusal::InvalidUtf8)?;
    Ok(length)
}

/// The result of the normalization: borrows `raw` until the first change, then copies it.
struct Rewrite<'a> {
    raw: &'a str,
    text: Option<String>,
}

impl<'a> Rewrite<'a> {
    fn keep(&mut self, at: usize, length: usize) {
        if let Some(text) = &mut self.text {
            text.push_str(&self.raw[at..at + length]);
        }
    }

    fn keep_escape(&mut self, at: usize) {
        let escape = &self.raw[at..at + 3];
        if escape.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let upper = escape.to_ascii_uppercase();
            self.replace(at).push_str(&upper);
        } else {
            self.keep(at, 3);
        }
    }

    /// The copy, which is created with everything before `at`. The caller appends the replacement.
    fn replace(&mut self, at: usize) -> &mut String {
        self.text.get_or_insert_with(|| {
            let mut text = String::with_capacity(self.raw.len());
            text.push_str(&self.raw[..at]);
            text
        })
    }

    fn finish(self) -> Cow<'a, str> {
        self.text.map_or(Cow::Borrowed(self.raw), Cow::Owned)
    }
}
