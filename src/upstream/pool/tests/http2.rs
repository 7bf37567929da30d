//! The HTTP/2 pool: which connection a stream is on, who waits, and which connections are closed.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::join;
use tokio::task::{JoinHandle, JoinSet, spawn_local, yield_now};
use tokio::time::{advance, pause};

use super::super::http2_pool::{Acquired, Http2Pool, Stream};
use super::super::{IdleConnections, Reuse};
use super::http1::CONNECT_TIME;
use crate::upstream::server::{Pending, Server};
use crate::upstream::tests::raw_server::{Peer, RawServer, run_locally};
use crate::upstream::tests::upstream_with;
use crate::upstream::{Protocol, Upstream, UpstreamError};

/// The client's preface (RFC 9113 §3.4), without its settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A pool, and the server that it connects to.
struct Fixture {
    upstream: Upstream,
    server: RawServer,
    pool: Rc<Http2Pool>,
}

impl Fixture {
    async fn start(max_connections: usize) -> Self {
        let server = RawServer::start().await;
        let upstream = upstream_with(server.port(), |settings| {
            (settings.protocol, settings.max_connections) = (Protocol::Http2, max_connections);
        });
        let metrics = upstream.metrics().clone();
        let pool = Rc::new(Http2Pool::new(Arc::clone(&upstream.servers()[0]), Protocol::Http2, metrics));
        Self { upstream, server, pool }
    }

    fn server(&self) -> Arc<Server> {
        Arc::clone(&self.upstream.servers()[0])
    }

    /// A stream on a new connection that allows `max_streams`, and the server's end of it.
    async fn connect(&self, max_streams: u8) -> (Stream, Peer) {
        let (stream, peer) = join!(acquire(&self.pool, Reuse::Forbidden), self.accept(max_streams));
        let stream = stream.unwrap();
        assert!(!stream.is_reused());
        (stream, peer)
    }

    /// The server's end of the next connection, which allows `max_streams`.
    async fn accept(&self, max_streams: u8) -> Peer {
        let mut peer = self.server.accept().await;
        // SETTINGS with MAX_CONCURRENT_STREAMS.
        peer.send([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, max_streams]).await;
        peer
    }

    /// Begins to wait for a stream.
    async fn wait(&self, reuse: Reuse) -> Waiting {
        let (pool, polls) = (Rc::clone(&self.pool), Rc::new(Cell::new(0)));
        let counted = Rc::clone(&polls);
        let task = spawn_local(async move {
            let mut acquiring = pin!(acquire(&pool, reuse));
            poll_fn(|cx| {
                counted.set(counted.get() + 1);
                acquiring.as_mut().poll(cx)
            })
            .await
            .unwrap()
        });
        while polls.get() == 0 {
            yield_now().await;
        }
        Waiting { task, polls }
    }

    /// A stream that is available at once.
    fn try_acquire(&self) -> Option<Stream> {
        self.pool.try_acquire(Reuse::Allowed)
    }

    /// What `pool` sees while a request of another worker waits for a permit.
    fn while_another_worker_waits(&self, action: impl FnOnce()) {
        let server = self.server();
        let _waiting = Pending::at(&server, self.upstream.metrics()).unwrap();
        action();
    }
}

/// A request that waits for a stream, and how often it was woken.
struct Waiting {
    task: JoinHandle<Stream>,
    polls: Rc<Cell<usize>>,
}

async fn acquire(pool: &Rc<Http2Pool>, reuse: Reuse) -> Result<Stream, UpstreamError> {
    match pool.acquire(reuse, CONNECT_TIME).await? {
        Acquired::Stream(stream) => Ok(stream),
        Acquired::Http1(_) => panic!("nothing is negotiated"),
    }
}

