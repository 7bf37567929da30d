//! Forwarding: the last stage. An admitted request goes to its upstream, the response streams back.
//!
//! What the upstream gets is put together here, from the normalized request and from what the gateway
//! knows: identity headers of the verified token, the forwarding fields, the framing made from the body.
//! The response loses what is about the upstream's connection, and is passed on as it arrives.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::authenticate::Caller;
use super::normalize::InboundRequest;
use super::rate_limit::Admitted;
use crate::gateway::policy::Route;
use crate::gateway::request::RequestTail;
use crate::gateway::response::body::Body;
use crate::gateway::response::context::ResponseContext;
use crate::gateway::response::refusal::{Framing, Refusal};
use crate::gateway::runtime::Runtime;
use crate::gateway::worker::Worker;
use crate::primitives::random;
use crate::upstream::body::{BodyOutcome, MaxBody, Progress, RequestBody, Trailers};
use crate::upstream::exchange::{Deadlines, UpstreamBody, UpstreamResponse};
use crate::upstream::headers::forwarding::{write_traceparent, write_via};
use crate::upstream::headers::{X_REQUEST_ID, retain};
use crate::upstream::upgrade::Tunnel;
use crate::upstream::{Protocol, UpstreamError};

/// Sends an admitted request to its upstream.
///
/// # Errors
///
/// 413 and 408 for the request's body, 502, 503 and 504 for the upstream.
pub(crate) async fn send(
    worker: &Worker,
    runtime: &Arc<Runtime>,
    admitted: Admitted,
    tail: RequestTail,
    context: &mut ResponseContext,
) -> Result<Response<Body>, Refusal> {
    let (routed, caller) = admitted.into_permit().into_parts();
    let (request, route) = routed.into_parts();
    let timeouts = runtime.settings().timeouts;
    let trailers = trailers(&request.headers);
    let Outgoing { request: outgoing, switch } =
        Outgoing::new(*request, tail, &route, &caller, timeouts.body_idle, context.request_id())?;
    let progress = outgoing.body().progress();
    context.record().forwarding(progress.clone());
    let upstream = route.upstream();
    let started = Instant::now();
    let until = route.settings().timeout.map(|timeout| started + timeout);
    let deadlines = Deadlines { until, body_idle: timeouts.body_idle, trailers };
    let sent = upstream.send(worker.pools(), outgoing, deadlines).await;
    let UpstreamResponse { mut head, body } = sent.map_err(|error| {
        if progress.outcome() == BodyOutcome::Abandoned {
            context.record().client_left();
        }
        refusal(error, &progress)
    })?;
    context.record().upstream_responded(upstream, started.elapsed());
    let switched_to = head.headers.get(header::UPGRADE).cloned();
    retain(&mut head.headers, |name| runtime.identity().passes_downstream(name));
    // The version and the reason phrase are about the upstream's connection (RFC 9112 §2.3).
    head.version = Version::HTTP_11;
    head.extensions.clear();
    match (body, switch, switched_to) {
        (UpstreamBody::Stream(body), _, _) => Ok(Response::from_parts(head, Body::stream(body, until))),
        (UpstreamBody::Tunnel(upstream), Some(client), Some(protocol)) => {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, protocol);
            let tunnel = Tunnel { client, upstream };
            Ok(Response::from_parts(head, worker.open_tunnel(tunnel, time_to_expiry(runtime, &caller))))
        }
        // The upstream switched protocols unasked (RFC 9110 §15.2.2): later bytes on its connection cannot
        // be attributed to any request.
        (UpstreamBody::Tunnel(_), _, _) => Err(Refusal::UpstreamFailed),
    }
}

/// The request as it goes to the upstream.
struct Outgoing {
    request: Request<RequestBody>,
    /// The client's connection, if the request asks to switch protocols.
    switch: Option<OnUpgrade>,
}

impl Outgoing {
    fn new(
        request: InboundRequest,
        tail: RequestTail,
        route: &Route,
        caller: &Caller,
        body_idle: Duration,
        request_id: &HeaderValue,
    ) -> Result<Self, Refusal> {
        let settings = route.settings();
        check_length(&tail, settings.max_body_size)?;
        let target = target(&request, route)?;
        // A server may ignore an offer to switch (RFC 9110 §7.8), and a shared connection cannot be switched.
        let protocol = request.upgrade.clone().filter(|_| route.upstream().settings().protocol == Protocol::Http1);
        let method = request.method.clone();
        let mut headers = headers(request, route, caller, request_id);
        let body = RequestBody::new(tail.body, settings.max_body_size, body_idle);
        let switch = protocol.and_then(|protocol| {
            let client = tail.upgrade?;
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
            Some(client)
        });
        frame(&mut headers, &method, &body);
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = method;
        *outgoing.uri_mut() = target;
        *outgoing.headers_mut() = headers;
        Ok(Self { request: outgoing, switch })
    }
}

