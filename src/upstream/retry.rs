//! Retries: how an attempt ends, and whether another one follows it.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::UpstreamError;
use super::balance::Candidates;
use super::body::{BodyOutcome, RequestBody};
use super::pool::Reuse;
use super::response::UpstreamResponse;
use super::server::Server;

/// One attempt to get a response.
pub(super) struct Attempt {
    pub(super) request: Request<RequestBody>,
    /// The servers that it may go to.
    pub(super) candidates: Candidates,
    /// The connections that it may use.
    pub(super) reuse: Reuse,
}

impl Attempt {
    pub(super) fn first(request: Request<RequestBody>) -> Self {
        Self { request, candidates: Candidates::All, reuse: Reuse::Allowed }
    }
}

/// How an attempt ended.
pub(super) enum AttemptOutcome {
    Response(UpstreamResponse),
    /// Without a response, but another attempt may get one.
    Retry(Box<Attempt>),
    Failed(UpstreamError),
}

/// An attempt that got no response.
pub(super) struct FailedAttempt {
    pub(super) failure: SendFailure,
    pub(super) connection: AttemptConnection,
    /// A copy of the request, if it may be sent twice.
    pub(super) replay: Option<Box<ReplayableRequest>>,
}

/// What an attempt was made on.
#[derive(Clone, Copy, Debug)]
pub(super) enum AttemptConnection {
    /// It got no connection.
    None,
    /// A connection that had carried no request before.
    New,
    /// A connection that had carried a request before.
    Reused,
}

impl FailedAttempt {
    /// No connection was available or could be opened.
    pub(super) fn without_connection(error: UpstreamError) -> Self {
        Self { failure: error.into(), connection: AttemptConnection::None, replay: None }
    }

    /// Decides whether another attempt follows this one on `server`.
    pub(super) fn outcome(self, server: &Arc<Server>) -> AttemptOutcome {
        let SendFailure { error, unsent, may_be_unprocessed } = self.failure;
        let request = match self.connection {
            // The fault is the server's, not that of an old connection. The same request would most
            // likely fail there again.
            AttemptConnection::None | AttemptConnection::New => return AttemptOutcome::Failed(error),
            // A server may close an idle connection in the same moment in which a request is sent
            // on it (RFC 9112 §9.5). The next attempt gets a new connection, so it is the last.
            AttemptConnection::Reused => match (unsent, self.replay) {
                // hyper returns the request only if it has written none of it.
                (Some(unsent), _) => *unsent,
                // The server may have processed it, so it must be harmless to send twice (RFC 9110
                // §9.2.2).
                (None, Some(replay)) if may_be_unprocessed => replay.into_request(),
                (None, Some(_) | None) => return AttemptOutcome::Failed(error),
            },
        };
        // A closed connection says nothing against its server, so the request stays there.
        let candidates = Candidates::Only(Arc::clone(server));
        AttemptOutcome::Retry(Box::new(Attempt { request, candidates, reuse: Reuse::Forbidden }))
    }
}

/// What hyper returns for a request.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Why sending a request brought no response.
pub(super) struct SendFailure {
    error: UpstreamError,
    /// The request, if not a byte of it was written.
    unsent: Option<Box<Request<RequestBody>>>,
    /// Whether the server may have closed the connection before it read the request.
    may_be_unprocessed: bool,
}

impl From<UpstreamError> for SendFailure {
    fn from(error: UpstreamError) -> Self {
        Self { error, unsent: None, may_be_unprocessed: false }
    }
}

impl SendFailure {
    /// Classifies hyper's error, for a request whose body ended in `body`.
    pub(super) fn new(mut failed: TrySendError<Request<RequestBody>>, body: BodyOutcome) -> Self {
        let unsent = failed.take_message().map(Box::new);
        let error = failed.into_error();
        let may_be_unprocessed = error.is_incomplete_message()
            || error.is_canceled()
            || error.is_closed()
            || is_io_error(&error)
            || is_unprocessed(&error);
        let error = match body {
            BodyOutcome::Abandoned | BodyOutcome::Broken | BodyOutcome::Idle | BodyOutcome::TooLarge
                if unsent.is_none() =>
            {
                UpstreamError::RequestBody
            }
            BodyOutcome::Abandoned
            | BodyOutcome::Broken
            | BodyOutcome::Idle
            | BodyOutcome::TooLarge
            | BodyOutcome::Ended(_)
            | BodyOutcome::InProgress => UpstreamError::Failed,
        };
        Self { error, unsent, may_be_unprocessed }
    }
}

fn is_io_error(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error + 'static>::is::<std::io::Error>)
}

/// Whether an HTTP/2 server declares that it has not processed the request (RFC 9113 §8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        let shuts_down = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (shuts_down || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// A copy of a request that may be sent twice: its method is idempotent and it has no body.
pub(super) struct ReplayableRequest {
    method: Method,
    target: Uri,
    headers: HeaderMap,
}

impl ReplayableRequest {
    pub(super) fn copy_of(request: &Request<RequestBody>) -> Option<Box<Self>> {
        let is_replayable = request.method().is_idempotent() && request.body().is_end_stream();
        is_replayable.then(|| {
            Box::new(Self {
                method: request.method().clone(),
                target: request.uri().clone(),
                headers: request.headers().clone(),
            })
        })
    }

    fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target;
        *request.headers_mut() = self.headers;
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::balance::Balance;
    use crate::upstream::tests::upstream;

    fn request(method: Method) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = method;
        request
    }

    #[test]
    fn only_a_stale_connection_and_a_harmless_request_allow_a_retry() {
        use AttemptConnection::{New, None as NoConnection, Reused};
        let upstream = upstream(Balance::RoundRobin, &[1]);
        for (name, connection, method, is_unsent, may_be_unprocessed, retries) in [
            ("stale, idempotent", Reused, Method::GET, false, true, true),
            ("stale, not idempotent", Reused, Method::POST, false, true, false),
            ("stale, not idempotent, not written", Reused, Method::POST, true, true, true),
            ("not written, for another reason", Reused, Method::POST, true, false, true),
            ("not stale", Reused, Method::GET, false, false, false),
            ("a new connection", New, Method::GET, true, true, false),
            ("no connection", NoConnection, Method::GET, false, false, false),
        ] {
            let replay = ReplayableRequest::copy_of(&request(method.clone()));
            let unsent = is_unsent.then(|| Box::new(request(method.clone())));
            let failure = SendFailure { error: UpstreamError::Failed, unsent, may_be_unprocessed };
            match (FailedAttempt { failure, connection, replay }.outcome(&upstream.servers()[0]), retries) {
                (AttemptOutcome::Retry(next), true) => {
                    assert_eq!(next.request.method(), method, "{name}");
                    assert_eq!(next.reuse, Reuse::Forbidden, "{name}: or there would be no last attempt");
                    assert!(matches!(next.candidates, Candidates::Only(_)), "{name}");
                }
                (AttemptOutcome::Failed(error), false) => assert_eq!(error, UpstreamError::Failed, "{name}"),
                (AttemptOutcome::Response(_) | AttemptOutcome::Retry(_) | AttemptOutcome::Failed(_), _) => {
                    panic!("{name}: expected {}", if retries { "a retry" } else { "a failure" })
                }
            }
        }
    }
}
