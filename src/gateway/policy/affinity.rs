//! Affinity: which requests an upstream's consistent hashing sends to the same server.
//!
//! It only spreads load. A client that chooses its key, as it can with a header, chooses a server
//! among those that it may reach anyway.

use std::net::IpAddr;

use http::HeaderMap;

use crate::primitives::client_network::client_network;
use crate::primitives::stable_hash::stable_hash;
use crate::token::Principal;
use crate::upstream::balance::{Balance, HashKey};

/// The parts of a request that a key is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AffinityInput<'a> {
    /// The client's address.
    pub(crate) client_ip: IpAddr,
    /// The request's headers.
    pub(crate) headers: &'a HeaderMap,
    /// The caller; `None` for an anonymous one.
    pub(crate) principal: Option<&'a Principal>,
}

/// The hash of the key that `balance` uses, the same in all gateways; `None` if it uses none.
///
/// For a request without the header, and for an anonymous caller, the key is the client's address.
#[must_use]
pub(crate) fn affinity(balance: &Balance, input: AffinityInput<'_>) -> Option<u64> {
    let key = match balance {
        Balance::Hash(key) => key,
        Balance::LeastRequest | Balance::RoundRobin => return None,
    };
    let chosen = match key {
        HashKey::Header(name) => input.headers.get(name).map(|value| stable_hash(&[b"header", value.as_bytes()])),
        HashKey::Ip => None,
        HashKey::Subject => input
            .principal
            .map(|caller| stable_hash(&[b"subject", caller.issuer().as_bytes(), caller.subject().as_bytes()])),
    };
    Some(chosen.unwrap_or_else(|| address_key(input.client_ip)))
}

/// All addresses of one client have the same key.
fn address_key(ip: IpAddr) -> u64 {
    match client_network(ip) {
        IpAddr::V4(v4) => stable_hash(&[b"ip", &v4.octets()]),
        IpAddr::V6(v6) => stable_hash(&[b"ip", &v6.octets()]),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn key(balance: &Balance, ip: &str, tenant: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        if let Some(tenant) = tenant {
            headers.insert("x-tenant", tenant.parse().unwrap());
        }
        affinity(balance, AffinityInput { client_ip: ip.parse().unwrap(), headers: &headers, principal: None })
    }

    #[test]
    fn requests_with_the_same_key_belong_together() {
        let by_ip = Balance::Hash(HashKey::Ip);
        let by_tenant = Balance::Hash(HashKey::Header(HeaderName::from_static("x-tenant")));
        let by_subject = Balance::Hash(HashKey::Subject);
        for (name, balance, one, other, is_same) in [
            ("an address", &by_ip, ("192.0.2.1", None), ("192.0.2.1", Some("a")), true),
            ("two addresses", &by_ip, ("192.0.2.1", None), ("192.0.2.2", None), false),
            ("addresses of one client", &by_ip, ("2001:db8::1", None), ("2001:db8::2", None), true),
            ("a header", &by_tenant, ("192.0.2.1", Some("a")), ("192.0.2.2", Some("a")), true),
            ("two values of a header", &by_tenant, ("192.0.2.1", Some("a")), ("192.0.2.1", Some("b")), false),
            ("no header, one address", &by_tenant, ("192.0.2.1", None), ("192.0.2.1", None), true),
            ("no header, two addresses", &by_tenant, ("192.0.2.1", None), ("192.0.2.2", None), false),
            ("anonymous callers of one address", &by_subject, ("192.0.2.1", None), ("192.0.2.1", Some("a")), true),
            ("anonymous callers of two addresses", &by_subject, ("192.0.2.1", None), ("192.0.2.2", None), false),
        ] {
            let (one, other) = (key(balance, one.0, one.1), key(balance, other.0, other.1));
            assert!(one.is_some() && other.is_some(), "{name}");
            assert_eq!(one == other, is_same, "{name}");
        }
        assert_eq!(key(&Balance::LeastRequest, "192.0.2.1", None), None);
        assert_eq!(key(&Balance::RoundRobin, "192.0.2.1", None), None);
    }
}
