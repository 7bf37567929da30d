//! Load balancing: which server of an upstream receives the next request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Upstream;
use super::server::{InFlight, Server};

/// How a server is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The server with the fewest requests in flight; servers with equally many take turns.
    LeastRequest,
    /// Every server in turn.
    RoundRobin,
}

/// The servers that a request may be sent to.
#[derive(Debug)]
pub(super) enum Candidates {
    /// Every server of the upstream.
    All,
    /// Only this one.
    Only(Arc<Server>),
}

impl Upstream {
    /// Picks one of the `candidates` and counts the request there.
    pub(super) fn pick(&self, candidates: &Candidates) -> InFlight {
        match candidates {
            Candidates::All => InFlight::at(&self.servers[self.pick_index()]),
            Candidates::Only(server) => InFlight::at(server),
        }
    }

    /// The index of the server that the next request goes to.
    ///
    /// Each scan starts one server further, so that servers with equally many requests take turns.
    /// Another worker may pick the same server before this request is counted there; a count that
    /// is wrong by one for a moment costs less than a lock.
    fn pick_index(&self) -> usize {
        let servers = &self.servers;
        let start = self.picks.fetch_add(1, Ordering::Relaxed) % servers.len();
        match self.settings.balance {
            Balance::RoundRobin => start,
            Balance::LeastRequest => (0..servers.len())
                .map(|step| (start + step) % servers.len())
                .min_by_key(|&index| servers[index].in_flight())
                .expect("an upstream has at least one server"),
        }
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
            *counts.entry(upstream.pick(&Candidates::All).server().address().port).or_default() += 1;
        }
        counts
    }

    #[test]
    fn round_robin_picks_every_server_in_turn() {
        assert_eq!(picks(Balance::RoundRobin, 9), BTreeMap::from([(1, 3), (2, 3), (3, 3)]));
    }

    #[test]
    fn servers_with_equally_many_requests_take_turns() {
        assert_eq!(picks(Balance::LeastRequest, 9), BTreeMap::from([(1, 3), (2, 3), (3, 3)]));
    }

    #[test]
    fn least_request_avoids_a_busy_server() {
        let upstream = upstream(Balance::LeastRequest, &[1, 2]);
        let busy = upstream.pick(&Candidates::All);
        let others: Vec<u16> = (0..4).map(|_| upstream.pick(&Candidates::All).server().address().port).collect();
        assert!(!others.contains(&busy.server().address().port), "{others:?}");
    }

    #[test]
    fn a_retry_on_the_same_server_stays_there_however_busy_it_is() {
        let upstream = upstream(Balance::LeastRequest, &[1, 2]);
        let busy = upstream.pick(&Candidates::All);
        let same = Candidates::Only(Arc::clone(busy.server()));
        assert_eq!(upstream.pick(&same).server().id(), busy.server().id());
    }

    #[test]
    fn a_finished_request_is_no_longer_counted() {
        let upstream = upstream(Balance::LeastRequest, &[1]);
        drop(upstream.pick(&Candidates::All));
        assert_eq!(upstream.servers()[0].in_flight(), 0);
    }
}
