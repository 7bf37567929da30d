//! The request as the upstream receives it: target, headers and framing, made from the normalized
//! request and from what the gateway adds.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;

use super::upgrade::PendingUpgrade;
use crate::gateway::policy::{Access, Route};
use crate::gateway::request::RequestTail;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::runtime::Runtime;
use crate::gateway::stages::authenticate::Caller;
use crate::gateway::stages::normalize::InboundRequest;
use crate::gateway::tls_peer::PresentedCertificate;
use crate::primitives::min_rate::WaitAllowance;
use crate::upstream::ForwardClientCert;
use crate::upstream::body::{MaxBody, RequestBody};
use crate::upstream::headers::trace::{remove_invalid_trace, write_via};
use crate::upstream::headers::{CLIENT_CERT, CLIENT_CERT_CHAIN, X_REQUEST_ID};
use crate::upstream::websocket::SEC_WEBSOCKET_KEY;

/// The request as it goes to the upstream.
pub(super) struct UpstreamRequest {
    pub(super) request: Request<RequestBody>,
    /// The client's connection, if the request asks to switch protocols.
    pub(super) client_upgrade: Option<OnUpgrade>,
}

/// What the gateway adds to a request.
pub(super) struct Additions<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) caller: &'a Caller,
    pub(super) request_id: &'a HeaderValue,
}

impl UpstreamRequest {
    pub(super) fn new(
        request: InboundRequest,
        tail: RequestTail,
        route: &Route,
        upgrade: Option<&PendingUpgrade>,
        additions: &Additions<'_>,
    ) -> Result<Self, Refusal> {
        let settings = route.settings();
        check_length(&tail, settings.max_body_size)?;
        let target = build_target(&request, route)?;
        let method = request.method.clone();
        let mut headers = build_headers(request, route, additions);
        let allowance = WaitAllowance::new(settings.min_body_rate, settings.body_idle.request);
        let body = RequestBody::new(tail.body, settings.max_body_size, allowance);
        let client_upgrade = upgrade.and_then(|upgrade| {
            let client = tail.upgrade?;
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, upgrade.protocol.clone());
            if let Some(key) = &upgrade.websocket_key {
                headers.insert(SEC_WEBSOCKET_KEY, key.value().clone());
            }
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
pub(in crate::gateway::stages) fn replace_prefix(path: &str, strip: Option<&str>, add: Option<&str>) -> String {
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
fn build_headers(request: InboundRequest, route: &Route, additions: &Additions<'_>) -> HeaderMap {
    let Additions { runtime, caller, request_id } = *additions;
    let InboundRequest { mut headers, client, hop, host_field, version, certificate, .. } = request;
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
    if let PresentedCertificate::Valid(certificate) = &certificate {
        for (name, value) in &certificate.identity(runtime.identity(), runtime.callers().metrics()).headers {
            headers.insert(name, value.clone());
        }
    }
    write_client_cert(&mut headers, route.upstream().settings().forward_client_cert, &certificate, runtime);
    // The host that the client used. For an upstream that is configured to receive its own name,
    // the exchange replaces it with that of the selected server.
    headers.insert(header::HOST, host_field);
    headers
}

/// For an upstream that wants them, replaces `Client-Cert` and `Client-Cert-Chain` (RFC 9440): they
/// describe the certificate of this connection, or are absent.
fn write_client_cert(
    headers: &mut HeaderMap,
    wanted: ForwardClientCert,
    certificate: &PresentedCertificate,
    runtime: &Runtime,
) {
    let wants_chain = match wanted {
        ForwardClientCert::None => return,
        ForwardClientCert::Certificate => false,
        ForwardClientCert::Chain => true,
    };
    headers.remove(&CLIENT_CERT);
    headers.remove(&CLIENT_CERT_CHAIN);
    let PresentedCertificate::Valid(certificate) = certificate else { return };
    let fields = certificate.client_cert_fields(runtime.callers().metrics());
    let chain = if wants_chain { fields.chain.as_ref() } else { None };
    for (name, value) in [(&CLIENT_CERT, fields.own.as_ref()), (&CLIENT_CERT_CHAIN, chain)] {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
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
