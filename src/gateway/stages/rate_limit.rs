//! Rate limiting: lets a request go on, or says when to retry.
//!
//! Limits by address, route or header are counted *before* authentication: they are there to spare the
//! gateway the work on tokens. Limits by caller are counted *after* authorization, so that a stranger
//! cannot spend a user's budget. Who shares a budget is in [`policy::limit`](crate::gateway::policy).

use std::sync::Arc;

use super::StageContext;
use super::authorize::Permit;
use super::routing::RoutedRequest;
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::limit::Judgement;
use crate::gateway::policy::{LimitSubject, Limiter};
use crate::gateway::response::refusal::Refusal;
use crate::rate_limit::Decision;
use crate::token::Principal;

/// Proof that a permitted request may go now. Neither `Clone` nor constructible elsewhere.
#[derive(Debug)]
pub(crate) struct Admitted(Permit);

impl Admitted {
    pub(super) fn into_permit(self) -> Permit {
        self.0
    }

    /// The permit that was admitted.
    #[must_use]
    pub(crate) fn permit(&self) -> &Permit {
        &self.0
    }
}

/// Counts the route's limits whose key is known without a caller.
///
/// # Errors
///
/// [`Refusal::RateLimited`] by the first limit that is used up.
pub(crate) async fn check_before_auth<O: Observer>(
    routed: &RoutedRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<(), Refusal> {
    cx.enter(Stage::LimitBeforeAuth);
    for limiter in routed.route().limits_before_auth() {
        take(limiter, routed, None, cx).await?;
    }
    Ok(())
}

/// Counts the route's limits on who is calling.
///
/// # Errors
///
/// [`Refusal::RateLimited`] by the first limit that is used up.
pub(crate) async fn check_after_auth<O: Observer>(
    permit: Permit,
    cx: &mut StageContext<'_, O>,
) -> Result<Admitted, Refusal> {
    cx.enter(Stage::LimitAfterAuth);
    for limiter in permit.routed().route().limits_after_auth() {
        take(limiter, permit.routed(), permit.caller().principal(), cx).await?;
    }
    Ok(Admitted(permit))
}

async fn take<O: Observer>(
    limiter: &Limiter,
    routed: &RoutedRequest,
    caller: Option<&Principal>,
    cx: &mut StageContext<'_, O>,
) -> Result<(), Refusal> {
    let request = routed.request();
    let route = &routed.route().settings().name;
    let subject = LimitSubject { client: request.client.ip, headers: &request.headers, route, caller };
    let judgement = limiter.take(subject).await;
    cx.response.add_limit(&judgement);
    cx.check(|| describe(limiter, &judgement));
    routed.enforce(refusal(&judgement), cx)
}

/// Refuses unless the limit allows the request.
///
/// # Errors
///
/// [`Refusal::RateLimited`].
pub(super) fn refusal(judgement: &Judgement<'_>) -> Result<(), Refusal> {
    match judgement.decision {
        Decision::Allowed { .. } => Ok(()),
        Decision::Refused { retry_after } => {
            Err(Refusal::RateLimited { retry_after, limit: Arc::clone(judgement.limit) })
        }
    }
}

fn describe(limiter: &Limiter, judgement: &Judgement<'_>) -> Check {
    let quota = &limiter.settings().quota;
    let detail = format!("{}: {} in {} s, burst {}", judgement.limit, quota.count, quota.period.as_secs(), quota.burst);
    let check = match judgement.decision {
        Decision::Allowed { .. } => Check::noted("limit", detail),
        Decision::Refused { .. } => Check::failed("limit", detail),
    };
    check.by(format!("limits.{}", judgement.limit))
}
