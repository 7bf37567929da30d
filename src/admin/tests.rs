//! The admin listener as clients see it: raw bytes over TCP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread::JoinHandle;

use super::*;
use crate::primitives::clock::ManualClock;
use crate::primitives::shutdown::{self, Trigger};

/// Readiness that a test sets.
struct ManualReadiness(Mutex<ReadinessReport>);

impl Default for ManualReadiness {
    fn default() -> Self {
        Self(Mutex::new(ReadinessReport { is_ready: true, reasons: Vec::new() }))
    }
}

impl Readiness for ManualReadiness {
    fn readiness(&self) -> ReadinessReport {
        self.0.lock().unwrap().clone()
    }
}

/// Readiness that panics when it is queried.
struct PanickingReadiness;

impl Readiness for PanickingReadiness {
    fn readiness(&self) -> ReadinessReport {
        panic!("queried")
    }
}

/// An admin listener on its own thread, as in the process.
struct AdminFixture {
    address: SocketAddr,
    trigger: Option<Trigger>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl AdminFixture {
    fn start(limits: Limits, readiness: Arc<dyn Readiness>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = shutdown::channel();
        let metrics = Metrics::new(ManualClock::at(1_700_000_000).clock());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve_with_limits(limits, listener, readiness, metrics, shutdown))
        });
        Self { address, trigger: Some(trigger), thread: Some(thread) }
    }

    fn ready() -> Self {
        Self::start(LIMITS, Arc::new(ManualReadiness::default()))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // Only decides how late a broken test fails.
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends `request` and reads until the connection ends.
    fn raw(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_all(&mut stream)
    }

    fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address))
    }
}

impl Drop for AdminFixture {
    fn drop(&mut self) {
        drop(self.trigger.take());
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || ended.unwrap().is_ok());
    }
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    // A reset instead of an end still leaves what was read before.
    let _ = stream.read_to_end(&mut response);
    String::from_utf8(response).unwrap()
}

