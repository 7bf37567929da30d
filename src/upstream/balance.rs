//! Load balancing: which server of an upstream receives the next request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::health::{Availability, Probe};
use super::server::{InFlight, Server};
use super::{Upstream, UpstreamError};

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

/// The server that an attempt goes to.
#[derive(Debug)]
pub(super) struct Pick<'a> {
    /// Counts the request there.
    pub(super) in_flight: InFlight,
    /// Held until the attempt has ended, if it is the one that may try while no server is up.
    pub(super) probe: Option<Probe<'a>>,
}

impl<'a> Pick<'a> {
    fn new(server: &Arc<Server>, probe: Option<Probe<'a>>) -> Self {
        server.begin_attempt();
        Self { in_flight: InFlight::at(server), probe }
    }
}

impl Upstream {
    /// Picks one of the `candidates` and counts the request there.
    ///
    /// One that has recovered takes part in a share of the picks. If no server is up, one that has
    /// failed lately is tried, as far as the circuit allows.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unavailable`] if no server may get the request.
    pub(super) fn pick(&self, candidates: &Candidates) -> Result<Pick<'_>, UpstreamError> {
        if let Some(server) = &candidates.only {
            return Ok(Pick::new(server, None));
        }
        let turn = self.picks.load(Ordering::Relaxed);
        let pick_available = |is_eligible: &dyn Fn(Availability) -> bool| {
            self.pick_if(|server| !candidates.has_failed(server) && is_eligible(server.availability()))
        };
        let up = pick_available(&|availability| availability.admits(turn))
            .or_else(|| pick_available(&|availability| matches!(availability, Availability::Up { .. })));
        if let Some(server) = up {
            return Ok(Pick::new(server, None));
        }
        let suspect = pick_available(&|availability| availability != Availability::Down);
        let server = suspect.ok_or(UpstreamError::Unavailable { retry_after: Duration::from_secs(1) })?;
        Ok(Pick::new(server, self.health.admit_without_server_up()?))
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

    fn pick(upstream: &Upstream) -> Pick<'_> {
        upstream.pick(&Candidates::default()).expect("no server has failed")
    }

    fn port(pick: &Pick<'_>) -> u16 {
        pick.in_flight.server().address().port()
    }

    fn picks(balance: Balance, n: usize) -> BTreeMap<u16, usize> {
        let upstream = upstream(balance, &[1, 2, 3]);
        let mut counts = BTreeMap::new();
        for _ in 0..n {
            *counts.entry(port(&pick(&upstream))).or_default() += 1;
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
        let busy = pick(&upstream);
        let others: Vec<u16> = (0..4).map(|_| port(&pick(&upstream))).collect();
        assert!(!others.contains(&port(&busy)), "{others:?}");
    }

    #[test]
    fn a_retry_on_the_same_server_stays_there_however_busy_it_is() {
        let upstream = upstream(Balance::LeastRequest, &[1, 2]);
        let busy = pick(&upstream);
        let same = Candidates::default().only(busy.in_flight.server());
        let again = upstream.pick(&same).expect("a retry there is always possible");
        assert_eq!(port(&again), port(&busy));
    }

    #[test]
    fn a_finished_request_is_no_longer_counted() {
        let upstream = upstream(Balance::LeastRequest, &[1]);
        drop(pick(&upstream));
        assert_eq!(upstream.servers()[0].in_flight(), 0);
    }
}
