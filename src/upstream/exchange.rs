//! One exchange with an upstream: a request out, the head of its answer back, within `response_timeout`.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use http::response::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::body::{BodyOutcome, Progress, RequestBody, ResponseBody, Trailers};
use super::lease::{Lease, RequestSender};
use super::pool::{Pools, Reuse};
use super::server::InFlight;
use super::{HostHeader, Protocol, Upstream, UpstreamError};
use crate::primitives::lazy_timer::LazyTimer;

/// What an exchange is held to.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// The end of the whole exchange, if the route sets one.
    pub until: Option<Instant>,
    /// How long the answer's body may bring nothing.
    pub body_idle: Duration,
    /// What becomes of the answer's trailers.
    pub trailers: Trailers,
}

/// What came back: the head of the answer, and its body on the connection it came by.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// The head, as the upstream sent it.
    pub head: Parts,
    /// The body, not yet read.
    pub body: UpstreamBody,
}

/// What follows the head.
#[derive(Debug)]
pub enum UpstreamBody {
    /// A body, which ends.
    Stream(Box<ResponseBody>),
    /// A tunnel: the upstream agreed to the upgrade.
    Tunnel(Box<UpgradedConnection>),
}

/// A connection that has left HTTP.
#[derive(Debug)]
pub struct UpgradedConnection {
    /// By which hyper finds the connection.
    pub upstream: Response<Incoming>,
    /// Keeps the slot.
    pub(super) lease: Lease,
    /// Keeps the place among the requests under way.
    pub(super) in_flight: InFlight,
}

impl Upstream {
    /// Sends `outgoing` to one of the servers and waits for the head of the answer. Its target is in origin form, its head complete but for
    /// `Host` when the upstream wants its own.
    ///
    /// A connection from the pool may have been closed by the server in the same moment. Then the request is sent once more, on a new
    /// connection: if hyper says that not a byte was written, or if the method is idempotent and there is no body (RFC 9110 §9.2.2).
    ///
    /// # Errors
    ///
    /// [`UpstreamError`]; [`UpstreamError::RequestBody`] when the fault was on the client's side.
    pub async fn send(
        &self,
        pools: &Pools,
        mut outgoing: Request<RequestBody>,
        deadlines: Deadlines,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let in_flight = self.pick();
        if self.settings().host == HostHeader::Upstream {
            outgoing.headers_mut().insert(header::HOST, in_flight.server().address().authority.clone());
        }
        if self.settings().protocol == Protocol::Http2 {
            for_http_2(&mut outgoing, deadlines.trailers);
        }
        let pool = pools.for_server(in_flight.server(), self.metrics());
        let progress = outgoing.body().progress();
        let mut lease = match pool.try_acquire() {
            Some(lease) => lease,
            // Rare enough to have its future elsewhere.
            None => Box::pin(self.in_time(pool.acquire(Reuse::Allowed), deadlines)).await?,
        };
        let again = if lease.is_reused() { ReplayableRequest::copy_of(&outgoing) } else { None };
        let answered = match self.attempt(&mut lease, outgoing, &progress, deadlines.until).await {
            Err(failure) if lease.is_reused() => {
                let again = again.filter(|_| failure.stale).map(|again| again.into_request());
                let Some(outgoing) = failure.unsent.map(|unsent| *unsent).or(again) else {
                    return Err(failure.error);
                };
                self.metrics().count_retry();
                drop(lease);
                lease = Box::pin(self.in_time(pool.acquire(Reuse::Forbidden), deadlines)).await?;
                Box::pin(self.attempt(&mut lease, outgoing, &progress, deadlines.until)).await
            }
            answered => answered,
        };
        let answer = answered.map_err(|failure| failure.error)?;
        if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            let head = copy_of_head(&answer);
            let switched = UpgradedConnection { upstream: answer, lease, in_flight };
            return Ok(UpstreamResponse { head, body: UpstreamBody::Tunnel(Box::new(switched)) });
        }
        let (head, incoming) = answer.into_parts();
        let body = ResponseBody::new(incoming, (lease, in_flight), progress, deadlines.body_idle, deadlines.trailers);
        Ok(UpstreamResponse { head, body: UpstreamBody::Stream(Box::new(body)) })
    }

    /// Waits for a connection; as long as for an answer, and not beyond the end of the exchange.
    async fn in_time(
        &self,
        connection: impl Future<Output = Result<Lease, UpstreamError>>,
        deadlines: Deadlines,
    ) -> Result<Lease, UpstreamError> {
        let patience = Instant::now() + self.settings().response_timeout;
        match deadlines.until {
            Some(until) if until < patience => {
                timeout_at(until, connection).await.unwrap_or(Err(UpstreamError::Timeout))
            }
            Some(_) | None => timeout_at(patience, connection).await.unwrap_or(Err(UpstreamError::Busy)),
        }
    }

    async fn attempt(
        &self,
        lease: &mut Lease,
        outgoing: Request<RequestBody>,
        progress: &Progress,
        until: Option<Instant>,
    ) -> Result<Response<Incoming>, Failure> {
        match lease.sender() {
            RequestSender::Http1 { sender, timer } => {
                let sent = pin!(sender.try_send_request(outgoing));
                self.answer(sent, timer, progress, until).await
            }
            RequestSender::Http2 { mut sender, timer } => {
                // Boxed, so that HTTP/1.1 does not have to have room for it.
                let mut sent = Box::pin(sender.try_send_request(outgoing));
                self.answer(sent.as_mut(), timer, progress, until).await
            }
        }
    }

    /// Waits for the head of the answer to what was `sent`.
    async fn answer(
        &self,
        mut sent: Pin<&mut impl Future<Output = Sent>>,
        timer: &mut LazyTimer,
        progress: &Progress,
        until: Option<Instant>,
    ) -> Result<Response<Incoming>, Failure> {
        let timeout = self.settings().response_timeout;
        let mut deadline = Instant::now() + timeout;
        let mut sent_before = progress.bytes();
        loop {
            let in_time = poll_fn(|cx| match sent.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => {
                    let next = until.map_or(deadline, |until| until.min(deadline));
                    timer.poll_reached(next, cx).map(|()| None)
                }
            });
            let mut failed = match in_time.await {
                Some(Ok(response)) => return Ok(response),
                Some(Err(failed)) => failed,
                None if until.is_some_and(|until| until <= Instant::now()) => {
                    return Err(Failure::because(UpstreamError::Timeout));
                }
                // The time runs from the end of the request: a long upload is not a slow upstream, and has its own bound.
                None => match progress.outcome() {
                    // One that has taken nothing in all this time, though there was something to take, is.
                    BodyOutcome::InProgress if progress.bytes() == sent_before && !progress.waits_for_client() => {
                        return Err(Failure::because(UpstreamError::Timeout));
                    }
                    BodyOutcome::InProgress => {
                        sent_before = progress.bytes();
                        deadline = Instant::now() + timeout;
                        continue;
                    }
                    BodyOutcome::Ended(at) if at + timeout > deadline => {
                        deadline = at + timeout;
                        continue;
                    }
                    BodyOutcome::Ended(_) => return Err(Failure::because(UpstreamError::Timeout)),
                    BodyOutcome::Abandoned | BodyOutcome::Broken | BodyOutcome::Idle | BodyOutcome::TooLarge => {
                        return Err(Failure::because(UpstreamError::RequestBody));
                    }
                },
            };
            let unsent = failed.take_message().map(Box::new);
            let error = failed.into_error();
            tracing::debug!(%error, upstream = %self.name(), "no answer from the upstream");
            let fault = match progress.outcome() {
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
            let stale = error.is_incomplete_message()
                || error.is_canceled()
                || error.is_closed()
                || io_error(&error)
                || not_processed(&error);
            return Err(Failure { error: fault, unsent, stale });
        }
    }
}