/// Refuses at once a body that says itself that it is too long; others are counted as they pass.
fn check_length(tail: &RequestTail, max: MaxBody) -> Result<(), Refusal> {
    match (max, tail.body.size_hint().exact()) {
        (MaxBody::Bytes(max), Some(length)) if length > max => Err(Refusal::BodyTooLarge),
        (MaxBody::Bytes(_) | MaxBody::Unlimited, _) => Ok(()),
    }
}

fn trailers(headers: &HeaderMap) -> Trailers {
    let grpc = headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc { Trailers::Pass } else { Trailers::Drop }
}

/// The target that the upstream sees: the path that was matched, with the route's prefixes exchanged,
/// and the query as it came.
///
/// # Errors
///
/// [`Refusal::Internal`] if the two do not fit together, although each was checked.
pub(crate) fn target(request: &InboundRequest, route: &Route) -> Result<Uri, Refusal> {
    let settings = route.settings();
    if let (Some(unchanged), None, None) = (request.unchanged_target(), &settings.strip_prefix, &settings.add_prefix)
        && let Some(target) = unchanged.path_and_query()
    {
        return Ok(Uri::from(target.clone()));
    }
    let path = request.path();
    let path = exchange_prefix(path.as_str(), settings.strip_prefix.as_deref(), settings.add_prefix.as_deref());
    let text = match request.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    PathAndQuery::try_from(text).map(Uri::from).map_err(|_| Refusal::Internal)
}

/// `path` without the prefix `strip`, which ends where a segment ends, and with `add` in front.
fn exchange_prefix(path: &str, strip: Option<&str>, add: Option<&str>) -> String {
    let rest = strip
        .and_then(|prefix| path.strip_prefix(prefix))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path);
    let mut exchanged = String::with_capacity(add.map_or(0, str::len) + rest.len() + 1);
    exchanged.push_str(add.unwrap_or_default());
    exchanged.push_str(rest);
    if exchanged.is_empty() {
        exchanged.push('/');
    }
    exchanged
}

/// The headers that the upstream gets, but for those that frame the body.
fn headers(request: InboundRequest, route: &Route, caller: &Caller, request_id: &HeaderValue) -> HeaderMap {
    let peers = request.peers();
    let InboundRequest { mut headers, hop, host_field, version, .. } = request;
    if !route.upstream().settings().forward_token {
        headers.remove(header::AUTHORIZATION);
    }
    route.settings().request_headers.apply(&mut headers);
    hop.write(&mut headers, &host_field, peers);
    write_via(&mut headers, version);
    headers.insert(X_REQUEST_ID, request_id.clone());
    write_traceparent(&mut headers, random::bytes(), random::bytes());
    for (name, value) in caller.headers() {
        headers.insert(name, value.clone());
    }
    // The name that the client used. An upstream that wants its own gets that of the server that is
    // picked, in this place.
    headers.insert(header::HOST, host_field);
    headers
}

/// States the body's length, from the body and from nothing that the client wrote (RFC 9112 §6).
fn frame(headers: &mut HeaderMap, method: &Method, body: &RequestBody) {
    let expects_a_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match body.size_hint().exact() {
        Some(0) if !expects_a_body => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // Without this hyper would send no body at all with a GET.
        None => {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

fn refusal(error: UpstreamError, progress: &Progress) -> Refusal {
    match error {
        UpstreamError::Busy => Refusal::UpstreamBusy,
        UpstreamError::Failed => Refusal::UpstreamFailed,
        UpstreamError::Timeout => Refusal::UpstreamTimeout,
        UpstreamError::Unreachable => Refusal::UpstreamUnreachable,
        UpstreamError::RequestBody => match progress.outcome() {
            BodyOutcome::TooLarge => Refusal::BodyTooLarge,
            BodyOutcome::Idle => Refusal::ClientTimeout,
            // A client that has left does not get it.
            BodyOutcome::Abandoned | BodyOutcome::Broken | BodyOutcome::Ended(_) | BodyOutcome::InProgress => {
                Refusal::Framing(Framing::BrokenBody)
            }
        },
    }
}

/// How long a tunnel may live: as long as the token that opened it. `None` without a token.
fn time_to_expiry(runtime: &Runtime, caller: &Caller) -> Option<Duration> {
    let expires_at = caller.principal()?.expires_at();
    Some(Duration::from_micros(expires_at.micros().saturating_sub(runtime.clock().now().micros())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_exchanged_at_segment_ends() {
        for (name, path, strip, add, expected) in [
            ("nothing to do", "/a/b", None, None, "/a/b"),
            ("strip", "/api/orders", Some("/api"), None, "/orders"),
            ("strip all", "/api", Some("/api"), None, "/"),
            ("strip up to the slash", "/api/", Some("/api"), None, "/"),
            ("not in the middle of a segment", "/apiadmin", Some("/api"), None, "/apiadmin"),
            ("add", "/orders", None, Some("/v2"), "/v2/orders"),
            ("exchange", "/api/orders/", Some("/api"), Some("/v2"), "/v2/orders/"),
            ("exchange the whole", "/api", Some("/api"), Some("/v2"), "/v2"),
        ] {
            assert_eq!(exchange_prefix(path, strip, add), expected, "{name}");
        }
    }
}
