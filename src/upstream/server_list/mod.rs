//! The servers of an upstream at this moment: those of the configuration, and for a name each of
//! its addresses as a server of its own.
//!
//! A name whose addresses are not known yet is one server, which looks them up when it connects. As
//! soon as they are known, the next pick finds a server for each; each later change adds and
//! removes servers. A server that is removed gets no new requests, and those that it has are
//! finished.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Guard};

use super::address::DialTarget;
use super::balance::{Balance, ServerSet};
use super::server::{Server, ServerParts};
use super::{UpstreamSettings, WeightedAddress};
use crate::resolver::{Host, Resolver};

/// The servers of one upstream; shared by all workers.
#[derive(Debug)]
pub(super) struct ServerList {
    /// Unique in the process.
    id: u64,
    configured: Vec<ConfiguredServer>,
    balance: Balance,
    parts: ServerParts,
    current: ArcSwap<ServerSet>,
    /// How many changes of names `current` takes into account.
    seen_changes: AtomicU64,
    /// Held by the thread that brings `current` up to date.
    update: Mutex<()>,
}

/// An element of `servers` in the configuration.
#[derive(Debug)]
struct ConfiguredServer {
    server: WeightedAddress,
    /// `None` for a Unix socket.
    host: Option<Host>,
}

impl ServerList {
    /// The servers that `settings` list. Those among `existing` that stay are kept.
    pub(super) fn new(settings: &UpstreamSettings, parts: ServerParts, existing: &[Arc<Server>]) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let host = |server: &WeightedAddress| match &server.address.target {
            DialTarget::Tcp { host, .. } => Some(parts.resolver.host(host)),
            DialTarget::Unix(_) => None,
        };
        let configured: Vec<_> = settings
            .servers
            .iter()
            .map(|server| ConfiguredServer { host: host(server), server: server.clone() })
            .collect();
        // Counted before the addresses are read, so that no change is missed.
        let seen_changes = AtomicU64::new(parts.resolver.changes().count());
        let servers = expand(&configured, &parts, existing);
        let current = ArcSwap::from_pointee(ServerSet::new(&settings.balance, servers));
        let balance = settings.balance.clone();
        Self { id, configured, balance, parts, current, seen_changes, update: Mutex::default() }
    }

    /// From now on, at most half of these servers are ejected, in place of another list that shares
    /// their health.
    pub(super) fn begin_use(&self) {
        self.parts.health.use_servers(self.id, ids(self.load().all()));
    }

    /// What looks the names up.
    pub(super) fn resolver(&self) -> &'static Resolver {
        self.parts.resolver
    }

    /// The servers, up to date with the names.
    pub(super) fn load(&self) -> Guard<Arc<ServerSet>> {
        if self.seen_changes.load(Ordering::Acquire) != self.parts.resolver.changes().count() {
            self.update();
        }
        self.current.load()
    }

    /// Brings the servers up to date. While another thread does so, the previous ones stay in use.
    fn update(&self) {
        let Ok(_update) = self.update.try_lock() else { return };
        let changes = self.parts.resolver.changes().count();
        let previous = self.current.load();
        let servers = expand(&self.configured, &self.parts, previous.all());
        let (before, after) = (ids(previous.all()), ids(&servers));
        if before != after {
            self.current.store(Arc::new(ServerSet::new(&self.balance, servers)));
            for removed in previous.all().iter().filter(|server| !after.contains(&server.id())) {
                removed.retire();
            }
            self.parts.health.update_servers(self.id, after);
        }
        self.seen_changes.store(changes, Ordering::Release);
    }
}

fn ids(servers: &[Arc<Server>]) -> Vec<u64> {
    servers.iter().map(|server| server.id()).collect()
}

/// The servers that `configured` stands for, in its order. Those among `existing` are kept, with
/// their connections and what is known of their health.
fn expand(configured: &[ConfiguredServer], parts: &ServerParts, existing: &[Arc<Server>]) -> Vec<Arc<Server>> {
    let server = |server: &WeightedAddress, ip: Option<IpAddr>| {
        let kept = existing.iter().find(|existing| existing.is(server, ip));
        kept.cloned().unwrap_or_else(|| Arc::new(Server::new(parts, server, ip)))
    };
    configured
        .iter()
        .flat_map(|ConfiguredServer { server: wanted, host }| {
            let addresses = host.as_ref().map(Host::known_addresses).unwrap_or_default();
            if addresses.is_empty() {
                vec![server(wanted, None)]
            } else {
                addresses.into_iter().map(|ip| server(wanted, Some(ip))).collect()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
