//! Forwarding: the last stage. Sends an admitted request to its upstream and streams the response
//! back.
//!
//! Builds the upstream's request from the normalized request and from what the gateway adds: the
//! caller's identity headers, the forwarding headers, and the framing of the body. Removes
//! hop-by-hop and identity headers from the response, and otherwise passes it on as it arrives.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::authenticate::Caller;
use super::normalize::InboundRequest;
use super::rate_limit::Admitted;
use crate::gateway::policy::{Access, Route};
use crate::gateway::request::{RequestHead, RequestTail};
use crate::gateway::response::body::Body;
use crate::gateway::response::context::ResponseContext;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::runtime::Runtime;
use crate::gateway::worker::Worker;
use crate::primitives::grpc;
use crate::primitives::min_rate::WaitAllowance;
use crate::upstream::body::{MaxBody, RequestBody, RequestBodyFault, Trailers};
use crate::upstream::exchange::ExchangeOptions;
use crate::upstream::headers::trace::{remove_invalid_trace, write_via};
use crate::upstream::headers::{X_REQUEST_ID, retain_end_to_end};
use crate::upstream::response::{UpstreamBody, UpstreamResponse};
use crate::upstream::tunnel_limits::{TunnelClient, TunnelPermit};
use crate::upstream::upgrade::Tunnel;
use crate::upstream::{ExchangeError, Fault, Protocol, ResponseFault, UpstreamSettings};

/// What an upstream has made of a request.
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
    /// The head of the 101 for the client.
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
/// 400, 408 and 413 for the request's body, 502, 503 and 504 for the upstream, 500 if the target
/// cannot be built.
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
    let client_can_upgrade = request.version == Version::HTTP_11;
    let UpstreamRequest { request: outgoing, client_upgrade } =
        UpstreamRequest::new(*request, tail, &route, &caller, context.request_id())?;
    let progress = outgoing.body().progress();
    context.record().set_body_progress(progress.clone());
    let upstream = route.upstream();
    let started = Instant::now();
    let deadline = route.settings().timeout.map(|timeout| started + timeout);
    let options = ExchangeOptions { deadline, body_idle_timeout: route.settings().body_idle.response, trailers };
    let sent = upstream.send(worker.pools(), outgoing, options).await;
    let UpstreamResponse { mut head, body, server } = sent.map_err(|error| {
        let ExchangeError { cause, server } = error;
        context.record().set_upstream(upstream, server.as_ref());
        if cause == Fault::Client(RequestBodyFault::Abandoned) {
            context.record().set_client_left();
        }
        Refusal::from(cause)
    })?;
    context.record().set_upstream(upstream, Some(&server));
    context.record().set_upstream_response(started.elapsed());
    let upgraded_to = head.headers.get(header::UPGRADE).cloned();
    retain_end_to_end(&mut head.headers, |name| runtime.identity().passes_downstream(name));
    // Version and reason phrase belong to the upstream's connection (RFC 9112 §2.3 and §4).
    head.version = Version::HTTP_11;
    head.extensions.clear();
    match (body, client_upgrade.zip(upgrade), upgraded_to) {
        (UpstreamBody::Stream(body), _, required) => {
            // RFC 9110 §15.5.22: a 426 says which protocol the client has to use.
            if let (426, true, Some(protocols)) = (head.status.as_u16(), client_can_upgrade, required) {
                head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                head.headers.insert(header::UPGRADE, protocols);
            }
            Ok(Forwarded::Response(Response::from_parts(head, Body::stream(body, deadline))))
        }
        (UpstreamBody::Tunnel(opened), Some((client, upgrade)), Some(protocol)) => {
            let PendingUpgrade { permit, request } = *upgrade;
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, protocol);
            let max_lifetime = tunnel_lifetime(upstream.settings(), deadline);
            let expires_in = time_to_expiry(runtime, &caller);
            let tunnel = Tunnel { client, upstream: opened, permit, max_lifetime, expires_in };
            Ok(Forwarded::Tunnel(Box::new(OpenedTunnel { head, tunnel, request, caller })))
        }
        // The upstream switched protocols although the request did not ask for it, or without
        // saying to which (RFC 9110 §15.2.2). Later bytes on its connection cannot be attributed to
        // any request.
        (UpstreamBody::Tunnel(_), _, _) => Err(Refusal::UpstreamFailed(ResponseFault::UnexpectedUpgrade)),
    }
}

