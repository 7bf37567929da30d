//! Upgrades (RFC 9110 §7.8): a WebSocket or another protocol passes after authorization, and only
//! once the upstream has agreed.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::client::{self, Conn};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::nginx::Nginx;
use crate::support::origin::{Behaviour, Origin};
use crate::support::raw_origin::RawOrigin;
use crate::support::server::bind;
use crate::support::with_deadline;

/// A request for a WebSocket (RFC 6455 §4.1) with further field lines.
fn upgrade_request(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
}

fn authorization(fixture: &Fixture) -> String {
    format!("Authorization: {}\r\n", fixture.bearer("alice"))
}

/// Sends text through a tunnel and waits for its echo.
async fn echo(conn: &mut Conn, text: &str) {
    conn.send(text).await;
    assert_eq!(String::from_utf8_lossy(&conn.read_bytes(text.len()).await), text);
}

/// Threats UP-2, A80: no tunnel without a token, and none before the upstream's 101.
#[tokio::test]
async fn a_tunnel_opens_after_authorization_and_the_upstreams_101() {
    let fixture = Fixture::start(Config::minimal()).await;
    fixture.origin.behave("/token/ws", Behaviour::Upgrade);

    let mut unauthenticated = fixture.connect().await;
    unauthenticated.send(upgrade_request("/token/ws", "") + "early bytes").await;
    let refused = unauthenticated.read_response().await;
    assert_eq!((refused.status, &refused.json()["code"]), (401, &json!("credentials_missing")));
    assert!(fixture.origin.requests().is_empty() && fixture.origin.connections() == 0);

    let mut conn = fixture.connect().await;
    conn.send(upgrade_request("/token/ws", &(authorization(&fixture) + "X-Identity-Subject: mallory\r\n"))).await;
    let switched = conn.read_response().await;
    assert_eq!((switched.status, switched.header("upgrade")), (101, Some("websocket")));
    assert!(switched.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert!(switched.header("x-request-id").is_some());
    echo(&mut conn, "ping").await;
    let seen = &fixture.origin.requests()[0];
    assert_eq!((seen.header("upgrade"), seen.header("connection")), (Some("websocket"), Some("upgrade")));
    assert_eq!((seen.header("x-identity-subject"), seen.header("authorization")), (Some("alice"), None));
    assert_eq!(seen.header("sec-websocket-version"), Some("13"));
    echo(&mut conn, &"x".repeat(100_000)).await;

    // The tunnel is logged once, when it ends, with the bytes that passed through it.
    assert_eq!(fixture.gateway.wait_for_access_lines(1).await.len(), 1, "only the refused request");
    drop(conn);
    fixture.origin.wait_for_open_connections(0).await;
    let lines = fixture.gateway.wait_for_access_lines(2).await;
    let expect = json!([101, 100_004, 100_004, "token", "main"]);
    let line = &lines[1];
    assert_eq!(json!([line["status"], line["bytes_in"], line["bytes_out"], line["route"], line["upstream"]]), expect);
    fixture.gateway.wait_for_metric(r#"portcullis_requests_total{route="token",method="GET",status="101"}"#, 1.0).await;
}

/// The connection looks for request heads, and changes some of them, but not in a tunnel.
#[tokio::test]
async fn a_tunnel_changes_nothing_that_looks_like_a_request() {
    let fixture = Fixture::start(Config::minimal()).await;
    fixture.origin.behave("/public/ws", Behaviour::Upgrade);
    let mut conn = open_public_tunnel(&fixture).await;
    let request = "GET /public/a?\" HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    echo(&mut conn, request).await;
    echo(&mut conn, request).await;
}

/// Threats UP-2, A80: bytes that the client sends early are held until the upstream has agreed.
#[tokio::test]
async fn no_byte_of_the_new_protocol_passes_before_the_101() {
    let origin = RawOrigin::start([]).await;
    let config = Config::minimal()
        .upstream("raw", &[origin.addr()], "response_timeout = \"100ms\"")
        .route("raw", "access = \"public\"\nupstream = \"raw\"");
    let fixture = Fixture::start(config).await;
    let mut conn = fixture.connect().await;
    conn.send(upgrade_request("/raw/ws", "") + "GET /raw/early HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(conn.read_response().await.status, 504, "the upstream never responded");
    let received = origin.received();
    assert!(received[0].starts_with("GET /raw/ws HTTP/1.1\r\n") && received[0].ends_with("\r\n\r\n"), "{received:?}");
    assert!(!received[0].contains("early"), "{received:?}");
}

/// RFC 9110 §7.8: a server may ignore the upgrade. Its response is then an ordinary one, and the
/// connection goes on as usual.
#[tokio::test]
async fn an_upstream_that_ignores_the_upgrade_responds_as_usual() {
    let fixture = Fixture::start(Config::minimal()).await;
    let mut conn = fixture.connect().await;
    // The second head is changed on its way, so it is known to be one.
    for (path, target) in [("/public/1", "/public/1"), ("/public/2?\"", "/public/2?%22")] {
        conn.send(upgrade_request(path, "")).await;
        let response = conn.read_response().await;
        assert_eq!((response.status, &response.json()["target"]), (200, &json!(target)));
        assert_eq!(response.header("upgrade"), None);
    }
    assert_eq!(conn.request("GET", "/token/1", &[], b"").await.status, 401, "each request is authorized separately");
}

/// RFC 9110 §15.5.22, and RFC 9113 §8.6: HTTP/2 has no such field.
#[tokio::test]
async fn a_426_says_which_protocol_the_client_has_to_use() {
    let fixture = Fixture::start(Config::minimal()).await;
    for (name, status, upgrade) in [("required", 426, Some("websocket")), ("only offered", 200, None)] {
        let fields = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
        fixture.origin.behave("/public/ws", Behaviour::response(status, &fields, "no"));
        let response = fixture.connect().await.request("GET", "/public/ws", &[], b"").await;
        assert_eq!((response.status, response.header("upgrade")), (status, upgrade), "{name}");
        let option = response.headers_named("connection").iter().any(|value| value.eq_ignore_ascii_case("upgrade"));
        assert_eq!(option, upgrade.is_some(), "{name}");
        let response = client::h2(fixture.gateway.addr()).await.get("/public/ws", &[]).await;
        assert_eq!((response.status, response.header("upgrade")), (status, None), "{name}, HTTP/2");
        assert_eq!((response.header("connection"), response.header("sec-websocket-version")), (None, Some("13")));
    }
}

/// RFC 9110 §7.8; threats UP-1, UP-3, A90: a server may ignore an upgrade. Those to another HTTP
/// and to TLS would change who parses the following bytes, so the upstream does not learn of them.
/// The client gets its response in HTTP/1.1, and what it sends next is a request of its own.
#[tokio::test]
async fn an_offer_to_upgrade_that_is_not_passed_on_is_dropped() {
    let fixture = Fixture::start(Config::minimal()).await;
    fixture.origin.behave("/public/ws", Behaviour::Upgrade);
    let bearer = fixture.bearer("alice");
    for (name, lines) in [
        ("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ("a draft of it", "Connection: upgrade\r\nUpgrade: h2c-14\r\n"),
        ("another case", "Connection: upgrade\r\nUpgrade: H2C\r\n"),
        ("TLS (RFC 2817)", "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n"),
        ("HTTP itself", "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n"),
        ("several of them", "Connection: Upgrade\r\nUpgrade: HTTP/2.0, h2c\r\nUpgrade: TLS/1.0\r\n"),
        ("several others", "Connection: Upgrade\r\nUpgrade: websocket, chat\r\n"),
        ("two fields", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: chat\r\n"),
        ("malformed", "Connection: Upgrade\r\nUpgrade: websocket/\r\n"),
        ("empty", "Connection: Upgrade\r\nUpgrade:\r\n"),
    ] {
        let before = fixture.origin.requests().len();
        let mut conn = fixture.connect().await;
        let hidden = "GET /token/hidden HTTP/1.1\r\nHost: a\r\n\r\n";
        conn.send(format!("GET /public/ws2 HTTP/1.1\r\nHost: a\r\n{lines}\r\n{hidden}")).await;
        let response = conn.read_response().await;
        assert_eq!(response.status, 200, "{name}: {}", response.text());
        assert_eq!((response.header("upgrade"), response.header("connection")), (None, None), "{name}");
        assert_eq!(conn.read_response().await.status, 401, "{name}: what follows is authorized by itself");
        let authorized = format!("GET /token/next HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\n{lines}\r\n");
        conn.send(authorized).await;
        assert_eq!(conn.read_response().await.status, 200, "{name}: with a token");
        let seen = fixture.origin.requests().split_off(before);
        assert_eq!(seen.iter().map(|seen| &*seen.target).collect::<Vec<_>>(), ["/public/ws2", "/token/next"], "{name}");
        for field in ["upgrade", "connection", "http2-settings"] {
            assert!(seen.iter().all(|seen| seen.header(field).is_none()), "{name}: {field}");
        }
    }
    for (name, upgrade) in [("after h2c", "h2c, websocket"), ("before TLS", "websocket, TLS/1.2")] {
        let mut conn = fixture.connect().await;
        conn.send(format!("GET /public/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"))
            .await;
        let switched = conn.read_response().await;
        assert_eq!((switched.status, switched.header("upgrade")), (101, Some("websocket")), "{name}");
        echo(&mut conn, "ping").await;
        assert_eq!(fixture.origin.requests().pop().expect(name).header("upgrade"), Some("websocket"), "{name}");
    }
}

/// Threats UP-1, A90: a client that switches without waiting for the 101 has its bytes read as
/// HTTP/1.1, and none of them reaches the upstream.
#[tokio::test]
async fn bytes_of_a_protocol_that_was_not_agreed_reach_no_upstream() {
    let fixture = Fixture::start(Config::minimal()).await;
    for (name, protocol, bytes, answer) in [
        ("HTTP/2", "h2c", &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], &b""[..]),
        ("TLS", "TLS/1.2", b"\x16\x03\x01\0\x05\x01\0\0\x01\x03", b"HTTP/1.1 400 "),
    ] {
        let before = fixture.origin.requests().len();
        let mut conn = fixture.connect().await;
        let head = format!("GET /public/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        conn.send([head.as_bytes(), bytes].concat()).await;
        assert_eq!(conn.read_response().await.status, 200, "{name}");
        let rest = conn.read_to_close().await;
        assert!(rest.starts_with(answer), "{name}: {}", String::from_utf8_lossy(&rest));
        assert_eq!(rest.is_empty(), answer.is_empty(), "{name}: {}", String::from_utf8_lossy(&rest));
        assert_eq!(fixture.origin.requests().len(), before + 1, "{name}");
    }
}

/// RFC 9110 §7.8: an upgrade that the gateway cannot pass on is ignored.
#[tokio::test]
async fn an_upgrade_that_cannot_be_passed_on_is_removed() {
    let fixture = Fixture::start(Config::minimal()).await;
    for (name, request) in [
        ("not named by Connection", "GET /public/1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"),
        (
            "with a body",
            "POST /public/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi",
        ),
        ("HTTP/1.0", "GET /public/1 HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ] {
        let mut conn = fixture.connect().await;
        conn.send(request).await;
        let response = conn.read_response().await;
        assert_eq!(response.status, 200, "{name}: {}", response.text());
        let seen = fixture.origin.requests().pop().expect(name);
        assert_eq!((seen.header("upgrade"), seen.header("connection")), (None, None), "{name}");
    }
}

/// A tunnel counts as an upstream connection until it ends.
#[tokio::test]
async fn a_tunnel_counts_towards_max_connections() {
    let origin = Origin::start().await;
    origin.behave("/slot/ws", Behaviour::Upgrade);
    let config = Config::minimal()
        .upstream("slot", &[origin.addr()], "max_connections = 1")
        .route("slot", "access = \"public\"\nupstream = \"slot\"");
    let fixture = Fixture::start(config).await;
    let mut tunnel = fixture.connect().await;
    tunnel.send(upgrade_request("/slot/ws", "")).await;
    assert_eq!(tunnel.read_response().await.status, 101);
    echo(&mut tunnel, "ping").await;
    let mut waiting = fixture.connect().await;
    waiting.send("GET /slot/1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    fixture.gateway.wait_for_metric(r#"portcullis_upstream_connections{upstream="slot",state="pending"}"#, 1.0).await;
    assert_eq!(origin.requests().len(), 1);
    drop(tunnel);
    assert_eq!(waiting.read_response().await.status, 200);
}

/// A request for a tunnel to the upstream `ws` as the client `127.0.0.HOST`. Returns the connection
/// and the status.
async fn open_tunnel_as(host: u8, fixture: &Fixture) -> (Conn, u16) {
    let mut conn = Conn::open_as(host, fixture.gateway.addr()).await;
    conn.send(upgrade_request("/ws/a", "")).await;
    let status = conn.read_response().await.status;
    (conn, status)
}

/// A gateway with the upstream `ws`, which agrees to every upgrade, and a public route to it.
async fn start_with_tunnels(upstream: &str, route: &str) -> (Fixture, Origin) {
    let origin = Origin::start().await;
    origin.behave("/ws/a", Behaviour::Upgrade);
    let config = Config::minimal()
        .upstream("ws", &[origin.addr()], upstream)
        .route("ws", &format!("access = \"public\"\nupstream = \"ws\"\n{route}"));
    (Fixture::start(config).await, origin)
}

/// Threat DO-7: silent tunnels do not take all connections to an upstream, and one client does not
/// take all tunnels.
#[tokio::test]
async fn tunnels_have_limits_of_their_own_in_all_and_per_client() {
    let limits = "max_connections = 6\nmax_tunnels = 3\nmax_tunnels_per_client = 2";
    let (fixture, origin) = start_with_tunnels(limits, "").await;
    let (first, second) = (open_tunnel_as(1, &fixture).await, open_tunnel_as(1, &fixture).await);
    assert_eq!((first.1, second.1), (101, 101));
    let mut refused = fixture.connect().await;
    refused.send(upgrade_request("/ws/a", "")).await;
    let response = refused.read_response().await;
    assert_eq!((response.status, &response.json()["code"]), (503, &json!("upstream_busy")));
    let line = fixture.gateway.access_line_of(&response).await;
    assert_eq!(line["reason"], json!("this client has as many tunnels as it may have"));
    assert_eq!(origin.requests().len(), 2, "the upstream is not asked");

    let (_third, status) = open_tunnel_as(2, &fixture).await;
    assert_eq!(status, 101, "another client");
    assert_eq!(open_tunnel_as(3, &fixture).await.1, 503, "no tunnel is left");
    for limit in ["max_tunnels", "max_tunnels_per_client"] {
        let sample = format!("portcullis_tunnels_refused_total{{upstream=\"ws\",limit=\"{limit}\"}}");
        assert_eq!(fixture.gateway.count(&sample).await, 1, "{limit}");
    }
    assert_eq!(fixture.gateway.count("portcullis_upstream_connections{upstream=\"ws\",state=\"tunnel\"}").await, 3);
    assert_eq!(fixture.get("/ws/b", &[]).await.status, 200, "ordinary requests have connections left");
    assert_eq!(refused.request("GET", "/ws/b", &[], b"").await.status, 200, "on the refused connection too");

    drop(first);
    fixture.gateway.wait_for_access_lines(5).await;
    assert_eq!(open_tunnel_as(1, &fixture).await.1, 101, "one was closed");
}

/// A trusted proxy carries the tunnels of many clients, and each of these has its own limit.
#[tokio::test]
async fn a_trusted_proxy_may_have_more_tunnels_than_one_of_its_clients() {
    let origin = Origin::start().await;
    origin.behave("/ws/a", Behaviour::Upgrade);
    let config = Config::minimal()
        .add("server", "trusted_proxies = [\"127.0.0.1\"]")
        .upstream("ws", &[origin.addr()], "max_connections = 20\nmax_tunnels_per_client = 1")
        .route("ws", "access = \"public\"\nupstream = \"ws\"");
    let fixture = Fixture::start(config).await;
    let mut open = Vec::new();
    for (forwarded, status) in [
        ("", 101),
        ("", 101),
        ("X-Forwarded-For: 203.0.113.7\r\n", 101),
        ("X-Forwarded-For: 203.0.113.7\r\n", 503),
        ("X-Forwarded-For: 203.0.113.8\r\n", 101),
    ] {
        let mut conn = fixture.connect().await;
        conn.send(upgrade_request("/ws/a", forwarded)).await;
        assert_eq!(conn.read_response().await.status, status, "{forwarded}");
        open.push(conn);
    }
}

/// By default half of the connections are left to ordinary requests, and a client has a quarter of
/// the tunnels.
#[tokio::test]
async fn the_default_limits_on_tunnels_follow_from_max_connections() {
    let (fixture, _origin) = start_with_tunnels("max_connections = 4", "").await;
    let (_first, _second) = (open_tunnel_as(1, &fixture).await, open_tunnel_as(2, &fixture).await);
    assert_eq!(open_tunnel_as(1, &fixture).await.1, 503, "a quarter of two is one");
    assert_eq!(open_tunnel_as(3, &fixture).await.1, 503, "half of four is two");
}

/// An upgrade that the upstream ignores is no tunnel.
#[tokio::test]
async fn an_ignored_upgrade_gives_its_tunnel_back() {
    let (fixture, _origin) = start_with_tunnels("max_tunnels = 1", "").await;
    for _ in 0..3 {
        let mut conn = fixture.connect().await;
        conn.send(upgrade_request("/ws/b", "")).await;
        assert_eq!(conn.read_response().await.status, 200);
    }
}

/// Threat DO-7: only an open tunnel counts, so that offers to an upstream that is slow to respond
/// do not use up the tunnels of other clients.
#[tokio::test]
async fn a_pending_upgrade_holds_no_tunnel() {
    let (fixture, origin) = start_with_tunnels("max_tunnels = 1", "").await;
    let release = origin.delay("/ws/slow");
    let mut pending = fixture.connect().await;
    pending.send(upgrade_request("/ws/slow", "")).await;
    origin.wait_for_requests(1).await;
    let (_open, status) = open_tunnel_as(1, &fixture).await;
    assert_eq!(status, 101);
    release.send(()).expect("the origin waits");
    assert_eq!(pending.read_response().await.status, 200, "the upstream ignores the offer");
}

/// Two upgrades may be pending when one tunnel is left. The upstream's connection for the other is
/// closed.
#[tokio::test]
async fn of_two_pending_upgrades_one_gets_the_last_tunnel() {
    let (listener, addr) = bind().await;
    let config = Config::minimal()
        .upstream("ws", &[addr], "max_tunnels = 1")
        .route("ws", "access = \"public\"\nupstream = \"ws\"");
    let fixture = Fixture::start(config).await;
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let mut client = fixture.connect().await;
        client.send(upgrade_request("/ws/a", "")).await;
        let (mut server, _) = with_deadline("a connection", listener.accept()).await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            with_deadline("a head", server.read_buf(&mut head)).await.expect("a head");
        }
        clients.push(client);
        servers.push(server);
    }
    let mut statuses = Vec::new();
    for (client, server) in clients.iter_mut().zip(&mut servers) {
        server.write_all(b"HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await.expect("sent");
        statuses.push(client.read_response().await.status);
    }
    assert_eq!(statuses, [101, 503]);
    let read = with_deadline("the end of the connection", servers[1].read(&mut [0])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "the upstream's connection is closed");
}

/// A tunnel does not outlast `max_tunnel_lifetime`, nor the route's `timeout`, which is for the
/// whole exchange.
#[tokio::test]
async fn a_tunnel_has_a_lifetime() {
    for (name, upstream, route) in [
        ("the upstream's", "max_tunnel_lifetime = \"200ms\"", ""),
        ("the route's", "", "timeout = \"200ms\""),
        ("the shorter one", "max_tunnel_lifetime = \"10m\"", "timeout = \"200ms\""),
    ] {
        let (fixture, origin) = start_with_tunnels(upstream, route).await;
        let (mut conn, status) = open_tunnel_as(1, &fixture).await;
        assert_eq!(status, 101, "{name}");
        assert_eq!(conn.read_to_close().await, b"", "{name}");
        origin.wait_for_open_connections(0).await;
        let line = fixture.gateway.wait_for_access_lines(1).await.remove(0);
        assert_eq!(line["reason"], json!("the tunnel's time was over"), "{name}");
        let lived = line["duration_ms"].as_f64().expect("a number");
        assert!((190.0..10_000.0).contains(&lived), "{name}: {lived}");
    }
}

/// A drain leaves tunnels open until `drain_timeout`; then they are closed.
#[tokio::test]
async fn draining_leaves_tunnels_open() {
    let fixture = Fixture::start(Config::minimal().add("server", "drain_timeout = \"10m\"")).await;
    let mut conn = open_public_tunnel(&fixture).await;
    fixture.gateway.drain();
    fixture.gateway.wait_for_closed_listeners().await;
    echo(&mut conn, "while draining").await;
    drop(conn);
    fixture.gateway.wait_for_end().await;
    let line = fixture.gateway.wait_for_access_lines(1).await.remove(0);
    assert_eq!(json!([line["status"], line["bytes_in"], line["bytes_out"]]), json!([101, 14, 14]));
}

#[tokio::test]
async fn a_tunnel_that_outlasts_drain_timeout_is_cut_off() {
    let fixture = Fixture::start(Config::minimal().add("server", "drain_timeout = \"50ms\"")).await;
    let mut conn = open_public_tunnel(&fixture).await;
    fixture.gateway.drain();
    assert_eq!(conn.read_to_close().await, b"");
    fixture.gateway.wait_for_end().await;
    let line = fixture.gateway.wait_for_access_lines(1).await.remove(0);
    assert_eq!(line["status"], json!(101));
}

async fn open_public_tunnel(fixture: &Fixture) -> Conn {
    fixture.origin.behave("/public/ws", Behaviour::Upgrade);
    let mut conn = fixture.connect().await;
    conn.send(upgrade_request("/public/ws", "")).await;
    assert_eq!(conn.read_response().await.status, 101);
    conn
}

/// A third-party proxy in between changes nothing.
#[tokio::test]
async fn a_tunnel_passes_through_nginx() {
    let origin = Origin::start().await;
    origin.behave("/proxied/ws", Behaviour::Upgrade);
    let Some(nginx) = Nginx::start(origin.addr()).await else { return };
    let config = Config::minimal()
        .upstream("nginx", &[nginx.addr()], "")
        .route("nginx", "path = \"/proxied/*\"\nupstream = \"nginx\"");
    let fixture = Fixture::start(config).await;
    let mut unauthenticated = fixture.connect().await;
    unauthenticated.send(upgrade_request("/proxied/ws", "")).await;
    assert_eq!(unauthenticated.read_response().await.status, 401);
    let mut conn = fixture.connect().await;
    conn.send(upgrade_request("/proxied/ws", &authorization(&fixture))).await;
    assert_eq!(conn.read_response().await.status, 101);
    echo(&mut conn, "ping").await;
    echo(&mut conn, &"y".repeat(50_000)).await;
    assert_eq!(origin.requests().len(), 1);
    drop(conn);
    origin.wait_for_open_connections(0).await;
    assert_eq!(nginx.error_log(), "");
}
