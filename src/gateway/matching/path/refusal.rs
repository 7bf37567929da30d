//! Path refusals: why the gateway refuses the path of a request, or a configured path.

use thiserror::Error;

/// Why a path is refused. No variant contains text of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathRefusal {
    /// A different route would match if a backend decoded the escapes, or cut off parameters,
    /// spaces or what it takes for a query. Found when the path is matched.
    #[error("the path matches different routes depending on how a backend interprets it")]
    Ambiguous,
    /// `%` without two hex digits.
    #[error("the path has a `%` without two hex digits after it")]
    BrokenEscape,
    /// `.` or `..`, plain or escaped, also if only a backend that cuts off a suffix would see one.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// `%25` before two hex digits: a backend that decodes twice would get another path.
    #[error("the path has a percent escape that is itself escaped")]
    DoubleEscape,
    /// `//`, or a segment that consists of parameters only.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `%00`–`%1F` or `%7F`.
    #[error("the path has an escaped control character")]
    EncodedControl,
    /// `%2F` or `%5C`.
    #[error("the path has an escaped `/` or `\\`")]
    EncodedSeparator,
    /// A raw byte that RFC 3986 §3.3 does not allow in a path: `\`, controls, spaces, quotes,
    /// brackets, braces, `^`, `|`, and everything beyond ASCII.
    #[error("the path has a character that RFC 3986 does not allow in a path")]
    ForbiddenByte,
    /// Escapes that are not valid UTF-8. A careless decoder reads overlong forms such as `%C0%AE`
    /// as dots.
    #[error("the path has escaped bytes that are not UTF-8")]
    InvalidUtf8,
    /// The path does not start with `/`.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// A raw `;`, with [`PathParameters::Refuse`](super::PathParameters::Refuse).
    #[error("the path has a `;`")]
    Parameters,
    /// More than [`MAX_SEGMENTS`].
    #[error("the path has more than {MAX_SEGMENTS} segments")]
    TooManySegments,
}

/// The most segments that a path may have. Bounds the depth of matching; paths in use have about a
/// dozen.
pub(crate) const MAX_SEGMENTS: usize = 256;

impl PathRefusal {
    /// The `reason` in the log, from a fixed list.
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