#[tokio::test]
async fn a_request_that_must_not_meet_a_used_connection_gets_a_new_one() {
    run_locally(async {
        let fixture = Fixture::start(2).await;
        let (first, _peer) = fixture.connect(10).await;
        drop(first);
        assert!(fixture.try_acquire().is_some_and(|stream| stream.is_reused()));
        fixture.connect(10).await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_on_the_connection_with_the_fewest() {
    run_locally(async {
        let fixture = Fixture::start(2).await;
        let (_held, _peer) = fixture.connect(2).await;
        let (second, peer) = fixture.connect(2).await;
        drop(second);
        let stream = fixture.try_acquire().unwrap();
        fixture.while_another_worker_waits(|| drop(stream));
        peer.closed().await;
        assert!(fixture.try_acquire().is_some(), "the other connection stays");
    })
    .await;
}

#[tokio::test]
async fn only_the_last_stream_of_a_connection_closes_it_for_another_worker() {
    run_locally(async {
        let fixture = Fixture::start(1).await;
        let (first, peer) = fixture.connect(10).await;
        let last = fixture.try_acquire().unwrap();
        fixture.while_another_worker_waits(|| drop(first));
        assert!(fixture.try_acquire().is_some());
        fixture.while_another_worker_waits(|| drop(last));
        assert!(fixture.try_acquire().is_none());
        peer.closed().await;
    })
    .await;
}

/// A request of the same worker gets the stream; it needs no permit.
#[tokio::test]
async fn the_last_stream_goes_to_a_request_of_this_worker_that_waits() {
    run_locally(async {
        let fixture = Fixture::start(1).await;
        let (held, peer) = fixture.connect(1).await;
        let mut held = Some(held);
        let mut waiting = Box::pin(acquire(&fixture.pool, Reuse::Allowed));
        let stream = poll_fn(|cx| {
            let polled = waiting.as_mut().poll(cx);
            if held.take().is_some() {
                assert!(polled.is_pending());
            }
            polled
        });
        let stream = stream.await.unwrap();
        assert!(stream.is_reused());
        fixture.while_another_worker_waits(|| drop(stream));
        peer.closed().await;
    })
    .await;
}

/// A stream that becomes free wakes one waiting request, one that can use it.
#[tokio::test]
async fn a_free_stream_is_not_lost_on_a_request_that_must_not_use_it() {
    run_locally(async {
        let fixture = Fixture::start(1).await;
        let (held, _peer) = fixture.connect(2).await;
        let _keeps_the_connection = fixture.try_acquire().unwrap();
        let _refuses_used = [fixture.wait(Reuse::Forbidden).await, fixture.wait(Reuse::Forbidden).await];
        let takes_any = fixture.wait(Reuse::Allowed).await;
        drop(held);
        assert!(takes_any.task.await.unwrap().is_reused());
    })
    .await;
}

#[tokio::test]
async fn requests_that_wait_do_not_wake_each_other_again_and_again() {
    run_locally(async {
        let fixture = Fixture::start(1).await;
        let (_held, _peer) = fixture.connect(2).await;
        let waiting = [fixture.wait(Reuse::Forbidden).await, fixture.wait(Reuse::Forbidden).await];
        let polls = || waiting.each_ref().map(|waiting| waiting.polls.get());
        drop(fixture.try_acquire().unwrap());
        for _ in 0..50 {
            yield_now().await;
        }
        let settled = polls();
        for _ in 0..50 {
            yield_now().await;
        }
        assert_eq!(polls(), settled);
    })
    .await;
}

/// No other request of this worker can use its connection either.
#[tokio::test]
async fn a_connection_closes_after_its_last_stream_for_a_request_that_must_not_use_it() {
    run_locally(async {
        let fixture = Fixture::start(1).await;
        let (held, peer) = fixture.connect(10).await;
        let waiting = fixture.wait(Reuse::Forbidden).await;
        drop(held);
        peer.closed().await;
        let _peer = fixture.accept(10).await;
        assert!(!waiting.task.await.unwrap().is_reused());
    })
    .await;
}

#[tokio::test]
async fn requests_that_wait_for_a_failed_attempt_do_not_repeat_it() {
    run_locally(async {
        let fixture = Fixture::start(10).await;
        let mut requests = JoinSet::new();
        for _ in 0..8 {
            let pool = Rc::clone(&fixture.pool);
            requests.spawn_local(async move { acquire(&pool, Reuse::Allowed).await.is_err() });
        }
        let attempts = Cell::new(0);
        let refuse = async {
            loop {
                drop(fixture.server.accept().await);
                attempts.set(attempts.get() + 1);
            }
        };
        tokio::select! {
            failed = requests.join_all() => assert_eq!((failed, attempts.get()), (vec![true; 8], 1)),
            () = refuse => {}
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_idle_from_the_end_of_its_last_stream() {
    run_locally(async {
        let fixture = Fixture::start(1).await;
        let (held, _peer) = fixture.connect(10).await;
        let second = Duration::from_secs(1);
        assert_eq!(fixture.server().keep_alive(), 4 * second);
        pause();
        advance(3 * second).await;
        drop(held);
        advance(2 * second).await;
        assert_eq!(fixture.pool.close_expired(), 2 * second);
        assert!(fixture.try_acquire().is_some());
        advance(4 * second).await;
        fixture.pool.close_expired();
        assert!(fixture.try_acquire().is_none());
    })
    .await;
}

#[tokio::test]
async fn only_an_idle_connection_makes_room() {
    run_locally(async {
        let fixture = Fixture::start(2).await;
        let (_held, _peer) = fixture.connect(10).await;
        let (idle, peer) = fixture.connect(10).await;
        drop(idle);
        fixture.pool.close_one();
        peer.closed().await;
        fixture.pool.close_one();
        assert!(fixture.try_acquire().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used() {
    run_locally(async {
        let fixture = Fixture::start(1).await;
        let (stream, peer) = fixture.connect(10).await;
        drop(stream);
        drop(peer);
        let _permit = fixture.server().connection_permit().await.unwrap();
        assert!(fixture.try_acquire().is_none());
        pause();
        advance(Duration::from_secs(1)).await;
        assert_eq!(fixture.pool.close_expired(), fixture.server().keep_alive(), "no connection is left");
    })
    .await;
}

/// A response that its client reads slowly fills only its own window.
#[tokio::test]
async fn the_window_of_a_connection_is_as_large_as_those_of_all_its_streams() {
    /// The connection's window before the first update (RFC 9113 §6.9.2).
    const INITIAL: u32 = 65_535;
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    run_locally(async {
        let fixture = Fixture::start(1).await;
        let (_stream, mut peer) = fixture.connect(100).await;
        peer.read_until(PREFACE).await;
        let (mut stream_window, mut connection_window) = (0, 0);
        while stream_window == 0 || connection_window == 0 {
            let head = peer.read(9).await;
            let payload = peer.read(usize::from(head[2])).await;
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
            match head[3] {
                SETTINGS => {
                    for setting in payload.chunks(6).filter(|setting| setting[..2] == INITIAL_WINDOW_SIZE) {
                        stream_window = number(&setting[2..]);
                    }
                }
                WINDOW_UPDATE => connection_window = INITIAL + number(&payload),
                _ => {}
            }
        }
        assert_eq!((stream_window, connection_window), (128 * 1024, 100 * 128 * 1024));
    })
    .await;
}
