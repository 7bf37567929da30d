//! The form of a line, the escaping of what clients send, and slow or failing sinks.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::primitives::clock::ManualClock;
use crate::telemetry::Exposition;

/// A sink whose content can be read.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn metrics() -> Arc<Metrics> {
    Metrics::new(ManualClock::at(0).clock())
}

/// A log whose writer runs on a thread of its own, as in the process.
fn start_log(format: LineFormat, sink: Box<dyn Write + Send>, metrics: &Metrics) -> AccessLog {
    let (log, writer) = AccessLog::new(format, sink, metrics);
    std::thread::spawn(move || writer.run());
    log
}

fn dropped(metrics: &Metrics) -> u64 {
    metrics.access_log_dropped().get()
}

const fn full() -> AccessLine<'static> {
    AccessLine {
        time: WallTime::from_seconds(1_735_689_600),
        request_id: "01JGFJJZ00",
        route: "orders",
        method: "GET",
        path: "/orders/7",
        status: 403,
        grpc_status: Some(7),
        code: Some("scope_insufficient"),
        reason: Some("a scope is missing"),
        blame: None,
        would_reject: None,
        issuer: Some("main"),
        subject: Some("5f2b6c1d9e8a7b30"),
        identity_omitted: Some("x-identity-roles"),
        client: IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        bytes_in: 0,
        bytes_out: 211,
        duration: Duration::from_micros(1_234_567),
        upstream: Some("backend"),
        server: None,
        upstream_duration: Some(Duration::from_micros(999)),
    }
}

const fn sparse() -> AccessLine<'static> {
    AccessLine {
        grpc_status: None,
        code: None,
        reason: None,
        blame: None,
        would_reject: None,
        issuer: None,
        subject: None,
        identity_omitted: None,
        upstream: None,
        server: None,
        upstream_duration: None,
        route: "",
        ..full()
    }
}

fn rendered(line: &AccessLine<'_>, format: LineFormat) -> String {
    let mut buffer = Vec::new();
    line.render(&mut buffer, format);
    String::from_utf8(buffer).unwrap()
}

