//! Forwarding: the last stage. Sends an admitted request to its upstream and streams the response
//! back.
//!
//! Builds the upstream's request from the normalized request and from what the gateway adds: the
//! caller's identity headers, the forwarding headers, and the framing of the body. Removes
//! hop-by-hop and identity headers from the response, and otherwise passes it on as it arrives.

mod request;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Response, Version};
use tokio::time::Instant;

use super::authenticate::Caller;
use super::rate_limit::Admitted;
use crate::gateway::policy::{AffinityInput, Route, affinity};
use crate::gateway::request::{RequestHead, RequestTail};
use crate::gateway::response::body::Body;
use crate::gateway::response::context::ResponseContext;
use crate::gateway::response::refusal::{Refusal, TokenFault};
use crate::gateway::response::time_limit::{TimeLimit, TimeLimitSource};
use crate::gateway::runtime::Runtime;
use crate::gateway::worker::Worker;
use crate::primitives::grpc;
use crate::upstream::body::{RequestBodyFault, Trailers};
use crate::upstream::exchange::ExchangeOptions;
use crate::upstream::headers::retain_end_to_end;
use crate::upstream::response::{UpstreamBody, UpstreamResponse};
use crate::upstream::upgrade::Tunnel;
use crate::upstream::{ExchangeError, Fault, ResponseFault, UpstreamError};
pub(crate) use request::build_target;
pub(super) use request::replace_prefix;
use request::{Additions, UpstreamRequest};
use upgrade::{PendingUpgrade, tunnel_lifetime};

/// How an upstream has answered a request.
#[derive(Debug)]
pub(crate) enum Forwarded {
    /// A response.
    Response(Response<Body>),
    /// A tunnel, which is not open yet.
    Tunnel(Box<OpenedTunnel>),
}

/// A tunnel that both sides have agreed to, with the request that it was opened for.
#[derive(Debug)]
pub(crate) struct OpenedTunnel {
    /// The head of the response that opens it: 101, or 200 over HTTP/2.
    pub(crate) head: Parts,
    pub(crate) tunnel: Tunnel,
    /// The head of the request, without credentials.
    pub(crate) request: RequestHead,
    pub(crate) caller: Caller,
}

/// Sends an admitted request to its upstream.
///
/// # Errors
///
/// 400, 408 and 413 for the request's body, 401 once `stream_after_expiry` has passed, 502, 503 and
/// 504 for the upstream, 500 if the target cannot be built.
pub(crate) async fn send(
    worker: &Worker,
    runtime: &Arc<Runtime>,
    admitted: Admitted,
    tail: RequestTail,
    context: &mut ResponseContext,
) -> Result<Forwarded, Refusal> {
    let (routed, caller) = admitted.into_permit().into_parts();
    let (request, route) = routed.into_parts();
    let upgrade = PendingUpgrade::of(runtime, &request, &tail, &route)?;
    let trailers = trailers_for(&request.headers);
    let started = Instant::now();
    let limit = time_limit(&route, context.is_grpc_call().then_some(&request.headers), started);
    let after_expiry = route.settings().after_expiry;
    let expiry = after_expiry.response.and_then(|after| expiry_limit(runtime, &caller, after));
    let end = TimeLimit::earliest([limit, expiry]);
    // A tunnel has a time of its own after the token's expiry.
    let exchange_end = if upgrade.is_some() { limit } else { end };
    let key = AffinityInput { client_ip: request.client.ip, headers: &request.headers, principal: caller.principal() };
    let affinity = affinity(&route.upstream().settings().balance, key);
    let client_can_upgrade = request.version == Version::HTTP_11;
    let additions = Additions { runtime, caller: &caller, request_id: context.request_id() };
    let UpstreamRequest { request: outgoing, client_upgrade } =
        UpstreamRequest::new(*request, tail, &route, upgrade.as_deref(), &additions)?;
    let progress = outgoing.body().progress();
    context.record().set_body_progress(progress.clone());
    let upstream = route.upstream();
    let body_idle_timeout = route.settings().body_idle.response;
    let options = ExchangeOptions { deadline: exchange_end.map(|end| end.at), body_idle_timeout, trailers, affinity };
    let sent = upstream.send(worker.pools(), outgoing, options).await;
    let UpstreamResponse { mut head, body, server } = sent.map_err(|ExchangeError { cause, server }| {
        context.record().set_upstream(upstream, server.as_ref());
        refusal_for(cause, exchange_end, context)
    })?;
    context.record().set_upstream(upstream, Some(&server));
    context.record().set_upstream_response(started.elapsed());
    let upgraded_to = head.headers.get(header::UPGRADE).cloned();
    retain_end_to_end(&mut head.headers, |name| runtime.identity().passes_downstream(name));
    // Version and reason phrase belong to the upstream's connection (RFC 9112 §2.3 and §4).
    head.version = Version::HTTP_11;
    head.extensions.clear();
    match (body, client_upgrade.zip(upgrade), upgraded_to) {
        (UpstreamBody::Stream(body), upgrade, required) => {
            if let Some((_, upgrade)) = upgrade {
                upgrade.check_declined(&head)?;
            }
            // RFC 9110 §15.5.22: a 426 says which protocol the client has to use.
            if let (426, true, Some(protocols)) = (head.status.as_u16(), client_can_upgrade, required) {
                head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                head.headers.insert(header::UPGRADE, protocols);
            }
            let body = Body::stream(body, end, context.abort_form());
            Ok(Forwarded::Response(Response::from_parts(head, body)))
        }
        (UpstreamBody::Tunnel(opened), Some((client, upgrade)), Some(protocol)) => {
            let permit = upstream.acquire_tunnel(upgrade.client).map_err(Refusal::TunnelLimit)?;
            upgrade.complete(&mut head, protocol)?;
            let max_lifetime = tunnel_lifetime(upstream.settings(), limit.map(|limit| limit.at));
            let expires_in = time_to_expiry(runtime, &caller, after_expiry.tunnel);
            let tunnel = Tunnel { client, upstream: opened, permit, max_lifetime, expires_in };
            Ok(Forwarded::Tunnel(Box::new(OpenedTunnel { head, tunnel, request: upgrade.request, caller })))
        }
        // The upstream switched protocols although the request did not ask for it, or without
        // saying to which (RFC 9110 §15.2.2). Later bytes on its connection cannot be attributed to
        // any request.
        (UpstreamBody::Tunnel(_), _, _) => Err(Refusal::UpstreamFailed(ResponseFault::UnexpectedUpgrade)),
    }
}

