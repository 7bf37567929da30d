//! Load balancing: which server of an upstream receives the next request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Upstream;
use super::health::Availability;
use super::server::{InFlight, Server};

/// How a server is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The server with the fewest requests in flight; servers with equally many take turns.
    LeastRequest,
    /// Every server in turn.
    RoundRobin,
}

/// The servers that an attempt may go to.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// The servers that the request could not be sent to. Few, and mostly none.
    failed: Vec<Arc<Server>>,
    /// If set, the attempt must go to this server.
    only: Option<Arc<Server>>,
}

impl Candidates {
    /// The same, but only `server`.
    pub(super) fn only(self, server: &Arc<Server>) -> Self {
        Self { only: Some(Arc::clone(server)), ..self }
    }

    /// All servers of `upstream` to which the request was not yet tried to be sent, without
    /// `server`. `None` if there is no other.
    pub(super) fn without(mut self, server: &Arc<Server>, upstream: &Upstream) -> Option<Self> {
        self.only = None;
        if !self.has_failed(server) {
            self.failed.push(Arc::clone(server));
        }
        (self.failed.len() < upstream.servers.len()).then_some(self)
    }

    /// Whether another attempt could follow if `server` cannot be connected to.
    pub(super) fn has_other_than(&self, server: &Arc<Server>, upstream: &Upstream) -> bool {
        self.failed.len() + usize::from(!self.has_failed(server)) < upstream.servers.len()
    }

    fn has_failed(&self, server: &Server) -> bool {
        self.failed.iter().any(|failed| failed.id() == server.id())
    }
}

impl Upstream {
    /// Picks one of the `candidates` and counts the request there.
    ///
    /// A server that has just failed is avoided, unless there is no other. One that has recovered
    /// takes part in a share of the picks.
    pub(super) fn pick(&self, candidates: &Candidates) -> InFlight {
        let is_candidate = |server: &Server| !candidates.has_failed(server);
        let turn = self.picks.load(Ordering::Relaxed);
        let pick = || {
            self.pick_if(|server| is_candidate(server) && server.availability().admits(turn))
                .or_else(|| {
                    self.pick_if(|server| {
                        is_candidate(server) && matches!(server.availability(), Availability::Up { .. })
                    })
                })
                .or_else(|| self.pick_if(is_candidate))
                .expect("an upstream has a server, and `Candidates::without` leaves one")
        };
        let server = candidates.only.as_ref().unwrap_or_else(pick);
        server.begin_attempt();
        InFlight::at(server)
    }

    /// The server that the next request goes to, of those for which `is_eligible`.
    ///
    /// Each scan starts one server further, so that servers with equally many requests take turns.
    /// Another worker may pick the same server before this request is counted there; a count that
    /// is wrong by one for a moment costs less than a lock.
    fn pick_if(&self, is_eligible: impl Fn(&Server) -> bool) -> Option<&Arc<Server>> {
        let turn = self.picks.fetch_add(1, Ordering::Relaxed);
        let eligible = || self.servers.iter().filter(|server| is_eligible(server));
        // Counted first, so that the servers that remain take turns, rather than that one of them
        // gets the share of each that does not.
        let count = eligible().count();
        let start = turn.checked_rem(count)?;
        let from_turn = || eligible().cycle().skip(start).take(count);
        match self.settings.balance {
            Balance::RoundRobin => from_turn().next(),
            Balance::LeastRequest => from_turn().min_by_key(|server| server.in_flight()),
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
            *counts.entry(upstream.pick(&Candidates::default()).server().address().port).or_default() += 1;
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
        let busy = upstream.pick(&Candidates::default());
        let others: Vec<u16> = (0..4).map(|_| upstream.pick(&Candidates::default()).server().address().port).collect();
        assert!(!others.contains(&busy.server().address().port), "{others:?}");
    }

    #[test]
    fn a_retry_on_the_same_server_stays_there_however_busy_it_is() {
        let upstream = upstream(Balance::LeastRequest, &[1, 2]);
        let busy = upstream.pick(&Candidates::default());
        let same = Candidates::default().only(busy.server());
        assert_eq!(upstream.pick(&same).server().id(), busy.server().id());
    }

    #[test]
    fn a_finished_request_is_no_longer_counted() {
        let upstream = upstream(Balance::LeastRequest, &[1]);
        drop(upstream.pick(&Candidates::default()));
        assert_eq!(upstream.servers()[0].in_flight(), 0);
    }
}
