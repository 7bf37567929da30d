//! The state of a connection: what it is waiting for, since when, and for how long it may.
//!
//! Three parties share it: the [`client_stream`](super::client_stream) under hyper, which sees
//! bytes; the requests, which begin and end; and [`http_connection`](super::http_connection), which
//! polls hyper and has the connection's only timer. All three run on one thread, but hyper requires
//! its stream to be `Send`, so the fields are atomics, without contention.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::runtime::ClientTimeouts;
use crate::primitives::min_rate::WaitAllowance;

/// What a connection is waiting for from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Awaiting {
    /// The first request of an HTTP/2 connection. Unlike a head that has begun, it may never come.
    FirstRequest,
    /// The rest of a request head.
    Head,
    /// The next request.
    Request,
    /// Nothing: a request is in progress. A request body has a timeout of its own.
    Nothing,
}

/// What a connection is waiting for, and the deadlines that follow from it.
///
/// All times are in microseconds after `opened_at`.
#[derive(Debug)]
pub(super) struct ConnectionState {
    opened_at: Instant,
    timeouts: ClientTimeouts,
    awaiting: AtomicU8,
    /// When the wait for the client began; `NEVER` if [`ConnectionState::deadline`] has not looked
    /// yet.
    waiting_since: AtomicU64,
    /// Since when the client has accepted no bytes; `NEVER` while it accepts them.
    blocked_since: AtomicU64,
    /// How long the client may go on not accepting bytes.
    write_allowance: WaitAllowance,
    /// The latest time at which another request may begin; `NEVER` while the connection is not
    /// draining.
    idle_limit: AtomicU64,
    open_requests: AtomicU32,
    /// Whether every response has been flushed to the socket.
    responses_flushed: AtomicBool,
    /// Whether the response to the last request has begun.
    response_begun: AtomicBool,
    /// Whether a response has switched protocols.
    is_tunnel: AtomicBool,
}

const NEVER: u64 = u64::MAX;

/// How long an idle connection keeps its buffers before it is parked, and how long it is not closed
/// for others; a quarter of `idle_timeout` if that is shorter. A busy client sends its next request
/// sooner.
pub(super) const PARK_AFTER: Duration = Duration::from_secs(1);

impl ConnectionState {
    /// The state of a connection that was opened at `opened_at` and has been waiting for a request
    /// head since.
    pub(super) fn new(opened_at: Instant, timeouts: ClientTimeouts) -> Arc<Self> {
        Arc::new(Self {
            opened_at,
            timeouts,
            awaiting: AtomicU8::new(Awaiting::Head as u8),
            waiting_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(NEVER),
            write_allowance: WaitAllowance::new(timeouts.min_body_rate, timeouts.body_idle),
            idle_limit: AtomicU64::new(NEVER),
            open_requests: AtomicU32::new(0),
            responses_flushed: AtomicBool::new(true),
            response_begun: AtomicBool::new(false),
            is_tunnel: AtomicBool::new(false),
        })
    }

    /// Records that no request has begun, although the client has sent bytes: those of HTTP/2's
    /// preface.
    pub(super) fn await_first_request(&self) {
        self.awaiting.store(Awaiting::FirstRequest as u8, Relaxed);
    }

    /// What the connection is waiting for.
    pub(super) fn awaiting(&self) -> Awaiting {
        match self.awaiting.load(Relaxed) {
            0 => Awaiting::FirstRequest,
            1 => Awaiting::Head,
            2 => Awaiting::Request,
            _ => Awaiting::Nothing,
        }
    }

