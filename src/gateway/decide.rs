//! The one judge: what becomes of a request, from its head alone.
//!
//! [`decide`] runs the stages in order and knows neither bodies nor upstream connections. The data path
//! forwards what it admits; `explain` shows each check; whoever else needs a decision asks here, and
//! re-implements no rule.

use bytes::Bytes;
use http::Response;

use super::observer::Observer;
use super::request::{Peer, RequestHead};
use super::response::context::ResponseContext;
use super::response::refusal::Refusal;
use super::runtime::Runtime;
use super::stages::routing::Routed;
use super::stages::{StageContext, authenticate, authorize, cors, normalize, rate_limit, routing};

pub(crate) use super::stages::rate_limit::Admitted;

/// What becomes of a request that is not refused.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It may go to its upstream.
    Admitted(Admitted),
    /// It was a CORS preflight; this is the response.
    Preflight(Response<Bytes>),
}

/// Decides on a request.
///
/// # Errors
///
/// The [`Refusal`] of the first stage that refuses it.
///
/// # Cancel safety
///
/// May be dropped at any time; limits that were counted stay counted.
pub(crate) async fn decide<O: Observer>(
    head: RequestHead,
    peer: &Peer,
    runtime: &Runtime,
    response: &mut ResponseContext,
    observer: &mut O,
) -> Result<Decision, Refusal> {
    let cx = &mut StageContext { runtime, response, observer };
    let request = normalize::normalize(head, peer, cx)?;
    let routed = match routing::route(request, cx)? {
        Routed::Preflight(preflight) => return Ok(Decision::Preflight(cors::preflight(&preflight, cx))),
        Routed::Request(routed) => routed,
    };
    cors::grant(&routed, cx);
    rate_limit::check_before_auth(&routed, cx).await?;
    let caller = authenticate::authenticate(&routed, cx).await?;
    let permit = authorize::authorize(routed, caller, cx)?;
    rate_limit::check_after_auth(permit, cx).await.map(Decision::Admitted)
}
