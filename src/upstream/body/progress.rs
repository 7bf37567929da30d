//! Progress of a request body, shared between the body and the exchange that it belongs to.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::task::Waker;

use tokio::time::Instant;

/// How far a request body has come, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyOutcome {
    /// All of it was forwarded, at this moment.
    Ended(Instant),
    /// The client did not complete it.
    Incomplete(RequestBodyFault),
    /// Not ended yet.
    InProgress,
    /// The upstream stopped reading it, or its response ended first.
    Unread,
}

/// What a client did wrong with its request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBodyFault {
    /// The client disconnected before its end.
    Abandoned,
    /// Its framing is invalid.
    Broken,
    /// The client was too slow: no byte for `body_idle_timeout`, or fewer than `min_body_rate` asks
    /// for.
    Idle,
    /// More bytes than the route allows.
    TooLarge,
}

/// The state of a request body. Clones are views of the same body.
#[derive(Clone, Debug)]
pub struct Progress(Rc<State>);

struct State {
    outcome: Cell<BodyOutcome>,
    bytes: Cell<u64>,
    waits_for_client: Cell<bool>,
    /// Of the task that polls the body, while the body waits for the client.
    waker: Cell<Option<Waker>>,
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("State")
            .field("outcome", &self.outcome)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Progress {
    pub(in crate::upstream) fn new(outcome: BodyOutcome) -> Self {
        Self(Rc::new(State {
            outcome: Cell::new(outcome),
            bytes: Cell::new(0),
            waits_for_client: Cell::new(false),
            waker: Cell::new(None),
        }))
    }

    /// How far the body has come, or how it ended.
    #[must_use]
    pub fn outcome(&self) -> BodyOutcome {
        self.0.outcome.get()
    }

    /// Bytes forwarded so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Whether the body waits for bytes from the client. If not, it waits for the upstream to read.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        self.0.waits_for_client.get()
    }

    /// Records that nothing has arrived from the client. `waker` wakes the body's task.
    pub(in crate::upstream) fn wait_for_client(&self, waker: &Waker) {
        self.0.waits_for_client.set(true);
        self.0.waker.set(Some(waker.clone()));
    }

    /// Records that something has arrived from the client.
    pub(in crate::upstream) fn client_is_ready(&self) {
        self.0.waits_for_client.set(false);
    }

    pub(in crate::upstream) fn add_bytes(&self, count: u64) {
        self.0.bytes.set(self.bytes() + count);
    }

    /// Ends the body with `outcome`, unless it has ended: only the first end is the reason.
    pub(in crate::upstream) fn end(&self, outcome: BodyOutcome) {
        if self.outcome() == BodyOutcome::InProgress {
            self.0.outcome.set(outcome);
        }
    }

    /// Ends a body that is no longer needed, since its response has ended or was dropped, and wakes
    /// the task that polls it.
    pub(super) fn cancel(&self) {
        if self.outcome() == BodyOutcome::InProgress {
            self.end(BodyOutcome::Unread);
            if let Some(waker) = self.0.waker.take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_response_that_ends_first_ends_a_body_that_still_comes() {
        let ended = BodyOutcome::Ended(Instant::now());
        let broken = BodyOutcome::Incomplete(RequestBodyFault::Broken);
        for (before, after, is_woken) in
            [(BodyOutcome::InProgress, BodyOutcome::Unread, true), (ended, ended, false), (broken, broken, false)]
        {
            let (progress, woken) = (Progress::new(before), Arc::new(Woken(AtomicBool::new(false))));
            progress.wait_for_client(&Arc::clone(&woken).into());
            progress.cancel();
            assert_eq!((progress.outcome(), woken.0.load(Ordering::Relaxed)), (after, is_woken), "{before:?}");
        }
    }
}
