//! Client address: the peer's, or what trusted proxies say in `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Part of intake. Limits and logs are keyed by this address, so it must not be the client's to choose: a field is believed only from
//! a trusted peer, and read from the right, where the nearest proxy writes, up to the first address that is not a trusted proxy's.
//! What stands left of it came from the client and is not even parsed.
//!
//! If anything on the way cannot be read, the peer's address is used. The same if both fields are there and disagree: a proxy that
//! writes one of them commonly passes the other one through as the client sent it, and nothing tells which is which.

mod forwarded;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HeaderMap, HeaderName};
use http::uri::Scheme;
use ipnet::{IpNet, Ipv4Net};

/// The peers whose forwarding fields are believed. The default is nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// Who is at the other end, as far as it can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address; an IPv4 address is never written as IPv6 (`::ffff:192.0.2.1`).
    pub ip: IpAddr,
    /// Whether the peer of the connection is a trusted proxy, whatever its fields say.
    pub via_trusted_proxy: bool,
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Most elements of one field that are looked at, from the right. A chain of trusted proxies is a handful long.
const MAX_ELEMENTS: usize = 32;

impl TrustedProxies {
    /// Trusts the peers in `networks`. Networks of IPv4 addresses written as IPv6 are those of the IPv4 addresses.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into_iter().map(canonical_network).collect())
    }

    /// Is `ip` the address of a trusted proxy?
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }
}

/// The address of the client of a request that came from `peer`.
#[must_use]
pub fn from_request(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> ClientAddress {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return ClientAddress { ip: peer, via_trusted_proxy: false };
    }
    let forwarded = from_right(headers, &FORWARDED, forwarded::elements_from_right);
    let x_forwarded = from_right(headers, &X_FORWARDED_FOR, commas_from_right);
    let by_forwarded = outermost(forwarded, forwarded::client, trusted);
    let by_x_forwarded = outermost(x_forwarded, |element| node(element, true), trusted);
    ClientAddress { ip: by_forwarded.and(by_x_forwarded).unwrap_or(peer), via_trusted_proxy: true }
}

/// The scheme that the nearest proxy saw: the right-most `proto` of `Forwarded`, or element of `X-Forwarded-Proto`.
///
/// `None` if the peer is not trusted, if neither says `http` or `https`, or if the two disagree.
#[must_use]
pub fn forwarded_proto(headers: &HeaderMap, client: &ClientAddress) -> Option<Scheme> {
    if !client.via_trusted_proxy {
        return None;
    }
    let mut forwarded = from_right(headers, &FORWARDED, forwarded::elements_from_right);
    let by_forwarded = match forwarded.find(|element| !element.is_empty()).map(forwarded::proto) {
        None | Some(Ok(None)) => Told::Nothing,
        Some(Ok(Some(text))) => scheme(&text),
        Some(Err(forwarded::Malformed)) => Told::Unreadable,
    };
    let mut x_forwarded = from_right(headers, &X_FORWARDED_PROTO, commas_from_right);
    let by_x_forwarded = x_forwarded.find(|element| !element.is_empty()).map_or(Told::Nothing, scheme);
    by_forwarded.and(by_x_forwarded)
}

/// What one field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told<T> {
    Nothing,
    Unreadable,
    Value(T),
}

impl<T: PartialEq> Told<T> {
    /// What two fields say together, if they do not disagree.
    fn and(self, other: Self) -> Option<T> {
        match (self, other) {
            (Self::Value(one), Self::Value(other)) => (one == other).then_some(one),
            (Self::Value(only), Self::Nothing) | (Self::Nothing, Self::Value(only)) => Some(only),
            (Self::Nothing | Self::Unreadable, Self::Nothing | Self::Unreadable)
            | (Self::Unreadable, Self::Value(_))
            | (Self::Value(_), Self::Unreadable) => None,
        }
    }
}

fn scheme(text: &str) -> Told<Scheme> {
    let known = [Scheme::HTTP, Scheme::HTTPS].into_iter().find(|scheme| scheme.as_str().eq_ignore_ascii_case(text));
    known.map_or(Told::Unreadable, Told::Value)
}

/// The elements of all lines of a field, the last one first, without the white space around them (RFC 9110 §5.3: lines are one
/// list, in their order). Split as bytes, so that what is no text spoils its own element only.
fn from_right<'a, I: Iterator<Item = &'a [u8]>>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    split: impl Fn(&'a [u8]) -> I,
) -> impl Iterator<Item = &'a str> {
    let elements = headers.get_all(name).iter().rev().flat_map(move |line| split(line.as_bytes()));
    elements.map(|element| std::str::from_utf8(element).unwrap_or(UNREADABLE).trim_matches([' ', '\t']))
}

/// No address and no parameter.
const UNREADABLE: &str = "?";

fn commas_from_right(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.rsplit(|byte| *byte == b',')
}

/// The first address from the right that is no trusted proxy's; if all are, the left-most. Unreadable if an element on the way
/// is, or if there are too many, or only empty ones.
fn outermost<'a>(
    elements: impl Iterator<Item = &'a str>,
    read: impl Fn(&'a str) -> Option<IpAddr>,
    trusted: &TrustedProxies,
) -> Told<IpAddr> {
    let mut outermost = Told::Nothing;
    for (index, element) in elements.enumerate() {
        // Empty elements are allowed in lists (RFC 9110 §5.6.1), but they are counted.
        if element.is_empty() && index < MAX_ELEMENTS {
            if outermost == Told::Nothing {
                outermost = Told::Unreadable;
            }
            continue;
        }
        let Some(ip) = read(element).filter(|_| index < MAX_ELEMENTS) else { return Told::Unreadable };
        let ip = ip.to_canonical();
        outermost = Told::Value(ip);
        if !trusted.contains(ip) {
            break;
        }
    }
    outermost
}

/// An address with or without a port: `192.0.2.1:80`, `[2001:db8::1]:80`, and `2001:db8::1` if `bare` is so. Names, `unknown` and
/// obfuscated identifiers (RFC 7239 §6.3) are no addresses.
fn node(text: &str, bare: bool) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| has_port).map(IpAddr::V6);
    }
    let v4 = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    match text.split_once(':') {
        None => v4(text),
        Some((_, rest)) if rest.contains(':') => {
            if bare {
                text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
            } else {
                None
            }
        }
        Some((address, port)) => v4(address).filter(|_| is_port(port)),
    }
}

/// `port` or `obfport` of RFC 7239 §6.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => {
            !hidden.is_empty() && hidden.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
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
