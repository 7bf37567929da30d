//! Syntax checks that several tables share: header names and values, methods, durations, and the
//! names that the operator chooses.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::config::Problems;
use crate::config::problem::quoted;
use crate::config::units::TimeSpan;
use crate::upstream::headers::names::Class;

/// Longest name of an issuer, upstream, limit or route, in bytes. Names are metric labels and
/// appear in every log line.
const MAX_NAME_BYTES: usize = 120;

/// Checks a name that the operator chooses.
pub(super) fn check_name(key_path: &str, name: &str, problems: &mut Problems) {
    let is_valid = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"');
    if !is_valid {
        problems.add_with_hint(
            key_path,
            format!("{} is not a valid name", quoted(name)),
            format!("use 1 to {MAX_NAME_BYTES} printable ASCII characters other than `\"`"),
        );
    }
}

/// Parses the name of a header that the configuration may set or remove.
pub(super) fn parse_header_name(key_path: &str, text: &str, problems: &mut Problems) -> Option<HeaderName> {
    let Ok(name) = HeaderName::try_from(text) else {
        problems.add(key_path, format!("{} is not a valid header name", quoted(text)));
        return None;
    };
    if !Class::of(&name).is_configurable() {
        problems.add(key_path, controlled_by_gateway(&name));
        return None;
    }
    Some(name)
}

/// The problem with a header that the configuration may not set or remove.
pub(super) fn controlled_by_gateway(name: &HeaderName) -> String {
    format!("the gateway controls the header {}; it cannot be configured here", quoted(name.as_str()))
}

/// The problem with a header name that is the same as an earlier one.
pub(super) fn listed_twice(name: &HeaderName) -> String {
    let why = "case does not matter in header names, and neither do `_` and `.` for `-`";
    format!("{} is listed twice; {why}", quoted(name.as_str()))
}

/// Parses the value of a header.
pub(super) fn parse_header_value(key_path: &str, text: &str, problems: &mut Problems) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text).ok().filter(|value| value.to_str().is_ok());
    if value.is_none() {
        problems.add(key_path, "the value contains a control character or a character outside ASCII");
    }
    value
}

/// Parses a method. Methods are case-sensitive (RFC 9110 §9.1), so `get` would never match.
pub(super) fn parse_method(key_path: &str, text: &str, problems: &mut Problems) -> Option<Method> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => {
            problems.add(key_path, format!("{} is not supported; the gateway never forwards it", quoted(text)));
            None
        }
        Ok(method) if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            problems.add_with_hint(
                key_path,
                format!("{} is not in upper case", quoted(text)),
                format!("methods are case-sensitive; write {}", quoted(&method.as_str().to_ascii_uppercase())),
            );
            None
        }
        Ok(method) => Some(method),
        Err(_) => {
            problems.add(key_path, format!("{} is not a valid method", quoted(text)));
            None
        }
    }
}

/// The duration of a key for which zero is an error.
pub(super) fn nonzero_duration(key_path: &str, span: TimeSpan, problems: &mut Problems) -> Duration {
    let duration = span.duration();
    if duration.is_zero() {
        problems.add(key_path, "must be greater than zero");
    }
    duration
}
