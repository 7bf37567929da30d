//! Upstreams that fail: which server a request goes to instead, whose fault it is, and what the
//! operator can see of it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, Origin};
use crate::support::raw_origin::{RawOrigin, Step};
use crate::support::server::{Server, bind};

/// A port that refuses connections: bound, so that nothing else gets it, but not listening.
struct DeadServer(Socket);

impl DeadServer {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("there is a free port");
        Self(socket)
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound").as_socket().expect("an IP address")
    }
}

/// A server whose queue of connections is full, so that the kernel drops each further attempt.
struct SilentServer {
    dead: DeadServer,
    _queued: Vec<StdStream>,
}

impl SilentServer {
    fn new() -> Self {
        let dead = DeadServer::new();
        dead.0.listen(0).expect("it can listen");
        let queued = vec![StdStream::connect(dead.addr()).expect("the queue has one place")];
        Self { dead, _queued: queued }
    }
}

/// A server that reads the head of a request and the first bytes of its body, and then breaks the
/// connection.
async fn dying_server() -> (Server, SocketAddr) {
    let (listener, addr) = bind().await;
    let server = Server::start(listener, |mut stream: TcpStream| async move {
        let mut head = Vec::new();
        while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                return;
            }
        }
    });
    (server, addr)
}

fn public(config: Config, name: &str, servers: &[SocketAddr], keys: &str) -> Config {
    config.upstream(name, servers, keys).route(name, &format!("access = \"public\"\nupstream = \"{name}\""))
}

fn failures(name: &str, server: SocketAddr) -> String {
    format!("portcullis_upstream_connect_failures_total{{upstream=\"{name}\",server=\"{server}\"}}")
}

/// A server that refuses connections always has the fewest requests, so that `least_request` would
/// send nearly all of them there.
#[tokio::test]
async fn a_dead_server_beside_a_live_one_costs_no_request() {
    for balance in ["least_request", "round_robin"] {
        let (dead, live) = (DeadServer::new(), Origin::start().await);
        let config = Config::minimal().one_worker();
        let keys = format!("balance = \"{balance}\"");
        let fixture = Fixture::start(public(config, "two", &[dead.addr(), live.addr()], &keys)).await;
        for number in 0..50 {
            let (method, body) = if number % 2 == 0 { ("GET", &b""[..]) } else { ("POST", &b"order"[..]) };
            let response = fixture.request(method, "/two/1", &[], body).await;
            assert_eq!(response.status, 200, "{balance}, {number}: {}", response.text());
            assert_eq!(response.json()["body"], String::from_utf8_lossy(body).as_ref(), "{balance}");
        }
        assert_eq!(live.requests().len(), 50, "{balance}");
        let failed = fixture.gateway.count(&failures("two", dead.addr())).await;
        assert!((1..10).contains(&failed), "{balance}: it is avoided after {failed} failures");
    }
}

/// The only server, or all of them, are never avoided: otherwise a short outage would last longer.
#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let dead = [DeadServer::new(), DeadServer::new()];
    let addrs = dead.each_ref().map(DeadServer::addr);
    let config = public(Config::minimal().one_worker(), "all", &addrs, "");
    let fixture = Fixture::start(config).await;
    for _ in 0..5 {
        let response = fixture.get("/all/1", &[]).await;
        assert_eq!((response.status, &response.json()["code"]), (502, &json!("upstream_unreachable")));
    }
    let [first, second] = dead;
    let listener = crate::support::background().spawn(async { TcpListener::from_std(listening(first)) }).await;
    let listener = listener.expect("no panic").expect("a socket");
    let _server = Server::start(listener, |stream| async move { echo_ok(stream).await });
    let response = fixture.get("/all/1", &[]).await;
    assert_eq!(response.status, 200, "{}", response.text());
    drop(second);
}

fn listening(dead: DeadServer) -> std::net::TcpListener {
    dead.0.listen(16).expect("it can listen");
    dead.0.set_nonblocking(true).expect("a socket");
    dead.0.into()
}

async fn echo_ok(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    while matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
        if bytes.ends_with(b"\r\n\r\n") {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    }
}

/// `connect_timeout` bounds all attempts to connect together: a server that does not answer takes
/// half of it, so that another one can still be tried.
#[tokio::test]
async fn a_server_that_does_not_answer_leaves_time_for_another() {
    let (silent, live) = (SilentServer::new(), Origin::start().await);
    let servers = [silent.dead.addr(), live.addr()];
    let keys = "balance = \"round_robin\"\nconnect_timeout = \"400ms\"";
    let config = public(Config::minimal().one_worker(), "two", &servers, keys);
    let fixture = Fixture::start(config).await;
    for _ in 0..4 {
        let response = fixture.get("/two/1", &[]).await;
        assert_eq!(response.status, 200, "{}", response.text());
    }
    assert_eq!(fixture.gateway.count(&failures("two", silent.dead.addr())).await, 1, "then it is avoided");
}

