//! Downstream: client connections, from the listener to the last byte of the last response.
//!
//! Each worker thread accepts on its own [`listener`] and serves its connections on its own
//! single-threaded runtime. The [`connection_limits`] bound the number of connections, in all and
//! per client, and the [`balancer`] keeps it even among the workers. `connection` accepts the TLS
//! session (`tls_handshake`), if there is TLS, or detects the protocol, and serves the connection
//! with `http1` or `http2` over its `transport`. Both run hyper on a `client_stream`,
//! which records reads and writes in the `connection_state`; `http_connection` polls hyper and
//! enforces the timeouts that follow from that state.
//!
//! This module knows nothing of routes or tokens. It passes requests to
//! [`Gateway::handle`](crate::gateway::Gateway::handle), and asks
//! [`Gateway::refuse`](crate::gateway::Gateway::refuse) for the response to bytes that never became
//! a request.

pub(crate) mod balancer;
pub(crate) mod connection_limits;
pub(crate) mod listener;
pub(crate) mod proxy_protocol;

mod client_stream;
mod connection;
mod connection_context;
mod connection_state;
mod either_stream;
mod head_filter;
mod http1;
mod http2;
mod http2_streams;
mod http_connection;
mod idle_connections;
mod linger;
mod protocol;
mod service;
mod socket;
mod tls_handshake;
mod tls_session;
mod transport;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::gateway::{Gateway, PeerAddress, ServerSettings};
use crate::primitives::shutdown::{Phase, Shutdown};
use crate::telemetry::metrics::{GaugeGuard, ProxyHeaderFault};
use balancer::{
    AcceptedConnection, AssignedConnection, Assignment, HandedOverConnection, LoadGuard, WorkerBalancer, WorkerHandle,
};
use connection::ConnectionResources;
use connection_limits::{ConnectionLimits, ConnectionPermit};
use http_connection::last_request_grace_over;
use listener::{Listener, ServiceListener};
use proxy_protocol::Fault;
use socket::ClientSocket;
use tls_handshake::Handshakes;

/// What one worker needs to accept connections.
#[derive(Debug)]
pub struct Downstream {
    /// How many connections may be open, in all workers together and per client.
    pub limits: Arc<ConnectionLimits>,
    /// The worker's access to the balancer.
    pub handle: WorkerHandle,
}

/// Accepts and serves connections until the process drains. Returns when the last of them is closed
/// or the process stops.
pub async fn serve(
    listeners: Vec<ServiceListener>,
    gateway: Rc<Gateway>,
    downstream: Downstream,
    mut shutdown: Shutdown,
) {
    let Downstream { limits, handle: WorkerHandle { balancer, inbox } } = downstream;
    let alive = Rc::new(());
    let handshakes = Rc::new(Handshakes::new());
    let resources = ConnectionResources { gateway, handshakes, shutdown: shutdown.clone() };
    let spawner = ConnectionSpawner { resources, limits, alive: Rc::clone(&alive) };
    let (close_inbox, inbox_closed) = oneshot::channel();
    let taking_over = tokio::task::spawn_local(take_over_connections(inbox, inbox_closed, spawner.clone()));
    let listeners = listeners.into_iter().filter_map(attach);
    let accept_loops: Vec<_> = listeners
        .map(|listener| tokio::task::spawn_local(accept_connections(listener, balancer.clone(), spawner.clone())))
        .collect();
    drop(spawner);
    shutdown.reached(Phase::Draining).await;
    for accept_loop in accept_loops {
        // If an accept loop has panicked, the panic was printed, and the other loops continue.
        let _ = accept_loop.await;
    }
    let served = async {
        // One reference is this function's, one belongs to the task that takes over connections.
        all_closed(&alive, 2).await;
        // Another worker may have accepted a connection and handed it over in the meantime. Closing
        // the inbox makes it keep what it accepts from now on.
        drop(close_inbox);
        let _ = taking_over.await;
        all_closed(&alive, 1).await;
    };
    tokio::select! {
        () = served => {}
        () = shutdown.reached(Phase::Stopped) => {}
    }
}

/// Registers a listener with the runtime of this thread. Without it, the worker serves what the
/// other listeners and workers accept.
fn attach(ServiceListener { listener, service }: ServiceListener) -> Option<ServiceListener<Listener>> {
    let attached = listener.attach();
    if let Err(error) = &attached {
        tracing::error!(%error, "a worker cannot use a listener");
    }
    attached.ok().map(|listener| ServiceListener { listener, service })
}

