//! Headers that the gateway does not forward, and those that it writes for upstreams.
//!
//! [`names`] classifies header names; [`forwarding`] writes the headers about the hops, and
//! [`trace`] those about the trace. Identity headers are not written here.

pub(crate) mod forwarding;
pub(crate) mod names;
pub(crate) mod trace;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::primitives::field_syntax::list_elements;
use names::Class;
pub(crate) use names::{ForwardingFamily, PeerTrust};

/// The request id, in every response and in every request to an upstream.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The certificate of the client (RFC 9440 §2.2).
pub(crate) static CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// The other certificates that the client has sent (RFC 9440 §2.3).
pub(crate) static CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// Removes the headers that `Connection` names (RFC 9110 §7.6.1), then every header for which
/// `passes` is false. Also removes a `Content-Length` that a coding overrides (RFC 9112 §6.3):
/// without the coding, it would be believed.
pub(crate) fn retain_end_to_end(headers: &mut HeaderMap, passes: impl Fn(&HeaderName) -> bool) {
    if headers.contains_key(header::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    let removed: Vec<HeaderName> = headers.keys().filter(|name| !passes(name)).cloned().collect();
    if removed.contains(&header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in removed {
        headers.remove(name);
    }
}

/// The headers that `Connection` removes by naming them, without the usual connection options.
/// Nearly every message has none, so the vector rarely allocates.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    list_elements(headers, &header::CONNECTION)
        .filter(|name| {
            !["keep-alive", "close", "upgrade"].iter().any(|option| name.eq_ignore_ascii_case(option.as_bytes()))
        })
        // An element that is not a valid header name cannot name an existing header.
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| Class::of(name).may_be_removed_by_connection())
        .collect()
}

/// Joins `Cookie` fields, which HTTP/2 lets a client split, into one (RFC 9113 §8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut joined = Vec::new();
    for crumb in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    headers.insert(header::COOKIE, HeaderValue::from_bytes(&joined).expect("valid values joined by valid bytes"));
}

#[cfg(test)]
mod tests;
