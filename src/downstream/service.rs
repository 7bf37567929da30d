//! The hyper service of both protocols: hands a request to the gateway.
//!
//! The response body carries the connection's [`RequestGuard`]: the request is over, and the
//! connection waits for its client again, when hyper drops the body.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;

use super::connection_state::RequestGuard;
use crate::gateway::response::body::Body;
use crate::gateway::{Gateway, Peer};

/// Responds to a request of either protocol; `guard` is dropped with the response.
pub(super) fn respond(
    gateway: &Rc<Gateway>,
    guard: RequestGuard,
    request: Request<Incoming>,
    peer: &Peer,
) -> ResponseFuture<impl Future<Output = Response<Body>> + use<>> {
    ResponseFuture { response: Box::pin(gateway.handle(request, peer)), guard: Some(guard) }
}

/// A response that the gateway is working on.
///
/// The gateway's future is boxed because hyper reserves space for this type in every connection,
/// and an idle connection must not pay for it.
#[derive(Debug)]
pub(super) struct ResponseFuture<F> {
    response: Pin<Box<F>>,
    guard: Option<RequestGuard>,
}

impl<F: Future<Output = Response<Body>>> Future for ResponseFuture<F> {
    type Output = Result<Response<Body<RequestGuard>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.response.as_mut().poll(cx));
        let guard = self.guard.take().expect("a future is not polled after it has completed");
        Poll::Ready(Ok(response.map(|body| body.with_guard(guard))))
    }
}
