//! Header hygiene: what never crosses the gateway, and what it writes about a request on its way.
//!
//! Used in both directions. Nothing here looks at a token; identity headers are in [`identity`](super::identity). What is written about the
//! hop, and the trace, is in [`forwarding`].

pub mod forwarding;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The request id, on every answer and on what goes upstream.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Fields about one connection only (RFC 9110 §7.6.1), and relatives that do harm when they are passed on: `Proxy` becomes the
/// variable `HTTP_PROXY` in CGI programs, `Expect` has been answered here, `HTTP2-Settings` belongs to an upgrade that is never made.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "proxy"
            | "http2-settings"
    )
}

/// What `Connection` may not take away: the message would then be another one than the one that was judged.
static NOT_FOR_CONNECTION_TO_NAME: [HeaderName; 5] =
    [header::AUTHORIZATION, header::CONTENT_LENGTH, header::COOKIE, header::HOST, header::ORIGIN];

/// Headers with which a *proxy* tells a backend another method, path, scheme or address than the request has. Nothing that an
/// untrusted client says there was judged by a route's rules, so it does not go on.
fn is_a_proxys(name: &str) -> bool {
    matches!(
        name,
        "x-real-ip"
            | "x-original-url"
            | "x-rewrite-url"
            | "x-original-uri"
            | "x-original-method"
            | "x-original-host"
            | "true-client-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "client-cert"
            | "client-cert-chain"
    ) || ["x-forwarded-", "x-accel-", "x-envoy-"].iter().any(|family| name.starts_with(family))
}

/// Headers that make a backend act on another method than the one that was judged. From nobody.
fn is_method_override(name: &str) -> bool {
    matches!(name, "x-http-method-override" | "x-http-method" | "x-method-override")
}

/// Whether the peer's word on earlier hops counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// The peer is one of `trusted_proxies`.
    Trusted,
    /// Anybody.
    Untrusted,
}

/// Removes what `Connection` names, then all hop-by-hop fields (RFC 9110 §7.6.1) and whatever else is `doomed`, in one pass over the names.
pub fn clean(headers: &mut HeaderMap, doomed: impl Fn(&HeaderName) -> bool) {
    if headers.contains_key(header::CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
    }
    let found: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(name.as_str()) || doomed(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// The fields that `Connection` names, but for those that go anyway. On nearly every message that is none, so it is not a list that is made.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| {
            !["keep-alive", "close", "upgrade"].iter().any(|usual| name.eq_ignore_ascii_case(usual.as_bytes()))
        })
        // What is no field name cannot be the name of a field that is there.
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !NOT_FOR_CONNECTION_TO_NAME.contains(name))
        .collect()
}

/// Whether a header would make the backend believe another request than the one that was judged.
///
/// Spellings with `_` or `.` that a backend may fold into one of these names are taken from nobody: no proxy writes them.
#[must_use]
pub fn is_override(name: &HeaderName, peers: Peers) -> bool {
    let name = name.as_str();
    if name.bytes().any(|byte| matches!(byte, b'_' | b'.')) {
        let folded = name.replace(['_', '.'], "-");
        return is_method_override(&folded) || is_a_proxys(&folded) || folded == X_REQUEST_ID.as_str();
    }
    is_method_override(name) || (peers == Peers::Untrusted && is_a_proxys(name))
}

/// Joins the `Cookie` fields that HTTP/2 lets a client split (RFC 9113 §8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
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
