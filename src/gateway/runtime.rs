//! The runtime: the plan with its living parts. One request sees one of them, from its first stage to its record.
//!
//! Built whole by [`plan::adopt`](crate::plan), never changed afterwards; a reload swaps the pointer to it.

use std::sync::Arc;
use std::time::Duration;

use super::client_address::TrustedProxies;
use crate::gateway::matching::RouteTable;
use crate::gateway::policy::identity::IdentityHeaders;
use crate::gateway::response::refusal::Challenges;
use crate::gateway::stages::rate_limit::{FailureGuard, Limiter};
use crate::gateway::stages::routing::Route;
use crate::primitives::clock::Clock;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::RouteMetrics;
use crate::token::{Issuers, Principal};
use crate::upstream::Upstream;

/// What holds for all requests alike, from `[server]` and `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whose forwarding headers count.
    pub trusted_proxies: TrustedProxies,
    /// In bytes; above it a head is 431.
    pub max_header_size: usize,
    /// In bytes; above it a token is 401 unread.
    pub max_token_size: usize,
    /// How long is waited for whom.
    pub timeouts: ClientTimeouts,
    /// How subjects stand in the log.
    pub subject_in_log: SubjectLogging,
}

/// How long a connection may wait for its client.
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
    /// As the token does.
    Clear,
    /// By a keyed hash: the same within one process, and nobody's name.
    Hashed,
}

impl Settings {
    /// The subject as the access log shows it.
    #[must_use]
    pub fn logged_subject<'a>(&self, principal: &'a Principal) -> &'a str {
        match self.subject_in_log {
            SubjectLogging::Clear => principal.subject(),
            SubjectLogging::Hashed => principal.logged_as(),
        }
    }
}

/// Everything a request needs.
#[derive(Debug)]
pub struct Runtime {
    /// See [`Settings`].
    pub(crate) settings: Settings,
    /// Patterns to places in `routes`.
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
    /// What the upstream is told about callers.
    pub(crate) identity: IdentityHeaders,
    /// Challenges of requests that found no route.
    pub(crate) challenges: Challenges,
    /// Metrics of requests that found no route.
    pub(crate) unrouted: RouteMetrics,
    /// Where requests are written down.
    pub(crate) access_log: AccessLog,
    /// The time.
    pub(crate) clock: Clock,
}

impl Runtime {
    /// What holds for all requests.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The patterns.
    #[must_use]
    pub fn table(&self) -> &RouteTable {
        &self.table
    }

    /// The routes that the table's numbers mean.
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
    pub fn identity(&self) -> &IdentityHeaders {
        &self.identity
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
}
