//! HTTP field syntax: tokens, comma-separated lists, delays in seconds and the folding of field
//! names.
//!
//! Reads bytes only and knows no field by name. The caller decides what a malformed element means.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// Whether `byte` may be part of a token (RFC 9110 §5.6.2).
#[must_use]
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Whether `bytes` is a token: one or more token bytes and nothing else (RFC 9110 §5.6.2).
#[must_use]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// The non-empty elements of a list-valued field (RFC 9110 §5.6.1), without the whitespace around
/// them.
///
/// All field lines count as one list, in order (RFC 9110 §5.3). Allocates nothing. Splits at every
/// comma, also at those inside quoted strings, so it suits fields whose elements are tokens:
/// `Connection`, `Vary`, `Allow`.
pub(crate) fn list_elements<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> + use<'h> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(trim_whitespace)
        .filter(|element| !element.is_empty())
}

/// `bytes` without leading and trailing optional whitespace, which is space and tab only
/// (RFC 9110 §5.6.3).
#[must_use]
pub(crate) fn trim_whitespace(bytes: &[u8]) -> &[u8] {
    let is_whitespace = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_whitespace(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_whitespace(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// A byte of a field name in the spelling that all backends agree on: lower case, with `-` for `_`
/// and `.`.
///
/// CGI-style backends (RFC 3875 §4.1.18) and many frameworks treat `X_User`, `X.User` and `x-user`
/// as one field, so a gateway that removes or sets a field must treat all spellings as that field.
#[must_use]
pub(crate) const fn fold_name_byte(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

/// `name` with every byte folded by [`fold_name_byte`]. Borrowed if that changes nothing, as for
/// nearly every field.
#[must_use]
pub(crate) fn fold_name(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| fold_name_byte(byte) == byte) {
        return Cow::Borrowed(name);
    }
    let fold = |character: char| match character {
        '_' | '.' => '-',
        other => other.to_ascii_lowercase(),
    };
    Cow::Owned(name.chars().map(fold).collect())
}

/// A wait as the `delay-seconds` of `Retry-After` (RFC 9110 §10.2.3): rounded up and at least 1, so
/// that a client that obeys it never retries too early.
#[must_use]
pub(crate) fn retry_after_seconds(wait: Duration) -> u64 {
    seconds_rounded_up(wait).max(1)
}

/// `duration` in whole seconds, rounded up.
#[must_use]
pub(crate) fn seconds_rounded_up(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{CONNECTION, VARY};

    use super::*;

    #[test]
    fn token_bytes_are_those_of_the_grammar() {
        let expect: Vec<u8> =
            (0..=u8::MAX).filter(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte)).collect();
        let found: Vec<u8> = (0..=u8::MAX).filter(|&byte| is_token_byte(byte)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn a_token_has_at_least_one_byte_and_only_token_bytes() {
        for (text, expect) in [
            ("websocket", true),
            ("!#$%&'*+-.^_`|~09azAZ", true),
            ("", false),
            ("a b", false),
            ("a/b", false),
            (" a", false),
            ("a\"", false),
            ("ä", false),
        ] {
            assert_eq!(is_token(text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn list_elements_come_from_all_lines_in_order_without_whitespace_and_empty_ones() {
        for (name, lines, expect) in [
            ("absent", &[][..], &[][..]),
            ("one", &["close"], &["close"]),
            ("several", &["close, x-a,x-b"], &["close", "x-a", "x-b"]),
            ("several lines", &["x-b", "x-a, x-c"], &["x-b", "x-a", "x-c"]),
            ("empty elements", &["", " , ,x-a,,\t,"], &["x-a"]),
            ("tabs and spaces around", &["\t x-a \t,  x-b\t"], &["x-a", "x-b"]),
            ("spaces within stay", &["x a"], &["x a"]),
            ("bytes beyond ASCII stay", &["é,x-a"], &["é", "x-a"]),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(VARY, HeaderValue::from_static("another-field"));
            for line in lines {
                headers.append(CONNECTION, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            let found: Vec<&[u8]> = list_elements(&headers, &CONNECTION).collect();
            let expect: Vec<&[u8]> = expect.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(found, expect, "{name}");
        }
    }

    #[test]
    fn retry_after_is_never_too_early() {
        for (name, wait, seconds, retry_after) in [
            ("no wait", Duration::ZERO, 0, 1),
            ("the shortest wait", Duration::from_nanos(1), 1, 1),
            ("a whole second", Duration::from_secs(1), 1, 1),
            ("just above a second", Duration::from_millis(1_001), 2, 2),
            ("the longest wait", Duration::MAX, u64::MAX, u64::MAX),
        ] {
            assert_eq!((seconds_rounded_up(wait), retry_after_seconds(wait)), (seconds, retry_after), "{name}");
        }
    }

    #[test]
    fn names_fold_to_lower_case_with_hyphens() {
        for (name, expect, is_changed) in [
            ("x-identity-subject", "x-identity-subject", false),
            ("X-Identity-Subject", "x-identity-subject", true),
            ("x_identity.subject", "x-identity-subject", true),
            ("x-é_", "x-é-", true),
            ("", "", false),
        ] {
            let folded = fold_name(name);
            assert_eq!((&*folded, matches!(folded, Cow::Owned(_))), (expect, is_changed), "{name}");
        }
    }
}
