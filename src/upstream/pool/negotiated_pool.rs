//! Pool for servers that choose the protocol of each connection (ALPN): one pool for either
//! protocol, and what is known of the server's choice.
//!
//! New connections offer both protocols, one connection at a time, until the server has chosen
//! HTTP/1.1. From then on new connections offer HTTP/1.1 only and need not wait for each other,
//! until the server is asked again: it may have been upgraded, or be one of several behind an
//! address.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::http2_pool::{Acquired, Http2Pool};
use super::{Http1Pool, Reuse, Versions};
use crate::upstream::UpstreamError;
use crate::upstream::lease::Lease;
use crate::upstream::server::Server;

/// How long the choice of HTTP/1.1 is remembered.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The connections of one worker to one server that chooses their protocol.
#[derive(Debug)]
pub(in crate::upstream) struct NegotiatedPool {
    http1: Rc<Http1Pool>,
    http2: Rc<Http2Pool>,
    /// Until when the server is assumed to choose HTTP/1.1.
    http1_until: Cell<Option<Instant>>,
}

impl NegotiatedPool {
    pub(super) fn new(http1: Rc<Http1Pool>, http2: Rc<Http2Pool>) -> Self {
        Self { http1, http2, http1_until: Cell::new(None) }
    }

    pub(super) fn server(&self) -> &Server {
        self.http1.server()
    }

    /// See [`Pool::try_acquire`](super::Pool::try_acquire).
    pub(super) fn try_acquire(&self, versions: Versions) -> Option<Lease> {
        let http1 = || self.http1.try_acquire().map(|connection| Lease::of_connection(&self.http1, connection));
        let http2 = || self.http2.try_acquire(Reuse::Allowed).map(Lease::of_stream);
        match versions {
            Versions::Any => http2().or_else(http1),
            Versions::Http1Only => http1(),
        }
    }

    /// See [`Pool::acquire`](super::Pool::acquire).
    pub(super) async fn acquire(
        &self,
        versions: Versions,
        reuse: Reuse,
        connect_time: Duration,
    ) -> Result<Lease, UpstreamError> {
        let started = Instant::now();
        if versions == Versions::Any && !self.chooses_http1(started) {
            match self.http2.acquire(reuse, connect_time).await? {
                Acquired::Stream(stream) => return Ok(Lease::of_stream(stream)),
                Acquired::Http1(connection) => {
                    self.http1_until.set(Some(Instant::now() + ASK_AGAIN_AFTER));
                    if let Some(connection) = connection {
                        return Ok(Lease::of_connection(&self.http1, connection));
                    }
                }
            }
        }
        let connect_time = connect_time.saturating_sub(started.elapsed());
        let connection = self.http1.acquire(reuse, connect_time).await?;
        Ok(Lease::of_connection(&self.http1, connection))
    }

    fn chooses_http1(&self, now: Instant) -> bool {
        self.http1_until.get().is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::upstream::Protocol;
    use crate::upstream::balance::Balance;
    use crate::upstream::tests::upstream;

    #[tokio::test]
    async fn the_choice_of_http_1_is_remembered_until_the_server_is_asked_again() {
        let upstream = upstream(Balance::RoundRobin, &[1]);
        let (server, metrics) = (Arc::clone(&upstream.servers()[0]), upstream.metrics());
        let http1 = Http1Pool::new(Arc::clone(&server), metrics.clone(), mpsc::unbounded_channel().0);
        let http2 = Http2Pool::new(server, Protocol::Negotiated, metrics.clone());
        let pool = NegotiatedPool::new(Rc::new(http1), Rc::new(http2));
        let now = Instant::now();
        assert!(!pool.chooses_http1(now));
        pool.http1_until.set(Some(now + ASK_AGAIN_AFTER));
        assert!(pool.chooses_http1(now + Duration::from_secs(59)));
        assert!(!pool.chooses_http1(now + ASK_AGAIN_AFTER));
    }
}
