//! Retries: how an attempt ends, and whether another one follows it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Uri};
use http_body::Body as _;
use hyper::client::conn::TrySendError;

use super::balance::Candidates;
use super::body::{BodyOutcome, RequestBody};
use super::pool::Reuse;
use super::response::UpstreamResponse;
use super::server::Server;
use super::{Fault, ResponseFault, Upstream, UpstreamError};

/// One attempt to get a response.
pub(super) struct Attempt {
    pub(super) request: Request<RequestBody>,
    /// The servers that it may go to.
    pub(super) candidates: Candidates,
    /// The connections that it may use.
    pub(super) reuse: Reuse,
    /// How long this attempt and the following ones may take to connect.
    pub(super) connect_time: Duration,
}

impl Attempt {
    pub(super) fn first(request: Request<RequestBody>, connect_time: Duration) -> Self {
        Self { request, candidates: Candidates::default(), reuse: Reuse::Allowed, connect_time }
    }
}

/// How an attempt ended.
pub(super) enum AttemptOutcome {
    Response(UpstreamResponse),
    /// Without a response, but another attempt may get one.
    Retry(Box<Attempt>),
    Failed(Fault),
}

/// An attempt that got no response.
pub(super) struct FailedAttempt {
    pub(super) failure: SendFailure,
    pub(super) connection: AttemptConnection,
    /// A copy of the request, if it may be sent twice.
    pub(super) replay: Option<Box<ReplayableRequest>>,
    /// The servers among which this one was picked.
    pub(super) candidates: Candidates,
    /// The connections that it could use.
    pub(super) reuse: Reuse,
    /// How much time is left to connect.
    pub(super) connect_time: Duration,
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
    /// No connection was available or could be opened. The request is as it was.
    pub(super) fn without_connection(error: UpstreamError, attempt: Attempt) -> Self {
        let Attempt { request, candidates, reuse, connect_time } = attempt;
        let failure = SendFailure { unsent: Some(Box::new(request)), ..error.into() };
        Self { failure, connection: AttemptConnection::None, replay: None, candidates, reuse, connect_time }
    }

    /// Whether it counts as a failure of its server. A failure to connect is counted where the
    /// connection is opened, since many requests may wait for one connection.
    pub(super) fn is_server_fault(&self) -> bool {
        match self.failure.fault {
            // A server may close an idle connection at any time. The retry shows if it is gone.
            Fault::Upstream(UpstreamError::Failed(_)) => match self.connection {
                AttemptConnection::Reused => !self.failure.may_be_unprocessed,
                AttemptConnection::New | AttemptConnection::None => true,
            },
            Fault::Upstream(UpstreamError::Timeout) => true,
            Fault::Upstream(
                UpstreamError::Busy
                | UpstreamError::DeadlineExceeded
                | UpstreamError::Unavailable { .. }
                | UpstreamError::Unreachable(_),
            )
            | Fault::Client(_) => false,
        }
    }

    /// Decides whether another attempt follows this one on `server`.
    pub(super) fn outcome(self, server: &Arc<Server>, upstream: &Upstream) -> AttemptOutcome {
        let SendFailure { fault, unsent, may_be_unprocessed } = self.failure;
        let (request, candidates, reuse) = match (self.connection, unsent, self.replay) {
            // Not a byte has reached the server, so another one may have the request, whatever its
            // method. Without another, the same request would most likely fail here again.
            (AttemptConnection::None | AttemptConnection::New, Some(unsent), _) if fault.is_of_one_server() => {
                match self.candidates.without(server, upstream.server_set()) {
                    Some(others) => (*unsent, others, self.reuse),
                    None => return AttemptOutcome::Failed(fault),
                }
            }
            // A server may close an idle connection in the same moment in which a request is sent
            // on it (RFC 9112 §9.5). That says nothing against the server, so the request stays
            // there, on a new connection. hyper returns the request only if it has written none of
            // it.
            (AttemptConnection::Reused, Some(unsent), _) => (*unsent, self.candidates.only(server), Reuse::Forbidden),
            // The server may have processed it, so it must be harmless to send twice (RFC 9110
            // §9.2.2).
            (AttemptConnection::Reused, None, Some(replay)) if may_be_unprocessed => {
                (replay.into_request(), self.candidates.only(server), Reuse::Forbidden)
            }
            (AttemptConnection::None | AttemptConnection::New, _, _) | (AttemptConnection::Reused, None, _) => {
                return AttemptOutcome::Failed(fault);
            }
        };
        AttemptOutcome::Retry(Box::new(Attempt { request, candidates, reuse, connect_time: self.connect_time }))
    }
}

/// Why sending a request brought no response.
pub(super) struct SendFailure {
    fault: Fault,
    /// The request, if not a byte of it was written.
    unsent: Option<Box<Request<RequestBody>>>,
    /// Whether the server may have closed the connection before it read the request.
    may_be_unprocessed: bool,
}

impl<E: Into<Fault>> From<E> for SendFailure {
    fn from(fault: E) -> Self {
        Self { fault: fault.into(), unsent: None, may_be_unprocessed: false }
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
        let fault = match body {
            BodyOutcome::Incomplete(fault) if unsent.is_none() => Fault::Client(fault),
            // A body that the upstream's connection no longer reads is cut off by the upstream.
            BodyOutcome::Incomplete(_) | BodyOutcome::Unread | BodyOutcome::Ended(_) | BodyOutcome::InProgress => {
                UpstreamError::Failed(ResponseFault::of(&error)).into()
            }
        };
        Self { fault, unsent, may_be_unprocessed }
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
    use crate::upstream::ConnectFault;
    use crate::upstream::balance::Balance;
    use crate::upstream::body::RequestBodyFault;
    use crate::upstream::tests::upstream;

    fn request(method: Method) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = method;
        request
    }

