//! Rate limit keys: hashes of the values that a limit counts by.
//!
//! The hash is keyed with randomness of this process. Otherwise a client could search for a value
//! whose hash collides with another client's and use up that client's quota.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;

use crate::primitives::client_network::client_network;

static PER_PROCESS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The kind of the hashed value, so that an address and a text with the same bytes get different
/// keys.
#[derive(Clone, Copy)]
enum Kind {
    Address = 1,
    Parts = 2,
    Network = 3,
}

/// The key of an address.
///
/// All addresses of one [client](client_network) have the same key: an IPv6 client could otherwise
/// get a new burst with each request.
#[must_use]
pub(crate) fn address(ip: IpAddr) -> u64 {
    let mut hasher = new_hasher(Kind::Address);
    match client_network(ip) {
        IpAddr::V4(v4) => hasher.write(&v4.octets()),
        IpAddr::V6(v6) => hasher.write(&v6.octets()[..8]),
    }
    hasher.finish()
}

/// The key of everything that one customer of a network provider is usually given: an IPv4 address,
/// whose key [`address`] returns as well, or the first 48 bits of an IPv6 address (RFC 6177 §2).
#[must_use]
pub(crate) fn network(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(_) => address(ip),
        IpAddr::V6(v6) => {
            let mut hasher = new_hasher(Kind::Network);
            hasher.write(&v6.octets()[..6]);
            hasher.finish()
        }
    }
}

/// The key of several texts in order. Each is hashed with its length, so that `("ab", "c")` and
/// `("a", "bc")` differ.
#[must_use]
pub(crate) fn strings(parts: &[&str]) -> u64 {
    of_parts(parts.iter().map(|part| part.as_bytes()))
}

/// Like [`strings`], for values that need not be text. The same bytes give the same key.
#[must_use]
pub(crate) fn bytes(parts: &[&[u8]]) -> u64 {
    of_parts(parts.iter().copied())
}

fn of_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = new_hasher(Kind::Parts);
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish()
}

fn new_hasher(kind: Kind) -> impl Hasher {
    let mut hasher = PER_PROCESS.build_hasher();
    hasher.write(&[kind as u8]);
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ip: &str) -> u64 {
        address(ip.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_client_have_one_key() {
        for (name, one, other, is_same) in [
            ("the same address", "192.0.2.1", "192.0.2.1", true),
            ("an IPv4-mapped address", "192.0.2.1", "::ffff:192.0.2.1", true),
            ("one IPv6 network", "2001:db8::1", "2001:db8::ffff:1:2:3", true),
            ("another IPv4 address", "192.0.2.1", "192.0.2.2", false),
            ("another IPv4-mapped address", "::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("another IPv6 network", "2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(key(one) == key(other), is_same, "{name}");
        }
    }

    #[test]
    fn networks_have_one_key_each() {
        let of = |ip: &str| network(ip.parse().unwrap());
        for (name, one, other, is_same) in [
            ("an IPv4 address", "192.0.2.1", "::ffff:192.0.2.1", true),
            ("another IPv4 address", "192.0.2.1", "192.0.2.2", false),
            ("another /64 of the same /48", "2001:db8:1:2::1", "2001:db8:1:ffff::1", true),
            ("another /48", "2001:db8:1::1", "2001:db8:2::1", false),
        ] {
            assert_eq!(of(one) == of(other), is_same, "{name}");
        }
        assert_eq!(of("192.0.2.1"), key("192.0.2.1"));
        assert_ne!(of("2001:db8::1"), key("2001:db8::1"), "a /48 is not its first /64");
    }

    #[test]
    fn the_boundaries_between_strings_count() {
        for (name, one, other) in [
            ("moved boundary", &["ab", "c"][..], &["a", "bc"][..]),
            ("empty strings", &["a", ""], &["", "a"]),
            ("one string more", &["a"], &["a", ""]),
            ("joined", &["a", "b"], &["ab"]),
        ] {
            let as_bytes: Vec<&[u8]> = one.iter().map(|part| part.as_bytes()).collect();
            assert_eq!(strings(one), bytes(&as_bytes), "{name}");
            assert_ne!(strings(one), strings(other), "{name}");
        }
    }
}
