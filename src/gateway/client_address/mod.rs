//! Client address: the peer's address, or the one that trusted proxies report in `X-Forwarded-For`
//! or `Forwarded` (RFC 7239). The scheme and the host that the client used come from the same
//! fields.
//!
//! Part of the normalize stage. Rate limits and logs use this address as a key, so the client must
//! not be able to choose it. The gateway believes these fields only if the peer is a trusted proxy,
//! and only the family that trusted proxies write: a proxy commonly passes the other family on as
//! the client sent it. It reads the field from the right, where the nearest proxy appends, up to
//! the first address that is not a trusted proxy. The client may have written everything to the
//! left of that address, so it is neither parsed nor forwarded.
//!
//! If an element on the way has no address that can be read, the hops that were read so far count:
//! the client is then the furthest address that a trusted proxy has reported.

mod forwarded;
mod peer_address;
mod untrusted_proxy;

pub(crate) use peer_address::PeerAddress;
pub(crate) use untrusted_proxy::ProxyDetector;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderValue;
use http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};

use super::matching::host::Host;
use crate::upstream::headers::forwarding::{
    ReportedHops, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO,
};
use crate::upstream::headers::{ForwardingFamily, PeerTrust};
use forwarded::Element;

/// The proxies whose forwarding fields are believed, and the family of fields that they write.
/// Trusts no one by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    family: ForwardingFamily,
}

/// The client of a request, as far as the gateway can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The address. An IPv4 address is never in its IPv6-mapped form (`::ffff:192.0.2.1`).
    pub ip: IpAddr,
    /// Whether the peer of the connection is a trusted proxy, regardless of its fields.
    pub peer_trust: PeerTrust,
    /// What trusted proxies report.
    pub reported: ReportedHops,
}

/// The most elements of one field that are read, from the right. Chains of trusted proxies are much
/// shorter.
const MAX_ELEMENTS: usize = 32;

impl TrustedProxies {
    /// Trusts the peers in `networks`, which write fields of `family`. A network of IPv4-mapped
    /// IPv6 addresses stands for the IPv4 network.
    #[must_use]
    pub fn new(networks: Vec<IpNet>, family: ForwardingFamily) -> Self {
        Self { networks: networks.into_iter().map(canonical_network).collect(), family }
    }

    /// Whether no proxy is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether `ip` is the address of a trusted proxy.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip))
    }
}

impl Client {
    /// The client of a request that `peer` sent with these headers.
    #[must_use]
    pub(crate) fn of_request(peer: PeerAddress, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        if !peer.is_trusted(trusted) {
            return Self { ip: peer.ip(), peer_trust: PeerTrust::Untrusted, reported: ReportedHops::default() };
        }
        let reported = match trusted.family {
            ForwardingFamily::Forwarded => from_forwarded(headers, trusted),
            ForwardingFamily::XForwarded => from_x_forwarded(headers, trusted),
        };
        let ip = reported.addresses.first().copied().unwrap_or(peer.ip());
        Self { ip, peer_trust: PeerTrust::Trusted(trusted.family), reported }
    }
}

/// Whether a request says that it was forwarded, truly or not.
#[must_use]
pub(crate) fn has_forwarding_fields(headers: &HeaderMap) -> bool {
    headers.contains_key(&X_FORWARDED_FOR) || headers.contains_key(FORWARDED)
}

/// The hops in `Forwarded`, with the scheme and host of the furthest element that was read.
fn from_forwarded(headers: &HeaderMap, trusted: &TrustedProxies) -> ReportedHops {
    let mut reported = ReportedHops::default();
    for text in elements_from_right(headers, &FORWARDED, forwarded::split_from_right) {
        let Ok(element) = Element::parse(text) else { break };
        reported.scheme = element.proto.as_deref().and_then(known_scheme);
        reported.host = element.host.as_deref().and_then(valid_host);
        let Some(ip) = element.address() else { break };
        if add_hop(&mut reported, ip, trusted) {
            break;
        }
    }
    reported.addresses.reverse();
    reported
}

