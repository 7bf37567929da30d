//! The state of one worker thread: its current runtime and its connection pools.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Once};

use http::HeaderMap;

use super::client_address::{PeerAddress, ProxyDetector, has_forwarding_fields};
use super::runtime::{CurrentRuntime, Runtime};
use crate::primitives::shutdown::Shutdown;
use crate::upstream::pool::Pools;

/// The state of one worker. Not `Send`: it never leaves its thread.
#[derive(Debug)]
pub struct Worker {
    source: Arc<CurrentRuntime>,
    latest: RefCell<Arc<Runtime>>,
    pools: Pools,
    proxy_detector: ProxyDetector,
    shutdown: Shutdown,
}

impl Worker {
    /// A worker that serves with the current runtime of `source`, until `shutdown`.
    #[must_use]
    pub fn new(source: Arc<CurrentRuntime>, shutdown: Shutdown) -> Self {
        let latest = RefCell::new(source.load_full());
        Self { source, latest, pools: Pools::default(), proxy_detector: ProxyDetector::default(), shutdown }
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
                .flat_map(|upstream| upstream.servers().into_iter().map(|server| server.id()))
                .collect();
            self.pools.retain(|id| servers.contains(&id));
        }
        Arc::clone(&latest)
    }

    /// Warns, once per process, if a proxy sends nearly all requests and no proxy is trusted.
    pub(super) fn watch_for_proxies(&self, runtime: &Runtime, peer: PeerAddress, headers: &HeaderMap) {
        static WARNING: Once = Once::new();
        let PeerAddress::Ip(peer) = peer else { return };
        if runtime.settings().trusted_proxies.is_empty()
            && self.proxy_detector.observe(peer, || has_forwarding_fields(headers))
        {
            WARNING.call_once(|| {
                tracing::warn!(
                    %peer,
                    "nearly all requests come from one address and have forwarding headers; if it is a proxy, list it \
                     in server.trusted_proxies, or limits by address count all of its clients together"
                );
            });
        }
    }

    /// The pools of upstream connections.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// The runtime, for a task that follows its changes.
    pub(super) fn runtime(&self) -> &Arc<CurrentRuntime> {
        &self.source
    }

    /// The phases of the process.
    pub(super) fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }
}
