//! HTTP/2 to the upstream: many requests on few connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::client::{self, Conn, h2};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::frames::kind;
use crate::support::server::{Server, bind};
use crate::support::{closed_port, with_deadline};

/// An HTTP/2 server that echoes each request once its gate is open.
struct H2Origin {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: watch::Sender<usize>,
    active: watch::Sender<usize>,
    gate: watch::Sender<bool>,
    _server: Server,
}

impl H2Origin {
    async fn start(max_streams: u32) -> Self {
        Self::start_with(Some(max_streams)).await
    }

    /// Speaks HTTP/1.1 without `max_streams`.
    async fn start_with(max_streams: Option<u32>) -> Self {
        let (listener, addr) = bind().await;
        let (connections, active, gate) =
            (Arc::<AtomicUsize>::default(), watch::Sender::default(), watch::Sender::new(true));
        let open = watch::Sender::<usize>::default();
        let shared = (Arc::clone(&connections), active.clone(), gate.clone(), open.clone());
        let server = Server::start(listener, move |stream| {
            let (connections, active, gate, open) = shared.clone();
            connections.fetch_add(1, Ordering::SeqCst);
            open.send_modify(|count| *count += 1);
            async move {
                let service = service_fn(|request| echo(request, active.clone(), gate.subscribe()));
                // It ends with an error when the gateway closes early.
                let _ = match max_streams {
                    Some(max_streams) => {
                        http2::Builder::new(TokioExecutor::new())
                            .max_concurrent_streams(max_streams)
                            .serve_connection(TokioIo::new(stream), service)
                            .await
                    }
                    None => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
                };
                open.send_modify(|count| *count -= 1);
            }
        });
        Self { addr, connections, open, active, gate, _server: server }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn wait_for_open(&self, wanted: usize) {
        let mut open = self.open.subscribe();
        with_deadline("open connections", open.wait_for(|count| *count == wanted)).await.expect("the origin lives");
    }

    async fn wait_for_active(&self, wanted: usize) {
        let mut received = self.active.subscribe();
        with_deadline("active requests", received.wait_for(|count| *count == wanted)).await.expect("the origin lives");
    }
}

async fn echo(
    request: Request<Incoming>,
    active: watch::Sender<usize>,
    mut gate: watch::Receiver<bool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    /// Counts a request as active until it gets its response or is aborted.
    struct ActiveGuard(watch::Sender<usize>);
    impl Drop for ActiveGuard {
        fn drop(&mut self) {
            self.0.send_modify(|count| *count -= 1);
        }
    }
    active.send_modify(|count| *count += 1);
    let counted = ActiveGuard(active);
    let _ = gate.wait_for(|open| *open).await;
    let (parts, body) = request.into_parts();
    let collected = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let received = json!({
        "version": format!("{:?}", parts.version), "uri": parts.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&collected),
    });
    drop(counted);
    Ok(Response::new(Full::new(Bytes::from(received.to_string()))))
}

async fn start(max_streams: u32, keys: &str) -> (Fixture, H2Origin) {
    let origin = H2Origin::start(max_streams).await;
    let config = Config::minimal()
        .one_worker()
        .main_server(origin.addr)
        .add("upstreams.main", &format!("protocol = \"http2\"\n{keys}"));
    (Fixture::start(config).await, origin)
}

/// Sends this many concurrent requests; each must get 200.
fn send_all(fixture: &Fixture, count: usize) -> JoinSet<()> {
    let mut requests = JoinSet::new();
    for number in 0..count {
        let addr = fixture.gateway.addr();
        requests.spawn(async move {
            let response = with_deadline("a response", client::get(addr, &format!("/public/{number}"), &[])).await;
            assert_eq!(response.status, 200, "{number}: {}", response.text());
        });
    }
    requests
}

