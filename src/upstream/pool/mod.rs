//! Connection pools: the open connections of one worker to one server.
//!
//! A pool belongs to its worker's thread, so that acquiring and returning a connection takes no
//! lock. The workers share only the limit on connections to a server: every open connection holds
//! one of the server's permits, and its task releases the permit when the socket is closed,
//! whatever the reason.
//!
//! - Idle connections are kept for less time than servers usually keep them (Node: five seconds).
//!   So a request rarely gets a connection that the server is just closing.
//! - When the limit is reached, requests queue, up to `max_pending`. A worker with idle connections
//!   closes one when a request of another worker is waiting.

mod http1_connection;
mod http1_pool;
mod http2_connection;
mod http2_pool;
mod negotiated_pool;
mod pending_response;
mod unread_response;

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::lease::Lease;
use super::server::Server;
use super::tls_fault::TlsFault;
use super::{ConnectFault, Protocol, UpstreamError};
use crate::telemetry::metrics::UpstreamMetrics;
pub(super) use http1_connection::Http1Connection;
pub(super) use http1_pool::Http1Pool;
pub(super) use http2_pool::Stream;
use http2_pool::{Acquired, Http2Pool};
use negotiated_pool::NegotiatedPool;
pub(super) use pending_response::{PendingResponse, Sent};
pub(super) use unread_response::UnreadResponse;
use unread_response::read_unread_responses;

/// The longest response head accepted from an upstream, in bytes; a longer one is
/// [`UpstreamError::Failed`]. Twice the usual limit on requests, since upstreams set cookies and
/// policies that clients never send back.
const MAX_RESPONSE_HEAD_BYTES: usize = 64 * 1024;

/// The pools of one worker, one for each server that it has used, ordered by the servers' ids.
#[derive(Debug, Default)]
pub struct Pools(Rc<RefCell<Vec<Pool>>>);

/// The connections of one worker to one server. Clones are handles to the same pool.
#[derive(Clone, Debug)]
pub(super) enum Pool {
    Http1(Rc<Http1Pool>),
    Http2(Rc<Http2Pool>),
    /// The server chooses the protocol of each connection.
    Negotiated(Rc<NegotiatedPool>),
}

/// Which connections a request may be sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// Any connection.
    Allowed,
    /// Only one that has carried no request yet.
    Forbidden,
}

/// Which protocols a request may be sent in, where the server chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    Any,
    /// It asks to switch to another protocol, which HTTP/2 cannot do (RFC 9113 §8.6).
    Http1Only,
}

impl Pools {
    /// This worker's pool for `server`, created at its first use.
    pub(super) fn for_server(&self, server: &Arc<Server>, metrics: &UpstreamMetrics) -> Pool {
        let mut pools = self.0.borrow_mut();
        let index = match pools.binary_search_by_key(&server.id(), |pool| pool.server().id()) {
            Ok(index) => return pools[index].clone(),
            Err(index) => index,
        };
        let upkeep = Upkeep { pools: Rc::downgrade(&self.0), server: Arc::clone(server) };
        let pool = match server.protocol() {
            Protocol::Http1 => Pool::Http1(start_http1_pool(upkeep, metrics)),
            Protocol::Http2 => Pool::Http2(start_http2_pool(upkeep, metrics)),
            Protocol::Negotiated => {
                let (http1, http2) = (start_http1_pool(upkeep.clone(), metrics), start_http2_pool(upkeep, metrics));
                Pool::Negotiated(Rc::new(NegotiatedPool::new(http1, http2)))
            }
        };
        pools.insert(index, pool.clone());
        pool
    }

    /// Drops the pools whose server id fails `is_configured`. Called after the configuration has
    /// changed.
    pub fn retain(&self, is_configured: impl Fn(u64) -> bool) {
        self.0.borrow_mut().retain(|pool| is_configured(pool.server().id()));
    }
}

