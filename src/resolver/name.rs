//! One name and its addresses.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::changes::Changes;
use super::lookup_threads::LookupThreads;
use super::{MAX_ADDRESSES, MAX_STALE, NotResolved, REFRESH_AFTER, RETRY_AFTER};
use crate::primitives::backoff::Backoff;

/// A name, shared by everything that connects to it.
pub(crate) struct Name {
    text: Box<str>,
    threads: Arc<LookupThreads>,
    changes: Arc<Changes>,
    state: Mutex<State>,
    /// The addresses in `state`, which each request reads here without a lock.
    current: ArcSwapOption<Addresses>,
    /// Notified when a lookup has ended.
    looked_up: Notify,
}

#[derive(Default)]
struct State {
    /// The result of the last lookup that succeeded, and when that was.
    found: Option<(Arc<Addresses>, Instant)>,
    /// When the last lookup failed, unless a later one succeeded.
    failed_at: Option<Instant>,
    /// Whether a lookup is queued or running.
    is_pending: bool,
}

/// The addresses of a host: one or more.
#[derive(Debug)]
pub(crate) struct Addresses {
    all: Vec<Arc<Address>>,
    /// Counts connections: which address the next one tries first.
    picks: AtomicUsize,
}

/// One address of a host.
#[derive(Debug)]
pub(crate) struct Address {
    ip: IpAddr,
    backoff: Backoff,
}

impl Address {
    fn new(ip: IpAddr) -> Arc<Self> {
        Arc::new(Self { ip, backoff: Backoff::new() })
    }

    /// The address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its recent failures.
    pub(crate) fn backoff(&self) -> &Backoff {
        &self.backoff
    }
}

impl Addresses {
    pub(super) fn fixed(ip: IpAddr) -> Arc<Self> {
        Arc::new(Self { all: vec![Address::new(ip)], picks: AtomicUsize::new(0) })
    }

    /// All addresses in the order in which a new connection tries them: each connection starts one
    /// further, and those that have just failed come last.
    pub(crate) fn in_turn(&self) -> Vec<Arc<Address>> {
        let mut order = self.all.clone();
        order.rotate_left(self.picks.fetch_add(1, Ordering::Relaxed) % self.all.len());
        order.sort_by_key(|address| !address.backoff.allows_attempt());
        order
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.all.iter().any(|address| address.ip == ip)
    }
}

impl Name {
    pub(super) fn new(text: &str, threads: &Arc<LookupThreads>, changes: &Arc<Changes>) -> Arc<Self> {
        Arc::new(Self {
            text: text.into(),
            threads: Arc::clone(threads),
            changes: Arc::clone(changes),
            state: Mutex::default(),
            current: ArcSwapOption::empty(),
            looked_up: Notify::new(),
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// See [`Host::addresses`](super::Host::addresses).
    pub(super) async fn addresses(self: &Arc<Self>) -> Result<Arc<Addresses>, NotResolved> {
        loop {
            let looked_up = self.looked_up.notified();
            self.refresh();
            {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                match (&state.found, state.failed_at) {
                    (Some((addresses, _)), None) => return Ok(Arc::clone(addresses)),
                    (Some((addresses, at)), Some(_)) if at.elapsed() < MAX_STALE => return Ok(Arc::clone(addresses)),
                    // The lookup that follows a failure is worth waiting for only if it is due.
                    (Some(_) | None, Some(_)) if !state.is_pending => return Err(NotResolved),
                    (Some(_) | None, Some(_)) | (None, None) => {}
                }
            }
            looked_up.await;
        }
    }

    /// See [`Host::refresh`](super::Host::refresh).
    pub(super) fn refresh(self: &Arc<Self>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = match (&state.found, state.failed_at) {
            (_, Some(failed_at)) => failed_at.elapsed() >= RETRY_AFTER,
            (Some((_, at)), None) => at.elapsed() >= REFRESH_AFTER,
            (None, None) => true,
        };
        if is_due && !state.is_pending {
            state.is_pending = true;
            drop(state);
            self.threads.submit(Arc::clone(self));
        }
    }

    /// See [`Host::has`](super::Host::has).
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.current.load().as_ref().is_none_or(|addresses| addresses.has(ip))
    }

    /// See [`Host::known_addresses`](super::Host::known_addresses).
    pub(super) fn known_addresses(&self) -> Vec<IpAddr> {
        let current = self.current.load();
        current.iter().flat_map(|addresses| addresses.all.iter().map(|address| address.ip)).collect()
    }

    #[cfg(test)]
    pub(super) fn found(&self) -> Option<Arc<Addresses>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.found.as_ref().map(|(addresses, _)| Arc::clone(addresses))
    }

    /// Takes the result of a lookup.
    pub(crate) fn complete(&self, result: io::Result<Vec<IpAddr>>) {
        let result = result.and_then(|ips| if ips.is_empty() { Err(io::Error::other("no address")) } else { Ok(ips) });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_pending = false;
        match result {
            Ok(ips) => {
                if state.failed_at.take().is_some() {
                    tracing::info!(name = &*self.text, "the name resolves again");
                }
                let previous = state.found.take().map(|(addresses, _)| addresses);
                let addresses = merge(previous.as_ref(), ips);
                self.set_current(Some(&addresses));
                state.found = Some((addresses, Instant::now()));
            }
            Err(error) => {
                if state.failed_at.replace(Instant::now()).is_none() {
                    tracing::warn!(name = &*self.text, %error, "the name cannot be resolved");
                }
                if state.found.as_ref().is_some_and(|(_, at)| at.elapsed() >= MAX_STALE) {
                    self.set_current(None);
                }
            }
        }
        drop(state);
        self.looked_up.notify_waiters();
    }
}

impl Name {
    /// Publishes the addresses that may be used now.
    fn set_current(&self, addresses: Option<&Arc<Addresses>>) {
        let previous = self.current.swap(addresses.cloned());
        if previous.as_ref().map(Arc::as_ptr) != addresses.map(Arc::as_ptr) {
            self.changes.add();
        }
    }
}

/// The addresses in `ips`. What is known about an address that was there before is kept, as is the
/// whole value if nothing has changed.
fn merge(previous: Option<&Arc<Addresses>>, mut ips: Vec<IpAddr>) -> Arc<Addresses> {
    // The system sorts them by preference, which differs from lookup to lookup, and lists an
    // address once for each kind of socket.
    ips.sort_unstable();
    ips.dedup();
    ips.truncate(MAX_ADDRESSES);
    let known = previous.map_or(&[][..], |previous| &previous.all);
    if let Some(previous) = previous
        && known.iter().map(|address| address.ip).eq(ips.iter().copied())
    {
        return Arc::clone(previous);
    }
    let keep = |ip: IpAddr| known.iter().find(|address| address.ip == ip).map_or_else(|| Address::new(ip), Arc::clone);
    Arc::new(Addresses { all: ips.into_iter().map(keep).collect(), picks: AtomicUsize::new(0) })
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Name").field("text", &self.text).finish_non_exhaustive()
    }
}