/// The refusal of a request that got no response. `end` is when its exchange had to end.
fn refusal_for(cause: Fault, end: Option<TimeLimit>, context: &mut ResponseContext) -> Refusal {
    if cause == Fault::Client(RequestBodyFault::Abandoned) {
        context.record().set_client_left();
    }
    if cause == Fault::Upstream(UpstreamError::DeadlineExceeded) {
        match end.map(|end| end.source) {
            Some(TimeLimitSource::Call) => context.set_past_call_deadline(),
            Some(TimeLimitSource::Token) => return Refusal::TokenInvalid(TokenFault::ExpiredMeanwhile),
            Some(TimeLimitSource::Route) | None => {}
        }
    }
    Refusal::from(cause)
}

/// When the exchange that `started` ends at the latest: the route's `timeout`, or what the
/// `headers` of a gRPC call ask for.
fn time_limit(route: &Route, headers: Option<&HeaderMap>, started: Instant) -> Option<TimeLimit> {
    let after = |duration, source| TimeLimit { at: started + duration, source };
    let route = route.settings().timeout.map(|timeout| after(timeout, TimeLimitSource::Route));
    let call = headers.and_then(grpc::timeout_in).map(|timeout| after(timeout, TimeLimitSource::Call));
    TimeLimit::earliest([route, call])
}

/// When a stream of `caller` ends, if it may go on for `after` beyond the token's `exp`. `None`
/// without a token.
fn expiry_limit(runtime: &Runtime, caller: &Caller, after: Duration) -> Option<TimeLimit> {
    let at = Instant::now().checked_add(time_to_expiry(runtime, caller, after)?)?;
    Some(TimeLimit { at, source: TimeLimitSource::Token })
}

/// The time until `after` the `exp` of the caller's token. `None` without a token.
fn time_to_expiry(runtime: &Runtime, caller: &Caller, after: Duration) -> Option<Duration> {
    let exp = Duration::from_micros(caller.principal()?.exp().micros());
    Some(exp.saturating_add(after).saturating_sub(Duration::from_micros(runtime.clock().now().micros())))
}

fn trailers_for(headers: &HeaderMap) -> Trailers {
    if grpc::has_grpc_content(headers) { Trailers::Pass } else { Trailers::Drop }
}
