//! An answer's body over HTTP/2 that is given up when its client takes nothing of it.
//!
//! Over HTTP/1.1 a client that takes no bytes blocks its socket, which the [`line`](super::line) sees. Over HTTP/2 it closes one stream's
//! window and keeps the connection alive: hyper then asks for no more of the body, and no timer inside the body would ever be looked at,
//! while the body holds an upstream's connection. So somebody looks from outside.

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
use crate::gateway::response::body::{Body, Broken};

/// See the module's text.
#[derive(Debug)]
pub(super) struct StallTimeoutBody {
    shared: Rc<Shared>,
    /// Ends with the body: there are many bodies, and timeout is long.
    watch: Option<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    /// Gone once the client's timeout with us is ours with it.
    body: RefCell<Option<Body<RequestGuard>>>,
    asked: Cell<Instant>,
    /// Whether it was asked and had nothing yet: then it is not the client who is waited for.
    waits_for_upstream: Cell<bool>,
}

impl StallTimeoutBody {
    pub(super) fn new(body: Body<RequestGuard>, timeout: Duration) -> Self {
        let watch = body.is_stream() && !body.is_end_stream();
        let (body, asked, waits_for_upstream) = (RefCell::new(Some(body)), Cell::new(Instant::now()), Cell::new(false));
        let shared = Rc::new(Shared { body, asked, waits_for_upstream });
        let watch = watch.then(|| give_up_after(Rc::downgrade(&shared), timeout));
        let watch = watch.map(|watch| tokio::task::spawn_local(watch).abort_handle());
        Self { shared, watch }
    }
}

impl Drop for StallTimeoutBody {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

async fn give_up_after(shared: Weak<Shared>, timeout: Duration) {
    let mut look_at = Instant::now() + timeout;
    loop {
        sleep_until(look_at).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.waits_for_upstream.get() {
            look_at = Instant::now() + timeout;
        } else if shared.asked.get().elapsed() >= timeout {
            let given_up = shared.body.borrow_mut().take();
            drop(given_up);
            return;
        } else {
            look_at = shared.asked.get() + timeout;
        }
    }
}

impl http_body::Body for StallTimeoutBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let shared = &self.shared;
        let mut body = shared.body.borrow_mut();
        let Some(body) = body.as_mut() else { return Poll::Ready(Some(Err(Broken::NotTaken))) };
        let frame = Pin::new(body).poll_frame(cx);
        shared.asked.set(Instant::now());
        shared.waits_for_upstream.set(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.shared.body.borrow().as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.body.borrow().as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}
