//! Tracing headers: `Via`, and the trace context of W3C (`traceparent`, `tracestate`).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The gateway's name in `Via` (RFC 9110 §7.6.3).
static VIA: HeaderValue = HeaderValue::from_static("1.1 portcullis");
static VIA_FROM_HTTP_2: HeaderValue = HeaderValue::from_static("2 portcullis");

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Appends the gateway to `Via`.
pub(crate) fn write_via(headers: &mut HeaderMap, received: http::Version) {
    let via = if received == http::Version::HTTP_2 { &VIA_FROM_HTTP_2 } else { &VIA };
    headers.append(header::VIA, via.clone());
}

/// Removes a trace context that is not valid (W3C Trace Context, level 1, §3.2.2); a `tracestate`
/// without its `traceparent` belongs to no trace.
///
/// The gateway records no spans, so a valid context stays as it is, and a request without one gets
/// none: an upstream takes a `traceparent` for its caller's decision whether to record the trace.
pub(crate) fn remove_invalid_trace(headers: &mut HeaderMap) {
    let mut received = headers.get_all(&TRACEPARENT).iter();
    let is_valid = match (received.next(), received.next()) {
        (Some(only), None) => is_traceparent(only.as_bytes()),
        (Some(_), Some(_)) | (None, _) => false,
    };
    if !is_valid {
        headers.remove(&TRACEPARENT);
        headers.remove(&TRACESTATE);
    }
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, in lower case, without the values that the
/// recommendation declares invalid.
fn is_traceparent(bytes: &[u8]) -> bool {
    let Some((parts, more)) = bytes.split_at_checked(55) else { return false };
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    let (version, trace, parent, flags) = (&parts[..2], &parts[3..35], &parts[36..52], &parts[53..]);
    // Version 00 has exactly these four parts; later versions may add more after another dash.
    let may_end_so = more.is_empty() || (version != b"00" && more[0] == b'-');
    [2, 35, 52].iter().all(|&at| parts[at] == b'-')
        && [version, trace, parent, flags].into_iter().all(is_hex)
        && may_end_so
        && version != b"ff"
        && !is_zero(trace)
        && !is_zero(parent)
}
