//! Rate limiting: lets a request continue, or refuses it and says when to retry.
//!
//! Limits by address, route or header are counted *before* authentication, to save the work of
//! verifying tokens. Limits by caller are counted *after* authorization, so that a request without
//! a valid token cannot use up a caller's budget. [`policy::limit`](crate::gateway::policy::limit)
//! decides which requests share a budget.

use super::StageContext;
use super::authorize::Permit;
use super::routing::RoutedRequest;
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::limit::LimitOutcome;
use crate::gateway::policy::{LimitInput, Limiter};
use crate::gateway::response::refusal::Refusal;
use crate::rate_limit::QuotaDecision;
use crate::token::Principal;

/// Proof that the rate limits allow a permitted request. Neither `Clone` nor constructible
/// elsewhere.
#[derive(Debug)]
pub(crate) struct Admitted(Permit);

impl Admitted {
    pub(super) fn into_permit(self) -> Permit {
        self.0
    }

    /// The permit.
    #[must_use]
    pub(crate) fn permit(&self) -> &Permit {
        &self.0
    }
}

/// Counts the limits of the route whose key is known without the caller.
///
/// # Errors
///
/// [`Refusal::RateLimited`] for the first limit that is used up.
pub(crate) async fn check_before_auth<O: Observer>(
    routed: &RoutedRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<(), Refusal> {
    cx.enter(Stage::LimitBeforeAuth);
    for limiter in routed.route().limits_before_auth() {
        check_limit(limiter, routed, None, cx).await?;
    }
    Ok(())
}

/// Counts the limits of the route whose key is the caller.
///
/// # Errors
///
/// [`Refusal::RateLimited`] for the first limit that is used up.
pub(crate) async fn check_after_auth<O: Observer>(
    permit: Permit,
    cx: &mut StageContext<'_, O>,
) -> Result<Admitted, Refusal> {
    cx.enter(Stage::LimitAfterAuth);
    for limiter in permit.routed().route().limits_after_auth() {
        check_limit(limiter, permit.routed(), permit.caller().principal(), cx).await?;
    }
    Ok(Admitted(permit))
}

async fn check_limit<O: Observer>(
    limiter: &Limiter,
    routed: &RoutedRequest,
    principal: Option<&Principal>,
    cx: &mut StageContext<'_, O>,
) -> Result<(), Refusal> {
    if cx.credentials.are_established() {
        return Ok(());
    }
    let request = routed.request();
    let route = &routed.route().settings().name;
    let input = LimitInput { client_ip: request.client.ip, headers: &request.headers, route, principal };
    let outcome = limiter.take(input).await;
    cx.response.add_limit(&outcome);
    cx.check(|| describe(limiter, &outcome));
    routed.enforce(outcome.require_allowed().map_err(Refusal::from), cx)
}

fn describe(limiter: &Limiter, outcome: &LimitOutcome<'_>) -> Check {
    let quota = &limiter.settings().quota;
    let detail = format!("{}: {} in {} s, burst {}", outcome.limit, quota.count, quota.period.as_secs(), quota.burst);
    let check = match outcome.decision {
        QuotaDecision::Allowed { .. } => Check::noted("limit", detail),
        QuotaDecision::Exceeded { .. } => Check::failed("limit", detail),
    };
    check.with_key(format!("limits.{}", outcome.limit))
}
