//! Route: what one `[[routes]]` entry means, and the route with its live parts.

use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::challenge::Challenges;
use super::cors_policy::CorsPolicy;
use super::header_rules::HeaderRules;
use super::limit::Limiter;
use crate::gateway::matching::Pattern;
use crate::telemetry::metrics::RouteMetrics;
use crate::token::Principal;
use crate::upstream::Upstream;
use crate::upstream::body::MaxBody;

/// What one `[[routes]]` entry means, checked: plain values, comparable.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSettings {
    /// Its position in the file, from 0.
    pub position: usize,
    /// Unique; the label in metrics and logs.
    pub name: Arc<str>,
    /// Which requests it is for.
    pub pattern: Pattern,
    /// Who may use it.
    pub access: Access,
    /// Names of the issuers whose tokens are accepted; `None`: all.
    pub issuers: Option<Vec<Arc<str>>>,
    /// A token must be for one of these; empty: the audiences of the issuer's settings suffice.
    pub audiences: Vec<String>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What pages of other origins may do.
    pub cors: Option<CorsPolicy>,
    /// The limits' names.
    pub limits: Vec<Arc<str>>,
    /// Removed from the start of the path.
    pub strip_prefix: Option<String>,
    /// Put in front of what is left of the path.
    pub add_prefix: Option<String>,
    /// Set on and removed from the request to the upstream.
    pub request_headers: HeaderRules,
    /// Set on and removed from the response to the client.
    pub response_headers: HeaderRules,
    /// Bounds the whole exchange.
    pub timeout: Option<Duration>,
    /// Bounds the request's body.
    pub max_body_size: MaxBody,
    /// Decide, count and log, but do not refuse.
    pub report_only: bool,
    /// Whether `;` is accepted in the path.
    pub path_parameters: bool,
    /// Its challenges.
    pub challenges: Challenges,
}

impl RouteSettings {
    /// The path of one of its keys in the configuration, for people: `routes[2].scopes`.
    #[must_use]
    pub fn key(&self, key: &str) -> String {
        format!("routes[{}].{key}", self.position)
    }

    /// Whether tokens of `principal`'s issuer are accepted here.
    #[must_use]
    pub fn accepts_issuer(&self, principal: &Principal) -> bool {
        self.issuers.as_ref().is_none_or(|names| names.iter().any(|name| name == principal.issuer_name()))
    }

    /// Whether the token is for one of the route's audiences.
    #[must_use]
    pub fn accepts_audience(&self, principal: &Principal) -> bool {
        self.audiences.is_empty()
            || principal.audiences().iter().any(|audience| self.audiences.iter().any(|wanted| **wanted == **audience))
    }
}

/// A route with its live parts.
#[derive(Debug)]
pub struct Route {
    settings: RouteSettings,
    upstream: Arc<Upstream>,
    limits_before_auth: Vec<Arc<Limiter>>,
    limits_after_auth: Vec<Arc<Limiter>>,
    metrics: RouteMetrics,
}

impl Route {
    /// Sorts the limits by when they are counted.
    #[must_use]
    pub fn new(
        settings: RouteSettings,
        upstream: Arc<Upstream>,
        limits: Vec<Arc<Limiter>>,
        metrics: RouteMetrics,
    ) -> Self {
        let (limits_before_auth, limits_after_auth) =
            limits.into_iter().partition(|limiter| limiter.settings().key.is_known_before_auth());
        Self { settings, upstream, limits_before_auth, limits_after_auth, metrics }
    }

    /// What the configuration says.
    #[must_use]
    pub fn settings(&self) -> &RouteSettings {
        &self.settings
    }

    /// Where its requests go.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Limits whose key is known without a caller.
    #[must_use]
    pub fn limits_before_auth(&self) -> &[Arc<Limiter>] {
        &self.limits_before_auth
    }

    /// Limits on who is calling.
    #[must_use]
    pub fn limits_after_auth(&self) -> &[Arc<Limiter>] {
        &self.limits_after_auth
    }

    /// Its metric handles.
    #[must_use]
    pub fn metrics(&self) -> &RouteMetrics {
        &self.metrics
    }
}
