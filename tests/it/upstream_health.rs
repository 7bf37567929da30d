//! Servers that fail: which of them are avoided, for how long, and what clients get meanwhile.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, Origin};
use crate::support::server::{Server, bind};
use crate::support::with_deadline;

/// How a [`Switch`] treats connections.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Closes them at once, which the gateway counts as a failure to connect.
    Close,
    /// Keeps them without a byte: connecting takes until the mode changes.
    Hold,
    /// Serves HTTP/2.
    Serve,
}

/// An HTTP/2 server that a test switches between health and failure. With HTTP/2, a connection is
/// open only once the server's settings have arrived, so that connecting can be made to fail and to
/// hang.
struct Switch {
    addr: SocketAddr,
    mode: watch::Sender<Mode>,
    held: watch::Sender<usize>,
    _server: Server,
}

impl Switch {
    async fn start(mode: Mode) -> Self {
        let (listener, addr) = bind().await;
        let (mode, held) = (watch::Sender::new(mode), watch::Sender::new(0));
        let shared = (mode.clone(), held.clone());
        let server = Server::start(listener, move |stream| {
            let (mode, held) = shared.clone();
            async move {
                let mut mode = mode.subscribe();
                let first = *mode.borrow();
                match first {
                    Mode::Close => {}
                    Mode::Hold => {
                        held.send_modify(|count| *count += 1);
                        let _ = mode.wait_for(|now| *now != Mode::Hold).await;
                        held.send_modify(|count| *count -= 1);
                    }
                    Mode::Serve => serve(stream).await,
                }
            }
        });
        Self { addr, mode, held, _server: server }
    }

    fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    async fn wait_for_held(&self, wanted: usize) {
        let mut held = self.held.subscribe();
        with_deadline("held connections", held.wait_for(|count| *count == wanted)).await.expect("the switch lives");
    }
}

async fn serve(stream: TcpStream) {
    async fn respond(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(Response::new(Full::from("ok")))
    }
    let connection = http2::Builder::new(TokioExecutor::new());
    // It ends with an error when the gateway closes early.
    let _ = connection.serve_connection(TokioIo::new(stream), service_fn(respond)).await;
}

/// The public route `/NAME/*` to an upstream of these servers.
fn upstream(name: &str, servers: &[SocketAddr], keys: &str) -> Config {
    let route = format!("access = \"public\"\nupstream = \"{name}\"");
    Config::minimal().upstream(name, servers, keys).route(name, &route)
}

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

/// `balance = "round_robin"` and one worker, so that a test can count on whose turn it is.
fn two(one: &Origin, other: &Origin, keys: &str) -> Config {
    upstream("two", &[one.addr(), other.addr()], &format!("balance = \"round_robin\"\n{keys}")).one_worker()
}

fn up(server: &Origin) -> String {
    format!("portcullis_upstream_up{{upstream=\"two\",server=\"{}\"}}", server.addr())
}

/// Waits until the gauge of the server has this value.
async fn wait_for_up(fixture: &Fixture, server: &Origin, wanted: u64) {
    let sample = up(server);
    with_deadline(&sample, async { while fixture.gateway.count(&sample).await != wanted {} }).await;
}

/// Waits until the counter of health checks is at least `least`. It has no sample before the checks
/// have started.
async fn wait_for_count(fixture: &Fixture, sample: &str, least: f64) {
    let reached = async || fixture.gateway.metrics().await.get(sample).is_some_and(|value| value >= least);
    with_deadline(sample, async { while !reached().await {} }).await;
}

/// How many of the requests that the origin has received were not health checks.
fn served(origin: &Origin) -> usize {
    origin.requests().iter().filter(|request| !request.target.starts_with("/health")).count()
}

async fn readiness(fixture: &Fixture) -> (u16, String) {
    let response = client::get(fixture.gateway.admin(), "/readyz", &[]).await;
    (response.status, response.text())
}

const FAST_CHECKS: &str = "health = { path = \"/health?full=1\", interval = \"5ms\", timeout = \"10s\" }";

