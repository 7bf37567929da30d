//! The head of the response that opens a tunnel, made from the upstream's 101.

use http::header::{self, HeaderValue};
use http::response::Parts;
use http::{HeaderMap, StatusCode};

/// Over HTTP/1.1, the 101 itself, with the protocol that it switches to (RFC 9110 §7.8).
pub(crate) fn over_http_1(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Over HTTP/2, 200 as the answer to an extended `CONNECT` (RFC 8441 §5). Such a response has no
/// length (RFC 9110 §9.3.6).
pub(crate) fn over_http_2(head: &mut Parts) {
    head.headers.remove(header::CONTENT_LENGTH);
    head.status = StatusCode::OK;
}
