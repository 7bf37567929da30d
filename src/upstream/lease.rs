//! Lease: what one exchange holds of a pool, and what becomes of it.
//!
//! In HTTP/1.1 that is a whole connection. It is used again only if it is given back on purpose, after an answer that was read to its end;
//! whatever else ends an exchange closes it. In HTTP/2 it is a place among a connection's streams, which comes back by itself.

use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use tokio::sync::OwnedSemaphorePermit;

use super::body::RequestBody;
use super::pool::{Connection, Pool};
use super::streams::Stream;
use crate::primitives::lazy_timer::LazyTimer;
use crate::telemetry::metrics::GaugeGuard;

/// A connection in use by one exchange, or a stream of one. A connection that is dropped is closed; only [`Lease::put_back`] keeps it.
#[derive(Debug)]
pub struct Lease {
    held: Leased,
    pool: Rc<Pool>,
    reused: bool,
    _counted: GaugeGuard,
}

#[derive(Debug)]
enum Leased {
    /// `None` once it has been given back or closed.
    Connection(Option<Connection>),
    Stream(Box<(Stream, LazyTimer)>),
}

/// By what a request is sent.
pub(super) enum Channel<'a> {
    /// A connection that is this exchange's alone.
    Http1(&'a mut http1::SendRequest<RequestBody>, &'a mut LazyTimer),
    /// One that many share.
    Http2(http2::SendRequest<RequestBody>, &'a mut LazyTimer),
}

impl Lease {
    pub(super) fn of_connection(pool: &Rc<Pool>, connection: Connection, reused: bool) -> Self {
        Self::new(pool, Leased::Connection(Some(connection)), reused)
    }

    pub(super) fn of_stream(pool: &Rc<Pool>, stream: Stream) -> Self {
        let reused = stream.reused();
        Self::new(pool, Leased::Stream(Box::new((stream, LazyTimer::default()))), reused)
    }

    fn new(pool: &Rc<Pool>, held: Leased, reused: bool) -> Self {
        Self { held, pool: Rc::clone(pool), reused, _counted: pool.count_active() }
    }

    /// Whether the connection has carried a request before, so that its failure may only mean that the server had closed it.
    #[must_use]
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// By what to send the request, and the timer to wait with.
    pub(super) fn channel(&mut self) -> Channel<'_> {
        match &mut self.held {
            Leased::Connection(connection) => {
                let connection = connection.as_mut().expect("a lease holds its connection until it ends");
                Channel::Http1(&mut connection.sender, &mut connection.timer)
            }
            Leased::Stream(stream) => Channel::Http2(stream.0.sender(), &mut stream.1),
        }
    }

    /// Keeps the slot taken for a connection that has become a tunnel: hyper's task for it has ended.
    pub(super) fn into_permit(mut self) -> Option<Arc<OwnedSemaphorePermit>> {
        match &mut self.held {
            Leased::Connection(connection) => connection.take().map(|connection| connection.permit),
            Leased::Stream(_) => None,
        }
    }

    /// Gives the connection back for another request. Call it only when the answer was read to its end.
    pub fn put_back(mut self) {
        match &mut self.held {
            Leased::Connection(connection) => {
                if let Some(connection) = connection.take() {
                    self.pool.put_back(connection);
                }
            }
            // Dropping it gives its place back.
            Leased::Stream(_) => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &mut self.held {
            // hyper would first finish what it has begun: an upload that nobody waits for any more, an answer that nobody reads.
            Leased::Connection(connection) => {
                if let Some(connection) = connection.take() {
                    connection.task.abort();
                }
            }
            // The stream is reset with its body or its answer; the connection is others' too.
            Leased::Stream(_) => {}
        }
    }
}
