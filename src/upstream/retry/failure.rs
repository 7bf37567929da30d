//! Failures of sending: what hyper's errors say about a request that brought no response.

use http::Request;
use hyper::client::conn::TrySendError;

use crate::upstream::body::{BodyOutcome, RequestBody};
use crate::upstream::{Fault, ResponseFault, UpstreamError};

/// Why sending a request brought no response.
pub(in crate::upstream) struct SendFailure {
    pub(super) fault: Fault,
    /// The request, if not a byte of it was written.
    pub(super) unsent: Option<Box<Request<RequestBody>>>,
    /// Whether the server may have closed the connection before it read the request.
    pub(super) may_be_unprocessed: bool,
    /// Whether the server has refused this request alone, and serves others on the connection.
    pub(super) is_of_request: bool,
}

impl<E: Into<Fault>> From<E> for SendFailure {
    fn from(fault: E) -> Self {
        Self { fault: fault.into(), unsent: None, may_be_unprocessed: false, is_of_request: false }
    }
}

impl SendFailure {
    /// The same, for another reason.
    pub(in crate::upstream) fn with_fault(self, error: UpstreamError) -> Self {
        Self { fault: error.into(), ..self }
    }

    /// Classifies hyper's error, for a request whose body ended in `body`.
    pub(in crate::upstream) fn new(mut failed: TrySendError<Request<RequestBody>>, body: BodyOutcome) -> Self {
        let unsent = failed.take_message().map(Box::new);
        let error = failed.into_error();
        let may_be_unprocessed = error.is_incomplete_message()
            || error.is_canceled()
            || error.is_closed()
            || is_io_error(&error)
            || is_unprocessed(&error);
        let fault = match body {
            BodyOutcome::Incomplete(fault) if unsent.is_none() => Fault::Client(fault),
            // A body that the upstream's connection no longer reads is cut off by the upstream.
            BodyOutcome::Incomplete(_) | BodyOutcome::Unread | BodyOutcome::Ended(_) | BodyOutcome::InProgress => {
                UpstreamError::Failed(ResponseFault::of(&error)).into()
            }
        };
        Self { fault, unsent, may_be_unprocessed, is_of_request: is_of_request(&error) }
    }
}

fn is_io_error(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error + 'static>::is::<std::io::Error>)
}

/// Whether an HTTP/2 server has reset the stream of the request (RFC 9113 §5.4.2), or closed the
/// connection because of too many such (`ENHANCE_YOUR_CALM`). Servers do so with requests that they
/// do not like, of which a client can send any number.
fn is_of_request(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        let is_too_much = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
        error.is_remote() && (error.is_reset() || (error.is_go_away() && is_too_much))
    })
}

/// Whether an HTTP/2 server declares that it has not processed the request (RFC 9113 §8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        let shuts_down = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (shuts_down || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}
