//! A response body over HTTP/2 with a timeout for a client that stops reading it.
//!
//! Over HTTP/1.1 such a client blocks its socket, which the
//! [`ConnectionState`](super::connection_state::ConnectionState) sees. Over HTTP/2 it leaves the
//! window of one stream closed and keeps the connection alive. hyper then stops polling the body,
//! so that a timer inside the body would never fire, while the body holds an upstream connection. A
//! separate task therefore watches it.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::connection_state::RequestGuard;
use crate::gateway::response::body::{Body, BodyError};

/// A response body that is dropped when its client has not read from it for the stall timeout.
///
/// Only a body that holds an upstream connection is watched; any other costs no task.
#[derive(Debug)]
pub(super) struct StallTimeoutBody {
    shared: Rc<Shared>,
    /// The task that watches the body. Aborted with it, because there are many bodies and the
    /// timeout is long.
    watchdog: Option<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    /// `None` once the stall timeout has dropped the body.
    body: RefCell<Option<Body<RequestGuard>>>,
    last_poll: Cell<Instant>,
    /// Whether the last poll found no data: then the body waits for the upstream, not for the
    /// client.
    awaits_upstream: Cell<bool>,
}

impl StallTimeoutBody {
    pub(super) fn new(body: Body<RequestGuard>, timeout: Duration) -> Self {
        let is_watched = body.is_stream() && !body.is_end_stream();
        let (body, last_poll) = (RefCell::new(Some(body)), Cell::new(Instant::now()));
        let shared = Rc::new(Shared { body, last_poll, awaits_upstream: Cell::new(false) });
        let watchdog = is_watched.then(|| {
            let watchdog = drop_when_stalled(Rc::downgrade(&shared), timeout);
            tokio::task::spawn_local(watchdog).abort_handle()
        });
        Self { shared, watchdog }
    }
}

impl Drop for StallTimeoutBody {
    fn drop(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
    }
}

async fn drop_when_stalled(shared: Weak<Shared>, timeout: Duration) {
    let mut check_at = Instant::now() + timeout;
    loop {
        sleep_until(check_at).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.awaits_upstream.get() {
            check_at = Instant::now() + timeout;
        } else if shared.last_poll.get().elapsed() >= timeout {
            // Taken out first, so that the cell is not borrowed while the body is dropped.
            let stalled = shared.body.borrow_mut().take();
            drop(stalled);
            return;
        } else {
            check_at = shared.last_poll.get() + timeout;
        }
    }
}

impl http_body::Body for StallTimeoutBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let shared = &self.shared;
        let mut body = shared.body.borrow_mut();
        let Some(body) = body.as_mut() else { return Poll::Ready(Some(Err(BodyError::ClientStalled))) };
        let frame = Pin::new(body).poll_frame(cx);
        shared.last_poll.set(Instant::now());
        shared.awaits_upstream.set(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.shared.body.borrow().as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.body.borrow().as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}
