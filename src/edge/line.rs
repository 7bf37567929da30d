//! The state of a connection: what it is waiting for, and until when it may.
//!
//! Shared by three: the [`wire`](super::wire) under hyper, which sees bytes; the requests, which come and go; and the loop that
//! [drives](super::drive) the connection and holds the one timer. All on one thread, but hyper wants what it holds to be `Send`, so the
//! cells are atomics that nobody contends for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::runtime::Bounds;

/// What a connection waits for from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Waits {
    /// The rest of a request head.
    Head,
    /// The next request.
    Request,
    /// Nothing of the client: a request is being answered.
    Nothing,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Line {
    opened: Instant,
    bounds: Bounds,
    waits: AtomicU8,
    /// Since when, in microseconds after `opened`; `NEVER` until somebody asks.
    since: AtomicU64,
    /// Since when the client takes no bytes; `NEVER` while it does.
    blocked: AtomicU64,
    /// Until when a next request may come at the latest; `NEVER` while not drained.
    last_call: AtomicU64,
    exchanges: AtomicU32,
    /// Whether everything that was answered has reached the socket.
    settled: AtomicBool,
}

const NEVER: u64 = u64::MAX;

/// How long a connection without a request is kept as it is, or a quarter of what it may be idle. Clients that are busy ask sooner.
const REST_AFTER: Duration = Duration::from_secs(1);

impl Line {
    /// A connection that was opened at `opened` and owes a request head since.
    pub(super) fn new(opened: Instant, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            opened,
            bounds,
            waits: AtomicU8::new(Waits::Head as u8),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(NEVER),
            last_call: AtomicU64::new(NEVER),
            exchanges: AtomicU32::new(0),
            settled: AtomicBool::new(true),
        })
    }

    /// What it waits for.
    pub(super) fn waits(&self) -> Waits {
        match self.waits.load(Relaxed) {
            0 => Waits::Head,
            1 => Waits::Request,
            _ => Waits::Nothing,
        }
    }

    /// Whether no request is being answered and all answers are out: what is written now is hyper's own.
    pub(super) fn is_quiet(&self) -> bool {
        self.exchanges.load(Relaxed) == 0 && self.settled.load(Relaxed)
    }

    /// Bytes came in. The first ones after an answer begin the next head.
    pub(super) fn received(&self) {
        if self.waits() == Waits::Request {
            self.wait(Waits::Head);
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
        if self.exchanges.load(Relaxed) == 0 {
            self.settled.store(true, Relaxed);
        }
    }

    /// A request has come; the exchange lasts until the value is dropped.
    pub(super) fn exchange(self: &Arc<Self>) -> Exchange {
        self.exchanges.fetch_add(1, Relaxed);
        self.settled.store(false, Relaxed);
        self.waits.store(Waits::Nothing as u8, Relaxed);
        Exchange(Arc::clone(self))
    }

    /// When its patience ends, if it waits for the client at all. To be asked whenever the connection has been looked after: what it waits
    /// for, it waits for since then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since = |micros: u64| self.opened + Duration::from_micros(micros);
        let waiting = match self.waits() {
            Waits::Head => Some(since(self.since()) + self.bounds.header),
            Waits::Request => {
                let idle = since(self.since()) + self.bounds.idle;
                Some(match self.last_call.load(Relaxed) {
                    NEVER => idle,
                    at => idle.min(since(at)),
                })
            }
            Waits::Nothing => None,
        };
        let blocked = match self.blocked.load(Relaxed) {
            NEVER => None,
            at => Some(since(at) + self.bounds.body_idle),
        };
        waiting.into_iter().chain(blocked).min()
    }

    /// From when on an idle connection rests, if it is idle and everything that was answered is out.
    pub(super) fn rest(&self) -> Option<Instant> {
        let idle = self.waits() == Waits::Request && self.is_quiet();
        idle.then(|| self.opened + Duration::from_micros(self.since()) + REST_AFTER.min(self.bounds.idle / 4))
    }

    /// Waits for a last request no longer than `patience` from now: before a drained connection is closed.
    pub(super) fn last_call(&self, patience: Duration) {
        let latest = self.now() + u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        self.last_call.store(latest, Relaxed);
    }

    fn wait(&self, waits: Waits) {
        // What it waits for mostly comes in the same turn: then nobody asks, and the clock is not read.
        self.since.store(NEVER, Relaxed);
        self.waits.store(waits as u8, Relaxed);
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
pub(super) struct Exchange(Arc<Line>);

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.0.exchanges.fetch_sub(1, Relaxed) == 1 {
            self.0.wait(Waits::Request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { header: Duration::from_secs(10), idle: Duration::from_secs(75), body_idle: Duration::from_secs(30) };

    /// In whole seconds; the clock stands still.
    fn patience(line: &Line) -> Option<u64> {
        line.deadline().map(|deadline| deadline.duration_since(Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn patience_depends_on_what_is_waited_for() {
        let line = Line::new(Instant::now(), BOUNDS);
        assert_eq!((line.waits(), patience(&line)), (Waits::Head, Some(10)));
        let exchange = line.exchange();
        assert_eq!((line.waits(), patience(&line)), (Waits::Nothing, None));
        drop(exchange);
        assert_eq!((line.waits(), patience(&line)), (Waits::Request, Some(75)));
        tokio::time::advance(Duration::from_secs(70)).await;
        assert_eq!(patience(&line), Some(5));
        line.received();
        assert_eq!((line.waits(), patience(&line)), (Waits::Head, Some(10)));
        tokio::time::advance(Duration::from_secs(4)).await;
        line.received();
        assert_eq!(patience(&line), Some(6), "later bytes of a head give no new patience");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_bytes_is_given_the_body_time() {
        let line = Line::new(Instant::now(), BOUNDS);
        let _exchange = line.exchange();
        line.is_blocked();
        tokio::time::advance(Duration::from_secs(20)).await;
        line.is_blocked();
        assert_eq!(patience(&line), Some(10));
        line.wrote();
        assert_eq!(patience(&line), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_with_all_answers_out_is_quiet() {
        let line = Line::new(Instant::now(), BOUNDS);
        assert!(line.is_quiet());
        let exchange = line.exchange();
        line.flushed();
        assert!(!line.is_quiet(), "a request is being answered");
        drop(exchange);
        assert!(!line.is_quiet(), "the answer is not out yet");
        line.flushed();
        assert!(line.is_quiet());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_quiet_connection_that_has_had_an_answer_rests() {
        let line = Line::new(Instant::now(), BOUNDS);
        assert_eq!(line.rest(), None, "it has not asked for anything yet");
        let exchange = line.exchange();
        assert_eq!(line.rest(), None);
        drop(exchange);
        assert_eq!(line.rest(), None, "the answer is not out yet");
        line.flushed();
        let since = Instant::now();
        assert_eq!(line.rest(), Some(since + REST_AFTER));
        tokio::time::advance(Duration::from_millis(700)).await;
        assert_eq!(line.rest(), Some(since + REST_AFTER));
        line.received();
        assert_eq!(line.rest(), None, "a head has begun");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_call_shortens_an_idle_wait() {
        let line = Line::new(Instant::now(), BOUNDS);
        drop(line.exchange());
        tokio::time::advance(Duration::from_secs(1)).await;
        line.last_call(Duration::from_secs(2));
        assert_eq!(patience(&line), Some(2));
    }
}
