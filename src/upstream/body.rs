//! Bodies on their way through: streamed, bounded, and never without a byte for too long.
//!
//! [`RequestBody`] goes from the client to the upstream, [`ResponseBody`] back. Neither collects anything: a frame is passed on when it
//! arrives. What a body's end means for others (may the connection be used again? why did the request break off?) is in
//! [`BodyOutcome`], which both sides of an exchange share on their worker.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::exchange::ExchangeGuard;
use crate::primitives::lazy_timer::LazyTimer;

/// What has become of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyOutcome {
    /// All of it was passed on, at this moment.
    Ended(Instant),
    /// Its framing was wrong.
    Broken,
    /// The client left in the middle of it.
    Abandoned,
    /// No byte for `body_idle_timeout`.
    Idle,
    /// More bytes than the route allows.
    TooLarge,
    /// Still on its way.
    InProgress,
}

/// Shared by the request's body and those who wait for the answer.
#[derive(Clone, Debug)]
pub struct Progress(Rc<Shared>);

struct Shared {
    outcome: Cell<BodyOutcome>,
    bytes: Cell<u64>,
    waits_for_client: Cell<bool>,
    /// Of whoever polls the body, while it waits for the client.
    waker: Cell<Option<Waker>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("outcome", &self.outcome)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Progress {
    fn begin(outcome: BodyOutcome) -> Self {
        let (outcome, bytes, waits_for_client) = (Cell::new(outcome), Cell::new(0), Cell::new(false));
        Self(Rc::new(Shared { outcome, bytes, waits_for_client, waker: Cell::new(None) }))
    }

    /// What has become of the body.
    #[must_use]
    pub fn outcome(&self) -> BodyOutcome {
        self.0.outcome.get()
    }

    /// Bytes passed on so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Whether it is the client that keeps everybody waiting, rather than the upstream, which takes no more.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        self.0.waits_for_client.get()
    }

    /// Breaks off what is still under way: the answer is complete or given up, and nobody wants the rest.
    fn give_up(&self) {
        if self.outcome() == BodyOutcome::InProgress {
            self.settle(BodyOutcome::Broken);
            if let Some(waker) = self.0.waker.take() {
                waker.wake();
            }
        }
    }

    fn settle(&self, outcome: BodyOutcome) {
        // The first end is the reason; what follows is only its echo.
        if self.outcome() == BodyOutcome::InProgress {
            self.0.outcome.set(outcome);
        }
    }
}

/// The bound on a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxBody {
    /// At most so many bytes.
    Bytes(u64),
    /// As many as come.
    Unlimited,
}

/// The client's body on its way to the upstream. Trailers are dropped: nothing that a route's rules or the header rules judge comes behind
/// the body, and nothing else that matters does; not in gRPC either, where only answers have trailers.
///
/// Two words long, since a request is handed on often and most have no body.
#[derive(Debug)]
pub struct RequestBody {
    passing: Option<Box<Passing>>,
    progress: Progress,
}

#[derive(Debug)]
struct Passing {
    incoming: Incoming,
    left: MaxBody,
    idle: IdleTimer,
}

/// Whether an answer's trailers go on (RFC 9110 §6.5.1 lets an intermediary drop them; gRPC cannot do without).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailers {
    /// Dropped.
    Drop,
    /// Passed on.
    Pass,
}

/// The request's body broke off; [`Progress::outcome`] says why.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request body broke off")]
pub struct RequestBodyError;

impl RequestBody {
    /// Passes `incoming` on, at most `max` bytes of it.
    #[must_use]
    pub fn new(incoming: Incoming, max: MaxBody, idle_timeout: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let passing = Passing { incoming, left: max, idle: IdleTimer::new(idle_timeout) };
        Self { passing: Some(Box::new(passing)), progress: Progress::begin(BodyOutcome::InProgress) }
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self { passing: None, progress: Progress::begin(BodyOutcome::Ended(Instant::now())) }
    }

