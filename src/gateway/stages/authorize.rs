//! Authorization: whether the caller meets what the route demands.
//!
//! [`authorize`] is the only constructor of [`Permit`], and [`forward`](super::forward) needs one: a way
//! to the upstream that leaves this stage out does not compile.

use super::StageContext;
use super::authenticate::Caller;
use super::routing::RoutedRequest;
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::{Access, Demand, Route};
use crate::gateway::response::refusal::Refusal;
use crate::token::Principal;

/// Proof that a route's demands were met. Neither `Clone` nor constructible elsewhere.
#[derive(Debug)]
pub(crate) struct Permit {
    routed: RoutedRequest,
    caller: Caller,
}

impl Permit {
    /// The request and the route that it was permitted on.
    #[must_use]
    pub(crate) fn routed(&self) -> &RoutedRequest {
        &self.routed
    }

    /// Who is calling.
    #[must_use]
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) fn into_parts(self) -> (RoutedRequest, Caller) {
        (self.routed, self.caller)
    }
}

/// Permits the request if its caller meets the route's demands.
///
/// # Errors
///
/// 401 without a caller, 403 for one who lacks something.
pub(crate) fn authorize<O: Observer>(
    routed: RoutedRequest,
    caller: Caller,
    cx: &mut StageContext<'_, O>,
) -> Result<Permit, Refusal> {
    cx.enter(Stage::Authorize);
    let judged = judge(routed.route(), &caller, cx);
    routed.enforce(judged, cx)?;
    Ok(Permit { routed, caller })
}

fn judge<O: Observer>(route: &Route, caller: &Caller, cx: &mut StageContext<'_, O>) -> Result<(), Refusal> {
    match (&route.settings().access, caller) {
        (Access::Public | Access::Optional, Caller::Anonymous) | (Access::Optional, Caller::Known(_)) => Ok(()),
        (Access::Token(demands), Caller::Known(caller)) => judge_demands(demands, caller.principal(), route, cx),
        (Access::Token(_), Caller::Anonymous) => Err(Refusal::CredentialsMissing),
        // A public route looks at no token, so that no caller can be known there.
        (Access::Public, Caller::Known(_)) => Err(Refusal::Internal),
    }
}

/// Stops at the first demand that is not met, unless an observer wants to see all of them.
fn judge_demands<O: Observer>(
    demands: &[Demand],
    principal: &Principal,
    route: &Route,
    cx: &mut StageContext<'_, O>,
) -> Result<(), Refusal> {
    let mut first_unmet = None;
    for demand in demands {
        let is_met = demand.is_met_by(principal);
        cx.check(|| {
            let check = if is_met { Check::passed } else { Check::failed };
            check("demand", demand.to_string()).by(route.settings().key(demand.key()))
        });
        if !is_met {
            first_unmet = first_unmet.or(Some(demand));
            if !O::JUDGES_ALL_DEMANDS {
                break;
            }
        }
    }
    if demands.is_empty() {
        cx.check(|| Check::passed("demand", "a valid token suffices"));
    }
    match first_unmet {
        Some(demand) => Err(demand.denial().into()),
        None => Ok(()),
    }
}
