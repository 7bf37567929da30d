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

/// The status of a response after which the connection is a tunnel (RFC 9110 §15.2.2).
const SWITCHING_PROTOCOLS: u16 = 101;

/// Responds to a request of either protocol; `guard` is dropped with the response. `into_body`
/// makes the body that the protocol needs.
pub(super) fn respond<W>(
    gateway: &Rc<Gateway>,
    guard: RequestGuard,
    request: Request<Incoming>,
    peer: &Peer,
    into_body: W,
) -> ResponseFuture<impl Future<Output = Response<Body>> + use<W>, W> {
    ResponseFuture { response: Box::pin(gateway.handle(request, peer)), rest: Some((guard, into_body)) }
}

/// A response that the gateway is working on.
///
/// The gateway's future is boxed because hyper reserves space for this type in every connection,
/// and an idle connection must not pay for it.
#[derive(Debug)]
pub(super) struct ResponseFuture<F, W> {
    response: Pin<Box<F>>,
    rest: Option<(RequestGuard, W)>,
}

impl<F, W, B> Future for ResponseFuture<F, W>
where
    F: Future<Output = Response<Body>>,
    W: FnOnce(Body<RequestGuard>) -> B + Unpin,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.response.as_mut().poll(cx));
        let (guard, into_body) = self.rest.take().expect("a future is not polled after it has completed");
        guard.begin_response();
        if response.status().as_u16() == SWITCHING_PROTOCOLS {
            guard.open_tunnel();
        }
        Poll::Ready(Ok(response.map(|body| into_body(body.with_guard(guard)))))
    }
}