/// RFC 9110 §7.8: a shared connection cannot switch protocols, so that an offer to do so is
/// ignored. It is no tunnel.
#[tokio::test]
async fn an_offer_to_upgrade_counts_as_no_tunnel() {
    let (fixture, origin) = start(100, "max_tunnels = 1").await;
    origin.gate.send_replace(false);
    let mut clients = Vec::new();
    for number in 1..=2 {
        let mut conn = fixture.connect().await;
        conn.send("GET /public/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        origin.wait_for_active(number).await;
        clients.push(conn);
    }
    origin.gate.send_replace(true);
    for conn in &mut clients {
        let response = conn.read_response().await;
        let fields = response.json()["headers"].to_string();
        assert_eq!(response.status, 200);
        assert!(!fields.contains("upgrade"), "{fields}");
    }
}

/// What an HTTP/2 server sends in place of a response, in frames.
#[derive(Clone, Copy)]
enum Answer {
    Ok,
    /// `RST_STREAM` with this error code.
    Reset(u8),
    /// `GOAWAY` that disowns the request, with this error code.
    GoAway(u8),
    /// A response head that cannot be decoded.
    Garbage,
}

/// An HTTP/2 server that gives one answer after the other, on whatever connection a request comes.
async fn scripted_server(answers: Vec<Answer>) -> (Server, SocketAddr, Arc<AtomicUsize>) {
    let (listener, addr) = bind().await;
    let count = Arc::<AtomicUsize>::default();
    let requests = Arc::clone(&count);
    let server = Server::start(listener, move |stream| {
        let (answers, requests) = (answers.clone(), Arc::clone(&requests));
        async move {
            // It ends when the gateway closes the connection.
            let _ = answer_requests(stream, &answers, &requests).await;
        }
    });
    (server, addr, count)
}

async fn answer_requests(mut stream: TcpStream, answers: &[Answer], requests: &AtomicUsize) -> std::io::Result<()> {
    const END_HEADERS: u8 = 4;
    const END_STREAM: u8 = 1;
    const STATUS_200: u8 = 0x88;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await?;
    let mut last = 0;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream_id @ ..] = head;
        let id = u32::from_be_bytes(stream_id);
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("64 bits")];
        stream.read_exact(&mut payload).await?;
        let answer = match kind {
            kind::SETTINGS if flags == 0 => frame(kind::SETTINGS, 1, 0, &[]),
            kind::PING if flags == 0 => frame(kind::PING, 1, 0, &payload),
            kind::HEADERS => match answers[requests.fetch_add(1, Ordering::SeqCst)] {
                Answer::Ok => {
                    last = id;
                    frame(kind::HEADERS, END_HEADERS | END_STREAM, id, &[STATUS_200])
                }
                Answer::Reset(code) => frame(kind::RST_STREAM, 0, id, &[0, 0, 0, code]),
                Answer::GoAway(code) => {
                    frame(kind::GO_AWAY, 0, 0, &[&u32::to_be_bytes(last)[..], &[0, 0, 0, code]].concat())
                }
                Answer::Garbage => frame(kind::HEADERS, END_HEADERS | END_STREAM, id, &[0xff; 16]),
            },
            _ => continue,
        };
        stream.write_all(&answer).await?;
    }
}

/// RFC 9113 §8.7: a request that the server says it has not processed is sent again, on another
/// connection. After any other error it may have been processed, and there is only the reason.
#[tokio::test]
async fn a_request_that_the_server_has_not_processed_is_sent_again() {
    const NO_ERROR: u8 = 0;
    const INTERNAL_ERROR: u8 = 2;
    const REFUSED_STREAM: u8 = 7;
    for (name, answer, reason) in [
        ("refused", Answer::Reset(REFUSED_STREAM), None),
        ("the server shuts down", Answer::GoAway(NO_ERROR), None),
        ("failed", Answer::Reset(INTERNAL_ERROR), Some("reset")),
        ("reset without an error", Answer::Reset(NO_ERROR), Some("reset")),
        ("the connection failed", Answer::GoAway(INTERNAL_ERROR), Some("reset")),
        ("what it sends is not HTTP/2", Answer::Garbage, Some("malformed response")),
    ] {
        let (_server, addr, requests) = scripted_server(vec![Answer::Ok, answer, Answer::Ok]).await;
        let config = Config::minimal().one_worker().main_server(addr).add("upstreams.main", "protocol = \"http2\"");
        let fixture = Fixture::start(config).await;
        assert_eq!(fixture.get("/public/1", &[]).await.status, 200, "{name}");
        let response = fixture.get("/public/2", &[]).await;
        let line = fixture.gateway.access_line_of(&response).await;
        assert_eq!(line["reason"].as_str(), reason, "{name}");
        let (status, count) = if reason.is_none() { (200, 3) } else { (502, 2) };
        assert_eq!((response.status, requests.load(Ordering::SeqCst)), (status, count), "{name}");
    }
}

