//! One server of an upstream: what all workers share about it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::dialer::Dialer;
use super::health::{Availability, CheckSettings, ServerHealth, UpstreamHealth};
use super::{ConnectFault, Protocol, ServerAddress, UpstreamError, WeightedAddress};
use crate::resolver::Resolver;
use crate::telemetry::metrics::{GaugeGuard, UpstreamMetrics};
use crate::tls::client::ClientTls;

/// What a new server is made of, beside its address.
#[derive(Debug)]
pub(super) struct ServerParts {
    pub(super) protocol: Protocol,
    pub(super) keep_alive: Duration,
    pub(super) max_connections: usize,
    pub(super) max_pending: usize,
    /// How connections are secured; `None`: they are not.
    pub(super) tls: Option<Arc<ClientTls>>,
    pub(super) health: Arc<UpstreamHealth>,
    pub(super) metrics: UpstreamMetrics,
    pub(super) resolver: &'static Resolver,
}

/// One server of an upstream; shared by all workers.
#[derive(Debug)]
pub struct Server {
    id: u64,
    weight: u32,
    /// Which address of its name it is; `None` if the addresses are not known yet, and for a server
    /// that is not configured by a name.
    ip: Option<IpAddr>,
    /// Its own name in logs.
    label: Box<str>,
    dialer: Dialer,
    health: ServerHealth,
    is_retired: AtomicBool,
    protocol: Protocol,
    keep_alive: Duration,
    /// One permit for each connection that may be open, in all workers together.
    connection_permits: Arc<Semaphore>,
    in_flight: AtomicUsize,
    /// Requests that wait for a connection, in all workers together.
    pending: AtomicUsize,
    max_pending: usize,
    /// Notified when a request starts to wait. Each worker then closes an idle connection.
    permit_wanted: Notify,
}

impl Server {
    /// The server at `server`; at only one of its addresses, if `ip` is set.
    pub(super) fn new(parts: &ServerParts, server: &WeightedAddress, ip: Option<IpAddr>) -> Self {
        /// Ids are never reused within a process, so that a worker never takes an old server's pool
        /// for a new server's.
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let WeightedAddress { address, weight } = server;
        // A label of metrics comes from the configuration, so that their number does not grow with
        // the addresses that a name has had.
        let metrics = parts.metrics.server(&address.label());
        let label = ip.map_or_else(|| address.label(), |ip| format!("{} ({ip})", address.label()));
        Self {
            id,
            weight: *weight,
            ip,
            health: ServerHealth::new(id, &label, &parts.health, metrics),
            label: label.into(),
            dialer: Dialer::new(address.clone(), ip, parts.tls.as_ref(), parts.resolver),
            is_retired: AtomicBool::new(false),
            protocol: parts.protocol,
            keep_alive: parts.keep_alive,
            connection_permits: Arc::new(Semaphore::new(parts.max_connections)),
            in_flight: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            max_pending: parts.max_pending,
            permit_wanted: Notify::new(),
        }
    }

    /// Whether it is the server at `server`, and at this one of its addresses.
    pub(super) fn is(&self, server: &WeightedAddress, ip: Option<IpAddr>) -> bool {
        *self.address() == server.address && self.weight == server.weight && self.ip == ip
    }

