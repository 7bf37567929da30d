//! Upstreams: the servers behind the gateway, and how a request reaches one of them.
//!
//! The last stage of a request, [`gateway::stages::forward`](crate::gateway::stages::forward),
//! hands over a finished request and receives a response whose body still streams. In between,
//! [`exchange`] picks a server ([`balance`]), acquires a connection to it from this worker's pool
//! ([`pool`]), sends the request and waits for the response head.

mod address;
pub(crate) mod balance;
pub(crate) mod body;
mod dialer;
mod error;
pub(crate) mod exchange;
mod head_deadline;
pub(crate) mod headers;
mod health;
mod lease;
pub(crate) mod pool;
mod request_head;
pub(crate) mod response;
pub(crate) mod response_framing;
pub(crate) mod retry;
pub(crate) mod server;
mod server_list;
mod stream;
mod tls_fault;
pub(crate) mod tunnel_limits;
pub(crate) mod upgrade;
pub(crate) mod websocket;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use arc_swap::Guard;

use crate::primitives::clock::Clock;
use crate::resolver::{MAX_ADDRESSES, Resolver};
use crate::telemetry::metrics::UpstreamMetrics;
use crate::tls::client::{ClientTls, ClientTlsSettings};
pub(crate) use address::{DialTarget, ServerAddress};
use balance::{Balance, ServerSet};
pub(crate) use error::{ConnectFault, ExchangeError, Fault, ResponseFault, UpstreamError};
use health::UpstreamHealth;
pub(crate) use health::{CheckSettings, EjectSettings, HealthSettings, StatusSet};
use retry::{RetryBudget, RetrySettings};
use server::{Server, ServerParts};
use server_list::ServerList;
use tunnel_limits::{TunnelClient, TunnelLimit, TunnelLimits, TunnelPermit};

/// Request bodies that one upstream buffers so that they can be sent again, in bytes, in all
/// workers together. Beyond that, bodies are streamed and not sent again: clients must not be able
/// to fill the memory.
const MAX_BUFFERED_BYTES: usize = 32 * 1024 * 1024;

/// One `[upstreams.NAME]` table, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSettings {
    /// NAME: the label in metrics and logs.
    pub name: Arc<str>,
    /// At least one.
    pub servers: Vec<WeightedAddress>,
    /// How a server is picked for a request.
    pub balance: Balance,
    /// Bounds name resolution, TCP connect and TLS handshake together.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the response.
    pub response_timeout: Duration,
    /// How long the pool keeps an idle connection.
    pub keep_alive: Duration,
    /// Open connections to one server, in all workers together.
    pub max_connections: usize,
    /// Requests that may wait for a connection to one server, in all workers together.
    pub max_pending: usize,
    /// Open tunnels, at all servers and in all workers together.
    pub max_tunnels: usize,
    /// Of these, tunnels of one client.
    pub max_tunnels_per_client: usize,
    /// How long a tunnel may last.
    pub max_tunnel_lifetime: Duration,
    /// When a request is sent again.
    pub retry: RetrySettings,
    /// The protocol that its servers speak.
    pub protocol: Protocol,
    /// How connections are secured; `None`: they are not.
    pub tls: Option<ClientTlsSettings>,
    /// What the `Host` field contains.
    pub host: HostHeader,
    /// Whether the client's `Authorization` is forwarded.
    pub forward_token: bool,
    /// Which of the client's certificates are forwarded.
    pub forward_client_cert: ForwardClientCert,
    /// When a server gets requests, and how many.
    pub health: HealthSettings,
}

/// Which of a client's certificates an upstream receives (RFC 9440).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// The client's own.
    Certificate,
    /// The client's own, and the others that it has sent.
    Chain,
    /// None.
    None,
}

impl UpstreamSettings {
    /// The most connections that may be open to all servers together. Each address of a name is a
    /// server.
    #[must_use]
    pub fn max_connections_in_all(&self) -> usize {
        let addresses = |server: &WeightedAddress| if server.address.has_name() { MAX_ADDRESSES } else { 1 };
        self.servers.iter().map(addresses).sum::<usize>().saturating_mul(self.max_connections)
    }

    /// What new servers are made of.
    fn server_parts(
        &self,
        tls: Option<&Arc<ClientTls>>,
        health: &Arc<UpstreamHealth>,
        metrics: &UpstreamMetrics,
        resolver: &'static Resolver,
    ) -> ServerParts {
        ServerParts {
            protocol: self.protocol,
            keep_alive: self.keep_alive,
            max_connections: self.max_connections,
            max_pending: self.max_pending,
            tls: tls.cloned(),
            health: Arc::clone(health),
            metrics: metrics.clone(),
            resolver,
        }
    }

    /// The same, without the settings that a server and its connections do not depend on.
    fn of_connections(&self) -> Self {
        let (servers, balance, retry) = (Vec::new(), Balance::LeastRequest, RetrySettings::off());
        Self { servers, balance, retry, health: HealthSettings::default(), ..self.clone() }
    }
}

