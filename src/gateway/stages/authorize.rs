//! Authorization: whether the caller meets the route's demands.
//!
//! [`authorize`] is the only constructor of [`Permit`], and [`forward`](super::forward) needs one,
//! so code that forwards a request without authorization does not compile.

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
    /// The request and its route.
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
/// 403 for a caller that does not meet a demand. Authentication refuses a missing token, so that it
/// gets here only on a `report_only` route.
pub(crate) fn authorize<O: Observer>(
    routed: RoutedRequest,
    caller: Caller,
    cx: &mut StageContext<'_, O>,
) -> Result<Permit, Refusal> {
    cx.enter(Stage::Authorize);
    let result = check_access(routed.route(), &caller, cx);
    routed.enforce(result, cx)?;
    Ok(Permit { routed, caller })
}

fn check_access<O: Observer>(route: &Route, caller: &Caller, cx: &mut StageContext<'_, O>) -> Result<(), Refusal> {
    match (&route.settings().access, caller) {
        (Access::Public | Access::Optional, Caller::Anonymous) | (Access::Optional, Caller::Known(_)) => Ok(()),
        (Access::Token(demands), Caller::Known(caller)) => check_demands(demands, caller.principal(), route, cx),
        (Access::Token(_), Caller::Anonymous) => Err(Refusal::CredentialsMissing),
        // Authentication ignores tokens on a public route, so its caller is always anonymous.
        (Access::Public, Caller::Known(_)) => Err(Refusal::Internal),
    }
}

/// Stops at the first demand that is not met, unless the observer asks for all of them.
fn check_demands<O: Observer>(
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
            check("demand", demand.to_string()).with_key(route.settings().key(demand.key()))
        });
        if !is_met {
            first_unmet = first_unmet.or(Some(demand));
            if !O::CHECKS_ALL_DEMANDS {
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