    /// Notes that it no longer belongs to the upstream: the name has lost the address, or it stands
    /// for the name itself, whose addresses are known now.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
        if !self.has_known_address() {
            return;
        }
        tracing::info!(upstream = self.health.upstream_name(), server = &*self.label, "the server's address is gone");
    }

    /// Whether workers may drop their pools for it once its requests have ended.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    /// Whether it is one address, rather than a name whose addresses are not known yet.
    pub(super) fn has_known_address(&self) -> bool {
        self.ip.is_some() || !self.address().has_name()
    }

    /// Unique in the process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name in logs: [`ServerAddress::label`], and which address it is if it is one of several.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        self.dialer.address()
    }

    /// Its share of the requests, compared with the other servers' weights.
    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    /// Requests in progress or waiting for a connection: what load balancing compares.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Opens a connection as for a request, within `time`, and closes it. The attempt is not
    /// counted.
    ///
    /// # Errors
    ///
    /// Why it cannot connect.
    pub async fn try_connect(&self, time: Duration) -> Result<(), ConnectFault> {
        self.dialer.connect(self.protocol, time).await.map(drop)
    }

    /// Whether it may be picked at this moment.
    pub(super) fn availability(&self) -> Availability {
        self.health.availability()
    }

    /// Notes that it wants no requests for `time`.
    pub(super) fn pause(&self, time: Duration) {
        self.health.pause(time);
    }

    /// Notes that a request goes to this server.
    pub(super) fn begin_attempt(&self) {
        self.health.begin_attempt();
    }

    /// Notes how an attempt to open a connection ended.
    pub(super) fn note_connect<T>(&self, opened: &Result<T, ConnectFault>) {
        self.health.note_connect(opened.as_ref().err().copied());
    }

    /// Its health, for notes on how requests ended.
    pub(super) fn health(&self) -> &ServerHealth {
        &self.health
    }

    /// Checks the server again and again, as `settings` say, until dropped. Must run inside a local
    /// runtime, once in the process.
    pub async fn run_checks(self: Arc<Self>, settings: CheckSettings) {
        self.health.run_checks(&self.dialer, self.protocol, &settings).await;
    }

    /// Forgets the results of checks that no longer run.
    pub fn forget_checks(&self) {
        self.health.forget_checks();
    }

    /// Whether it may get its share of the requests.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.availability(), Availability::Up { .. })
    }

    /// What is wrong with the server, for the operator; `None` if it is up.
    #[must_use]
    pub fn down_reason(&self) -> Option<String> {
        self.health.down_reason()
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn keep_alive(&self) -> Duration {
        self.keep_alive
    }

    /// Requests that wait for a connection, in all workers together.
    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    /// A permit to open a connection, unless `max_connections` are open.
    pub(super) fn try_connection_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connection_permits).try_acquire_owned().ok()
    }

    /// Waits for a permit to open a connection.
    pub(super) async fn connection_permit(&self) -> Result<OwnedSemaphorePermit, UpstreamError> {
        // The semaphore is never closed; were it, there would be no connection to wait for.
        Arc::clone(&self.connection_permits).acquire_owned().await.map_err(|_closed| UpstreamError::Busy)
    }

    /// Makes every worker close an idle connection, so that its permit becomes free.
    pub(super) fn notify_permit_wanted(&self) {
        self.permit_wanted.notify_waiters();
    }

    /// Resolves when some worker's request starts to wait for a connection.
    pub(super) fn permit_wanted(&self) -> tokio::sync::futures::Notified<'_> {
        self.permit_wanted.notified()
    }
}

/// Counts one request as in flight at a server, until dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Server>);

impl InFlight {
    pub(super) fn at(server: &Arc<Server>) -> Self {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(server))
    }

    /// The server that was picked.
    pub(super) fn server(&self) -> &Arc<Server> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one request as waiting for a connection to a server, until dropped.
#[derive(Debug)]
pub(super) struct Pending<'a> {
    server: &'a Server,
    _gauge: GaugeGuard,
}

impl<'a> Pending<'a> {
    /// # Errors
    ///
    /// [`UpstreamError::Busy`] if `max_pending` requests wait already.
    pub(super) fn at(server: &'a Server, metrics: &UpstreamMetrics) -> Result<Self, UpstreamError> {
        let before = server.pending.fetch_add(1, Ordering::AcqRel);
        let pending = Self { server, _gauge: metrics.pending().hold() };
        if before < server.max_pending { Ok(pending) } else { Err(UpstreamError::Busy) }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.server.pending.fetch_sub(1, Ordering::AcqRel);
    }
}
