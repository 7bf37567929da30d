//! Bodies: streamed in both directions, bounded, and visibly aborted when they are incomplete.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::{self, Conn, h2};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::gateway::Gateway;
use crate::support::origin::Behaviour;
use crate::support::with_deadline;

const MIB: usize = 1024 * 1024;

fn config() -> Config {
    Config::minimal().one_worker()
}

/// With a public route `/unlimited/*` for bodies of any size.
fn unlimited() -> Config {
    config().route("unlimited", "access = \"public\"\nmax_body_size = \"unlimited\"")
}

fn chunk(content: &str) -> String {
    format!("{:x}\r\n{content}\r\n", content.len())
}

/// The only line of the access log.
async fn only_access_line(gateway: &Gateway) -> Value {
    let mut lines = gateway.wait_for_access_lines(1).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

/// FR-10, DO-3: each piece arrives at the other side before the next one is sent.
#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let Fixture { gateway, origin, .. } = &Fixture::start(config()).await;
    for (name, framing, pieces) in [
        ("chunks", "Transfer-Encoding: chunked", [chunk("one"), chunk("two"), "0\r\n\r\n".to_owned()]),
        ("a length", "Content-Length: 6", ["one".into(), "two".into(), String::new()]),
    ] {
        let before = origin.requests().len();
        let mut conn = Conn::open(gateway.addr()).await;
        conn.send(format!("POST /public/up HTTP/1.1\r\nHost: g\r\n{framing}\r\n\r\n")).await;
        origin.wait_until(name, |all| all.len() > before).await;
        for (piece, so_far) in pieces.iter().zip(["one", "onetwo", "onetwo"]) {
            conn.send(piece).await;
            origin.wait_until(name, |all| all[before].body == so_far).await;
        }
        assert_eq!(conn.read_response().await.json()["body"], json!("onetwo"), "{name}");
    }
    let chunks = origin.stream("/public/down");
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send("GET /public/down HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let head = conn.read_head().await;
    assert_eq!(
        (head.status, head.header("transfer-encoding")),
        (200, Some("chunked")),
        "the head comes before the body"
    );
    for piece in ["one", "two", "three"] {
        chunks.send(piece);
        conn.read_until(&chunk(piece)).await;
    }
    chunks.finish();
    assert_eq!(conn.read_until("0\r\n\r\n").await, "0\r\n\r\n");
}

/// DO-2; RFC 9110 §15.5.14.
#[tokio::test]
async fn a_content_length_over_the_limit_is_413_at_once() {
    let Fixture { gateway, origin, .. } = &Fixture::start(config().add("server", "max_body_size = \"10 B\"")).await;
    let post = |length: u64| format!("POST /public/a HTTP/1.1\r\nHost: g\r\nContent-Length: {length}\r\n\r\n");
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send(post(11)).await;
    let response = conn.read_response().await;
    assert_eq!((response.status, &response.json()["code"]), (413, &json!("body_too_large")));
    assert_eq!(origin.connections(), 0, "no connection to the upstream");
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send(post(10) + "0123456789").await;
    assert_eq!(conn.read_response().await.json()["body"], json!("0123456789"), "exactly the limit");
}

/// DO-2: the limit applies to the bytes received, whatever was announced. The upstream never
/// mistakes a part for the complete body.
#[tokio::test]
async fn a_body_that_grows_over_the_limit_is_413_and_aborts_the_upstream_request() {
    let config = config()
        .add("server", "max_body_size = \"10 B\"")
        .route("more", "access = \"public\"\nmax_body_size = \"20 B\"");
    let Fixture { gateway, origin, .. } = &Fixture::start(config).await;
    let head = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send(head("/public/a") + &chunk("0123456789")).await;
    origin.wait_until("ten bytes", |all| all.iter().any(|request| request.body_length == 10)).await;
    conn.send(chunk("x")).await;
    let response = conn.read_response().await;
    assert_eq!((response.status, &response.json()["code"]), (413, &json!("body_too_large")));
    origin.wait_for_open_connections(0).await;
    assert!(!origin.requests()[0].complete && origin.requests()[0].body_length == 10);
    for (name, path, content, status) in [
        ("exactly the limit", "/public/b", "0123456789", 200),
        ("a route's own limit", "/more/a", "01234567890123456789", 200),
        ("one byte over a route's own limit", "/more/a", "012345678901234567890", 413),
    ] {
        let mut conn = Conn::open(gateway.addr()).await;
        conn.send(head(path) + &chunk(content) + "0\r\n\r\n").await;
        assert_eq!(conn.read_response().await.status, status, "{name}");
    }
}

/// The default limit is 10 MiB. Larger bodies pass where a route allows them, without being
/// buffered.
#[tokio::test]
async fn large_bodies_pass_complete() {
    let Fixture { gateway, origin, .. } = &Fixture::start(unlimited()).await;
    origin.behave("/public/large", Behaviour::Large(8 * MIB as u64));
    let down = client::get(gateway.addr(), "/public/large", &[]).await;
    assert_eq!((down.body.len(), down.header("content-length")), (8 * MIB, Some("8388608")));
    assert!(down.body.iter().all(|byte| *byte == b'x'));
    let body = vec![b'y'; 11 * MIB];
    let up = client::request(gateway.addr(), "PUT", "/public/up", &[], &body[..8 * MIB]).await;
    assert_eq!((up.status, &up.json()["body_length"]), (200, &json!(8 * MIB)));
    assert_eq!(client::request(gateway.addr(), "PUT", "/public/up", &[], &body).await.status, 413);
    let unlimited = client::request(gateway.addr(), "PUT", "/unlimited/up", &[], &body).await;
    assert_eq!((unlimited.status, &unlimited.json()["body_length"]), (200, &json!(11 * MIB)));
}

/// What a half-closed connection means: TCP does not tell a client that only sends no more from one
/// that has left, and docs/life-of-a-request.md says which of them the gateway assumes.
#[tokio::test]
async fn a_client_that_closes_its_sending_side_has_left() {
    let Fixture { gateway, origin, .. } = &Fixture::start(config()).await;
    let head = origin.delay("/public/delayed");
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send("GET /public/delayed HTTP/1.1\r\nHost: g\r\n\r\n").await;
    origin.wait_for_requests(1).await;
    conn.finish_sending().await;
    assert_eq!(conn.read_to_close().await, b"");
    drop(head);
    let line = only_access_line(gateway).await;
    assert_eq!((&line["status"], &line["reason"]), (&json!(499), &json!("client left")));
}

/// C6, DO-3: a client that disconnects leaves no upstream request behind, and is logged.
#[tokio::test]
async fn a_client_that_disconnects_aborts_its_upstream_request() {
    for name in ["before the response", "during the request body", "during the response", "over HTTP/2"] {
        let Fixture { gateway, origin, .. } = &Fixture::start(config()).await;
        origin.behave("/public/hang", Behaviour::Hang);
        let chunks = origin.stream("/public/stream");
        let mut conn = Conn::open(gateway.addr()).await;
        let status = match name {
            "before the response" => {
                conn.send("GET /public/hang HTTP/1.1\r\nHost: g\r\n\r\n").await;
                499
            }
            "during the request body" => {
                conn.send("POST /public/up HTTP/1.1\r\nHost: g\r\nContent-Length: 10\r\n\r\nhello").await;
                499
            }
            "during the response" => {
                conn.send("GET /public/stream HTTP/1.1\r\nHost: g\r\n\r\n").await;
                chunks.send("one");
                conn.read_until(&chunk("one")).await;
                200
            }
            _ => {
                let h2 = h2(gateway.addr()).await;
                let request = h2.get("/public/hang", &[]);
                tokio::select! {
                    response = request => panic!("no response was sent: {response:?}"),
                    _ = origin.wait_for_requests(1) => 499,
                }
            }
        };
        origin.wait_for_requests(1).await;
        drop(conn);
        origin.wait_for_open_connections(0).await;
        let line = only_access_line(gateway).await;
        assert_eq!(line["status"], json!(status), "{name}: {line}");
        assert_eq!(line["route"], json!("public"), "{name}: {line}");
        let sample = format!(
            r#"portcullis_requests_total{{route="public",method="{}",status="{status}"}}"#,
            line["method"].as_str().expect("a method")
        );
        gateway.wait_for_metric(&sample, 1.0).await;
    }
}

/// FR-12: a partial response never looks complete (RFC 9112 §8).
#[tokio::test]
async fn a_truncated_response_closes_the_clients_connection() {
    let Fixture { gateway, origin, .. } = &Fixture::start(config()).await;
    for (name, announced) in [("chunked", None), ("with a length", Some(100))] {
        origin.behave("/public/cut", Behaviour::CloseMidBody { announced, sent: "four".into() });
        let received = client::raw(gateway.addr(), "GET /public/cut HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert!(received.starts_with("HTTP/1.1 200 ") && received.contains("four"), "{name}: {received}");
        assert!(!received.ends_with("0\r\n\r\n"), "{name}: no end of the body: {received}");
        let over_h2 = h2(gateway.addr()).await.try_request("GET", "/public/cut", &[], b"").await;
        assert!(over_h2.is_err(), "{name}, HTTP/2: {over_h2:?}");
    }
    let chunks = origin.stream("/public/aborted");
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send("GET /public/aborted HTTP/1.1\r\nHost: g\r\n\r\n").await;
    chunks.send("one");
    conn.read_until(&chunk("one")).await;
    chunks.abort();
    assert_eq!(conn.read_to_close().await, b"");
    origin.behave("/public/gone", Behaviour::CloseBeforeHead);
    let gone = client::get(gateway.addr(), "/public/gone", &[]).await;
    assert_eq!(
        (gone.status, &gone.json()["code"]),
        (502, &json!("upstream_failed")),
        "before the head the gateway can still respond with an error"
    );
}

/// DO-3: `body_idle_timeout` also applies to the body of a response.
#[tokio::test]
async fn body_idle_timeout_aborts_a_stalled_response() {
    let Fixture { gateway, origin, .. } =
        &Fixture::start(config().add("server", "body_idle_timeout = \"100ms\"")).await;
    origin.behave("/public/stall", Behaviour::Stall { sent: "some".into() });
    let received = client::raw(gateway.addr(), "GET /public/stall HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert!(received.ends_with(&chunk("some")), "{received}");
    origin.wait_for_open_connections(0).await;
    let line = only_access_line(gateway).await;
    assert_eq!((&line["status"], &line["bytes_out"]), (&json!(200), &json!(4)));
}

/// DO-3: an upstream that does not read the request's body is not reported as a slow client.
#[tokio::test]
async fn an_upstream_that_does_not_read_the_request_body_is_504() {
    // The kernel accepts the connection; no process ever reads from it.
    let unread = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let config = unlimited()
        .main_server(unread.local_addr().expect("bound"))
        .add("upstreams.main", "response_timeout = \"100ms\"");
    let fixture = Fixture::start(config).await;
    let body = vec![b'y'; 32 * MIB];
    let mut conn = fixture.connect().await;
    conn.send(format!("PUT /unlimited/a HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    // The response may arrive before the body is sent.
    let _ = conn.try_send(&body).await;
    let response = conn.read_response().await;
    assert_eq!((response.status, &response.json()["code"]), (504, &json!("upstream_timeout")));
}

/// A85 and similar: the missing rest of a body must not become the head of the next request.
#[tokio::test]
async fn never_reuses_a_connection_with_an_unfinished_request_body() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let fixture = Fixture::start(config().main_server(upstream.local_addr().expect("bound"))).await;
    let mut conn = fixture.connect().await;
    conn.send("POST /public/early HTTP/1.1\r\nHost: g\r\nContent-Length: 10\r\n\r\nhello").await;
    let (mut cut_short, _) = with_deadline("the first connection", upstream.accept()).await.expect("accepted");
    respond_after("hello", &mut cut_short).await;
    assert_eq!(conn.read_response().await.text(), "ok", "the response came before the body was complete");
    let other = async {
        let (mut second, _) = with_deadline("a second connection", upstream.accept()).await.expect("accepted");
        respond_after("\r\n\r\n", &mut second).await;
    };
    let (next, ()) = tokio::join!(fixture.get("/public/next", &[]), other);
    assert_eq!(next.text(), "ok");
    let mut rest = String::new();
    with_deadline("the first connection's end", cut_short.read_to_string(&mut rest))
        .await
        .expect("closed without an error");
    assert_eq!(rest, "", "no more bytes on the first connection");
}

/// Reads up to `mark` and responds with `ok`.
async fn respond_after(mark: &str, stream: &mut TcpStream) {
    let mut received = Vec::new();
    while !received.ends_with(mark.as_bytes()) {
        assert_ne!(with_deadline(mark, stream.read_buf(&mut received)).await.expect("readable"), 0, "{received:?}");
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("writable");
}

/// C6: bodies are counted without their framing, as they crossed the gateway.
#[tokio::test]
async fn the_access_log_counts_the_bytes_of_both_bodies() {
    let Fixture { gateway, origin, .. } = &Fixture::start(config().add("server", "max_body_size = \"1 MiB\"")).await;
    origin.behave("/public/fixed", Behaviour::response(200, &[], "0123456"));
    origin.behave("/public/large", Behaviour::Large(300_000));
    origin.behave("/public/none", Behaviour::response(204, &[], ""));
    let chunks = origin.stream("/public/stream");
    for piece in ["ab", "cde"] {
        chunks.send(piece);
    }
    chunks.finish();
    let large = vec![b'x'; 200_000];
    let mut expected = Vec::new();
    for (method, target, body, status, bytes_in, bytes_out) in [
        ("GET", "/public/fixed", &b""[..], 200, 0, 7),
        ("HEAD", "/public/fixed", b"", 200, 0, 0),
        ("GET", "/public/large", b"", 200, 0, 300_000),
        ("GET", "/public/stream", b"", 200, 0, 5),
        ("PUT", "/public/fixed", &large, 200, 200_000, 7),
        ("POST", "/public/none", b"hello", 204, 5, 0),
    ] {
        let response = client::request(gateway.addr(), method, target, &[], body).await;
        assert_eq!((response.status, response.body.len()), (status, bytes_out), "{method} {target}");
        expected.push(json!([method, target, status, bytes_in, bytes_out]));
    }
    let refused = client::get(gateway.addr(), "/token/a", &[]).await;
    expected.push(json!(["GET", "/token/a", 401, 0, refused.body.len()]));
    let mut conn = Conn::open(gateway.addr()).await;
    conn.send("POST /public/none HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    conn.send(chunk("hello") + &chunk(" world") + "0\r\n\r\n").await;
    assert_eq!(conn.read_response().await.status, 204);
    expected.push(json!(["POST", "/public/none", 204, 11, 0]));
    let over_h2 = h2(gateway.addr()).await.request("PUT", "/public/fixed", &[], &large).await;
    assert_eq!(over_h2.body.len(), 7);
    expected.push(json!(["PUT", "/public/fixed", 200, 200_000, 7]));
    let lines = gateway.wait_for_access_lines(expected.len()).await;
    let seen = lines
        .iter()
        .map(|line| json!([line["method"], line["path"], line["status"], line["bytes_in"], line["bytes_out"]]));
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

/// `body_idle_timeout` of a route comes before that of its upstream, and that before the server's;
/// each may set the request's and the response's by themselves.
#[tokio::test]
async fn a_quiet_stream_may_pause_for_as_long_as_its_route_or_upstream_allows() {
    let config = Config::minimal()
        .one_worker()
        .add("server", "body_idle_timeout = \"50ms\"")
        .add("upstreams.main", "body_idle_timeout = { response = \"60s\" }")
        .route("events", "access = \"public\"")
        .route("upload", "access = \"public\"\nbody_idle_timeout = { request = \"60s\" }")
        .route("brief", "access = \"public\"\nbody_idle_timeout = \"50ms\"");
    let fixture = Fixture::start(config).await;
    let events = fixture.origin.stream("/events/1");
    let brief = fixture.origin.stream("/brief/1");
    let mut quiet = fixture.connect().await;
    quiet.send("GET /events/1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(quiet.read_head().await.status, 200);
    let head = "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
    let mut uploading = fixture.connect().await;
    uploading.send(format!("POST /upload/1 {head}")).await;
    fixture.origin.wait_until("the first piece", |all| all.iter().any(|request| request.body == "one")).await;

    // These end by the shorter timeouts, after the others have begun to pause.
    let mut cut_off = fixture.connect().await;
    cut_off.send("GET /brief/1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(cut_off.read_head().await.status, 200);
    cut_off.read_to_close().await;
    brief.wait_for_close().await;
    for target in ["/events/2", "/brief/2"] {
        let mut slow = fixture.connect().await;
        slow.send(format!("POST {target} {head}")).await;
        assert_eq!(slow.read_response().await.status, 408, "{target}: the response's timeout is not the request's");
    }

    events.send("late");
    quiet.read_until("late").await;
    uploading.send("3\r\ntwo\r\n0\r\n\r\n").await;
    assert_eq!(uploading.read_response().await.json()["body"], "onetwo");
}
