//! The streams of one HTTP/2 connection: runs the task of each, and ends one whose client does not
//! take its response.
//!
//! Over HTTP/1.1 such a client blocks its socket, which the
//! [`ConnectionState`](super::connection_state::ConnectionState) sees. Over HTTP/2 it leaves the
//! window of one stream closed and keeps the connection alive. hyper then waits for the window,
//! with a part of the response in hand, and polls the body no more: no timer inside the body would
//! fire. So the timer belongs to the stream's task, around hyper's part of it. Dropping that part
//! resets the stream and releases what it holds.
//!
//! It also counts the streams that a client cancels. A request that is reset at once costs its
//! client next to nothing, and no limit on concurrent streams applies to it. A tunnel that ends
//! before the upstream has sent anything counts as cancelled, however its client closes it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, timeout};

use super::connection_state::RequestGuard;
use super::http_connection::last_request_grace_over;
use crate::gateway::response::body::{Body, TunnelUse};
use crate::gateway::response::body_error::BodyError;
use crate::gateway::runtime::ClientTimeouts;
use crate::primitives::lazy_timer::LazyTimer;
use crate::primitives::min_rate::WaitAllowance;
use crate::primitives::shutdown::Shutdown;
use crate::telemetry::metrics::ConnectionMetrics;

/// How many more exchanges a client may cancel than an upstream completes for it. A page that is
/// left cancels what it has in progress, and completes others before.
const MAX_CANCELLED: u32 = 100;

/// How long a client may take for the rest of a tunnel that has ended.
const TUNNEL_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the streams of one connection share.
pub(super) struct Streams {
    timeouts: ClientTimeouts,
    metrics: ConnectionMetrics,
    shutdown: Shutdown,
    /// The request that hyper has passed to the service and whose task it will start next.
    starting: Cell<Option<Rc<StreamProgress>>>,
    /// How many more exchanges the client may cancel now: each costs one, and each that an
    /// upstream completes gives one back, up to [`MAX_CANCELLED`].
    cancellations_left: Cell<u32>,
    cancellations_exceeded: Cell<bool>,
    /// The response that opens the tunnel whose task hyper starts next.
    opening_tunnel: Cell<Option<Body<RequestGuard>>>,
}

impl Streams {
    /// Of a connection that resets a stream whose client accepts no part of the response for
    /// `body_idle`, or takes it more slowly than `min_body_rate`.
    pub(super) fn new(timeouts: ClientTimeouts, metrics: ConnectionMetrics, shutdown: Shutdown) -> Rc<Self> {
        Rc::new(Self {
            timeouts,
            metrics,
            shutdown,
            starting: Cell::new(None),
            cancellations_left: Cell::new(MAX_CANCELLED),
            cancellations_exceeded: Cell::new(false),
            opening_tunnel: Cell::new(None),
        })
    }

    /// Begins a stream. hyper must start the stream's task before it begins the next one.
    pub(super) fn begin(&self) -> Rc<StreamProgress> {
        let progress = Rc::new(StreamProgress::default());
        self.starting.set(Some(Rc::clone(&progress)));
        progress
    }

