//! The redirect to https, on listeners that otherwise only answer the challenges of an ACME server.
//!
//! Runs in place of routing: which route a request would match does not matter, since the client
//! sends it again over TLS.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::StageContext;
use super::normalize::InboundRequest;
use crate::gateway::matching::path::PathRefusal;
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::runtime::HttpsOrigin;

/// The path at which an ACME server requests the answer to its challenge (RFC 8555 §8.3); a token
/// follows.
const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// Answers a challenge that the gateway expects, and redirects everything else to the same host,
/// path and query with https. The status is 308 (RFC 9110 §15.4.9), with which the client keeps the
/// method and sends the body again.
///
/// # Errors
///
/// [`Refusal::Path`], if the target has a byte that no header may have. HTTP's own syntax does not
/// allow one.
pub(crate) fn redirect<O: Observer>(
    request: &InboundRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<Response<Bytes>, Refusal> {
    cx.enter(Stage::Routing);
    if let Some(answer) = challenge_answer(request, cx) {
        cx.check(|| Check::noted("ACME challenge", "expected"));
        let mut response = Response::new(Bytes::from(answer.as_bytes().to_vec()));
        let text = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        return Ok(response);
    }
    let location = location(&cx.runtime.settings().https_origin, request);
    cx.check(|| Check::noted("redirect", location.as_str()));
    let location = HeaderValue::try_from(location).map_err(|_| Refusal::Path(PathRefusal::ForbiddenByte))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// The key authorization, which proves to an ACME server that the gateway controls the host; `None`
/// for every other request.
fn challenge_answer<O>(request: &InboundRequest, cx: &StageContext<'_, O>) -> Option<Arc<str>> {
    let path = request.path();
    let token = path.as_str().strip_prefix(CHALLENGE_PATH)?;
    cx.runtime.tls()?.challenges().for_request(token)
}

/// The host is the configured one, or the one that the client has asked for. The latter may be any
/// host, but it is where the client has just sent its request.
fn location(origin: &HttpsOrigin, request: &InboundRequest) -> String {
    let mut location = match origin {
        HttpsOrigin::Fixed(origin) => origin.to_string(),
        HttpsOrigin::RequestedHost { port: None } => format!("https://{}", request.host.name()),
        HttpsOrigin::RequestedHost { port: Some(port) } => format!("https://{}:{port}", request.host.name()),
    };
    location.push_str(request.path().as_str());
    if let Some(query) = request.query() {
        location.push('?');
        location.push_str(query);
    }
    location
}