    /// Whether the connection is a tunnel: what the client sends is no longer HTTP.
    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel.load(Relaxed)
    }

    /// Whether a request is in progress whose response has begun. Of an HTTP/1.1 connection, which
    /// has one request at a time.
    pub(super) fn is_responding(&self) -> bool {
        self.awaiting() == Awaiting::Nothing && self.response_begun.load(Relaxed)
    }

    /// Whether no request is in progress and every response has been flushed: hyper then writes
    /// only on its own initiative.
    pub(super) fn has_sent_all_responses(&self) -> bool {
        self.open_requests.load(Relaxed) == 0 && self.responses_flushed.load(Relaxed)
    }

    /// Records that bytes were read. The first bytes after a response begin the next request head.
    pub(super) fn bytes_received(&self) {
        if self.awaiting() == Awaiting::Request {
            self.start_waiting(Awaiting::Head);
        }
    }

    /// Records that the socket has accepted so many bytes.
    pub(super) fn write_completed(&self, bytes: u64) {
        let since = self.blocked_since.load(Relaxed);
        if since != NEVER {
            self.write_allowance.subtract(Duration::from_micros(self.now().saturating_sub(since)));
            self.blocked_since.store(NEVER, Relaxed);
        }
        self.write_allowance.add(bytes);
    }

    /// Records that the socket accepts no bytes, because the client does not read.
    pub(super) fn write_blocked(&self) {
        if self.blocked_since.load(Relaxed) == NEVER {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    /// Records that everything written so far has reached the socket.
    pub(super) fn flushed(&self) {
        if self.open_requests.load(Relaxed) == 0 {
            self.responses_flushed.store(true, Relaxed);
        }
    }

    /// Records that a request has begun; it ends when the returned guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        if self.open_requests.fetch_add(1, Relaxed) == 0 {
            self.write_allowance.begin_body();
        }
        self.responses_flushed.store(false, Relaxed);
        self.response_begun.store(false, Relaxed);
        self.awaiting.store(Awaiting::Nothing as u8, Relaxed);
        RequestGuard(Arc::clone(self))
    }

    /// The time by which the client must act, or `None` if the connection is not waiting for it.
    ///
    /// Must be called each time hyper has been polled: a new wait begins with the first call.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let awaited = match self.awaiting() {
            Awaiting::Head => Some(self.instant(self.waiting_since()) + self.timeouts.header),
            Awaiting::FirstRequest => Some(self.limited(self.instant(self.waiting_since()) + self.timeouts.header)),
            Awaiting::Request => Some(self.limited(self.instant(self.waiting_since()) + self.timeouts.idle)),
            Awaiting::Nothing => None,
        };
        let blocked = match self.blocked_since.load(Relaxed) {
            NEVER => None,
            since => Some(self.instant(since) + self.write_allowance.remaining()),
        };
        awaited.into_iter().chain(blocked).min()
    }

    /// When the connection can be parked, if it is idle and every response has been flushed.
    pub(super) fn park_at(&self) -> Option<Instant> {
        let is_idle = self.awaiting() == Awaiting::Request && self.has_sent_all_responses();
        is_idle.then(|| self.instant(self.waiting_since()) + PARK_AFTER.min(self.timeouts.idle / 4))
    }

    /// Limits the wait for another request to `timeout` from now. A draining connection uses this
    /// before it closes.
    pub(super) fn limit_idle_wait(&self, timeout: Duration) {
        let limit = self.now() + u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        self.idle_limit.store(limit, Relaxed);
    }

    /// `deadline`, or the earlier end of the wait for another request.
    fn limited(&self, deadline: Instant) -> Instant {
        match self.idle_limit.load(Relaxed) {
            NEVER => deadline,
            limit => deadline.min(self.instant(limit)),
        }
    }

    fn start_waiting(&self, awaiting: Awaiting) {
        // Does not read the clock: what the connection waits for has often arrived before
        // `deadline` is called.
        self.waiting_since.store(NEVER, Relaxed);
        self.awaiting.store(awaiting as u8, Relaxed);
    }

    fn waiting_since(&self) -> u64 {
        let since = self.waiting_since.load(Relaxed);
        if since != NEVER {
            return since;
        }
        let now = self.now();
        self.waiting_since.store(now, Relaxed);
        now
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened_at.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn instant(&self, micros: u64) -> Instant {
        self.opened_at + Duration::from_micros(micros)
    }
}

/// A request in progress. Dropped with the response body, which ends the request.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<ConnectionState>);

impl RequestGuard {
    /// Records that hyper gets the head of the response, which it writes at once.
    pub(super) fn begin_response(&self) {
        self.0.response_begun.store(true, Relaxed);
    }