/// What the gateway keeps of a request that asks to switch protocols, until the upstream has
/// agreed.
struct PendingUpgrade {
    permit: TunnelPermit,
    /// The head of the request, without credentials.
    request: RequestHead,
}

impl PendingUpgrade {
    /// `None` if the request does not ask to switch protocols. The permit is acquired before the
    /// upstream is asked, since afterwards a tunnel could only be closed again.
    ///
    /// # Errors
    ///
    /// 503 if a limit on tunnels is reached.
    fn of(
        runtime: &Runtime,
        request: &InboundRequest,
        tail: &RequestTail,
        route: &Route,
    ) -> Result<Option<Box<Self>>, Refusal> {
        if request.upgrade.is_none() || tail.upgrade.is_none() || !can_switch_protocols(route) {
            return Ok(None);
        }
        let address = request.client.ip;
        let client = if runtime.settings().trusted_proxies.contains(address) {
            TunnelClient::Exempt(address)
        } else {
            TunnelClient::Limited(address)
        };
        let permit = route.upstream().acquire_tunnel(client).map_err(Refusal::TunnelLimit)?;
        Ok(Some(Box::new(Self { permit, request: request.head_without_credentials() })))
    }
}

/// An HTTP/2 connection is shared, so that it cannot switch to another protocol. The upgrade is
/// then ignored, as RFC 9110 §7.8 allows.
fn can_switch_protocols(route: &Route) -> bool {
    route.upstream().settings().protocol == Protocol::Http1
}

/// How long a tunnel may last: what is left of the route's `timeout`, and never more than the
/// upstream's `max_tunnel_lifetime`.
fn tunnel_lifetime(upstream: &UpstreamSettings, deadline: Option<Instant>) -> Duration {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    left.map_or(upstream.max_tunnel_lifetime, |left| left.min(upstream.max_tunnel_lifetime))
}

/// The request as it goes to the upstream.
struct UpstreamRequest {
    request: Request<RequestBody>,
    /// The client's connection, if the request asks to switch protocols.
    client_upgrade: Option<OnUpgrade>,
}

impl UpstreamRequest {
    fn new(
        request: InboundRequest,
        tail: RequestTail,
        route: &Route,
        caller: &Caller,
        request_id: &HeaderValue,
    ) -> Result<Self, Refusal> {
        let settings = route.settings();
        check_length(&tail, settings.max_body_size)?;
        let target = build_target(&request, route)?;
        let protocol = request.upgrade.clone().filter(|_| can_switch_protocols(route));
        let method = request.method.clone();
        let mut headers = build_headers(request, route, caller, request_id);
        let allowance = WaitAllowance::new(settings.min_body_rate, settings.body_idle.request);
        let body = RequestBody::new(tail.body, settings.max_body_size, allowance);
        let client_upgrade = protocol.and_then(|protocol| {
            let client = tail.upgrade?;
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
            Some(client)
        });
        write_framing(&mut headers, &method, &body);
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = method;
        *outgoing.uri_mut() = target;
        *outgoing.headers_mut() = headers;
        Ok(Self { request: outgoing, client_upgrade })
    }
}

/// Refuses a body whose declared length exceeds the limit. Others are counted while they are
/// forwarded.
fn check_length(tail: &RequestTail, max: MaxBody) -> Result<(), Refusal> {
    match (max, tail.body.size_hint().exact()) {
        (MaxBody::Bytes(max), Some(length)) if length > max => Err(Refusal::BodyTooLarge),
        (MaxBody::Bytes(_) | MaxBody::Unlimited, _) => Ok(()),
    }
}

fn trailers_for(headers: &HeaderMap) -> Trailers {
    if grpc::has_grpc_content(headers) { Trailers::Pass } else { Trailers::Drop }
}

