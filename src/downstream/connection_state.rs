//! The state of a connection: what it is waiting for, and until when it may.
//!
//! Shared by three: the [`wire`](super::wire) under hyper, which sees bytes; the requests, which come and go; and the loop that
//! [drives](super::drive) the connection and holds the one timer. All on one thread, but hyper wants what it holds to be `Send`, so the
//! cells are atomics that nobody contends for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::runtime::ClientTimeouts;

/// What a connection waits for from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Awaiting {
    /// The rest of a request head.
    Head,
    /// The next request.
    Request,
    /// Nothing of the client: a request is being answered.
    Nothing,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct ConnectionState {
    opened: Instant,
    timeouts: ClientTimeouts,
    awaiting: AtomicU8,
    /// Since when, in microseconds after `opened`; `NEVER` until somebody asks.
    since: AtomicU64,
    /// Since when the client takes no bytes; `NEVER` while it does.
    blocked: AtomicU64,
    /// Until when a next request may come at the latest; `NEVER` while not drained.
    limit_idle_wait: AtomicU64,
    open_requests: AtomicU32,
    /// Whether everything that was answered has reached the socket.
    settled: AtomicBool,
}

const NEVER: u64 = u64::MAX;

/// How long a connection without a request is kept as it is, or a quarter of what it may be idle. Clients that are busy ask sooner.
const PARK_AFTER: Duration = Duration::from_secs(1);

impl ConnectionState {
    /// A connection that was opened at `opened` and owes a request head since.
    pub(super) fn new(opened: Instant, timeouts: ClientTimeouts) -> Arc<Self> {
        Arc::new(Self {
            opened,
            timeouts,
            awaiting: AtomicU8::new(Awaiting::Head as u8),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(NEVER),
            limit_idle_wait: AtomicU64::new(NEVER),
            open_requests: AtomicU32::new(0),
            settled: AtomicBool::new(true),
        })
    }

    /// What it waits for.
    pub(super) fn awaiting(&self) -> Awaiting {
        match self.awaiting.load(Relaxed) {
            0 => Awaiting::Head,
            1 => Awaiting::Request,
            _ => Awaiting::Nothing,
        }
    }

    /// Whether no request is being answered and all answers are out: what is written now is hyper's own.
    pub(super) fn is_quiet(&self) -> bool {
        self.open_requests.load(Relaxed) == 0 && self.settled.load(Relaxed)
    }

    /// Bytes came in. The first ones after an answer begin the next head.
    pub(super) fn received(&self) {
        if self.awaiting() == Awaiting::Request {
            self.wait(Awaiting::Head);
        }
    }

    /// Bytes went out, or none had to wait.
    pub(super) fn wrote(&self) {
        self.blocked.store(NEVER, Relaxed);
    }

    /// The client takes no more bytes.
    pub(super) fn is_blocked(&self) {
        if self.blocked.load(Relaxed) == NEVER {
            self.blocked.store(self.now(), Relaxed);
        }
    }

    /// Everything written so far has reached the socket.
    pub(super) fn flushed(&self) {
        if self.open_requests.load(Relaxed) == 0 {
            self.settled.store(true, Relaxed);
        }
    }

