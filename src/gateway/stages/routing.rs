//! Routing: finds the route that applies, and recognizes preflights that the gateway answers.
//!
//! A route matches by host, path and method alone; [`matching`](crate::gateway::matching) compares
//! patterns. A preflight is recognized by its headers.

use std::sync::Arc;

use http::Method;

use super::StageContext;
use super::forward::replace_prefix;
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
/// 400 for a path in an unusual form, unless a route matches it and accepts the form, and for a
/// path that backends may interpret differently.
pub(crate) fn route<O: Observer>(
    request: Box<InboundRequest>,
    cx: &mut StageContext<'_, O>,
) -> Result<RoutingOutcome, Refusal> {
    cx.enter(Stage::Routing);
    let Selection { route, decision, asks_for_other_route } =
        select(&request, cx.runtime).map_err(|no_route| no_route.report(cx))?;
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

/// The route that applies to a request.
struct Selection {
    route: Arc<Route>,
    /// The answer to a preflight; `None` for any other request, and for one that is not answered.
    decision: Option<OriginDecision>,
    asks_for_other_route: bool,
}

/// Why no route applies to a request.
struct NoRoute {
    refusal: Refusal,
    /// The route that matches and its key that decides, if there are any.
    decided_by: Option<(Arc<Route>, &'static str)>,
}

fn select(request: &InboundRequest, runtime: &Runtime) -> Result<Selection, NoRoute> {
    let find = |method: &Method| find(&request.host, &request.path(), method, runtime);
    let Some(method) = preflight_method(&request.method, &request.headers) else {
        return Ok(Selection { route: find(&request.method)?, decision: None, asks_for_other_route: false });
    };
    let asked = Method::from_bytes(method.as_bytes()).ok().map(|method| find(&method));
    match asked {
        Some(Ok(asked)) => {
            if let Some(decision) = preflight_decision(&asked, request) {
                return Ok(Selection { route: asked, decision: Some(decision), asks_for_other_route: false });
            }
            let route = find(&request.method)?;
            let asks_for_other_route = !Arc::ptr_eq(&asked, &route);
            Ok(Selection { route, decision: None, asks_for_other_route })
        }
        // The path is refused to the request that the preflight asks about.
        Some(Err(no_route)) if matches!(no_route.refusal, Refusal::Path(_)) => Err(no_route),
        Some(Err(_)) | None => {
            let route = find(&request.method)?;
            let decision = preflight_decision(&route, request);
            Ok(Selection { route, decision, asks_for_other_route: false })
        }
    }
}

/// The decision on the origin of a preflight. `None` if the gateway does not answer the preflight:
/// the route has no policy, or is `report_only` and its policy would deny the origin.
fn preflight_decision(route: &Route, request: &InboundRequest) -> Option<OriginDecision> {
    let policy: &CorsPolicy = route.settings().cors.as_ref()?;
    let decision = policy.decide(&request.headers);
    (!route.settings().report_only || decision != OriginDecision::Denied).then_some(decision)
}

/// The route for a host, a path in normal form and a method.
fn find(host: &Host, path: &NormalPath<'_>, method: &Method, runtime: &Runtime) -> Result<Arc<Route>, NoRoute> {
    let no_route = |refusal| NoRoute { refusal, decided_by: None };
    if is_reserved_path(path.as_str()) {
        return Err(no_route(Refusal::RouteNotFound));
    }
    let route = |index: usize| Arc::clone(&runtime.routes()[index]);
    match runtime.table().find(host, path, method) {
        RouteMatch::Found(index) => check_forwarded_path(route(index), path),
        RouteMatch::Ambiguous => Err(no_route(Refusal::Path(PathRefusal::Ambiguous))),
        RouteMatch::MethodNotAllowed(allow) => Err(no_route(Refusal::MethodNotAllowed { allow })),
        RouteMatch::NotFound => Err(no_route(Refusal::RouteNotFound)),
        RouteMatch::UnusualForm { form, route: index } => Err(NoRoute {
            refusal: Refusal::Path(PathRefusal::Unusual(form)),
            decided_by: index.map(|index| (route(index), "unusual_paths")),
        }),
    }
}

/// Returns the route if the path without its `strip_prefix` obeys the rules of all paths. Only a
/// path in an unusual form may not: `/files//host/x` becomes `//host/x`.
fn check_forwarded_path(route: Arc<Route>, path: &NormalPath<'_>) -> Result<Arc<Route>, NoRoute> {
    let settings = route.settings();
    if path.forms().is_empty() || settings.strip_prefix.is_none() {
        return Ok(route);
    }
    let forwarded = replace_prefix(path.as_str(), settings.strip_prefix.as_deref(), settings.add_prefix.as_deref());
    match NormalPath::parse(&forwarded, settings.pattern.unusual_paths) {
        Ok(_) => Ok(route),
        Err(refusal) => Err(NoRoute { refusal: Refusal::Path(refusal), decided_by: Some((route, "strip_prefix")) }),
    }
}

impl NoRoute {
    /// Reports what decided, and returns the refusal.
    fn report<O: Observer>(self, cx: &mut StageContext<'_, O>) -> Refusal {
        if let Refusal::Path(path) = &self.refusal {
            cx.check(|| {
                let check = if let PathRefusal::Unusual(form) = path {
                    let key = format!("unusual_paths = [\"{}\"]", form.name());
                    Check::failed("path", format!("{path}: a route accepts it with {key}"))
                } else {
                    Check::failed("path", path.to_string())
                };
                match &self.decided_by {
                    Some((route, key)) => check.with_key(route.settings().key(key)),
                    None => check,
                }
            });
        }
        self.refusal
    }
}
