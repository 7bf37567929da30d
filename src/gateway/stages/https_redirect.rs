//! The redirect to https, on listeners that serve nothing else.
//!
//! Runs in place of routing: which route a request would match does not matter, since the client
//! sends it again over TLS.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::StageContext;
use super::normalize::InboundRequest;
use crate::gateway::matching::path::PathRefusal;
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::runtime::HttpsOrigin;

/// Redirects to the same host, path and query with https. The status is 308 (RFC 9110 §15.4.9),
/// with which the client keeps the method and sends the body again.
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
    let location = location(&cx.runtime.settings().https_origin, request);
    cx.check(|| Check::noted("redirect", location.as_str()));
    let location = HeaderValue::try_from(location).map_err(|_| Refusal::Path(PathRefusal::ForbiddenByte))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
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