/// What hyper says of a request that it was given.
type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// An exchange that brought no answer, and what may be done about it.
struct Failure {
    error: UpstreamError,
    /// The request, if not a byte of it was written.
    unsent: Option<Box<Request<RequestBody>>>,
    /// Whether it looks as if the server had closed the connection before it saw the request.
    stale: bool,
}

impl Failure {
    fn because(error: UpstreamError) -> Self {
        Self { error, unsent: None, stale: false }
    }
}

/// Whether an HTTP/2 server says that it has not begun with the request (RFC 9113 §8.7).
fn not_processed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        let leaves = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (leaves || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

fn io_error(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error + 'static>::is::<std::io::Error>)
}

/// Says in HTTP/2's way what the request says in HTTP/1.1's: the host is part of the target (RFC 9113 §8.3.1), nothing is said about a
/// connection (§8.2.2), and whoever wants trailers says so (RFC 9110 §10.1.4).
fn for_http_2(request: &mut Request<RequestBody>, trailers: Trailers) {
    let host = request.headers_mut().remove(header::HOST);
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        request.headers_mut().remove(name);
    }
    if trailers == Trailers::Pass {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTP);
    // A checked host is an authority; were it none, hyper would refuse the request.
    target.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
}

/// A request that may be sent twice without harm, but for its body: there is none.
struct ReplayableRequest {
    method: Method,
    target: Uri,
    headers: HeaderMap,
}

impl ReplayableRequest {
    fn copy_of(request: &Request<RequestBody>) -> Option<Box<Self>> {
        use http_body::Body as _;
        let harmless = request.method().is_idempotent() && request.body().is_end_stream();
        harmless.then(|| {
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

fn copy_of_head(response: &Response<Incoming>) -> Parts {
    let mut head = Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    head.into_parts().0
}
