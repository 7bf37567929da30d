//! The HTTP/1.1 pool: which connection a request gets, and which connections are kept.

use std::iter;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::{join, select};

use super::super::{Http1Connection, Http1Pool, IdleConnections, Reuse, UnreadResponse};
use crate::upstream::Upstream;
use crate::upstream::balance::Balance;
use crate::upstream::body::RequestBody;
use crate::upstream::server::{Pending, Server};
use crate::upstream::tests::raw_server::{OK, Peer, RawServer, run_locally};
use crate::upstream::tests::upstream;

pub(super) const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A pool, and the server that it connects to.
pub(super) struct Fixture {
    upstream: Upstream,
    pub(super) server: RawServer,
    pub(super) pool: Rc<Http1Pool>,
    pub(super) unread: UnboundedReceiver<UnreadResponse>,
}

impl Fixture {
    pub(super) async fn start() -> Self {
        let server = RawServer::start().await;
        let upstream = upstream(Balance::RoundRobin, &[server.port()]);
        let (sender, unread) = mpsc::unbounded_channel();
        let pool = Rc::new(Http1Pool::new(Arc::clone(&upstream.servers()[0]), upstream.metrics().clone(), sender));
        Self { upstream, server, pool, unread }
    }

    pub(super) fn server(&self) -> Arc<Server> {
        Arc::clone(&self.upstream.servers()[0])
    }

    pub(super) async fn acquire(&self, reuse: Reuse) -> Http1Connection {
        self.pool.acquire(reuse, CONNECT_TIME).await.unwrap()
    }

    /// A new connection, and the server's end of it.
    pub(super) async fn connect(&self) -> (Http1Connection, Peer) {
        let (connection, peer) = join!(self.acquire(Reuse::Forbidden), self.server.accept());
        assert!(!connection.is_reused);
        (connection, peer)
    }

    /// A new connection that has carried a request.
    async fn used(&self) -> (Http1Connection, Peer) {
        let (mut connection, mut peer) = self.connect().await;
        let Http1Connection { sender, pending, .. } = &mut connection;
        let (response, ()) = join!(pending.send(sender, Request::new(RequestBody::empty())), peer.answer(OK));
        assert_eq!(response.unwrap().status(), 200);
        (connection, peer)
    }

    pub(super) fn idle(&self) -> i64 {
        self.upstream.metrics().idle().value()
    }
}

#[tokio::test]
async fn a_request_that_must_not_meet_a_used_connection_gets_a_new_one() {
    run_locally(async {
        let fixture = Fixture::start().await;
        let (connection, _peer) = fixture.used().await;
        fixture.pool.put_back(connection);
        let again = fixture.acquire(Reuse::Allowed).await;
        assert!(again.is_reused);
        fixture.pool.put_back(again);
        fixture.connect().await;
        assert_eq!(fixture.idle(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_about_to_be_ready_is_waited_for() {
    run_locally(async {
        let fixture = Fixture::start().await;
        let (mut connection, mut peer) = fixture.connect().await;
        let Http1Connection { sender, pending, .. } = &mut connection;
        pending.send(sender, Request::new(RequestBody::empty()));
        fixture.pool.put_back(connection);
        assert!(fixture.pool.try_acquire().is_none());
        let (acquired, ()) = join!(fixture.acquire(Reuse::Allowed), peer.answer(OK));
        assert!(acquired.is_reused);
    })
    .await;
}

#[tokio::test]
async fn a_returned_connection_is_kept_unless_another_worker_waits_for_its_permit() {
    run_locally(async {
        let fixture = Fixture::start().await;
        let (kept, _peer) = fixture.used().await;
        fixture.pool.put_back(kept);
        assert_eq!(fixture.idle(), 1);
        let (closed, peer) = fixture.used().await;
        let server = fixture.server();
        let _waiting = Pending::at(&server, fixture.upstream.metrics()).unwrap();
        fixture.pool.put_back(closed);
        assert_eq!(fixture.idle(), 1);
        peer.closed().await;
    })
    .await;
}

#[tokio::test]
async fn the_connection_that_has_been_idle_longest_makes_room() {
    run_locally(async {
        let fixture = Fixture::start().await;
        let ((oldest, peer), (newest, _peer)) = (fixture.used().await, fixture.used().await);
        fixture.pool.put_back(oldest);
        fixture.pool.put_back(newest);
        fixture.pool.close_one();
        assert_eq!(fixture.idle(), 1);
        peer.closed().await;
        assert!(fixture.pool.try_acquire().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_request_that_waits_for_a_permit_asks_the_other_workers_for_one() {
    run_locally(async {
        let fixture = Fixture::start().await;
        let server = fixture.server();
        let _permits = iter::from_fn(|| server.try_connection_permit()).collect::<Vec<_>>();
        let mut wanted = pin!(server.permit_wanted());
        wanted.as_mut().enable();
        let mut waiting = pin!(fixture.acquire(Reuse::Allowed));
        select! {
            biased;
            _ = &mut waiting => panic!("there is no permit"),
            () = wanted => {}
        }
    })
    .await;
}
