//! Response body: from the upstream to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::idle_timer::IdleTimer;
use super::progress::{BodyOutcome, Progress};
use crate::upstream::response::ExchangeGuard;

/// What happens to a response's trailers. An intermediary may drop them (RFC 9110 §6.5.1). gRPC
/// needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailers {
    /// Drops them.
    Drop,
    /// Forwards them.
    Pass,
}

/// The upstream's body on its way to the client. Holds the connection, and returns it to the pool
/// only after the last byte.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    idle: IdleTimer,
    trailers: Trailers,
    /// `None` once the body has ended.
    guard: Option<ExchangeGuard>,
    /// Of the request that this responds to.
    request: Progress,
}

/// Why a response body ended early. The client's connection is then aborted too, so that the client
/// does not mistake a truncated body for a complete one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseBodyError {
    /// The upstream closed the connection early or sent invalid framing.
    #[error("the upstream cut off its response")]
    CutOff,
    /// No byte for `body_idle_timeout`.
    #[error("the upstream sent nothing for too long")]
    Idle,
}

impl ResponseBody {
    pub(in crate::upstream) fn new(
        incoming: Incoming,
        guard: ExchangeGuard,
        request: Progress,
        idle_timeout: Duration,
        trailers: Trailers,
    ) -> Self {
        let mut body = Self { incoming, idle: IdleTimer::new(idle_timeout), trailers, guard: Some(guard), request };
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    /// Ends the exchange after the last byte: returns the connection, if it can be reused.
    fn end(&mut self) {
        if let Some(ExchangeGuard { lease, in_flight: _in_flight }) = self.guard.take() {
            // A request that was not sent in full leaves the connection in the middle of a message.
            // The next response on it could not be attributed to a request.
            if matches!(self.request.outcome(), BodyOutcome::Ended(_)) {
                lease.put_back();
            }
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // Nothing else would end the request's stream on an HTTP/2 connection, which stays open.
        self.request.cancel();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let this = &mut *self;
        loop {
            let frame = match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(this.idle.poll_elapsed(cx));
                    this.guard = None;
                    return Poll::Ready(Some(Err(ResponseBodyError::Idle)));
                }
            };
            this.idle.reset();
            return Poll::Ready(match frame {
                None => {
                    this.end();
                    None
                }
                Some(Err(_)) => {
                    this.guard = None;
                    Some(Err(ResponseBodyError::CutOff))
                }
                Some(Ok(frame)) if frame.is_trailers() && this.trailers == Trailers::Drop => continue,
                Some(Ok(frame)) => {
                    if this.incoming.is_end_stream() {
                        this.end();
                    }
                    Some(Ok(frame))
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
