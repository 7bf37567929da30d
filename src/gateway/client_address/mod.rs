//! Client address: the peer's address, or the one that trusted proxies report in `Forwarded`
//! (RFC 7239) and `X-Forwarded-For`.
//!
//! Part of the normalize stage. Rate limits and logs use this address as a key, so the client must
//! not be able to choose it. The gateway believes these fields only if the peer is a trusted proxy.
//! It reads them from the right, where the nearest proxy appends, up to the first address that is
//! not a trusted proxy. The client may have written everything to the left of that address, so it
//! is not even parsed.
//!
//! If an element on the way cannot be parsed, the peer's address is used. The same holds if both
//! fields are present and disagree: a proxy that writes one of them commonly forwards the other one
//! as the client sent it, and the gateway cannot tell which is which.

mod forwarded;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};

/// The proxies whose forwarding fields are believed. Trusts no one by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// The client of a request, as far as the gateway can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    /// The address. An IPv4 address is never in its IPv6-mapped form (`::ffff:192.0.2.1`).
    pub ip: IpAddr,
    /// Whether the peer of the connection is a trusted proxy, regardless of its fields.
    pub via_trusted_proxy: bool,
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The most elements of one field that are read, from the right. Chains of trusted proxies are much
/// shorter.
const MAX_ELEMENTS: usize = 32;

impl TrustedProxies {
    /// Trusts the peers in `networks`. A network of IPv4-mapped IPv6 addresses stands for the IPv4
    /// network.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into_iter().map(canonical_network).collect())
    }

    /// Whether `ip` is the address of a trusted proxy.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }
}

/// The address of the client of a request that `peer` sent.
#[must_use]
pub(crate) fn from_request(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> ClientAddress {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return ClientAddress { ip: peer, via_trusted_proxy: false };
    }
    let forwarded = elements_from_right(headers, &FORWARDED, forwarded::split_from_right);
    let x_forwarded = elements_from_right(headers, &X_FORWARDED_FOR, split_at_commas_from_right);
    let by_forwarded = first_untrusted(forwarded, forwarded::for_address, trusted);
    let by_x_forwarded = first_untrusted(x_forwarded, |element| parse_node(element, true), trusted);
    ClientAddress { ip: by_forwarded.reconcile(by_x_forwarded).unwrap_or(peer), via_trusted_proxy: true }
}

/// The value that one field states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldValue<T> {
    Absent,
    Invalid,
    Value(T),
}

impl<T: PartialEq> FieldValue<T> {
    /// The value that two fields state together: that of both if they agree, or of one if the other
    /// is absent.
    fn reconcile(self, other: Self) -> Option<T> {
        match (self, other) {
            (Self::Value(one), Self::Value(other)) => (one == other).then_some(one),
            (Self::Value(only), Self::Absent) | (Self::Absent, Self::Value(only)) => Some(only),
            (Self::Absent | Self::Invalid, Self::Absent | Self::Invalid)
            | (Self::Invalid, Self::Value(_))
            | (Self::Value(_), Self::Invalid) => None,
        }
    }
}

/// The elements of all lines of a field, last to first, without surrounding whitespace. The lines
/// form one list, in their order (RFC 9110 §5.3). They are split as bytes, so that an element that
/// is not UTF-8 does not invalidate the others.
fn elements_from_right<'a, I: Iterator<Item = &'a [u8]>>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    split: impl Fn(&'a [u8]) -> I,
) -> impl Iterator<Item = &'a str> {
    let elements = headers.get_all(name).iter().rev().flat_map(move |line| split(line.as_bytes()));
    elements.map(|element| std::str::from_utf8(element).unwrap_or(INVALID_ELEMENT).trim_matches([' ', '\t']))
}

/// Stands for an element that is not UTF-8. It is neither an address nor a parameter.
const INVALID_ELEMENT: &str = "?";

fn split_at_commas_from_right(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.rsplit(|byte| *byte == b',')
}

/// The first address from the right that is not a trusted proxy, or the left-most one if all are.
/// Invalid if an element on the way is invalid, if there are more than [`MAX_ELEMENTS`] on the way,
/// or if all elements are empty.
fn first_untrusted<'a>(
    elements: impl Iterator<Item = &'a str>,
    parse: impl Fn(&'a str) -> Option<IpAddr>,
    trusted: &TrustedProxies,
) -> FieldValue<IpAddr> {
    let mut client = FieldValue::Absent;
    for (index, element) in elements.enumerate() {
        // A list may have empty elements (RFC 9110 §5.6.1), but they count toward the limit.
        if element.is_empty() && index < MAX_ELEMENTS {
            if client == FieldValue::Absent {
                client = FieldValue::Invalid;
            }
            continue;
        }
        let Some(ip) = parse(element).filter(|_| index < MAX_ELEMENTS) else { return FieldValue::Invalid };
        let ip = ip.to_canonical();
        client = FieldValue::Value(ip);
        if !trusted.contains(ip) {
            break;
        }
    }
    client
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
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn canonical_network(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests;
