//! Retries: how an attempt ends, and whether another one follows it.
//!
//! A request that no server has received goes to each other server once, whatever its method. A
//! request that a server may have received is sent again only if its method is idempotent and it
//! has no body or a buffered one; at most `retries` times, to another server that is up, and within
//! the upstream's [budget](RetryBudget). Nothing is sent again once a byte of a response has gone
//! to the client.

mod budget;
mod failure;
mod replay;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};

use super::balance::Candidates;
use super::body::RequestBody;
use super::pool::Reuse;
use super::response::UpstreamResponse;
use super::server::Server;
use super::{Fault, ResponseFault, Upstream, UpstreamError};
use crate::telemetry::metrics::RetryReason;
pub(super) use budget::RetryBudget;
pub(super) use failure::SendFailure;
pub(super) use replay::ReplayableRequest;
pub(crate) use settings::{RetryCondition, RetrySettings};

/// One attempt to get a response.
pub(super) struct Attempt {
    pub(super) request: Request<RequestBody>,
    pub(super) options: AttemptOptions,
}

/// Where and how an attempt is made.
pub(super) struct AttemptOptions {
    /// The servers that it may go to.
    pub(super) candidates: Candidates,
    /// The connections that it may use.
    pub(super) reuse: Reuse,
    /// How long this attempt and the following ones may take to connect.
    pub(super) connect_time: Duration,
    /// How many further times the request may be sent if a server has received it.
    pub(super) retries_left: u32,
    /// Whether the request was sent before.
    pub(super) is_replay: bool,
}

impl Attempt {
    pub(super) fn first(request: Request<RequestBody>, upstream: &Upstream) -> Self {
        let settings = upstream.settings();
        let options = AttemptOptions {
            candidates: Candidates::default(),
            reuse: Reuse::Allowed,
            connect_time: settings.connect_timeout,
            retries_left: settings.retry.max_retries,
            is_replay: false,
        };
        Self { request, options }
    }
}

impl AttemptOptions {
    /// A copy of `request`, if it could be of use after an attempt on `connection` to `server`. The
    /// request is copied before it is sent, so a copy that cannot be of use is not made.
    pub(super) fn replay_of(
        &self,
        request: &Request<RequestBody>,
        connection: AttemptConnection,
        server: &Server,
        upstream: &Upstream,
    ) -> Option<Box<ReplayableRequest>> {
        let is_of_use = match connection {
            AttemptConnection::Reused => true,
            AttemptConnection::New | AttemptConnection::None => {
                self.retries_left > 0
                    && upstream.settings().retry.may_resend()
                    && self.candidates.has_other_than(server, &upstream.server_set())
            }
        };
        if is_of_use { ReplayableRequest::copy_of(request) } else { None }
    }
}

/// How an attempt ended.
pub(super) enum AttemptOutcome {
    Response(UpstreamResponse),
    /// Without a response for the client, but another attempt may get one.
    Retry(Box<Attempt>, RetryReason),
    Failed(Fault),
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

/// An attempt that got no response.
pub(super) struct FailedAttempt {
    pub(super) failure: SendFailure,
    pub(super) connection: AttemptConnection,
    /// A copy of the request, if it may be sent twice.
    pub(super) replay: Option<Box<ReplayableRequest>>,
    /// How the attempt was made.
    pub(super) options: AttemptOptions,
}

impl FailedAttempt {
    /// No connection was available or could be opened. The request is as it was.
    pub(super) fn without_connection(error: UpstreamError, attempt: Attempt) -> Self {
        let Attempt { request, options } = attempt;
        let failure = SendFailure { unsent: Some(Box::new(request)), ..error.into() };
        Self { failure, connection: AttemptConnection::None, replay: None, options }
    }

