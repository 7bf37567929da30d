//! Routing: finds the route that applies, and recognizes preflights that the gateway answers.
//!
//! A route matches by host, path and method alone; [`matching`](crate::gateway::matching) compares
//! patterns. A preflight is recognized by its headers.

use std::sync::Arc;

use http::Method;

use super::StageContext;
use super::normalize::InboundRequest;
use crate::gateway::matching::host::Host;
use crate::gateway::matching::path::{NormalPath, PathRefusal};
use crate::gateway::matching::{RouteMatch, is_reserved_path};
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::cors_policy::{OriginDecision, preflight_method};
use crate::gateway::policy::{CorsPolicy, Route};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::runtime::Runtime;

/// The result of routing.
#[derive(Debug)]
pub(crate) enum RoutingOutcome {
    /// A CORS preflight that the route's policy answers.
    Preflight(PreflightRequest),
    /// A request with the route that applies to it.
    Request(RoutedRequest),
}

/// A preflight, and the decision of its route's policy on the origin.
#[derive(Debug)]
pub(crate) struct PreflightRequest {
    pub(super) route: Arc<Route>,
    pub(super) decision: OriginDecision,
}

/// A request and the route that applies to it.
#[derive(Debug)]
pub(crate) struct RoutedRequest {
    request: Box<InboundRequest>,
    route: Arc<Route>,
    asks_for_other_route: bool,
}

impl RoutedRequest {
    /// The request.
    #[must_use]
    pub(crate) fn request(&self) -> &InboundRequest {
        &self.request
    }

    /// The route.
    #[must_use]
    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Whether the request is a preflight for a method that another route serves, and that route
    /// does not answer it. The CORS policy of this route must not answer in its place.
    #[must_use]
    pub(super) fn asks_for_other_route(&self) -> bool {
        self.asks_for_other_route
    }

    pub(super) fn into_parts(self) -> (Box<InboundRequest>, Arc<Route>) {
        (self.request, self.route)
    }

    /// Enforces the result of a check. A `report_only` route records the refusal and continues with
    /// the default value instead.
    ///
    /// # Errors
    ///
    /// The refusal, unless the route is `report_only`.
    pub(in crate::gateway) fn enforce<T: Default, O: Observer>(
        &self,
        result: Result<T, Refusal>,
        cx: &mut StageContext<'_, O>,
    ) -> Result<T, Refusal> {
        match result {
            Err(refusal) if self.route.settings().report_only => {
                cx.check(|| {
                    let detail = format!("would be refused ({}), but the route only reports", refusal.code());
                    Check::noted("report", detail).with_key(self.route.settings().key("report_only"))
                });
                cx.response.report_refusal(&self.route, &refusal);
                Ok(T::default())
            }
            result => result,
        }
    }
}

/// Finds the route of a request.
///
/// A preflight is answered under the policy of the route for the requested method. Only if there is
/// no such route, the policy of the route for `OPTIONS` counts. A preflight that is not answered is
/// an ordinary `OPTIONS` request: the route for `OPTIONS` forwards it, never the route for the
/// method that it only asks about.
///
/// # Errors
///
/// 404 if no route matches the path, 405 with `Allow` if none of those that do allows the method,
/// 400 for a path with `;`, unless a route matches it and allows path parameters, and for a path
/// that backends may interpret differently.
pub(crate) fn route<O: Observer>(
    request: Box<InboundRequest>,
    cx: &mut StageContext<'_, O>,
) -> Result<RoutingOutcome, Refusal> {
    cx.enter(Stage::Routing);
    let find = |method: &Method| find(&request.host, &request.path(), method, cx.runtime);
    let requested_method = preflight_method(&request.method, &request.headers);
    let asked = requested_method.and_then(|method| find(&Method::from_bytes(method.as_bytes()).ok()?).ok());
    let decision = asked.as_ref().and_then(|asked| preflight_decision(asked, &request));
    let (route, decision, asks_for_other_route) = match (asked, decision) {
        (Some(asked), Some(decision)) => (asked, Some(decision), false),
        (Some(asked), None) => {
            let route = find(&request.method)?;
            let is_other = !Arc::ptr_eq(&asked, &route);
            (route, None, is_other)
        }
        (None, _) => {
            let route = find(&request.method)?;
            let decision = requested_method.and_then(|_| preflight_decision(&route, &request));
            (route, decision, false)
        }
    };
    cx.response.set_route(&route);
    cx.check(|| {
        let settings = route.settings();
        Check::passed("route", format!("{} ({})", settings.name, settings.pattern.path)).with_key(settings.key("path"))
    });
    Ok(match decision {
        Some(decision) => RoutingOutcome::Preflight(PreflightRequest { route, decision }),
        None => RoutingOutcome::Request(RoutedRequest { request, route, asks_for_other_route }),
    })
}

/// The decision on the origin of a preflight. `None` if the gateway does not answer the preflight:
/// the route has no policy, or is `report_only` and its policy would deny the origin.
fn preflight_decision(route: &Route, request: &InboundRequest) -> Option<OriginDecision> {
    let policy: &CorsPolicy = route.settings().cors.as_ref()?;
    let decision = policy.decide(&request.headers);
    (!route.settings().report_only || decision != OriginDecision::Denied).then_some(decision)
}

/// The route for a host, a path in normal form and a method.
fn find(host: &Host, path: &NormalPath<'_>, method: &Method, runtime: &Runtime) -> Result<Arc<Route>, Refusal> {
    if is_reserved_path(path.as_str()) {
        return Err(Refusal::RouteNotFound);
    }
    let parameters_refused = || Refusal::Path(PathRefusal::Parameters);
    match runtime.table().find(host, path, method) {
        RouteMatch::Found(index) => {
            let route = Arc::clone(&runtime.routes()[index]);
            let refused = path.has_parameters() && !route.settings().path_parameters;
            if refused { Err(parameters_refused()) } else { Ok(route) }
        }
        // A path with `;` matches fewer patterns than the path that some backends make of it. 404
        // and 405 would say that there is no such route.
        RouteMatch::MethodNotAllowed(_) | RouteMatch::NotFound if path.has_parameters() => Err(parameters_refused()),
        RouteMatch::Ambiguous => Err(Refusal::Path(PathRefusal::Ambiguous)),
        RouteMatch::MethodNotAllowed(allow) => Err(Refusal::MethodNotAllowed { allow }),
        RouteMatch::NotFound => Err(Refusal::RouteNotFound),
    }
}
