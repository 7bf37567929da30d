//! Forwarding headers: tell the upstream about the hop from the client to the gateway. `Forwarded`,
//! `X-Forwarded-*`, `Via` and `traceparent`.
//!
//! Most of the text is the same for every request on a connection, so [`Hop`] renders it once.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::PeerTrust;
use crate::primitives::random;

/// The gateway's name in `Via` (RFC 9110 §7.6.3).
static VIA: HeaderValue = HeaderValue::from_static("1.1 portcullis");
static VIA_FROM_HTTP_2: HeaderValue = HeaderValue::from_static("2 portcullis");

/// RFC 7239.
static FORWARDED: HeaderName = header::FORWARDED;
/// The addresses of the client and of the proxies that the request has passed.
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The host that the client requested.
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme that the client used.
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The hop of one downstream connection, rendered for the forwarding headers.
#[derive(Debug)]
pub struct Hop {
    peer: HeaderValue,
    scheme: HeaderValue,
    /// `for=…;proto=…`
    element: String,
    /// The host of the last request, and the complete element for it: most connections request one
    /// host only.
    with_host: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

impl Hop {
    /// The hop of a connection over `scheme` from `peer`, the client or the proxy in front.
    #[must_use]
    pub fn new(peer: IpAddr, scheme: &'static str) -> Self {
        let node = match peer {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        Self {
            peer: value(peer.to_string()),
            scheme: HeaderValue::from_static(scheme),
            element: format!("for={node};proto={scheme}"),
            with_host: RefCell::default(),
        }
    }

    fn element(&self, host: &HeaderValue) -> HeaderValue {
        let mut last = self.with_host.borrow_mut();
        match &*last {
            Some((known, element)) if known == host => element.clone(),
            _ => {
                let mut element = self.element.clone();
                if let Ok(host) = host.to_str() {
                    // Quoted, since a host with a port is not a token (RFC 7239 §4). The host was
                    // checked, so it contains no quote itself.
                    let _ = write!(element, ";host=\"{host}\"");
                }
                let element = value(element);
                // A copy: the received value is a slice of the connection's read buffer and would
                // keep all of it in memory.
                *last = HeaderValue::from_bytes(host.as_bytes()).ok().map(|host| (host, element.clone()));
                element
            }
        }
    }

    /// Writes `Forwarded` (RFC 7239) and `X-Forwarded-For`, `-Proto` and `-Host`.
    ///
    /// Values from an untrusted peer are replaced. To those from a trusted proxy this hop is
    /// appended, except that `-Proto` and `-Host` stay: they describe the client's own request,
    /// which the trusted proxy knows.
    pub fn write(&self, headers: &mut HeaderMap, host: &HeaderValue, trust: PeerTrust) {
        append(headers, &FORWARDED, self.element(host), trust);
        append(headers, &X_FORWARDED_FOR, self.peer.clone(), trust);
        if trust == PeerTrust::Untrusted || !headers.contains_key(&X_FORWARDED_PROTO) {
            headers.insert(&X_FORWARDED_PROTO, self.scheme.clone());
        }
        if trust == PeerTrust::Untrusted || !headers.contains_key(&X_FORWARDED_HOST) {
            headers.insert(&X_FORWARDED_HOST, host.clone());
        }
    }
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("addresses and a checked host are printable ASCII")
}

/// Appends `element` to the values from a trusted proxy, or replaces them. The result is a single
/// field line, since some backends read only the first.
fn append(headers: &mut HeaderMap, name: &'static HeaderName, element: HeaderValue, trust: PeerTrust) {
    if trust == PeerTrust::Untrusted {
        headers.insert(name, element);
        return;
    }
    let mut list = Vec::new();
    for earlier in headers.get_all(name).iter().filter(|value| value.to_str().is_ok()) {
        list.extend_from_slice(earlier.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    headers.insert(name, HeaderValue::from_bytes(&list).expect("valid values joined by valid bytes"));
}

/// Appends the gateway to `Via`.
pub(crate) fn write_via(headers: &mut HeaderMap, received: http::Version) {
    let via = if received == http::Version::HTTP_2 { &VIA_FROM_HTTP_2 } else { &VIA };
    headers.append(header::VIA, via.clone());
}

/// Continues the request's trace, or starts one (W3C Trace Context, level 1).
///
/// `span` becomes the parent id that the upstream receives; `new_trace` becomes the trace id if the
/// request has no valid `traceparent`.
pub(crate) fn write_traceparent(headers: &mut HeaderMap, new_trace: [u8; 16], span: [u8; 8]) {
    let mut text = *b"00-................................-................-00";
    let mut received = headers.get_all(&TRACEPARENT).iter();
    let continued = match (received.next(), received.next()) {
        (Some(only), None) => only.to_str().ok().and_then(trace_of),
        _ => None,
    };
    if let Some((trace, flags)) = continued {
        text[3..35].copy_from_slice(trace.as_bytes());
        text[53..55].copy_from_slice(flags.as_bytes());
    } else {
        // Without a valid `traceparent`, a `tracestate` belongs to no trace.
        headers.remove(&TRACESTATE);
        random::write_hex(&new_trace, &mut text[3..35]);
    }
    random::write_hex(&span, &mut text[36..52]);
    headers.insert(&TRACEPARENT, HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes"));
}

/// The trace id and the flags of a `traceparent`, if it is valid.
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
    // Version 00 has exactly these four parts; later versions may add more after another dash.
    let length_fits = if version == "00" { bytes.len() == 55 } else { bytes.len() == 55 || bytes[55] == b'-' };
    let (trace, parent) = (&text[3..35], &text[36..52]);
    let valid = version != "ff" && length_fits && trace.bytes().any(|b| b != b'0') && parent.bytes().any(|b| b != b'0');
    valid.then_some((trace, &text[53..55]))
}