    /// Serves the connection with `serve` while its client does not cancel too many exchanges.
    /// Returns `None` once it has; it may then cancel as many again.
    pub(super) async fn while_within_limit<T>(&self, serve: impl Future<Output = T>) -> Option<T> {
        let mut serve = pin!(serve);
        poll_fn(|cx| match serve.as_mut().poll(cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            // The end of a stream wakes the connection's task.
            Poll::Pending if self.cancellations_exceeded.take() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn exchange_ended(&self, progress: &StreamProgress) {
        if progress.complete.get() && !progress.is_past_call_deadline.get() {
            // A refusal costs the client nothing either, so it earns nothing.
            if progress.is_upstreams.get() {
                self.count_completed();
            }
        } else {
            self.count_cancelled();
        }
    }

    fn tunnel_ended(&self, used: TunnelUse) {
        match used {
            TunnelUse::Answered => self.count_completed(),
            TunnelUse::Unanswered => self.count_cancelled(),
        }
    }

    fn count_completed(&self) {
        self.cancellations_left.set(MAX_CANCELLED.min(self.cancellations_left.get() + 1));
    }

    fn count_cancelled(&self) {
        if let Some(left) = self.cancellations_left.get().checked_sub(1) {
            self.cancellations_left.set(left);
        } else {
            self.cancellations_left.set(MAX_CANCELLED);
            self.cancellations_exceeded.set(true);
        }
    }
}

/// How far the response of a stream has come. Shared by its body and its task.
#[derive(Debug, Default)]
pub(super) struct StreamProgress {
    stage: Cell<Stage>,
    /// The bytes that hyper has taken since the stream's task last asked; `None` if it did not ask
    /// for more.
    taken: Cell<Option<u64>>,
    /// Whether hyper has had the whole body, or the gateway has broken it off.
    complete: Cell<bool>,
    /// Whether the response is an upstream's.
    is_upstreams: Cell<bool>,
    /// Whether the deadline that the client has set for its call has ended the exchange. It resets
    /// the upstream's stream as a cancellation does.
    is_past_call_deadline: Cell<bool>,
}

/// What a stream waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The response, or the next part of its body.
    #[default]
    Gateway,
    /// The client: hyper has a part of an upstream's body.
    ClientTakesUpstreamBody,
    /// The client: hyper has the whole body, which the gateway itself has written.
    ClientTakesOwnBody,
}

/// A response body over HTTP/2, which reports its progress to the stream's task.
#[derive(Debug)]
pub(super) struct StreamBody {
    /// `None` for a response that opens a tunnel, which has none.
    body: Option<Body<RequestGuard>>,
    progress: Rc<StreamProgress>,
}

impl StreamBody {
    pub(super) fn new(body: Body<RequestGuard>, progress: Rc<StreamProgress>, streams: &Streams) -> Self {
        progress.complete.set(body.is_end_stream());
        progress.is_upstreams.set(body.is_stream());
        progress.is_past_call_deadline.set(body.is_past_call_deadline());
        if body.opens_tunnel() {
            // hyper drops the body of such a response at once, and the request is not over yet.
            streams.opening_tunnel.set(Some(body));
            return Self { body: None, progress };
        }
        Self { body: Some(body), progress }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body: Some(body), progress } = &mut *self else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        let length = match &frame {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Poll::Ready(Some(Err(_)) | None) | Poll::Pending => 0,
        };
        progress.taken.set(Some(progress.taken.get().unwrap_or(0) + length));
        progress.stage.set(match (frame.is_pending(), body.is_stream()) {
            (true, _) => Stage::Gateway,
            (false, true) => Stage::ClientTakesUpstreamBody,
            (false, false) => Stage::ClientTakesOwnBody,
        });
        if let Poll::Ready(frame) = &frame {
            let has_more = matches!(frame, Some(Ok(frame)) if frame.is_data()) && !body.is_end_stream();
            progress.complete.set(!has_more);
            progress.is_past_call_deadline.set(body.is_past_call_deadline());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Runs the tasks of a connection's streams on its thread.
#[derive(Clone)]
pub(super) struct StreamExecutor(pub(super) Rc<Streams>);

impl<F: Future<Output = ()> + Unpin + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, task: F) {
        let Self(streams) = self;
        match streams.starting.take() {
            Some(progress) => {
                let (streams, stall) = (Rc::clone(streams), Stall::new(streams.timeouts));
                tokio::task::spawn_local(StreamTask { stream: Some(task), progress, stall, streams });
            }
            // Without a response that opens a tunnel, the task is dropped, which resets the stream.
            None => {
                if let Some(response) = streams.opening_tunnel.take() {
                    let streams = Rc::clone(streams);
                    tokio::task::spawn_local(async move { streams.tunnel_ended(run_tunnel(task, response).await) });
                }
            }
        }
    }
}

/// Runs the task that sends the bytes of a tunnel to the client. `response` opened the tunnel, and
/// its request is over when both have ended.
///
/// The task goes on until the client has taken all bytes. A client that takes none would keep it
/// for as long as its connection, so it has a second once the tunnel has ended; then the stream is
/// reset.
async fn run_tunnel(mut sending: impl Future<Output = ()> + Unpin, mut response: Body<RequestGuard>) -> TunnelUse {
    let mut ended = pin!(response.tunnel_ended());
    tokio::select! {
        () = &mut sending => {
            // The tunnel waits for this before it ends: it is how hyper says that all is sent.
            drop(sending);
            ended.await
        }
        used = &mut ended => {
            let _ = timeout(TUNNEL_CLOSE_TIMEOUT, sending).await;
            used
        }
    }
}

/// The task of one stream.
struct StreamTask<F> {
    /// hyper's part: waits for the response and sends it. `None` once it has ended.
    stream: Option<F>,
    progress: Rc<StreamProgress>,
    stall: Stall,
    streams: Rc<Streams>,
}

impl<F: Future<Output = ()> + Unpin> Future for StreamTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { stream, progress, stall, streams } = &mut *self;
        let Some(running) = stream else { return Poll::Ready(()) };
        let polled = Pin::new(running).poll(cx);
        // Still there if hyper could not send the response, because the client has reset the
        // stream.
        if streams.opening_tunnel.take().is_some() {
            progress.complete.set(false);
        }
        if polled.is_pending() {
            if stall.poll_elapsed(progress, streams, cx).is_pending() {
                return Poll::Pending;
            }
            streams.metrics.count_slow_response();
        }
        // Resets the stream if it has not ended. h2 then wakes the connection's task, whose idle
        // timeout may begin with the end of this request.
        *stream = None;
        streams.exchange_ended(progress);
        Poll::Ready(())
    }
}

