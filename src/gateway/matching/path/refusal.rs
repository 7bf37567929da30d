//! Path refusals: why a request path is refused, and the text that an operator reads about a pattern.

use thiserror::Error;

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
