//! Drives a connection: polls hyper, watches the line's deadline, and passes the word when the process drains.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::connection_state::{Awaiting, ConnectionState};
use crate::primitives::lazy_timer::LazyTimer;
use crate::primitives::shutdown::{Phase, Shutdown};

/// How long an idle connection may still bring a request once the process drains. A request that is already on its way would be lost to
/// a close in the same moment.
const LAST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// A connection of hyper, of either protocol.
pub(super) trait HttpConnection {
    /// Whether it can be put together again after [`ConnectionEnd::Idle`].
    const CAN_PARK: bool;
    /// Polls it.
    fn poll_connection(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<hyper::Result<()>>;
    /// Lets it close_gracefully what is under way and then close.
    fn close_gracefully(self: Pin<&mut Self>);
}

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum ConnectionEnd {
    /// hyper is done with it, well or not.
    Done,
    /// The client has asked for nothing for a while, and may yet.
    Idle,
    /// The client let time pass while this was waited for.
    Overdue(Awaiting),
    /// The process stops.
    Stopped,
}

/// Serves `connection` to its end.
pub(super) async fn serve_connection<C: HttpConnection>(
    mut connection: Pin<&mut C>,
    state: &ConnectionState,
    shutdown: &Shutdown,
) -> ConnectionEnd {
    let mut draining = shutdown.clone();
    let mut drained = pin!(async move { draining.reached(Phase::Draining).await });
    let mut stopping = shutdown.clone();
    let mut stopped = pin!(async move { stopping.reached(Phase::Stopped).await });
    let mut timer = LazyTimer::default();
    let mut drain = Drain::No;
    poll_fn(move |cx| {
        if connection.as_mut().poll_connection(cx).is_ready() {
            return Poll::Ready(ConnectionEnd::Done);
        }
        if drain == Drain::No && drained.as_mut().poll(cx).is_ready() {
            state.limit_idle_wait(LAST_REQUEST_GRACE);
            drain = Drain::Asked;
        }
        if drain == Drain::Asked && state.awaiting() == Awaiting::Nothing {
            connection.as_mut().close_gracefully();
            drain = Drain::Told;
            // hyper acts on it when it is polled next.
            if connection.as_mut().poll_connection(cx).is_ready() {
                return Poll::Ready(ConnectionEnd::Done);
            }
        }
        if drain != Drain::No && stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(ConnectionEnd::Stopped);
        }
        // What the line waits for changes only while the connection is polled, so there is nothing to set an timer for in between.
        let Some(deadline) = state.deadline() else { return Poll::Pending };
        let rest = if C::CAN_PARK && drain == Drain::No { state.park() } else { None };
        match rest.filter(|rest| *rest < deadline) {
            Some(rest) => timer.poll_reached(rest, cx).map(|()| ConnectionEnd::Idle),
            None => timer.poll_reached(deadline, cx).map(|()| ConnectionEnd::Overdue(state.awaiting())),
        }
    })
    .await
}

/// How far a connection is told that the process drains.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    /// It goes on.
    No,
    /// It may bring one more request.
    Asked,
    /// It closes after what is under way.
    Told,
}
