//! One exchange with an upstream: sends a request, returns the response head and a body stream.
//!
//! An exchange is a loop of attempts. Each attempt picks a server, acquires a connection, sends the
//! request and waits for the response head. `retry.rs` decides whether another attempt follows.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::response::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::balance::Pick;
use super::body::{Progress, RequestBody, ResponseBody, Trailers};
use super::dialer::share_of;
use super::head_deadline::HeadDeadline;
use super::lease::{Lease, RequestSender};
use super::pool::{Pool, Pools, Reuse, Sent};
use super::response::{ExchangeGuard, UpgradedConnection, UpstreamBody, UpstreamResponse};
use super::response_framing;
use super::retry::{Attempt, AttemptConnection, AttemptOutcome, FailedAttempt, ReplayableRequest, SendFailure};
use super::server::Server;
use super::{ExchangeError, Upstream, UpstreamError, request_head};
use crate::primitives::lazy_timer::LazyTimer;

/// The options of an exchange: its time limits, and what happens to its trailers.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeOptions {
    /// The end of the whole exchange, if the route sets one.
    pub deadline: Option<Instant>,
    /// How long the response body may bring no byte.
    pub body_idle_timeout: Duration,
    /// What happens to the response's trailers.
    pub trailers: Trailers,
    /// The hash of the key that the upstream balances by; `None` if it balances by none.
    pub affinity: Option<u64>,
}

impl Upstream {
    /// Sends `request` to one of the servers and waits for the response head. The request's target
    /// is in origin form and its head is complete, except for a `Host` that names the server.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`], which says whose fault it is.
    // Neither this nor `Exchange::attempt` is an `async fn`: such a future has room for its
    // argument twice, here for a whole request.
    pub fn send<'a>(
        &'a self,
        pools: &'a Pools,
        request: Request<RequestBody>,
        options: ExchangeOptions,
    ) -> impl Future<Output = Result<UpstreamResponse, ExchangeError>> + 'a {
        let exchange = Exchange { upstream: self, pools, progress: request.body().progress(), options };
        let mut attempt = Attempt::first(request, self.settings().connect_timeout);
        let mut last_server = None;
        async move {
            loop {
                let (outcome, server) = exchange.attempt(attempt).await;
                last_server = server.or(last_server);
                match outcome {
                    AttemptOutcome::Response(response) => return Ok(response),
                    AttemptOutcome::Retry(next) => {
                        self.metrics().count_retry();
                        attempt = *next;
                    }
                    AttemptOutcome::Failed(cause) => return Err(ExchangeError { cause, server: last_server }),
                }
            }
        }
    }
}

/// What all attempts of an exchange have in common.
struct Exchange<'a> {
    upstream: &'a Upstream,
    pools: &'a Pools,
    /// Of the client's request body.
    progress: Progress,
    options: ExchangeOptions,
}

