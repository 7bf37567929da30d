//! Shares of clients: one client does not use up what all share.
//!
//! The client is 127.0.0.1 where a test does not say otherwise; 127.0.0.2 is another one.

use crate::support::client::{Conn, h2};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, RecordedRequest};
use crate::support::with_deadline;

const IDLE: &str = "portcullis_connections_idle";
const REFUSED: &str = "portcullis_connections_refused_total";

fn closed_for(limit: &str) -> String {
    format!("portcullis_idle_connections_closed_total{{limit=\"{limit}\"}}")
}

async fn start(lines: &str) -> Fixture {
    let fixture = Fixture::start(Config::minimal().add("server", lines)).await;
    fixture.origin.behave("/public/hang", Behaviour::Hang);
    fixture
}

/// A connection with a request that is never answered.
async fn busy(fixture: &Fixture, requests: usize) -> Conn {
    let mut conn = fixture.connect().await;
    conn.send("GET /public/hang HTTP/1.1\r\nHost: g\r\n\r\n").await;
    fixture.origin.wait_for_requests(requests).await;
    conn
}

async fn get(conn: &mut Conn) -> u16 {
    conn.request("GET", "/public/a", &[], b"").await.status
}

/// Threat DO-4: a client at its share gets no further connection, and others do.
#[tokio::test]
async fn a_client_gets_at_most_its_share_of_the_connections() {
    let fixture = start("max_connections = 8\nmax_connections_per_client = 2").await;
    let (_first, second) = (busy(&fixture, 1).await, busy(&fixture, 2).await);
    let mut third = fixture.connect().await;
    assert_eq!(third.read_to_close().await, b"", "closed without a response");
    assert_eq!(fixture.gateway.count(REFUSED).await, 1);
    let mut other = Conn::open_as(2, fixture.gateway.addr()).await;
    assert_eq!(get(&mut other).await, 200, "another client is not affected");
    drop(second);
    fixture.gateway.wait_for_connections(2).await;
    let mut next = fixture.connect().await;
    assert_eq!(get(&mut next).await, 200, "a connection was closed, so the client may open one");
}

/// Threat DO-4: by default a client may have a quarter of `max_connections`.
#[tokio::test]
async fn the_default_share_is_a_quarter() {
    let fixture = start("max_connections = 5").await;
    let _held = (busy(&fixture, 1).await, busy(&fixture, 2).await);
    assert_eq!(fixture.connect().await.read_to_close().await, b"", "a quarter of five is two");
}

/// A client behind a shared address is served although others there leave connections idle.
#[tokio::test]
async fn a_client_at_its_share_loses_the_connection_that_has_been_idle_for_longest() {
    let fixture = start("max_connections = 8\nmax_connections_per_client = 2").await;
    let (mut first, mut second) = (fixture.connect().await, fixture.connect().await);
    assert_eq!(get(&mut first).await, 200);
    fixture.gateway.wait_for_metric(IDLE, 2.0).await;
    assert_eq!(get(&mut second).await, 200, "it had been idle without a request");
    fixture.gateway.wait_for_metric(IDLE, 2.0).await;
    let mut third = fixture.connect().await;
    assert_eq!(get(&mut third).await, 200);
    assert_eq!(first.read_to_close().await, b"");
    assert_eq!(get(&mut second).await, 200, "it stays open");
    assert_eq!(fixture.gateway.count(&closed_for("max_connections_per_client")).await, 1);
    assert_eq!(fixture.gateway.count(REFUSED).await, 0);
}

/// All clients of a trusted proxy share its address.
#[tokio::test]
async fn a_trusted_proxy_has_no_share() {
    let fixture = start("max_connections_per_client = 1\ntrusted_proxies = [\"127.0.0.1\"]").await;
    let _held = (busy(&fixture, 1).await, busy(&fixture, 2).await, busy(&fixture, 3).await);
    let mut other = Conn::open_as(2, fixture.gateway.addr()).await;
    assert_eq!(get(&mut other).await, 200);
}