    /// A request has come; the exchange lasts until the value is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        self.open_requests.fetch_add(1, Relaxed);
        self.settled.store(false, Relaxed);
        self.awaiting.store(Awaiting::Nothing as u8, Relaxed);
        RequestGuard(Arc::clone(self))
    }

    /// When its timeout ends, if it waits for the client at all. To be asked whenever the connection has been looked after: what it waits
    /// for, it waits for since then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since = |micros: u64| self.opened + Duration::from_micros(micros);
        let waiting = match self.awaiting() {
            Awaiting::Head => Some(since(self.since()) + self.timeouts.header),
            Awaiting::Request => {
                let idle = since(self.since()) + self.timeouts.idle;
                Some(match self.limit_idle_wait.load(Relaxed) {
                    NEVER => idle,
                    at => idle.min(since(at)),
                })
            }
            Awaiting::Nothing => None,
        };
        let blocked = match self.blocked.load(Relaxed) {
            NEVER => None,
            at => Some(since(at) + self.timeouts.body_idle),
        };
        waiting.into_iter().chain(blocked).min()
    }

    /// From when on an idle connection rests, if it is idle and everything that was answered is out.
    pub(super) fn park(&self) -> Option<Instant> {
        let idle = self.awaiting() == Awaiting::Request && self.is_quiet();
        idle.then(|| self.opened + Duration::from_micros(self.since()) + PARK_AFTER.min(self.timeouts.idle / 4))
    }

    /// Awaiting for a last request no longer than `timeout` from now: before a drained connection is closed.
    pub(super) fn limit_idle_wait(&self, timeout: Duration) {
        let latest = self.now() + u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        self.limit_idle_wait.store(latest, Relaxed);
    }

    fn wait(&self, awaiting: Awaiting) {
        // What it waits for mostly comes in the same turn: then nobody asks, and the clock is not read.
        self.since.store(NEVER, Relaxed);
        self.awaiting.store(awaiting as u8, Relaxed);
    }

    fn since(&self) -> u64 {
        let since = self.since.load(Relaxed);
        if since != NEVER {
            return since;
        }
        let now = self.now();
        self.since.store(now, Relaxed);
        now
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A request that is being answered; ends when the answer's body is dropped.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<ConnectionState>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.0.open_requests.fetch_sub(1, Relaxed) == 1 {
            self.0.wait(Awaiting::Request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: ClientTimeouts = ClientTimeouts {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        body_idle: Duration::from_secs(30),
    };

    /// In whole seconds; the clock stands still.
    fn timeout(state: &ConnectionState) -> Option<u64> {
        state.deadline().map(|deadline| deadline.duration_since(Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn patience_depends_on_what_is_waited_for() {
        let state = ConnectionState::new(Instant::now(), BOUNDS);
        assert_eq!((state.awaiting(), timeout(&state)), (Awaiting::Head, Some(10)));
        let exchange = state.begin_request();
        assert_eq!((state.awaiting(), timeout(&state)), (Awaiting::Nothing, None));
        drop(exchange);
        assert_eq!((state.awaiting(), timeout(&state)), (Awaiting::Request, Some(75)));
        tokio::time::advance(Duration::from_secs(70)).await;
        assert_eq!(timeout(&state), Some(5));
        state.received();
        assert_eq!((state.awaiting(), timeout(&state)), (Awaiting::Head, Some(10)));
        tokio::time::advance(Duration::from_secs(4)).await;
        state.received();
        assert_eq!(timeout(&state), Some(6), "later bytes of a head give no new timeout");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_bytes_is_given_the_body_time() {
        let state = ConnectionState::new(Instant::now(), BOUNDS);
        let _exchange = state.begin_request();
        state.is_blocked();
        tokio::time::advance(Duration::from_secs(20)).await;
        state.is_blocked();
        assert_eq!(timeout(&state), Some(10));
        state.wrote();
        assert_eq!(timeout(&state), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_with_all_answers_out_is_quiet() {
        let state = ConnectionState::new(Instant::now(), BOUNDS);
        assert!(state.is_quiet());
        let exchange = state.begin_request();
        state.flushed();
        assert!(!state.is_quiet(), "a request is being answered");
        drop(exchange);
        assert!(!state.is_quiet(), "the answer is not out yet");
        state.flushed();
        assert!(state.is_quiet());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_quiet_connection_that_has_had_an_answer_rests() {
        let state = ConnectionState::new(Instant::now(), BOUNDS);
        assert_eq!(state.park(), None, "it has not asked for anything yet");
        let exchange = state.begin_request();
        assert_eq!(state.park(), None);
        drop(exchange);
        assert_eq!(state.park(), None, "the answer is not out yet");
        state.flushed();
        let since = Instant::now();
        assert_eq!(state.park(), Some(since + PARK_AFTER));
        tokio::time::advance(Duration::from_millis(700)).await;
        assert_eq!(state.park(), Some(since + PARK_AFTER));
        state.received();
        assert_eq!(state.park(), None, "a head has begun");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_call_shortens_an_idle_wait() {
        let state = ConnectionState::new(Instant::now(), BOUNDS);
        drop(state.begin_request());
        tokio::time::advance(Duration::from_secs(1)).await;
        state.limit_idle_wait(Duration::from_secs(2));
        assert_eq!(timeout(&state), Some(2));
    }
}