    /// Whether it counts as a failure of its server. A failure to connect is counted where the
    /// connection is opened, since many requests may wait for one connection.
    pub(super) fn is_server_fault(&self) -> bool {
        if self.failure.is_of_request {
            return false;
        }
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
        let Self { failure, connection, replay, options } = self;
        let SendFailure { fault, unsent, may_be_unprocessed, .. } = failure;
        let next = match (connection, unsent, replay) {
            // Not a byte has reached the server, so another one may have the request, whatever its
            // method. Without another, the same request would most likely fail here again.
            (AttemptConnection::None | AttemptConnection::New, Some(unsent), _) => {
                send_elsewhere(fault, *unsent, options, server, upstream)
            }
            // A server may close an idle connection in the same moment in which a request is sent
            // on it (RFC 9112 §9.5). That says nothing against the server, so the request stays
            // there, on a new connection. hyper returns the request only if it has written none of
            // it.
            (AttemptConnection::Reused, Some(unsent), _) => Some(send_on_new_connection(*unsent, options, server)),
            // The server may have processed it, so it must be harmless to send twice (RFC 9110
            // §9.2.2). Such a failure uses up a connection that has worked before, so it cannot
            // multiply the load: it counts neither against the budget nor as one of `retries`. A
            // server that dies closes its idle connections first, and the new one fails as well.
            (AttemptConnection::Reused, None, Some(replay)) if may_be_unprocessed => {
                let options = AttemptOptions { is_replay: true, ..options };
                Some(send_on_new_connection(replay.into_request(), options, server))
            }
            (AttemptConnection::New | AttemptConnection::Reused, None, Some(replay)) => {
                let reason = match fault {
                    Fault::Upstream(UpstreamError::Failed(ResponseFault::Closed)) => Some(RetryReason::Closed),
                    Fault::Upstream(UpstreamError::Failed(ResponseFault::Reset)) => Some(RetryReason::Reset),
                    Fault::Upstream(_) | Fault::Client(_) => None,
                };
                let is_wanted = upstream.settings().retry.has(RetryCondition::Closed);
                reason
                    .filter(|_| is_wanted)
                    .and_then(|reason| Some((resend(replay, options, server, upstream)?, reason)))
            }
            (AttemptConnection::None | AttemptConnection::New | AttemptConnection::Reused, None, _) => None,
        };
        next.map_or(AttemptOutcome::Failed(fault), |(attempt, reason)| AttemptOutcome::Retry(attempt, reason))
    }
}

/// The attempt that follows a response of `server` with this status, if another server may do
/// better.
pub(super) fn after_response(
    status: u16,
    replay: Option<Box<ReplayableRequest>>,
    options: AttemptOptions,
    server: &Arc<Server>,
    upstream: &Upstream,
) -> Option<(Box<Attempt>, RetryReason)> {
    let condition = RetryCondition::of_status(status).filter(|condition| upstream.settings().retry.has(*condition))?;
    let reason = match condition {
        RetryCondition::BadGateway => RetryReason::Status502,
        RetryCondition::Unavailable => RetryReason::Status503,
        RetryCondition::GatewayTimeout => RetryReason::Status504,
        RetryCondition::Closed | RetryCondition::Connect => return None,
    };
    Some((resend(replay?, options, server, upstream)?, reason))
}

/// How long the server that sent these headers with a 503 wants no requests: `Retry-After` in
/// seconds (RFC 9110 §10.2.3). `None` if it does not say so, or gives a date: the clocks of two
/// machines differ.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
}

/// A request that `server` has not received, for another server.
fn send_elsewhere(
    fault: Fault,
    unsent: Request<RequestBody>,
    options: AttemptOptions,
    server: &Arc<Server>,
    upstream: &Upstream,
) -> Option<(Box<Attempt>, RetryReason)> {
    if !fault.is_of_one_server() || !upstream.settings().retry.has(RetryCondition::Connect) {
        return None;
    }
    let reason = match fault {
        Fault::Upstream(UpstreamError::Busy) => RetryReason::Busy,
        Fault::Upstream(_) | Fault::Client(_) => RetryReason::Connect,
    };
    let candidates = options.candidates.without(server, &upstream.server_set())?;
    Some((Box::new(Attempt { request: unsent, options: AttemptOptions { candidates, ..options } }), reason))
}

/// A request that met `server` as it closed the connection.
fn send_on_new_connection(
    request: Request<RequestBody>,
    options: AttemptOptions,
    server: &Arc<Server>,
) -> (Box<Attempt>, RetryReason) {
    let candidates = options.candidates.only(server);
    let options = AttemptOptions { candidates, reuse: Reuse::Forbidden, ..options };
    (Box::new(Attempt { request, options }), RetryReason::Stale)
}

/// A request that `server` may have received, for another server that is up. `None` if there is no
/// such server, or no retry is left to this request or to the upstream.
fn resend(
    replay: Box<ReplayableRequest>,
    options: AttemptOptions,
    server: &Arc<Server>,
    upstream: &Upstream,
) -> Option<Box<Attempt>> {
    let retries_left = options.retries_left.checked_sub(1)?;
    let candidates = options.candidates.without(server, &upstream.server_set())?;
    // One that is not up would most likely not help, and its failure would hide this one.
    if !upstream.server_set().has_candidate_up(&candidates) {
        return None;
    }
    if !upstream.retry_budget.withdraw() {
        upstream.metrics().count_retry_over_budget();
        return None;
    }
    let options = AttemptOptions { candidates, retries_left, is_replay: true, ..options };
    Some(Box::new(Attempt { request: replay.into_request(), options }))
}

#[cfg(test)]
mod tests;
