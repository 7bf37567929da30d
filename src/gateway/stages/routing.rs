//! Routing: which route applies, and whether the request is a preflight that the gateway answers.
//!
//! Looks at nothing but host, path and method. How patterns are compared is in
//! [`matching`](crate::gateway::matching).

use std::sync::Arc;

use http::Method;

use super::StageContext;
use super::normalize::InboundRequest;
use crate::gateway::matching::host::Host;
use crate::gateway::matching::path::{NormalPath, PathRefusal};
use crate::gateway::matching::{RouteMatch, is_reserved_path};
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::cors_policy::{Grant, preflight_method};
use crate::gateway::policy::{CorsPolicy, Route};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::runtime::Runtime;

/// What routing makes of a request.
#[derive(Debug)]
pub(crate) enum Routed {
    /// A CORS preflight that the route's policy answers.
    Preflight(PreflightRequest),
    /// A request with the route that applies to it.
    Request(RoutedRequest),
}

/// A preflight, with what the policy of the route says to its origin.
#[derive(Debug)]
pub(crate) struct PreflightRequest {
    pub(super) route: Arc<Route>,
    pub(super) grant: Grant,
}

/// A request and the route that applies to it.
#[derive(Debug)]
pub(crate) struct RoutedRequest {
    request: Box<InboundRequest>,
    route: Arc<Route>,
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

    pub(super) fn into_parts(self) -> (Box<InboundRequest>, Arc<Route>) {
        (self.request, self.route)
    }

    /// Refuses as judged, unless the route only reports: then notes what would have been refused, and
    /// lets the request go on.
    ///
    /// # Errors
    ///
    /// The refusal itself on every route that is not `report_only`.
    pub(in crate::gateway) fn enforce<T: Default, O: Observer>(
        &self,
        judged: Result<T, Refusal>,
        cx: &mut StageContext<'_, O>,
    ) -> Result<T, Refusal> {
        match judged {
            Err(refusal) if self.route.settings().report_only => {
                cx.check(|| {
                    let detail = format!("would be refused ({}), but the route only reports", refusal.code());
                    Check::noted("report", detail).by(self.route.settings().key("report_only"))
                });
                cx.response.would_refuse(&self.route, &refusal);
                Ok(T::default())
            }
            judged => judged,
        }
    }
}

/// Finds the route of a request. A preflight is judged by the method it asks for, if the route for that
/// method has a CORS policy that answers it; otherwise it is a request like any other, and takes the
/// route of its own method, so that it never goes on under the rules of a route it only asked about.
///
/// # Errors
///
/// 404 for a path that has no route, 405 with `Allow` for one that has none for the method; 400 for a
/// `;` that the route does not allow, and for a path that backends may read as another.
pub(crate) fn route<O: Observer>(
    request: Box<InboundRequest>,
    cx: &mut StageContext<'_, O>,
) -> Result<Routed, Refusal> {
    cx.enter(Stage::Routing);
    let find = |method: &Method| find(&request.host, &request.path(), method, cx.runtime);
    let asked_about = preflight_method(&request.method, &request.headers);
    let answered = asked_about.and_then(|method| {
        let route = find(&Method::from_bytes(method.as_bytes()).ok()?).ok()?;
        Some((preflight_grant(&route, &request)?, route))
    });
    let (route, grant) = if let Some((grant, route)) = answered {
        (route, Some(grant))
    } else {
        let route = find(&request.method)?;
        let grant = asked_about.and_then(|_| preflight_grant(&route, &request));
        (route, grant)
    };
    cx.response.set_route(&route);
    cx.check(|| {
        let settings = route.settings();
        Check::passed("route", format!("{} ({})", settings.name, settings.pattern.path)).by(settings.key("path"))
    });
    Ok(match grant {
        Some(grant) => Routed::Preflight(PreflightRequest { route, grant }),
        None => Routed::Request(RoutedRequest { request, route }),
    })
}

/// What the route's policy says to the origin of a preflight. `None` if the gateway does not answer it:
/// the route has no policy, or only reports what its policy would deny.
fn preflight_grant(route: &Route, request: &InboundRequest) -> Option<Grant> {
    let policy: &CorsPolicy = route.settings().cors.as_ref()?;
    let grant = policy.grant(&request.headers);
    (!route.settings().report_only || grant != Grant::Denied).then_some(grant)
}

/// The route for a host, a path in normal form and a method.
fn find(host: &Host, path: &NormalPath<'_>, method: &Method, runtime: &Runtime) -> Result<Arc<Route>, Refusal> {
    if is_reserved_path(path) {
        return Err(Refusal::RouteNotFound);
    }
    let parameters_refused = || Refusal::Path(PathRefusal::Parameters);
    match runtime.table().find(host, path, method) {
        RouteMatch::Found(index) => {
            let route = Arc::clone(&runtime.routes()[index]);
            let refused = path.has_parameters() && !route.settings().path_parameters;
            if refused { Err(parameters_refused()) } else { Ok(route) }
        }
        RouteMatch::MethodNotAllowed(_) | RouteMatch::NotFound if path.has_parameters() => Err(parameters_refused()),
        RouteMatch::Ambiguous => Err(Refusal::Path(PathRefusal::Ambiguous)),
        RouteMatch::MethodNotAllowed(allow) => Err(Refusal::MethodNotAllowed { allow }),
        RouteMatch::NotFound => Err(Refusal::RouteNotFound),
    }
}