    fn picked(upstream: &Upstream, candidates: &Candidates) -> Arc<Server> {
        Arc::clone(upstream.pick(candidates, None).expect("a candidate is left").in_flight.server())
    }

    fn failed_attempt(fault: Fault, connection: AttemptConnection, unsent: Option<Method>) -> FailedAttempt {
        let failure =
            SendFailure { fault, unsent: unsent.map(|method| Box::new(request(method))), may_be_unprocessed: false };
        FailedAttempt {
            failure,
            connection,
            replay: None,
            candidates: Candidates::default(),
            reuse: Reuse::Allowed,
            connect_time: Duration::from_secs(2),
        }
    }

    const FAILED: Fault = Fault::Upstream(UpstreamError::Failed(ResponseFault::Closed));
    const REFUSED: Fault = Fault::Upstream(UpstreamError::Unreachable(ConnectFault::Refused));

    #[test]
    fn a_stale_connection_and_a_harmless_request_allow_a_retry_on_the_same_server() {
        use AttemptConnection::{New, Reused};
        let upstream = upstream(Balance::RoundRobin, &[1]);
        for (name, connection, method, is_unsent, may_be_unprocessed, retries) in [
            ("stale, idempotent", Reused, Method::GET, false, true, true),
            ("stale, not idempotent", Reused, Method::POST, false, true, false),
            ("stale, not idempotent, not written", Reused, Method::POST, true, true, true),
            ("not written, for another reason", Reused, Method::POST, true, false, true),
            ("not stale", Reused, Method::GET, false, false, false),
            ("a new connection to the only server", New, Method::GET, true, true, false),
        ] {
            let mut attempt = failed_attempt(FAILED, connection, is_unsent.then(|| method.clone()));
            attempt.replay = ReplayableRequest::copy_of(&request(method.clone()));
            attempt.failure.may_be_unprocessed = may_be_unprocessed;
            match (attempt.outcome(&upstream.servers()[0], &upstream), retries) {
                (AttemptOutcome::Retry(next), true) => {
                    assert_eq!(next.request.method(), method, "{name}");
                    assert_eq!(next.reuse, Reuse::Forbidden, "{name}: or there would be no last attempt");
                    assert_eq!(picked(&upstream, &next.candidates).id(), upstream.servers()[0].id(), "{name}");
                }
                (AttemptOutcome::Failed(fault), false) => assert_eq!(fault, FAILED, "{name}"),
                (AttemptOutcome::Response(_) | AttemptOutcome::Retry(_) | AttemptOutcome::Failed(_), _) => {
                    panic!("{name}: expected {}", if retries { "a retry" } else { "a failure" })
                }
            }
        }
    }

    #[test]
    fn a_request_that_was_not_sent_goes_to_each_other_server_once() {
        let upstream = upstream(Balance::LeastRequest, &[1, 2, 3]);
        let busy = Fault::Upstream(UpstreamError::Busy);
        for (fault, connection) in
            [(REFUSED, AttemptConnection::None), (busy, AttemptConnection::None), (FAILED, AttemptConnection::New)]
        {
            let mut attempt = failed_attempt(fault, connection, Some(Method::POST));
            let mut tried = Vec::new();
            loop {
                let server = picked(&upstream, &attempt.candidates);
                tried.push(server.address().port());
                match attempt.outcome(&server, &upstream) {
                    AttemptOutcome::Retry(next) => {
                        assert_eq!(next.request.method(), Method::POST, "the request is as it was");
                        attempt = FailedAttempt {
                            candidates: next.candidates,
                            ..failed_attempt(fault, connection, Some(Method::POST))
                        };
                    }
                    AttemptOutcome::Failed(last) => {
                        assert_eq!(last, fault);
                        break;
                    }
                    AttemptOutcome::Response(_) => panic!("nothing was sent"),
                }
            }
            tried.sort_unstable();
            assert_eq!(tried, [1, 2, 3], "{fault:?}");
        }
    }

    #[test]
    fn a_server_that_has_closed_a_connection_and_now_refuses_one_loses_the_request_to_another() {
        let upstream = upstream(Balance::RoundRobin, &[1, 2]);
        let [first, second] = upstream.servers() else { panic!("two servers") };
        let stale = failed_attempt(FAILED, AttemptConnection::Reused, Some(Method::POST));
        let AttemptOutcome::Retry(next) = stale.outcome(first, &upstream) else { panic!("a retry") };
        let refused = FailedAttempt::without_connection(UpstreamError::Unreachable(ConnectFault::Refused), *next);
        let AttemptOutcome::Retry(next) = refused.outcome(first, &upstream) else { panic!("another server") };
        assert_eq!(picked(&upstream, &next.candidates).id(), second.id());
    }

    #[test]
    fn a_fault_of_the_client_or_of_all_servers_allows_no_retry() {
        let upstream = upstream(Balance::RoundRobin, &[1, 2]);
        for fault in [
            Fault::Client(RequestBodyFault::Abandoned),
            Fault::Upstream(UpstreamError::Timeout),
            Fault::Upstream(UpstreamError::Unreachable(ConnectFault::LocalResources)),
        ] {
            let attempt = failed_attempt(fault, AttemptConnection::None, Some(Method::GET));
            assert!(
                matches!(attempt.outcome(&upstream.servers()[0], &upstream), AttemptOutcome::Failed(_)),
                "{fault:?}"
            );
        }
    }
}
