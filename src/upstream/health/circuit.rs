//! Circuit breaker: what happens to requests while no server of an upstream is up.
//!
//! The circuit opens after [`OPEN_AFTER`] failures in a row, of all servers together. While it is
//! open and no server is up, one request at a time tries a server; all others are refused at once,
//! instead of waiting for the same failure. The first success closes it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::upstream::UpstreamError;

/// How many failures in a row open the circuit. One alone may be an accident: a single server that
/// refused one connection is tried again by every request.
const OPEN_AFTER: u32 = 3;

/// The `Retry-After` of a request that is refused while another one tries.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The circuit of one upstream; shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    /// Failures since the last success.
    failures: AtomicU32,
    is_probing: AtomicBool,
}

/// The one request that may try a server while the circuit is open, until dropped.
#[derive(Debug)]
pub(in crate::upstream) struct Probe<'a>(&'a Circuit);

impl Circuit {
    /// Permission for a request to try a server although none is up.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unavailable`] if the circuit is open and another request is trying.
    pub(super) fn admit(&self) -> Result<Option<Probe<'_>>, UpstreamError> {
        if self.failures.load(Ordering::Relaxed) < OPEN_AFTER {
            Ok(None)
        } else if self.is_probing.swap(true, Ordering::Acquire) {
            Err(UpstreamError::Unavailable { retry_after: RETRY_AFTER })
        } else {
            Ok(Some(Probe(self)))
        }
    }

    /// Notes that a server has answered.
    pub(super) fn note_success(&self) {
        // Mostly a read, which the workers' caches share.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that a server has failed.
    pub(super) fn note_failure(&self) {
        let count = |failures: u32| (failures < OPEN_AFTER).then_some(failures + 1);
        // An error means that it is open already.
        let _ = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.is_probing.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(circuit: &Circuit) -> bool {
        circuit.admit().is_err_and(|error| error == UpstreamError::Unavailable { retry_after: RETRY_AFTER })
    }

    #[test]
    fn one_request_at_a_time_tries_while_the_circuit_is_open() {
        let circuit = Circuit::default();
        for _ in 0..OPEN_AFTER {
            assert!(circuit.admit().is_ok_and(|probe| probe.is_none()), "closed: any number may try");
            circuit.note_failure();
        }
        let probe = circuit.admit().expect("the first one may try").expect("and no other");
        assert!(is_refused(&circuit) && is_refused(&circuit));
        drop(probe);
        let next = circuit.admit().expect("the next one may try");
        circuit.note_failure();
        assert!(next.is_some() && is_refused(&circuit), "a failed probe leaves it open");
        circuit.note_success();
        assert!(circuit.admit().is_ok_and(|probe| probe.is_none()), "closed by a success");
    }

    #[test]
    fn a_success_between_failures_keeps_the_circuit_closed() {
        let circuit = Circuit::default();
        for _ in 0..10 {
            (1..OPEN_AFTER).for_each(|_| circuit.note_failure());
            circuit.note_success();
        }
        assert!(circuit.admit().is_ok_and(|probe| probe.is_none()));
    }
}