/// The hops in `X-Forwarded-For`, with the scheme, host and port in the fields beside it.
///
/// Most proxies replace those fields, and some append to them as to `X-Forwarded-For`. So the
/// element counts that is as far from the right as the client's address is, or else the left-most.
fn from_x_forwarded(headers: &HeaderMap, trusted: &TrustedProxies) -> ReportedHops {
    let mut reported = ReportedHops::default();
    for text in elements_from_right(headers, &X_FORWARDED_FOR, split_at_commas_from_right) {
        let Some(ip) = parse_node(text, true) else { break };
        if add_hop(&mut reported, ip, trusted) {
            break;
        }
    }
    reported.addresses.reverse();
    let distance = reported.addresses.len().max(1);
    let of_client = |name| elements_from_right(headers, name, split_at_commas_from_right).take(distance).last();
    reported.scheme = of_client(&X_FORWARDED_PROTO).and_then(known_scheme);
    reported.host = of_client(&X_FORWARDED_HOST).and_then(valid_host);
    reported.port = of_client(&X_FORWARDED_PORT).and_then(valid_port);
    reported
}

/// Adds the next hop. Returns whether it is the client's, since a trusted proxy has a hop before
/// it.
fn add_hop(reported: &mut ReportedHops, ip: IpAddr, trusted: &TrustedProxies) -> bool {
    let ip = ip.to_canonical();
    reported.addresses.push(ip);
    !trusted.contains(ip)
}

/// A scheme that clients of an HTTP proxy use, in lower case. Backends build URLs with it.
fn known_scheme(text: &str) -> Option<&'static str> {
    ["http", "https", "ws", "wss"].into_iter().find(|scheme| scheme.eq_ignore_ascii_case(text))
}

fn valid_host(text: &str) -> Option<HeaderValue> {
    Host::parse(text).ok().and_then(|_| HeaderValue::from_str(text).ok())
}

fn valid_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0 && is_decimal(text))
}

/// The non-empty elements among the [`MAX_ELEMENTS`] last ones of all lines of a field, last to
/// first, without surrounding whitespace. The lines form one list, in their order (RFC 9110 §5.3),
/// which may have empty elements (§5.6.1). They are split as bytes, so that an element that is not
/// UTF-8 does not invalidate the others.
fn elements_from_right<'a, I: Iterator<Item = &'a [u8]>>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    split: impl Fn(&'a [u8]) -> I,
) -> impl Iterator<Item = &'a str> {
    let elements = headers.get_all(name).iter().rev().flat_map(move |line| split(line.as_bytes())).take(MAX_ELEMENTS);
    let texts = elements.map(|element| std::str::from_utf8(element).unwrap_or(INVALID_ELEMENT));
    texts.map(|text| text.trim_matches([' ', '\t'])).filter(|text| !text.is_empty())
}

/// Stands for an element that is not UTF-8. It is neither an address nor a parameter.
const INVALID_ELEMENT: &str = "?";

fn split_at_commas_from_right(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.rsplit(|byte| *byte == b',')
}

/// Parses a node (RFC 7239 §6): an address with or without a port, such as `192.0.2.1:80` or
/// `[2001:db8::1]:80`. `2001:db8::1` without brackets is accepted if `allow_bare_ipv6`. `None` for
/// names, `unknown` and obfuscated identifiers.
fn parse_node(text: &str, allow_bare_ipv6: bool) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_valid_end = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| is_valid_end).map(IpAddr::V6);
    }
    let v4 = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    match text.split_once(':') {
        None => v4(text),
        Some((_, rest)) if rest.contains(':') => {
            if allow_bare_ipv6 {
                text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
            } else {
                None
            }
        }
        Some((address, port)) => v4(address).filter(|_| is_port(port)),
    }
}

/// Whether `text` is a `port` or an `obfport` (RFC 7239 §6).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(obfuscated) => {
            !obfuscated.is_empty()
                && obfuscated.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        }
        None => (1..=5).contains(&text.len()) && is_decimal(text),
    }
}

/// Whether `text` has digits only, unlike what `u16::from_str` accepts.
fn is_decimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn canonical_network(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests;
