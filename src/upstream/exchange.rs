//! One exchange with an upstream: sends a request, returns the response head and a body stream.
//!
//! An exchange is a loop of attempts. Each attempt picks a server, acquires a connection, sends the
//! request and waits for the response head. `retry/` decides whether another attempt follows.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::UPGRADE;
use http::response::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::balance::Pick;
use super::body::{BodyOutcome, Progress, RequestBody, ResponseBody, Trailers};
use super::dialer::share_of;
use super::head_deadline::HeadDeadline;
use super::lease::{Lease, RequestSender};
use super::pool::{Pool, Pools, Reuse, Sent, Versions};
use super::request_head::{self, HeadOptions};
use super::response::{ExchangeGuard, UpgradedConnection, UpstreamBody, UpstreamResponse};
use super::response_framing;
use super::retry::{
    self, Attempt, AttemptConnection, AttemptOptions, AttemptOutcome, FailedAttempt, RetryCondition, SendFailure,
};
use super::server::Server;
use super::{ConnectFault, ExchangeError, Fault, Protocol, Upstream, UpstreamError};
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
        self.retry_budget.note_request();
        let exchange = Exchange { upstream: self, pools, options, first_deadline: Cell::new(None) };
        // Held until the response: what can be sent again has its body in memory for so long.
        let buffer_permit = self.buffer_permit(&request);
        let is_expired = exchange.options.deadline.is_some_and(|deadline| deadline <= Instant::now());
        let mut attempt = Attempt::first(request, self);
        let mut last_server = None;
        async move {
            if is_expired {
                // The server would only begin something that is reset at once.
                return Err(ExchangeError { cause: UpstreamError::DeadlineExceeded.into(), server: None });
            }
            if buffer_permit.is_some() {
                let body = Box::pin(exchange.buffer(std::mem::take(attempt.request.body_mut()))).await;
                *attempt.request.body_mut() = body.map_err(|cause| ExchangeError { cause, server: None })?;
            }
            loop {
                let (outcome, server) = exchange.attempt(attempt).await;
                last_server = server.or(last_server);
                match outcome {
                    AttemptOutcome::Response(response) => return Ok(response),
                    AttemptOutcome::Retry(next, reason) => {
                        self.metrics().count_retry(reason);
                        attempt = *next;
                    }
                    AttemptOutcome::Failed(cause) => return Err(ExchangeError { cause, server: last_server }),
                }
            }
        }
    }
}

impl Upstream {
    /// Permission to hold the body of `request` in memory; `None` if it is not buffered, or if so
    /// many bodies are that there is no room for another one.
    fn buffer_permit(&self, request: &Request<RequestBody>) -> Option<SemaphorePermit<'_>> {
        let length = self.settings().retry.buffered_length(request)?;
        self.buffer_space.try_acquire_many(u32::try_from(length).ok()?).ok()
    }
}

/// What all attempts of an exchange have in common.
struct Exchange<'a> {
    upstream: &'a Upstream,
    pools: &'a Pools,
    options: ExchangeOptions,
    /// Until when the first server that received the request had time to respond.
    first_deadline: Cell<Option<Instant>>,
}

