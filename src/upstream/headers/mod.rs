//! Header hygiene: what never crosses the gateway, and what it writes about a request on its way.
//!
//! Used in both directions. Nothing here looks at a token; identity headers are in [`identity`](super::identity).

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The gateway's name in `Via` (RFC 9110 §7.6.3).
const VIA: HeaderValue = HeaderValue::from_static("1.1 portcullis");
const VIA_FROM_HTTP_2: HeaderValue = HeaderValue::from_static("2 portcullis");

/// The request id, on every answer and on what goes upstream.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// RFC 7239.
pub const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
/// The client's address, and the proxies' that it came through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The host that the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Fields about one connection only (RFC 9110 §7.6.1), and relatives that do harm when they are passed on: `Proxy` becomes the
/// variable `HTTP_PROXY` in CGI programs, `Expect` has been answered here, `HTTP2-Settings` belongs to an upgrade that is never made.
static HOP_BY_HOP: [HeaderName; 12] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("proxy"),
    HeaderName::from_static("http2-settings"),
];

/// What `Connection` may not take away: the message would then be another one than the one that was judged.
static NOT_FOR_CONNECTION_TO_NAME: [HeaderName; 5] =
    [header::AUTHORIZATION, header::CONTENT_LENGTH, header::COOKIE, header::HOST, header::ORIGIN];

/// Headers with which a *proxy* tells a backend another method, path, scheme or address than the request has. Nothing that an
/// untrusted client says there was judged by a route's rules, so it does not go on.
static ONLY_FROM_TRUSTED_PROXIES: [HeaderName; 11] = [
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-method"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("x-cluster-client-ip"),
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("client-cert-chain"),
];

/// Headers that make a backend act on another method than the one that was judged. From nobody.
static METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Whether the peer's word on earlier hops counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// The peer is one of `trusted_proxies`.
    Trusted,
    /// Anybody.
    Untrusted,
}

/// Removes what `Connection` names and all hop-by-hop fields (RFC 9110 §7.6.1), in this order.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        // What is no field name cannot be the name of a field that is there.
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .filter(|name| !NOT_FOR_CONNECTION_TO_NAME.contains(name))
        .collect()
}

/// Removes headers that would make the backend believe another request than the one that was judged.
///
/// Spellings with `_` or `.` that a backend may fold into one of these names are removed from everybody: no proxy writes them.
pub fn remove_overrides(headers: &mut HeaderMap, peers: Peers) {
    for name in &METHOD_OVERRIDES {
        headers.remove(name);
    }
    for name in aliases(headers) {
        headers.remove(name);
    }
    match peers {
        Peers::Trusted => {}
        Peers::Untrusted => {
            for name in &ONLY_FROM_TRUSTED_PROXIES {
                headers.remove(name);
            }
            let others: Vec<HeaderName> =
                headers.keys().filter(|name| is_of_a_proxy_family(name.as_str())).cloned().collect();
            for name in others {
                headers.remove(name);
            }
        }
    }
}

fn is_of_a_proxy_family(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name.starts_with("x-accel-") || name.starts_with("x-envoy-")
}

/// Names that are none of the above as they stand, but are once `_` and `.` are read as `-`.
fn aliases(headers: &HeaderMap) -> Vec<HeaderName> {
    let folds_to_one = |name: &&HeaderName| {
        let text = name.as_str();
        if !text.contains(['_', '.']) {
            return false;
        }
        let folded = text.replace(['_', '.'], "-");
        let mut listed = METHOD_OVERRIDES.iter().chain(&ONLY_FROM_TRUSTED_PROXIES);
        is_of_a_proxy_family(&folded) || folded == X_REQUEST_ID.as_str() || listed.any(|known| known.as_str() == folded)
    };
    headers.keys().filter(folds_to_one).cloned().collect()
}

