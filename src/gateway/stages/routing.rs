//! The route of a request: which rules apply to it.
//!
//! Stage 2 of [`Gateway::handle`](super::Gateway::handle). How patterns are compared is in [`route`](crate::gateway::matching); here an
//! [`InboundRequest`] meets the table and becomes a [`RoutedRequest`].

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::gateway::matching::host::Host;
use crate::gateway::matching::path::{NormalPath, PathRefusal};
use crate::gateway::matching::{Choice, Pattern};
use crate::gateway::response::refusal::{Challenges, Refusal};
use crate::gateway::stages::authorize::Requirements;
use crate::gateway::stages::cors::{self, Asks, Grant};
use crate::gateway::stages::normalize::InboundRequest;
use crate::gateway::stages::rate_limit::Limiter;
use crate::gateway::{ResponseContext, Runtime};
use crate::telemetry::metrics::RouteMetrics;
use crate::token::Principal;
use crate::upstream::Upstream;
use crate::upstream::body::MaxBody;

/// What one `[[routes]]` entry means, checked: plain values, comparable.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSettings {
    /// Its place in the file, from 0: `explain` points there.
    pub place: usize,
    /// Unique; the label in metrics and logs.
    pub name: Arc<str>,
    /// Which requests it is for.
    pub pattern: Pattern,
    /// What it asks of the caller.
    pub access: Access,
    /// Names of the issuers it takes; `None`: all.
    pub issuers: Option<Vec<Arc<str>>>,
    /// A token must be for one of these; empty: what the issuer's settings ask for suffices.
    pub audiences: Vec<String>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What other origins may do.
    pub cors: Option<cors::Policy>,
    /// The limits' names.
    pub limits: Vec<Arc<str>>,
    /// Taken off the path.
    pub strip_prefix: Option<String>,
    /// Put in front of what is left.
    pub add_prefix: Option<String>,
    /// Set on the request to the upstream.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// Removed from it.
    pub remove_headers: Vec<HeaderName>,
    /// Set on the answer to the client.
    pub set_response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Removed from it.
    pub remove_response_headers: Vec<HeaderName>,
    /// ClientTimeouts the whole exchange.
    pub timeout: Option<Duration>,
    /// ClientTimeouts the request's body.
    pub max_body_size: MaxBody,
    /// Decide, count and log, but let pass.
    pub report_only: bool,
    /// Whether `;` may stand in the path.
    pub path_parameters: bool,
    /// Its challenges.
    pub challenges: Challenges,
}

/// Who may use a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// Callers without a token, or with a valid one.
    Optional,
    /// Everybody; no token is looked at.
    Public,
    /// Callers with a valid token that meets these.
    Token(Requirements),
}

impl RouteSettings {
    /// Whether tokens of `principal`'s issuer are taken here.
    #[must_use]
    pub fn takes_issuer(&self, principal: &Principal) -> bool {
        self.issuers.as_ref().is_none_or(|names| names.iter().any(|name| name == principal.issuer_name()))
    }

    /// Whether the token is for one of the route's audiences.
    #[must_use]
    pub fn takes_audience(&self, principal: &Principal) -> bool {
        self.audiences.is_empty()
            || principal.audiences().iter().any(|audience| self.audiences.iter().any(|wanted| **wanted == **audience))
    }
}

/// A route with its living parts.
#[derive(Debug)]
pub struct Route {
    rules: RouteSettings,
    upstream: Arc<Upstream>,
    before: Vec<Arc<Limiter>>,
    after: Vec<Arc<Limiter>>,
    metrics: RouteMetrics,
}

impl Route {
    /// Sorts the limits by when they are counted.
    #[must_use]
    pub fn new(
        rules: RouteSettings,
        upstream: Arc<Upstream>,
        limits: Vec<Arc<Limiter>>,
        metrics: RouteMetrics,
    ) -> Self {
        let (before, after) = limits.into_iter().partition(|limiter| limiter.settings().key.counts_before_the_token());
        Self { rules, upstream, before, after, metrics }
    }

