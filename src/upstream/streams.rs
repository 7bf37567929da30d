//! HTTP/2 connections to a server: each carries many requests, so they are shared and not handed out.
//!
//! Another one is opened when all that are open have as many streams as the server allows, up to `max_connections`; while one is being opened,
//! those who come wait for it, or the first burst of requests would open a connection each. A stream that is given up is reset and harms
//! no other; so nothing here depends on whether an answer was read to its end.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::body::RequestBody;
use super::pool::{MAX_RESPONSE_HEAD_BYTES, Reuse};
use super::{Server, UpstreamError};
use crate::primitives::local_executor::LocalExecutor;

/// Most streams on one connection, whatever the server allows: a connection that breaks takes all of them along.
const MAX_STREAMS: usize = 100;

/// How much of an answer the server may send ahead of its client, in bytes. All streams together may have as much each: one whose client
/// takes its time must not use up what the others need.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
#[expect(clippy::cast_possible_truncation, reason = "a hundred")]
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * MAX_STREAMS as u32;

/// How often a connection with streams is asked whether the server is still there, and how long the answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections of one worker to one server.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: RefCell<Vec<Rc<Connection>>>,
    connecting: Cell<bool>,
    /// Attempts to open one that came to nothing.
    failures: Cell<u64>,
    /// Requests of this worker that wait for a place.
    waiting: Cell<usize>,
    /// Told when a stream ends, and when a connection has been opened or has not.
    changed: Notify,
}

/// A request of this worker that waits, until it is dropped.
pub(super) struct WaitsHere(Rc<Streams>);

impl Drop for WaitsHere {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<RequestBody>,
    state: Rc<State>,
    streams: Cell<usize>,
    /// When its last stream ended, while it has none.
    idle_since: Cell<Instant>,
    has_been_used: Cell<bool>,
}

/// What a connection's task tells of it.
#[derive(Debug, Default)]
struct State {
    /// How many streams the server allows, as of its last word on it.
    allowed: Cell<usize>,
    ended: Cell<bool>,
    changed: Notify,
}

/// A place for one request on one of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Rc<Connection>,
    all: Rc<Streams>,
    server: Arc<Server>,
    reused: bool,
}

/// The right to open a connection, which one request at a time has.
#[derive(Debug)]
pub(super) struct Opening(Rc<Streams>);

impl Streams {
    /// A place on the connection that has the fewest streams, if any has room.
    pub(super) fn place(self: &Rc<Self>, server: &Arc<Server>, reuse: Reuse) -> Option<Stream> {
        let open = self.open.borrow();
        let will_do = |connection: &Connection| match reuse {
            Reuse::Any => true,
            Reuse::New => !connection.has_been_used.get(),
        };
        let with_room = open
            .iter()
            .filter(|connection| !connection.sender.is_closed() && connection.has_room() && will_do(connection));
        let connection = Rc::clone(with_room.min_by_key(|connection| connection.streams.get())?);
        connection.streams.set(connection.streams.get() + 1);
        let reused = connection.has_been_used.replace(true);
        Some(Stream { connection, all: Rc::clone(self), server: Arc::clone(server), reused })
    }

    /// Counts a request that waits.
    pub(super) fn wait(self: &Rc<Self>) -> WaitsHere {
        self.waiting.set(self.waiting.get() + 1);
        WaitsHere(Rc::clone(self))
    }

    /// Lets others look again: for one who was told of a change that is of no use to it.
    pub(super) fn pass_on(&self) {
        self.changed.notify_waiters();
    }

    /// The right to open one more, unless somebody is about to.
    pub(super) fn opening(self: &Rc<Self>) -> Option<Opening> {
        (!self.connecting.replace(true)).then(|| Opening(Rc::clone(self)))
    }

    /// Whether an attempt has failed since `failures` was what this returned, and there is nothing else to wait for: then those who have waited
    /// for that attempt need not make their own.
    pub(super) fn is_hopeless_since(&self, failures: u64) -> bool {
        self.failures.get() != failures && self.open.borrow().is_empty()
    }

