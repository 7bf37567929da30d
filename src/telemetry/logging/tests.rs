//! The form of an event on stderr, and which events are written.

use std::sync::{Arc, Mutex, mpsc};

use super::*;
use crate::primitives::clock::ManualClock;

#[derive(Debug, thiserror::Error)]
#[error("key refresh failed")]
struct Outer(#[source] Inner);

#[derive(Debug, thiserror::Error)]
#[error("status 500\nforged line")]
struct Inner;

/// The log that `events` writes.
fn written(format: LineFormat, level: Level, coloured: bool, events: impl FnOnce()) -> String {
    let settings: &'static LogSettings = Box::leak(Box::default());
    settings.set(format, level);
    let written = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&written);
    let write = move |line: &[u8]| sink.lock().unwrap().extend_from_slice(line);
    let layer = EventLog { settings, coloured, clock: ManualClock::at(1_735_689_600).clock(), write };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
    let written = written.lock().unwrap().clone();
    String::from_utf8(written).unwrap()
}

/// The events of this thread while `action` runs, as lines of JSON.
pub(crate) fn events_of(action: impl FnOnce()) -> String {
    written(LineFormat::Json, Level::Debug, false, action)
}

fn an_event() {
    tracing::warn!(
        issuer = "main",
        error = &Outer(Inner) as &dyn std::error::Error,
        attempts = 3,
        ratio = 0.5,
        bad = f64::NAN,
        stale = true,
        wait = ?std::time::Duration::from_secs(2),
        "keys of {} are old",
        "main"
    );
}

#[test]
fn an_event_in_json_is_one_object() {
    insta::assert_snapshot!(written(LineFormat::Json, Level::Info, true, an_event), @r#"{"time":"2025-01-01T00:00:00.000Z","level":"warn","target":"portcullis::telemetry::logging::tests","message":"keys of main are old","issuer":"main","error":"key refresh failed: status 500\nforged line","attempts":3,"ratio":0.5,"bad":"NaN","stale":true,"wait":"2s"}"#);
}

#[test]
fn an_event_in_text_is_one_line() {
    insta::assert_snapshot!(written(LineFormat::Text, Level::Info, false, an_event), @r#"2025-01-01T00:00:00.000Z  warn portcullis::telemetry::logging::tests: keys of main are old issuer=main error="key refresh failed: status 500\nforged line" attempts=3 ratio=0.5 bad=NaN stale=true wait=2s"#);
}

#[test]
fn only_the_level_is_coloured() {
    let line = written(LineFormat::Text, Level::Info, true, || tracing::error!("down\u{1b}[0m"));
    assert_eq!(
        line,
        "2025-01-01T00:00:00.000Z \u{1b}[31merror\u{1b}[0m portcullis::telemetry::logging::tests: down\\u{1b}[0m\n"
    );
}

#[test]
fn injected_newlines_and_terminal_commands_stay_in_one_line() {
    let injected = "x\n2025-01-01T00:00:00.000Z error forged\r\n\u{1b}[2J\u{9b}2J";
    for format in [LineFormat::Json, LineFormat::Text] {
        for (name, line) in [
            ("message", written(format, Level::Info, false, || tracing::info!("{injected}"))),
            ("text", written(format, Level::Info, false, || tracing::info!(field = injected, "m"))),
            ("display", written(format, Level::Info, false, || tracing::info!(field = %injected, "m"))),
            ("debug", written(format, Level::Info, false, || tracing::info!(field = ?injected, "m"))),
        ] {
            assert_eq!(line.matches('\n').count(), 1, "{format:?} {name}: {line}");
            let controls = line.trim_end_matches('\n').chars().filter(|character| character.is_control()).count();
            assert_eq!(controls, 0, "{format:?} {name}: {line}");
        }
    }
}

#[test]
fn events_below_the_level_and_debug_output_of_libraries_are_left_out() {
    for (level, expect) in [
        (Level::Error, ""),
        (Level::Warn, "ours-warn theirs-warn"),
        (Level::Info, "ours-warn theirs-warn ours-info"),
        (Level::Trace, "ours-warn theirs-warn ours-info ours-trace"),
    ] {
        let log = written(LineFormat::Json, level, false, || {
            tracing::warn!("ours-warn");
            tracing::warn!(target: "h2::codec", "theirs-warn");
            tracing::info!("ours-info");
            tracing::info!(target: "h2::codec", "theirs-info");
            tracing::info!(target: "portcullis_other", "theirs-info");
            tracing::trace!("ours-trace");
            tracing::trace!(target: "h2::codec", "theirs-trace");
        });
        let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let messages: Vec<String> = events.map(|event| event["message"].as_str().unwrap().to_owned()).collect();
        assert_eq!(messages.join(" "), expect, "{level:?}");
    }
}

#[test]
fn a_value_whose_debug_impl_fails_does_not_panic() {
    struct Broken;
    impl fmt::Debug for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            Err(fmt::Error)
        }
    }
    let line = written(LineFormat::Text, Level::Info, false, || tracing::info!(field = ?Broken, "m"));
    assert!(line.ends_with(": m field=half\n"), "{line}");
}

/// A sink that blocks until the test lets it continue.
struct BlockingSink(mpsc::Receiver<()>);

impl std::io::Write for BlockingSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // An error means that the test has ended.
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn events_that_are_not_read_are_dropped_and_delay_nothing() {
    const EVENTS: u64 = 20_000;
    let (resume, blocked) = mpsc::channel();
    let dropped = Counter::default();
    let (queue, writer) = line_queue::channel(Box::new(BlockingSink(blocked)), dropped.clone(), FailureReport::Counted);
    let thread = std::thread::spawn(move || writer.run());
    let settings: &'static LogSettings = Box::leak(Box::default());
    settings.set(LineFormat::Json, Level::Info);
    let write = move |line: &[u8]| queue.push(line);
    let layer = EventLog { settings, coloured: false, clock: ManualClock::at(0).clock(), write };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for _ in 0..EVENTS {
            tracing::warn!("keys are old");
        }
    });
    assert!((1..EVENTS).contains(&dropped.get()), "{}", dropped.get());
    drop(resume);
    thread.join().unwrap();
}

#[test]
fn own_targets_are_the_crate_and_its_modules() {
    for (target, expect) in [("portcullis", true), ("portcullis::token", true), ("portcullis_x", false), ("h2", false)]
    {
        assert_eq!(is_ours(target), expect, "{target}");
    }
}
