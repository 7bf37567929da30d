//! Connection pool: kept-alive HTTP/1.1 connections of one worker to one server.
//!
//! A pool belongs to its worker's thread, so that taking and giving back touch no lock. What all workers share about a server is its
//! [`Semaphore`](tokio::sync::Semaphore): a permit stands for an open connection and is held by the connection's own task, so it comes back
//! exactly when the socket is closed, whoever let go of it and why.
//!
//! - Newest first: the connection used last is the least likely to have been closed by the other side.
//! - Idle time is kept below what servers allow (Node closes after 5 s), so that the race against their close is rare.
//! - A full server queues requests, up to `max_pending`; a worker that holds idle connections gives one up when another worker's
//!   requests wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::body::RequestBody;
use super::lease::Lease;
use super::streams::Streams;
use super::{Protocol, Server, UpstreamError};
use crate::primitives::coalescing_stream::CoalescingStream;
use crate::primitives::lazy_timer::LazyTimer;
use crate::telemetry::metrics::{GaugeGuard, UpstreamMetrics};

/// Longest response head taken from an upstream, in bytes; more is [`UpstreamError::Failed`]. Twice the usual bound on requests, since
/// upstreams set cookies and policies that clients never send back.
pub(super) const MAX_RESPONSE_HEAD_BYTES: usize = 64 * 1024;

/// The pools of one worker, by server.
#[derive(Debug, Default)]
pub struct Pools(RefCell<Vec<Rc<Pool>>>);

/// The idle connections of one worker to one server, and those who wait for one.
#[derive(Debug)]
pub struct Pool {
    server: Arc<Server>,
    metrics: UpstreamMetrics,
    idle: RefCell<VecDeque<Idle>>,
    waiters: RefCell<VecDeque<oneshot::Sender<Connection>>>,
    /// In place of the above, where the server is spoken to in HTTP/2.
    streams: Rc<Streams>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
    _counted: GaugeGuard,
}

/// One open connection. Dropping it closes the socket once hyper has noticed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) permit: Arc<OwnedSemaphorePermit>,
    pub(super) task: AbortHandle,
    /// For whoever waits for something on it.
    pub(super) timer: LazyTimer,
}

/// Which connections a request may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Any.
    Any,
    /// Only one that has carried no request: for the retry after a stale one.
    New,
}

impl Pools {
    /// This worker's pool for `server`, made at its first use.
    #[must_use]
    pub fn of(&self, server: &Arc<Server>, metrics: &UpstreamMetrics) -> Rc<Pool> {
        let mut pools = self.0.borrow_mut();
        // A handful of servers: a scan is faster than hashing, and keeps the list in the order of first use.
        if let Some(pool) = pools.iter().find(|pool| pool.server.id() == server.id()) {
            return Rc::clone(pool);
        }
        let pool = Rc::new(Pool {
            server: Arc::clone(server),
            metrics: metrics.clone(),
            idle: RefCell::default(),
            waiters: RefCell::default(),
            streams: Rc::default(),
        });
        tokio::task::spawn_local(keep(Rc::downgrade(&pool), Arc::clone(server)));
        pools.push(Rc::clone(&pool));
        pool
    }

    /// Lets go of the pools of servers that `lives` no longer knows: called when the configuration has changed.
    pub fn retain(&self, lives: impl Fn(u64) -> bool) {
        self.0.borrow_mut().retain(|pool| lives(pool.server.id()));
    }
}

impl Pool {
    /// The connection that was used last, if it can take a request at once.
    #[must_use]
    pub fn take_ready(self: &Rc<Self>) -> Option<Lease> {
        if self.server.protocol == Protocol::Http2 {
            return self.streams.place(&self.server, Reuse::Any).map(|stream| Lease::of_stream(self, stream));
        }
        let connection = self.pop_idle()?;
        if connection.sender.is_ready() {
            return Some(Lease::of_connection(self, connection, true));
        }
        self.keep(connection);
        None
    }

