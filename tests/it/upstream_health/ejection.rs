//! Ejection: servers that are avoided because requests to them have failed.

use std::time::Duration;

use super::{readiness, served, two, up};
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, Origin};
use crate::support::with_deadline;

fn ejections(server: &Origin) -> String {
    format!("portcullis_upstream_ejections_total{{upstream=\"two\",server=\"{}\"}}", server.addr())
}

#[tokio::test]
async fn a_server_whose_requests_fail_is_ejected_and_tried_again_later() {
    let (healthy, failing) = (Origin::start().await, Origin::start().await);
    failing.behave("/two/1", Behaviour::CloseBeforeHead);
    let fixture = Fixture::start(two(&healthy, &failing, "")).await;
    // Not idempotent, so that no failure is hidden by a retry.
    let post = || fixture.request("POST", "/two/1", &[], b"x");
    let mut failures = 0;
    for _ in 0..10 {
        failures += usize::from(post().await.status == 502);
    }
    assert_eq!(failures, 5, "every second request");
    assert_eq!((fixture.gateway.count(&ejections(&failing)).await, fixture.gateway.count(&up(&failing)).await), (1, 0));
    assert!(readiness(&fixture).await.1.contains("ejected"));
    for _ in 0..10 {
        assert_eq!(post().await.status, 200);
    }
    failing.behave("/two/1", Behaviour::response(200, &[], ""));
    let before = served(&failing);
    fixture.clock.advance(Duration::from_secs(20));
    for _ in 0..10 {
        assert_eq!(post().await.status, 200);
    }
    assert_eq!(served(&failing) - before, 5, "its full share again");
    assert_eq!(fixture.gateway.count(&up(&failing)).await, 1);
}

/// Threat DO-12: what is the client's doing says nothing against a server.
#[tokio::test]
async fn what_a_client_does_ejects_no_server() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    for server in [&one, &other] {
        server.behave("/two/hang", Behaviour::Hang);
        server.behave("/two/503", Behaviour::response(503, &[], ""));
        server.behave("/short/hang", Behaviour::Hang);
    }
    let short = "access = \"public\"\nupstream = \"two\"\ntimeout = \"10ms\"";
    let fixture = Fixture::start(two(&one, &other, "eject = { failures = 1 }").route("short", short)).await;
    for number in 1..=6 {
        let mut leaving = fixture.connect().await;
        leaving.send("GET /two/hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        with_deadline("a request", async {
            while served(&one) + served(&other) < number {
                tokio::task::yield_now().await;
            }
        })
        .await;
        drop(leaving);
    }
    fixture.gateway.wait_for_access_lines(6).await;
    for _ in 0..6 {
        assert_eq!(fixture.get("/short/hang", &[]).await.status, 504);
        assert_eq!(fixture.get("/two/503", &[]).await.status, 503);
        let mut broken = fixture.connect().await;
        broken
            .send("POST /two/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnot a chunk")
            .await;
        assert_eq!(broken.read_head().await.status, 400);
    }
    for server in [&one, &other] {
        assert_eq!(fixture.gateway.count(&ejections(server)).await, 0);
        assert_eq!(fixture.gateway.count(&up(server)).await, 1);
    }
}

/// Threat DO-12: a server that drops a connection at a request that it does not like looks as if it
/// had failed. The other clients still have half of the servers.
#[tokio::test]
async fn requests_that_servers_drop_eject_at_most_half_of_them() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    for server in [&one, &other] {
        server.behave("/two/disliked", Behaviour::CloseBeforeHead);
    }
    let fixture = Fixture::start(two(&one, &other, "")).await;
    for _ in 0..30 {
        assert_eq!(fixture.request("POST", "/two/disliked", &[], b"x").await.status, 502);
    }
    assert_eq!(fixture.gateway.count(&up(&one)).await + fixture.gateway.count(&up(&other)).await, 1);
    for _ in 0..10 {
        assert_eq!(fixture.request("POST", "/two/1", &[], b"x").await.status, 200);
    }
}

#[tokio::test]
async fn a_reload_changes_when_servers_are_ejected() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    for server in [&one, &other] {
        server.behave("/two/1", Behaviour::CloseBeforeHead);
    }
    let fixture = Fixture::start(two(&one, &other, "eject = \"off\"")).await;
    let fail = async || {
        for _ in 0..4 {
            assert_eq!(fixture.request("POST", "/two/1", &[], b"x").await.status, 502);
        }
        fixture.gateway.count(&ejections(&one)).await + fixture.gateway.count(&ejections(&other)).await
    };
    assert_eq!(fail().await, 0);
    fixture.reload(two(&one, &other, "eject = { failures = 1 }")).await;
    assert_eq!(fail().await, 1, "of two servers");
    fixture.clock.advance(Duration::from_secs(10));
    fixture.reload(two(&one, &other, "eject = \"off\"")).await;
    assert_eq!(fail().await, 1);
}
