//! The side door as a caller meets it: raw bytes over TCP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread::JoinHandle;

use super::*;
use crate::primitives::clock::ManualClock;
use crate::primitives::shutdown::{self, Trigger};

/// Readiness that a test sets.
#[derive(Default)]
struct Missing(Mutex<Vec<String>>);

impl Readiness for Missing {
    fn readiness(&self) -> Result<(), Vec<String>> {
        let missing = self.0.lock().unwrap().clone();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }
}

/// Readiness that fails at being asked.
struct Panics;

impl Readiness for Panics {
    fn readiness(&self) -> Result<(), Vec<String>> {
        panic!("asked")
    }
}

/// A side door on its thread, as the process has it.
struct Served {
    address: SocketAddr,
    trigger: Option<Trigger>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Served {
    fn start(bounds: Bounds, readiness: Arc<dyn Readiness>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = shutdown::channel();
        let metrics = Metrics::new(ManualClock::at(1_700_000_000).clock());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve_within(bounds, listener, readiness, metrics, shutdown))
        });
        Self { address, trigger: Some(trigger), thread: Some(thread) }
    }

    fn ready() -> Self {
        Self::start(BOUNDS, Arc::new(Missing::default()))
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
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

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.trigger.take());
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || ended.unwrap().is_ok());
    }
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset instead of an end still leaves what was read before.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn each_path_has_its_answer_and_near_misses_have_none() {
    let served = Served::ready();
    let host = served.address;
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
        ("post to nothing", "POST /reload", 404),
    ] {
        let answer = served.raw(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(status(&answer), expect, "{name}: {answer}");
        for header in ["cache-control: no-store\r\n", "x-content-type-options: nosniff\r\n", "connection: close\r\n"] {
            assert!(answer.contains(header), "{name}: {answer}");
        }
        assert_eq!(answer.contains("allow: GET, HEAD\r\n"), expect == 405, "{name}");
    }
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let served = Served::ready();
    let text = served.get("/metrics");
    assert!(text.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{text}");
    assert!(body(&text).contains("# TYPE portcullis_config_reloads_total counter\n"), "{text}");
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: application/openmetrics-text\r\n\r\n", served.address);
    let open_metrics = served.raw(&request);
    assert!(open_metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(body(&open_metrics).contains("# TYPE portcullis_config_reloads counter\n"));
    assert!(body(&open_metrics).ends_with("# EOF\n"));
}

#[test]
fn head_has_the_length_and_no_body() {
    let served = Served::ready();
    let answer = served.raw(&format!("HEAD /livez HTTP/1.1\r\nHost: {}\r\n\r\n", served.address));
    assert!(answer.contains("content-length: 13\r\n"), "{answer}");
    assert_eq!(body(&answer), "");
}

#[test]
fn readiness_is_asked_anew_and_says_what_is_missing() {
    let missing = Arc::new(Missing::default());
    let served = Served::start(BOUNDS, Arc::clone(&missing) as Arc<dyn Readiness>);
    assert_eq!(body(&served.get("/readyz")), r#"{"ready":true}"#);
    *missing.0.lock().unwrap() = vec!["issuer \"main\" has no keys".to_owned(), "draining".to_owned()];
    let answer = served.get("/readyz");
    assert_eq!(status(&answer), 503);
    assert_eq!(body(&answer), r#"{"ready":false,"reasons":["issuer \"main\" has no keys","draining"]}"#);
    assert_eq!(status(&served.get("/livez")), 200, "a gateway that is not ready is alive");
}

#[test]
fn a_browser_cannot_be_sent_here() {
    let served = Served::ready();
    let host = served.address;
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
        ("refused before the path is looked at", "GET /nothing HTTP/1.1\r\nHost: evil.test\r\n\r\n".to_owned(), 403),
    ] {
        let answer = served.raw(&request);
        let code = answer.get(9..12).unwrap_or_default();
        assert_eq!(code, expect.to_string(), "{name}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{name}: {answer}");
        assert!(!answer.contains("evil"), "{name}: {answer}");
    }
}

#[test]
fn a_body_is_read_so_that_the_answer_arrives() {
    let served = Served::ready();
    let request = format!("POST /livez HTTP/1.1\r\nHost: {}\r\nContent-Length: 10000\r\n\r\n", served.address);
    assert_eq!(status(&served.raw(&(request + &"x".repeat(10_000)))), 405);
}

#[test]
fn what_is_not_http_or_too_large_ends_the_connection_and_nothing_else() {
    let served = Served::ready();
    for (name, sent) in [
        ("garbage", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned()),
        ("http/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        (
            "a long head",
            format!("GET /livez HTTP/1.1\r\nHost: {}\r\nX: {}\r\n\r\n", served.address, "x".repeat(20_000)),
        ),
    ] {
        let answer = served.raw(&sent);
        assert_ne!(status(&answer), 200, "{name}: {answer}");
    }
    assert_eq!(status(&served.get("/livez")), 200);
}

#[test]
fn a_panic_ends_one_connection_only() {
    let served = Served::start(BOUNDS, Arc::new(Panics));
    assert_eq!(served.get("/readyz"), "");
    assert_eq!(status(&served.get("/livez")), 200);
}

#[test]
fn callers_that_send_nothing_are_let_go_and_others_get_their_turn() {
    let bounds = Bounds { connections: 1, header_time: Duration::from_millis(50), ..BOUNDS };
    let served = Served::start(bounds, Arc::new(Missing::default()));
    let mut idle = served.connect();
    idle.write_all(b"GET /livez HT").unwrap();
    assert_eq!(status(&served.get("/livez")), 200);
    assert_ne!(status(&read_all(&mut idle)), 200);
}

#[test]
fn a_connection_has_an_end_even_if_its_request_has_none() {
    let bounds = Bounds { connection_time: Duration::from_millis(50), ..BOUNDS };
    let served = Served::start(bounds, Arc::new(Missing::default()));
    let request = format!("POST /livez HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\n\r\n", served.address);
    assert_eq!(served.raw(&request), "");
}

#[test]
fn it_answers_while_draining_and_ends_when_stopped() {
    let served = Served::ready();
    let trigger = served.trigger.as_ref().unwrap();
    trigger.advance(Phase::Draining);
    assert_eq!(status(&served.get("/livez")), 200);
    let mut open = served.connect();
    trigger.advance(Phase::Stopped);
    assert_eq!(read_all(&mut open), "");
}
