//! Lease: the connection or stream that one exchange uses, and what happens to it afterwards.
//!
//! An HTTP/1.1 exchange leases a whole connection. The connection is reused only after a response
//! that was read to the end: the exchange returns it with [`Lease::put_back`], or its client leaves
//! and the rest is read without it (`pool/unread_response`). Any other end of the exchange closes
//! the connection. An HTTP/2 exchange leases one stream of a connection, and dropping the lease
//! frees the stream.

use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::sync::OwnedSemaphorePermit;

use super::HttpVersion;
use super::body::RequestBody;
use super::pool::{Http1Connection, Http1Pool, PendingResponse, Stream, UnreadResponse};
use super::tls_fault::TlsFault;
use crate::primitives::lazy_timer::LazyTimer;
use crate::telemetry::metrics::GaugeGuard;

/// A connection, or a stream on one, in use by one exchange.
#[derive(Debug)]
pub(super) struct Lease {
    resource: Resource,
    _active: GaugeGuard,
}

#[derive(Debug)]
enum Resource {
    Http1 {
        /// `None` once it has been returned to the pool or has become a tunnel.
        connection: Option<Http1Connection>,
        pool: Rc<Http1Pool>,
    },
    /// Boxed, so that leases for HTTP/1.1 stay small.
    Http2(Box<Http2Lease>),
}

#[derive(Debug)]
struct Http2Lease {
    stream: Stream,
    timer: LazyTimer,
}

/// What an exchange sends its request with, and the timer for its response.
pub(super) enum RequestSender<'a> {
    Http1 {
        sender: &'a mut http1::SendRequest<RequestBody>,
        pending: &'a mut PendingResponse,
        timer: &'a mut LazyTimer,
    },
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        timer: &'a mut LazyTimer,
    },
}

/// The invariant behind each `expect` in this file.
const HELD_UNTIL_THE_END: &str = "a lease holds its connection until it ends";

impl Lease {
    pub(super) fn of_connection(pool: &Rc<Http1Pool>, connection: Http1Connection) -> Self {
        let active = pool.metrics().active().hold();
        Self { resource: Resource::Http1 { connection: Some(connection), pool: Rc::clone(pool) }, _active: active }
    }

    pub(super) fn of_stream(stream: Stream) -> Self {
        let active = stream.metrics().active().hold();
        let lease = Box::new(Http2Lease { stream, timer: LazyTimer::default() });
        Self { resource: Resource::Http2(lease), _active: active }
    }

    /// Whether the connection has carried a request before. If so, a failure may only mean that the
    /// server had closed it.
    pub(super) fn is_reused(&self) -> bool {
        match &self.resource {
            Resource::Http1 { connection, .. } => connection.as_ref().expect(HELD_UNTIL_THE_END).is_reused,
            Resource::Http2(lease) => lease.stream.is_reused(),
        }
    }

    /// The protocol of the connection.
    pub(super) fn version(&self) -> HttpVersion {
        match &self.resource {
            Resource::Http1 { .. } => HttpVersion::Http1,
            Resource::Http2(_) => HttpVersion::Http2,
        }
    }

    /// Why the server has rejected the gateway's certificate after the handshake, if it has. An
    /// HTTP/2 connection is in use only after the server has accepted it.
    pub(super) fn rejection(&self) -> Option<TlsFault> {
        match &self.resource {
            Resource::Http1 { connection, .. } => connection.as_ref().expect(HELD_UNTIL_THE_END).rejection.fault(),
            Resource::Http2(_) => None,
        }
    }

    pub(super) fn sender(&mut self) -> RequestSender<'_> {
        match &mut self.resource {
            Resource::Http1 { connection, .. } => {
                let Http1Connection { sender, pending, timer, .. } = connection.as_mut().expect(HELD_UNTIL_THE_END);
                RequestSender::Http1 { sender, pending, timer }
            }
            Resource::Http2(lease) => RequestSender::Http2 { sender: lease.stream.sender(), timer: &mut lease.timer },
        }
    }

    /// Ends the lease of a connection that has become a tunnel, and returns the permit that the
    /// tunnel holds from then on.
    pub(super) fn into_permit(mut self) -> Option<Arc<OwnedSemaphorePermit>> {
        match &mut self.resource {
            Resource::Http1 { connection, .. } => connection.take().map(Http1Connection::into_permit),
            Resource::Http2(_) => None,
        }
    }

    /// Returns the connection to the pool. Call it only when the response was read to the end.
    pub(super) fn put_back(mut self) {
        match &mut self.resource {
            Resource::Http1 { connection, pool } => {
                if let Some(connection) = connection.take() {
                    pool.put_back(connection);
                }
            }
            // Dropping the stream frees its place on the connection.
            Resource::Http2(_) => {}
        }
    }

    /// Ends the lease of a client that has left before the end of `body`. Call it only when the
    /// request was sent to its end.
    pub(super) fn leave_unread(mut self, body: Incoming) {
        match &mut self.resource {
            Resource::Http1 { connection, pool } => {
                if let Some(connection) = connection.take() {
                    pool.read_to_end(UnreadResponse::rest(connection, body, pool.metrics().active().hold()));
                }
            }
            // Only this stream ends when `body` is dropped.
            Resource::Http2(_) => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &mut self.resource {
            Resource::Http1 { connection, pool } => match connection.take() {
                // The head has not arrived: the client has left, or has waited long enough.
                Some(connection) if connection.pending.is_due() => {
                    pool.read_to_end(UnreadResponse::without_head(connection, pool.metrics().active().hold()));
                }
                Some(connection) => connection.abort(),
                None => {}
            },
            // hyper resets the stream when its body or its response is dropped; the connection has
            // other users.
            Resource::Http2(_) => {}
        }
    }
}