/// How long a client has not taken what hyper has for it.
struct Stall {
    allowance: WaitAllowance,
    since: Option<Instant>,
    timer: LazyTimer,
    /// While the process drains, a response of the gateway's own has no longer than another request
    /// would have. They are small: a client that has no window for one is not waiting for it.
    draining: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Stall {
    fn new(timeouts: ClientTimeouts) -> Self {
        let allowance = WaitAllowance::new(timeouts.min_body_rate, timeouts.body_idle);
        Self { allowance, since: None, timer: LazyTimer::default(), draining: None }
    }

    /// Ready when the client has had its time. To be polled after hyper's part of the stream, so
    /// that hyper has polled the body if it can use more of it.
    fn poll_elapsed(&mut self, progress: &StreamProgress, streams: &Streams, cx: &mut Context<'_>) -> Poll<()> {
        let stage = progress.stage.get();
        if let Some(bytes) = progress.taken.take() {
            if let Some(since) = self.since.take() {
                self.allowance.subtract(since.elapsed());
            }
            self.allowance.add(bytes);
            self.draining = None;
        }
        if stage == Stage::Gateway {
            return Poll::Pending;
        }
        if stage == Stage::ClientTakesOwnBody {
            let draining =
                self.draining.get_or_insert_with(|| Box::pin(last_request_grace_over(streams.shutdown.clone())));
            if draining.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.timer.poll_reached(since + self.allowance.remaining(), cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::clock::Clock;
    use crate::primitives::shutdown::{self, Phase};
    use crate::telemetry::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn only_a_response_of_the_gateways_own_is_given_up_early_while_the_process_drains() {
        const TIMEOUT: Duration = Duration::from_secs(30);
        let timeouts = ClientTimeouts { header: TIMEOUT, idle: TIMEOUT, body_idle: TIMEOUT, min_body_rate: None };
        for (stage, phase, seconds) in [
            (Stage::ClientTakesOwnBody, Phase::Running, 30),
            (Stage::ClientTakesOwnBody, Phase::Draining, 1),
            (Stage::ClientTakesUpstreamBody, Phase::Draining, 30),
        ] {
            let (trigger, shutdown) = shutdown::channel();
            trigger.advance(phase);
            let metrics = Metrics::new(Clock::system()).connections().clone();
            let streams = Streams::new(timeouts, metrics, shutdown);
            let (progress, mut stall, start) = (StreamProgress::default(), Stall::new(timeouts), Instant::now());
            progress.stage.set(stage);
            poll_fn(|cx| stall.poll_elapsed(&progress, &streams, cx)).await;
            assert_eq!(start.elapsed().as_secs(), seconds, "{stage:?}, {phase:?}");
        }
    }
}
