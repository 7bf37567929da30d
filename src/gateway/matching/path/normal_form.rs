//! Normal form: which bytes of a path are rewritten, and which paths are refused.

use std::borrow::Cow;

use super::{MAX_SEGMENTS, NormalPath, PathMarks, PathParameters, PathRefusal};

/// Whether `byte` is an unreserved character (RFC 3986 §2.3), whose escape means the same as
/// itself.
const fn is_unreserved(byte: u8) -> bool {
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

/// Brings `raw`, which starts with `/`, into normal form.
pub(super) fn normalize(raw: &str, parameters: PathParameters) -> Result<NormalPath<'_>, PathRefusal> {
    let bytes = raw.as_bytes();
    let mut rewrite = Rewrite { raw, text: None };
    let mut marks = PathMarks::default();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            if !is_plain(byte) {
                return Err(PathRefusal::ForbiddenByte);
            }
            if byte == b';' {
                if parameters == PathParameters::Refuse {
                    return Err(PathRefusal::Parameters);
                }
                marks.has_parameters = true;
                marks.has_readings = true;
            }
            rewrite.keep(at, 1);
            at += 1;
            continue;
        }
        match decode_escape(bytes, at)? {
            b'/' | b'\\' => return Err(PathRefusal::EncodedSeparator),
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
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    match (bytes.get(at), digit(at + 1), digit(at + 2)) {
        (Some(b'%'), Some(high), Some(low)) => {
            Ok(u8::try_from(high * 16 + low).expect("two hex digits are at most 255"))
        }
        _ => Err(PathRefusal::BrokenEscape),
    }
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

/// Checks the rules that concern more than one character. The characters of `text` are already in
/// normal form.
fn check_segments(text: &str, marks: &mut PathMarks) -> Result<(), PathRefusal> {
    // The search needs the normal form: in `%25%32%66`, the two digits are themselves escaped.
    let is_double_escape =
        |five: &[u8]| five.starts_with(b"%25") && five[3].is_ascii_hexdigit() && five[4].is_ascii_hexdigit();
    if marks.has_escapes && text.as_bytes().windows(5).any(is_double_escape) {
        return Err(PathRefusal::DoubleEscape);
    }
    let mut segments = text[1..].split('/').enumerate().peekable();
    while let Some((index, segment)) = segments.next() {
        if index >= MAX_SEGMENTS {
            return Err(PathRefusal::TooManySegments);
        }
        let is_last = segments.peek().is_none();
        if segment.starts_with(';') || (segment.is_empty() && !is_last) {
            return Err(PathRefusal::EmptySegment);
        }
        if is_dot_segment(segment) {
            return Err(PathRefusal::DotSegment);
        }
        marks.has_readings |= segment.ends_with('.');
    }
    Ok(())
}

/// Whether `segment` is `.` or `..`, also for a backend that removes parameters, spaces or what it
/// treats as a query.
///
/// Servlet containers remove `;…` before they resolve dots, Windows drops dots and spaces at the
/// end of a name, some frameworks drop spaces at its start, and a backend that decodes before it
/// parses ends the path at `?` and `#`. More than two dots are a name, unless there are spaces
/// among them.
fn is_dot_segment(segment: &str) -> bool {
    if !segment.starts_with(['.', '%']) {
        return false;
    }
    let (mut rest, mut dots, mut spaces) = (segment, 0, 0);
    loop {
        if let Some(after) = rest.strip_prefix('.') {
            (rest, dots) = (after, dots + 1);
        } else if let Some(after) = rest.strip_prefix("%20") {
            (rest, spaces) = (after, spaces + 1);
        } else {
            break;
        }
    }
    let is_whole = rest.is_empty() || [";", "%3B", "%3F", "%23"].iter().any(|end| rest.starts_with(end));
    is_whole && dots > 0 && (dots <= 2 || spaces > 0)
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