/// Waits until no connection has a reference to `alive` any more, and only `others` are left.
async fn all_closed(alive: &Rc<()>, others: usize) {
    /// Polling is good enough, because it happens only while draining.
    const POLL_INTERVAL: Duration = Duration::from_millis(20);
    while Rc::strong_count(alive) > others {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Serves the connections that other workers have accepted and hand over to this one. Returns once
/// `closed` has completed and all of them are taken over.
async fn take_over_connections(
    mut inbox: UnboundedReceiver<HandedOverConnection>,
    mut closed: oneshot::Receiver<()>,
    spawner: ConnectionSpawner,
) {
    loop {
        let received = tokio::select! {
            _ = &mut closed, if !inbox.is_closed() => {
                inbox.close();
                continue;
            }
            received = inbox.recv() => received,
        };
        let Some(connection) = received else { return };
        match connection.take_over() {
            Ok(connection) => spawner.spawn(connection),
            Err(error) => tracing::warn!(%error, "cannot serve a connection"),
        }
    }
}

async fn accept_connections(listener: ServiceListener<Listener>, balancer: WorkerBalancer, spawner: ConnectionSpawner) {
    /// Accepting fails when the process has no file descriptors left; trying again at once would
    /// only waste processor time.
    const RETRY_DELAY: Duration = Duration::from_millis(50);
    let mut shutdown = spawner.resources.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.reached(Phase::Draining) => return,
            accepted = accept(&listener, &spawner) => accepted,
        };
        let assigned = match accepted {
            Ok(Some(connection)) => balancer.assign(connection),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match assigned {
            Ok(Assignment::ThisWorker(connection)) => spawner.spawn(connection),
            Ok(Assignment::OtherWorker) => {}
            Err(error) => {
                spawner.limits.report_accept_error(&error);
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Accepts a connection and waits until it may be open. Returns `None`, and closes the connection,
/// if its client has too many.
async fn accept(
    ServiceListener { listener, service }: &ServiceListener<Listener>,
    spawner: &ConnectionSpawner,
) -> io::Result<Option<AcceptedConnection>> {
    // Accepts before it waits for a permit: a worker with nothing to accept must not hold a permit
    // that another one needs. At most one accepted connection per listener waits here, the others
    // in the kernel.
    let (socket, peer) = listener.accept().await?;
    let permit = spawner.limits.admit(spawner.resources.gateway.connection_share_of(peer)).await;
    Ok(permit.map(|permit| AcceptedConnection { socket, peer, service: *service, permit }))
}

/// Starts a task for each connection that this worker serves.
#[derive(Clone)]
struct ConnectionSpawner {
    resources: ConnectionResources,
    limits: Arc<ConnectionLimits>,
    /// Its reference count tells [`all_closed`] how many connections are open.
    alive: Rc<()>,
}

impl ConnectionSpawner {
    fn spawn(&self, connection: AssignedConnection) {
        let AssignedConnection { accepted: AcceptedConnection { mut socket, peer, service, permit }, load } =
            connection;
        let opened_at = Instant::now();
        let open = self.limits.metrics().open().hold();
        let guard = ConnectionGuard { _open: open, _load: load, _alive: Rc::clone(&self.alive) };
        let spawner = self.clone();
        tokio::task::spawn_local(async move {
            let identified = if spawner.resources.gateway.has_proxy_protocol() {
                // Boxed, because every task would reserve the space for it.
                Box::pin(spawner.read_proxy_header(&mut socket, peer, permit, opened_at)).await
            } else {
                Some((peer, permit))
            };
            let Some((peer, permit)) = identified else { return };
            connection::serve(socket, peer, service, permit.idle_handle(), opened_at, spawner.resources).await;
            drop((permit, guard));
        });
    }

    /// Reads the PROXY header, if the peer must send one. The connection counts for the client that
    /// the header names from then on. Returns `None` if it is to be closed.
    async fn read_proxy_header(
        &self,
        socket: &mut ClientSocket,
        peer: PeerAddress,
        permit: ConnectionPermit,
        opened_at: Instant,
    ) -> Option<(PeerAddress, ConnectionPermit)> {
        let ConnectionResources { gateway, shutdown, .. } = &self.resources;
        let ServerSettings { timeouts, trusted_proxies, .. } = gateway.settings();
        let idle = permit.idle_handle();
        let receiving =
            timeout_at(opened_at + timeouts.header, proxy_protocol::receive(socket, peer, &trusted_proxies));
        let received = tokio::select! {
            received = receiving => received,
            () = last_request_grace_over(shutdown.clone()) => return None,
            () = idle.closed_while_silent() => return None,
        };
        let fault = match received {
            Ok(Ok(client)) if client == peer => return Some((peer, permit)),
            Ok(Ok(client)) => {
                let permit = self.limits.reassign(permit, gateway.connection_share_of(client))?;
                return Some((client, permit));
            }
            Ok(Err(Fault::Header(fault))) => fault,
            Err(_elapsed) if peer.is_trusted(&trusted_proxies) => ProxyHeaderFault::Timeout,
            // The client has closed the connection, or sent nothing in time.
            Ok(Err(Fault::Connection)) | Err(_) => return None,
        };
        self.limits.report_proxy_header(peer.ip(), fault);
        None
    }
}

/// Counts one open connection until it is dropped: in the gauge, in its worker's load, and among
/// those that draining waits for.
struct ConnectionGuard {
    _open: GaugeGuard,
    _load: LoadGuard,
    _alive: Rc<()>,
}
