//! Threats FR-10, FR-12, U2: what happens to a connection whose exchange ends early. Only after a
//! request that was sent to its end can a response be attributed to a request.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::DuplexStream;
use tokio::join;

use super::http1::Fixture;
use crate::upstream::body::{Progress, RequestBody, ResponseBody, Trailers};
use crate::upstream::lease::{Lease, RequestSender};
use crate::upstream::response::ExchangeGuard;
use crate::upstream::server::InFlight;
use crate::upstream::tests::client_body::unfinished_body;
use crate::upstream::tests::raw_server::{OK, Peer, run_locally};

/// A response of which the second half is missing.
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.";

/// An exchange whose request the server has received, as far as it was sent.
pub(super) struct Exchange {
    lease: Lease,
    progress: Progress,
    peer: Peer,
    /// Keeps the upload open.
    client: Option<DuplexStream>,
}

impl Exchange {
    /// A request without a body.
    pub(super) async fn of_get(fixture: &Fixture) -> Self {
        Self::begin(fixture, RequestBody::empty(), None, b"\r\n\r\n").await
    }

    /// A request whose body is not complete.
    async fn of_upload(fixture: &Fixture) -> Self {
        let (body, client) = unfinished_body().await;
        Self::begin(fixture, body, Some(client), b"\r\n\r\n1").await
    }

    async fn begin(fixture: &Fixture, body: RequestBody, client: Option<DuplexStream>, sent: &[u8]) -> Self {
        let (connection, mut peer) = fixture.connect().await;
        let mut lease = Lease::of_connection(&fixture.pool, connection);
        let progress = body.progress();
        match lease.sender() {
            RequestSender::Http1 { sender, pending, .. } => {
                pending.send(sender, Request::new(body));
            }
            RequestSender::Http2 { .. } => panic!("an HTTP/1.1 pool has only HTTP/1.1 connections"),
        }
        peer.read_until(sent).await;
        Self { lease, progress, peer, client }
    }

    /// The server responds with these bytes.
    pub(super) async fn respond(&mut self, bytes: &str) -> Response<Incoming> {
        let RequestSender::Http1 { pending, .. } = self.lease.sender() else { panic!("HTTP/1.1") };
        let (response, ()) = join!(pending, self.peer.send(bytes));
        response.unwrap()
    }

    /// The body of the response, and the other ends of the two connections.
    pub(super) fn into_body(
        self,
        response: Response<Incoming>,
        trailers: Trailers,
        fixture: &Fixture,
    ) -> (ResponseBody, Peer, Option<DuplexStream>) {
        let guard = ExchangeGuard { lease: self.lease, in_flight: InFlight::at(&fixture.server()) };
        let timeout = Duration::from_secs(60);
        let body = ResponseBody::new(response.into_body(), guard, self.progress, timeout, trailers);
        (body, self.peer, self.client)
    }
}

/// What has happened to the connection.
#[derive(Debug, PartialEq)]
enum Outcome {
    Closed,
    Kept,
    ReadToEnd,
}

impl Fixture {
    async fn outcome(&mut self, peer: Peer) -> Outcome {
        match (self.unread.try_recv(), self.idle()) {
            (Ok(_), 0) => Outcome::ReadToEnd,
            (Err(_), 1) => Outcome::Kept,
            (Err(_), 0) => {
                peer.closed().await;
                Outcome::Closed
            }
            (unread, idle) => panic!("{unread:?}, {idle}"),
        }
    }
}

#[tokio::test]
async fn before_the_response_has_begun() {
    run_locally(async {
        let mut fixture = Fixture::start().await;
        let get = Exchange::of_get(&fixture).await;
        drop(get.lease);
        assert_eq!(fixture.outcome(get.peer).await, Outcome::ReadToEnd);
        let upload = Exchange::of_upload(&fixture).await;
        drop(upload.lease);
        assert_eq!(fixture.outcome(upload.peer).await, Outcome::Closed);
    })
    .await;
}

#[tokio::test]
async fn in_the_middle_of_the_response() {
    run_locally(async {
        let mut fixture = Fixture::start().await;
        for (mut exchange, expected) in [
            (Exchange::of_get(&fixture).await, Outcome::ReadToEnd),
            (Exchange::of_upload(&fixture).await, Outcome::Closed),
        ] {
            let response = exchange.respond(HALF).await;
            let (body, peer, _client) = exchange.into_body(response, Trailers::Pass, &fixture);
            drop(body);
            assert_eq!(fixture.outcome(peer).await, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn after_the_response() {
    run_locally(async {
        let mut fixture = Fixture::start().await;
        for (mut exchange, expected) in
            [(Exchange::of_upload(&fixture).await, Outcome::Closed), (Exchange::of_get(&fixture).await, Outcome::Kept)]
        {
            let response = exchange.respond(OK).await;
            let (body, peer, _client) = exchange.into_body(response, Trailers::Pass, &fixture);
            drop(body);
            assert_eq!(fixture.outcome(peer).await, expected);
        }
    })
    .await;
}
