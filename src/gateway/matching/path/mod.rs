//! Path normalisation: one normal form for the path that is matched and the path that is forwarded, or a refusal.
//!
//! Part of intake. Backends read paths in different ways: some merge slashes, some cut `;parameters` off, some decode twice, some
//! take `\` for `/`. Whatever two of them could read differently is refused here, so that the rule found for a path is the rule
//! for what the upstream will make of it. Nothing is repaired but the spelling of escapes (RFC 3986 §6.2.2). The length of the
//! whole target is bounded before this is called; the query never comes here.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

/// A path in normal form: absolute, no dot segment, no empty segment but the last, escapes of unreserved characters decoded, the
/// hex digits of all others upper case.
///
/// Letters keep their case and a trailing slash counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'a>(Cow<'a, str>);

/// A path prefix for `strip_prefix` and `add_prefix`, in normal form: empty, or `/a/b` without a slash at the end.
///
/// A normal path from whose front one is taken off between segments, and another put there, is a normal path still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(Box<str>);

/// May a segment carry `;parameters` (RFC 3986 §3.3)?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathParameters {
    /// A raw `;` is kept, as part of its segment.
    Allow,
    /// A raw `;` is refused.
    Refuse,
}

/// Why a path is refused. None of these holds text of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathRefusal {
    /// Another route would apply if its escapes were decoded or its parameters cut off; found when it is matched.
    #[error("different routes apply to it as written and as a backend may read it")]
    Ambiguous,
    /// `%` without two hex digits.
    #[error("a `%` is not followed by two hex digits")]
    BrokenEscape,
    /// `.` or `..`, plain or escaped, also where a backend that cuts a suffix off would see one.
    #[error("a segment is `.` or `..`")]
    DotSegment,
    /// `%25` before two hex digits: decoded twice, it would be another path.
    #[error("an escape is escaped again")]
    DoubleEscape,
    /// `//`, or a segment that is nothing but parameters.
    #[error("a segment is empty")]
    EmptySegment,
    /// `%00`–`%1F` or `%7F`.
    #[error("a control byte is escaped")]
    EncodedControl,
    /// `%2F` or `%5C`.
    #[error("a `/` or `\\` is escaped")]
    EncodedSeparator,
    /// A raw byte that RFC 3986 §3.3 does not allow in a path: `\`, controls, spaces, quotes, brackets, braces, `^`, `|`, and
    /// everything beyond ASCII.
    #[error("a byte is not allowed in a path")]
    ForbiddenByte,
    /// Escapes that are no UTF-8 text: overlong forms such as `%C0%AE` are dots to a careless decoder.
    #[error("escaped bytes are not UTF-8")]
    InvalidUtf8,
    /// Does not start with `/`.
    #[error("does not start with `/`")]
    NotAbsolute,
    /// A raw `;` where [`PathParameters::Refuse`] holds.
    #[error("has a `;`")]
    Parameters,
    /// More than [`MAX_SEGMENTS`].
    #[error("has too many segments")]
    TooManySegments,
}

/// Most segments of a path. Bounds the depth of matching; paths that people use have a dozen.
pub const MAX_SEGMENTS: usize = 256;

impl PathRefusal {
    /// The reason as a fixed word, for the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ambiguous => "path_ambiguous",
            Self::BrokenEscape => "path_broken_escape",
            Self::DotSegment => "path_dot_segment",
            Self::DoubleEscape => "path_double_escape",
            Self::EmptySegment => "path_empty_segment",
            Self::EncodedControl => "path_encoded_control",
            Self::EncodedSeparator => "path_encoded_separator",
            Self::ForbiddenByte => "path_forbidden_byte",
            Self::InvalidUtf8 => "path_invalid_utf8",
            Self::NotAbsolute => "path_not_absolute",
            Self::Parameters => "path_parameters",
            Self::TooManySegments => "path_too_many_segments",
        }
    }
}

impl<'a> NormalPath<'a> {
    /// Brings `raw`, the path of a request target without its query, into normal form.
    ///
    /// Linear in the length; allocates only if something has to be rewritten.
    ///
    /// # Errors
    ///
    /// A [`PathRefusal`] for everything that two backends could read as two paths.
    pub fn parse(raw: &'a str, parameters: PathParameters) -> Result<Self, PathRefusal> {
        if !raw.starts_with('/') {
            return Err(PathRefusal::NotAbsolute);
        }
        let text = normal_form(raw, parameters)?;
        check_segments(&text)?;
        Ok(Self(text))
    }

    /// Takes text that came out of [`NormalPath::parse`] before, without looking at it again.
    ///
    /// Nothing may be decided on any other text: for tests and for a path that is kept beside the target it was read from.
    pub(crate) fn assume_normal(text: &'a str) -> Self {
        debug_assert!(text.starts_with('/'), "a normal path is absolute");
        Self(Cow::Borrowed(text))
    }