impl Exchange<'_> {
    /// Makes one attempt. Returns how it ended, and the server it was made on, if there was one.
    fn attempt(&self, mut attempt: Attempt) -> impl Future<Output = (AttemptOutcome, Option<Arc<Server>>)> {
        let Attempt { request, candidates, reuse, .. } = &mut attempt;
        let picked = self.upstream.pick(candidates, self.options.affinity).map(|pick| {
            let server = pick.in_flight.server();
            request_head::adapt(request, self.upstream.settings(), server.address(), self.options.trailers);
            let pool = self.pools.for_server(server, self.upstream.metrics());
            let ready = match reuse {
                Reuse::Allowed => pool.try_acquire(),
                Reuse::Forbidden => None,
            };
            (pick, pool, ready)
        });
        async move {
            let (Pick { in_flight, probe }, pool, ready) = match picked {
                Ok(picked) => picked,
                Err(unavailable) => return (AttemptOutcome::Failed(unavailable.into()), None),
            };
            let server = Arc::clone(in_flight.server());
            let mut lease = match ready {
                Some(lease) => lease,
                // Boxed, so that the common case does not pay for the size of this future.
                None => match Box::pin(self.acquire(&pool, &server, &mut attempt)).await {
                    Ok(lease) => lease,
                    Err(error) => {
                        let failed = FailedAttempt::without_connection(error, attempt);
                        return (failed.outcome(&server, self.upstream), Some(server));
                    }
                },
            };
            let Attempt { request, candidates, reuse, connect_time } = attempt;
            let (connection, replay) = if lease.is_reused() {
                (AttemptConnection::Reused, ReplayableRequest::copy_of(&request))
            } else {
                (AttemptConnection::New, None)
            };
            let sent = match self.send_on(&mut lease, request).await {
                Ok(mut response) => match response_framing::check(&mut response) {
                    Ok(()) => Ok(response),
                    Err(fault) => Err(UpstreamError::Failed(fault).into()),
                },
                Err(failure) => Err(failure),
            };
            let outcome = match sent {
                Ok(response) => {
                    server.health().note_response(response.status().as_u16());
                    AttemptOutcome::Response(self.upstream_response(response, ExchangeGuard { lease, in_flight }))
                }
                Err(failure) => {
                    let failed = FailedAttempt { failure, connection, replay, candidates, reuse, connect_time };
                    if failed.is_server_fault() {
                        server.health().note_failure();
                    }
                    failed.outcome(&server, self.upstream)
                }
            };
            // Once its outcome is noted, another request may try.
            drop(probe);
            (outcome, Some(server))
        }
    }

    /// Waits for a connection: at most `response_timeout`, and not beyond the end of the exchange.
    /// Takes the time to connect from that of `attempt`.
    async fn acquire(&self, pool: &Pool, server: &Arc<Server>, attempt: &mut Attempt) -> Result<Lease, UpstreamError> {
        let started = Instant::now();
        let deadline = started + self.upstream.settings().response_timeout;
        let (deadline, expired) = match self.options.deadline {
            Some(end) if end < deadline => (end, UpstreamError::DeadlineExceeded),
            Some(_) | None => (deadline, UpstreamError::Busy),
        };
        let connect_time =
            share_of(attempt.connect_time, attempt.candidates.has_other_than(server, self.upstream.server_set()));
        let acquired = timeout_at(deadline, pool.acquire(attempt.reuse, connect_time)).await.unwrap_or(Err(expired));
        attempt.connect_time = attempt.connect_time.saturating_sub(started.elapsed().min(connect_time));
        acquired
    }

    /// Sends `request` and waits for the response head.
    async fn send_on(
        &self,
        lease: &mut Lease,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendFailure> {
        match lease.sender() {
            RequestSender::Http1 { sender, pending, timer } => {
                self.response_head(pending.send(sender, request), timer).await
            }
            RequestSender::Http2 { mut sender, timer } => {
                // Boxed, so that HTTP/1.1 does not pay for the size of this future.
                let mut sent = Box::pin(sender.try_send_request(request));
                self.response_head(sent.as_mut(), timer).await
            }
        }
    }

    /// Waits for the head of the response to the request that was `sent`.
    async fn response_head(
        &self,
        mut sent: Pin<&mut impl Future<Output = Sent>>,
        timer: &mut LazyTimer,
    ) -> Result<Response<Incoming>, SendFailure> {
        let timeout = self.upstream.settings().response_timeout;
        let mut deadline = HeadDeadline::new(&self.progress, timeout, self.options.deadline);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(sent) = sent.as_mut().poll(cx) {
                    return Poll::Ready(sent.map_err(|failed| self.send_failure(failed)));
                }
                ready!(timer.poll_reached(deadline.next(), cx));
                if let Err(expired) = deadline.extend() {
                    return Poll::Ready(Err(expired.into()));
                }
            }
        })
        .await
    }

    fn send_failure(&self, failed: TrySendError<Request<RequestBody>>) -> SendFailure {
        tracing::debug!(error = %failed.error(), upstream = %self.upstream.name(), "the upstream sent no response");
        SendFailure::new(failed, self.progress.outcome())
    }

    fn upstream_response(&self, response: Response<Incoming>, guard: ExchangeGuard) -> UpstreamResponse {
        let server = Arc::clone(guard.in_flight.server());
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            let head = copy_of_head(&response);
            let upgraded = UpgradedConnection { response, guard };
            return UpstreamResponse { head, body: UpstreamBody::Tunnel(Box::new(upgraded)), server };
        }
        let (head, incoming) = response.into_parts();
        let ExchangeOptions { body_idle_timeout, trailers, .. } = self.options;
        let body = ResponseBody::new(incoming, guard, self.progress.clone(), body_idle_timeout, trailers);
        UpstreamResponse { head, body: UpstreamBody::Stream(Box::new(body)), server }
    }
}

/// hyper needs the 101 response itself in order to find the connection.
fn copy_of_head(response: &Response<Incoming>) -> Parts {
    let mut head = Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    head.into_parts().0
}
