//! The response that an HTTP/1.1 connection waits for.
//!
//! It belongs to the connection and not to the exchange. An exchange ends at any moment, when its
//! client leaves; the connection can then still wait for the response.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;

use crate::upstream::body::{BodyOutcome, Progress, RequestBody};

/// What hyper returns for a request.
pub(in crate::upstream) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// A request that was sent, as a future of its response. One allocation serves all requests of a
/// connection.
pub(in crate::upstream) struct PendingResponse {
    slot: Box<dyn SendSlot>,
    /// Of the request's body; `None` while no response is awaited.
    request: Option<Progress>,
}

impl PendingResponse {
    pub(super) fn none() -> Self {
        let start = |sender: &mut SendRequest<RequestBody>, request| sender.try_send_request(request);
        Self { slot: Box::new(Slot { start, sent: Box::pin(None) }), request: None }
    }

    /// Sends `request` with `sender`. The future resolves to its response.
    pub(in crate::upstream) fn send(
        &mut self,
        sender: &mut SendRequest<RequestBody>,
        request: Request<RequestBody>,
    ) -> Pin<&mut Self> {
        self.request = Some(request.body().progress());
        self.slot.start(sender, request);
        Pin::new(self)
    }

    /// Whether a response is awaited whose request was sent to its end. The connection can be used
    /// again after such a response.
    pub(in crate::upstream) fn is_due(&self) -> bool {
        self.request.as_ref().is_some_and(|request| matches!(request.outcome(), BodyOutcome::Ended(_)))
    }
}

impl Future for PendingResponse {
    type Output = Sent;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent> {
        let sent = ready!(self.slot.poll(cx));
        self.request = None;
        Poll::Ready(sent)
    }
}

impl fmt::Debug for PendingResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PendingResponse").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Keeps hyper's future of a response, whose type has no name.
trait SendSlot {
    fn start(&mut self, sender: &mut SendRequest<RequestBody>, request: Request<RequestBody>);
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sent>;
}

struct Slot<S, F> {
    start: S,
    sent: Pin<Box<Option<F>>>,
}

impl<S, F> SendSlot for Slot<S, F>
where
    S: Fn(&mut SendRequest<RequestBody>, Request<RequestBody>) -> F,
    F: Future<Output = Sent>,
{
    fn start(&mut self, sender: &mut SendRequest<RequestBody>, request: Request<RequestBody>) {
        self.sent.set(Some((self.start)(sender, request)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        let sent = self.sent.as_mut().as_pin_mut().expect("a response is polled after its request was sent");
        let sent = ready!(sent.poll(cx));
        self.sent.set(None);
        Poll::Ready(sent)
    }
}
