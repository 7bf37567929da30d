//! A WebSocket over HTTP/2 (RFC 8441): an extended `CONNECT` becomes the `GET` with `Upgrade` that
//! the upstream knows, and is decided on like one.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::frames::{CANCEL, Frames, Outcome, kind};
use crate::support::origin::Behaviour;
use crate::support::raw_origin::{RawOrigin, Step};
use crate::support::{background, with_deadline};

/// An HTTP/2 connection of a client that knows that the gateway takes extended `CONNECT`.
struct Client(http2::SendRequest<Empty<Bytes>>);

/// A response with its body, and the tunnel if there is one.
struct Opened {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
    tunnel: Option<TokioIo<hyper::upgrade::Upgraded>>,
}

impl Client {
    async fn connect(fixture: &Fixture) -> Self {
        let addr = fixture.gateway.addr();
        let connecting = background().spawn(async move {
            let stream = TcpStream::connect(addr).await.expect("the gateway listens");
            let (requests, connection) = http2::Builder::new(TokioExecutor::new())
                .handshake(TokioIo::new(stream))
                .await
                .expect("an HTTP/2 handshake");
            background().spawn(async { drop(connection.await) });
            requests
        });
        let mut client = Self(with_deadline("a connection", connecting).await.expect("connecting does not panic"));
        // After a response, the gateway's settings have arrived as well.
        assert_eq!(client.get("/public/warm-up").await, 200);
        client
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> http::Response<hyper::body::Incoming> {
        let sent = background().spawn(self.0.send_request(request));
        with_deadline("a response", sent).await.expect("sending does not panic").expect("a response")
    }

    async fn get(&mut self, path: &str) -> u16 {
        let request = Request::get(format!("http://g{path}")).body(Empty::new()).expect("a valid request");
        self.send(request).await.status().as_u16()
    }

    /// An extended `CONNECT` for this protocol.
    async fn connect_to(&mut self, path: &str, protocol: &'static str, fields: &[(&'static str, &str)]) -> Opened {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = format!("http://g{path}").parse().expect("a valid target");
        request.extensions_mut().insert(Protocol::from_static(protocol));
        for (name, value) in fields {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a valid value"));
        }
        let mut response = self.send(request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if status == 200 {
            let upgraded = with_deadline("a tunnel", hyper::upgrade::on(&mut response)).await.expect("a tunnel");
            return Opened { status, headers, body: Bytes::new(), tunnel: Some(TokioIo::new(upgraded)) };
        }
        let body = with_deadline("a body", response.into_body().collect()).await.expect("a body").to_bytes();
        Opened { status, headers, body, tunnel: None }
    }

    async fn open(&mut self, path: &str, fields: &[(&'static str, &str)]) -> Opened {
        self.connect_to(path, "websocket", fields).await
    }
}

impl Opened {
    async fn echo(&mut self, text: &str) {
        let tunnel = self.tunnel.as_mut().expect("a tunnel");
        let mut received = vec![0; text.len()];
        with_deadline("an echo", async {
            tunnel.write_all(text.as_bytes()).await.expect("the tunnel is open");
            tunnel.read_exact(&mut received).await.expect("the tunnel is open");
        })
        .await;
        assert_eq!(String::from_utf8_lossy(&received), text);
    }

    /// Waits until the gateway has closed the tunnel.
    async fn closed(&mut self) {
        let mut rest = Vec::new();
        let tunnel = self.tunnel.as_mut().expect("a tunnel");
        let _ = with_deadline("the end of the tunnel", tunnel.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
    }

    fn code(&self) -> Value {
        serde_json::from_slice::<Value>(&self.body).unwrap_or_default()["code"].clone()
    }
}

fn config() -> Config {
    Config::minimal().one_worker()
}

/// The line of the tunnel's request.
async fn line_of(fixture: &Fixture, path: &str) -> Value {
    let mut count = 1;
    loop {
        let lines = fixture.gateway.wait_for_access_lines(count).await;
        if let Some(line) = lines.iter().find(|line| line["path"] == path) {
            return line.clone();
        }
        count = lines.len() + 1;
    }
}

/// RFC 8441 §5; UP-2, UP-8.
#[tokio::test]
async fn a_websocket_over_http_2_is_one_over_http_1_to_the_upstream() {
    let fixture = Fixture::start(config()).await;
    fixture.origin.behave("/token/ws", Behaviour::Upgrade);
    let mut client = Client::connect(&fixture).await;
    let refused = client.open("/token/ws", &[]).await;
    assert_eq!((refused.status, refused.code()), (401, json!("credentials_missing")));
    let bearer = fixture.bearer("alice");
    let fields = [
        ("authorization", &*bearer),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-key", "the client's own"),
        ("x-identity-subject", "mallory"),
    ];
    let mut opened = client.open("/token/ws", &fields).await;
    for absent in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
        assert_eq!(opened.headers.get(absent), None, "{absent}");
    }
    assert!(opened.headers.contains_key("x-request-id"));
    opened.echo("ping").await;
    let seen = fixture.origin.requests().pop().expect("the request");
    assert_eq!((&*seen.method, &*seen.target), ("GET", "/token/ws"));
    for (name, value) in [
        ("host", Some("g")),
        ("connection", Some("upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-version", Some("13")),
        ("sec-websocket-protocol", Some("chat")),
        ("x-identity-subject", Some("alice")),
        ("authorization", None),
        ("content-length", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    assert_eq!(seen.header("sec-websocket-key").map(str::len), Some(24), "the gateway's own");
    assert_eq!(client.get("/public/beside").await, 200, "the connection carries other streams");
    opened.echo(&"x".repeat(200_000)).await;
    drop(opened);
    fixture.origin.wait_for_open_connections(1).await;
    let line = fixture.gateway.wait_for_access_lines(4).await.pop().expect("a line");
    assert_eq!(json!([line["status"], line["method"], line["path"]]), json!([200, "GET", "/token/ws"]));
    assert_eq!(json!([line["bytes_in"], line["bytes_out"]]), json!([200_004, 200_004]), "{line}");
    assert!(line["duration_ms"].as_f64() < Some(20_000.0), "it ends as soon as both sides have closed: {line}");
    assert_eq!(fixture.gateway.count("portcullis_upstream_connections{upstream=\"main\",state=\"tunnel\"}").await, 0);
}

/// UP-4: any other `CONNECT` would make the gateway an open proxy.
#[tokio::test]
async fn another_connect_is_refused() {
    let fixture = Fixture::start(config()).await;
    let mut client = Client::connect(&fixture).await;
    for protocol in ["connect-udp", "webtransport", "WebSocket", "h2c"] {
        let refused = client.connect_to("/public/a", protocol, &[]).await;
        assert_eq!((refused.status, refused.code()), (405, json!("method_not_allowed")), "{protocol}");
    }
    let extended = [(":method", "CONNECT"), (":authority", "g")];
    let mut frames = Frames::open(&fixture).await;
    frames.headers(1, &extended, false).await;
    assert_ne!(frames.outcome(1).await, Outcome::Status(200), "without a protocol");
    let get = [
        (":method", "GET"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "g"),
        (":path", "/public/a"),
    ];
    let mut frames = Frames::open(&fixture).await;
    frames.headers(1, &get, true).await;
    assert!(matches!(frames.outcome(1).await, Outcome::Reset | Outcome::GoAway), "a protocol without CONNECT");
    assert_eq!(fixture.origin.requests().len(), 1, "the first one of the client");
}

/// UP-8: a client takes any success for an open tunnel.
#[tokio::test]
async fn only_a_valid_handshake_of_the_upstream_opens_the_tunnel() {
    let switch = |fields: &str| format!("HTTP/1.1 101 \r\nConnection: upgrade\r\n{fields}\r\n");
    for (name, response, status, code) in [
        ("success", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned(), 502, json!("upstream_failed")),
        ("no content", "HTTP/1.1 204 \r\n\r\n".to_owned(), 502, json!("upstream_failed")),
        ("no proof", switch("Upgrade: websocket\r\n"), 502, json!("upstream_failed")),
        (
            "another key's proof",
            switch("Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            502,
            json!("upstream_failed"),
        ),
        ("another protocol", switch("Upgrade: chat\r\n"), 502, json!("upstream_failed")),
        ("a refusal", "HTTP/1.1 403 \r\nContent-Length: 15\r\n\r\n{\"code\":\"theirs\"".to_owned(), 403, Value::Null),
    ] {
        let ok = Step::Response(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
        let upstream = RawOrigin::start(vec![ok, Step::Response(response.into_bytes())]).await;
        let fixture = Fixture::start(config().main_server(upstream.addr())).await;
        let mut client = Client::connect(&fixture).await;
        let opened = client.open("/public/ws", &[]).await;
        assert_eq!((opened.status, opened.code()), (status, code), "{name}");
        if status == 502 {
            let line = line_of(&fixture, "/public/ws").await;
            assert_eq!(line["reason"], json!("invalid WebSocket handshake"), "{name}");
        }
    }
}

/// An HTTP/2 connection to an upstream is shared and carries no tunnel.
#[tokio::test]
async fn an_http_2_upstream_takes_no_websocket() {
    let config = config().upstream("h2", &[crate::support::closed_port()], "protocol = \"http2\"");
    let fixture = Fixture::start(config.route("h2", "access = \"public\"\nupstream = \"h2\"")).await;
    let mut client = Client::connect(&fixture).await;
    let refused = client.open("/h2/ws", &[]).await;
    assert_eq!((refused.status, refused.code()), (405, json!("method_not_allowed")));
}

/// Threats UP-5, DO-7: the limits of tunnels hold, and end the stream and not its connection.
#[tokio::test]
async fn a_websocket_over_http_2_has_the_limits_of_a_tunnel() {
    let config = config()
        .add("server", "idle_timeout = \"200ms\"")
        .add("upstreams.main", "max_tunnels = 1\nmax_tunnel_lifetime = \"600ms\"");
    let fixture = Fixture::start(config).await;
    fixture.origin.behave("/public/ws", Behaviour::Upgrade);
    let mut client = Client::connect(&fixture).await;
    let mut opened = client.open("/public/ws", &[]).await;
    let refused = client.open("/public/ws", &[]).await;
    assert_eq!((refused.status, refused.code()), (503, json!("upstream_busy")));
    opened.echo("ping").await;
    opened.closed().await;
    assert_eq!(client.get("/public/after").await, 200, "the connection is still open");
    let lines = fixture.gateway.wait_for_access_lines(4).await;
    let line = lines.iter().find(|line| line["reason"] == "the tunnel's time was over");
    let line = line.unwrap_or_else(|| panic!("{lines:#?}"));
    let lived = line["duration_ms"].as_f64().expect("a number");
    assert!(lived > 550.0, "the idle timeout of the connection does not count while it is open: {lived}");
    fixture.gateway.wait_for_connections(0).await;
}

const WEBSOCKET: [(&str, &str); 5] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "g"),
    (":path", "/public/ws"),
];

/// Threat DO-10: each costs the upstream a connection, and the client two frames. It makes no
/// difference whether the client has waited for the tunnel, nor how it closes the tunnel.
#[tokio::test]
async fn websockets_that_are_opened_and_closed_count_as_cancelled() {
    const END_STREAM: u8 = 1;
    let fixture = Fixture::start(config()).await;
    fixture.origin.behave("/public/ws", Behaviour::Upgrade);
    let mut frames = Frames::open(&fixture).await;
    for number in 0..=100 {
        let stream = 2 * number + 1;
        frames.headers(stream, &WEBSOCKET, false).await;
        fixture.origin.wait_for_requests(number as usize + 1).await;
        if number % 3 > 0 {
            assert_eq!(frames.outcome(stream).await, Outcome::Status(200));
        }
        match number % 2 {
            0 => frames.send(kind::RST_STREAM, 0, stream, &CANCEL).await,
            _ => frames.send(kind::DATA, END_STREAM, stream, b"").await,
        }
    }
    let go_away = loop {
        let frame = frames.next().await;
        // This client does not answer pings, for which it gets GOAWAY as well.
        assert_ne!(frame.kind, kind::PING, "all WebSockets have ended");
        if frame.kind == kind::GO_AWAY {
            break frame;
        }
    };
    assert_eq!(go_away.payload[4..8], [0; 4], "NO_ERROR: h2 has not seen a fault");
}

/// The counterpart of the test above.
#[tokio::test]
async fn a_client_that_uses_websockets_may_close_others_unused() {
    let fixture = Fixture::start(config()).await;
    fixture.origin.behave("/public/ws", Behaviour::Upgrade);
    let mut frames = Frames::open(&fixture).await;
    for number in 0..210 {
        let stream = 2 * number + 1;
        frames.headers(stream, &WEBSOCKET, false).await;
        assert_eq!(frames.outcome(stream).await, Outcome::Status(200), "{number}");
        if number % 2 == 0 {
            frames.send(kind::DATA, 0, stream, b"ping").await;
            frames.next_of(kind::DATA).await;
        }
        frames.send(kind::RST_STREAM, 0, stream, &CANCEL).await;
    }
}

/// Threat H2-7: a client that takes no byte of a tunnel does not keep its end from coming.
#[tokio::test]
async fn a_tunnel_whose_client_takes_nothing_is_reset() {
    let config = config().add("upstreams.main", "max_tunnel_lifetime = \"200ms\"");
    let fixture = Fixture::start(config).await;
    fixture.origin.behave("/public/ws", Behaviour::Upgrade);
    let mut frames = Frames::open_with(&fixture, &crate::support::frames::NO_WINDOW).await;
    frames.headers(1, &WEBSOCKET, false).await;
    frames.send(kind::DATA, 0, 1, b"to be echoed").await;
    assert_eq!(frames.outcome(1).await, Outcome::Status(200));
    let reset = frames.next_of(kind::RST_STREAM).await;
    assert_eq!(reset.stream, 1);
    assert_eq!(line_of(&fixture, "/public/ws").await["reason"], json!("the tunnel's time was over"));
}
