//! One HTTP/2 connection to a server: carries many requests, each on a stream of its own.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::MAX_RESPONSE_HEAD_BYTES;
use crate::primitives::local_executor::LocalExecutor;
use crate::upstream::ConnectFault;
use crate::upstream::body::RequestBody;
use crate::upstream::dialer::{Connected, Destination};

/// The most streams on one connection, even if the server allows more. When a connection breaks,
/// all of them fail.
const MAX_STREAMS: usize = 100;

/// How many bytes of a response the server may send before its client has read them. The
/// connection's window is large enough for all streams, so that a response whose client reads
/// slowly cannot stall the others.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
#[expect(clippy::cast_possible_truncation, reason = "a hundred")]
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * MAX_STREAMS as u32;

/// How often a connection with open streams is pinged, and how long the acknowledgement may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// An open connection. Dropping it makes hyper close the socket once its streams have ended.
#[derive(Debug)]
pub(super) struct Http2Connection {
    sender: SendRequest<RequestBody>,
    /// Where it goes.
    destination: Destination,
    peer: Rc<PeerState>,
    stream_count: Cell<usize>,
    /// When its last stream ended. Meaningless while it has open streams.
    idle_since: Cell<Instant>,
    /// Whether it has carried a request.
    is_used: Cell<bool>,
}

/// What the connection's task knows about the server.
#[derive(Debug, Default)]
struct PeerState {
    /// How many streams the server allows: 0 until its settings have arrived.
    max_streams: Cell<usize>,
    is_closed: Cell<bool>,
    changed: Notify,
}

impl Http2Connection {
    /// Begins to speak HTTP/2 on an open connection, and waits for the server's settings until
    /// `deadline`. `permit` is held until the socket is closed. `pool_changed` is notified when the
    /// server allows more streams and when the connection ends.
    pub(super) async fn start(
        connected: Connected,
        permit: OwnedSemaphorePermit,
        pool_changed: Rc<Notify>,
        deadline: Instant,
    ) -> Result<Self, ConnectFault> {
        let rejection = connected.rejection.clone();
        let started = timeout_at(deadline, Self::start_without_deadline(connected, permit, pool_changed));
        let started = started.await.unwrap_or(Err(ConnectFault::TimedOut));
        // The connection ends when the certificate is rejected.
        started.map_err(|fault| rejection.fault().map_or(fault, ConnectFault::Tls))
    }

    async fn start_without_deadline(
        connected: Connected,
        permit: OwnedSemaphorePermit,
        pool_changed: Rc<Notify>,
    ) -> Result<Self, ConnectFault> {
        let Connected { stream, destination, .. } = connected;
        let head = u32::try_from(MAX_RESPONSE_HEAD_BYTES).unwrap_or(u32::MAX);
        let progressed = Rc::new(Notify::new());
        let (sender, connection) = Builder::new(LocalExecutor::notifying(Rc::clone(&progressed)))
            .timer(TokioTimer::new())
            // No stream before the server has said how many it allows: a burst of requests would
            // exceed that.
            .initial_max_send_streams(0)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(head)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| ConnectFault::Closed)?;
        let peer = Rc::new(PeerState::default());
        let task_peer = Rc::clone(&peer);
        tokio::task::spawn_local(async move {
            let notify = || {
                task_peer.changed.notify_waiters();
                pool_changed.notify_waiters();
            };
            let mut connection = pin!(connection);
            let ended = loop {
                let mut progress = pin!(progressed.notified());
                // Registers before the limit is read, so that no change between the two is missed.
                progress.as_mut().enable();
                let max_streams = connection.current_max_send_streams();
                if task_peer.max_streams.replace(max_streams) < max_streams {
                    notify();
                }
                tokio::select! {
                    ended = connection.as_mut() => break ended,
                    () = progress => {}
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "upstream connection ended");
            }
            drop(permit);
            task_peer.is_closed.set(true);
            notify();
        });
        peer.settings_received().await?;
        let idle_since = Cell::new(Instant::now());
        Ok(Self { sender, destination, peer, stream_count: Cell::new(0), idle_since, is_used: Cell::new(false) })
    }

    pub(super) fn sender(&self) -> SendRequest<RequestBody> {
        self.sender.clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Where it goes.
    pub(super) fn destination(&self) -> Destination {
        self.destination
    }

    pub(super) fn is_used(&self) -> bool {
        self.is_used.get()
    }

    pub(super) fn stream_count(&self) -> usize {
        self.stream_count.get()
    }

    pub(super) fn has_room(&self) -> bool {
        self.stream_count.get() < self.peer.max_streams.get().min(MAX_STREAMS)
    }

    /// How long it has had no stream; `None` while it has one.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        (self.stream_count.get() == 0).then(|| self.idle_since.get().elapsed())
    }

    /// Counts one more stream. Returns whether the connection has carried a request before.
    pub(super) fn open_stream(&self) -> bool {
        self.stream_count.set(self.stream_count.get() + 1);
        self.is_used.replace(true)
    }

    /// Counts one stream less. Returns whether it was the last.
    pub(super) fn close_stream(&self) -> bool {
        let remaining = self.stream_count.get() - 1;
        self.stream_count.set(remaining);
        if remaining == 0 {
            self.idle_since.set(Instant::now());
        }
        remaining == 0
    }
}

impl PeerState {
    /// Waits for the server's settings (RFC 9113 §3.4); fails if the connection ends before.
    async fn settings_received(&self) -> Result<(), ConnectFault> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_closed.get() {
                return Err(ConnectFault::Closed);
            }
            if self.max_streams.get() > 0 {
                return Ok(());
            }
            changed.await;
        }
    }
}