/// The protocol that an upstream's servers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: one request at a time on each connection.
    Http1,
    /// HTTP/2: many requests at a time on each connection. Without TLS, with prior knowledge
    /// (RFC 9113 §3.3).
    Http2,
    /// Either, as the server chooses for each connection (ALPN, RFC 7301). Only with TLS.
    Negotiated,
}

/// The protocol of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http1,
    Http2,
}

/// What the upstream receives as `Host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The host that the client sent.
    Preserve,
    /// The server's own address: [`ServerAddress::authority`].
    Upstream,
}

/// A server, and its share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedAddress {
    /// Where it is.
    pub address: ServerAddress,
    /// 1–100: a server of weight 2 gets twice as many requests as one of weight 1.
    pub weight: u32,
}

/// An upstream and its live state; shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    servers: ServerList,
    health: Arc<UpstreamHealth>,
    tunnels: TunnelLimits,
    retry_budget: Arc<RetryBudget>,
    /// The bytes of request bodies that may be buffered at this moment.
    buffer_space: Arc<Semaphore>,
    tls: Option<Arc<ClientTls>>,
    metrics: UpstreamMetrics,
}

impl Upstream {
    /// An upstream without any connection yet.
    #[must_use]
    pub fn new(
        settings: UpstreamSettings,
        tls: Option<Arc<ClientTls>>,
        metrics: UpstreamMetrics,
        clock: Clock,
    ) -> Self {
        Self::with_resolver(settings, tls, metrics, clock, Resolver::system())
    }

    fn with_resolver(
        settings: UpstreamSettings,
        tls: Option<Arc<ClientTls>>,
        metrics: UpstreamMetrics,
        clock: Clock,
        resolver: &'static Resolver,
    ) -> Self {
        let health = UpstreamHealth::new(Arc::clone(&settings.name), settings.health.clone(), clock);
        let parts = settings.server_parts(tls.as_ref(), &health, &metrics, resolver);
        let servers = ServerList::new(&settings, parts, &[]);
        servers.begin_use();
        let tunnels = TunnelLimits::new(&settings);
        let buffer_space = Arc::new(Semaphore::new(MAX_BUFFERED_BYTES));
        let retry_budget = Arc::new(RetryBudget::new());
        Self { settings, servers, health, tunnels, retry_budget, buffer_space, tls, metrics }
    }

    /// An upstream that replaces this one after a reload, with `settings`. Servers that stay are
    /// kept with their connections and health, if the settings of connections are the same. Changes
    /// nothing yet: see [`begin_use`](Self::begin_use).
    #[must_use]
    pub fn successor(&self, settings: UpstreamSettings, tls: Option<Arc<ClientTls>>, clock: Clock) -> Self {
        let metrics = self.metrics.clone();
        if self.settings.of_connections() != settings.of_connections() {
            return Self::new(settings, tls, metrics, clock);
        }
        let parts = settings.server_parts(tls.as_ref(), &self.health, &metrics, self.servers.resolver());
        let servers = ServerList::new(&settings, parts, &self.servers());
        let (health, tunnels) = (Arc::clone(&self.health), self.tunnels.clone());
        let (retry_budget, buffer_space) = (Arc::clone(&self.retry_budget), Arc::clone(&self.buffer_space));
        Self { settings, servers, health, tunnels, retry_budget, buffer_space, tls, metrics }
    }

    /// Applies its health settings to its servers, which it may share with the upstream that it
    /// replaces. Called when its runtime is swapped in.
    pub fn begin_use(&self) {
        self.health.reconfigure(self.settings.health.clone());
        self.servers.begin_use();
    }

    /// The settings it was created from.
    #[must_use]
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// How its connections are secured; `None`: they are not.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<ClientTls>> {
        self.tls.as_ref()
    }

    /// Its metric handles.
    #[must_use]
    pub fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// Permission for `client` to open a tunnel. Counts a refusal.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub fn acquire_tunnel(&self, client: TunnelClient) -> Result<TunnelPermit, TunnelLimit> {
        self.tunnels.acquire(client, &self.metrics).inspect_err(|limit| match limit {
            TunnelLimit::All => self.metrics.count_tunnel_over_limit(),
            TunnelLimit::PerClient => self.metrics.count_tunnel_over_client_limit(),
        })
    }

    /// Publishes which servers are up; called at each scrape.
    pub fn report(&self) {
        // The addresses of a name are one server in metrics.
        for addresses in self.servers().chunk_by(|one, other| one.address() == other.address()) {
            let known = |server: &Arc<Server>| u64::from(server.has_known_address());
            let (up, others): (Vec<&Arc<Server>>, Vec<&Arc<Server>>) =
                addresses.iter().partition(|server| server.is_up());
            let metrics = addresses[0].health().metrics();
            metrics.set_up(!up.is_empty());
            metrics.set_addresses(up.into_iter().map(known).sum(), others.into_iter().map(known).sum());
        }
    }

    /// Its servers, in the order of the configuration. Each address of a name is one.
    #[must_use]
    pub fn servers(&self) -> Vec<Arc<Server>> {
        self.server_set().all().to_vec()
    }

    /// Its servers, for a short time.
    fn server_set(&self) -> Guard<Arc<ServerSet>> {
        self.servers.load()
    }
}

#[cfg(test)]
pub(crate) mod tests;
