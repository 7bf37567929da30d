//! The runtime: the plan with its live parts. A request sees one runtime, from its first stage to its
//! record.
//!
//! Built whole by [`plan::adopt`](crate::plan) and never changed; a reload swaps the pointer to it.

use std::sync::Arc;
use std::time::Duration;

use super::caller_cache::CallerCache;
use super::client_address::TrustedProxies;
use super::matching::RouteTable;
use super::policy::{Challenges, FailureGuard, IdentityHeaders, Limiter, Route};
use crate::primitives::clock::Clock;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::token::{Issuers, Principal};
use crate::upstream::Upstream;

/// Settings that apply to all requests alike, from `[server]` and `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// Whose forwarding headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// In bytes; a larger head is refused with 431.
    pub max_header_size: usize,
    /// In bytes; a longer token is refused unread.
    pub max_token_size: usize,
    /// Client timeouts.
    pub timeouts: ClientTimeouts,
    /// How subjects are written to the log.
    pub subject_in_log: SubjectLogging,
}

/// Client timeouts: how long a connection waits for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From accept to the end of the first request head, and from a head's first byte to its last.
    pub header: Duration,
    /// For the next request on a kept-alive connection.
    pub idle: Duration,
    /// For a byte of either body, and for the client to take one.
    pub body_idle: Duration,
}

/// How the access log names a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectLogging {
    /// As in the token.
    Clear,
    /// By a keyed hash, which is the same within one process and names no one.
    Hashed,
}

impl ServerSettings {
    /// The subject as the access log shows it.
    #[must_use]
    pub fn logged_subject<'a>(&self, principal: &'a Principal) -> &'a str {
        match self.subject_in_log {
            SubjectLogging::Clear => principal.subject(),
            SubjectLogging::Hashed => principal.pseudonym(),
        }
    }
}

/// Everything a request needs.
#[derive(Debug)]
pub struct Runtime {
    /// What applies to all requests.
    pub(crate) settings: ServerSettings,
    /// Patterns, by their index in `routes`.
    pub(crate) table: Arc<RouteTable>,
    /// In the order of the file.
    pub(crate) routes: Vec<Arc<Route>>,
    /// Verifiers, by exact `iss`.
    pub(crate) issuers: Arc<Issuers>,
    /// In the order of their names.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// In the order of their names.
    pub(crate) limiters: Vec<Arc<Limiter>>,
    /// Unless it is off.
    pub(crate) failure_guard: Option<Arc<FailureGuard>>,
    /// What upstreams are told about callers.
    pub(crate) identity: Arc<IdentityHeaders>,
    /// Callers whose tokens were verified; shared by all runtimes of the process.
    pub(crate) callers: Arc<CallerCache>,
    /// Challenges of requests that found no route.
    pub(crate) challenges: Challenges,
    /// Metrics of requests that found no route.
    pub(crate) unrouted: RouteMetrics,
    /// Where requests are logged.
    pub(crate) access_log: AccessLog,
    /// The time.
    pub(crate) clock: Clock,
}

impl Runtime {
    /// What applies to all requests.
    #[must_use]
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// The patterns.
    #[must_use]
    pub fn table(&self) -> &RouteTable {
        &self.table
    }

    /// The routes, by the table's indices.
    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The issuers.
    #[must_use]
    pub fn issuers(&self) -> &Arc<Issuers> {
        &self.issuers
    }

    /// The upstreams.
    #[must_use]
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The limits.
    #[must_use]
    pub fn limiters(&self) -> &[Arc<Limiter>] {
        &self.limiters
    }

    /// The guard on failed tokens, unless it is off.
    #[must_use]
    pub fn failure_guard(&self) -> Option<&Arc<FailureGuard>> {
        self.failure_guard.as_ref()
    }

    /// The identity headers.
    #[must_use]
    pub fn identity(&self) -> &Arc<IdentityHeaders> {
        &self.identity
    }

    /// Callers whose tokens were verified.
    #[must_use]
    pub fn callers(&self) -> &CallerCache {
        &self.callers
    }

    /// The challenges of requests without a route.
    #[must_use]
    pub fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// The metrics of requests without a route.
    #[must_use]
    pub fn unrouted(&self) -> &RouteMetrics {
        &self.unrouted
    }

    /// The access log.
    #[must_use]
    pub fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Publishes the sizes of limiters and caches; called at each scrape.
    pub fn report(&self, metrics: &Metrics) {
        for limiter in &self.limiters {
            limiter.report();
        }
        if let Some(guard) = &self.failure_guard {
            guard.report();
        }
        metrics.set_token_cache_entries(self.callers.entry_count());
    }
}
