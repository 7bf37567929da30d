//! HTTP/2 pool: requests share connections, each on a stream of its own.
//!
//! A further connection is opened, up to `max_connections`, when every open one has as many streams
//! as it may have. One request of a worker opens it and the others wait for the result, or else the
//! first burst of requests would open a connection each. Dropping a stream resets it and leaves the
//! others alone, so a connection stays usable even if a response on it was not read to the end.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::http1_connection::Http1Connection;
use super::http2_connection::Http2Connection;
use super::{IdleConnections, Reuse};
use crate::telemetry::metrics::UpstreamMetrics;
use crate::upstream::body::RequestBody;
use crate::upstream::server::{Pending, Server};
use crate::upstream::{ConnectFault, HttpVersion, Protocol, UpstreamError};

/// The HTTP/2 connections of one worker to one server.
#[derive(Debug)]
pub(in crate::upstream) struct Http2Pool {
    server: Arc<Server>,
    /// What new connections offer to speak.
    protocol: Protocol,
    metrics: UpstreamMetrics,
    connections: RefCell<Vec<Rc<Http2Connection>>>,
    /// Whether a request holds the [`ConnectLock`].
    is_connecting: Cell<bool>,
    /// How many attempts to open a connection have failed so far.
    failed_connects: Cell<u64>,
    /// Why the last of them failed.
    connect_fault: Cell<ConnectFault>,
    /// How many connections were opened so far for which the server has chosen HTTP/1.1.
    http1_connects: Cell<u64>,
    /// Requests of this worker that wait for a stream on any connection.
    pending: Cell<usize>,
    /// Notified when a stream has ended. Only requests wait for it that can use any connection: one
    /// that cannot would have to pass the notification on, and would get it back from another one.
    stream_ended: Notify,
    /// Notified when connections have changed, and when an attempt to connect has ended.
    changed: Rc<Notify>,
}

/// One request's stream on a shared connection, until dropped.
#[derive(Debug)]
pub(in crate::upstream) struct Stream {
    connection: Rc<Http2Connection>,
    pool: Rc<Http2Pool>,
    is_reused: bool,
}

/// What a request for a stream gets.
pub(super) enum Acquired {
    Stream(Stream),
    /// None, because the server has chosen HTTP/1.1 for a new connection. It goes to the request
    /// that has opened it; the others that have waited for it get `None`.
    Http1(Option<Http1Connection>),
}

/// Held by the one request of a worker that may open a connection.
struct ConnectLock<'a>(&'a Http2Pool);

/// Counts one request of this worker as waiting for a stream on any connection, until dropped.
struct WorkerPending<'a>(&'a Http2Pool);

impl Http2Pool {
    /// An empty pool. With [`Protocol::Negotiated`], the server may choose HTTP/1.1 for a new
    /// connection.
    pub(super) fn new(server: Arc<Server>, protocol: Protocol, metrics: UpstreamMetrics) -> Self {
        Self {
            server,
            protocol,
            metrics,
            connections: RefCell::default(),
            is_connecting: Cell::new(false),
            failed_connects: Cell::new(0),
            connect_fault: Cell::new(ConnectFault::Other),
            http1_connects: Cell::new(0),
            pending: Cell::new(0),
            stream_ended: Notify::new(),
            changed: Rc::default(),
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// A stream on the connection with the fewest streams, if any connection has room.
    pub(super) fn try_acquire(self: &Rc<Self>, reuse: Reuse) -> Option<Stream> {
        let connections = self.connections.borrow();
        let connection = connections
            .iter()
            .filter(|connection| !connection.is_closed() && connection.has_room())
            .filter(|connection| match reuse {
                Reuse::Allowed => true,
                Reuse::Forbidden => !connection.is_used(),
            })
            .min_by_key(|connection| connection.stream_count())?;
        let is_reused = connection.open_stream();
        Some(Stream { connection: Rc::clone(connection), pool: Rc::clone(self), is_reused })
    }

    /// A stream on an open connection or on a new one, or one that is waited for.
    pub(super) async fn acquire(
        self: &Rc<Self>,
        reuse: Reuse,
        connect_time: Duration,
    ) -> Result<Acquired, UpstreamError> {
        let failed_before = self.failed_connects.get();
        let http1_before = self.http1_connects.get();
        let mut pending = None;
        let mut permit = None;
        loop {
            // Registers before it looks for a stream, so that no change between the two is missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let mut stream_ended = pin!(self.stream_ended.notified());
            if reuse == Reuse::Allowed {
                stream_ended.as_mut().enable();
            }
            if let Some(stream) = self.try_acquire(reuse) {
                return Ok(Acquired::Stream(stream));
            }
            if self.http1_connects.get() != http1_before {
                return Ok(Acquired::Http1(None));
            }
            if self.failed_connects.get() != failed_before && self.connections.borrow().is_empty() {
                // The attempt that this request was waiting for failed, and there is no other
                // connection.
                return Err(UpstreamError::Unreachable(self.connect_fault.get()));
            }
            let lock = self.try_connect_lock();
            if let Some(lock) = &lock
                && let Some(permit) = permit.take().or_else(|| self.server.try_connection_permit())
            {
                // Unregisters: while it connects, this request must not consume a notification that
                // another one needs.
                stream_ended.set(self.stream_ended.notified());
                match lock.connect(permit, connect_time).await? {
                    Some(http1) => return Ok(Acquired::Http1(Some(http1))),
                    None => continue,
                }
            }
            if pending.is_none() {
                let in_worker = (reuse == Reuse::Allowed).then(|| WorkerPending::at(self));
                pending = Some((Pending::at(&self.server, &self.metrics)?, in_worker));
            }
            self.server.notify_permit_wanted();
            tokio::select! {
                () = changed => {}
                () = stream_ended, if reuse == Reuse::Allowed => {}
                acquired = self.server.connection_permit(), if lock.is_some() => permit = Some(acquired?),
            }
        }
    }

    fn try_connect_lock(&self) -> Option<ConnectLock<'_>> {
        (!self.is_connecting.replace(true)).then(|| ConnectLock(self))
    }
}

impl ConnectLock<'_> {
    /// Opens a connection and adds it to the pool. Returns it if it speaks HTTP/1.1.
    async fn connect(
        &self,
        permit: OwnedSemaphorePermit,
        time: Duration,
    ) -> Result<Option<Http1Connection>, UpstreamError> {
        let Self(pool) = self;
        let opened = self.open(permit, time).await;
        pool.server.note_connect(&opened);
        let result = match opened {
            Ok(NewConnection::Http2(connection)) => {
                pool.connections.borrow_mut().push(Rc::new(connection));
                Ok(None)
            }
            Ok(NewConnection::Http1(connection)) => {
                pool.http1_connects.set(pool.http1_connects.get() + 1);
                Ok(Some(connection))
            }
            Err(fault) => {
                pool.failed_connects.set(pool.failed_connects.get() + 1);
                pool.connect_fault.set(fault);
                Err(UpstreamError::Unreachable(fault))
            }
        };
        // A new connection has room for many requests, and a failure concerns every request that
        // waits for it.
        pool.changed.notify_waiters();
        result
    }

