//! Idle connections, from the longest idle: the ones to close when a limit on connections is
//! reached.
//!
//! A connection is listed once it has had no request for a while, so that a busy one never takes
//! the lock. All workers share the list: the connection that has been idle for longest may belong
//! to another worker than the one that accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::connection_state::PARK_AFTER;
use crate::primitives::client_network::client_network;
use crate::primitives::lazy_timer::LazyTimer;
use crate::telemetry::metrics::{ConnectionMetrics, GaugeGuard};

/// The idle connections of all workers.
#[derive(Debug)]
pub(super) struct IdleConnections {
    list: Mutex<List>,
    metrics: ConnectionMetrics,
}

#[derive(Debug, Default)]
struct List {
    /// Ascends with each connection that is listed, so that the smallest number is that of the
    /// connection that has been idle for longest.
    next_number: u64,
    by_number: BTreeMap<u64, ListedConnection>,
    by_client: BTreeSet<(IpAddr, u64)>,
    /// Accepted connections that wait until another one is closed.
    waiting: usize,
    /// Connections that were told to close and have not yet done so.
    closing: usize,
}

#[derive(Debug)]
struct ListedConnection {
    client: Option<IpAddr>,
    close: oneshot::Sender<()>,
}

/// An accepted connection that waits until another one is closed.
#[derive(Debug)]
pub(super) struct CloseRequest<'a>(&'a IdleConnections);

/// One client's access to the list. Each of its connections has one.
#[derive(Clone, Debug)]
pub(super) struct IdleHandle {
    idle: Arc<IdleConnections>,
    /// The client whose share of the connections counts this one; `None` for a trusted proxy.
    client: Option<IpAddr>,
}

/// A connection's place in the list, until it is dropped: the connection is no longer idle then, or
/// closed.
#[derive(Debug)]
pub(super) struct IdleGuard {
    idle: Arc<IdleConnections>,
    client: Option<IpAddr>,
    number: u64,
    close: oneshot::Receiver<()>,
    _gauge: GaugeGuard,
}

impl IdleConnections {
    pub(super) fn new(metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self { list: Mutex::default(), metrics })
    }

    pub(super) fn handle(self: &Arc<Self>, client: Option<IpAddr>) -> IdleHandle {
        IdleHandle { idle: Arc::clone(self), client: client.map(client_network) }
    }

    /// Closes the connection of `client` that has been idle for longest. Returns whether there was
    /// one.
    pub(super) fn close_oldest_of(&self, client: IpAddr) -> bool {
        let client = client_network(client);
        let mut list = self.lock();
        let oldest = list.by_client.range((client, 0)..=(client, u64::MAX)).next().map(|(_, number)| *number);
        let closed = oldest.is_some_and(|number| list.close(number));
        drop(list);
        if closed {
            self.metrics.count_closed_for_client();
        }
        closed
    }

    /// Closes the connection that has been idle for longest, or else the next one that becomes idle
    /// while the returned request exists.
    pub(super) fn request_close(&self) -> CloseRequest<'_> {
        let mut list = self.lock();
        list.waiting += 1;
        let oldest = list.by_number.keys().next().copied();
        let closed = list.is_wanted() && oldest.is_some_and(|number| list.close(number));
        drop(list);
        if closed {
            self.metrics.count_closed_for_others();
        }
        CloseRequest(self)
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    /// Whether more connections wait than are being closed for them.
    fn is_wanted(&self) -> bool {
        self.waiting > self.closing
    }

    /// Tells a listed connection to close. Returns whether it was listed.
    fn close(&mut self, number: u64) -> bool {
        let Some(ListedConnection { client, close }) = self.by_number.remove(&number) else { return false };
        if let Some(client) = client {
            self.by_client.remove(&(client, number));
        }
        self.closing += 1;
        // The guard holds the receiver for as long as the connection is listed.
        let _ = close.send(());
        true
    }
}

impl Drop for CloseRequest<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl IdleHandle {
    /// Lists the connection as idle.
    pub(super) fn list(&self) -> IdleGuard {
        let (sender, receiver) = oneshot::channel();
        let mut list = self.idle.lock();
        let number = list.next_number;
        list.next_number += 1;
        list.by_number.insert(number, ListedConnection { client: self.client, close: sender });
        if let Some(client) = self.client {
            list.by_client.insert((client, number));
        }
        let closed = list.is_wanted() && list.close(number);
        drop(list);
        if closed {
            self.idle.metrics.count_closed_for_others();
        }
        let gauge = self.idle.metrics.idle().hold();
        IdleGuard { idle: Arc::clone(&self.idle), client: self.client, number, close: receiver, _gauge: gauge }
    }

    /// Lists a connection that has sent nothing, once it had time to. Resolves when it is to close.
    pub(super) async fn closed_while_silent(&self) {
        sleep(PARK_AFTER).await;
        self.list().closed().await;
    }
}

impl IdleGuard {
    /// Resolves when the connection is to close.
    pub(super) async fn closed(&mut self) {
        // The sender is dropped without a message only together with this guard.
        let _ = (&mut self.close).await;
    }
}

