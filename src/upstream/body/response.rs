//! Response body: from the upstream to the client.
//!
//! When the client leaves, a body that is known to be long is broken off, together with the
//! connection. Of any other the rest is read without the client (`pool/unread_response`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::idle_timer::IdleTimer;
use super::progress::{BodyOutcome, Progress};
use crate::primitives::min_rate::WaitAllowance;
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
    /// `None` once the body has ended or failed.
    rest: Option<Rest>,
    idle: IdleTimer,
    trailers: Trailers,
    /// Of the request that this responds to.
    request: Progress,
}

#[derive(Debug)]
struct Rest {
    incoming: Incoming,
    guard: ExchangeGuard,
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
        let rest = Some(Rest { incoming, guard });
        let idle = IdleTimer::new(WaitAllowance::new(None, idle_timeout));
        let mut body = Self { rest, idle, trailers, request };
        if body.is_end_stream() {
            body.end();
        }
        body
    }

    /// Ends the exchange after the last byte: returns the connection, if it can be reused.
    fn end(&mut self) {
        if let Some(Rest { guard, .. }) = self.rest.take()
            && self.is_request_sent()
        {
            guard.lease.put_back();
        }
    }

    /// A request that was not sent in full leaves the connection in the middle of a message. The
    /// next response on it could not be attributed to a request.
    fn is_request_sent(&self) -> bool {
        matches!(self.request.outcome(), BodyOutcome::Ended(_))
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        match self.rest.take() {
            Some(Rest { incoming, guard }) if self.is_request_sent() => guard.lease.leave_unread(incoming),
            Some(_) | None => {}
        }
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
            let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
            let frame = match Pin::new(&mut rest.incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(this.idle.poll_elapsed(cx));
                    this.rest = None;
                    return Poll::Ready(Some(Err(ResponseBodyError::Idle)));
                }
            };
            // An upstream has no minimum rate, so the number of bytes does not matter.
            this.idle.arrived(0);
            return Poll::Ready(match frame {
                None => {
                    this.end();
                    None
                }
                Some(Err(_)) => {
                    this.rest = None;
                    Some(Err(ResponseBodyError::CutOff))
                }
                Some(Ok(frame)) if frame.is_trailers() && this.trailers == Trailers::Drop => continue,
                Some(Ok(frame)) => {
                    if rest.incoming.is_end_stream() {
                        this.end();
                    }
                    Some(Ok(frame))
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.incoming.size_hint())
    }
}
