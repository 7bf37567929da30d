//! The network of a client: what counts as one client wherever clients share something.

use std::net::{IpAddr, Ipv6Addr};

/// The client that `ip` belongs to, as an address that stands for all of its addresses.
///
/// An IPv4-mapped IPv6 address is the IPv4 address. An IPv6 address is reduced to its first 64
/// bits: the host chooses the rest (RFC 4291 §2.5.1), and could be another client with each
/// connection.
#[must_use]
pub(crate) fn client_network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_one_client_can_choose_are_one_network() {
        for (name, one, other, is_same) in [
            ("the same address", "192.0.2.1", "192.0.2.1", true),
            ("an IPv4-mapped address", "192.0.2.1", "::ffff:192.0.2.1", true),
            ("one IPv6 network", "2001:db8::1", "2001:db8::ffff:1:2:3", true),
            ("another IPv4 address", "192.0.2.1", "192.0.2.2", false),
            ("another IPv4-mapped address", "::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("another IPv6 network", "2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let network = |text: &str| client_network(text.parse().unwrap());
            assert_eq!(network(one) == network(other), is_same, "{name}");
        }
    }
}