/// The upstream is at fault, whatever was missing of the request when it died.
#[tokio::test]
async fn an_upstream_that_dies_during_the_upload_is_an_upstream_failure() {
    let (_server, addr) = dying_server().await;
    let config = public(Config::minimal(), "dies", &[addr], "");
    let config = public(config, "dies2", &[addr], "protocol = \"http2\"");
    let fixture = Fixture::start(config).await;
    let body = vec![b'x'; 3_000_000];
    for (client, upstream) in [("http1", "dies"), ("http2", "dies"), ("http1", "dies2"), ("http2", "dies2")] {
        for round in 0..5 {
            let path = format!("/{upstream}/upload");
            let response = if client == "http2" {
                client::h2(fixture.gateway.addr()).await.request("POST", &path, &[], &body).await
            } else {
                let mut conn = fixture.connect().await;
                conn.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
                conn.send(&body[..10_000]).await;
                conn.read_response().await
            };
            let what = format!("{client} to {upstream}, {round}: {}", response.text());
            let line = fixture.gateway.access_line_of(&response).await;
            assert_eq!((response.status, &line["blame"]), (502, &json!("upstream")), "{what}");
            let code = line["code"].as_str().expect("a code");
            // An HTTP/2 connection that never starts is one that could not be opened.
            assert_eq!(code, if upstream == "dies" { "upstream_failed" } else { "upstream_unreachable" }, "{what}");
        }
    }
}

