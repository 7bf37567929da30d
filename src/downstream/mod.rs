//! Connections: listeners, workers, and what happens on a socket before and around requests.
//!
//! Each worker thread accepts on its own listener and serves its connections on its own single-threaded runtime; [`spread`] sees to it that
//! they all have about as many. A connection is first told
//! apart ([`detect`]), then served as HTTP/1.1 ([`http_1`]) or HTTP/2 ([`http_2`]); under both lies a [`wire`], which watches the time.
//! The edge knows nothing of routes or tokens: it hands requests to [`Gateway::handle`](crate::gateway::Gateway::handle), and answers that
//! never became requests to [`Gateway::refuse`](crate::gateway::Gateway::refuse).

pub mod balancer;
pub mod listener;

mod client_stream;
mod connection;
mod connection_state;
mod http1;
mod http2;
mod protocol;
mod service;
mod socket;
mod stall_timeout;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gateway::{Gateway, Peer};
use crate::primitives::shutdown::{Phase, Shutdown};
use crate::telemetry::metrics::{Gauge, GaugeGuard};
use balancer::{Assignment, Balancer, HandedOver, LoadGuard, WorkerHandle};
use protocol::Protocol;
use socket::ClientSocket;

/// One worker's share in the edge.
#[derive(Debug)]
pub struct Downstream {
    /// A permit for each connection that may be open, of all workers: `max_connections`. More wait in the kernel's backlog.
    pub slots: Arc<Semaphore>,
    /// How many are open, of all workers.
    pub open: Gauge,
    /// Among the workers.
    pub handle: WorkerHandle,
}

/// What a worker serves connections with.
#[derive(Clone)]
struct Serving {
    gateway: Rc<Gateway>,
    open: Gauge,
    shutdown: Shutdown,
    connections: Rc<()>,
}

/// Accepts and serves connections until the process drains; returns when the last of them is closed or the process stops.
pub async fn serve(listeners: Vec<TcpListener>, gateway: Rc<Gateway>, downstream: Downstream, mut shutdown: Shutdown) {
    let Downstream { slots, open, handle: WorkerHandle { all, worker, inbox } } = downstream;
    let connections = Rc::new(());
    let serving = Serving { gateway, open, shutdown: shutdown.clone(), connections: Rc::clone(&connections) };
    tokio::task::spawn_local(take_over(inbox, serving.clone()));
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let share_out = (all.clone(), worker);
            tokio::task::spawn_local(accept(listener, Arc::clone(&slots), share_out, serving.clone()))
        })
        .collect();
    drop(serving);
    shutdown.reached(Phase::Draining).await;
    for task in accepting {
        // A panic in an accept loop has been printed; the other loops go on.
        let _ = task.await;
    }
    tokio::select! {
        () = all_closed(&connections) => {}
        () = shutdown.reached(Phase::Stopped) => {}
    }
}

async fn all_closed(connections: &Rc<()>) {
    /// Only while draining, so that a coarse look costs nothing.
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);
    // One is our own, one of the task that takes over what others have accepted.
    while Rc::strong_count(connections) > 2 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Serves what other workers have accepted and hand over.
async fn take_over(mut inbox: UnboundedReceiver<HandedOver>, serving: Serving) {
    while let Some(HandedOver { stream, address, slot, place }) = inbox.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => serving.begin(stream, address, (slot, place)),
            Err(error) => tracing::warn!(%error, "cannot serve a connection"),
        }
    }
}

async fn accept(listener: TcpListener, slots: Arc<Semaphore>, (all, worker): (Balancer, usize), serving: Serving) {
    /// After an accept that failed for want of file descriptors, trying again at once would only burn the processor.
    const BREATH: std::time::Duration = std::time::Duration::from_millis(50);
    let mut shutdown = serving.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.reached(Phase::Draining) => return,
            accepted = next(&listener, &slots) => accepted,
        };
        let shared_out = accepted
            .and_then(|(stream, address, slot)| all.assign(worker, stream, address, slot).map(|turn| (turn, address)));
        match shared_out {
            Ok((Assignment::Own(stream, slot, place), address)) => serving.begin(stream, address, (slot, place)),
            Ok((Assignment::Others, _)) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    // First the connection, then its slot: a worker that has nothing to accept must not keep a slot from the others. One accepted
    // connection per listener may thus wait here; the rest waits in the kernel.
    let (stream, address) = listener.accept().await?;
    let permit = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((stream, address.ip(), permit))
}

impl Serving {
    /// Serves a connection in a task of its own; `held` is given back at its end.
    fn begin(&self, stream: TcpStream, address: IpAddr, held: (OwnedSemaphorePermit, LoadGuard)) {
        let (gateway, shutdown) = (Rc::clone(&self.gateway), self.shutdown.clone());
        let counted = Counted { _open: self.open.hold(), _held: held, _alive: Rc::clone(&self.connections) };
        tokio::task::spawn_local(async move {
            connection(stream, Peer::new(address, "http"), &gateway, shutdown).await;
            drop(counted);
        });
    }
}

async fn connection(stream: TcpStream, peer: Peer, gateway: &Rc<Gateway>, shutdown: Shutdown) {
    let mut stream = ClientSocket::tcp(stream);
    let settings = gateway.settings();
    let opened = tokio::time::Instant::now();
    let detected = tokio::time::timeout(settings.timeouts.header, protocol::protocol(&mut stream)).await;
    match detected {
        Ok(Ok((Protocol::Http1, start))) => {
            http1::serve(stream, start, opened, peer, settings, gateway, shutdown).await;
        }
        Ok(Ok((Protocol::Http2, start))) => {
            // Few are, and all others would have to have room for it.
            Box::pin(http2::serve(stream, start, opened, peer, settings, gateway, shutdown)).await;
        }
        // Closed before it said anything, or said nothing: there is nobody to answer.
        Ok(Err(_)) | Err(_) => {}
    }
}

/// One open connection: in the gauge, in what may be open, in its worker's count and in the one that draining waits for.
struct Counted {
    _open: GaugeGuard,
    _held: (OwnedSemaphorePermit, LoadGuard),
    _alive: Rc<()>,
}
