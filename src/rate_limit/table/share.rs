//! How many cells of a table each network occupies.
//!
//! A client can send any number of header values, and has any number of IPv6 addresses. Without a
//! bound per network, one client could fill the table, and the others would be refused.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::super::key;

/// Number of counters. Networks with the same remainder share one; whose they are depends on
/// randomness of the process, so that no client can choose to share with a certain other one.
const COUNTERS: usize = 4096;

/// Where a key comes from, which decides what happens when there is no cell for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The client with this address made it up, or could have: a header, an address.
    Client(IpAddr),
    /// A verified token or the configuration: a client has only as many as it was given.
    Verified,
}

impl KeyOrigin {
    /// The key of the client's network; `None` if the key is verified.
    pub(super) fn network(self) -> Option<u64> {
        match self {
            Self::Client(address) => Some(key::network(address)),
            Self::Verified => None,
        }
    }
}

/// The number of cells by network.
#[derive(Debug)]
pub(super) struct Shares {
    counters: Box<[AtomicU32]>,
    /// Largest number of cells of one network.
    max: u32,
}

/// The counter that a cell is counted in, plus one; stored in the cell.
#[derive(Debug)]
pub(super) struct Owner(AtomicU64);

/// Marks a cell that is counted in no counter. It is zero because a table begins as zeroed memory.
pub(super) const NO_NETWORK: u64 = 0;

impl From<u64> for Owner {
    fn from(stored: u64) -> Self {
        Self(AtomicU64::new(stored))
    }
}

impl Shares {
    pub(super) fn new(max: usize) -> Self {
        let counters = (0..COUNTERS).map(|_| AtomicU32::new(0)).collect();
        Self { counters, max: u32::try_from(max).unwrap_or(u32::MAX) }
    }

    /// Whether the network occupies as many cells as it may.
    pub(super) fn is_used_up(&self, network: u64) -> bool {
        self.counters[index(network)].load(Ordering::Relaxed) >= self.max
    }

    /// Counts a cell of which the caller has exclusive use, and no longer counts it for the owner
    /// it had before.
    pub(super) fn assign(&self, owner: &Owner, network: Option<u64>) {
        let next = network.map_or(NO_NETWORK, |network| network % COUNTERS as u64 + 1);
        if let Some(counter) = self.counter(next) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let previous = owner.0.swap(next, Ordering::Relaxed);
        if let Some(counter) = self.counter(previous) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn counter(&self, owner: u64) -> Option<&AtomicU32> {
        Some(&self.counters[index(owner.checked_sub(1)?)])
    }

    /// The number of cells that are counted for any network.
    #[cfg(test)]
    pub(super) fn total(&self) -> u32 {
        self.counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

fn index(network: u64) -> usize {
    usize::try_from(network % COUNTERS as u64).expect("a remainder is less than the number of counters")
}
