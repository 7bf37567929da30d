//! Load balancing: which server of an upstream takes the next request.

use std::sync::atomic::Ordering;

use super::Upstream;
use super::server::InFlight;

/// How a server is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The one with the fewest requests under way; among equals, in turn.
    LeastRequest,
    /// One after the other.
    RoundRobin,
}

impl Upstream {
    /// Picks a server and counts the request there.
    ///
    /// The scan starts one further each time, so that equals are served in turn. Between the look and the count another worker may
    /// pick the same server; being off by one for a moment is cheaper than a lock.
    #[must_use]
    pub fn pick(&self) -> InFlight {
        let servers = &self.servers;
        let start = self.picks.fetch_add(1, Ordering::Relaxed) % servers.len();
        let picked = match self.settings.balance {
            Balance::RoundRobin => start,
            Balance::LeastRequest => (0..servers.len())
                .map(|step| (start + step) % servers.len())
                .min_by_key(|&index| servers[index].in_flight())
                .expect("an upstream has at least one server"),
        };
        InFlight::at(&servers[picked])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::upstream::tests::upstream;

    fn picks(balance: Balance, n: usize) -> BTreeMap<u16, usize> {
        let upstream = upstream(balance, &[1, 2, 3]);
        let mut counts = BTreeMap::new();
        for _ in 0..n {
            *counts.entry(upstream.pick().server().address().port).or_default() += 1;
        }
        counts
    }

    #[test]
    fn round_robin_takes_the_servers_in_turn() {
        assert_eq!(picks(Balance::RoundRobin, 9), BTreeMap::from([(1, 3), (2, 3), (3, 3)]));
    }

    #[test]
    fn equals_are_served_in_turn() {
        assert_eq!(picks(Balance::LeastRequest, 9), BTreeMap::from([(1, 3), (2, 3), (3, 3)]));
    }

    #[test]
    fn least_request_avoids_a_server_that_is_busy() {
        let upstream = upstream(Balance::LeastRequest, &[1, 2]);
        let busy = upstream.pick();
        let others: Vec<u16> = (0..4).map(|_| upstream.pick().server().address().port).collect();
        assert!(!others.contains(&busy.server().address().port), "{others:?}");
    }

    #[test]
    fn a_finished_request_is_no_longer_counted() {
        let upstream = upstream(Balance::LeastRequest, &[1]);
        drop(upstream.pick());
        assert_eq!(upstream.servers()[0].in_flight(), 0);
    }
}
