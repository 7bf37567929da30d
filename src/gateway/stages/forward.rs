//! Forwarding: the last stage. An admitted request goes to its upstream, the answer streams back.
//!
//! Stage 8 of [`Gateway::handle`](super::Gateway::handle). What the upstream gets is put together here, from the cleaned request and from
//! what the gateway knows: identity headers of the verified token, the forwarding fields, the framing made anew from the body. The answer
//! is cleaned of what is about the upstream's connection and passed on as it comes.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body as _;
use tokio::time::Instant;

use crate::gateway::response::body::Body;
use crate::gateway::response::refusal::{Framing, Refusal};
use crate::gateway::stages::authenticate::Caller;
use crate::gateway::stages::normalize::{InboundRequest, Upgrade};
use crate::gateway::stages::rate_limit::Admitted;
use crate::gateway::stages::routing::Route;
use crate::gateway::{ResponseContext, Runtime, Worker};
use crate::primitives::random;
use crate::upstream::body::{BodyOutcome, MaxBody, Progress, RequestBody, Trailers};
use crate::upstream::exchange::{Answer, AnswerBody, Deadlines};
use crate::upstream::headers::forwarding::{write_traceparent, write_via};
use crate::upstream::headers::{X_REQUEST_ID, clean};
use crate::upstream::upgrade::Tunnel;
use crate::upstream::{Protocol, UpstreamError};

/// Sends an admitted request on.
///
/// # Errors
///
/// 413 and 408 for the request's body, 502, 503 and 504 for the upstream.
pub async fn send(
    worker: &Worker,
    runtime: &Arc<Runtime>,
    admitted: Admitted,
    context: &mut ResponseContext,
) -> Result<Response<Body>, Refusal> {
    let (routed, caller) = admitted.into_permit().into_parts();
    let (request, route) = routed.into_parts();
    let timeouts = runtime.settings().timeouts;
    let (outgoing, wish, trailers) = outgoing(*request, &route, &caller, timeouts.body_idle, context)?;
    let progress = outgoing.body().progress();
    context.record().receiving(progress.clone());
    let upstream = route.upstream();
    let started = Instant::now();
    let until = route.rules().timeout.map(|timeout| started + timeout);
    let sent =
        upstream.send(worker.pools(), outgoing, Deadlines { until, body_idle: timeouts.body_idle, trailers }).await;
    let Answer { mut head, body } = sent.map_err(|error| {
        if progress.outcome() == BodyOutcome::Abandoned {
            context.record().client_left();
        }
        refusal(error, &progress)
    })?;
    context.record().upstream_answered(upstream, started.elapsed());
    let switched = head.headers.get(header::UPGRADE).cloned();
    clean(&mut head.headers, |name| runtime.identity().owns(name));
    // The version and the reason phrase are about the upstream's connection (RFC 9112 §2.3); ours has its own.
    head.version = Version::HTTP_11;
    head.extensions.clear();
    match (body, wish) {
        (AnswerBody::Stream(body), _) => Ok(Response::from_parts(head, Body::stream(body, until))),
        (AnswerBody::Tunnel(upstream), Some(wish)) if switched.is_some() => {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, switched.unwrap_or(wish.protocol));
            let tunnel = Tunnel { client: wish.client, upstream };
            Ok(Response::from_parts(head, worker.open_tunnel(tunnel, lifetime(runtime, &caller))))
        }
        // Switching protocols when nobody asked (RFC 9110 §15.2.2): what follows on that connection is nobody's.
        (AnswerBody::Tunnel(_), _) => Err(Refusal::UpstreamFailed),
    }
}

/// The request as it goes to the upstream; with what the client wishes to switch to, and what becomes of trailers.
fn outgoing(
    mut request: InboundRequest,
    route: &Route,
    caller: &Caller,
    body_idle: Duration,
    context: &ResponseContext,
) -> Result<(Request<RequestBody>, Option<Upgrade>, Trailers), Refusal> {
    let rules = route.rules();
    check_length(&request, rules.max_body_size)?;
    let trailers = trailers(&request.headers);
    let target = target(&request, route)?;
    write_headers(&mut request, route, caller, context.request_id());
    let InboundRequest { method, mut headers, body, upgrade, .. } = request;
    // A server may ignore a wish to switch (RFC 9110 §7.8), and a connection that many share cannot be switched.
    let wish = upgrade.filter(|_| route.upstream().settings().protocol == Protocol::Http1);
    let body = RequestBody::new(body, rules.max_body_size, body_idle);
    frame(&mut headers, &method, &body, wish.as_ref());
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    Ok((request, wish, trailers))
}

