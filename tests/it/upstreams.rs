//! Forwarding to upstreams: which connection a request uses, which requests wait, and what happens
//! when the upstream fails.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::client;
use crate::support::closed_port;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, Origin};
use crate::support::raw_origin::{RawOrigin, Step};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Adds the upstream `name` with further keys, and the public route `/NAME/*` to it.
fn with_upstream(config: Config, name: &str, servers: &[SocketAddr], keys: &str) -> Config {
    config.upstream(name, servers, keys).route(name, &format!("access = \"public\"\nupstream = \"{name}\""))
}

/// The same with one worker.
fn upstream(name: &str, servers: &[SocketAddr], keys: &str) -> Config {
    with_upstream(Config::minimal().one_worker(), name, servers, keys)
}

fn connections(name: &str, state: &str) -> String {
    format!("portcullis_upstream_connections{{upstream=\"{name}\",state=\"{state}\"}}")
}

/// A request waits for a connection as long as it would for a response, and not beyond the route's
/// `timeout`. Which of them it was, the response says.
#[tokio::test]
async fn the_wait_for_a_connection_is_limited() {
    let origin = Origin::start().await;
    let held = "max_connections = 1\nresponse_timeout = ";
    let config = with_upstream(Config::minimal(), "brief", &[origin.addr()], &format!("{held}\"100ms\""));
    let config = with_upstream(config, "long", &[origin.addr()], &format!("{held}\"1h\""))
        .route("patient", "access = \"public\"\nupstream = \"brief\"\ntimeout = \"1h\"")
        .route("hurried", "access = \"public\"\nupstream = \"long\"\ntimeout = \"100ms\"");
    let fixture = Fixture::start(config).await;
    let mut holders = Vec::new();
    for path in ["/brief/held", "/long/held"] {
        holders.push((origin.stream(path), fixture.connect().await));
        let (_, conn) = holders.last_mut().expect("pushed above");
        conn.send(format!("GET {path} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
        assert_eq!(conn.read_head().await.status, 200, "{path}");
    }
    for (path, status, code) in [
        ("/brief/a", 503, "upstream_busy"),
        ("/patient/a", 503, "upstream_busy"),
        ("/hurried/a", 504, "upstream_timeout"),
    ] {
        let response = fixture.get(path, &[]).await;
        assert_eq!((response.status, &response.json()["code"]), (status, &json!(code)), "{path}");
    }
}

/// RFC 9112 §9.3: a connection whose response was read to its end carries the next request,
/// whatever kind of response it was.
#[tokio::test]
async fn consecutive_requests_reuse_one_connection() {
    let fixture = Fixture::start(Config::minimal().one_worker()).await;
    fixture.origin.behave("/public/204", Behaviour::response(204, &[], ""));
    fixture.origin.behave("/public/304", Behaviour::response(304, &[], ""));
    fixture.origin.behave("/public/large", Behaviour::Large(300_000));
    for (method, path, body, status) in [
        ("GET", "/public/1", &b""[..], 200),
        ("POST", "/public/1", b"some", 200),
        ("HEAD", "/public/1", b"", 200),
        ("GET", "/public/204", b"", 204),
        ("GET", "/public/304", b"", 304),
        ("GET", "/public/large", b"", 200),
        ("DELETE", "/public/1", b"", 200),
    ] {
        assert_eq!(fixture.request(method, path, &[], body).await.status, status, "{method} {path}");
    }
    assert_eq!((fixture.origin.requests().len(), fixture.origin.connections()), (7, 1));
    let samples = fixture.gateway.metrics().await;
    for (state, count) in [("active", 0), ("idle", 1), ("pending", 0)] {
        assert_eq!(samples.count(&connections("main", state)), count, "{state}");
    }
    assert_eq!(samples.count(r#"portcullis_upstream_duration_seconds_count{upstream="main"}"#), 7);
    assert_eq!(samples.count(r#"portcullis_upstream_retries_total{upstream="main",reason="stale"}"#), 0);
}

/// `keep_alive`: the gateway closes an idle connection before the server does.
#[tokio::test]
async fn closes_an_idle_upstream_connection_after_keep_alive() {
    let origin = Origin::start().await;
    let fixture = Fixture::start(upstream("brief", &[origin.addr()], "keep_alive = \"50ms\"")).await;
    assert_eq!(fixture.get("/brief/1", &[]).await.status, 200);
    origin.wait_for_open_connections(0).await;
    assert_eq!(fixture.gateway.count(&connections("brief", "idle")).await, 0);
    assert_eq!(fixture.get("/brief/2", &[]).await.status, 200);
    assert_eq!(origin.connections(), 2);
}

/// RFC 9110 §9.2.2, RFC 9112 §9.3.1: a request that meets a reused connection as it closes is sent
/// again only if it is idempotent and has no body; never on a fresh connection, and never twice.
#[tokio::test]
async fn retries_once_on_a_stale_connection_if_the_request_is_safe_to_repeat() {
    let response = || Step::response(OK);
    for (name, steps, method, body, status, requests, retries) in [
        ("GET", vec![response(), Step::Close, response()], "GET", &b""[..], 200, 3, 1),
        ("GET, reset", vec![response(), Step::Reset, response()], "GET", b"", 200, 3, 1),
        (
            "GET, answered with nonsense",
            vec![response(), Step::response("no\r\n\r\n"), response()],
            "GET",
            b"",
            502,
            2,
            0,
        ),
        ("PUT without body", vec![response(), Step::Close, response()], "PUT", b"", 200, 3, 1),
        ("DELETE", vec![response(), Step::Close, response()], "DELETE", b"", 200, 3, 1),
        ("POST without body", vec![response(), Step::Close, response()], "POST", b"", 502, 2, 0),
        ("POST with a body", vec![response(), Step::Close, response()], "POST", b"pay", 502, 2, 0),
        ("PUT with a body", vec![response(), Step::Close, response()], "PUT", b"pay", 502, 2, 0),
        ("only one retry", vec![response(), Step::Close, Step::Close, response()], "GET", b"", 502, 3, 1),
        ("a fresh connection", vec![Step::Close, response()], "GET", b"", 502, 1, 0),
    ] {
        let first_is_fresh = matches!(steps[0], Step::Close);
        let origin = RawOrigin::start(steps).await;
        let fixture = Fixture::start(upstream("raw", &[origin.addr()], "")).await;
        if !first_is_fresh {
            assert_eq!(fixture.get("/raw/warm-up", &[]).await.status, 200, "{name}");
        }
        let response = fixture.request(method, "/raw/1", &[], body).await;
        assert_eq!(response.status, status, "{name}: {}", response.text());
        if status == 502 {
            assert_eq!(response.json()["code"], "upstream_failed", "{name}");
        }
        let seen: usize = origin.received().iter().map(|bytes| bytes.matches(" HTTP/1.1\r\n").count()).sum();
        assert_eq!(seen, requests, "{name}");
        let retried = r#"portcullis_upstream_retries_total{upstream="raw",reason="stale"}"#;
        assert_eq!(fixture.gateway.count(retried).await, retries, "{name}");
    }
}

/// A server that closes after each response, as many do, costs connections but causes no failures.
#[tokio::test]
async fn a_server_that_closes_after_each_response_causes_no_errors() {
    let with_close = OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    for (name, text) in [("announced", &*with_close), ("not announced", OK)] {
        let origin = RawOrigin::start((0..8).map(|_| Step::response_and_close(text))).await;
        let fixture = Fixture::start(upstream("raw", &[origin.addr()], "")).await;
        for request in 0..5 {
            let response = fixture.get("/raw/1", &[]).await;
            assert_eq!((response.status, &*response.text()), (200, "ok"), "{name}, {request}: {}", response.text());
            assert_eq!(response.header("connection"), Some("close"), "the client asked for it");
        }
    }
}

/// Threats FR-10, FR-12, U2: a connection whose response was not read to its end, or whose request
/// was not sent to its end, is never used again.
#[tokio::test]
async fn never_reuses_a_connection_with_an_unfinished_request_or_response() {
    let fixture = Fixture::start(Config::minimal().one_worker()).await;
    let chunks = fixture.origin.stream("/public/stream");
    let mut disconnecting = fixture.connect().await;
    disconnecting.send("GET /public/stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(disconnecting.read_head().await.status, 200);
    chunks.send("part");
    disconnecting.read_until("part").await;
    assert_eq!(fixture.gateway.count(&connections("main", "active")).await, 1);
    drop(disconnecting);
    chunks.wait_for_close().await;
    fixture.origin.wait_for_open_connections(0).await;
    assert_eq!(fixture.get("/public/tag-1", &[]).await.json()["target"], "/public/tag-1", "its own response");
    assert_eq!(fixture.origin.connections(), 2);

    fixture.origin.behave("/public/early", Behaviour::EarlyResponse { status: 403 });
    let mut uploading = fixture.connect().await;
    uploading.send("POST /public/early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nGET /public/hidden HTTP/1.1\r\n\r\n").await;
    assert_eq!(uploading.read_head().await.status, 403);
    drop(uploading);
    assert_eq!(fixture.get("/public/tag-2", &[]).await.json()["target"], "/public/tag-2", "its own response");
    assert_eq!(fixture.origin.connections(), 3, "the connection with an unfinished request is closed");
    assert!(fixture.origin.requests().iter().all(|request| request.target != "/public/hidden"));
}

/// `max_connections`, `max_pending`: one request is active, one waits, the next is
/// refused at once.
#[tokio::test]
async fn a_full_server_makes_some_wait_and_tells_the_rest() {
    let origin = Origin::start().await;
    let keys = "max_connections = 1\nmax_pending = 1";
    let fixture = Fixture::start(upstream("small", &[origin.addr()], keys)).await;
    let chunks = origin.stream("/small/first");
    let mut first = fixture.connect().await;
    first.send("GET /small/first HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(first.read_head().await.status, 200);
    let mut second = fixture.connect().await;
    second.send("GET /small/second HTTP/1.1\r\nHost: a\r\n\r\n").await;
    fixture.gateway.wait_for_metric(&connections("small", "pending"), 1.0).await;
    let third = fixture.get("/small/third", &[]).await;
    assert_eq!((third.status, &third.json()["code"]), (503, &json!("upstream_busy")));
    assert_eq!(fixture.gateway.count(&connections("small", "pending")).await, 1, "the third request never waited");
    chunks.finish();
    assert_eq!(second.read_response().await.json()["target"], "/small/second");
    let targets: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/small/first", "/small/second"]);
    let rejected = r#"portcullis_rejections_total{route="small",code="upstream_busy"}"#;
    assert_eq!(fixture.gateway.count(rejected).await, 1);
}

/// A client that disconnects frees what it held: a connection or a place in the queue. Threat A118.
#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let origin = Origin::start().await;
    origin.behave("/small/hang", Behaviour::Hang);
    let keys = "max_connections = 1\nmax_pending = 1";
    let fixture = Fixture::start(upstream("small", &[origin.addr()], keys)).await;
    for round in 1..=3 {
        let mut active = fixture.connect().await;
        active.send("GET /small/hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        origin.wait_for_open_connections(1).await;
        fixture.gateway.wait_for_metric(&connections("small", "active"), 1.0).await;
        let mut waiting = fixture.connect().await;
        waiting.send("GET /small/never HTTP/1.1\r\nHost: a\r\n\r\n").await;
        fixture.gateway.wait_for_metric(&connections("small", "pending"), 1.0).await;
        drop(waiting);
        let lines = fixture.gateway.wait_for_access_lines(3 * round - 2).await;
        assert_eq!(lines[3 * round - 3]["status"], 499, "{lines:?}");
        assert_eq!(fixture.gateway.count(&connections("small", "pending")).await, 0);
        drop(active);
        let lines = fixture.gateway.wait_for_access_lines(3 * round - 1).await;
        assert_eq!(
            (&lines[3 * round - 2]["status"], &lines[3 * round - 2]["reason"]),
            (&json!(499), &json!("client left"))
        );
        assert_eq!(fixture.get("/small/good", &[]).await.status, 200, "round {round}");
        fixture.gateway.wait_for_access_lines(3 * round).await;
        assert_eq!(fixture.gateway.count(&connections("small", "active")).await, 0);
    }
    assert!(origin.requests().iter().all(|request| request.target != "/small/never"));
}

/// `response_timeout` also bounds the wait for a connection.
#[tokio::test]
async fn waiting_for_a_connection_ends_after_response_timeout() {
    let origin = Origin::start().await;
    let keys = "max_connections = 1\nresponse_timeout = \"100ms\"";
    let fixture = Fixture::start(upstream("small", &[origin.addr()], keys)).await;
    let _chunks = origin.stream("/small/first");
    let mut first = fixture.connect().await;
    first.send("GET /small/first HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(first.read_head().await.status, 200);
    let second = fixture.get("/small/second", &[]).await;
    assert_eq!((second.status, &second.json()["code"]), (503, &json!("upstream_busy")));
}

/// How upstream failures look to a client: fixed texts, and no bytes of the upstream's.
#[tokio::test]
async fn each_kind_of_upstream_failure_has_its_status_and_code() {
    let huge = format!("HTTP/1.1 200 OK\r\nX-Huge: {}\r\n\r\n", "x".repeat(70_000));
    let cases = [
        ("garbage", Step::response_and_close("secret nonsense\r\n\r\n"), 502, "upstream_failed"),
        (
            "two-lengths",
            Step::response("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nsecret"),
            502,
            "upstream_failed",
        ),
        ("huge-head", Step::response(huge), 502, "upstream_failed"),
        ("half-a-head", Step::response_and_close("HTTP/1.1 200 OK\r\nX-Secret: 1"), 502, "upstream_failed"),
        ("closes", Step::Close, 502, "upstream_failed"),
        (
            "switches-unasked",
            Step::response("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nsecret"),
            502,
            "upstream_failed",
        ),
        // Half a status line, and then nothing.
        ("silent", Step::response("HTTP/1.1 2"), 504, "upstream_timeout"),
    ];
    let mut config = with_upstream(Config::minimal(), "unreachable", &[closed_port()], "");
    let mut origins = Vec::new();
    for (name, step, ..) in &cases {
        let origin = RawOrigin::start([step.clone()]).await;
        config = with_upstream(config, name, &[origin.addr()], "response_timeout = \"100ms\"");
        origins.push(origin);
    }
    let fixture = Fixture::start(config).await;
    let expected = cases.iter().map(|(name, _, status, code)| (*name, *status, *code));
    for (name, status, code) in expected.chain([("unreachable", 502, "upstream_unreachable")]) {
        let response = fixture.get(&format!("/{name}/1"), &[]).await;
        assert_eq!((response.status, &response.json()["code"]), (status, &json!(code)), "{name}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{name}");
        assert!(!format!("{:?}{}", response.headers, response.text()).to_lowercase().contains("secret"), "{name}");
        let sample = format!("portcullis_rejections_total{{route=\"{name}\",code=\"{code}\"}}");
        assert_eq!(fixture.gateway.count(&sample).await, 1, "{name}");
        assert_eq!(fixture.gateway.count(&connections(name, "idle")).await, 0, "{name}: not used again");
    }
}

/// `timeout`: bounds the request and the response, before the head and after it.
#[tokio::test]
async fn the_route_timeout_covers_the_request_and_the_whole_response() {
    let config = Config::minimal().route("timed", "access = \"public\"\ntimeout = \"100ms\"");
    let fixture = Fixture::start(config).await;
    fixture.origin.behave("/timed/hang", Behaviour::Hang);
    fixture.origin.behave("/timed/stall", Behaviour::Stall { sent: "part".into() });
    let hanging = fixture.get("/timed/hang", &[]).await;
    assert_eq!((hanging.status, &hanging.json()["code"]), (504, &json!("upstream_timeout")));
    let stalled = client::raw(fixture.gateway.addr(), "GET /timed/stall HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(stalled.contains("part") && !stalled.ends_with("0\r\n\r\n"), "cut off without an end: {stalled}");
    fixture.origin.wait_for_open_connections(0).await;
    assert_eq!(fixture.get("/timed/1", &[]).await.status, 200);
}

/// A client that reads more slowly than the upstream sends makes the next bytes always available,
/// so that the gateway never waits for them.
#[tokio::test]
async fn the_route_timeout_also_ends_a_response_that_never_pauses() {
    let config = Config::minimal().route("timed", "access = \"public\"\ntimeout = \"100ms\"");
    let fixture = Fixture::start(config).await;
    fixture.origin.behave("/timed/flood", Behaviour::Large(1 << 40));
    let mut client = fixture.connect().await;
    client.send("GET /timed/flood HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.read_head().await.status, 200);
    client.read_slowly_to_close().await;
    fixture.origin.wait_for_open_connections(0).await;
}

/// `response_timeout` starts at the end of the request: a long upload is not a slow
/// upstream.
#[tokio::test]
async fn response_timeout_starts_after_the_end_of_the_request() {
    let origin = Origin::start().await;
    origin.behave("/brief/hang", Behaviour::Hang);
    let fixture = Fixture::start(upstream("brief", &[origin.addr()], "response_timeout = \"100ms\"")).await;
    let mut uploading = fixture.connect().await;
    uploading.send("POST /brief/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await;
    origin.wait_until("the first piece", |all| all.iter().any(|request| request.body == "one")).await;
    // Each of these takes as long as the timeout, so the upload takes longer.
    for _ in 0..3 {
        assert_eq!(fixture.get("/brief/hang", &[]).await.status, 504);
    }
    uploading.send("3\r\ntwo\r\n0\r\n\r\n").await;
    let response = uploading.read_response().await;
    assert_eq!((response.status, &response.json()["body"]), (200, &json!("onetwo")));
}

/// A reload that changes an upstream closes its connections; any other reload keeps them.
#[tokio::test]
async fn a_reload_drops_the_pools_of_changed_upstreams_only() {
    let origin = Origin::start().await;
    let before = upstream("pooled", &[origin.addr()], "keep_alive = \"60s\"");
    let fixture = Fixture::start(before.clone()).await;
    assert_eq!(fixture.get("/pooled/1", &[]).await.status, 200);
    fixture.reload(before.clone().add("routes.pooled", "remove_headers = [\"X-Debug\"]")).await;
    assert_eq!(fixture.get("/pooled/2", &[]).await.status, 200);
    assert_eq!(origin.connections(), 1, "the route changed, not the upstream");

    // A request that began under the old settings ends under them, and its connection is not kept.
    let chunks = origin.stream("/pooled/stream");
    let mut old = fixture.connect().await;
    old.send("GET /pooled/stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(old.read_head().await.status, 200);
    fixture.reload(before.replace("upstreams.pooled", "keep_alive = \"59s\"")).await;
    assert_eq!(fixture.get("/pooled/3", &[]).await.status, 200);
    assert_eq!(origin.connections(), 2);
    chunks.send("last");
    chunks.finish();
    old.read_until("last\r\n0\r\n\r\n").await;
    origin.wait_for_open_connections(1).await;
    assert_eq!(fixture.get("/pooled/4", &[]).await.status, 200);
    assert_eq!(origin.connections(), 2);
    assert_eq!(fixture.gateway.count(&connections("pooled", "idle")).await, 1);
}