    /// Records that the response switches protocols. To be called before hyper sends it.
    pub(super) fn open_tunnel(&self) {
        self.0.is_tunnel.store(true, Relaxed);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.0.open_requests.fetch_sub(1, Relaxed) == 1 {
            self.0.start_waiting(Awaiting::Request);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::primitives::min_rate::MinRate;

    const TIMEOUTS: ClientTimeouts = ClientTimeouts {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        body_idle: Duration::from_secs(30),
        min_body_rate: None,
    };

    /// The time until the deadline in whole seconds; the clock stands still.
    fn seconds_left(state: &ConnectionState) -> Option<u64> {
        state.deadline().map(|deadline| deadline.duration_since(Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn the_timeout_depends_on_what_the_connection_waits_for() {
        let state = ConnectionState::new(Instant::now(), TIMEOUTS);
        assert_eq!((state.awaiting(), seconds_left(&state)), (Awaiting::Head, Some(10)));
        let request = state.begin_request();
        assert_eq!((state.awaiting(), seconds_left(&state)), (Awaiting::Nothing, None));
        drop(request);
        assert_eq!((state.awaiting(), seconds_left(&state)), (Awaiting::Request, Some(75)));
        tokio::time::advance(Duration::from_secs(70)).await;
        assert_eq!(seconds_left(&state), Some(5));
        state.bytes_received();
        assert_eq!((state.awaiting(), seconds_left(&state)), (Awaiting::Head, Some(10)));
        tokio::time::advance(Duration::from_secs(4)).await;
        state.bytes_received();
        assert_eq!(seconds_left(&state), Some(6), "further bytes of a head do not restart the timeout");
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_request_that_has_not_begun_is_due_at_the_header_timeout_and_not_while_draining() {
        let state = ConnectionState::new(Instant::now(), TIMEOUTS);
        state.await_first_request();
        assert_eq!((state.awaiting(), seconds_left(&state)), (Awaiting::FirstRequest, Some(10)));
        state.limit_idle_wait(Duration::from_secs(2));
        assert_eq!(seconds_left(&state), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_accepts_no_bytes_has_the_body_timeout() {
        let state = ConnectionState::new(Instant::now(), TIMEOUTS);
        let _request = state.begin_request();
        state.write_blocked();
        tokio::time::advance(Duration::from_secs(20)).await;
        state.write_blocked();
        assert_eq!(seconds_left(&state), Some(10));
        state.write_completed(1);
        assert_eq!(seconds_left(&state), None);
    }

    /// Threat DO-6: over HTTP/1.1, a response that its client reads byte by byte.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_accepts_bytes_too_slowly_has_the_grace_period() {
        let min_body_rate = NonZeroU64::new(240).map(MinRate::bytes_per_second);
        let state = ConnectionState::new(Instant::now(), ClientTimeouts { min_body_rate, ..TIMEOUTS });
        let request = state.begin_request();
        for left in (1..=5).rev() {
            state.write_blocked();
            assert_eq!(seconds_left(&state), Some(left));
            tokio::time::advance(Duration::from_secs(1)).await;
            state.write_completed(1);
        }
        state.write_blocked();
        assert_eq!(seconds_left(&state), Some(0));
        state.write_completed(240);
        state.write_blocked();
        assert_eq!(seconds_left(&state), Some(1), "bytes at the minimum rate");
        state.write_completed(1 << 20);
        state.write_blocked();
        assert_eq!(seconds_left(&state), Some(30), "never more than the idle timeout");
        tokio::time::advance(Duration::from_secs(30)).await;
        state.write_completed(0);
        drop(request);
        let _next = state.begin_request();
        state.write_blocked();
        assert_eq!(seconds_left(&state), Some(5), "the next response has its own grace period");
    }

    #[tokio::test(start_paused = true)]
    async fn all_responses_are_sent_once_the_last_one_is_flushed() {
        let state = ConnectionState::new(Instant::now(), TIMEOUTS);
        assert!(state.has_sent_all_responses());
        let request = state.begin_request();
        state.flushed();
        assert!(!state.has_sent_all_responses(), "a request is in progress");
        drop(request);
        assert!(!state.has_sent_all_responses(), "the response is not flushed yet");
        state.flushed();
        assert!(state.has_sent_all_responses());
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_idle_connection_that_has_sent_a_response_is_parked() {
        let state = ConnectionState::new(Instant::now(), TIMEOUTS);
        assert_eq!(state.park_at(), None, "it has had no request yet");
        let request = state.begin_request();
        assert_eq!(state.park_at(), None);
        drop(request);
        assert_eq!(state.park_at(), None, "the response is not flushed yet");
        state.flushed();
        let idle_since = Instant::now();
        assert_eq!(state.park_at(), Some(idle_since + PARK_AFTER));
        tokio::time::advance(Duration::from_millis(700)).await;
        assert_eq!(state.park_at(), Some(idle_since + PARK_AFTER));
        state.bytes_received();
        assert_eq!(state.park_at(), None, "a head has begun");
        let brief = ConnectionState::new(Instant::now(), ClientTimeouts { idle: Duration::from_secs(2), ..TIMEOUTS });
        drop(brief.begin_request());
        brief.flushed();
        let soon = Duration::from_millis(500);
        assert_eq!(brief.park_at(), Some(Instant::now() + soon), "long before the idle timeout, however short");
    }

    #[tokio::test(start_paused = true)]
    async fn draining_shortens_an_idle_wait() {
        let state = ConnectionState::new(Instant::now(), TIMEOUTS);
        drop(state.begin_request());
        tokio::time::advance(Duration::from_secs(1)).await;
        state.limit_idle_wait(Duration::from_secs(2));
        assert_eq!(seconds_left(&state), Some(2));
    }
}
