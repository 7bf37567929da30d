//! Forwarding headers: tell the upstream about the hops from the client to the gateway. `Forwarded`
//! and `X-Forwarded-*`.
//!
//! Both families are written from the same values, so that a backend learns the same client, scheme
//! and host from either. Without a proxy in front of the gateway, most of the text is the same for
//! every request on a connection, so [`Hop`] renders it once.

use std::cell::RefCell;
use std::fmt::{self, Display, Write as _};
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The addresses of the client and of the proxies that the request has passed.
pub(crate) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The host that the client requested.
pub(crate) static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The port that the client connected to.
pub(crate) static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// The scheme that the client used.
pub(crate) static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What trusted proxies report about a request before it reached the gateway's peer. Nothing by
/// default, as for a request whose peer is not a trusted proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedHops {
    /// The addresses that the request came from: the client's, then that of each proxy but the
    /// last, which is the peer.
    pub addresses: Vec<IpAddr>,
    /// The scheme that the client used, in lower case.
    pub scheme: Option<&'static str>,
    /// The host that the client requested, with or without a port; printable ASCII without quotes.
    pub host: Option<HeaderValue>,
    /// The port that the client connected to.
    pub port: Option<u16>,
}

/// The hop of one downstream connection, rendered for the forwarding headers.
#[derive(Debug)]
pub struct Hop {
    peer: IpAddr,
    peer_text: HeaderValue,
    scheme: &'static str,
    /// The host of the last request, and the complete `Forwarded` for it: most connections request
    /// one host only.
    with_host: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

impl Hop {
    /// The hop of a connection over `scheme` from `peer`, the client or the proxy in front.
    #[must_use]
    pub fn new(peer: IpAddr, scheme: &'static str) -> Self {
        Self { peer, peer_text: value(peer.to_string()), scheme, with_host: RefCell::default() }
    }

    /// Writes `Forwarded` (RFC 7239) and `X-Forwarded-For`, `-Proto` and `-Host`, in place of those
    /// that were received: the hops that trusted proxies report, and then this one. `host` is that
    /// of the request, for the case that no proxy reports another one.
    ///
    /// `X-Forwarded-Port` is written only if a proxy reports it.
    pub fn write(&self, headers: &mut HeaderMap, host: &HeaderValue, reported: &ReportedHops) {
        if *reported == ReportedHops::default() {
            headers.insert(header::FORWARDED, self.forwarded(host));
            headers.insert(&X_FORWARDED_FOR, self.peer_text.clone());
            headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme));
            headers.insert(&X_FORWARDED_HOST, host.clone());
            return;
        }
        let scheme = reported.scheme.unwrap_or(self.scheme);
        let (host, port) = reported.host_and_port(host, scheme);
        let hops = || reported.addresses.iter().chain([&self.peer]);
        headers.insert(header::FORWARDED, value(forwarded(hops(), scheme, &host)));
        headers.insert(&X_FORWARDED_FOR, value(Joined(hops()).to_string()));
        headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        headers.insert(&X_FORWARDED_HOST, host);
        if let Some(port) = port {
            headers.insert(&X_FORWARDED_PORT, HeaderValue::from(port));
        }
    }

    /// `Forwarded` for a request that only this hop is known of.
    fn forwarded(&self, host: &HeaderValue) -> HeaderValue {
        let mut last = self.with_host.borrow_mut();
        match &*last {
            Some((known, rendered)) if known == host => rendered.clone(),
            _ => {
                let rendered = value(forwarded([&self.peer].into_iter(), self.scheme, host));
                // A copy: the received value is a slice of the connection's read buffer and would
                // keep all of it in memory.
                *last = HeaderValue::from_bytes(host.as_bytes()).ok().map(|host| (host, rendered.clone()));
                rendered
            }
        }
    }
}

impl ReportedHops {
    /// The host and the port that the client used. The port is part of the host unless it is the
    /// default of the scheme, since `Forwarded` has no other place for it; it is also returned
    /// alone if a proxy reports it.
    fn host_and_port(&self, received: &HeaderValue, scheme: &str) -> (HeaderValue, Option<u16>) {
        let host = self.host.as_ref().unwrap_or(received);
        let Some(reported) = self.port else { return (host.clone(), None) };
        match host.to_str().map(|text| (text, port_of(text))) {
            // The port that the client wrote is the one it used; a proxy behind a port mapping
            // reports its own.
            Ok((_, Some(written))) => (host.clone(), Some(written)),
            Ok((text, None)) if reported != default_port(scheme) => (value(format!("{text}:{reported}")), self.port),
            Ok((_, None)) | Err(_) => (host.clone(), self.port),
        }
    }
}

/// The port in a valid `host[:port]`.
fn port_of(host: &str) -> Option<u16> {
    // In an IPv6 address without a port, the text after the last colon ends with a bracket.
    host.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

fn default_port(scheme: &str) -> u16 {
    if matches!(scheme, "https" | "wss") { 443 } else { 80 }
}

/// `Forwarded` with one element for each hop, the client's first.
///
/// Only the client's element has `proto` and `host`. Some backends read them from the first element
/// that has them and others from the last, and both shall learn what the client used.
fn forwarded<'a>(hops: impl Iterator<Item = &'a IpAddr>, scheme: &str, host: &HeaderValue) -> String {
    let mut text = String::new();
    for (index, address) in hops.enumerate() {
        if index == 0 {
            let _ = write!(text, "for={};proto={scheme}", Node(address));
            if let Ok(host) = host.to_str() {
                // Quoted, since a host with a port is not a token (RFC 7239 §4). The host was
                // checked, so it contains no quote itself.
                let _ = write!(text, ";host=\"{host}\"");
            }
        } else {
            let _ = write!(text, ", for={}", Node(address));
        }
    }
    text
}

/// An address as the node of a `for` parameter (RFC 7239 §6).
struct Node<'a>(&'a IpAddr);

impl Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "\"[{address}]\""),
        }
    }
}

/// Addresses, separated by commas.
struct Joined<I>(I);

impl<'a, I: Iterator<Item = &'a IpAddr> + Clone> Display for Joined<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.clone().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("addresses and a checked host are printable ASCII")
}
