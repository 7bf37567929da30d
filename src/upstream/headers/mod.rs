//! Header hygiene: what never crosses the gateway, in either direction.
//!
//! Which name means what is in [`names`]; what the gateway writes about the hop and the trace is in
//! [`forwarding`]. Nothing here looks at a token.

pub(crate) mod forwarding;
pub(crate) mod names;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::primitives::field_syntax::list_elements;
use names::Class;
pub(crate) use names::Peers;

/// The request id, on every response and on what goes upstream.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Removes what `Connection` names, then every header for which `passes` is false, in one pass over
/// the names (RFC 9110 §7.6.1).
pub(crate) fn retain(headers: &mut HeaderMap, passes: impl Fn(&HeaderName) -> bool) {
    if headers.contains_key(header::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    let removed: Vec<HeaderName> = headers.keys().filter(|name| !passes(name)).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

/// The headers that `Connection` names and that are not removed anyway. Nearly every message has
/// none, so the vector rarely allocates.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    list_elements(headers, &header::CONNECTION)
        .filter(|name| {
            !["keep-alive", "close", "upgrade"].iter().any(|usual| name.eq_ignore_ascii_case(usual.as_bytes()))
        })
        // A text that is no header name cannot be the name of a header that is there.
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| Class::of(name).may_be_removed_by_connection())
        .collect()
}

/// Joins the `Cookie` fields that HTTP/2 lets a client split (RFC 9113 §8.2.3).
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
    headers.insert(header::COOKIE, HeaderValue::from_bytes(&joined).expect("joined of valid values by valid bytes"));
}

#[cfg(test)]
mod tests;
