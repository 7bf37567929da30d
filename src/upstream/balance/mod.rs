//! Load balancing: which server of an upstream receives the next request.
//!
//! A pick takes constant or logarithmic time as long as most servers are available, and allocates
//! nothing. Requests in flight are counted per server in all workers together, with whatever
//! protocol. Another worker may pick the same server before a request is counted there; a count
//! that is wrong by one for a moment costs less than a lock.

mod candidates;
mod ring;
mod server_set;
mod weighted_order;

use std::sync::Arc;

use http::HeaderName;

use super::health::Probe;
use super::server::{InFlight, Server};
use super::{Upstream, UpstreamError};
use crate::primitives::random;
pub(super) use candidates::Candidates;
use server_set::PickedServer;
pub(super) use server_set::ServerSet;

/// How a server is picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Requests with the same key go to the same server, by consistent hashing with bounded loads:
    /// a server that has more than its share of the requests in flight passes keys on.
    Hash(HashKey),
    /// Of two servers drawn at random, the one with fewer requests in flight.
    LeastRequest,
    /// Every server in turn.
    RoundRobin,
}

/// Which requests belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// Those with the same value of a header; without the header, those of the same client address.
    Header(HeaderName),
    /// Those of the same client address.
    Ip,
    /// Those of the same caller; of anonymous callers, those of the same client address.
    Subject,
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
    /// Picks one of the `candidates` and counts the request there. `affinity` is the hash of the
    /// request's key; `None` if the upstream does not balance by a key.
    ///
    /// A server that has recovered takes part in a share of the picks. If no server is up, one that
    /// has failed lately is tried, as far as the circuit allows.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unavailable`] if no server may get the request.
    pub(super) fn pick(&self, candidates: &Candidates, affinity: Option<u64>) -> Result<Pick<'_>, UpstreamError> {
        if let Some(server) = candidates.bound_to() {
            return Ok(Pick::new(server, None));
        }
        match self.server_set().pick(candidates, affinity, &mut random::draw) {
            PickedServer::Up(server) => Ok(Pick::new(server, None)),
            PickedServer::Suspect(server) => Ok(Pick::new(server, self.health.admit_without_server_up()?)),
            PickedServer::None => Err(self.health.all_down()),
        }
    }

    /// Picks a server for a request that ends at once. For the benchmark.
    ///
    /// # Errors
    ///
    /// As [`pick`](Self::pick).
    #[doc(hidden)]
    pub fn pick_once(&self, affinity: Option<u64>) -> Result<u64, UpstreamError> {
        self.pick(&Candidates::default(), affinity).map(|pick| pick.in_flight.server().id())
    }
}

#[cfg(test)]
mod tests;
