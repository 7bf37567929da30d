//! Requests that end before they are complete: heads too large or too slow, bodies that stall,
//! clients that do not read, and `Expect`.
//!
//! Such a request may never reach a route, and still gets a response, is counted and is logged.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{self, Conn, Response};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Behaviour;

async fn start(server: &str) -> Fixture {
    Fixture::start(Config::minimal().one_worker().add("server", server)).await
}

fn assert_problem(name: &str, response: &Response, status: u16, code: &str) {
    assert_eq!(response.status, status, "{name}: {}", response.text());
    let problem = response.json();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{name}");
    assert_eq!(problem["type"], json!("about:blank"), "{name}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{name}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{name}");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{name}");
    assert_eq!(response.header("connection"), Some("close"), "{name}");
    assert_eq!(response.headers_named("x-request-id"), [problem["request_id"].as_str().expect(name)], "{name}");
}

fn assert_access_line(name: &str, line: &Value, response: &Response, code: &str) {
    assert_eq!((&line["status"], &line["code"]), (&json!(response.status), &json!(code)), "{name}: {line}");
    assert_eq!(line["request_id"].as_str(), response.header("x-request-id"), "{name}: {line}");
    assert_eq!(
        (&line["client"], &line["bytes_out"]),
        (&json!("127.0.0.1"), &json!(response.body.len())),
        "{name}: {line}"
    );
}

