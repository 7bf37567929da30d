//! CORS: answers preflights, and decides whether the request's origin may read the response.
//!
//! Runs before authentication, because a preflight carries no credentials, and because a page can
//! read a 401 only if the 401 has CORS headers. Refuses nothing, since the browser enforces CORS.

use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::StageContext;
use super::routing::{PreflightRequest, RoutedRequest};
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::OriginDecision;

/// Answers a preflight with 204. A denied origin gets the 204 without permission.
pub(crate) fn preflight_response<O: Observer>(
    preflight: &PreflightRequest,
    cx: &mut StageContext<'_, O>,
) -> Response<Bytes> {
    cx.enter(Stage::Cors);
    let settings = preflight.route.settings();
    cx.check(|| describe(&preflight.decision, true).with_key(settings.key("cors")));
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Some(policy) = &settings.cors {
        policy.write_preflight(&preflight.decision, response.headers_mut());
    }
    response
}

/// Decides on the origin of a request that is not a preflight. Every response from here on carries
/// the CORS headers for the decision.
///
/// A preflight for a method of another route, which that route does not answer, gets no permission
/// from this route's policy: a browser would take it for that of the other route.
///
/// A `report_only` route does not apply a decision that denies the origin; then the upstream's own
/// CORS headers stand.
pub(crate) fn check_origin<O: Observer>(routed: &RoutedRequest, cx: &mut StageContext<'_, O>) {
    cx.enter(Stage::Cors);
    let route = routed.route();
    let Some(policy) = &route.settings().cors else {
        cx.check(|| Check::noted("cors", "the route has no policy: the upstream's CORS headers are forwarded"));
        return;
    };
    if routed.asks_for_other_route() {
        cx.check(|| Check::noted("cors", "no permission: the route for the requested method gives none"));
        if !route.settings().report_only {
            cx.response.set_origin_decision(OriginDecision::Denied);
        }
        return;
    }
    let decision = policy.decide(&routed.request().headers);
    let has_origin = routed.request().headers.contains_key(header::ORIGIN);
    cx.check(|| describe(&decision, has_origin).with_key(route.settings().key("cors")));
    if decision == OriginDecision::Denied && has_origin && route.settings().report_only {
        cx.response.report_denied_origin(route);
    } else {
        cx.response.set_origin_decision(decision);
    }
}

fn describe(decision: &OriginDecision, has_origin: bool) -> Check {
    match decision {
        OriginDecision::Allowed { origin } => {
            let origin = origin.to_str().unwrap_or_default();
            Check::passed("cors", format!("the origin may read the response: {origin}"))
        }
        OriginDecision::Denied if has_origin => {
            Check::noted("cors", "the origin is not listed: a browser will not show the response to its page")
        }
        OriginDecision::Denied => Check::noted("cors", "no origin given"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_whether_there_was_an_origin_to_deny() {
        let details = [true, false].map(|has_origin| describe(&OriginDecision::Denied, has_origin).detail);
        assert_eq!(
            details,
            ["the origin is not listed: a browser will not show the response to its page", "no origin given"]
        );
    }
}