/// Threat DO-5: idle connections give way when `max_connections` are open, instead of making new
/// clients wait.
#[tokio::test]
async fn an_idle_connection_is_closed_for_a_new_client() {
    for name in ["after a response", "before the first request", "over HTTP/2"] {
        let fixture = start("max_connections = 2\nmax_connections_per_client = 2").await;
        let mut kept = fixture.connect().await;
        let (mut idle, mut over_h2) = (None, None);
        if name == "over HTTP/2" {
            let client = h2(fixture.gateway.addr()).await;
            assert_eq!(client.get("/public/a", &[]).await.status, 200, "{name}");
            over_h2 = Some(client);
        } else {
            let mut conn = fixture.connect().await;
            if name == "after a response" {
                assert_eq!(get(&mut conn).await, 200, "{name}");
            }
            idle = Some(conn);
        }
        fixture.gateway.wait_for_metric(IDLE, 2.0).await;
        assert_eq!(get(&mut kept).await, 200, "{name}: now the other one has been idle for longer");
        let mut new = Conn::open_as(2, fixture.gateway.addr()).await;
        assert_eq!(get(&mut new).await, 200, "{name}");
        if let Some(mut idle) = idle {
            assert_eq!(idle.read_to_close().await, b"", "{name}");
        }
        if let Some(over_h2) = over_h2 {
            assert!(over_h2.try_request("GET", "/public/a", &[], b"").await.is_err(), "{name}");
        }
        assert_eq!(get(&mut kept).await, 200, "{name}: it stays open");
        assert_eq!(fixture.gateway.count(&closed_for("max_connections")).await, 1, "{name}");
    }
}

/// A connection that becomes idle while another one waits is closed for it.
#[tokio::test]
async fn a_client_that_waits_is_served_once_a_connection_becomes_idle() {
    let fixture = start("max_connections = 1\nmax_connections_per_client = 1").await;
    let mut first = fixture.connect().await;
    assert_eq!(get(&mut first).await, 200);
    let mut waiting = Conn::open_as(2, fixture.gateway.addr()).await;
    assert_eq!(get(&mut waiting).await, 200);
    assert_eq!(first.read_to_close().await, b"");
}

/// No client keeps to this rate, whatever it does. The idle timeout is short, because it is also
/// the longest grace.
const UNREACHABLE_RATE: &str = "body_idle_timeout = \"500ms\"\nmin_body_rate = \"1000 GiB/s\"";

/// Threat DO-6: a byte now and then is no progress. The client sends each byte as soon as the one
/// before has arrived, and that is too slow for the rate of this test.
#[tokio::test]
async fn a_request_body_that_arrives_byte_by_byte_is_408() {
    let config = Config::minimal()
        .add("server", UNREACHABLE_RATE)
        .route("patient", "access = \"public\"\nmin_body_rate = \"off\"\nbody_idle_timeout = \"10m\"")
        .route("steady", "access = \"public\"\nmin_body_rate = \"1 B/s\"");
    let fixture = Fixture::start(config).await;
    let head = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 5000000\r\n\r\n");
    let (mut patient, mut slow, mut steady) =
        (fixture.connect().await, fixture.connect().await, fixture.connect().await);
    patient.send(head("/patient/a")).await;
    fixture.origin.wait_for_requests(1).await;
    slow.send(head("/public/a")).await;
    fixture.origin.wait_for_requests(2).await;
    steady.send(head("/steady/a")).await;
    fixture.origin.wait_for_requests(3).await;
    let mut sent = 0;
    let trickle = async {
        loop {
            sent += 1;
            patient.send("x").await;
            steady.send("x").await;
            let is_open = slow.try_send("x").await.is_ok();
            let enough = |all: &[RecordedRequest]| all.iter().all(|one| one.body_length >= sent);
            let arrived = fixture.origin.wait_until("a byte of each", enough);
            tokio::select! {
                biased;
                response = slow.read_response() => break response,
                _ = arrived, if is_open => {}
            }
        }
    };
    let response = with_deadline("the end of the slow request", trickle).await;
    assert_eq!((response.status, &response.json()["code"]), (408, &"client_timeout".into()));
    fixture.origin.wait_for_open_connections(2).await;
    assert!(!fixture.origin.requests()[1].complete, "the upstream's request was broken off");
    patient.send("x").await;
    fixture.origin.wait_until("the route without a rate", |all| all[0].body_length == sent + 1).await;
    steady.send("x").await;
    fixture.origin.wait_until("the client that keeps to its rate", |all| all[2].body_length == sent + 1).await;
    fixture.gateway.wait_for_metric("portcullis_slow_bodies_total{direction=\"request\"}", 1.0).await;
}

/// Threat DO-6: a client that reads slowly holds an upstream's connection as well.
#[tokio::test]
async fn a_response_that_is_read_byte_by_byte_is_cut_off() {
    let fixture = Fixture::start(Config::minimal().add("server", UNREACHABLE_RATE)).await;
    fixture.origin.behave("/public/large", Behaviour::Large(1 << 40));
    let mut slow = fixture.connect().await;
    slow.send("GET /public/large HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(slow.read_head().await.status, 200);
    slow.read_slowly_to_close().await;
    fixture.origin.wait_for_open_connections(0).await;
    assert_eq!(fixture.gateway.count("portcullis_slow_bodies_total{direction=\"response\"}").await, 1);
}