    /// A connection that is ready to take a request, waited for if need be.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unreachable`] if none could be opened, [`UpstreamError::Busy`] if the queue is full.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point: a place in the queue, a permit or a half-open connection is given up.
    pub async fn take(self: &Rc<Self>, reuse: Reuse) -> Result<Lease, UpstreamError> {
        if self.server.protocol == Protocol::Http2 {
            return self.take_stream(reuse).await;
        }
        if reuse == Reuse::Any {
            while let Some(mut connection) = self.pop_idle() {
                // Just given back, hyper's task may not yet have turned around; a connection that has died says so here.
                if connection.sender.is_ready() || connection.sender.ready().await.is_ok() {
                    return Ok(Lease::of_connection(self, connection, true));
                }
            }
        }
        if let Ok(permit) = Arc::clone(&self.server.slots).try_acquire_owned() {
            return Ok(Lease::of_connection(self, self.connect(permit).await?, false));
        }
        self.wait(reuse).await
    }

    async fn take_stream(self: &Rc<Self>, reuse: Reuse) -> Result<Lease, UpstreamError> {
        let failures = self.streams.failures();
        let mut place = None;
        let mut permit = None;
        loop {
            // Listened for before the look, or a change between the look and the wait would be missed.
            let mut changed = pin!(self.streams.changed());
            changed.as_mut().enable();
            if let Some(stream) = self.streams.place(&self.server, reuse) {
                return Ok(Lease::of_stream(self, stream));
            }
            let opening = self.streams.opening();
            if let Some(opening) = &opening
                && let Some(permit) = permit.take().or_else(|| Arc::clone(&self.server.slots).try_acquire_owned().ok())
            {
                // Nobody else's news is to be swallowed meanwhile.
                changed.set(self.streams.changed());
                let open = async { opening.begin(self.dial().await?, permit).await };
                // The server's greeting is a part of connecting.
                let opened = timeout(self.server.connect_timeout, open).await;
                if let Err(error) = opened.unwrap_or(Err(UpstreamError::Unreachable)) {
                    opening.fail();
                    return Err(error);
                }
                continue;
            }
            if self.streams.is_hopeless_since(failures) {
                return Err(UpstreamError::Unreachable);
            }
            if place.is_none() {
                place = Some((Waiting::enter(&self.server, &self.metrics)?, self.streams.wait()));
            }
            self.server.wanted.notify_waiters();
            tokio::select! {
                () = changed => {}
                // Whoever has the right to open one waits for leave to do so.
                slot = Arc::clone(&self.server.slots).acquire_owned(), if opening.is_some() => {
                    permit = Some(slot.map_err(|_closed| UpstreamError::Busy)?);
                }
            }
            if reuse == Reuse::New {
                self.streams.pass_on();
            }
        }
    }

