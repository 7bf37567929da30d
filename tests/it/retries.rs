//! Retries: which requests go to another server, after which failures, and which never.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, Origin};
use crate::support::raw_origin::{RawOrigin, Step};

/// A gateway with the upstream `two` of these servers, behind the public route `/two/*`. The first
/// request goes to the first server.
async fn gateway(servers: [SocketAddr; 2], keys: &str) -> Fixture {
    let keys = format!("balance = \"round_robin\"\n{keys}");
    let config = Config::minimal()
        .one_worker()
        .upstream("two", &servers, &keys)
        .route("two", "access = \"public\"\nupstream = \"two\"");
    Fixture::start(config).await
}

fn retries(reason: &str) -> String {
    format!("portcullis_upstream_retries_total{{upstream=\"two\",reason=\"{reason}\"}}")
}

/// RFC 9110 §9.2.2. A server that closes a fresh connection may have processed the request.
#[tokio::test]
async fn a_request_whose_server_dies_before_it_answers_goes_to_another_if_it_is_harmless() {
    let small = "retry_body_size = \"10 B\"";
    for (name, keys, method, body, is_retried) in [
        ("GET", "", "GET", "", true),
        ("DELETE", "", "DELETE", "", true),
        ("POST", "", "POST", "", false),
        ("PUT with a body", "", "PUT", "ten bytes!", false),
        ("PUT with a body that is buffered", small, "PUT", "ten bytes!", true),
        ("PUT with a body that is too large", small, "PUT", "eleven byte", false),
        ("POST with a small body", small, "POST", "ten bytes!", false),
        ("no retries", "retries = 0", "GET", "", false),
        ("only unsent requests", "retry_on = [\"connect\"]", "GET", "", false),
    ] {
        let (dying, live) = (RawOrigin::start([Step::Close]).await, Origin::start().await);
        let fixture = gateway([dying.addr(), live.addr()], keys).await;
        let response = fixture.request(method, "/two/1", &[], body.as_bytes()).await;
        if is_retried {
            assert_eq!(response.status, 200, "{name}: {}", response.text());
            let [request] = &live.requests()[..] else { panic!("{name}: one request") };
            assert_eq!((&*request.method, &*request.body, request.complete), (method, body, true), "{name}");
            let logged = fixture.gateway.access_line_of(&response).await;
            assert_eq!(logged["server"], live.addr().to_string(), "{name}");
            assert_eq!(logged["bytes_in"], json!(body.len()), "{name}: the client has sent it once");
        } else {
            assert_eq!((response.status, &response.json()["code"]), (502, &json!("upstream_failed")), "{name}");
            assert!(live.requests().is_empty(), "{name}");
        }
        assert_eq!(fixture.gateway.count(&retries("closed")).await, u64::from(is_retried), "{name}");
    }
}

