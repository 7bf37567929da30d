//! Drain: first not ready, then no new connections, then the end of the process.

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Behaviour;
use crate::support::with_deadline;

async fn readiness(fixture: &Fixture) -> (u16, String) {
    let response = client::get(fixture.gateway.admin(), "/readyz", &[]).await;
    (response.status, response.text())
}

#[tokio::test]
async fn draining_turns_readiness_off_at_once_and_serves_during_the_delay() {
    let fixture = Fixture::start(Config::minimal().replace("server", "drain_delay = \"10m\"")).await;
    assert_eq!(fixture.get("/token/a", &[("authorization", &fixture.bearer("a"))]).await.status, 200);
    assert_eq!(readiness(&fixture).await.0, 200);
    fixture.gateway.drain();
    with_deadline("not ready", async { while readiness(&fixture).await.0 != 503 {} }).await;
    assert!(readiness(&fixture).await.1.contains("draining"));
    assert_eq!(fixture.get("/public/a", &[]).await.status, 200);
}

#[tokio::test]
async fn active_requests_finish_before_the_process_ends() {
    let fixture = Fixture::start(Config::minimal()).await;
    let chunks = fixture.origin.stream("/public/a");
    let mut busy = fixture.connect().await;
    busy.send("GET /public/a HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    assert_eq!(busy.read_head().await.status, 200);
    fixture.gateway.drain();
    fixture.gateway.wait_for_closed_listeners().await;
    chunks.send("the end");
    chunks.finish();
    assert!(busy.read_until("the end").await.ends_with("the end"));
    drop(busy);
    fixture.gateway.wait_for_end().await;
}

#[tokio::test]
async fn an_idle_connection_may_send_one_more_request_while_draining() {
    let fixture = Fixture::start(Config::minimal()).await;
    let mut idle = fixture.connect().await;
    idle.send("GET /public/a HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    let first = idle.read_response().await;
    assert_eq!((first.status, first.header("connection")), (200, None));
    fixture.gateway.drain();
    fixture.gateway.wait_for_closed_listeners().await;
    idle.send("GET /public/b HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    let last = idle.read_response().await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(idle.read_to_close().await.is_empty());
    fixture.gateway.wait_for_end().await;
}

/// The head of a response that has begun does not say that the connection closes, so that the
/// client sends its next request on it.
#[tokio::test]
async fn a_connection_whose_response_has_begun_may_send_one_more_request_while_draining() {
    let fixture = Fixture::start(Config::minimal()).await;
    let chunks = fixture.origin.stream("/public/a");
    let mut busy = fixture.connect().await;
    busy.send("GET /public/a HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    assert_eq!(busy.read_head().await.header("connection"), None);
    fixture.gateway.drain();
    fixture.gateway.wait_for_closed_listeners().await;
    chunks.send("the end");
    chunks.finish();
    assert!(busy.read_until("0\r\n\r\n").await.contains("the end"));
    busy.send("GET /public/b HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    let last = busy.read_response().await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(busy.read_to_close().await.is_empty());
    fixture.gateway.wait_for_end().await;
}

#[tokio::test]
async fn a_connection_that_has_sent_nothing_does_not_delay_the_end() {
    let timeouts = "header_timeout = \"10m\"\ndrain_timeout = \"10m\"";
    let fixture = Fixture::start(Config::minimal().add("server", timeouts)).await;
    let mut silent = fixture.connect().await;
    fixture.gateway.wait_for_metric("portcullis_connections_open", 1.0).await;
    fixture.gateway.drain();
    assert!(silent.read_to_close().await.is_empty());
    fixture.gateway.wait_for_end().await;
}

#[tokio::test]
async fn a_request_that_outlasts_drain_timeout_is_cut_off() {
    let fixture = Fixture::start(Config::minimal().add("server", "drain_timeout = \"50ms\"")).await;
    fixture.origin.behave("/public/never", Behaviour::Hang);
    let mut stuck = fixture.connect().await;
    stuck.send("GET /public/never HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    fixture.origin.wait_for_requests(1).await;
    fixture.gateway.drain();
    fixture.gateway.wait_for_end().await;
    assert!(stuck.read_to_close().await.is_empty(), "no response");
}
