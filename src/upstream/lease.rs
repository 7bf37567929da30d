//! Lease: the connection or stream that one exchange uses, and what happens to it afterwards.
//!
//! An HTTP/1.1 exchange leases a whole connection. The connection is reused only if the exchange
//! returns it with [`Lease::put_back`], after a response that was read to the end; any other end of
//! the exchange closes it. An HTTP/2 exchange leases one stream of a connection, and dropping the
//! lease frees the stream.

use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use tokio::sync::OwnedSemaphorePermit;

use super::body::RequestBody;
use super::pool::{Http1Connection, Http1Pool, Stream};
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
    Http1 { sender: &'a mut http1::SendRequest<RequestBody>, timer: &'a mut LazyTimer },
    Http2 { sender: http2::SendRequest<RequestBody>, timer: &'a mut LazyTimer },
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

    pub(super) fn sender(&mut self) -> RequestSender<'_> {
        match &mut self.resource {
            Resource::Http1 { connection, .. } => {
                let connection = connection.as_mut().expect(HELD_UNTIL_THE_END);
                RequestSender::Http1 { sender: &mut connection.sender, timer: &mut connection.timer }
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
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &mut self.resource {
            Resource::Http1 { connection, .. } => {
                if let Some(connection) = connection.take() {
                    connection.abort();
                }
            }
            // hyper resets the stream when its body or its response is dropped; the connection has
            // other users.
            Resource::Http2(_) => {}
        }
    }
}