#[tokio::test]
async fn a_server_that_fails_its_checks_gets_no_requests_and_comes_back_with_a_growing_share() {
    let (healthy, failing) = (Origin::start().await, Origin::start().await);
    failing.behave("/health", Behaviour::response(503, &[], "starting"));
    let fixture = Fixture::start(two(&healthy, &failing, FAST_CHECKS)).await;
    wait_for_up(&fixture, &failing, 0).await;
    for _ in 0..10 {
        assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
    }
    assert_eq!([served(&healthy), served(&failing)], [10, 0]);
    let (status, text) = readiness(&fixture).await;
    let reason = format!("upstream two: server {} is not up: it fails its health checks: status 503", failing.addr());
    assert!(status == 200 && text.contains(&reason), "{status} {text}");

    failing.behave("/health", Behaviour::response(200, &[], "ok"));
    wait_for_up(&fixture, &failing, 1).await;
    // Half of the picks are its turn, and of these it takes its share: 10 %, 55 %, all. Which
    // ones is random.
    for (seconds, expected) in [(0, 1..=30), (5, 31..=80), (5, 95..=105)] {
        fixture.clock.advance(Duration::from_secs(seconds));
        let before = served(&failing);
        for _ in 0..200 {
            assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
        }
        let count = served(&failing) - before;
        assert!(expected.contains(&count), "after {seconds} s: {count}");
    }
    assert!(!readiness(&fixture).await.1.contains("two"));
}

#[tokio::test]
async fn a_check_is_a_request_to_the_server_itself_and_one_checker_serves_all_workers() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    let keys = "health = { path = \"/health?full=1\", interval = \"1h\" }";
    let fixture = Fixture::start(upstream("two", &[one.addr(), other.addr()], keys)).await;
    for server in [&one, &other] {
        let labels = format!("upstream=\"two\",server=\"{}\",result=\"success\"", server.addr());
        let sample = format!("portcullis_upstream_health_checks_total{{{labels}}}");
        wait_for_count(&fixture, &sample, 1.0).await;
        for _ in 0..8 {
            assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
        }
        let checks: Vec<_> =
            server.requests().into_iter().filter(|request| request.target.contains("health")).collect();
        let [check] = &checks[..] else { panic!("one check for two workers: {checks:?}") };
        assert_eq!((&*check.method, &*check.target), ("GET", "/health?full=1"));
        assert_eq!(check.header("host"), Some(&*server.addr().to_string()));
        assert!(check.header("user-agent").is_some_and(|agent| agent.starts_with("portcullis/")));
        assert_eq!(check.header("x-request-id"), None);
    }
}

/// If all servers fail their checks, no request tries one: the checks find out when one is back.
#[tokio::test]
async fn if_all_servers_fail_their_checks_requests_are_503_at_once_until_one_passes() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    for server in [&one, &other] {
        server.behave("/health", Behaviour::response(500, &[], ""));
    }
    let fixture = Fixture::start(two(&one, &other, FAST_CHECKS)).await;
    wait_for_up(&fixture, &one, 0).await;
    wait_for_up(&fixture, &other, 0).await;
    for _ in 0..3 {
        let response = fixture.get("/two/1", &[]).await;
        assert_eq!((response.status, &response.json()["code"]), (503, &json!("upstream_unavailable")));
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    assert_eq!([served(&one), served(&other)], [0, 0]);
    other.behave("/health", Behaviour::response(204, &[], ""));
    wait_for_up(&fixture, &other, 1).await;
    for _ in 0..3 {
        assert_eq!(fixture.get("/two/1", &[]).await.status, 200, "the only one that is up takes all");
    }
}

#[tokio::test]
async fn checks_use_the_protocol_of_the_upstream() {
    let server = Switch::start(Mode::Serve).await;
    let keys = format!("protocol = \"http2\"\n{FAST_CHECKS}");
    let fixture = Fixture::start(upstream("two", &[server.addr], &keys)).await;
    let result = |result| {
        format!(
            "portcullis_upstream_health_checks_total{{upstream=\"two\",server=\"{}\",result=\"{result}\"}}",
            server.addr
        )
    };
    wait_for_count(&fixture, &result("success"), 3.0).await;
    assert_eq!(fixture.gateway.count(&result("failure")).await, 0);
    server.set(Mode::Close);
    wait_for_count(&fixture, &result("failure"), 3.0).await;
}

