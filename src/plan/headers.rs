//! Names that the configuration may use: of headers, methods, and of the operator's own things.

use http::{HeaderName, HeaderValue, Method};

use crate::config::Problems;
use crate::config::problem::quoted;
use crate::upstream::headers::names::Class;

/// Longest name of an issuer, upstream, limit or route, in bytes: it is a label in metrics and a word in every log line.
const MAX_NAME_BYTES: usize = 120;

/// Checks an operator's own name: it becomes a metric's label and a word in logs.
pub(super) fn check_name(place: &str, name: &str, problems: &mut Problems) {
    if name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || !name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"')
    {
        problems.add(
            place,
            format!("the name {} is empty, too long or has other than printable ASCII characters", quoted(name)),
        );
    }
}

/// Reads a header's name that may be set or removed by configuration.
pub(super) fn header_name(place: &str, text: &str, problems: &mut Problems) -> Option<HeaderName> {
    let Ok(name) = HeaderName::try_from(text) else {
        problems.add(place, format!("{} is not a header's name", quoted(text)));
        return None;
    };
    if !Class::of(&name).is_configurable() {
        problems.add(place, format!("{} belongs to the gateway and cannot be named here", quoted(text)));
        return None;
    }
    Some(name)
}

/// Reads a header's value.
pub(super) fn header_value(place: &str, text: &str, problems: &mut Problems) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text).ok().filter(|value| value.to_str().is_ok());
    if value.is_none() {
        problems.add(place, "the value has a line break or a character that is not ASCII");
    }
    value
}

/// Reads a method's name. Methods are compared with their case (RFC 9110 §9.1), so that `get` would never match.
pub(super) fn method(place: &str, text: &str, problems: &mut Problems) -> Option<Method> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => {
            problems.add(place, format!("{} is never forwarded", quoted(text)));
            None
        }
        Ok(method) if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            problems.add_with_hint(
                place,
                format!("{} is not a usual method", quoted(text)),
                format!(
                    "methods are compared with their case; write {}",
                    quoted(&method.as_str().to_ascii_uppercase())
                ),
            );
            None
        }
        Ok(method) => Some(method),
        Err(_) => {
            problems.add(place, format!("{} is not a method", quoted(text)));
            None
        }
    }
}
