//! HTTP/1.1 pool: idle connections, and the requests that wait for one.
//!
//! The connection used last is reused first: it is the one least likely to have been closed by the
//! server.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::http1_connection::Http1Connection;
use super::{IdleConnections, Reuse, UnreadResponse};
use crate::telemetry::metrics::{GaugeGuard, UpstreamMetrics};
use crate::upstream::UpstreamError;
use crate::upstream::server::{Pending, Server};

/// The HTTP/1.1 connections of one worker to one server that no request is using.
#[derive(Debug)]
pub(in crate::upstream) struct Http1Pool {
    server: Arc<Server>,
    metrics: UpstreamMetrics,
    /// Ordered by the time of their last use, the oldest first.
    idle: RefCell<VecDeque<IdleConnection>>,
    /// Requests of this worker that wait for a connection to be returned, the oldest first.
    waiters: RefCell<VecDeque<oneshot::Sender<Http1Connection>>>,
    /// Responses that have lost their clients, for the task that reads them.
    unread: mpsc::UnboundedSender<UnreadResponse>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Http1Connection,
    since: Instant,
    _gauge: GaugeGuard,
}

impl IdleConnection {
    fn is_usable(&self, keep_alive: Duration) -> bool {
        self.since.elapsed() < keep_alive && !self.connection.sender.is_closed()
    }
}

impl Http1Pool {
    /// An empty pool, which sends unread responses to `unread`.
    pub(super) fn new(
        server: Arc<Server>,
        metrics: UpstreamMetrics,
        unread: mpsc::UnboundedSender<UnreadResponse>,
    ) -> Self {
        Self { server, metrics, idle: RefCell::default(), waiters: RefCell::default(), unread }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(in crate::upstream) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// The connection that was used last, if it can take a request without waiting.
    pub(super) fn try_acquire(&self) -> Option<Http1Connection> {
        let connection = self.pop_idle()?;
        if connection.sender.is_ready() {
            return Some(connection);
        }
        self.push_idle(connection);
        None
    }

    /// A connection that can take a request: an idle one, a new one, or one that is waited for.
    pub(super) async fn acquire(&self, reuse: Reuse, connect_time: Duration) -> Result<Http1Connection, UpstreamError> {
        if reuse == Reuse::Allowed {
            while let Some(mut connection) = self.pop_idle() {
                // A connection returned just now is ready as soon as hyper's task has run once
                // more. A broken one fails here.
                if connection.sender.is_ready() || connection.sender.ready().await.is_ok() {
                    return Ok(connection);
                }
            }
        }
        match self.server.try_connection_permit() {
            Some(permit) => self.open(permit, connect_time).await,
            None => self.wait(reuse, connect_time).await,
        }
    }

    async fn open(&self, permit: OwnedSemaphorePermit, time: Duration) -> Result<Http1Connection, UpstreamError> {
        let opened = Http1Connection::open(self.server.dialer(), permit, time).await;
        self.server.note_connect(&opened);
        opened.map_err(UpstreamError::Unreachable)
    }

    /// Takes a connection back after its response has been read to the end: hands it to the request
    /// that has waited longest, or keeps it for a later one.
    pub(in crate::upstream) fn put_back(&self, mut connection: Http1Connection) {
        connection.is_reused = true;
        // A waiter that has given up returns the connection.
        while let Some(waiter) = self.waiters.borrow_mut().pop_front() {
            match waiter.send(connection) {
                Ok(()) => return,
                Err(returned) => connection = returned,
            }
        }
        if self.server.pending() > 0 {
            return; // Closes it: a request of another worker waits for the permit.
        }
        if !self.server.dialer().is_current(connection.destination) {
            return; // Closes it: the server has another address, or other certificates are in use.
        }
        self.push_idle(connection);
    }

    /// Takes a connection whose client has left before the end of the response.
    pub(in crate::upstream) fn read_to_end(&self, response: UnreadResponse) {
        // If the task has ended, so has the worker, and dropping the connection closes it.
        let _ = self.unread.send(response);
    }

    fn pop_idle(&self) -> Option<Http1Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(newest) = idle.pop_back() {
            if newest.is_usable(self.server.keep_alive()) {
                return Some(newest.connection);
            }
        }
        None
    }

    fn push_idle(&self, connection: Http1Connection) {
        let gauge = self.metrics.idle().hold();
        self.idle.borrow_mut().push_back(IdleConnection { connection, since: Instant::now(), _gauge: gauge });
    }

    /// Waits until a connection of this worker is returned or one may be opened.
    async fn wait(&self, reuse: Reuse, connect_time: Duration) -> Result<Http1Connection, UpstreamError> {
        let _pending = Pending::at(&self.server, &self.metrics)?;
        self.server.notify_permit_wanted();
        loop {
            let returned = async {
                match reuse {
                    Reuse::Allowed => self.enqueue().await.ok(),
                    // Every connection that is returned has carried a request.
                    Reuse::Forbidden => None,
                }
            };
            tokio::select! {
                biased;
                Some(mut connection) = returned => {
                    // If it broke meanwhile, wait for the next one or for a permit.
                    if connection.sender.ready().await.is_ok() {
                        return Ok(connection);
                    }
                }
                permit = self.server.connection_permit() => {
                    return self.open(permit?, connect_time).await;
                }
            }
        }
    }

    fn enqueue(&self) -> oneshot::Receiver<Http1Connection> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.waiters.borrow_mut();
        // Requests that were cancelled while they waited are still listed; this bounds their number
        // by the number of those that do wait.
        if waiters.len() > 2 * self.server.pending() {
            waiters.retain(|waiter| !waiter.is_closed());
        }
        waiters.push_back(sender);
        receiver
    }
}

impl IdleConnections for Http1Pool {
    fn close_expired(&self) -> Duration {
        let keep_alive = self.server.keep_alive();
        let dialer = self.server.dialer();
        dialer.refresh();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| idle.is_usable(keep_alive) && dialer.is_current(idle.connection.destination));
        idle.front().map_or(keep_alive, |oldest| keep_alive.saturating_sub(oldest.since.elapsed()))
    }

    fn close_one(&self) {
        self.idle.borrow_mut().pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::upstream::tests::upstream_with;

    #[tokio::test]
    async fn requests_that_have_given_up_waiting_do_not_pile_up() {
        let upstream = upstream_with(1, |settings| settings.max_connections = 1);
        let server = Arc::clone(&upstream.servers()[0]);
        let pool = Http1Pool::new(Arc::clone(&server), upstream.metrics().clone(), mpsc::unbounded_channel().0);
        let _permit = server.try_connection_permit().unwrap();
        let wait = || {
            let mut waiting = Box::pin(pool.acquire(Reuse::Allowed, Duration::from_secs(1)));
            assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            waiting
        };
        let mut waiting: Vec<_> = (0..10).map(|_| wait()).collect();
        assert_eq!(pool.waiters.borrow().len(), 10);
        waiting.truncate(1);
        waiting.push(wait());
        let listed: Vec<_> = pool.waiters.borrow().iter().map(oneshot::Sender::is_closed).collect();
        assert_eq!(listed, [false, false]);
    }
}