fn start_http1_pool(upkeep: Upkeep, metrics: &UpstreamMetrics) -> Rc<Http1Pool> {
    let (sender, unread) = mpsc::unbounded_channel();
    let pool = Rc::new(Http1Pool::new(Arc::clone(&upkeep.server), metrics.clone(), sender));
    tokio::task::spawn_local(read_unread_responses(unread, Rc::downgrade(&pool)));
    tokio::task::spawn_local(upkeep.run(Rc::downgrade(&pool)));
    pool
}

fn start_http2_pool(upkeep: Upkeep, metrics: &UpstreamMetrics) -> Rc<Http2Pool> {
    let server = &upkeep.server;
    let pool = Rc::new(Http2Pool::new(Arc::clone(server), server.protocol(), metrics.clone()));
    tokio::task::spawn_local(upkeep.run(Rc::downgrade(&pool)));
    pool
}

impl Pool {
    fn server(&self) -> &Server {
        match self {
            Self::Http1(pool) => pool.server(),
            Self::Http2(pool) => pool.server(),
            Self::Negotiated(pool) => pool.server(),
        }
    }

    /// A connection that can take a request without waiting, if there is one.
    pub(super) fn try_acquire(&self, versions: Versions) -> Option<Lease> {
        match self {
            Self::Http1(pool) => pool.try_acquire().map(|connection| Lease::of_connection(pool, connection)),
            Self::Http2(pool) => pool.try_acquire(Reuse::Allowed).map(Lease::of_stream),
            Self::Negotiated(pool) => pool.try_acquire(versions),
        }
    }

    /// A connection that can take a request. Opens one, within `connect_time`, or waits for one if
    /// necessary.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unreachable`] if opening one failed, [`UpstreamError::Busy`] if the queue
    /// is full.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point; that releases its place in the queue, its permit and a
    /// half-open connection.
    pub(super) async fn acquire(
        &self,
        versions: Versions,
        reuse: Reuse,
        connect_time: Duration,
    ) -> Result<Lease, UpstreamError> {
        match self {
            Self::Http1(pool) => Ok(Lease::of_connection(pool, pool.acquire(reuse, connect_time).await?)),
            Self::Http2(pool) => match pool.acquire(reuse, connect_time).await? {
                Acquired::Stream(stream) => Ok(Lease::of_stream(stream)),
                // The dialer does not return such a connection to a pool for HTTP/2 alone.
                Acquired::Http1(_) => Err(UpstreamError::Unreachable(ConnectFault::Tls(TlsFault::AlpnRefused))),
            },
            Self::Negotiated(pool) => pool.acquire(versions, reuse, connect_time).await,
        }
    }
}

/// A pool with idle connections that need closing from time to time.
trait IdleConnections {
    /// Closes connections that are broken or have been idle for `keep_alive`. Returns the time
    /// until the next one can expire.
    fn close_expired(&self) -> Duration;

    /// Closes one idle connection, if there is one, so that another worker can use its permit.
    fn close_one(&self);
}

/// The upkeep of a server's pool.
#[derive(Clone)]
struct Upkeep {
    pools: Weak<RefCell<Vec<Pool>>>,
    server: Arc<Server>,
}

impl Upkeep {
    /// Closes the pool's idle connections in time, for as long as the pool exists.
    async fn run(self, pool: Weak<impl IdleConnections>) {
        /// The shortest pause between two rounds: a connection just about to expire must not make
        /// this loop spin.
        const MIN_PAUSE: Duration = Duration::from_millis(10);
        let mut pause = self.server.keep_alive();
        loop {
            let permit_wanted = timeout(pause.max(MIN_PAUSE), self.server.permit_wanted()).await.is_ok();
            if self.server.is_retired() {
                self.forget();
            }
            // Requests that the server still has keep the pool alive.
            let Some(pool) = pool.upgrade() else { return };
            if permit_wanted {
                pool.close_one();
            }
            pause = pool.close_expired();
        }
    }

    /// Removes the pool from its worker.
    fn forget(&self) {
        if let Some(pools) = self.pools.upgrade() {
            pools.borrow_mut().retain(|pool| pool.server().id() != self.server.id());
        }
    }
}

#[cfg(test)]
mod tests;
