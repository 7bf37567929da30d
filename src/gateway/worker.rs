//! The state of one worker thread: its current runtime, its connection pools and its tunnels.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::response::body::Body;
use super::response::record::Record;
use super::runtime::Runtime;
use crate::primitives::shutdown::Shutdown;
use crate::upstream::pool::Pools;
use crate::upstream::upgrade::{BytesTransferred, Tunnel};

/// The state of one worker. Not `Send`: it never leaves its thread.
#[derive(Debug)]
pub struct Worker {
    source: Arc<ArcSwap<Runtime>>,
    latest: RefCell<Arc<Runtime>>,
    pools: Pools,
    shutdown: Shutdown,
}

impl Worker {
    /// A worker that serves with the runtime that `source` points to, until `shutdown`.
    #[must_use]
    pub fn new(source: Arc<ArcSwap<Runtime>>, shutdown: Shutdown) -> Self {
        let latest = RefCell::new(source.load_full());
        Self { source, latest, pools: Pools::default(), shutdown }
    }

    /// The runtime for a request that is received now.
    ///
    /// The first call after a reload drops the pools of servers that are no longer configured.
    #[must_use]
    pub fn current(&self) -> Arc<Runtime> {
        let current = self.source.load();
        let mut latest = self.latest.borrow_mut();
        if !Arc::ptr_eq(&current, &latest) {
            *latest = Arc::clone(&current);
            let servers: BTreeSet<u64> = latest
                .upstreams()
                .iter()
                .flat_map(|upstream| upstream.servers().iter().map(|server| server.id()))
                .collect();
            self.pools.retain(|id| servers.contains(&id));
        }
        Arc::clone(&latest)
    }

    /// The pools of upstream connections.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Relays bytes through `tunnel` once the 101 is sent. Returns the body of that 101, which is
    /// empty and starts the tunnel when it receives the request's record.
    pub(super) fn open_tunnel(&self, tunnel: Tunnel) -> Body {
        let (record_sender, record_receiver) = oneshot::channel::<Box<Record>>();
        let shutdown = self.shutdown.clone();
        tokio::task::spawn_local(async move {
            // If the client disconnects before the 101, the sender is dropped and no tunnel opens.
            let Ok(record) = record_receiver.await else { return };
            let mut record = TunnelRecord { record, transferred: BytesTransferred::default() };
            let end = tunnel.relay(shutdown, record.transferred.clone()).await;
            record.record.set_tunnel_end(end);
        });
        Body::for_tunnel(record_sender)
    }
}

/// Completes the record at the end of a tunnel, also when the process stops and drops the tunnel.
struct TunnelRecord {
    record: Box<Record>,
    transferred: BytesTransferred,
}

impl Drop for TunnelRecord {
    fn drop(&mut self) {
        self.record.set_complete();
        self.record.add_tunnel_bytes(self.transferred.up(), self.transferred.down());
    }
}
