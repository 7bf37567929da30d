//! The runtime: the plan with its live parts. A request uses one runtime, from its first stage to
//! its record.
//!
//! [`plan::adopt`](crate::plan::adopt) builds it, and nothing changes it afterwards: a reload
//! builds another one and swaps the pointer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::caller_cache::CallerCache;
use super::client_address::{PeerAddress, TrustedProxies};
use super::matching::RouteTable;
use super::policy::{Challenges, FailureGuard, IdentityHeaders, Limiter, Route, ServerHeader};
use crate::primitives::clock::Clock;
use crate::primitives::min_rate::MinRate;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{ConnectionMetrics, Metrics, RouteMetrics};
use crate::tls::client_auth::{ClientAuthMode, ClientTrust};
use crate::tls::server::{LoadedCertificate, ServerTls};
use crate::token::{Issuers, Principal};
use crate::upstream::Upstream;

/// Settings that apply to all requests, from `[server]` and `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// The peers whose forwarding headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// Whether trusted proxies begin each connection with a PROXY header.
    pub proxy_protocol: bool,
    /// Open connections of one client.
    pub max_connections_per_client: usize,
    /// In bytes; a larger head is refused with 431.
    pub max_header_size: usize,
    /// In bytes; a longer token is refused without being parsed.
    pub max_token_size: usize,
    /// Client timeouts.
    pub timeouts: ClientTimeouts,
    /// How the access log shows subjects.
    pub subject_in_log: SubjectLogging,
    /// The `Server` field of responses.
    pub server_header: ServerHeader,
    /// Whether clients are asked for a certificate.
    pub client_auth: Option<ClientAuthMode>,
    /// Where listeners that redirect to https redirect to.
    pub https_origin: HttpsOrigin,
}

/// The scheme and host of a redirect to https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpsOrigin {
    /// `public_url`, without a slash at its end.
    Fixed(Box<str>),
    /// The host that the client has asked for.
    RequestedHost {
        /// The port of the listener with TLS; `None`: the default, 443.
        port: Option<u16>,
    },
}

/// Client timeouts: how long a connection waits for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From accept to the end of the first request head, and from a head's first byte to its last.
    pub header: Duration,
    /// For the next request on a kept-alive connection.
    pub idle: Duration,
    /// For the next byte of a request body, and for the client to accept bytes of a response body.
    pub body_idle: Duration,
    /// How slowly a client may read a response body; `None`: no limit. Request bodies have the rate
    /// of their route.
    pub min_body_rate: Option<MinRate>,
}

/// How many connections a client may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionShare {
    /// The client.
    pub client: IpAddr,
    /// Open connections, at most.
    pub max: usize,
}

/// How the access log shows the subject of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectLogging {
    /// As it is in the token.
    Clear,
    /// As a keyed hash: the same within one process, and not reversible.
    Hashed,
}

impl ServerSettings {
    /// The share of the connections that the peer at `address` has. `None` for a trusted proxy,
    /// whose connections carry the requests of many clients.
    #[must_use]
    pub fn connection_share_of(&self, address: PeerAddress) -> Option<ConnectionShare> {
        let max = self.max_connections_per_client;
        (!address.is_trusted(&self.trusted_proxies)).then(|| ConnectionShare { client: address.ip(), max })
    }

    /// The subject as the access log shows it.
    #[must_use]
    pub fn logged_subject<'a>(&self, principal: &'a Principal) -> &'a str {
        match self.subject_in_log {
            SubjectLogging::Clear => principal.subject(),
            SubjectLogging::Hashed => principal.pseudonym(),
        }
    }
}

/// The runtime of this moment. A reload replaces it.
#[derive(Debug)]
pub struct CurrentRuntime {
    runtime: ArcSwap<Runtime>,
    /// Counts the reloads.
    reloads: watch::Sender<u64>,
}

impl CurrentRuntime {
    /// Begins with `runtime`.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>) -> Arc<Self> {
        Arc::new(Self { runtime: ArcSwap::from(runtime), reloads: watch::Sender::new(0) })
    }

    /// The runtime, for a short time: cheaper than [`load_full`](Self::load_full).
    #[must_use]
    pub fn load(&self) -> arc_swap::Guard<Arc<Runtime>> {
        self.runtime.load()
    }

    /// The runtime.
    #[must_use]
    pub fn load_full(&self) -> Arc<Runtime> {
        self.runtime.load_full()
    }

    /// Replaces the runtime, and tells those who wait for that.
    pub fn replace(&self, next: Arc<Runtime>) {
        self.runtime.store(next);
        self.reloads.send_modify(|reloads| *reloads += 1);
    }

    /// Changes with each reload, after the runtime was replaced.
    #[must_use]
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reloads.subscribe()
    }
}

