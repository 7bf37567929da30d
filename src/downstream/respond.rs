//! An answer's body that keeps its exchange open: the connection is waiting for the client again only when the body is gone.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::connection_state::RequestGuard;
use crate::gateway::response::body::{Body, Broken};
use crate::gateway::{Gateway, Peer};

/// Answers a request of either protocol; `exchange` lasts as long as the answer.
pub(super) fn answer(
    gateway: &Rc<Gateway>,
    exchange: RequestGuard,
    request: Request<Incoming>,
    peer: &Peer,
) -> Answering<impl Future<Output = Response<Body>> + use<>> {
    Answering { answered: Box::pin(gateway.handle(request, peer)), exchange: Some(exchange) }
}

/// An answer that is being made.
///
/// Boxed: hyper keeps a place for it with every connection, and an idle one should not pay for it.
#[derive(Debug)]
pub(super) struct Answering<F> {
    answered: Pin<Box<F>>,
    exchange: Option<RequestGuard>,
}

impl<F: Future<Output = Response<Body>>> Future for Answering<F> {
    type Output = Result<Response<Tracked>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.answered.as_mut().poll(cx));
        let exchange = self.exchange.take();
        Poll::Ready(Ok(response.map(|body| Tracked { body, _exchange: exchange })))
    }
}

impl Tracked {
    /// Whether it holds an upstream's connection.
    pub(super) fn is_stream(&self) -> bool {
        self.body.is_stream()
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Tracked {
    body: Body,
    _exchange: Option<RequestGuard>,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