    /// What the configuration says.
    #[must_use]
    pub fn rules(&self) -> &RouteSettings {
        &self.rules
    }

    /// Where its requests go.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Limits that need no caller.
    #[must_use]
    pub fn limits_before(&self) -> &[Arc<Limiter>] {
        &self.before
    }

    /// Limits on who is calling.
    #[must_use]
    pub fn limits_after(&self) -> &[Arc<Limiter>] {
        &self.after
    }

    /// Its metric handles.
    #[must_use]
    pub fn metrics(&self) -> &RouteMetrics {
        &self.metrics
    }
}

/// A request and the rules that apply to it.
#[derive(Debug)]
pub struct RoutedRequest {
    request: Box<InboundRequest>,
    route: Arc<Route>,
}

impl RoutedRequest {
    /// The request.
    #[must_use]
    pub fn request(&self) -> &InboundRequest {
        &self.request
    }

    /// The rules.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    pub(in crate::gateway) fn into_parts(self) -> (Box<InboundRequest>, Arc<Route>) {
        (self.request, self.route)
    }

    /// On a `report_only` route: notes what would have been refused, and lets it pass.
    ///
    /// # Errors
    ///
    /// The refusal itself on every other route.
    pub fn enforce(&self, judged: Result<(), Refusal>, context: &mut ResponseContext) -> Result<(), Refusal> {
        match judged {
            Err(refusal) if self.route.rules.report_only => {
                context.would_refuse(&self.route, &refusal);
                Ok(())
            }
            judged => judged,
        }
    }
}

/// Finds the route of a request. A preflight is judged by the method it asks for, if that route has a CORS policy.
///
/// # Errors
///
/// 404 for a path that has no route, 405 with `Allow` for one that has none for the method; 400 for a `;` that the route does not allow.
pub fn choose(
    request: Box<InboundRequest>,
    runtime: &Runtime,
    context: &mut ResponseContext,
) -> Result<RoutedRequest, Refusal> {
    let find = |method: &Method| find(&request.host, &request.path(), method, runtime);
    let preflight = match cors::asks(&request.method, &request.headers) {
        Asks::Preflight { method } => Method::from_bytes(method.as_bytes())
            .ok()
            .and_then(|method| find(&method).ok())
            .filter(|route| answers_preflight(route, &request)),
        Asks::Ordinary => None,
    };
    let route = match preflight {
        Some(route) => route,
        None => find(&request.method)?,
    };
    context.routed(&route);
    Ok(RoutedRequest { request, route })
}

/// A preflight that this route would not answer is a request like another, and takes the route of its own method: it must not go on
/// under the rules of the one it only asked about.
fn answers_preflight(route: &Route, request: &InboundRequest) -> bool {
    route
        .rules
        .cors
        .as_ref()
        .is_some_and(|policy| !route.rules.report_only || policy.grant(&request.headers) != Grant::Denied)
}

/// The route for a host, a path in normal form and a method.
///
/// # Errors
///
/// As [`choose`].
pub fn find(host: &Host, path: &NormalPath<'_>, method: &Method, runtime: &Runtime) -> Result<Arc<Route>, Refusal> {
    if crate::gateway::matching::is_reserved(path) {
        return Err(Refusal::RouteNotFound);
    }
    let parameters_refused = || Refusal::Path(PathRefusal::Parameters);
    match runtime.table().choose(host, path, method) {
        Choice::Found(index) => {
            let route = Arc::clone(&runtime.routes()[index]);
            let refused = path.has_parameters() && !route.rules.path_parameters;
            if refused { Err(parameters_refused()) } else { Ok(route) }
        }
        Choice::MethodNotAllowed(_) | Choice::NotFound if path.has_parameters() => Err(parameters_refused()),
        Choice::Ambiguous => Err(Refusal::Path(PathRefusal::Ambiguous)),
        Choice::MethodNotAllowed(allow) => Err(Refusal::MethodNotAllowed { allow }),
        Choice::NotFound => Err(Refusal::RouteNotFound),
    }
}