    /// The view of those who wait for the answer.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn end(&mut self, outcome: BodyOutcome) {
        self.passing = None;
        self.progress.settle(outcome);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = &mut *self;
        loop {
            let passing = match (this.passing.as_deref_mut(), this.progress.outcome()) {
                (Some(passing), BodyOutcome::InProgress) => passing,
                (_, BodyOutcome::Ended(_)) => return Poll::Ready(None),
                // Also when it was given up from outside, while there is still somebody to take more of it from.
                (
                    _,
                    BodyOutcome::Abandoned
                    | BodyOutcome::Broken
                    | BodyOutcome::Idle
                    | BodyOutcome::TooLarge
                    | BodyOutcome::InProgress,
                ) => {
                    return Poll::Ready(Some(Err(RequestBodyError)));
                }
            };
            let frame = match Pin::new(&mut passing.incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    this.progress.0.waits_for_client.set(true);
                    this.progress.0.waker.set(Some(cx.waker().clone()));
                    ready!(passing.idle.poll_elapsed(cx));
                    this.end(BodyOutcome::Idle);
                    continue;
                }
            };
            passing.idle.rest();
            this.progress.0.waits_for_client.set(false);
            match frame {
                None => this.end(BodyOutcome::Ended(Instant::now())),
                Some(Err(error)) => {
                    this.end(if is_malformed(&error) { BodyOutcome::Broken } else { BodyOutcome::Abandoned })
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let length = data.remaining() as u64;
                        if let MaxBody::Bytes(left) = &mut passing.left {
                            let Some(rest) = left.checked_sub(length) else {
                                this.end(BodyOutcome::TooLarge);
                                continue;
                            };
                            *left = rest;
                        }
                        this.progress.0.bytes.set(this.progress.bytes() + length);
                        if passing.incoming.is_end_stream() {
                            this.end(BodyOutcome::Ended(Instant::now()));
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(_trailers) => {}
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.progress.outcome(), BodyOutcome::Ended(_))
    }

    fn size_hint(&self) -> SizeHint {
        self.passing.as_ref().map_or_else(|| SizeHint::with_exact(0), |passing| passing.incoming.size_hint())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // Dropped by the upstream's connection before its end: nobody reads it any more.
        self.progress.settle(BodyOutcome::Broken);
    }
}

/// Whether the client wrote chunks that are none, rather than broke off: hyper's decoder calls that invalid input or data.
fn is_malformed(error: &hyper::Error) -> bool {
    use std::io::{self, ErrorKind};
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| matches!(source.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData))
}

/// The upstream's body on its way to the client. Holds the connection, and gives it back only after its last byte.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    idle: IdleTimer,
    trailers: Trailers,
    /// The connection, and the request's place in the server's count: it is under way until its answer has ended.
    held: Option<ExchangeGuard>,
    request: Progress,
}

/// Why an upstream's body broke off. The client's connection is then broken off too: it must not take a part for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseBodyError {
    /// The upstream closed early or broke its framing.
    #[error("the upstream broke its answer off")]
    CutOff,
    /// No byte for `body_idle_timeout`.
    #[error("the upstream sent nothing for too long")]
    Idle,
}

impl ResponseBody {
    pub(super) fn new(
        incoming: Incoming,
        held: ExchangeGuard,
        request: Progress,
        idle_timeout: Duration,
        trailers: Trailers,
    ) -> Self {
        let mut body = Self { incoming, idle: IdleTimer::new(idle_timeout), trailers, held: Some(held), request };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body
    }

    fn give_back(&mut self) {
        if let Some(ExchangeGuard { lease, in_flight: _in_flight }) = self.held.take() {
            // A request that is not fully sent leaves bytes of its body on the connection: the next answer would not be ours.
            if matches!(self.request.outcome(), BodyOutcome::Ended(_)) {
                lease.put_back();
            }
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // On a connection that many share, nothing else would end the request's stream.
        self.request.give_up();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let this = &mut *self;
        loop {
            let frame = match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(this.idle.poll_elapsed(cx));
                    this.held = None;
                    return Poll::Ready(Some(Err(ResponseBodyError::Idle)));
                }
            };
            this.idle.rest();
            return Poll::Ready(match frame {
                None => {
                    this.give_back();
                    None
                }
                Some(Err(_)) => {
                    this.held = None;
                    Some(Err(ResponseBodyError::CutOff))
                }
                Some(Ok(frame)) if frame.is_trailers() && this.trailers == Trailers::Drop => continue,
                Some(Ok(frame)) => {
                    if this.incoming.is_end_stream() {
                        this.give_back();
                    }
                    Some(Ok(frame))
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A timer that runs only while nothing arrives: a body that flows never touches it.
#[derive(Debug)]
struct IdleTimer {
    timeout: Duration,
    since: Option<Instant>,
    timer: LazyTimer,
}

impl IdleTimer {
    fn new(timeout: Duration) -> Self {
        Self { timeout, since: None, timer: LazyTimer::default() }
    }

    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.timer.poll_reached(since + self.timeout, cx)
    }

    fn rest(&mut self) {
        self.since = None;
    }
}