impl Exchange<'_> {
    /// Makes one attempt. Returns how it ended, and the server it was made on, if there was one.
    fn attempt(&self, mut attempt: Attempt) -> impl Future<Output = (AttemptOutcome, Option<Arc<Server>>)> {
        let Attempt { request, options: AttemptOptions { candidates, reuse, .. } } = &mut attempt;
        let picked = self.upstream.pick(candidates, self.options.affinity).map(|pick| {
            let server = pick.in_flight.server();
            let pool = self.pools.for_server(server, self.upstream.metrics());
            let ready = match reuse {
                Reuse::Allowed => pool.try_acquire(self.versions(request)),
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
            let head = HeadOptions { version: lease.version(), trailers: self.options.trailers };
            request_head::adapt(&mut attempt.request, self.upstream.settings(), server.address(), head);
            let Attempt { request, options } = attempt;
            // How long the client takes for the rest of its body says nothing about the server.
            let probe = probe.filter(|_| request.body().is_end_stream());
            let connection = if lease.is_reused() { AttemptConnection::Reused } else { AttemptConnection::New };
            let replay = options.replay_of(&request, connection, &server, self.upstream);
            let progress = request.body().progress();
            let head_deadline = self.head_deadline(&progress, &options);
            let sent = match self.send_on(&mut lease, request, head_deadline).await {
                Ok(mut response) => match response_framing::check(&mut response) {
                    Ok(()) => Ok(response),
                    Err(fault) => Err(UpstreamError::Failed(fault).into()),
                },
                Err(failure) => Err(failure),
            };
            let outcome = match sent {
                Ok(response) => {
                    server.health().note_response(response.status().as_u16());
                    self.note_unavailable(&server, &response);
                    let response = self.upstream_response(response, ExchangeGuard { lease, in_flight }, progress);
                    // The response of a request that is sent again is dropped, which frees its
                    // connection.
                    match retry::after_response(response.head.status.as_u16(), replay, options, &server, self.upstream)
                    {
                        Some((next, reason)) => AttemptOutcome::Retry(next, reason),
                        None => AttemptOutcome::Response(response),
                    }
                }
                Err(failure) => {
                    let failure = match lease.rejection() {
                        Some(fault) => {
                            server.health().note_rejection();
                            failure.with_fault(UpstreamError::Unreachable(ConnectFault::Tls(fault)))
                        }
                        None => failure,
                    };
                    let failed = FailedAttempt { failure, connection, replay, options };
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

    /// Which protocols `request` may be sent in, where the server chooses.
    fn versions(&self, request: &Request<RequestBody>) -> Versions {
        let chooses = self.upstream.settings().protocol == Protocol::Negotiated;
        if chooses && request.headers().contains_key(UPGRADE) { Versions::Http1Only } else { Versions::Any }
    }

    /// Waits for a connection: at most `response_timeout`, and not beyond the end of the exchange.
    /// Takes the time to connect from that of `attempt`.
    async fn acquire(&self, pool: &Pool, server: &Arc<Server>, attempt: &mut Attempt) -> Result<Lease, UpstreamError> {
        let versions = self.versions(&attempt.request);
        let options = &mut attempt.options;
        let started = Instant::now();
        let deadline = started + self.upstream.settings().response_timeout;
        let (deadline, expired) = match self.end_of(options) {
            Some(end) if end < deadline => (end, UpstreamError::DeadlineExceeded),
            Some(_) | None => (deadline, UpstreamError::Busy),
        };
        let connect_time =
            share_of(options.connect_time, options.candidates.has_other_than(server, &self.upstream.server_set()));
        let acquired = pool.acquire(versions, options.reuse, connect_time);
        let acquired = timeout_at(deadline, acquired).await.unwrap_or(Err(expired));
        options.connect_time = options.connect_time.saturating_sub(started.elapsed().min(connect_time));
        acquired
    }

    /// Reads the whole body of a request, so that it can be sent again.
    async fn buffer(&self, body: RequestBody) -> Result<RequestBody, Fault> {
        let buffered = body.buffer();
        let buffered = match self.options.deadline {
            Some(deadline) => timeout_at(deadline, buffered).await.map_err(|_| UpstreamError::DeadlineExceeded)?,
            None => buffered.await,
        };
        buffered.map_err(Fault::Client)
    }

    /// When an attempt must have ended. A request that is sent again has no more time than if the
    /// first server had responded in time.
    fn end_of(&self, attempt: &AttemptOptions) -> Option<Instant> {
        let first = self.first_deadline.get().filter(|_| attempt.is_replay);
        [self.options.deadline, first].into_iter().flatten().min()
    }

    /// How long to wait for the response to a request that is sent now.
    fn head_deadline<'b>(&self, progress: &'b Progress, attempt: &AttemptOptions) -> HeadDeadline<'b> {
        let end = self.end_of(attempt);
        let deadline = HeadDeadline::new(progress, self.upstream.settings().response_timeout, end);
        if self.first_deadline.get().is_none() {
            self.first_deadline.set(Some(deadline.next()));
        }
        deadline
    }

    /// A server that answers 503 and says for how long gets no requests meanwhile, if the upstream
    /// takes a 503 as a statement about the server. By default it may be about the request alone,
    /// and a client that provokes such responses must not be able to block a server.
    fn note_unavailable(&self, server: &Server, response: &Response<Incoming>) {
        if response.status() == StatusCode::SERVICE_UNAVAILABLE
            && self.upstream.settings().retry.has(RetryCondition::Unavailable)
            && let Some(time) = retry::retry_after(response.headers())
        {
            server.pause(time);
        }
    }

    /// Sends `request` and waits for the response head.
    async fn send_on(
        &self,
        lease: &mut Lease,
        request: Request<RequestBody>,
        deadline: HeadDeadline<'_>,
    ) -> Result<Response<Incoming>, SendFailure> {
        match lease.sender() {
            RequestSender::Http1 { sender, pending, timer } => {
                self.response_head(pending.send(sender, request), timer, deadline).await
            }
            RequestSender::Http2 { mut sender, timer } => {
                // Boxed, so that HTTP/1.1 does not pay for the size of this future.
                let mut sent = Box::pin(sender.try_send_request(request));
                self.response_head(sent.as_mut(), timer, deadline).await
            }
        }
    }

    /// Waits for the head of the response to the request that was `sent`.
    async fn response_head(
        &self,
        mut sent: Pin<&mut impl Future<Output = Sent>>,
        timer: &mut LazyTimer,
        mut deadline: HeadDeadline<'_>,
    ) -> Result<Response<Incoming>, SendFailure> {
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(sent) = sent.as_mut().poll(cx) {
                    return Poll::Ready(sent.map_err(|failed| self.send_failure(failed, deadline.body_outcome())));
                }
                ready!(timer.poll_reached(deadline.next(), cx));
                if let Err(expired) = deadline.extend() {
                    return Poll::Ready(Err(expired.into()));
                }
            }
        })
        .await
    }

    fn send_failure(&self, failed: TrySendError<Request<RequestBody>>, body: BodyOutcome) -> SendFailure {
        tracing::debug!(error = %failed.error(), upstream = %self.upstream.name(), "the upstream sent no response");
        SendFailure::new(failed, body)
    }

    fn upstream_response(
        &self,
        response: Response<Incoming>,
        guard: ExchangeGuard,
        progress: Progress,
    ) -> UpstreamResponse {
        let server = Arc::clone(guard.in_flight.server());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let head = copy_of_head(&response);
            let upgraded = UpgradedConnection { response, guard };
            return UpstreamResponse { head, body: UpstreamBody::Tunnel(Box::new(upgraded)), server };
        }
        let (head, incoming) = response.into_parts();
        let ExchangeOptions { body_idle_timeout, trailers, .. } = self.options;
        let body = ResponseBody::new(incoming, guard, progress, body_idle_timeout, trailers);
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

#[cfg(test)]
mod tests {
    use http::Method;
    use tokio::task::LocalSet;
    use tokio::time::advance;

    use super::*;
    use crate::upstream::RetrySettings;
    use crate::upstream::balance::Balance;
    use crate::upstream::tests::{upstream, upstream_with};

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_sent_again_has_no_more_time_than_the_first_server_had() {
        let upstream = upstream(Balance::RoundRobin, &[1, 2]);
        let (pools, start) = (Pools::default(), Instant::now());
        for (route_timeout, first, again) in [(None, 30, 30), (Some(60), 30, 30), (Some(20), 20, 20)] {
            let deadline = route_timeout.map(|seconds| start + Duration::from_secs(seconds));
            let options =
                ExchangeOptions { deadline, body_idle_timeout: TIMEOUT, trailers: Trailers::Drop, affinity: None };
            let exchange = Exchange { upstream: &upstream, pools: &pools, options, first_deadline: Cell::new(None) };
            let mut attempt = Attempt::first(Request::new(RequestBody::empty()), &upstream);
            let progress = attempt.request.body().progress();
            let at = |seconds| start + Duration::from_secs(seconds);
            assert_eq!(exchange.head_deadline(&progress, &attempt.options).next(), at(first), "{route_timeout:?}");
            attempt.options.is_replay = true;
            assert_eq!(exchange.head_deadline(&progress, &attempt.options).next(), at(again), "{route_timeout:?}");
            assert_eq!(exchange.end_of(&attempt.options), Some(at(again)), "{route_timeout:?}");
        }
        advance(Duration::from_secs(10)).await;
        let options =
            ExchangeOptions { deadline: None, body_idle_timeout: TIMEOUT, trailers: Trailers::Drop, affinity: None };
        let first_deadline = Cell::new(Some(start + TIMEOUT));
        let exchange = Exchange { upstream: &upstream, pools: &pools, options, first_deadline };
        let mut attempt = Attempt::first(Request::new(RequestBody::empty()), &upstream);
        let progress = attempt.request.body().progress();
        assert_eq!(
            exchange.head_deadline(&progress, &attempt.options).next(),
            Instant::now() + TIMEOUT,
            "not sent before"
        );
        attempt.options.is_replay = true;
        assert_eq!(exchange.head_deadline(&progress, &attempt.options).next(), start + TIMEOUT);
    }

    /// Whose time it is, the error says.
    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_connection_as_long_as_for_a_response_or_until_its_end() {
        let upstream = upstream_with(1, |settings| settings.max_connections = 1);
        let server = Arc::clone(&upstream.servers()[0]);
        let _permit = server.try_connection_permit().unwrap();
        let waits = async {
            let (pools, body_idle_timeout) = (Pools::default(), TIMEOUT);
            for (end, expected, seconds) in [
                (None, UpstreamError::Busy, 30),
                (Some(20), UpstreamError::DeadlineExceeded, 20),
                (Some(30), UpstreamError::Busy, 30),
            ] {
                let start = Instant::now();
                let deadline = end.map(|seconds| start + Duration::from_secs(seconds));
                let options = ExchangeOptions { deadline, body_idle_timeout, trailers: Trailers::Drop, affinity: None };
                let exchange =
                    Exchange { upstream: &upstream, pools: &pools, options, first_deadline: Cell::new(None) };
                let mut attempt = Attempt::first(Request::new(RequestBody::empty()), &upstream);
                let pool = pools.for_server(&server, upstream.metrics());
                let acquired = exchange.acquire(&pool, &server, &mut attempt).await.map(drop);
                assert_eq!((acquired, start.elapsed().as_secs()), (Err(expected), seconds), "{end:?}");
            }
        };
        LocalSet::new().run_until(waits).await;
    }

    #[test]
    fn bodies_are_buffered_as_long_as_there_is_room() {
        let mut upstream = upstream(Balance::RoundRobin, &[1, 2]);
        upstream.settings.retry =
            RetrySettings { max_retries: 1, on: vec![RetryCondition::Closed], max_body_bytes: 64 * 1024 };
        let mut request = Request::new(RequestBody::from_bytes(vec![0; 64 * 1024].into()));
        *request.method_mut() = Method::PUT;
        let mut held = Vec::new();
        while let Some(permit) = upstream.buffer_permit(&request) {
            held.push(permit);
        }
        assert_eq!(held.len(), 512, "32 MiB");
        held.pop();
        assert!(upstream.buffer_permit(&request).is_some());
    }
}