/// Once a byte of a response has gone to the client, no other server can change it.
#[tokio::test]
async fn a_response_that_breaks_off_is_never_begun_again() {
    let (cut, live) = (Origin::start().await, Origin::start().await);
    cut.behave("/two/1", Behaviour::CloseMidBody { announced: Some(10), sent: "part".into() });
    let fixture = gateway([cut.addr(), live.addr()], "").await;
    let mut conn = fixture.connect().await;
    conn.send("GET /two/1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(conn.read_head().await.status, 200);
    assert_eq!(conn.read_to_close().await, b"part");
    assert!(live.requests().is_empty());
}

#[tokio::test]
async fn a_status_that_is_listed_sends_the_request_to_another_server() {
    for (name, keys, method, status) in [
        ("listed", "retry_on = [\"503\"]", "GET", 200),
        ("not listed", "", "GET", 503),
        ("another one is listed", "retry_on = [\"502\", \"504\"]", "GET", 503),
        ("not idempotent", "retry_on = [\"503\"]", "POST", 503),
        ("no retries", "retry_on = [\"503\"]\nretries = 0", "GET", 503),
    ] {
        let (overloaded, live) = (Origin::start().await, Origin::start().await);
        overloaded.behave("/two/1", Behaviour::response(503, &[("Retry-After", "60")], "later"));
        let fixture = gateway([overloaded.addr(), live.addr()], keys).await;
        let response = fixture.request(method, "/two/1", &[], b"").await;
        assert_eq!(response.status, status, "{name}: {}", response.text());
        assert_eq!(live.requests().len(), usize::from(status == 200), "{name}");
        assert_eq!(fixture.gateway.count(&retries("503")).await, u64::from(status == 200), "{name}");
        if status == 503 {
            assert_eq!((&*response.text(), response.header("retry-after")), ("later", Some("60")), "{name}");
        }
    }
}

/// The response of the first server is read to its end, so that its connection can be used again.
#[tokio::test]
async fn a_response_that_is_not_passed_on_costs_no_connection() {
    let (overloaded, live) = (Origin::start().await, Origin::start().await);
    overloaded.behave("/two/1", Behaviour::response(503, &[], "x".repeat(1000)));
    let fixture = gateway([overloaded.addr(), live.addr()], "retry_on = [\"503\"]").await;
    for _ in 0..4 {
        assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
        fixture
            .gateway
            .wait_for_metric("portcullis_upstream_connections{upstream=\"two\",state=\"active\"}", 0.0)
            .await;
    }
    assert!(overloaded.requests().len() > 1);
    assert_eq!(overloaded.connections(), 1);
}

/// RFC 9110 §10.2.3. Only if `retry_on` lists 503: otherwise it may be about one request alone, and
/// a client that provokes it must not be able to block a server.
#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_left_alone_until_then() {
    for (name, keys, reached) in [("listed", "retry_on = [\"503\"]", 1), ("not listed", "", 5)] {
        let (overloaded, live) = (Origin::start().await, Origin::start().await);
        overloaded.behave("/two/1", Behaviour::response(503, &[("Retry-After", "60")], ""));
        let fixture = gateway([overloaded.addr(), live.addr()], keys).await;
        for _ in 0..10 {
            fixture.get("/two/1", &[]).await;
        }
        assert_eq!(overloaded.requests().len(), reached, "{name}");
    }
}

/// A server that asks for a pause is better than none.
#[tokio::test]
async fn servers_that_all_ask_for_a_pause_are_still_used() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    for origin in [&one, &other] {
        origin.behave("/two/busy", Behaviour::response(503, &[("Retry-After", "60")], ""));
    }
    let fixture = gateway([one.addr(), other.addr()], "retry_on = [\"503\"]").await;
    assert_eq!(fixture.get("/two/busy", &[]).await.status, 503);
    assert_eq!(one.requests().len() + other.requests().len(), 2, "each was asked once");
    for _ in 0..4 {
        assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
    }
}

/// What cannot be sent goes to another server, unless that is turned off.
#[tokio::test]
async fn failures_to_connect_are_not_retried_if_they_are_not_listed() {
    for (keys, status) in [("", 200), ("retry_on = [\"closed\"]", 502)] {
        let live = Origin::start().await;
        let fixture = gateway([crate::support::closed_port(), live.addr()], keys).await;
        assert_eq!(fixture.request("POST", "/two/1", &[], b"order").await.status, status, "{keys}");
        let count = fixture.gateway.count(&retries("connect")).await;
        assert_eq!(count, u64::from(status == 200), "{keys}");
    }
}

/// A body that is buffered has the same limits as one that is not.
#[tokio::test]
async fn a_body_that_is_buffered_and_never_completed_is_the_clients_fault() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    let config = Config::minimal()
        .one_worker()
        .add("server", "body_idle_timeout = \"50ms\"")
        .upstream("two", &[one.addr(), other.addr()], "retry_body_size = \"1 KiB\"")
        .route("two", "access = \"public\"\nupstream = \"two\"");
    let fixture = Fixture::start(config).await;
    let mut conn = fixture.connect().await;
    conn.send("PUT /two/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    let response = conn.read_response().await;
    assert_eq!((response.status, &response.json()["code"]), (408, &json!("client_timeout")));
    assert!(one.requests().is_empty() && other.requests().is_empty(), "no server has seen any of it");
}
