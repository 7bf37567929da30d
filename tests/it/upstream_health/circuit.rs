//! What clients get while no server of an upstream is up.

use serde_json::json;

use super::switch::{Mode, Switch};
use super::upstream;
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, Origin, RecordedRequest};

/// `upstream_unavailable`: a dead upstream is tried by one request at a time, so that the others do
/// not wait for the same failure. Threat DO-11.
#[tokio::test]
async fn while_no_server_is_up_one_request_at_a_time_tries_and_the_others_get_503_at_once() {
    let server = Switch::start(Mode::Close).await;
    let keys = "protocol = \"http2\"\nconnect_timeout = \"30s\"";
    let fixture = Fixture::start(upstream("dead", &[server.addr], keys)).await;
    for request in 0..5 {
        let response = fixture.get("/dead/1", &[]).await;
        assert_eq!((response.status, &response.json()["code"]), (502, &json!("upstream_unreachable")), "{request}");
    }
    server.set(Mode::Hold);
    let mut probe = fixture.connect().await;
    probe.send("GET /dead/probe HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.wait_for_held(1).await;
    for request in 0..3 {
        let response = fixture.get("/dead/2", &[]).await;
        assert_eq!((response.status, &response.json()["code"]), (503, &json!("upstream_unavailable")), "{request}");
        assert_eq!(response.header("retry-after"), Some("1"));
        let line = fixture.gateway.access_line_of(&response).await;
        assert_eq!((&line["upstream"], line.get("server")), (&json!("dead"), None), "none was tried");
        assert_eq!(line["blame"], "upstream");
    }
    assert_eq!(*server.held.borrow(), 1, "no other request has connected");
    server.set(Mode::Serve);
    assert_eq!(probe.read_response().await.status, 502, "the held connection is closed");
    for request in 0..3 {
        assert_eq!(fixture.get("/dead/3", &[]).await.status, 200, "{request}: it has recovered");
    }
}

/// A client that leaves while its request is the one that tries makes room for the next one.
#[tokio::test]
async fn a_request_that_is_given_up_while_it_tries_lets_the_next_one_try() {
    let server = Switch::start(Mode::Close).await;
    let keys = "protocol = \"http2\"\nconnect_timeout = \"30s\"";
    let fixture = Fixture::start(upstream("dead", &[server.addr], keys)).await;
    for _ in 0..3 {
        assert_eq!(fixture.get("/dead/1", &[]).await.status, 502);
    }
    server.set(Mode::Hold);
    let mut leaving = fixture.connect().await;
    leaving.send("GET /dead/probe HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.wait_for_held(1).await;
    assert_eq!(fixture.get("/dead/2", &[]).await.status, 503);
    drop(leaving);
    let lines = fixture.gateway.wait_for_access_lines(5).await;
    assert_eq!(lines[4]["status"], 499, "{lines:?}");
    server.set(Mode::Serve);
    assert_eq!(fixture.get("/dead/3", &[]).await.status, 200);
}

/// Threat DO-11: how long a client takes for its body says nothing about the server that the
/// request tries, and keeps no other from trying.
#[tokio::test]
async fn a_request_whose_body_is_still_to_come_keeps_no_other_from_trying() {
    let (ejected, gone) = (Origin::start().await, Origin::start().await);
    ejected.behave("/two/1", Behaviour::CloseBeforeHead);
    let keys = "balance = \"round_robin\"\neject = { failures = 1, for = \"1h\" }";
    let fixture = Fixture::start(upstream("two", &[ejected.addr(), gone.addr()], keys).one_worker()).await;
    let post = || fixture.request("POST", "/two/1", &[], b"x");
    assert_eq!((post().await.status, post().await.status), (502, 200));
    gone.stop().await;
    for request in 0..4 {
        assert_eq!(post().await.status, 502, "{request}: it tries the one that is ejected too");
    }
    let mut slow = fixture.connect().await;
    slow.send("POST /two/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nh").await;
    let is_slow = |request: &RecordedRequest| request.target == "/two/slow";
    ejected.wait_until("the slow request", |requests| requests.iter().any(is_slow)).await;
    assert_eq!(fixture.get("/two/2", &[]).await.status, 200);
    slow.send("ello").await;
    assert_eq!(slow.read_response().await.status, 200);
}
