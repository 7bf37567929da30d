//! Health of a server: whether requests may go to it, and how many of them.
//!
//! The state belongs to the server and is shared by all workers. [`Upstream::pick`] asks for it
//! through [`ServerHealth::availability`], and nothing else decides which servers are avoided.
//!
//! [`Upstream::pick`]: super::Upstream::pick

mod circuit;

use std::sync::Arc;

use super::{ConnectFault, UpstreamError};
use crate::primitives::backoff::Backoff;
use circuit::Circuit;
pub(super) use circuit::Probe;

/// Whether a server may be picked at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    /// It takes `percent` of the requests that it would otherwise get. Less than 100 after a
    /// recovery, so that a server with cold caches is not hit with its full share at once.
    Up {
        /// 1 to 100.
        percent: u8,
    },
    /// It has failed lately. It is avoided, unless no server of the upstream is up.
    Suspect,
    /// It must not get a request, even if it is the only one.
    Down,
}

/// What the servers of one upstream have in common.
#[derive(Debug, Default)]
pub(super) struct UpstreamHealth {
    circuit: Circuit,
}

/// What is known of one server's health.
#[derive(Debug)]
pub(super) struct ServerHealth {
    upstream: Arc<UpstreamHealth>,
    /// Failures to connect.
    connects: Backoff,
}

/// What an attempt to open a connection has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectChange {
    None,
    /// It could not be connected to, and now it can.
    Reachable,
    /// It could be connected to, and now it cannot.
    Unreachable,
}

impl Availability {
    /// Whether the pick with this number may go to the server. Spreads the picks that may evenly:
    /// of a hundred numbers in a row, as many as `percent`.
    pub(super) fn admits(self, pick: usize) -> bool {
        match self {
            // The factor is coprime to 100, so that each remainder occurs once; it keeps the picks
            // that are admitted from falling on the same turns of a rotation.
            Self::Up { percent } => (pick % 100) * 61 % 100 < usize::from(percent),
            Self::Suspect | Self::Down => false,
        }
    }
}

impl UpstreamHealth {
    /// Permission for a request to try a server although none is up; see [`circuit`].
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unavailable`].
    pub(super) fn admit_without_server_up(&self) -> Result<Option<Probe<'_>>, UpstreamError> {
        self.circuit.admit()
    }
}

impl ServerHealth {
    pub(super) fn new(upstream: Arc<UpstreamHealth>) -> Self {
        Self { upstream, connects: Backoff::new() }
    }

    /// Whether the server may be picked at this moment.
    pub(super) fn availability(&self) -> Availability {
        if self.connects.allows_attempt() { Availability::Up { percent: 100 } } else { Availability::Suspect }
    }

    /// Notes that a request goes to this server; see [`Backoff::begin`].
    pub(super) fn begin_attempt(&self) {
        self.connects.begin();
    }

    /// Notes how an attempt to open a connection ended.
    pub(super) fn note_connect(&self, fault: Option<ConnectFault>) -> ConnectChange {
        match fault {
            None if self.connects.succeed() => ConnectChange::Reachable,
            // If this machine is at fault, avoiding the server does not help.
            None | Some(ConnectFault::LocalResources) => ConnectChange::None,
            Some(_) => {
                self.note_failure();
                if self.connects.fail() { ConnectChange::Unreachable } else { ConnectChange::None }
            }
        }
    }

    /// Notes that the head of a response has arrived.
    pub(super) fn note_response(&self) {
        self.upstream.circuit.note_success();
    }

    /// Notes that the server did not respond to a request, and that the server is to blame.
    /// Failures to connect are noted by [`note_connect`](Self::note_connect) alone.
    pub(super) fn note_failure(&self) {
        self.upstream.circuit.note_failure();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_picks_is_admitted_and_falls_on_every_turn() {
        for percent in [1, 10, 50, 99, 100] {
            let admitted = |pick: &usize| Availability::Up { percent }.admits(*pick);
            assert_eq!((0..100).filter(admitted).count(), usize::from(percent), "{percent}");
        }
        let ten = Availability::Up { percent: 10 };
        for servers in 2..8 {
            for turn in 0..servers {
                let picks = (0..1000).filter(|pick| pick % servers == turn && ten.admits(*pick)).count();
                assert!(picks > 0, "turn {turn} of {servers}");
            }
        }
        assert!((0..100).all(|pick| !Availability::Suspect.admits(pick)));
    }
}