/// What the configuration means, with everything that handling a request needs.
#[derive(Debug)]
pub struct Runtime {
    /// The settings that apply to all requests.
    pub(crate) settings: ServerSettings,
    /// The routes' patterns, which refer to `routes` by index.
    pub(crate) table: Arc<RouteTable>,
    /// The routes, in the order of the file.
    pub(crate) routes: Vec<Arc<Route>>,
    /// The verifiers, by exact `iss`.
    pub(crate) issuers: Arc<Issuers>,
    /// The upstreams, in the order of their names.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// The rate limits, in the order of their names.
    pub(crate) limiters: Vec<Arc<Limiter>>,
    /// The guard against token failures; `None` if it is off.
    pub(crate) failure_guard: Option<Arc<FailureGuard>>,
    /// The identity headers.
    pub(crate) identity: Arc<IdentityHeaders>,
    /// The cache of verified callers; all runtimes of the process share it.
    pub(crate) callers: Arc<CallerCache>,
    /// The challenges of requests without a route.
    pub(crate) challenges: Challenges,
    /// The metrics of requests without a route.
    pub(crate) unrouted: RouteMetrics,
    /// The access log.
    pub(crate) access_log: AccessLog,
    /// The clock.
    pub(crate) clock: Clock,
    /// The metrics of client connections and their bodies.
    pub(crate) connections: ConnectionMetrics,
    /// TLS towards clients; `None` without TLS.
    pub(crate) tls: Option<Arc<ServerTls>>,
}

impl Runtime {
    /// The settings that apply to all requests.
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

    /// The rate limits.
    #[must_use]
    pub fn limiters(&self) -> &[Arc<Limiter>] {
        &self.limiters
    }

    /// The guard against token failures; `None` if it is off.
    #[must_use]
    pub fn failure_guard(&self) -> Option<&Arc<FailureGuard>> {
        self.failure_guard.as_ref()
    }

    /// The identity headers.
    #[must_use]
    pub fn identity(&self) -> &Arc<IdentityHeaders> {
        &self.identity
    }

    /// The cache of verified callers.
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

    /// TLS towards clients; `None` without TLS.
    #[must_use]
    pub(crate) fn tls(&self) -> Option<&Arc<ServerTls>> {
        self.tls.as_ref()
    }

    /// Decides which client certificates are accepted at this moment; `None` if clients are not
    /// asked for one.
    #[must_use]
    pub(crate) fn client_trust(&self) -> Option<Arc<ClientTrust>> {
        self.tls.as_ref()?.client_trust()
    }

    /// The metrics of client connections and their bodies.
    #[must_use]
    pub fn connections(&self) -> &ConnectionMetrics {
        &self.connections
    }

    /// The certificates in use: those that clients get, and those that the gateway presents to
    /// upstreams.
    #[must_use]
    pub(crate) fn certificates(&self) -> Vec<LoadedCertificate> {
        let of_clients = self.upstreams.iter().filter_map(|upstream| upstream.tls()?.certificate());
        self.tls.iter().flat_map(|tls| tls.certificates()).chain(of_clients).collect()
    }

    /// Publishes the sizes of limiters and caches; called at each scrape.
    pub fn report(&self, metrics: &Metrics) {
        for limiter in &self.limiters {
            limiter.report();
        }
        if let Some(guard) = &self.failure_guard {
            guard.report();
        }
        for upstream in &self.upstreams {
            upstream.report();
        }
        metrics.set_token_cache_entries(self.callers.entry_count());
        let expiries = self.certificates().into_iter().map(|one| (one.file, one.facts.not_after));
        self.connections.tls().set_certificates(expiries);
        let revocations = self.tls.as_ref().and_then(|tls| tls.revocations());
        self.connections.tls().set_revocations(revocations.and_then(|lists| Some((lists.file, lists.expires?))));
    }
}
