//! Keys of counters: hashes of what a limit counts by, made so that nobody can aim at another one's cell.
//!
//! Keyed with randomness of this process: without it, a client could look for names that share a cell with somebody else's.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;

static PER_PROCESS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What a hash is of, so that an address and a text of the same bytes differ.
#[derive(Clone, Copy)]
enum Kind {
    Address = 1,
    Pair = 2,
    Parts = 3,
}

/// The key of an address.
///
/// An IPv4 address written as IPv6 is the IPv4 address; of an IPv6 address the first 64 bits count, since the rest is the
/// host's to choose (RFC 4291 §2.5.1) and would be a fresh burst for each packet.
#[must_use]
pub fn address(ip: IpAddr) -> u64 {
    let mut hasher = start(Kind::Address);
    match ip.to_canonical() {
        IpAddr::V4(v4) => hasher.write(&v4.octets()),
        IpAddr::V6(v6) => hasher.write(&v6.octets()[..8]),
    }
    hasher.finish()
}

/// The key of several texts in order, each with its length in front: `("ab", "c")` is not `("a", "bc")`.
#[must_use]
pub fn strings(parts: &[&str]) -> u64 {
    of_parts(parts.iter().map(|part| part.as_bytes()))
}

/// As [`strings`], for what need not be text. The same bytes give the same key.
#[must_use]
pub fn bytes(parts: &[&[u8]]) -> u64 {
    of_parts(parts.iter().copied())
}

/// The key of two keys in order, such as a limit's name and an address: for several limits in one table.
#[must_use]
pub fn pair(first: u64, second: u64) -> u64 {
    let mut hasher = start(Kind::Pair);
    hasher.write(&first.to_le_bytes());
    hasher.write(&second.to_le_bytes());
    hasher.finish()
}

fn of_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = start(Kind::Parts);
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish()
}

fn start(kind: Kind) -> impl Hasher {
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
            ("itself", "192.0.2.1", "192.0.2.1", true),
            ("IPv4 written as IPv6", "192.0.2.1", "::ffff:192.0.2.1", true),
            ("one IPv6 network", "2001:db8::1", "2001:db8::ffff:1:2:3", true),
            ("another IPv4 address", "192.0.2.1", "192.0.2.2", false),
            ("another IPv4 address written as IPv6", "::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("another IPv6 network", "2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(key(one) == key(other), is_same, "{name}");
        }
    }

    #[test]
    fn strings_do_not_run_into_each_other() {
        for (name, one, other) in [
            ("moved border", &["ab", "c"][..], &["a", "bc"][..]),
            ("empty ones", &["a", ""], &["", "a"]),
            ("one more", &["a"], &["a", ""]),
            ("joined", &["a", "b"], &["ab"]),
        ] {
            let as_bytes: Vec<&[u8]> = one.iter().map(|part| part.as_bytes()).collect();
            assert_eq!(strings(one), bytes(&as_bytes), "{name}");
            assert_ne!(strings(one), strings(other), "{name}");
        }
    }

    #[test]
    fn pairs_have_an_order() {
        assert_eq!(pair(1, 2), pair(1, 2));
        assert_ne!(pair(1, 2), pair(2, 1));
    }
}