/// What an operator learns of each failure at the level `info`: which upstream and server, and why.
#[tokio::test]
async fn each_failure_names_the_server_and_the_reason() {
    let (dead, silent) = (DeadServer::new(), SilentServer::new());
    let steps = [
        ("closes", Step::Close, "upstream_failed", "closed before answering"),
        ("resets", Step::Reset, "upstream_failed", "reset"),
        ("half", Step::response_and_close("HTTP/1.1 200 OK\r\nX: 1"), "upstream_failed", "closed before answering"),
        ("garbage", Step::response("nonsense\r\n\r\n"), "upstream_failed", "malformed response"),
        (
            "lengths",
            Step::response("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"),
            "upstream_failed",
            "malformed response",
        ),
        (
            "tls",
            Step::response(b"\x15\x03\x03\0\x02\x02\x46"),
            "upstream_failed",
            "the server speaks TLS, but its URL is http",
        ),
        (
            "switches",
            Step::response("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            "upstream_failed",
            "unexpected switch of protocols",
        ),
    ];
    let mut config = Config::minimal();
    let mut rows = Vec::new();
    let mut origins = Vec::new();
    for (name, step, code, reason) in steps {
        let origin = RawOrigin::start([step]).await;
        config = public(config, name, &[origin.addr()], "");
        rows.push((name, origin.addr().to_string(), code, reason));
        origins.push(origin);
    }
    config = public(config, "dead", &[dead.addr()], "");
    config = public(config, "silent", &[silent.dead.addr()], "connect_timeout = \"50ms\"");
    config = config
        .append("[upstreams.nowhere]\nservers = [\"http://nowhere.invalid:9000\"]\nconnect_timeout = \"10s\"")
        .route("nowhere", "access = \"public\"\nupstream = \"nowhere\"");
    rows.push(("dead", dead.addr().to_string(), "upstream_unreachable", "connection refused"));
    rows.push(("silent", silent.dead.addr().to_string(), "upstream_unreachable", "connect timeout"));
    rows.push(("nowhere", "nowhere.invalid:9000".to_owned(), "upstream_unreachable", "name not resolved"));
    let fixture = Fixture::start(config).await;
    for (name, server, code, reason) in rows {
        let response = fixture.get(&format!("/{name}/1"), &[]).await;
        let line = fixture.gateway.access_line_of(&response).await;
        let seen = ["upstream", "server", "code", "reason", "blame"].map(|field| line[field].as_str().unwrap_or(""));
        assert_eq!(seen, [name, &server, code, reason, "upstream"]);
    }
    let response = fixture.get("/public/1", &[]).await;
    let line = fixture.gateway.access_line_of(&response).await;
    assert_eq!(line["server"], fixture.origin.addr().to_string(), "also of a request that succeeds");
    assert_eq!((&line["reason"], &line["blame"]), (&Value::Null, &Value::Null));
}

/// A response that does not reach its end has the status of its head, so only the reason shows that
/// the client did not get all of it.
#[tokio::test]
async fn a_response_that_breaks_off_has_a_reason_and_is_counted() {
    let config = Config::minimal()
        .one_worker()
        .add("server", "body_idle_timeout = \"50ms\"")
        .route("timed", "access = \"public\"\ntimeout = \"100ms\"");
    let fixture = Fixture::start(config).await;
    fixture.origin.behave("/public/short", Behaviour::CloseMidBody { announced: Some(10), sent: "part".into() });
    fixture.origin.behave("/public/cut", Behaviour::CloseMidBody { announced: None, sent: "part".into() });
    fixture.origin.behave("/public/stall", Behaviour::Stall { sent: "part".into() });
    fixture.origin.behave(
        "/timed/slow",
        Behaviour::SlowBody { pieces: vec!["x".into(); 1_000], every: std::time::Duration::from_millis(10) },
    );
    let left = fixture.origin.stream("/public/left");
    for (target, reason, blame) in [
        ("/public/short", "upstream broke off", "upstream"),
        ("/public/cut", "upstream broke off", "upstream"),
        ("/public/stall", "upstream idle", "upstream"),
        ("/timed/slow", "route timeout", "upstream"),
        ("/public/left", "client left", "client"),
    ] {
        let seen = fixture.gateway.access_lines().len();
        let mut conn = fixture.connect().await;
        conn.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(conn.read_head().await.status, 200, "{target}");
        if target == "/public/left" {
            left.send("part");
            conn.read_until("part").await;
        } else {
            conn.read_to_close().await;
        }
        drop(conn);
        let lines = fixture.gateway.wait_for_access_lines(seen + 1).await;
        let line = &lines[seen];
        assert_eq!(
            (&line["status"], &line["reason"], &line["blame"]),
            (&json!(200), &json!(reason), &json!(blame)),
            "{target}"
        );
        assert_eq!(line["code"], Value::Null, "{target}: it is no refusal");
    }
    let samples = fixture.gateway.metrics().await;
    for (reason, count) in [("upstream broke off", 2), ("upstream idle", 1), ("route timeout", 1), ("client left", 1)] {
        let sample = format!("portcullis_upstream_broken_off_total{{upstream=\"main\",reason=\"{reason}\"}}");
        assert_eq!(samples.count(&sample), count, "{reason}");
    }
}

/// RFC 9112 §6.3, RFC 9110 §8.6: a body whose length can be read in two ways is not forwarded.
#[tokio::test]
async fn a_response_whose_length_is_ambiguous_is_refused_and_its_connection_closed() {
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let coding = "Transfer-Encoding: chunked\r\n";
    for (name, fields, body, expected) in [
        ("equal lengths", "Content-Length: 2, 2\r\n".to_owned(), "ok", Some("ok")),
        ("equal lengths in two lines", "Content-Length: 2\r\nContent-Length: 2\r\n".to_owned(), "ok", Some("ok")),
        ("a coding before chunked", "Transfer-Encoding: gzip, chunked\r\n".to_owned(), chunked, None),
        ("two lines of codings", format!("Transfer-Encoding: gzip\r\n{coding}"), chunked, None),
        ("a coding instead of chunked", "Transfer-Encoding: gzip\r\n".to_owned(), "hello", None),
        ("identity and a length", "Transfer-Encoding: identity\r\nContent-Length: 5\r\n".to_owned(), "hello", None),
        ("a length before chunked", format!("Content-Length: 5\r\n{coding}"), chunked, None),
        ("a length after chunked", format!("{coding}Content-Length: 10\r\n"), chunked, None),
        (
            "named by Connection",
            format!("Connection: transfer-encoding\r\n{coding}Content-Length: 1\r\n"),
            chunked,
            None,
        ),
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
        let origin =
            RawOrigin::start([Step::response(response), Step::response("HTTP/1.1 204 No Content\r\n\r\n")]).await;
        let fixture = Fixture::start(public(Config::minimal().one_worker(), "raw", &[origin.addr()], "")).await;
        let response = fixture.get("/raw/1", &[]).await;
        if let Some(text) = expected {
            assert_eq!((response.status, &*response.text()), (200, text), "{name}");
            assert_eq!(response.headers_named("content-length"), ["2"], "{name}");
            continue;
        }
        assert_eq!((response.status, &response.json()["code"]), (502, &json!("upstream_failed")), "{name}");
        let line = fixture.gateway.access_line_of(&response).await;
        assert_eq!(line["reason"], "ambiguous length of the response", "{name}");
        assert_eq!(fixture.get("/raw/2", &[]).await.status, 204, "{name}");
        assert_eq!(origin.received().len(), 2, "{name}: on another connection");
    }
}

/// A server may be given by a name, which is resolved, or by an IPv6 address.
#[tokio::test]
async fn a_server_may_be_a_name_or_an_ipv6_address() {
    let origin = Origin::start().await;
    let mut servers = vec![format!("http://localhost:{}", origin.addr().port())];
    let on_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await;
    let mut serving = None;
    if let Ok(listener) = on_ipv6 {
        servers.push(format!("http://{}", listener.local_addr().expect("it is bound")));
        let listener = listener.into_std().expect("a socket");
        let listener = crate::support::background().spawn(async { TcpListener::from_std(listener) }).await;
        let listener = listener.expect("no panic").expect("a socket");
        serving = Some(Server::start(listener, |stream| async move { echo_ok(stream).await }));
    }
    for server in servers {
        let config = Config::minimal()
            .append(&format!("[upstreams.named]\nservers = [\"{server}\"]"))
            .route("named", "access = \"public\"\nupstream = \"named\"");
        let fixture = Fixture::start(config).await;
        for _ in 0..3 {
            let response = fixture.get("/named/1", &[]).await;
            assert_eq!(response.status, 200, "{server}: {}", response.text());
        }
    }
    drop(serving);
}