/// Threat DO-12: servers reset the streams of requests that they do not like, of which a client can
/// send any number.
#[tokio::test]
async fn streams_that_a_server_resets_do_not_eject_it() {
    const INTERNAL_ERROR: u8 = 2;
    const ENHANCE_YOUR_CALM: u8 = 11;
    for (name, answer, ejections) in [
        ("reset", Answer::Reset(INTERNAL_ERROR), 0),
        ("too many resets", Answer::GoAway(ENHANCE_YOUR_CALM), 0),
        ("the connection failed", Answer::GoAway(INTERNAL_ERROR), 1),
    ] {
        let (_server, addr, _) = scripted_server(vec![answer; 8]).await;
        let (_other, other, _) = scripted_server(vec![answer; 8]).await;
        let keys = "protocol = \"http2\"\nbalance = \"round_robin\"\neject = { failures = 1 }";
        let config = Config::minimal().one_worker().upstream("two", &[addr, other], keys);
        let fixture = Fixture::start(config.route("two", "access = \"public\"\nupstream = \"two\"")).await;
        for _ in 0..4 {
            assert_eq!(fixture.request("POST", "/two/1", &[], b"").await.status, 502, "{name}");
        }
        let mut found = 0;
        for server in [addr, other] {
            let metric = format!("portcullis_upstream_ejections_total{{upstream=\"two\",server=\"{server}\"}}");
            found += fixture.gateway.count(&metric).await;
        }
        assert_eq!(found, ejections, "{name}");
    }
}

/// A server that resets a stream may have processed its request, so another one gets the request
/// only if it is idempotent.
#[tokio::test]
async fn a_request_whose_stream_is_reset_goes_to_another_server_if_it_is_idempotent() {
    const INTERNAL_ERROR: u8 = 2;
    for (method, status, retries) in [("GET", 200, 1), ("POST", 502, 0)] {
        let (_resetting, first, _) = scripted_server(vec![Answer::Reset(INTERNAL_ERROR)]).await;
        let (_working, second, requests) = scripted_server(vec![Answer::Ok]).await;
        let keys = "protocol = \"http2\"\nbalance = \"round_robin\"";
        let config = Config::minimal()
            .one_worker()
            .upstream("two", &[first, second], keys)
            .route("two", "access = \"public\"\nupstream = \"two\"");
        let fixture = Fixture::start(config).await;
        let response = fixture.request(method, "/two/1", &[], b"").await;
        assert_eq!((response.status, requests.load(Ordering::SeqCst)), (status, retries), "{method}");
        let retried = r#"portcullis_upstream_retries_total{upstream="two",reason="reset"}"#;
        assert_eq!(fixture.gateway.count(retried).await, retries as u64, "{method}");
    }
}

