//! Route: the settings of one `[[routes]]` entry, and the route with its live parts.

use std::sync::Arc;
use std::time::Duration;

use super::access::{Access, ClientCertRule};
use super::challenge::Challenges;
use super::cors_policy::CorsPolicy;
use super::header_rules::HeaderRules;
use super::limit::Limiter;
use crate::gateway::matching::Pattern;
use crate::primitives::min_rate::MinRate;
use crate::telemetry::metrics::RouteMetrics;
use crate::token::Principal;
use crate::upstream::Upstream;
use crate::upstream::body::{IdleTimeouts, MaxBody};

/// A route, compiled from one `[[routes]]` entry: plain values, comparable.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSettings {
    /// The position in the file, from 0.
    pub position: usize,
    /// The route's unique name, as metrics and logs show it.
    pub name: Arc<str>,
    /// Which requests the route matches.
    pub pattern: Pattern,
    /// Who may use the route.
    pub access: Access,
    /// Whether a client certificate is required as well.
    pub client_cert: ClientCertRule,
    /// The names of the issuers whose tokens are accepted. `None` accepts all issuers.
    pub issuers: Option<Vec<Arc<str>>>,
    /// A token must be for one of these audiences, besides one of the issuer's. Empty adds no
    /// condition.
    pub audiences: Vec<String>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// Which origins may read responses. `None` leaves CORS to the upstream.
    pub cors: Option<CorsPolicy>,
    /// The names of the rate limits.
    pub limits: Vec<Arc<str>>,
    /// Removed from the start of the path.
    pub strip_prefix: Option<String>,
    /// Put in front of the rest of the path.
    pub add_prefix: Option<String>,
    /// Set on and removed from the request to the upstream.
    pub request_headers: HeaderRules,
    /// Set on and removed from the response to the client.
    pub response_headers: HeaderRules,
    /// Time limit for the exchange with the upstream, the response's body included.
    pub timeout: Option<Duration>,
    /// How long each body may bring no byte.
    pub body_idle: IdleTimeouts,
    /// How long streams may go on after their token's `exp`.
    pub after_expiry: AfterExpiry,
    /// The largest request body that is accepted.
    pub max_body_size: MaxBody,
    /// The lowest rate of a request body; `None`: any.
    pub min_body_rate: Option<MinRate>,
    /// Whether the route only counts and logs refusals instead of enforcing them.
    pub report_only: bool,
    /// The route's `WWW-Authenticate` values.
    pub challenges: Challenges,
}

/// How long streams may go on after the `exp` of the token that authorized them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterExpiry {
    /// The body of a response; `None`: to its end.
    pub response: Option<Duration>,
    /// A tunnel.
    pub tunnel: Duration,
}

impl RouteSettings {
    /// The path of `key` in the configuration, as `explain` shows it: `routes[2].scopes`.
    #[must_use]
    pub fn key(&self, key: &str) -> String {
        format!("routes[{}].{key}", self.position)
    }

    /// Whether the route accepts tokens of `principal`'s issuer.
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
    /// A route with these live parts. Divides the limits by when they are counted.
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

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &RouteSettings {
        &self.settings
    }

    /// The upstream.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The limits whose key is known without the caller.
    #[must_use]
    pub fn limits_before_auth(&self) -> &[Arc<Limiter>] {
        &self.limits_before_auth
    }

    /// The limits whose key is the caller.
    #[must_use]
    pub fn limits_after_auth(&self) -> &[Arc<Limiter>] {
        &self.limits_after_auth
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &RouteMetrics {
        &self.metrics
    }
}
