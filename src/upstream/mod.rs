//! Upstreams: the servers behind the gateway, and how a request gets to one of them.
//!
//! The last stage of a request, [`gateway::forward`](crate::gateway), hands over a finished request and gets back a response whose
//! body still streams. In between: a server is picked ([`balance`]), a connection to it is taken from this worker's pool
//! ([`pool`]), the request goes out and the head of the answer is awaited ([`exchange`]).

pub mod balance;
pub mod body;
pub mod exchange;
pub mod headers;
pub mod lease;
pub mod pool;
mod streams;
pub mod upgrade;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, Semaphore};

use crate::telemetry::metrics::UpstreamMetrics;
use balance::Balance;

/// What `[upstreams.NAME]` means, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSettings {
    /// NAME: the label in metrics and logs.
    pub name: Arc<str>,
    /// At least one.
    pub servers: Vec<ServerAddress>,
    /// How one of them is picked.
    pub balance: Balance,
    /// Bounds name look-up and TCP connect together.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the answer.
    pub response_timeout: Duration,
    /// How long an idle connection may wait in the pool.
    pub keep_alive: Duration,
    /// Open connections to one server, of all workers together.
    pub max_connections: usize,
    /// Requests that may wait for a connection to one server.
    pub max_pending: usize,
    /// What it is spoken to in.
    pub protocol: Protocol,
    /// What the `Host` field says.
    pub host: HostHeader,
    /// Whether the client's `Authorization` goes on.
    pub forward_token: bool,
}

/// What an upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: one request at a time on a connection.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3): many.
    Http2,
}

/// What the upstream sees as `Host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The one the client asked for.
    Preserve,
    /// The server's own address.
    Upstream,
}

/// Host and port of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// 1–65535.
    pub port: u16,
    /// As it stands in a `Host` field: the port is left out when it is the scheme's own.
    pub authority: HeaderValue,
}

/// An upstream with its living parts; shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    servers: Vec<Arc<Server>>,
    turn: AtomicUsize,
    metrics: UpstreamMetrics,
}

/// One server of an upstream: what all workers must agree on about it.
#[derive(Debug)]
pub struct Server {
    id: u64,
    address: ServerAddress,
    /// One permit for each connection that may be open.
    slots: Arc<Semaphore>,
    /// Requests under way or waiting: what `least_request` compares.
    in_flight: AtomicUsize,
    /// Requests that wait for a slot, in all workers.
    waiting: AtomicUsize,
    /// Tells the other workers that somebody waits, so that they give up an idle connection.
    wanted: Notify,
    max_pending: usize,
    keep_alive: Duration,
    connect_timeout: Duration,
    protocol: Protocol,
}

/// Why no answer came from an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// All connections are in use and the queue is full, or waiting took too long.
    #[error("all connections are in use and the queue is full")]
    Busy,
    /// The request's body broke off on the client's side; [`body::BodyOutcome`] says how.
    #[error("the request body broke off")]
    RequestBody,
    /// Connected, but the answer was no HTTP, was cut off or broke the rules of an upgrade.
    #[error("the answer was cut off or is no valid HTTP")]
    Failed,
    /// No answer within `response_timeout`.
    #[error("no answer in time")]
    Timeout,
    /// Name look-up or connect failed or took too long.
    #[error("cannot be reached")]
    Unreachable,
}

impl Upstream {
    /// Gives every server its slots. Metrics are resolved here, once.
    #[must_use]
    pub fn new(settings: UpstreamSettings, metrics: UpstreamMetrics) -> Self {
        /// Ids are never used again in a process, so that a worker's pool cannot be taken for another server's.
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let servers = settings
            .servers
            .iter()
            .map(|address| {
                Arc::new(Server {
                    id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                    address: address.clone(),
                    slots: Arc::new(Semaphore::new(settings.max_connections)),
                    in_flight: AtomicUsize::new(0),
                    waiting: AtomicUsize::new(0),
                    wanted: Notify::new(),
                    max_pending: settings.max_pending,
                    keep_alive: settings.keep_alive,
                    connect_timeout: settings.connect_timeout,
                    protocol: settings.protocol,
                })
            })
            .collect();
        Self { settings, servers, turn: AtomicUsize::new(0), metrics }
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// Its metric handles.
    #[must_use]
    pub fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// Its servers, in the order of the configuration.
    #[must_use]
    pub fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }
}

impl Server {
    /// Unique in the process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Requests under way or waiting.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::primitives::clock::Clock;
    use crate::telemetry::metrics::Metrics;

    /// An upstream with servers on these ports of loopback.
    pub(crate) fn upstream(balance: Balance, ports: &[u16]) -> Upstream {
        let server = |&port: &u16| ServerAddress {
            host: "127.0.0.1".to_owned(),
            port,
            authority: HeaderValue::try_from(format!("127.0.0.1:{port}")).expect("digits and dots"),
        };
        let settings = UpstreamSettings {
            name: "orders".into(),
            servers: ports.iter().map(server).collect(),
            balance,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(4),
            max_connections: 1024,
            max_pending: 1024,
            protocol: Protocol::Http1,
            host: HostHeader::Preserve,
            forward_token: false,
        };
        Upstream::new(settings, Metrics::new(Clock::system()).upstream("orders"))
    }
}
