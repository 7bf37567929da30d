//! The side door: metrics, liveness and readiness, on a listener of their own.
//!
//! Served from one task on whatever runtime the caller chose, away from the workers, so that it answers when they are
//! saturated. It tells no secret, but a browser on the same machine must not become a stranger's window into it: see
//! `guard`. One request per connection: scrapes and health checks come seconds apart.

mod answers;
mod guard;

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

/// Whether the gateway can do its work; asked at each `/readyz`.
pub trait Readiness: Send + Sync {
    /// `Ok` if traffic should be sent here.
    ///
    /// # Errors
    ///
    /// What is missing: one fixed sentence each, with names from the configuration at most. They are shown to whoever asks.
    fn readiness(&self) -> Result<(), Vec<String>>;
}

/// Bounds on what a caller may cost.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Connections at a time; more wait in the kernel's backlog.
    connections: usize,
    /// From accept to the end of the request's head.
    header_time: Duration,
    /// From accept to the end of the answer: hyper has no limit for a caller that does not read.
    connection_time: Duration,
}

const BOUNDS: Bounds =
    Bounds { connections: 64, header_time: Duration::from_secs(5), connection_time: Duration::from_secs(30) };

/// Longest request head in bytes, which is also the least that hyper takes.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Most bytes of a request's body that are read, to no purpose but that the caller gets to see the answer.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Wait after a failed accept. It fails when file descriptors have run out, and would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers.
struct Door {
    readiness: Arc<dyn Readiness>,
    metrics: Arc<Metrics>,
    /// Whether only this machine can reach the listener.
    on_loopback: bool,
}

/// Answers on `listener` until [`Phase::Stopped`]; while the gateway drains, `/readyz` is still asked.
///
/// To be run on a current-thread runtime on a thread of its own; needs tokio's I/O and time.
///
/// # Errors
///
/// If the listener cannot be used. What goes wrong on a connection ends that connection.
pub async fn serve(
    listener: std::net::TcpListener,
    readiness: Arc<dyn Readiness>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) -> io::Result<()> {
    serve_within(BOUNDS, listener, readiness, metrics, shutdown).await
}

async fn serve_within(
    bounds: Bounds,
    listener: std::net::TcpListener,
    readiness: Arc<dyn Readiness>,
    metrics: Arc<Metrics>,
    mut shutdown: Shutdown,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let on_loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
    let door = Arc::new(Door { readiness, metrics, on_loopback });
    // Dropped at the end, which ends the connections too.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.reached(Phase::Stopped) => return Ok(()),
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept(), if connections.len() < bounds.connections => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(bounds, Arc::clone(&door), stream));
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "admin: a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Serves one connection to its end.
async fn converse(bounds: Bounds, door: Arc<Door>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_time)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A caller that left, was too slow or does not speak HTTP is nothing that an operator could act on.
    let _ = tokio::time::timeout(bounds.connection_time, connection).await;
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = &error as &dyn std::error::Error, "admin: a connection's task failed");
    }
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        // Closing a connection with unread bytes resets it, and the answer is lost with it.
        let _ = Limited::new(body, MAX_BODY_BYTES).collect().await;
        if let Err(refused) = guard::check(&head.headers, &head.uri, self.on_loopback) {
            return answers::forbidden(refused);
        }
        // Compared whole and as sent: a path that is nearly one of these is none of them.
        let answer: fn(&Self, &http::HeaderMap) -> Response<Full<Bytes>> = match head.uri.path() {
            "/metrics" => |door, headers| answers::metrics(&door.metrics, headers),
            "/livez" => |_, _| answers::live(),
            "/readyz" => |door, _| answers::ready(door.readiness.readiness()),
            _ => return answers::not_found(),
        };
        match head.method {
            Method::GET | Method::HEAD => answer(self, &head.headers),
            _ => answers::method_not_allowed(),
        }
    }
}

#[cfg(test)]
mod tests;
