//! Admin listener: serves `/metrics`, `/livez` and `/readyz`.
//!
//! It runs on its own thread, so that it responds while all workers are saturated. It has no
//! authentication and exposes no secrets; `guard` keeps web pages in a browser on the same machine
//! from reading it. A connection serves one request, since scrapes and health checks come seconds
//! apart.

mod guard;
mod responses;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};

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
    /// Concurrent connections. Further ones wait in the kernel's backlog.
    connections: usize,
    /// Time from accept to the end of the request head.
    header_timeout: Duration,
    /// Time from accept to the end of the response. hyper has no timeout for a client that does not
    /// read.
    connection_timeout: Duration,
}

/// Concurrent connections.
pub(crate) const MAX_CONNECTIONS: usize = 64;

const LIMITS: Limits = Limits {
    connections: MAX_CONNECTIONS,
    header_timeout: Duration::from_secs(5),
    connection_timeout: Duration::from_secs(30),
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

/// Serves `listener` until [`Phase::Stopped`]. It keeps serving while the gateway drains, because
/// load balancers still query `/readyz`.
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
    loop {
        tokio::select! {
            () = shutdown.reached(Phase::Stopped) => return Ok(()),
            Some(ended) = connections.join_next() => log_panic(ended),
            accepted = listener.accept(), if connections.len() < limits.connections => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(limits, Arc::clone(&server), stream));
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "admin: cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
        }
    }
}

/// Serves one connection.
async fn serve_connection(limits: Limits, server: Arc<AdminServer>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // An operator cannot act on a client that disconnects, is too slow or does not speak HTTP.
    let _ = tokio::time::timeout(limits.connection_timeout, connection).await;
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = &error as &dyn std::error::Error, "admin: the task of a connection failed");
    }
}

impl AdminServer {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        // Closing a connection with unread data resets it, and the client loses the response.
        let _ = Limited::new(body, MAX_BODY_BYTES).collect().await;
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
