//! Shares: how much of something that all clients share each client holds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::client_network::client_network;

/// Counts what each client holds. Shared by all threads; clones count together.
///
/// Has an entry only for clients that hold something, so that it is as large as what is shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One unit that a client holds, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the unit back at once"]
pub(crate) struct Share {
    client: IpAddr,
    shares: Shares,
}

impl Shares {
    /// One more unit for `client`, unless it holds `max`.
    pub(crate) fn try_take(&self, client: IpAddr, max: usize) -> Option<Share> {
        let client = client_network(client);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(&client).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        held.insert(client, count + 1);
        drop(held);
        Some(Share { client, shares: self.clone() })
    }

    /// One more unit for `client`, however many it holds.
    pub(crate) fn take(&self, client: IpAddr) -> Share {
        self.try_take(client, usize::MAX).expect("fewer units than usize::MAX fit into memory")
    }

    /// How many clients hold something.
    #[cfg(test)]
    pub(crate) fn clients(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_has_a_share_of_its_own_and_gives_it_back() {
        let shares = Shares::default();
        let first = shares.try_take(ip("192.0.2.1"), 2).unwrap();
        let _second = shares.try_take(ip("192.0.2.1"), 2).unwrap();
        assert!(shares.try_take(ip("192.0.2.1"), 2).is_none(), "the share is used up");
        assert!(shares.try_take(ip("192.0.2.2"), 2).is_some(), "another client is not affected");
        drop(first);
        assert!(shares.try_take(ip("192.0.2.1"), 2).is_some(), "a unit was given back");
    }

    #[test]
    fn all_addresses_of_an_ipv6_client_have_one_share() {
        let shares = Shares::default();
        let _held = shares.try_take(ip("2001:db8::1"), 1).unwrap();
        assert!(shares.try_take(ip("2001:db8::2"), 1).is_none());
        assert!(shares.try_take(ip("2001:db8:0:1::1"), 1).is_some());
    }

    #[test]
    fn a_client_that_holds_nothing_takes_no_memory() {
        let shares = Shares::default();
        let held: Vec<Share> = (1..=200).map(|last| shares.take(IpAddr::from([192, 0, 2, last]))).collect();
        assert_eq!(shares.clients(), 200);
        drop(held);
        assert_eq!(shares.clients(), 0);
    }
}