fn status(response: &str) -> u16 {
    response.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn each_path_has_its_response_and_similar_paths_are_not_found() {
    let admin = AdminFixture::ready();
    let host = admin.address;
    for (name, line, expect) in [
        ("metrics", "GET /metrics", 200),
        ("metrics, head", "HEAD /metrics", 200),
        ("metrics with a query", "GET /metrics?x=1", 200),
        ("live", "GET /livez", 200),
        ("ready", "GET /readyz", 200),
        ("the root", "GET /", 404),
        ("deeper", "GET /metrics/", 404),
        ("dot segments", "GET /metrics/../config", 404),
        ("other case", "GET /Metrics", 404),
        ("encoded", "GET /%6detrics", 404),
        ("post", "POST /metrics", 405),
        ("delete", "DELETE /readyz", 405),
        ("options", "OPTIONS /livez", 405),
        ("an invented method", "FOO /livez", 405),
        ("post to an unknown path", "POST /reload", 404),
    ] {
        let response = admin.raw(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(status(&response), expect, "{name}: {response}");
        for header in ["cache-control: no-store\r\n", "x-content-type-options: nosniff\r\n", "connection: close\r\n"] {
            assert!(response.contains(header), "{name}: {response}");
        }
        assert_eq!(response.contains("allow: GET, HEAD\r\n"), expect == 405, "{name}");
    }
}

#[test]
fn metrics_come_in_the_format_that_accept_prefers() {
    let admin = AdminFixture::ready();
    let text = admin.get("/metrics");
    assert!(text.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{text}");
    assert!(body(&text).contains("# TYPE portcullis_config_reloads_total counter\n"), "{text}");
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: application/openmetrics-text\r\n\r\n", admin.address);
    let open_metrics = admin.raw(&request);
    assert!(open_metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(body(&open_metrics).contains("# TYPE portcullis_config_reloads counter\n"));
    assert!(body(&open_metrics).ends_with("# EOF\n"));
}

#[test]
fn head_has_the_length_and_no_body() {
    let admin = AdminFixture::ready();
    let response = admin.raw(&format!("HEAD /livez HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address));
    assert!(response.contains("content-length: 13\r\n"), "{response}");
    assert_eq!(body(&response), "");
}

#[test]
fn readiness_is_queried_each_time_and_gives_reasons() {
    let readiness = Arc::new(ManualReadiness::default());
    let admin = AdminFixture::start(LIMITS, Arc::clone(&readiness) as Arc<dyn Readiness>);
    assert_eq!(body(&admin.get("/readyz")), r#"{"ready":true}"#);
    let reasons = vec!["draining".to_owned(), "issuer \"main\" has no keys".to_owned()];
    *readiness.0.lock().unwrap() = ReadinessReport { is_ready: true, reasons: reasons[1..].to_vec() };
    let response = admin.get("/readyz");
    assert_eq!(status(&response), 200);
    assert_eq!(body(&response), r#"{"ready":true,"reasons":["issuer \"main\" has no keys"]}"#);
    *readiness.0.lock().unwrap() = ReadinessReport { is_ready: false, reasons };
    let response = admin.get("/readyz");
    assert_eq!(status(&response), 503);
    assert_eq!(body(&response), r#"{"ready":false,"reasons":["draining","issuer \"main\" has no keys"]}"#);
    assert_eq!(status(&admin.get("/livez")), 200, "a gateway that is not ready is still alive");
}

#[test]
fn web_pages_cannot_read_the_listener() {
    let admin = AdminFixture::ready();
    let host = admin.address;
    for (name, request, expect) in [
        ("same origin", format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\r\n"), 200),
        ("rebound name", "GET /livez HTTP/1.1\r\nHost: evil.test\r\n\r\n".to_owned(), 403),
        ("no host", "GET /livez HTTP/1.1\r\n\r\n".to_owned(), 403),
        ("no host, 1.0", "GET /livez HTTP/1.0\r\n\r\n".to_owned(), 403),
        ("other origin", format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nOrigin: https://evil\r\n\r\n"), 403),
        (
            "a form of another origin",
            format!(
                "POST /livez HTTP/1.1\r\nHost: {host}\r\nOrigin: null\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"
            ),
            403,
        ),
        ("forbidden before the path is checked", "GET /nothing HTTP/1.1\r\nHost: evil.test\r\n\r\n".to_owned(), 403),
    ] {
        let response = admin.raw(&request);
        let code = response.get(9..12).unwrap_or_default();
        assert_eq!(code, expect.to_string(), "{name}: {response}");
        assert!(response.contains("x-content-type-options: nosniff\r\n"), "{name}: {response}");
        assert!(!response.contains("evil"), "{name}: {response}");
    }
}

#[test]
fn a_body_is_read_so_that_the_response_arrives() {
    let admin = AdminFixture::ready();
    let request = format!("POST /livez HTTP/1.1\r\nHost: {}\r\nContent-Length: 10000\r\n\r\n", admin.address);
    assert_eq!(status(&admin.raw(&(request + &"x".repeat(10_000)))), 405);
}

#[test]
fn malformed_or_oversized_requests_end_their_connection_only() {
    let admin = AdminFixture::ready();
    for (name, sent) in [
        ("garbage", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned()),
        ("http/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("a long head", format!("GET /livez HTTP/1.1\r\nHost: {}\r\nX: {}\r\n\r\n", admin.address, "x".repeat(20_000))),
    ] {
        let response = admin.raw(&sent);
        assert_ne!(status(&response), 200, "{name}: {response}");
    }
    assert_eq!(status(&admin.get("/livez")), 200);
}

#[test]
fn a_panic_ends_one_connection_only() {
    let admin = AdminFixture::start(LIMITS, Arc::new(PanickingReadiness));
    assert_eq!(admin.get("/readyz"), "");
    assert_eq!(status(&admin.get("/livez")), 200);
}

#[test]
fn idle_clients_time_out() {
    let limits = Limits { header_timeout: Duration::from_millis(50), ..LIMITS };
    let admin = AdminFixture::start(limits, Arc::new(ManualReadiness::default()));
    let mut idle = admin.connect();
    idle.write_all(b"GET /livez HT").unwrap();
    assert_ne!(status(&read_all(&mut idle)), 200);
}

/// Limits that only the number of connections brings about.
const PATIENT: Limits = Limits {
    header_timeout: Duration::from_secs(3600),
    body_timeout: Duration::from_secs(3600),
    connection_timeout: Duration::from_secs(3600),
    ..LIMITS
};

/// Threat DO-9: clients that hold connections, whatever they have sent, do not keep a scrape out.
#[test]
fn the_oldest_connection_gives_way_to_a_new_one() {
    for (name, sent) in [
        ("nothing", ""),
        ("half a head", "GET /livez HT"),
        ("half a body", "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"),
    ] {
        let admin = AdminFixture::start(PATIENT, Arc::new(ManualReadiness::default()));
        let mut held = Vec::new();
        for _ in 0..2 * PATIENT.connections {
            let mut stream = admin.connect();
            stream.write_all(sent.as_bytes()).unwrap();
            held.push(stream);
        }
        assert_eq!(status(&admin.get("/metrics")), 200, "{name}");
        assert_eq!(read_all(&mut held[0]), "", "{name}: the oldest is closed");
    }
}

/// Threat DO-9: one client has a share, and takes the place of its own connections only.
#[test]
fn a_client_at_its_share_loses_its_own_connections_only() {
    let client = |last: u8| IpAddr::from([192, 0, 2, last]);
    let limits = Limits { connections: 3, connections_per_client: 2, ..LIMITS };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut tasks = JoinSet::<()>::new();
        let mut open = OpenConnections::default();
        for (arriving, expected) in
            [(1, vec![1]), (2, vec![1, 2]), (2, vec![1, 2, 2]), (2, vec![1, 2, 2]), (3, vec![2, 2, 3])]
        {
            open.make_room(client(arriving), limits);
            open.add(client(arriving), tasks.spawn(std::future::pending()));
            let owners: Vec<IpAddr> = open.0.iter().map(|(owner, _)| *owner).collect();
            assert_eq!(owners, expected.into_iter().map(client).collect::<Vec<_>>());
        }
        let ended = timeout(Duration::from_secs(30), tasks.join_next_with_id()).await.expect("one gave way");
        assert!(ended.unwrap().unwrap_err().is_cancelled(), "a connection that gave way is closed");
    });
}

/// A request whose body does not arrive is answered all the same.
#[test]
fn the_response_does_not_depend_on_the_body() {
    let limits = Limits { body_timeout: Duration::from_millis(50), ..PATIENT };
    let admin = AdminFixture::start(limits, Arc::new(ManualReadiness::default()));
    for (name, host, expect) in
        [("forbidden", "evil.test".to_owned(), 403), ("a method", admin.address.to_string(), 405)]
    {
        let response = admin.raw(&format!("POST /livez HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\nx"));
        assert_eq!(status(&response), expect, "{name}: {response}");
    }
}

#[test]
fn a_connection_times_out_even_if_its_request_does_not_end() {
    let limits = Limits { connection_timeout: Duration::from_millis(50), ..PATIENT };
    let admin = AdminFixture::start(limits, Arc::new(ManualReadiness::default()));
    let request = format!("POST /livez HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\n\r\n", admin.address);
    assert_eq!(admin.raw(&request), "");
}

#[test]
fn it_accepts_no_more_while_it_drains_and_ends_when_it_is_stopped() {
    let admin = AdminFixture::ready();
    let trigger = admin.trigger.as_ref().unwrap();
    let (mut busy, mut open) = (admin.connect(), admin.connect());
    // Both are accepted, in this order.
    assert_eq!(status(&admin.get("/livez")), 200);
    trigger.advance(Phase::Draining);
    while TcpStream::connect(admin.address).is_ok() {}
    write!(busy, "GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address).unwrap();
    assert_eq!(status(&read_all(&mut busy)), 200);
    trigger.advance(Phase::Stopped);
    assert_eq!(read_all(&mut open), "");
}
