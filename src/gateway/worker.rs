//! What one worker thread has of its own: its view of the current runtime, its connection pools, its tunnels.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::response::body::Body;
use super::response::record::Record;
use super::runtime::Runtime;
use crate::primitives::shutdown::Shutdown;
use crate::upstream::pool::Pools;
use crate::upstream::upgrade::{BytesTransferred, Tunnel};

/// A worker's own things. Not `Send`: it never leaves its thread.
#[derive(Debug)]
pub struct Worker {
    source: Arc<ArcSwap<Runtime>>,
    latest: RefCell<Arc<Runtime>>,
    pools: Pools,
    shutdown: Shutdown,
}

impl Worker {
    /// A worker that serves what `source` points to, until `shutdown`.
    #[must_use]
    pub fn new(source: Arc<ArcSwap<Runtime>>, shutdown: Shutdown) -> Self {
        let latest = RefCell::new(source.load_full());
        Self { source, latest, pools: Pools::default(), shutdown }
    }

    /// The runtime for a request that comes in now.
    ///
    /// The first request after a reload lets go of the pools of servers that are no longer there.
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

    /// The connections to upstreams.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Starts passing bytes through `tunnel` as soon as the client has its 101; the body is what goes behind that.
    pub(super) fn open_tunnel(&self, tunnel: Tunnel, lifetime: Option<Duration>) -> Body {
        let (hand_over, record) = oneshot::channel::<Box<Record>>();
        let shutdown = self.shutdown.clone();
        tokio::task::spawn_local(async move {
            // Without a record the answer was never sent, and there is no tunnel.
            let Ok(record) = record.await else { return };
            let log = TunnelRecord { record, carried: BytesTransferred::default() };
            tunnel.relay(lifetime, shutdown, log.carried.clone()).await;
        });
        Body::before_a_tunnel(hand_over)
    }
}

/// Completes a tunnel's record at its end, also when the process stops and the tunnel is dropped in the middle.
struct TunnelRecord {
    record: Box<Record>,
    carried: BytesTransferred,
}

impl Drop for TunnelRecord {
    fn drop(&mut self) {
        self.record.tunneled(self.carried.up(), self.carried.down());
    }
}
