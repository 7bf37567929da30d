//! Path refusals: why the gateway refuses the path of a request, or a configured path.

use thiserror::Error;

use super::forms::UnusualForm;

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
    /// `%5C`.
    #[error("the path has an escaped `\\`")]
    EncodedBackslash,
    /// `%00`–`%1F` or `%7F`.
    #[error("the path has an escaped control character")]
    EncodedControl,
    /// A raw byte that RFC 3986 §3.3 does not allow in a path, and that browsers escape: `\`,
    /// controls, spaces, quotes, braces, `<`, `>`, and everything beyond ASCII.
    #[error("the path has a character that RFC 3986 does not allow in a path")]
    ForbiddenByte,
    /// Escapes that are not valid UTF-8. A careless decoder reads overlong forms such as `%C0%AE`
    /// as dots.
    #[error("the path has escaped bytes that are not UTF-8")]
    InvalidUtf8,
    /// The path begins with `//`, which some servers and every browser take for the name of a host,
    /// as it is or with its escapes decoded.
    #[error("the path begins with an empty segment")]
    LeadingEmptySegment,
    /// Escapes that are escaped more than once, which not even `double_escape` accepts.
    #[error("the path has a percent escape that is escaped more than once")]
    NestedEscape,
    /// The path does not start with `/`.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// More than [`MAX_SEGMENTS`].
    #[error("the path has more than {MAX_SEGMENTS} segments")]
    TooManySegments,
    /// A form that the route does not accept.
    #[error("the path has {}", describe(*.0))]
    Unusual(UnusualForm),
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
            Self::EncodedBackslash => "path_encoded_backslash",
            Self::EncodedControl => "path_encoded_control",
            Self::ForbiddenByte => "path_forbidden_byte",
            Self::InvalidUtf8 => "path_invalid_utf8",
            Self::LeadingEmptySegment => "path_leading_empty_segment",
            Self::NestedEscape => "path_nested_escape",
            Self::NotAbsolute => "path_not_absolute",
            Self::TooManySegments => "path_too_many_segments",
            Self::Unusual(UnusualForm::DoubleEscape) => "path_double_escape",
            Self::Unusual(UnusualForm::EmptySegment) => "path_empty_segment",
            Self::Unusual(UnusualForm::EncodedSlash) => "path_encoded_slash",
            Self::Unusual(UnusualForm::Parameters) => "path_parameters",
        }
    }
}

fn describe(form: UnusualForm) -> &'static str {
    match form {
        UnusualForm::DoubleEscape => "a percent escape that is itself escaped",
        UnusualForm::EmptySegment => "an empty segment",
        UnusualForm::EncodedSlash => "an escaped `/`",
        UnusualForm::Parameters => "a `;`",
    }
}