/// Refuses at once what says itself that it is too long; the rest is counted as it passes.
fn check_length(request: &InboundRequest, max: MaxBody) -> Result<(), Refusal> {
    match (max, request.body.size_hint().exact()) {
        (MaxBody::Bytes(max), Some(length)) if length > max => Err(Refusal::BodyTooLarge),
        (MaxBody::Bytes(_) | MaxBody::Unlimited, _) => Ok(()),
    }
}

fn trailers(headers: &HeaderMap) -> Trailers {
    let grpc = headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc { Trailers::Pass } else { Trailers::Drop }
}

/// The path that was matched, with the route's prefixes exchanged, and the query as it came.
fn target(request: &InboundRequest, route: &Route) -> Result<Uri, Refusal> {
    let rules = route.rules();
    if let (Some(unchanged), None, None) = (request.unchanged_target(), &rules.strip_prefix, &rules.add_prefix)
        && let Some(target) = unchanged.path_and_query()
    {
        return Ok(Uri::from(target.clone()));
    }
    let path = request.path();
    let path = rewritten(path.as_str(), rules.strip_prefix.as_deref(), rules.add_prefix.as_deref());
    let text = match request.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    // Both halves were checked; that they fit together is arithmetic, and no reason to panic over.
    PathAndQuery::try_from(text).map(Uri::from).map_err(|_| Refusal::Internal)
}

/// `strip` taken off at a segment's end, `add` put in front.
#[must_use]
pub fn rewritten(path: &str, strip: Option<&str>, add: Option<&str>) -> String {
    let rest = strip
        .and_then(|prefix| path.strip_prefix(prefix))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path);
    let mut rewritten = String::with_capacity(add.map_or(0, str::len) + rest.len() + 1);
    rewritten.push_str(add.unwrap_or_default());
    rewritten.push_str(rest);
    if rewritten.is_empty() {
        rewritten.push('/');
    }
    rewritten
}

fn write_headers(request: &mut InboundRequest, route: &Route, caller: &Caller, request_id: &HeaderValue) {
    let upstream = route.upstream().settings();
    let peers = request.peers();
    let headers = &mut request.headers;
    if !upstream.forward_token {
        headers.remove(header::AUTHORIZATION);
    }
    for name in &route.rules().remove_headers {
        headers.remove(name);
    }
    for (name, value) in &route.rules().set_headers {
        headers.insert(name, value.clone());
    }
    request.hop.write(headers, &request.host_field, peers);
    write_via(headers, request.version);
    headers.insert(X_REQUEST_ID, request_id.clone());
    write_traceparent(headers, random::bytes(), random::bytes());
    if let Caller::Known(principal) = caller {
        for (name, value) in principal.ready_headers() {
            headers.insert(name, value.clone());
        }
    }
    // In its place already when the upstream wants the name that the client used; else the server that is picked puts in its own.
    headers.insert(header::HOST, request.host_field.clone());
}

/// Says how long the body is, from the body and from nothing that the client wrote (RFC 9112 §6).
fn frame(headers: &mut HeaderMap, method: &Method, body: &RequestBody, wish: Option<&Upgrade>) {
    if let Some(wish) = wish {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, wish.protocol.clone());
    }
    let expects_a_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match body.size_hint().exact() {
        Some(0) if !expects_a_body => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // Said aloud, since hyper would send no body at all with a GET that does not say so.
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
            // To one who has left, it is not sent.
            BodyOutcome::Abandoned | BodyOutcome::Broken | BodyOutcome::Ended(_) | BodyOutcome::Underway => {
                Refusal::Framing(Framing::BrokenBody)
            }
        },
    }
}

/// How long a tunnel may live: as long as the token that opened it.
fn lifetime(runtime: &Runtime, caller: &Caller) -> Option<Duration> {
    match caller {
        Caller::Anonymous => None,
        Caller::Known(principal) => {
            let left = principal.expires_at().micros().saturating_sub(runtime.clock().now().micros());
            Some(Duration::from_micros(left))
        }
    }
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
            assert_eq!(rewritten(path, strip, add), expected, "{name}");
        }
    }
}
