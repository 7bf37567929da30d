//! Connections: listeners, workers, and what happens on a socket before and around requests.
//!
//! Each worker thread accepts on its own listener and serves its connections on its own single-threaded runtime. A connection is first told
//! apart ([`detect`]), then served as HTTP/1.1 ([`http_1`]) or HTTP/2 ([`http_2`]); under both lies a [`wire`], which watches the time.
//! The edge knows nothing of routes or tokens: it hands requests to [`Gateway::handle`](crate::gateway::Gateway::handle), and answers that
//! never became requests to [`Gateway::refuse`](crate::gateway::Gateway::refuse).

pub mod listen;

mod detect;
mod drive;
mod http_1;
mod http_2;
mod line;
mod tracked;
mod watched;
mod wire;

use std::rc::Rc;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::gateway::{Gateway, Peer};
use crate::primitives::shutdown::{Phase, Shutdown};
use crate::telemetry::metrics::{Held, Tally};
use detect::Protocol;

/// What the workers share about connections.
#[derive(Clone, Debug)]
pub struct Edge {
    /// A permit for each connection that may be open: `max_connections`. More wait in the kernel's backlog.
    pub slots: Arc<Semaphore>,
    /// How many are open.
    pub open: Tally,
}

/// Accepts and serves connections until the process drains; returns when the last of them is closed or the process stops.
pub async fn serve(listeners: Vec<TcpListener>, gateway: Rc<Gateway>, edge: Edge, shutdown: Shutdown) {
    let connections = Rc::new(());
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let accept = accept(listener, Rc::clone(&gateway), edge.clone(), shutdown.clone(), Rc::clone(&connections));
            tokio::task::spawn_local(accept)
        })
        .collect();
    for task in accepting {
        // A panic in an accept loop has been printed; the other loops go on.
        let _ = task.await;
    }
    let mut shutdown = shutdown;
    tokio::select! {
        () = all_closed(&connections) => {}
        () = shutdown.reached(Phase::Stopped) => {}
    }
}

async fn all_closed(connections: &Rc<()>) {
    /// Only while draining, so that a coarse look costs nothing.
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);
    while Rc::strong_count(connections) > 1 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn accept(listener: TcpListener, gateway: Rc<Gateway>, edge: Edge, mut shutdown: Shutdown, connections: Rc<()>) {
    /// After an accept that failed for want of file descriptors, trying again at once would only burn the processor.
    const BREATH: std::time::Duration = std::time::Duration::from_millis(50);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.reached(Phase::Draining) => return,
            accepted = next(&listener, &edge.slots) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let (gateway, shutdown) = (Rc::clone(&gateway), shutdown.clone());
                let counted = Counted { _open: edge.open.hold(), _alive: Rc::clone(&connections) };
                tokio::task::spawn_local(async move {
                    connection(stream, peer, &gateway, shutdown).await;
                    drop((counted, permit));
                });
            }
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
) -> std::io::Result<(TcpStream, Peer, tokio::sync::OwnedSemaphorePermit)> {
    // First the connection, then its slot: a worker that has nothing to accept must not keep a slot from the others. One accepted
    // connection per listener may thus wait here; the rest waits in the kernel.
    let (stream, address) = listener.accept().await?;
    let permit = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((stream, Peer::new(address.ip(), "http"), permit))
}

async fn connection(mut stream: TcpStream, peer: Peer, gateway: &Rc<Gateway>, shutdown: Shutdown) {
    // Answers must not wait for acknowledgements; a socket that cannot be told so still works.
    let _ = stream.set_nodelay(true);
    let settings = gateway.settings();
    let opened = tokio::time::Instant::now();
    let detected = tokio::time::timeout(settings.bounds.header, detect::protocol(&mut stream)).await;
    match detected {
        Ok(Ok((Protocol::Http1, start))) => {
            http_1::serve(stream, start, opened, peer, settings, gateway, shutdown).await;
        }
        Ok(Ok((Protocol::Http2, start))) => {
            http_2::serve(stream, start, opened, peer, settings, gateway, shutdown).await;
        }
        // Closed before it said anything, or said nothing: there is nobody to answer.
        Ok(Err(_)) | Err(_) => {}
    }
}

/// One open connection, in the gauge and in the count that draining waits for.
struct Counted {
    _open: Held,
    _alive: Rc<()>,
}