    async fn open(&self, permit: OwnedSemaphorePermit, time: Duration) -> Result<NewConnection, ConnectFault> {
        let Self(pool) = self;
        let deadline = Instant::now() + time;
        let connected = pool.server.dialer().connect(pool.protocol, time).await?;
        match connected.version {
            HttpVersion::Http1 => Http1Connection::start(connected, permit).await.map(NewConnection::Http1),
            HttpVersion::Http2 => {
                let started = Http2Connection::start(connected, permit, Rc::clone(&pool.changed), deadline);
                started.await.map(NewConnection::Http2)
            }
        }
    }
}

/// A new connection.
enum NewConnection {
    Http1(Http1Connection),
    Http2(Http2Connection),
}

impl Drop for ConnectLock<'_> {
    fn drop(&mut self) {
        self.0.is_connecting.set(false);
        // Another request may have to connect now. Not `notify_one`: without a waiter it would be
        // stored for the request that drops this lock.
        self.0.changed.notify_waiters();
    }
}

impl<'a> WorkerPending<'a> {
    fn at(pool: &'a Http2Pool) -> Self {
        pool.pending.set(pool.pending.get() + 1);
        Self(pool)
    }
}

impl Drop for WorkerPending<'_> {
    fn drop(&mut self) {
        self.0.pending.set(self.0.pending.get() - 1);
    }
}

impl Stream {
    /// Whether its connection has carried a request before.
    pub(in crate::upstream) fn is_reused(&self) -> bool {
        self.is_reused
    }

    pub(in crate::upstream) fn sender(&self) -> SendRequest<RequestBody> {
        self.connection.sender()
    }

    pub(in crate::upstream) fn metrics(&self) -> &UpstreamMetrics {
        &self.pool.metrics
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let pool = &self.pool;
        let was_last = self.connection.close_stream();
        if was_last && pool.server.pending() > pool.pending.get() {
            // Closes the connection: a request waits for its permit, of another worker or one that
            // must not use a connection that was used.
            pool.connections.borrow_mut().retain(|open| !Rc::ptr_eq(open, &self.connection));
        }
        pool.stream_ended.notify_one();
    }
}

impl IdleConnections for Http2Pool {
    fn close_expired(&self) -> Duration {
        let keep_alive = self.server.keep_alive();
        let dialer = self.server.dialer();
        dialer.refresh();
        let mut connections = self.connections.borrow_mut();
        // One that goes to an address which the server's name no longer has, or that was made with
        // other certificates, takes no further requests, and closes once its streams have ended.
        connections.retain(|connection| {
            !connection.is_closed()
                && dialer.is_current(connection.destination())
                && connection.idle_time().is_none_or(|idle| idle < keep_alive)
        });
        let remaining = connections.iter().filter_map(|connection| connection.idle_time());
        remaining.map(|idle| keep_alive.saturating_sub(idle)).min().unwrap_or(keep_alive)
    }

    fn close_one(&self) {
        let mut connections = self.connections.borrow_mut();
        if let Some(idle) = connections.iter().position(|connection| connection.stream_count() == 0) {
            connections.remove(idle);
        }
    }
}
