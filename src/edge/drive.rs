//! Drives a connection: polls hyper, watches the line's deadline, and passes the word when the process drains.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::line::{Line, Waits};
use crate::primitives::alarm::Alarm;
use crate::primitives::shutdown::{Phase, Shutdown};

/// How long an idle connection may still bring a request once the process drains. A request that is already on its way would be lost to
/// a close in the same moment.
const LAST_CALL: Duration = Duration::from_secs(1);

/// A connection of hyper, of either protocol.
pub(super) trait Served {
    /// Whether it can be put together again after [`End::Idle`].
    const CAN_REST: bool;
    /// Polls it.
    fn poll_served(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<hyper::Result<()>>;
    /// Lets it finish what is under way and then close.
    fn finish(self: Pin<&mut Self>);
}

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum End {
    /// hyper is done with it, well or not.
    Done,
    /// The client has asked for nothing for a while, and may yet.
    Idle,
    /// The client let time pass while this was waited for.
    Overdue(Waits),
    /// The process stops.
    Stopped,
}

/// Serves `connection` to its end.
pub(super) async fn to_the_end<C: Served>(mut connection: Pin<&mut C>, line: &Line, shutdown: &Shutdown) -> End {
    let mut draining = shutdown.clone();
    let mut drained = pin!(async move { draining.reached(Phase::Draining).await });
    let mut stopping = shutdown.clone();
    let mut stopped = pin!(async move { stopping.reached(Phase::Stopped).await });
    let mut alarm = Alarm::default();
    let mut drain = Drain::No;
    poll_fn(move |cx| {
        if connection.as_mut().poll_served(cx).is_ready() {
            return Poll::Ready(End::Done);
        }
        if drain == Drain::No && drained.as_mut().poll(cx).is_ready() {
            line.last_call(LAST_CALL);
            drain = Drain::Asked;
        }
        if drain == Drain::Asked && line.waits() == Waits::Nothing {
            connection.as_mut().finish();
            drain = Drain::Told;
            // hyper acts on it when it is polled next.
            if connection.as_mut().poll_served(cx).is_ready() {
                return Poll::Ready(End::Done);
            }
        }
        if drain != Drain::No && stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Stopped);
        }
        // What the line waits for changes only while the connection is polled, so there is nothing to set an alarm for in between.
        let Some(deadline) = line.deadline() else { return Poll::Pending };
        let rest = if C::CAN_REST && drain == Drain::No { line.rest() } else { None };
        match rest.filter(|rest| *rest < deadline) {
            Some(rest) => alarm.poll_reached(rest, cx).map(|()| End::Idle),
            None => alarm.poll_reached(deadline, cx).map(|()| End::Overdue(line.waits())),
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