#[test]
fn a_line_in_json_has_the_promised_fields() {
    insta::assert_snapshot!(rendered(&full(), LineFormat::Json), @r#"{"time":"2025-01-01T00:00:00.000Z","request_id":"01JGFJJZ00","route":"orders","method":"GET","path":"/orders/7","status":403,"grpc_status":7,"code":"scope_insufficient","reason":"a scope is missing","issuer":"main","subject":"5f2b6c1d9e8a7b30","identity_omitted":"x-identity-roles","client":"::1","bytes_in":0,"bytes_out":211,"duration_ms":1234.567,"upstream":"backend","upstream_ms":0.999}"#);
}

#[test]
fn a_line_in_text_has_the_same_fields() {
    insta::assert_snapshot!(rendered(&full(), LineFormat::Text), @r#"time=2025-01-01T00:00:00.000Z request_id=01JGFJJZ00 route=orders method=GET path=/orders/7 status=403 grpc_status=7 code=scope_insufficient reason="a scope is missing" issuer=main subject=5f2b6c1d9e8a7b30 identity_omitted=x-identity-roles client=::1 bytes_in=0 bytes_out=211 duration_ms=1234.567 upstream=backend upstream_ms=0.999"#);
}

#[test]
fn absent_fields_are_omitted() {
    insta::assert_snapshot!(rendered(&sparse(), LineFormat::Json), @r#"{"time":"2025-01-01T00:00:00.000Z","request_id":"01JGFJJZ00","route":"","method":"GET","path":"/orders/7","status":403,"client":"::1","bytes_in":0,"bytes_out":211,"duration_ms":1234.567}"#);
}

#[test]
fn client_text_stays_on_one_line_and_one_value() {
    for (name, injected) in [
        ("a second line", "/a\n{\"time\":\"2025-01-01T00:00:00.000Z\",\"status\":200}"),
        ("carriage return", "/a\r\nGET /b"),
        ("terminal command", "/a\u{1b}[2J\u{1b}]0;title\u{7}"),
        ("terminal command in eight bits", "/a\u{9b}2J"),
        ("a second value", "/a\",\"status\":200,\"x\":\""),
        ("a second value in text", "/a status=200"),
        ("backslash at the end", "/a\\"),
        ("line separators", "/a\u{2028}b\u{2029}c\u{85}d"),
        ("right to left", "/a\u{202e}b"),
        ("nul", "/a\0b"),
    ] {
        let line =
            AccessLine { path: injected, method: injected, request_id: injected, subject: Some(injected), ..full() };
        for format in [LineFormat::Json, LineFormat::Text] {
            let written = rendered(&line, format);
            let within = written.strip_suffix('\n').unwrap();
            assert!(!within.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}'), "{name}: {within}");
        }
        let read: serde_json::Value = serde_json::from_str(&rendered(&line, LineFormat::Json)).unwrap();
        for field in ["path", "method", "request_id", "subject"] {
            assert_eq!(read[field], injected, "{name}: {field}");
        }
        assert_eq!(read["status"], 403, "{name}");
        let text = rendered(&line, LineFormat::Text);
        let outside: String = text.split('"').step_by(2).collect();
        let quotes_escaped = text.contains("\\\"");
        assert!(quotes_escaped || outside.matches(" status=").count() == 1, "{name}: {text}");
    }
}

#[test]
fn long_text_is_truncated() {
    let path = format!("/{}", "a".repeat(100_000));
    let line = rendered(&AccessLine { path: &path, ..full() }, LineFormat::Json);
    assert!(line.len() < 3 * 1024, "{}", line.len());
}

#[test]
fn flushing_waits_for_every_line_queued_before() {
    let sink = Sink::default();
    let metrics = metrics();
    let log = start_log(LineFormat::Json, Box::new(sink.clone()), &metrics);
    for _ in 0..1_000 {
        log.write(&full());
    }
    assert!(log.flush());
    assert_eq!(sink.text().lines().count(), 1_000);
    log.with_format(LineFormat::Text).write(&full());
    assert!(log.flush());
    assert!(sink.text().lines().last().unwrap().starts_with("time=2025-01-01T00:00:00.000Z request_id="));
    assert_eq!(dropped(&metrics), 0);
}

/// A sink that reports each write and blocks until the test lets it continue.
struct BlockingSink {
    reached: Sender<()>,
    resume: Receiver<()>,
    sink: Sink,
}

impl Write for BlockingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.reached.send(());
        // An error means that the test has dropped the sender, after which the sink no longer
        // blocks.
        let _ = self.resume.recv();
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_queue_drops_and_counts_lines_without_blocking() {
    for (name, path, at_most) in [
        ("many lines", "/orders/7".to_owned(), 8_192_u64),
        ("long lines", "\u{1}".repeat(2_048), 16 * 1024 * 1024 / (4 * 6 * 2_048)),
    ] {
        let metrics = metrics();
        let sink = Sink::default();
        let (reached, has_reached) = channel();
        let (resume_sender, resume) = channel();
        let blocking = BlockingSink { reached, resume, sink: sink.clone() };
        let log = start_log(LineFormat::Json, Box::new(blocking), &metrics);
        let line = AccessLine { path: &path, method: &path, request_id: &path, subject: Some(&path), ..full() };
        log.write(&line);
        has_reached.recv().unwrap();
        for _ in 0..at_most + 1_000 {
            log.write(&line);
        }
        assert!((1_000..1_100).contains(&dropped(&metrics)), "{name}: {}", dropped(&metrics));
        drop(resume_sender);
        assert!(log.flush(), "{name}");
        let written = sink.text().lines().count() as u64;
        assert_eq!(written + dropped(&metrics), at_most + 1_001, "{name}");
        let exposed = metrics.encode(Exposition::PrometheusText);
        assert!(exposed.contains(&format!("portcullis_access_log_dropped_total {}\n", dropped(&metrics))), "{name}");
    }
}

/// A sink on which every write fails.
struct FailingSink;

impl Write for FailingSink {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let metrics = metrics();
    let log = start_log(LineFormat::Json, Box::new(FailingSink), &metrics);
    for _ in 0..3 {
        log.write(&full());
    }
    assert!(log.flush());
    assert_eq!(dropped(&metrics), 3);
}

/// A sink that reports when it is dropped, which is when the writer has ended.
struct DropReportingSink(Sink, Sender<()>);

impl Write for DropReportingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for DropReportingSink {
    fn drop(&mut self) {
        let _ = self.1.send(());
    }
}

#[test]
fn the_writer_writes_queued_lines_and_ends_with_the_last_clone() {
    let sink = Sink::default();
    let (ended, has_ended) = channel();
    let log = start_log(LineFormat::Json, Box::new(DropReportingSink(sink.clone(), ended)), &metrics());
    log.clone().write(&full());
    drop(log);
    has_ended.recv().unwrap();
    assert_eq!(sink.text().lines().count(), 1);
}

#[test]
fn a_log_that_is_off_writes_nothing_and_flushes_at_once() {
    let log = AccessLog::off();
    log.write(&full());
    assert!(log.flush());
}
