//! One exchange with an upstream: a request out, the head of its answer back, within `response_timeout`.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::balance::InFlight;
use super::body::{Fate, Progress, RequestBody, ResponseBody, Trailers};
use super::pool::{Freshness, Lease, Pools};
use super::{HostHeader, Upstream, UpstreamError};
use crate::primitives::alarm::Alarm;

/// What goes to an upstream.
#[derive(Debug)]
pub struct Outgoing {
    /// As the client sent it.
    pub method: Method,
    /// Path and query, in origin form.
    pub target: Uri,
    /// Complete but for `Host` when the upstream wants its own.
    pub headers: HeaderMap,
    /// Streams.
    pub body: RequestBody,
}

/// What came back: the head of the answer, and its body on the connection it came by.
#[derive(Debug)]
pub struct Answer {
    /// The head, as the upstream sent it.
    pub response: Response<()>,
    /// The body, not yet read.
    pub body: AnswerBody,
}

/// What follows the head.
#[derive(Debug)]
pub enum AnswerBody {
    /// A body, which ends.
    Stream(ResponseBody),
    /// A tunnel: the upstream agreed to the upgrade. The lease keeps the slot.
    Tunnel(Response<Incoming>, Lease, InFlight),
}

impl Upstream {
    /// Sends `outgoing` to one of the servers and waits for the head of the answer.
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
        mut outgoing: Outgoing,
        body_idle_timeout: Duration,
        trailers: Trailers,
    ) -> Result<Answer, UpstreamError> {
        let in_flight = self.pick();
        if self.settings().host == HostHeader::Upstream {
            outgoing.headers.insert(header::HOST, in_flight.server().address().authority.clone());
        }
        let pool = pools.of(in_flight.server(), self.metrics());
        let progress = outgoing.body.progress();
        let mut lease = match pool.take_ready() {
            Some(lease) => lease,
            // Rare enough to have its future elsewhere.
            None => Box::pin(within(self.settings().response_timeout, pool.take(Freshness::Any))).await?,
        };
        let again = if lease.reused() { repeatable(&outgoing) } else { None };
        let sent = lease.sender().try_send_request(request(outgoing));
        let answer = match self.answer(sent, lease.alarm(), &progress).await {
            Ok(answer) => answer,
            Err(failure) if lease.reused() => {
                let again = again.filter(|_| failure.stale).map(request);
                let Some(outgoing) = failure.unsent.map(|unsent| *unsent).or(again) else {
                    return Err(failure.error);
                };
                self.metrics().retried();
                drop(lease);
                lease = Box::pin(within(self.settings().response_timeout, pool.take(Freshness::New))).await?;
                let sent = lease.sender().try_send_request(outgoing);
                Box::pin(self.answer(sent, lease.alarm(), &progress)).await.map_err(|failure| failure.error)?
            }
            Err(failure) => return Err(failure.error),
        };
        if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            let head = copy_of_head(&answer);
            return Ok(Answer { response: head, body: AnswerBody::Tunnel(answer, lease, in_flight) });
        }
        let (parts, incoming) = answer.into_parts();
        let body = ResponseBody::new(incoming, (lease, in_flight), progress, body_idle_timeout, trailers);
        Ok(Answer { response: Response::from_parts(parts, ()), body: AnswerBody::Stream(body) })
    }

    /// Waits for the head of the answer to what was `sent`.
    async fn answer(
        &self,
        sent: impl Future<Output = Sent>,
        alarm: &mut Alarm,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Failure> {
        let mut answer = pin!(sent);
        let timeout = self.settings().response_timeout;
        let mut deadline = Instant::now() + timeout;
        let mut sent_before = progress.bytes();
        loop {
            let in_time = poll_fn(|cx| match answer.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => alarm.poll_reached(deadline, cx).map(|()| None),
            });
            let mut sent = match in_time.await {
                Some(Ok(response)) => return Ok(response),
                Some(Err(failed)) => failed,
                // The time runs from the end of the request: a long upload is not a slow upstream, and has its own bound.
                None => match progress.fate() {
                    // One that has taken nothing in all this time, though there was something to take, is.
                    Fate::Underway if progress.bytes() == sent_before && !progress.waits_for_client() => {
                        return Err(Failure::because(UpstreamError::Timeout));
                    }
                    Fate::Underway => {
                        sent_before = progress.bytes();
                        deadline = Instant::now() + timeout;
                        continue;
                    }
                    Fate::Ended(at) if at + timeout > deadline => {
                        deadline = at + timeout;
                        continue;
                    }
                    Fate::Ended(_) => return Err(Failure::because(UpstreamError::Timeout)),
                    Fate::Abandoned | Fate::Broken | Fate::Idle | Fate::TooLarge => {
                        return Err(Failure::because(UpstreamError::RequestBody));
                    }
                },
            };
            let unsent = sent.take_message().map(Box::new);
            let error = sent.into_error();
            tracing::debug!(%error, upstream = %self.name(), "no answer from the upstream");
            let fault = match progress.fate() {
                Fate::Abandoned | Fate::Broken | Fate::Idle | Fate::TooLarge if unsent.is_none() => {
                    UpstreamError::RequestBody
                }
                Fate::Abandoned | Fate::Broken | Fate::Idle | Fate::TooLarge | Fate::Ended(_) | Fate::Underway => {
                    UpstreamError::Failed
                }
            };
            let stale = error.is_incomplete_message() || error.is_canceled() || error.is_closed() || io_error(&error);
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

fn io_error(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error + 'static>::is::<std::io::Error>)
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, UpstreamError>>) -> Result<T, UpstreamError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(UpstreamError::Busy))
}

fn request(outgoing: Outgoing) -> Request<RequestBody> {
    let mut request = Request::new(outgoing.body);
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = outgoing.target;
    *request.headers_mut() = outgoing.headers;
    request
}

/// The same request once more, if sending it twice does no harm.
fn repeatable(outgoing: &Outgoing) -> Option<Outgoing> {
    use http_body::Body as _;
    let harmless = outgoing.method.is_idempotent() && outgoing.body.is_end_stream();
    harmless.then(|| Outgoing {
        method: outgoing.method.clone(),
        target: outgoing.target.clone(),
        headers: outgoing.headers.clone(),
        body: RequestBody::empty(),
    })
}

fn copy_of_head(response: &Response<Incoming>) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    head
}