    /// The whole path: what is matched, and byte for byte what is forwarded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments between slashes. `/` has one, the empty one; `/a/` has two, the last of them empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/')
    }

    /// Whether a raw `;` is in the path. Lets a caller parse with [`PathParameters::Allow`] before the route, and with it the
    /// setting, is known.
    #[must_use]
    pub fn has_parameters(&self) -> bool {
        self.0.as_bytes().contains(&b';')
    }

    /// The same path, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> NormalPath<'static> {
        NormalPath(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Display for NormalPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PathPrefix {
    /// Reads a prefix as an operator writes it; `/` alone is the empty prefix, a slash at the end is dropped.
    ///
    /// # Errors
    ///
    /// What a request path would be refused for, `;` included.
    pub fn parse(text: &str) -> Result<Self, PathRefusal> {
        let path = NormalPath::parse(text, PathParameters::Refuse)?;
        let text = path.as_str();
        Ok(Self(text.strip_suffix('/').unwrap_or(text).into()))
    }

    /// Empty, or `/a/b` without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The prefix's segments; none for the empty prefix.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

/// Is `byte` one of RFC 3986 §2.3's unreserved characters, whose escapes mean the same as themselves?
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// May `byte` stand for itself in a path: `pchar` of RFC 3986 §3.3 without `%`, and `/`?
const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

fn normal_form(raw: &str, parameters: PathParameters) -> Result<Cow<'_, str>, PathRefusal> {
    let bytes = raw.as_bytes();
    let mut rewrite = Rewrite { raw, text: None };
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            if !is_plain(byte) {
                return Err(PathRefusal::ForbiddenByte);
            }
            if byte == b';' && parameters == PathParameters::Refuse {
                return Err(PathRefusal::Parameters);
            }
            rewrite.keep(at, 1);
            at += 1;
            continue;
        }
        match escaped(bytes, at)? {
            b'/' | b'\\' => return Err(PathRefusal::EncodedSeparator),
            0..=0x1F | 0x7F => return Err(PathRefusal::EncodedControl),
            value if is_unreserved(value) => {
                rewrite.replace(at).push(char::from(value));
                at += 3;
            }
            lead @ 0x80.. => {
                let length = utf8_sequence(bytes, at, lead)?;
                for _ in 0..length {
                    rewrite.keep_escape(at);
                    at += 3;
                }
            }
            _ => {
                rewrite.keep_escape(at);
                at += 3;
            }
        }
    }
    Ok(rewrite.finish())
}

/// The byte that the escape at `at` stands for.
fn escaped(bytes: &[u8], at: usize) -> Result<u8, PathRefusal> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    match (bytes.get(at), digit(at + 1), digit(at + 2)) {
        (Some(b'%'), Some(high), Some(low)) => {
            Ok(u8::try_from(high * 16 + low).expect("two hex digits are at most 255"))
        }
        _ => Err(PathRefusal::BrokenEscape),
    }
}

/// How many escapes from `at` on make up one character of UTF-8.
fn utf8_sequence(bytes: &[u8], at: usize, lead: u8) -> Result<usize, PathRefusal> {
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
            Some(b'%') => escaped(bytes, at)?,
            Some(_) | None => return Err(PathRefusal::InvalidUtf8),
        };
    }
    std::str::from_utf8(&character[..length]).map_err(|_| PathRefusal::InvalidUtf8)?;
    Ok(length)
}

/// Rules that hold between characters; `text` is in normal form as far as each character goes.
fn check_segments(text: &str) -> Result<(), PathRefusal> {
    // Looked for in the normal form: in `%25%32%66` the digits are escapes themselves.
    let twice = |five: &[u8]| five.starts_with(b"%25") && five[3].is_ascii_hexdigit() && five[4].is_ascii_hexdigit();
    if text.as_bytes().contains(&b'%') && text.as_bytes().windows(5).any(twice) {
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
    }
    Ok(())
}

/// Is `segment` `.` or `..`, or would it be for a backend that cuts off parameters, spaces or what it takes for a query?
///
/// Servlet containers drop `;…` before they resolve dots, Windows drops spaces at the end of a name, and a backend that decodes
/// before it parses ends the path at `?` and `#`.
fn is_dot_segment(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix("..").or_else(|| segment.strip_prefix('.')) else { return false };
    let rest = rest.trim_start_matches("%20");
    rest.is_empty() || [";", "%3B", "%3F", "%23"].iter().any(|end| rest.starts_with(end))
}

/// The text as it came until something differs, from then on a copy.
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

    /// Everything before `at` as it is; the caller appends what stands for the rest.
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

#[cfg(test)]
mod tests;