    fn pop_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(newest) = idle.pop_back() {
            if newest.since.elapsed() < self.server.keep_alive && !newest.connection.sender.is_closed() {
                return Some(newest.connection);
            }
        }
        None
    }

    async fn wait(self: &Rc<Self>, reuse: Reuse) -> Result<Lease, UpstreamError> {
        let _place = Waiting::enter(&self.server, &self.metrics)?;
        self.server.wanted.notify_waiters();
        loop {
            let receiver = self.queue(reuse);
            tokio::select! {
                biased;
                Ok(mut connection) = receiver => {
                    // It may have died on the way; then the next one, or a new one.
                    if connection.sender.ready().await.is_ok() {
                        return Ok(Lease::of_connection(self, connection, true));
                    }
                }
                Ok(permit) = Arc::clone(&self.server.slots).acquire_owned() => {
                    return Ok(Lease::of_connection(self, self.connect(permit).await?, false));
                }
                else => return Err(UpstreamError::Busy),
            }
        }
    }

    /// A place in the line for a used connection; one who wants a new one gets a place that is never called.
    fn queue(&self, reuse: Reuse) -> oneshot::Receiver<Connection> {
        let (sender, receiver) = oneshot::channel();
        if reuse == Reuse::New {
            return receiver;
        }
        let mut waiters = self.waiters.borrow_mut();
        // Those who left before their turn are still in the list: no more of them than there are live ones.
        if waiters.len() > 2 * self.server.waiting.load(Ordering::Acquire) {
            waiters.retain(|waiter| !waiter.is_closed());
        }
        waiters.push_back(sender);
        receiver
    }

    /// Counts an exchange, until the value is dropped.
    pub(super) fn count_active(&self) -> GaugeGuard {
        self.metrics.active().hold()
    }

    async fn dial(&self) -> Result<TcpStream, UpstreamError> {
        let address = self.server.address();
        let dial = TcpStream::connect((address.host.as_str(), address.port));
        let stream = match timeout(self.server.connect_timeout, dial).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(server = ?address.authority, %error, "cannot connect to the upstream");
                return Err(UpstreamError::Unreachable);
            }
            Err(_elapsed) => {
                tracing::debug!(server = ?address.authority, "connecting to the upstream took too long");
                return Err(UpstreamError::Unreachable);
            }
        };
        // Small writes must not wait for acknowledgements; a socket that cannot be told so still works.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn connect(&self, permit: OwnedSemaphorePermit) -> Result<Connection, UpstreamError> {
        let stream = self.dial().await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_RESPONSE_HEAD_BYTES)
            // The buffer may take in more than its bound at once. The number of lines is left at hyper's own bound, a hundred: for any other
            // it takes memory anew with each answer.
            .max_header_size(MAX_RESPONSE_HEAD_BYTES)
            .handshake(TokioIo::new(CoalescingStream::new(stream)))
            .await
            .map_err(|_| UpstreamError::Failed)?;
        let permit = Arc::new(permit);
        let held = Arc::clone(&permit);
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
            drop(held);
        });
        Ok(Connection { sender, permit, task: task.abort_handle(), timer: LazyTimer::default() })
    }

    /// Gives it to whoever waits, or keeps it for whoever comes.
    pub(super) fn put_back(&self, connection: Connection) {
        let mut connection = connection;
        // A waiter that has given up hands the connection back.
        while let Some(waiter) = self.waiters.borrow_mut().pop_front() {
            match waiter.send(connection) {
                Ok(()) => return,
                Err(returned) => connection = returned,
            }
        }
        if self.server.waiting.load(Ordering::Acquire) > 0 {
            return; // closed: another worker's request waits for the slot
        }
        self.keep(connection);
    }

    fn keep(&self, connection: Connection) {
        let counted = self.metrics.idle().hold();
        self.idle.borrow_mut().push_back(Idle { connection, since: Instant::now(), _counted: counted });
    }

    /// Closes what has been idle too long or is dead already; tells when to look again.
    fn sweep(&self) -> Duration {
        if self.server.protocol == Protocol::Http2 {
            return self.streams.sweep(self.server.keep_alive);
        }
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| idle.since.elapsed() < self.server.keep_alive && !idle.connection.sender.is_closed());
        idle.front()
            .map_or(self.server.keep_alive, |oldest| self.server.keep_alive.saturating_sub(oldest.since.elapsed()))
    }

    fn give_up_oldest(&self) {
        self.idle.borrow_mut().pop_front();
        self.streams.give_up_idle();
    }
}

/// Looks after a pool's idle connections for as long as the pool lives.
async fn keep(pool: Weak<Pool>, server: Arc<Server>) {
    /// Not below: an entry that is about to expire must not make this loop spin.
    const MIN_NAP: Duration = Duration::from_millis(10);
    let mut nap = server.keep_alive;
    loop {
        let wanted = tokio::time::timeout(nap.max(MIN_NAP), server.wanted.notified()).await.is_ok();
        let Some(pool) = pool.upgrade() else { return };
        if wanted {
            pool.give_up_oldest();
        }
        nap = pool.sweep();
    }
}

/// A place in a server's queue; given up when dropped.
struct Waiting<'a> {
    server: &'a Server,
    _counted: GaugeGuard,
}

impl<'a> Waiting<'a> {
    fn enter(server: &'a Server, metrics: &UpstreamMetrics) -> Result<Self, UpstreamError> {
        let place = server.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = Self { server, _counted: metrics.pending().hold() };
        if place >= server.max_pending { Err(UpstreamError::Busy) } else { Ok(waiting) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.server.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