/// What the `Forwarded` family says about the hop from the client to us.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The address of whoever opened the connection to us.
    pub peer: IpAddr,
    /// The `Host` that was asked for, as it was written.
    pub host: &'a HeaderValue,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Whether what earlier hops said stays.
    pub peers: Peers,
}

/// Writes `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` (RFC 7239): appended to what a trusted proxy said, else in place of it.
///
/// `-Proto` and `-Host` speak of the client's own request, so that a trusted proxy's word stays as it is.
pub fn write_forwarded(headers: &mut HeaderMap, hop: Hop<'_>) {
    let node = match hop.peer {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let mut element = format!("for={node};proto={}", hop.scheme);
    if let Ok(host) = hop.host.to_str() {
        // Quoted, since a host with a port is no token (RFC 7239 §4). A host that got this far holds no quote.
        let _ = write!(element, ";host=\"{host}\"");
    }
    append(headers, &FORWARDED, &element, hop.peers);
    append(headers, &X_FORWARDED_FOR, &hop.peer.to_string(), hop.peers);
    if hop.peers == Peers::Untrusted || !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(hop.scheme));
    }
    if hop.peers == Peers::Untrusted || !headers.contains_key(X_FORWARDED_HOST) {
        headers.insert(X_FORWARDED_HOST, hop.host.clone());
    }
}

/// Appends the gateway to `Via`.
pub fn write_via(headers: &mut HeaderMap, received: http::Version) {
    headers.append(header::VIA, if received == http::Version::HTTP_2 { VIA_FROM_HTTP_2 } else { VIA });
}

/// Puts `element` after what is there, or in its place. One line: some backends read only the first.
fn append(headers: &mut HeaderMap, name: &HeaderName, element: &str, peers: Peers) {
    let mut value = String::new();
    if peers == Peers::Trusted {
        for earlier in headers.get_all(name).iter().filter_map(|value| value.to_str().ok()) {
            value.push_str(earlier);
            value.push_str(", ");
        }
    }
    value.push_str(element);
    headers.insert(name, HeaderValue::try_from(value).expect("addresses and a checked host are printable ASCII"));
}

/// Continues the trace that came with the request, or starts one (W3C Trace Context, level 1).
///
/// `span` becomes the parent that the upstream sees; `fresh_trace` names the trace when none came.
pub fn write_traceparent(headers: &mut HeaderMap, fresh_trace: [u8; 16], span: [u8; 8]) {
    use crate::primitives::random::hex;
    let mut came = headers.get_all(TRACEPARENT).iter();
    let continued = match (came.next(), came.next()) {
        (Some(only), None) => only.to_str().ok().and_then(trace_of),
        _ => None,
    };
    let value = if let Some((trace, flags)) = continued {
        format!("00-{trace}-{}-{flags}", hex(&span))
    } else {
        // A state without its parent belongs to no trace.
        headers.remove(TRACESTATE);
        format!("00-{}-{}-00", hex(&fresh_trace), hex(&span))
    };
    headers.insert(TRACEPARENT, HeaderValue::try_from(value).expect("hexadecimal digits and dashes"));
}

/// The trace id and the flags of a valid `traceparent`.
fn trace_of(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let dashes = bytes.len() >= 55 && [2, 35, 52].iter().all(|&at| bytes[at] == b'-');
    let digits = |range: std::ops::Range<usize>| {
        bytes[range].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(())
    };
    if !dashes {
        return None;
    }
    digits(0..2)?;
    digits(3..35)?;
    digits(36..52)?;
    digits(53..55)?;
    let version = &text[0..2];
    // Version 00 has exactly these four parts; a later one may have more behind another dash.
    let length_fits = if version == "00" { bytes.len() == 55 } else { bytes.len() == 55 || bytes[55] == b'-' };
    let (trace, parent) = (&text[3..35], &text[36..52]);
    let valid = version != "ff" && length_fits && trace.bytes().any(|b| b != b'0') && parent.bytes().any(|b| b != b'0');
    valid.then_some((trace, &text[53..55]))
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
