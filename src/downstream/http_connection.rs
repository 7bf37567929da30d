//! Serves a hyper connection of either protocol: polls it, enforces the client timeouts and drains
//! it when the process shuts down.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::sleep;

use super::connection_context::ConnectionContext;
use super::connection_state::Awaiting;
use super::idle_connections::IdleWatch;
use crate::primitives::lazy_timer::LazyTimer;
use crate::primitives::shutdown::{Phase, Shutdown};

/// How long an idle connection stays open for one more request once the process drains. The client
/// may have sent a request already, which would be lost if the connection were closed at once.
const LAST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Resolves when the process drains and an idle connection can no longer send a request.
pub(super) async fn last_request_grace_over(mut shutdown: Shutdown) {
    shutdown.reached(Phase::Draining).await;
    sleep(LAST_REQUEST_GRACE).await;
}

/// A connection of hyper, of either protocol.
pub(super) trait HttpConnection {
    /// Whether the caller can take the connection apart after [`ConnectionEnd::Idle`] and serve its
    /// socket again later.
    const CAN_PARK: bool;
    /// Whether only the head of a response can announce that the connection closes: the field
    /// `Connection: close` of HTTP/1.1 (RFC 9112 §9.6), unlike GOAWAY of HTTP/2.
    const HEAD_ANNOUNCES_CLOSE: bool;
    /// Polls the connection. Ready when hyper has finished with it.
    fn poll_connection(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    /// Makes hyper finish the requests in progress and then close. Takes effect at the next poll.
    fn close_gracefully(self: Pin<&mut Self>);
}

/// Why [`serve_connection`] has returned.
#[derive(Debug)]
pub(super) enum ConnectionEnd {
    /// hyper has finished with the connection, with or without an error.
    Finished,
    /// The client has sent no request for a while; the connection is still open.
    Idle,
    /// The process stops.
    Stopped,
    /// The client did not act in time. Holds what the connection was waiting for.
    TimedOut(Awaiting),
}

/// Serves `connection` until it ends or can be parked.
pub(super) async fn serve_connection<C: HttpConnection>(
    mut connection: Pin<&mut C>,
    context: &ConnectionContext,
) -> ConnectionEnd {
    let ConnectionContext { state, idle, shutdown, .. } = context;
    let mut idle = IdleWatch::new(idle.clone());
    let mut draining = shutdown.clone();
    let mut draining = pin!(async move { draining.reached(Phase::Draining).await });
    let mut stopped = shutdown.clone();
    let mut stopped = pin!(async move { stopped.reached(Phase::Stopped).await });
    let mut timer = LazyTimer::default();
    let mut drain = Drain::NotStarted;
    let end = poll_fn(move |cx| {
        if connection.as_mut().poll_connection(cx).is_ready() {
            return Poll::Ready(ConnectionEnd::Finished);
        }
        if drain == Drain::NotStarted && draining.as_mut().poll(cx).is_ready() {
            drain = Drain::Responding;
        }
        // A client that does not know that the connection closes may send another request with the
        // last byte of the response.
        if drain == Drain::Responding && !(C::HEAD_ANNOUNCES_CLOSE && state.is_responding()) {
            state.limit_idle_wait(LAST_REQUEST_GRACE);
            drain = Drain::AwaitingLastRequest;
        }
        if drain == Drain::AwaitingLastRequest && state.awaiting() == Awaiting::Nothing {
            connection.as_mut().close_gracefully();
            drain = Drain::Closing;
            if connection.as_mut().poll_connection(cx).is_ready() {
                return Poll::Ready(ConnectionEnd::Finished);
            }
        }
        if drain != Drain::NotStarted && stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(ConnectionEnd::Stopped);
        }
        // A parked connection is listed by the code that parks it. A limit on connections cuts the
        // idle timeout short.
        if !C::CAN_PARK && idle.poll_closed(state.park_at(), cx).is_ready() {
            return Poll::Ready(ConnectionEnd::TimedOut(Awaiting::Request));
        }
        // The deadline changes only while hyper is polled, so it needs to be looked at only here.
        let Some(deadline) = state.deadline() else { return Poll::Pending };
        let park_at = if C::CAN_PARK && drain == Drain::NotStarted { state.park_at() } else { None };
        match park_at.filter(|park_at| *park_at < deadline) {
            Some(park_at) => timer.poll_reached(park_at, cx).map(|()| ConnectionEnd::Idle),
            None => timer.poll_reached(deadline, cx).map(|()| ConnectionEnd::TimedOut(state.awaiting())),
        }
    })
    .await;
    // Then the client does not read its response.
    if let ConnectionEnd::TimedOut(Awaiting::Nothing) = end {
        context.metrics.count_slow_response();
    }
    end
}

/// How far draining the connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    /// The process is not draining.
    NotStarted,
    /// The process drains, and a response may have begun that has not announced it.
    Responding,
    /// The process drains, and the connection is idle: the client may send one more request.
    AwaitingLastRequest,
    /// hyper closes the connection after the requests in progress.
    Closing,
}
