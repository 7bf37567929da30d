//! gRPC over HTTP/2: which requests are calls, and what the gateway reads and writes of them
//! (`doc/PROTOCOL-HTTP2.md` in the grpc repository).
//!
//! gRPC-Web and Connect are other protocols: to the gateway their requests are ordinary ones.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Version};

/// The status of a call, in the trailers of its response.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A text about the status, percent-encoded.
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How long the client waits for the call to end.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How many milliseconds a client waits before it tries the call again (gRFC A6).
pub(crate) const GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The content type of a call and of its response.
pub(crate) const CONTENT_TYPE: &str = "application/grpc";

/// The status codes with which the gateway itself ends a call (`doc/statuscodes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    /// The time of the call is over.
    DeadlineExceeded = 4,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A limit is reached.
    ResourceExhausted = 8,
    /// No such method.
    Unimplemented = 12,
    /// The request or the gateway is broken.
    Internal = 13,
    /// The service cannot be reached at the moment.
    Unavailable = 14,
    /// There is no valid token.
    Unauthenticated = 16,
}

impl GrpcStatus {
    /// The number in `grpc-status`.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The name in the documents of gRPC.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// Whether a request is a gRPC call, whose client reads the status from trailers. gRPC needs
/// HTTP/2, so an HTTP/1.1 request with its content type is not a call.
#[must_use]
pub(crate) fn is_call(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_2 && *method == Method::POST && has_grpc_content(headers)
}

/// Whether the content type is `application/grpc`, alone or followed by `+FORMAT` or parameters.
#[must_use]
pub(crate) fn has_grpc_content(headers: &HeaderMap) -> bool {
    let is_grpc = |value: &[u8]| {
        value.split_at_checked(CONTENT_TYPE.len()).is_some_and(|(name, rest)| {
            name.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes()) && matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..])
        })
    };
    headers.get(header::CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
}

/// How long the client gives its call: `grpc-timeout`, a positive number of at most eight digits
/// and a unit. `None` if there is none, or if it is malformed or there are several: the server then
/// decides what to do with it.
#[must_use]
pub(crate) fn timeout_in(headers: &HeaderMap) -> Option<Duration> {
    let mut fields = headers.get_all(GRPC_TIMEOUT).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (unit, digits) = field.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = std::str::from_utf8(digits).ok()?.parse::<u64>().ok().filter(|count| *count > 0)?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// The status that a server states in its trailers, or in the head of a response without a body.
/// `None` if there is none, or not a number below 256.
#[must_use]
pub(crate) fn status_in(trailers: &HeaderMap) -> Option<u8> {
    trailers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_call_is_a_post_over_http_2_with_the_content_type_of_grpc() {
        for (name, version, method, content_type, expected) in [
            ("gRPC", Version::HTTP_2, Method::POST, "application/grpc", true),
            ("with a format", Version::HTTP_2, Method::POST, "application/grpc+proto", true),
            ("with a parameter", Version::HTTP_2, Method::POST, "application/grpc;charset=utf-8", true),
            ("with a space", Version::HTTP_2, Method::POST, "application/grpc ; a=b", true),
            ("in capitals", Version::HTTP_2, Method::POST, "Application/GRPC+json", true),
            ("gRPC-Web", Version::HTTP_2, Method::POST, "application/grpc-web", false),
            ("gRPC-Web as text", Version::HTTP_2, Method::POST, "application/grpc-web-text+proto", false),
            ("Connect", Version::HTTP_2, Method::POST, "application/connect+proto", false),
            ("JSON", Version::HTTP_2, Method::POST, "application/json", false),
            ("a longer name", Version::HTTP_2, Method::POST, "application/grpcx", false),
            ("nothing", Version::HTTP_2, Method::POST, "", false),
            ("another method", Version::HTTP_2, Method::GET, "application/grpc", false),
            ("HTTP/1.1", Version::HTTP_11, Method::POST, "application/grpc", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(is_call(&method, version, &headers), expected, "{name}");
        }
        assert!(!is_call(&Method::POST, Version::HTTP_2, &HeaderMap::new()), "no content type");
    }

    /// `doc/PROTOCOL-HTTP2.md`: `Timeout → "grpc-timeout" TimeoutValue TimeoutUnit`.
    #[test]
    fn a_timeout_has_up_to_eight_digits_and_a_unit() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("00000001S", Some(Duration::from_secs(1))),
            ("100000000n", None),
            ("0S", None),
            ("1", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1 S", None),
            ("1s", None),
            ("1h", None),
            ("1SS", None),
        ] {
            let headers = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(value))]);
            assert_eq!(timeout_in(&headers), expected, "{value:?}");
        }
        let mut two = HeaderMap::new();
        two.append(GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        two.append(GRPC_TIMEOUT, HeaderValue::from_static("2S"));
        assert_eq!(timeout_in(&two), None);
        assert_eq!(timeout_in(&HeaderMap::new()), None);
    }

    #[test]
    fn the_status_of_a_server_is_a_small_number() {
        for (value, expected) in
            [("0", Some(0)), ("16", Some(16)), ("99", Some(99)), ("256", None), ("-1", None), ("", None), ("ok", None)]
        {
            let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static(value))]);
            assert_eq!(status_in(&trailers), expected, "{value}");
        }
        assert_eq!(status_in(&HeaderMap::new()), None);
    }
}