/// RFC 9113 §8.2.2 and §8.3.1: the host becomes the authority, and connection fields are removed.
/// The rest is as in HTTP/1.1.
#[tokio::test]
async fn forwards_a_request_in_http_2_form() {
    let (fixture, origin) = start(100, "").await;
    let headers = [("Host", "api.example"), ("Connection", "x-private, close"), ("X-Private", "1"), ("X-Kept", "1")];
    let response = fixture.request("POST", "/public/a?b=c", &headers, b"hello").await;
    let received = response.json();
    assert_eq!((response.status, &received["version"]), (200, &json!("HTTP/2.0")), "{received}");
    assert_eq!((&received["uri"], &received["body"]), (&json!("http://api.example/public/a?b=c"), &json!("hello")));
    let names: Vec<_> =
        received["headers"].as_array().expect("a list").iter().filter_map(|pair| pair[0].as_str()).collect();
    for (name, there) in [
        ("host", false),
        ("connection", false),
        ("transfer-encoding", false),
        ("te", false),
        ("x-private", false),
        ("x-kept", true),
        ("x-request-id", true),
        ("x-forwarded-for", true),
        ("content-length", true),
    ] {
        assert_eq!(names.contains(&name), there, "{name}: {names:?}");
    }
    let grpc = [("Content-Type", "application/grpc"), ("TE", "trailers")];
    let response = fixture.request("POST", "/public/call", &grpc, b"call").await;
    assert!(
        response.json()["headers"].as_array().expect("a list").contains(&json!(["te", "trailers"])),
        "{}",
        response.text()
    );
    let upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket")];
    let response = fixture.get("/public/socket", &upgrade).await;
    assert_eq!(response.status, 200, "the upgrade is ignored");
    let own = h2(fixture.gateway.addr()).await.get("/public/through", &[]).await;
    assert_eq!(own.status, 200, "HTTP/2 on both sides");
    assert_eq!(origin.connections(), 1);
}

/// The first burst opens one connection. More are opened only when all streams that the server
/// allows are in use.
#[tokio::test]
async fn shares_connections_and_opens_no_more_than_needed() {
    for (allowed, requests, connections) in [(100, 30, 1), (2, 6, 3), (1, 3, 3)] {
        let (fixture, origin) = start(allowed, "").await;
        origin.gate.send_replace(false);
        let sending = send_all(&fixture, requests);
        origin.wait_for_active(requests).await;
        assert_eq!(origin.connections(), connections, "{requests} requests, {allowed} on each");
        origin.gate.send_replace(true);
        sending.join_all().await;
        send_all(&fixture, requests).join_all().await;
        assert_eq!(origin.connections(), connections, "the connections are reused");
    }
}

/// `max_connections` and `max_pending` apply: one request waits for a stream, the next is refused
/// at once.
#[tokio::test]
async fn a_full_server_makes_some_wait_and_tells_the_rest() {
    let (fixture, origin) = start(2, "max_connections = 1\nmax_pending = 1").await;
    send_all(&fixture, 1).join_all().await;
    origin.gate.send_replace(false);
    let requests = send_all(&fixture, 3);
    origin.wait_for_active(2).await;
    fixture.gateway.wait_for_metric("portcullis_upstream_connections{upstream=\"main\",state=\"pending\"}", 1.0).await;
    let refused = fixture.get("/public/more", &[]).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("upstream_busy")));
    origin.gate.send_replace(true);
    requests.join_all().await;
    assert_eq!(origin.connections(), 1);
}

/// A gateway with two workers and one connection to an upstream, and a client of each worker.
async fn start_two_workers(max_streams: Option<u32>) -> (Fixture, H2Origin, Vec<Conn>) {
    let origin = H2Origin::start_with(max_streams).await;
    let protocol = if max_streams.is_some() { "http2" } else { "http1" };
    // Without the long `keep_alive`, an idle connection would soon be closed anyway.
    let keys = format!("max_connections = 1\nkeep_alive = \"1h\"\nprotocol = \"{protocol}\"");
    let config = Config::minimal()
        .upstream("one", &[origin.addr], &keys)
        .route("one", "access = \"public\"\nupstream = \"one\"");
    let fixture = Fixture::start(config).await;
    let mut clients = Vec::new();
    while clients.is_empty() || fixture.gateway.connections_by_worker().contains(&0) {
        let mut conn = fixture.connect().await;
        assert_eq!(conn.request("GET", "/public/a", &[], b"").await.status, 200);
        clients.push(conn);
    }
    (fixture, origin, clients)
}

