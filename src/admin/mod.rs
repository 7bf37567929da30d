//! Admin listener: serves `/metrics`, `/livez` and `/readyz`.
//!
//! It runs on its own thread, so that it responds while all workers are saturated. It has no
//! authentication and exposes no secrets; `guard` keeps web pages in a browser on the same machine
//! from reading it. A connection serves one request, since scrapes and health checks come seconds
//! apart.

mod guard;
mod responses;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::timeout;

use crate::primitives::client_network::client_network;
use crate::primitives::log_interval::LogInterval;
use crate::primitives::shutdown::{Phase, Shutdown};
use crate::telemetry::Metrics;

/// The gateway's readiness, queried at each request for `/readyz`.
pub(crate) trait Readiness: Send + Sync {
    /// Whether traffic should be sent to this gateway, and what is wrong with it.
    fn readiness(&self) -> ReadinessReport;
}

/// The response of `/readyz`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadinessReport {
    /// Whether traffic should be sent to this gateway.
    pub is_ready: bool,
    /// Why it is not ready, or what does not work although it is. Sent to the client; contains no
    /// secrets.
    pub reasons: Vec<String>,
}

/// Limits on the resources that clients can use.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Concurrent connections. For a further one, the oldest is closed.
    connections: usize,
    /// Of these, connections of one client.
    connections_per_client: usize,
    /// Time from accept to the end of the request head.
    header_timeout: Duration,
    /// Time for a request body to arrive that is read only to be discarded.
    body_timeout: Duration,
    /// Time from accept to the end of the response. hyper has no timeout for a client that does not
    /// read.
    connection_timeout: Duration,
}

/// Concurrent connections.
pub(crate) const MAX_CONNECTIONS: usize = 64;

const LIMITS: Limits = Limits {
    connections: MAX_CONNECTIONS,
    connections_per_client: MAX_CONNECTIONS / 4,
    header_timeout: Duration::from_secs(2),
    body_timeout: Duration::from_secs(1),
    connection_timeout: Duration::from_secs(10),
};

/// Longest request head in bytes. hyper accepts no smaller limit.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Longest request body that is read and discarded, so that the client receives the response.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Wait after a failed accept. Accept fails when file descriptors have run out, and would fail
/// again at once.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The state that all connections share.
struct AdminServer {
    readiness: Arc<dyn Readiness>,
    metrics: Arc<Metrics>,
    /// Whether the listener is bound to a loopback address.
    on_loopback: bool,
}

/// Serves `listener` until [`Phase::Stopped`] of `shutdown`, which is the listener's own: it keeps
/// serving while the gateway drains, because load balancers still query `/readyz`. From
/// [`Phase::Draining`] on it accepts no more connections, because another process does.
///
/// Must run inside a tokio runtime with I/O and time enabled.
///
/// # Errors
///
/// If the listener cannot be used. An error on a connection ends that connection only.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    readiness: Arc<dyn Readiness>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) -> io::Result<()> {
    serve_with_limits(LIMITS, listener, readiness, metrics, shutdown).await
}

async fn serve_with_limits(
    limits: Limits,
    listener: std::net::TcpListener,
    readiness: Arc<dyn Readiness>,
    metrics: Arc<Metrics>,
    mut shutdown: Shutdown,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let on_loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
    let server = Arc::new(AdminServer { readiness, metrics, on_loopback });
    // Dropping the set on return aborts the remaining connections.
    let mut connections = JoinSet::new();
    let mut open = OpenConnections::default();
    let accept_errors = LogInterval::default();
    let mut draining = shutdown.clone();
    let mut listener = Some(listener);
    loop {
        tokio::select! {
            () = shutdown.reached(Phase::Stopped) => return Ok(()),
            () = draining.reached(Phase::Draining), if listener.is_some() => listener = None,
            Some(ended) = connections.join_next_with_id() => {
                let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
                open.remove(id);
                log_panic(ended);
            }
            accepted = accept(listener.as_ref()) => match accepted {
                Ok((stream, address)) => {
                    let client = client_network(address.ip());
                    open.make_room(client, limits);
                    let task = connections.spawn(serve_connection(limits, Arc::clone(&server), stream));
                    open.add(client, task);
                }
                Err(error) => {
                    if let Some(left_out) = accept_errors.is_due() {
                        tracing::warn!(%error, left_out, "admin: cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
        }
    }
}

/// Accepts a connection; never without a listener.
async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// The open connections, the oldest first.
///
/// A response takes milliseconds, so that the oldest connections are those of clients that hold
/// them on purpose or have failed. They give way: a scrape or a health check never waits for them.
#[derive(Debug, Default)]
struct OpenConnections(VecDeque<(IpAddr, AbortHandle)>);

impl OpenConnections {
    /// Closes the oldest connection of `client` if it has its share, or else the oldest of all if
    /// there are as many as there may be.
    fn make_room(&mut self, client: IpAddr, limits: Limits) {
        let is_of_client = |(owner, _): &&(IpAddr, AbortHandle)| *owner == client;
        let oldest = if self.0.iter().filter(is_of_client).count() >= limits.connections_per_client {
            self.0.iter().position(|one| is_of_client(&one))
        } else {
            (self.0.len() >= limits.connections).then_some(0)
        };
        if let Some((_, task)) = oldest.and_then(|oldest| self.0.remove(oldest)) {
            task.abort();
        }
    }

    fn add(&mut self, client: IpAddr, task: AbortHandle) {
        self.0.push_back((client, task));
    }

    fn remove(&mut self, id: task::Id) {
        self.0.retain(|(_, task)| task.id() != id);
    }
}

/// Serves one connection.
async fn serve_connection(limits: Limits, server: Arc<AdminServer>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.respond(request, limits.body_timeout).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // An operator cannot act on a client that disconnects, is too slow or does not speak HTTP.
    let _ = timeout(limits.connection_timeout, connection).await;
}

fn log_panic(ended: Result<(task::Id, ()), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(error = &error as &dyn std::error::Error, "admin: the task of a connection failed");
    }
}

impl AdminServer {
    async fn respond(&self, request: Request<Incoming>, body_timeout: Duration) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let response = self.response_to(&parts);
        // Closing a connection with unread data resets it, and the client loses the response.
        let _ = timeout(body_timeout, Limited::new(body, MAX_BODY_BYTES).collect()).await;
        response
    }

    fn response_to(&self, parts: &Parts) -> Response<Full<Bytes>> {
        if let Err(reason) = guard::check(&parts.headers, &parts.uri, self.on_loopback) {
            return responses::forbidden(reason);
        }
        // Paths are compared exactly as sent, without normalization.
        let respond: fn(&Self, &http::HeaderMap) -> Response<Full<Bytes>> = match parts.uri.path() {
            "/metrics" => |server, headers| responses::metrics(&server.metrics, headers),
            "/livez" => |_, _| responses::live(),
            "/readyz" => |server, _| responses::ready(server.readiness.readiness()),
            _ => return responses::not_found(),
        };
        match parts.method {
            Method::GET | Method::HEAD => respond(self, &parts.headers),
            _ => responses::method_not_allowed(),
        }
    }
}

#[cfg(test)]
mod tests;