    /// How many attempts have failed so far.
    pub(super) fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// Resolves when something has changed since it was asked for.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Closes what is broken, and what has been idle for `keep_alive`; tells when to look again.
    pub(super) fn sweep(&self, keep_alive: Duration) -> Duration {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| {
            let idle = connection.streams.get() == 0 && connection.idle_since.get().elapsed() >= keep_alive;
            !idle && !connection.sender.is_closed()
        });
        let idle = open.iter().filter(|connection| connection.streams.get() == 0);
        idle.map(|connection| keep_alive.saturating_sub(connection.idle_since.get().elapsed()))
            .min()
            .unwrap_or(keep_alive)
    }

    /// Closes one that has no stream, so that another worker may open one.
    pub(super) fn give_up_idle(&self) {
        let mut open = self.open.borrow_mut();
        if let Some(idle) = open.iter().position(|connection| connection.streams.get() == 0) {
            open.remove(idle);
        }
    }
}

impl Connection {
    fn has_room(&self) -> bool {
        self.streams.get() < self.state.allowed.get().min(MAX_STREAMS)
    }
}

impl Opening {
    /// The server cannot be reached: all who wait for it are told.
    pub(super) fn fail(&self) {
        self.0.failures.set(self.0.failures.get() + 1);
        self.0.changed.notify_waiters();
    }

    /// Begins HTTP/2 on a connected socket. `permit` is held until it is closed.
    pub(super) async fn begin(&self, stream: TcpStream, permit: OwnedSemaphorePermit) -> Result<(), UpstreamError> {
        let head = u32::try_from(MAX_RESPONSE_HEAD_BYTES).unwrap_or(u32::MAX);
        let moved = Rc::new(Notify::new());
        let (sender, connection) = Builder::new(LocalExecutor::notifying(Rc::clone(&moved)))
            .timer(TokioTimer::new())
            // None before the server has said how many: a burst would open a connection each, or overrun what it allows.
            .initial_max_send_streams(0)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(head)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| UpstreamError::Failed)?;
        let state = Rc::new(State::default());
        let (told, all) = (Rc::clone(&state), Rc::downgrade(&self.0));
        tokio::task::spawn_local(async move {
            let tell = || {
                told.changed.notify_waiters();
                all.upgrade().inspect(|all| all.changed.notify_waiters())
            };
            let mut connection = pin!(connection);
            let ended = loop {
                let mut moved = pin!(moved.notified());
                moved.as_mut().enable();
                let allows = connection.current_max_send_streams();
                if told.allowed.replace(allows) < allows {
                    tell();
                }
                tokio::select! {
                    ended = connection.as_mut() => break ended,
                    () = moved => {}
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "upstream connection ended");
            }
            drop(permit);
            told.ended.set(true);
            tell();
        });
        state.greeted().await?;
        let idle_since = Cell::new(Instant::now());
        let connection =
            Connection { sender, state, streams: Cell::new(0), idle_since, has_been_used: Cell::new(false) };
        self.0.open.borrow_mut().push(Rc::new(connection));
        // There is room for many.
        self.0.changed.notify_waiters();
        Ok(())
    }
}

impl State {
    /// Resolves when the server's settings are there (RFC 9113 §3.4), or when there will be none.
    async fn greeted(&self) -> Result<(), UpstreamError> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.ended.get() {
                return Err(UpstreamError::Failed);
            }
            if self.allowed.get() > 0 {
                return Ok(());
            }
            changed.await;
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        // Somebody else may have to. Not `notify_one`, which keeps its word for the next who asks: that would be the one who drops this.
        self.0.changed.notify_waiters();
    }
}

impl Stream {
    pub(super) fn reused(&self) -> bool {
        self.reused
    }

    pub(super) fn sender(&self) -> SendRequest<RequestBody> {
        self.connection.sender.clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = self.connection.streams.get() - 1;
        self.connection.streams.set(left);
        if left == 0 {
            self.connection.idle_since.set(Instant::now());
            // Another worker's request waits for the slot.
            if self.server.waiting.load(Ordering::Acquire) > self.all.waiting.get() {
                self.all.open.borrow_mut().retain(|open| !Rc::ptr_eq(open, &self.connection));
            }
        }
        self.all.changed.notify_one();
    }
}