/// `max_connections` is for all workers together: one that has a connection and no request for it
/// leaves it to another one.
#[tokio::test]
async fn a_worker_closes_its_idle_connection_for_another_worker() {
    for max_streams in [None, Some(10)] {
        let (_fixture, origin, mut clients) = start_two_workers(max_streams).await;
        for round in 0..2 {
            for conn in &mut clients {
                let response = conn.request("GET", "/one/a", &[], b"").await;
                assert_eq!(response.status, 200, "{max_streams:?}, {round}: {}", response.text());
            }
        }
        assert!(origin.connections() >= 3, "{max_streams:?}: {}", origin.connections());
    }
}

#[tokio::test]
async fn a_worker_closes_its_connection_after_the_last_request_if_another_worker_waits() {
    for max_streams in [None, Some(1)] {
        let (fixture, origin, mut clients) = start_two_workers(max_streams).await;
        origin.gate.send_replace(false);
        for conn in &mut clients {
            conn.send("GET /one/a HTTP/1.1\r\nHost: g\r\n\r\n").await;
        }
        let waiting = u32::try_from(clients.len() - 1).expect("a few");
        let pending = "portcullis_upstream_connections{upstream=\"one\",state=\"pending\"}";
        fixture.gateway.wait_for_metric(pending, f64::from(waiting)).await;
        origin.wait_for_active(1).await;
        origin.gate.send_replace(true);
        for conn in &mut clients {
            let response = conn.read_response().await;
            assert_eq!(response.status, 200, "{max_streams:?}: {}", response.text());
        }
    }
}

/// `keep_alive` counts from the end of the last stream.
#[tokio::test]
async fn an_idle_connection_is_closed_after_keep_alive() {
    let (fixture, origin) = start(10, "keep_alive = \"50ms\"").await;
    send_all(&fixture, 1).join_all().await;
    origin.wait_for_open(0).await;
    origin.gate.send_replace(false);
    let busy = send_all(&fixture, 1);
    origin.wait_for_active(1).await;
    let (other, other_origin) = start(10, "keep_alive = \"50ms\"").await;
    send_all(&other, 1).join_all().await;
    other_origin.wait_for_open(0).await;
    assert_eq!((origin.connections(), *origin.open.borrow()), (2, 1), "a connection with a stream is not idle");
    origin.gate.send_replace(true);
    busy.join_all().await;
    origin.wait_for_open(0).await;
}

/// A client that disconnects resets its own stream only.
#[tokio::test]
async fn an_aborted_client_request_frees_its_stream() {
    let (fixture, origin) = start(2, "max_connections = 1").await;
    origin.gate.send_replace(false);
    let kept = send_all(&fixture, 1);
    let mut aborted = fixture.connect().await;
    aborted.send("GET /public/aborted HTTP/1.1\r\nHost: g\r\n\r\n").await;
    origin.wait_for_active(2).await;
    drop(aborted);
    origin.wait_for_active(1).await;
    let next = send_all(&fixture, 1);
    origin.wait_for_active(2).await;
    origin.gate.send_replace(true);
    kept.join_all().await;
    next.join_all().await;
    assert_eq!(origin.connections(), 1);
}

/// All requests that wait for a connection fail together with the attempt to open it.
#[tokio::test]
async fn an_unreachable_server_is_an_error_for_all_waiting_requests() {
    let config = Config::minimal().main_server(closed_port()).add("upstreams.main", "protocol = \"http2\"");
    let fixture = Fixture::start(config).await;
    let requests: JoinSet<_> = (0..8)
        .map(|number| {
            let addr = fixture.gateway.addr();
            async move { client::get(addr, &format!("/public/{number}"), &[]).await }
        })
        .collect();
    for response in requests.join_all().await {
        let (status, code) = (response.status, response.json()["code"].clone());
        // After three failures, the circuit refuses those that arrive while another one tries.
        let is_refused = (status, &code) == (503, &json!("upstream_unavailable"));
        assert!(is_refused || (status, &code) == (502, &json!("upstream_unreachable")), "{status} {code}");
    }
}