impl Drop for IdleGuard {
    fn drop(&mut self) {
        let mut list = self.idle.lock();
        if list.by_number.remove(&self.number).is_none() {
            list.closing -= 1;
        } else if let Some(client) = self.client {
            list.by_client.remove(&(client, self.number));
        }
    }
}

/// Lists a connection that is not parked while it is idle, and says when it is to close.
#[derive(Debug)]
pub(super) struct IdleWatch {
    handle: IdleHandle,
    timer: LazyTimer,
    guard: Option<IdleGuard>,
}

impl IdleWatch {
    pub(super) fn new(handle: IdleHandle) -> Self {
        Self { handle, timer: LazyTimer::default(), guard: None }
    }

    /// Ready when the connection is to close. `idle_at` is when it counts as idle, and `None` while
    /// it is busy.
    pub(super) fn poll_closed(&mut self, idle_at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(idle_at) = idle_at else {
            self.guard = None;
            return Poll::Pending;
        };
        if self.guard.is_none() {
            ready!(self.timer.poll_reached(idle_at, cx));
        }
        let guard = self.guard.get_or_insert_with(|| self.handle.list());
        Pin::new(&mut guard.close).poll(cx).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::primitives::clock::Clock;
    use crate::telemetry::metrics::Metrics;

    fn idle_connections() -> Arc<IdleConnections> {
        IdleConnections::new(Metrics::new(Clock::system()).connections().clone())
    }

    fn handle(idle: &Arc<IdleConnections>, client: &str) -> IdleHandle {
        idle.handle(Some(client.parse().unwrap()))
    }

    /// Which of these connections were told to close.
    fn closed(guards: &mut [IdleGuard]) -> Vec<bool> {
        guards.iter_mut().map(|guard| guard.close.try_recv().is_ok()).collect()
    }

    #[test]
    fn the_connection_that_has_been_idle_for_longest_is_closed() {
        let idle = idle_connections();
        let mut guards = ["192.0.2.1", "192.0.2.2", "192.0.2.1"].map(|client| handle(&idle, client).list());
        let _first = idle.request_close();
        assert_eq!(closed(&mut guards), [true, false, false]);
        let _second = idle.request_close();
        assert_eq!(closed(&mut guards), [false, true, false]);
        assert!(idle.close_oldest_of("192.0.2.1".parse().unwrap()));
        assert_eq!(closed(&mut guards), [false, false, true]);
        assert!(!idle.close_oldest_of("192.0.2.1".parse().unwrap()), "no other is idle");
    }

    #[test]
    fn only_a_clients_own_connections_are_closed_for_its_share() {
        let idle = idle_connections();
        let mut guards = ["2001:db8:0:1::1", "2001:db8::1"].map(|client| handle(&idle, client).list());
        assert!(!idle.close_oldest_of("192.0.2.1".parse().unwrap()));
        assert!(idle.close_oldest_of("2001:db8::2".parse().unwrap()), "the same /64");
        assert_eq!(closed(&mut guards), [false, true]);
    }

    #[test]
    fn a_proxys_connection_is_closed_for_others_and_for_no_share() {
        let idle = idle_connections();
        let mut guards = [idle.handle(None).list()];
        assert!(!idle.close_oldest_of(Ipv4Addr::LOCALHOST.into()), "it is in no client's share");
        let _request = idle.request_close();
        assert_eq!(closed(&mut guards), [true]);
    }

    #[test]
    fn a_connection_that_becomes_idle_is_closed_for_one_that_waits() {
        let idle = idle_connections();
        let client = handle(&idle, "192.0.2.1");
        let first_request = idle.request_close();
        let second_request = idle.request_close();
        let mut guards = [client.list(), client.list(), client.list()];
        assert_eq!(closed(&mut guards), [true, true, false], "one for each that waits");
        drop((first_request, second_request));
        assert_eq!(closed(&mut [client.list()]), [false], "none waits any more");
        drop(guards);
        let list = idle.lock();
        assert_eq!((list.waiting, list.closing), (0, 0));
        assert!(list.by_number.is_empty() && list.by_client.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_connection_is_listed_only_while_it_is_idle() {
        let idle = idle_connections();
        let mut watch = IdleWatch::new(handle(&idle, "192.0.2.1"));
        let idle_at = Instant::now() + Duration::from_secs(1);
        let mut poll = async |idle_at| poll_fn(|cx| Poll::Ready(watch.poll_closed(idle_at, cx).is_ready())).await;
        assert!(!poll(Some(idle_at)).await);
        assert!(!idle.close_oldest_of("192.0.2.1".parse().unwrap()), "not idle yet");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!poll(Some(idle_at)).await);
        assert!(!poll(None).await);
        assert!(!idle.close_oldest_of("192.0.2.1".parse().unwrap()), "busy again");
        assert!(!poll(Some(idle_at)).await);
        assert!(idle.close_oldest_of("192.0.2.1".parse().unwrap()));
        assert!(poll(Some(idle_at)).await);
    }
}
