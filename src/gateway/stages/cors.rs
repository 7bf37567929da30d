//! CORS: answers preflights, and decides which origins may read the response.
//!
//! Before any credential is looked at: a preflight carries none, and a page can read a 401 only if
//! that has CORS headers. Refuses nothing, since a browser enforces CORS.

use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::StageContext;
use super::routing::{PreflightRequest, RoutedRequest};
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::Grant;

/// Answers a preflight: 204, with the permission or without it.
pub(crate) fn preflight<O: Observer>(preflight: &PreflightRequest, cx: &mut StageContext<'_, O>) -> Response<Bytes> {
    cx.enter(Stage::Cors);
    let settings = preflight.route.settings();
    cx.check(|| describe(&preflight.grant, true).by(settings.key("cors")));
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Some(policy) = &settings.cors {
        policy.write_preflight(&preflight.grant, response.headers_mut());
    }
    response
}

/// Decides on the origin of any other request; every response from here on carries the grant.
///
/// A `report_only` route does not apply a policy that denies the origin: what the upstream says about
/// CORS stands.
pub(crate) fn grant<O: Observer>(routed: &RoutedRequest, cx: &mut StageContext<'_, O>) {
    cx.enter(Stage::Cors);
    let route = routed.route();
    let Some(policy) = &route.settings().cors else {
        cx.check(|| Check::noted("cors", "no policy; what the upstream says stands"));
        return;
    };
    let grant = policy.grant(&routed.request().headers);
    let has_origin = routed.request().headers.contains_key(header::ORIGIN);
    cx.check(|| describe(&grant, has_origin).by(route.settings().key("cors")));
    if grant == Grant::Denied && has_origin && route.settings().report_only {
        cx.response.would_deny_origin(route);
    } else {
        cx.response.set_grant(grant);
    }
}

fn describe(grant: &Grant, has_origin: bool) -> Check {
    match grant {
        Grant::Allowed { origin } => {
            let origin = origin.to_str().unwrap_or_default();
            Check::passed("cors", format!("the origin may read the response: {origin}"))
        }
        Grant::Denied | Grant::NoPolicy if has_origin => {
            Check::noted("cors", "the origin is not listed: a browser will not show the response to its page")
        }
        Grant::Denied | Grant::NoPolicy => Check::noted("cors", "no origin given"),
    }
}