/// FR-8, DO-1, DO-2, C6; RFC 6585 §5, RFC 9110 §15.5.9 and §15.5.15.
#[tokio::test]
async fn an_incomplete_or_oversized_head_gets_one_response_one_count_and_one_log_line() {
    let Fixture { gateway, origin, .. } = &start("header_timeout = \"100ms\"").await;
    let rows = [
        ("not HTTP", "GET /public/secret\0 HTTP/1.1\r\nHost: g\r\n\r\n".to_owned(), 400, "framing_refused"),
        (
            "a field larger than the buffer",
            format!("GET /public/a HTTP/1.1\r\nHost: g\r\nX-A: {}\r\n\r\n", "a".repeat(200_000)),
            431,
            "head_too_large",
        ),
        (
            "slightly over the limit",
            format!("GET /public/a HTTP/1.1\r\nHost: g\r\nX-A: {}\r\n\r\n", "a".repeat(32 * 1024)),
            431,
            "head_too_large",
        ),
        (
            "too many fields",
            format!("GET /public/a HTTP/1.1\r\nHost: g\r\n{}\r\n", "A: 1\r\n".repeat(200)),
            431,
            "head_too_large",
        ),
        (
            "a target over 8 KiB",
            format!("GET /public/{} HTTP/1.1\r\nHost: g\r\n\r\n", "a".repeat(8 * 1024)),
            414,
            "uri_too_long",
        ),
        (
            "a query over 8 KiB",
            format!("GET /public/?{} HTTP/1.1\r\nHost: g\r\n\r\n", "a".repeat(8 * 1024)),
            414,
            "uri_too_long",
        ),
        ("half a request line", "GET /public/secr".to_owned(), 408, "client_timeout"),
        ("half a head", "GET /public/secret HTTP/1.1\r\nHost: g\r\nX-A: b\r\n".to_owned(), 408, "client_timeout"),
    ];
    for (index, (name, bytes, status, code)) in rows.iter().enumerate() {
        let rejections = format!(r#"portcullis_rejections_total{{route="",code="{code}"}}"#);
        let before = gateway.metrics().await.get(&rejections).unwrap_or(0.0);
        let mut conn = Conn::open(gateway.addr()).await;
        let _ = conn.try_send(bytes).await;
        let response = conn.read_response().await;
        assert_problem(name, &response, *status, code);
        assert_eq!(conn.read_to_close().await, b"", "{name}");
        let lines = gateway.wait_for_access_lines(index + 1).await;
        assert_eq!(lines.len(), index + 1, "{name}");
        assert_access_line(name, &lines[index], &response, code);
        let counted = gateway.metric(&rejections).await - before;
        assert!((counted - 1.0).abs() < f64::EPSILON, "{name}: {counted}");
    }
    assert!(!gateway.access_lines()[0].to_string().contains("secret"), "the text of a malformed request is not logged");
    assert!(origin.requests().is_empty());
    let timeouts = gateway.metric(r#"portcullis_requests_total{route="",method="other",status="408"}"#).await;
    assert!((timeouts - 2.0).abs() < f64::EPSILON, "{timeouts}");
}

/// RFC 9112 §9.6: a close with unread bytes would be a reset, which may overtake the refusal.
#[tokio::test]
async fn a_client_that_still_sends_reads_the_whole_refusal_and_a_proper_end() {
    let Fixture { gateway, .. } = &Fixture::start(Config::minimal()).await;
    for (name, head) in [
        ("a malformed head", "GET /public/a\0 HTTP/1.1\r\nHost: g\r\n\r\n"),
        ("a body that is not read", "POST /nowhere HTTP/1.1\r\nHost: g\r\nContent-Length: 9999999\r\n\r\n"),
    ] {
        let mut conn = Conn::open(gateway.addr()).await;
        // More than the gateway reads before it refuses.
        conn.send([head.as_bytes(), &vec![b'x'; 256 * 1024]].concat()).await;
        let received = conn.read_to_end().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let received = String::from_utf8_lossy(&received).into_owned();
        assert!(received.starts_with("HTTP/1.1 40") && received.ends_with('}'), "{name}: {received}");
    }
}

/// The counterpart: a head within the limits is accepted.
#[tokio::test]
async fn accepts_a_head_within_the_limits() {
    let Fixture { gateway, .. } = &Fixture::start(Config::minimal().one_worker()).await;
    let (long, many) = ("a".repeat(30 * 1024), "1".repeat(8_000));
    for (name, target, fields) in [
        ("a large field", "/public/a".to_owned(), vec![("X-A", long.as_str())]),
        ("a long target", format!("/public/{many}"), vec![]),
        ("ninety fields", "/public/a".to_owned(), vec![("X-A", "1"); 90]),
    ] {
        let response = client::get(gateway.addr(), &target, &fields).await;
        assert_eq!((response.status, &response.json()["target"]), (200, &json!(target)), "{name}");
    }
}

/// DO-1: a silent connection is closed at its deadline, and is not counted as a request.
#[tokio::test]
async fn closes_silent_connections_without_a_response() {
    let Fixture { gateway, .. } = &start("header_timeout = \"100ms\"\nidle_timeout = \"100ms\"").await;
    let mut silent = Conn::open(gateway.addr()).await;
    assert_eq!(silent.read_to_close().await, b"");
    let mut half_a_preface = Conn::open(gateway.addr()).await;
    half_a_preface.send("PRI * HT").await;
    assert_eq!(half_a_preface.read_to_close().await, b"");
    let mut idle = Conn::open(gateway.addr()).await;
    for path in ["/public/a", "/token/refused"] {
        assert!(matches!(idle.request("GET", path, &[], b"").await.status, 200 | 401));
    }
    assert_eq!(idle.read_to_close().await, b"", "an idle connection");
    let mut disconnected = Conn::open(gateway.addr()).await;
    disconnected.send("GET /public/a HTT").await;
    drop(disconnected);
    let lines = gateway.wait_for_access_lines(2).await;
    assert_eq!(lines.iter().map(|line| line["status"].clone()).collect::<Vec<_>>(), [json!(200), json!(401)]);
}

/// DO-1: the timeout covers the whole head; sending a byte now and then does not extend it.
#[tokio::test]
async fn header_timeout_covers_the_whole_head() {
    let Fixture { gateway, .. } = &start("header_timeout = \"200ms\"").await;
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send("GET /public/a HTTP/1.1\r\nHost: g\r\nX-A: ").await;
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    let sending = async {
        // Ends because the gateway closes, not because the test stops sending.
        loop {
            interval.tick().await;
            if conn.try_send("a").await.is_err() {
                return;
            }
        }
    };
    crate::support::with_deadline("the end of the slow connection", sending).await;
    let lines = gateway.wait_for_access_lines(1).await;
    assert_eq!((&lines[0]["status"], &lines[0]["code"]), (&json!(408), &json!("client_timeout")));
}

/// FR-13, DO-1; RFC 9110 §15.5.9.
#[tokio::test]
async fn a_stalled_request_body_is_408_and_aborts_the_upstream_request() {
    let Fixture { gateway, origin, .. } = &start("body_idle_timeout = \"100ms\"").await;
    for (index, (name, head, part)) in [
        ("a length", "Content-Length: 10\r\n", "hello"),
        ("a length and no bytes", "Content-Length: 10\r\n", ""),
        ("chunks", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
        ("half a chunk", "Transfer-Encoding: chunked\r\n", "5\r\nhel"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut conn = Conn::open(gateway.addr()).await;
        conn.send(format!("POST /public/a HTTP/1.1\r\nHost: g\r\n{head}\r\n{part}")).await;
        let response = conn.read_response().await;
        assert_problem(name, &response, 408, "client_timeout");
        assert_eq!(conn.read_to_close().await, b"", "{name}");
        origin.wait_for_open_connections(0).await;
        let lines = gateway.wait_for_access_lines(index + 1).await;
        assert_eq!(
            (&lines[index]["route"], &lines[index]["code"]),
            (&json!("public"), &json!("client_timeout")),
            "{name}"
        );
    }
    assert!(origin.requests().iter().all(|request| !request.complete));
}

/// DO-1: a response that the client does not read is aborted, and the upstream's connection is
/// released.
#[tokio::test]
async fn closes_a_client_that_reads_nothing() {
    let Fixture { gateway, origin, .. } = &start("body_idle_timeout = \"200ms\"").await;
    let length = 64 * 1024 * 1024;
    origin.behave("/public/large", Behaviour::Large(length));
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send("GET /public/large HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let lines = gateway.wait_for_access_lines(1).await;
    let sent = lines[0]["bytes_out"].as_u64().expect("a number");
    assert!(sent < length, "{sent}");
    origin.wait_for_open_connections(0).await;
    conn.read_to_close().await;
}

/// FR-11; RFC 9110 §10.1.1: a client whose request will be refused never gets 100.
#[tokio::test]
async fn sends_100_continue_only_after_authorization() {
    let Fixture { gateway, origin, .. } = &Fixture::start(Config::minimal().one_worker()).await;
    let head = |path: &str, expect: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: g\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n")
    };
    for (name, path, status) in [("no token", "/token/a", 401), ("no route", "/nowhere", 404)] {
        let mut conn = Conn::open(gateway.addr()).await;
        conn.send(head(path, "100-continue")).await;
        assert_eq!(conn.read_response().await.status, status, "{name}: the refusal comes first");
    }
    let mut too_large = Conn::open(gateway.addr()).await;
    too_large.send(head("/public/a", "100-continue").replace("Length: 5", "Length: 99999999999")).await;
    assert_eq!(too_large.read_response().await.status, 413);
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send(head("/public/a", "100-continue")).await;
    assert_eq!(conn.read_response().await.status, 100);
    conn.send("hello").await;
    let response = conn.read_response().await;
    assert_eq!((response.status, &response.json()["body"]), (200, &json!("hello")));
    conn.send(head("/public/b", "100-continue")).await;
    assert_eq!(conn.read_response().await.status, 100, "each request gets its own 100");
    conn.send("world").await;
    assert_eq!(conn.read_response().await.json()["body"], json!("world"));
    conn.send(head("/public/c", "a-miracle") + "hello").await;
    let other = conn.read_response().await;
    assert!(matches!(other.status, 200 | 417), "another expectation is ignored or refused: {}", other.status);
    let requests = origin.requests();
    assert!(requests.iter().all(|request| request.header("expect").is_none()), "{requests:?}");
    assert!(requests.iter().all(|request| request.target.starts_with("/public/") && request.complete));
}

/// `max_connections`: connections beyond it wait and are then served, whichever worker
/// the kernel assigned them to.
#[tokio::test]
async fn max_connections_is_shared_by_all_workers() {
    // A trusted proxy has no share of its own: the limit on all connections applies alone.
    let lines = "max_connections = 1\ntrusted_proxies = [\"127.0.0.1\"]";
    let fixture = Fixture::start(Config::minimal().add("server", lines)).await;
    for number in 0..16 {
        assert_eq!(fixture.get("/public/a", &[]).await.status, 200, "{number}");
    }
}

/// Parking an idle connection between two requests is invisible to its client, and the deadlines
/// still apply.
#[tokio::test]
async fn a_parked_idle_connection_still_serves_requests() {
    let Fixture { gateway, origin, .. } = &start("idle_timeout = \"2s\"\nheader_timeout = \"600ms\"").await;
    let mut conn = Conn::open(gateway.addr()).await;
    for (name, wait) in [("at first", false), ("after being parked", true), ("after being parked again", true)] {
        if wait {
            // Takes `header_timeout`, which is longer than the quarter of `idle_timeout` after
            // which a connection is parked.
            let silent = client::raw(gateway.addr(), "GET /public/a HT").await;
            assert!(silent.starts_with("HTTP/1.1 408 "), "{silent}");
        }
        // In two parts: the first one wakes the connection.
        conn.send("GET /public/a HTTP/1.1\r\nHo").await;
        conn.send("st: g\r\n\r\n").await;
        assert_eq!(conn.read_response().await.status, 200, "{name}");
    }
    assert_eq!(origin.requests().len(), 3);
    assert_eq!(conn.read_to_close().await, b"", "closed after idle_timeout");
}

/// Bytes that follow a request and are not yet a complete head do not exempt the connection from
/// its deadlines.
#[tokio::test]
async fn header_timeout_applies_to_a_pipelined_partial_head() {
    let Fixture { gateway, .. } = &start("idle_timeout = \"2s\"\nheader_timeout = \"600ms\"").await;
    let mut partial = Conn::open(gateway.addr()).await;
    partial.send("GET /public/a HTTP/1.1\r\nHost: g\r\n\r\nG").await;
    assert_eq!(partial.read_response().await.status, 200);
    let mut empty_line = Conn::open(gateway.addr()).await;
    empty_line.send("GET /public/a HTTP/1.1\r\nHost: g\r\n\r\n\r\n").await;
    assert_eq!(empty_line.read_response().await.status, 200);
    assert_eq!(partial.read_response().await.status, 408, "the rest of the head did not arrive");
    empty_line.send("GET /public/a HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(empty_line.read_response().await.status, 200, "an empty line does not start a request");
}