#[tokio::test]
async fn a_check_has_a_time_limit_for_the_head_and_expects_the_configured_statuses() {
    for (name, behaviour, keys, expected) in [
        ("no response", Behaviour::Hang, "timeout = \"20ms\"", 0),
        ("closed", Behaviour::CloseBeforeHead, "timeout = \"10s\"", 0),
        ("not listed", Behaviour::response(200, &[], ""), "expect = [204, \"300-399\"]", 0),
        ("a redirect", Behaviour::response(302, &[], ""), "timeout = \"10s\"", 0),
        ("a listed redirect", Behaviour::response(302, &[], ""), "expect = [204, \"300-399\"]", 1),
        ("a body that does not end", Behaviour::Stall { sent: "x".into() }, "timeout = \"50ms\"", 1),
    ] {
        let (healthy, other) = (Origin::start().await, Origin::start().await);
        other.behave("/health", behaviour);
        let keys = format!("health = {{ path = \"/health\", interval = \"5ms\", unhealthy_after = 1, {keys} }}");
        let fixture = Fixture::start(two(&healthy, &other, &keys)).await;
        let checks = |result| {
            let labels = format!("upstream=\"two\",server=\"{}\",result=\"{result}\"", other.addr());
            format!("portcullis_upstream_health_checks_total{{{labels}}}")
        };
        wait_for_count(&fixture, &checks(if expected == 1 { "success" } else { "failure" }), 2.0).await;
        assert_eq!(fixture.gateway.count(&up(&other)).await, expected, "{name}");
    }
}

/// Threat DO-13.
#[tokio::test]
async fn a_check_reads_a_bounded_part_of_the_body() {
    let (endless, other) = (Origin::start().await, Origin::start().await);
    endless.behave("/health", Behaviour::Large(u64::MAX / 2));
    let keys = "health = { path = \"/health\", interval = \"1h\", timeout = \"1h\" }";
    let fixture = Fixture::start(two(&endless, &other, keys)).await;
    let labels = format!("upstream=\"two\",server=\"{}\",result=\"success\"", endless.addr());
    wait_for_count(&fixture, &format!("portcullis_upstream_health_checks_total{{{labels}}}"), 1.0).await;
    endless.wait_for_open_connections(0).await;
}

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

/// What a reload does not change is kept: connections and health of the servers that stay.
#[tokio::test]
async fn a_reload_keeps_servers_that_stay_and_follows_the_checks() {
    let (one, other, third) = (Origin::start().await, Origin::start().await, Origin::start().await);
    other.behave("/health", Behaviour::response(503, &[], ""));
    let three = |keys: &str| {
        let keys = format!("balance = \"round_robin\"\n{keys}");
        upstream("two", &[third.addr(), one.addr(), other.addr()], &keys).one_worker()
    };
    let send = async |fixture: &Fixture, requests| {
        for _ in 0..requests {
            assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
        }
        [served(&one), served(&other), served(&third)]
    };
    let fixture = Fixture::start(two(&one, &other, "")).await;
    assert_eq!(send(&fixture, 4).await, [2, 2, 0]);
    fixture.reload(three("slow_start = \"0s\"")).await;
    assert_eq!(send(&fixture, 6).await, [4, 4, 2]);
    assert_eq!([one.connections(), other.connections()], [1, 1], "the same ones as before the reload");

    let checked = "slow_start = \"0s\"\nhealth = { path = \"/health\", interval = \"5ms\" }";
    fixture.reload(two(&one, &other, checked)).await;
    wait_for_up(&fixture, &other, 0).await;
    fixture.reload(three(&format!("{checked}\neject = \"off\""))).await;
    assert_eq!(fixture.gateway.count(&up(&other)).await, 0, "known from before the reload");
    assert_eq!(send(&fixture, 4).await, [6, 4, 4]);
    fixture.reload(three("")).await;
    assert_eq!(fixture.gateway.count(&up(&other)).await, 1, "it is no longer checked");
}

#[tokio::test]
async fn the_metrics_of_a_server_end_with_it() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    // A pool outlives the last configuration of its server by up to that time.
    let keep_alive = "keep_alive = \"50ms\"";
    let fixture = Fixture::start(two(&one, &other, keep_alive)).await;
    for _ in 0..2 {
        assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
    }
    assert_eq!(fixture.gateway.count(&up(&other)).await, 1);
    fixture.reload(upstream("two", &[one.addr()], keep_alive).one_worker()).await;
    // The worker learns of the reload with its next request.
    assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
    let is_gone = async || fixture.gateway.metrics().await.get(&up(&other)).is_none();
    with_deadline("the end of the gauge", async { while !is_gone().await {} }).await;
}

#[tokio::test]
async fn a_server_that_a_reload_removes_is_no_longer_checked() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    let fixture = Fixture::start(two(&one, &other, FAST_CHECKS)).await;
    other.wait_for_requests(2).await;
    fixture.reload(upstream("two", &[one.addr()], FAST_CHECKS).one_worker()).await;
    other.wait_for_open_connections(0).await;
    let before = other.requests().len();
    let checks = one.requests().len();
    one.wait_for_requests(checks + 5).await;
    assert_eq!(other.requests().len(), before);
}
