//! The decision on a request, from its head alone.
//!
//! [`decide`] runs stages 1 to 7 in order. It knows neither bodies nor upstream connections. The
//! data path forwards the requests that it admits, an open tunnel asks again whether it would be
//! admitted, and `explain` prints its checks. Code that needs a decision calls [`decide`] and does
//! not implement any rule again.

use bytes::Bytes;
use http::Response;

use super::observer::Observer;
use super::request::{Peer, PeerService, RequestHead};
use super::response::context::ResponseContext;
use super::response::refusal::Refusal;
use super::runtime::Runtime;
use super::stages::routing::RoutingOutcome;
use super::stages::{StageContext, authenticate, authorize, cors, https_redirect, normalize, rate_limit, routing};

pub(crate) use super::stages::authenticate::{Caller, Credentials};
pub(crate) use super::stages::rate_limit::Admitted;

/// The decision on a request that is not refused.
#[derive(Debug)]
pub(crate) enum Decision {
    /// The request may be forwarded to its upstream.
    Admitted(Admitted),
    /// The request is a CORS preflight; this is the response.
    Preflight(Response<Bytes>),
    /// The request came without TLS to a listener that redirects to https; this is the response:
    /// the redirect, or the answer to an ACME server's challenge.
    Redirect(Response<Bytes>),
}

/// Decides on a request.
///
/// # Errors
///
/// The [`Refusal`] of the first stage that refuses it.
///
/// # Cancel safety
///
/// May be dropped at any time. What rate limits have counted by then stays counted.
pub(crate) async fn decide<O: Observer>(
    head: RequestHead,
    credentials: Credentials<'_>,
    peer: &Peer,
    runtime: &Runtime,
    response: &mut ResponseContext,
    observer: &mut O,
) -> Result<Decision, Refusal> {
    let cx = &mut StageContext { runtime, credentials, response, observer };
    let request = normalize::normalize(head, peer, cx)?;
    match peer.service() {
        PeerService::HttpsRedirect => return https_redirect::redirect(&request, cx).map(Decision::Redirect),
        PeerService::Routes => {}
    }
    let routed = match routing::route(request, cx)? {
        RoutingOutcome::Preflight(preflight) => {
            return Ok(Decision::Preflight(cors::preflight_response(&preflight, cx)));
        }
        RoutingOutcome::Request(routed) => routed,
    };
    cors::check_origin(&routed, cx);
    rate_limit::check_before_auth(&routed, cx).await?;
    let caller = authenticate::authenticate(&routed, cx).await?;
    let permit = authorize::authorize(routed, caller, cx)?;
    rate_limit::check_after_auth(permit, cx).await.map(Decision::Admitted)
}