/// Builds the target that the upstream receives: the path that was matched, with the route's prefix
/// rules applied, and the query as received.
///
/// # Errors
///
/// [`Refusal::Internal`] if path and query do not form a target. Both were checked, so this is a
/// bug.
pub(crate) fn build_target(request: &InboundRequest, route: &Route) -> Result<Uri, Refusal> {
    let settings = route.settings();
    if let (Some(unchanged), None, None) = (request.unchanged_target(), &settings.strip_prefix, &settings.add_prefix)
        && let Some(target) = unchanged.path_and_query()
    {
        return Ok(Uri::from(target.clone()));
    }
    let path = request.path();
    let path = replace_prefix(path.as_str(), settings.strip_prefix.as_deref(), settings.add_prefix.as_deref());
    let text = match request.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    PathAndQuery::try_from(text).map(Uri::from).map_err(|_| Refusal::Internal)
}

/// `path` without the prefix `strip`, which is removed only at the end of a segment, and with `add`
/// in front.
pub(super) fn replace_prefix(path: &str, strip: Option<&str>, add: Option<&str>) -> String {
    let rest = strip
        .and_then(|prefix| path.strip_prefix(prefix))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path);
    let mut replaced = String::with_capacity(add.map_or(0, str::len) + rest.len() + 1);
    replaced.push_str(add.unwrap_or_default());
    replaced.push_str(rest);
    if replaced.is_empty() {
        replaced.push('/');
    }
    replaced
}

/// Builds the headers that the upstream receives, except those that frame the body.
fn build_headers(request: InboundRequest, route: &Route, caller: &Caller, request_id: &HeaderValue) -> HeaderMap {
    let InboundRequest { mut headers, client, hop, host_field, version, .. } = request;
    if !forwards_credential(route, caller) {
        headers.remove(header::AUTHORIZATION);
    }
    hop.write(&mut headers, &host_field, &client.reported);
    write_via(&mut headers, version);
    remove_invalid_trace(&mut headers);
    // After the headers above, so that a route can set and remove them; before those that no route
    // may change.
    route.settings().request_headers.apply(&mut headers);
    headers.insert(X_REQUEST_ID, request_id.clone());
    for (name, value) in caller.headers() {
        headers.insert(name, value.clone());
    }
    // The host that the client used. For an upstream that is configured to receive its own name,
    // the exchange replaces it with that of the selected server.
    headers.insert(header::HOST, host_field);
    headers
}

/// Whether the client's `Authorization` goes to the upstream. On a route that reads tokens, only
/// with the token that was verified: a backend behind such a route may take every credential that
/// it receives for a verified one. A public route forwards whatever the client sent.
fn forwards_credential(route: &Route, caller: &Caller) -> bool {
    let is_trustworthy = match (&route.settings().access, caller) {
        (Access::Public, _) | (Access::Optional | Access::Token(_), Caller::Known(_)) => true,
        (Access::Optional | Access::Token(_), Caller::Anonymous) => false,
    };
    is_trustworthy && route.upstream().settings().forward_token
}

/// Writes the framing headers, from the body itself and not from the client's headers (RFC 9112
/// §6).
fn write_framing(headers: &mut HeaderMap, method: &Method, body: &RequestBody) {
    let expects_a_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match body.size_hint().exact() {
        Some(0) if !expects_a_body => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // Without this header hyper would send a GET without its body.
        None => {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// The longest lifetime of a tunnel: until the caller's token expires. `None` without a token.
fn time_to_expiry(runtime: &Runtime, caller: &Caller) -> Option<Duration> {
    let expires_at = caller.principal()?.expires_at();
    Some(Duration::from_micros(expires_at.micros().saturating_sub(runtime.clock().now().micros())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_replaced_at_segment_ends() {
        for (name, path, strip, add, expected) in [
            ("nothing to do", "/a/b", None, None, "/a/b"),
            ("strip", "/api/orders", Some("/api"), None, "/orders"),
            ("strip all", "/api", Some("/api"), None, "/"),
            ("strip up to the slash", "/api/", Some("/api"), None, "/"),
            ("not in the middle of a segment", "/apiadmin", Some("/api"), None, "/apiadmin"),
            ("add", "/orders", None, Some("/v2"), "/v2/orders"),
            ("replace", "/api/orders/", Some("/api"), Some("/v2"), "/v2/orders/"),
            ("replace all", "/api", Some("/api"), Some("/v2"), "/v2"),
        ] {
            assert_eq!(replace_prefix(path, strip, add), expected, "{name}");
        }
    }
}
