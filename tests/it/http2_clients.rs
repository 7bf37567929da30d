//! HTTP/2 clients that misuse their connection: they do not take their responses, cancel their
//! requests, or leave the connection idle.

use std::time::Duration;

use serde_json::json;

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::frames::{self, CANCEL, Frames, GET_REQUEST, NO_WINDOW, Outcome, kind};
use crate::support::origin::Behaviour;

/// `SETTINGS_INITIAL_WINDOW_SIZE` is 1: of each response, a stream may carry one byte.
const WINDOW_OF_ONE: [u8; 6] = [0, 4, 0, 0, 0, 1];

fn get(path: &'static str) -> Vec<(&'static str, &'static str)> {
    GET_REQUEST.iter().map(|&(name, value)| (name, if name == ":path" { path } else { value })).collect()
}

/// Waits for GOAWAY. The gateway's first ping, which comes after 20 seconds, must not come first:
/// the connection would then have been closed because of that frame, or for being idle.
async fn assert_goes_away_before_ping(frames: &mut Frames, name: &str) {
    loop {
        let frame = frames.next().await;
        assert_ne!(frame.kind, kind::PING, "{name}");
        if frame.kind == kind::GO_AWAY {
            break;
        }
    }
}

/// Waits for GOAWAY and the end, likewise.
async fn assert_closed_before_ping(frames: &mut Frames, name: &str) {
    assert_goes_away_before_ping(frames, name).await;
    frames.read_to_close().await;
}

/// DO-3: every response body has the stall timeout, whoever wrote it, and the connection ends at
/// its idle timeout.
#[tokio::test]
async fn resets_a_response_whose_stream_window_stays_closed() {
    let config = Config::minimal().one_worker();
    let fixture = Fixture::start(config.add("server", "body_idle_timeout = \"100ms\"\nidle_timeout = \"100ms\"")).await;
    fixture.origin.behave("/public/large", Behaviour::Large(8 * 1024 * 1024));
    for (index, (name, path, status)) in [
        ("a refusal without a route", "/nowhere", 404),
        ("a refusal without a token", "/token/a", 401),
        ("a small response of the upstream", "/public/a", 200),
        ("a large one", "/public/large", 200),
    ]
    .into_iter()
    .enumerate()
    {
        let mut frames = Frames::open_with(&fixture, &NO_WINDOW).await;
        frames.headers(1, &get(path), true).await;
        let reset = frames.next_of(kind::RST_STREAM).await;
        assert_eq!(reset.stream, 1, "{name}");
        let lines = fixture.gateway.wait_for_access_lines(index + 1).await;
        assert_eq!(lines[index]["status"], json!(status), "{name}");
        assert_closed_before_ping(&mut frames, name).await;
    }
    fixture.origin.wait_for_open_connections(0).await;
}

/// DO-3: h2 takes a small response as soon as one byte may be sent, and keeps the rest.
#[tokio::test]
async fn closes_a_connection_whose_client_takes_one_byte_of_each_response() {
    let fixture = Fixture::start(Config::minimal().add("server", "idle_timeout = \"100ms\"")).await;
    let mut frames = Frames::open_with(&fixture, &WINDOW_OF_ONE).await;
    frames.headers(1, &get("/nowhere"), true).await;
    assert_eq!(frames.next_of(kind::DATA).await.payload.len(), 1);
    assert_closed_before_ping(&mut frames, "one byte").await;
}

/// The counterpart: only time that the client lets pass counts against it.
#[tokio::test]
async fn a_slow_upstream_is_no_fault_of_the_client() {
    let fixture = Fixture::start(Config::minimal().add("server", "body_idle_timeout = \"100ms\"")).await;
    let head = fixture.origin.delay("/public/delayed");
    let mut waiting = Frames::open(&fixture).await;
    waiting.headers(1, &get("/public/delayed"), true).await;
    fixture.origin.wait_for_requests(1).await;
    // Takes `body_idle_timeout`.
    let mut stalled = Frames::open_with(&fixture, &NO_WINDOW).await;
    stalled.headers(1, &get("/nowhere"), true).await;
    stalled.next_of(kind::RST_STREAM).await;
    drop(head);
    assert_eq!(waiting.outcome(1).await, Outcome::Status(200));
}

/// The counterpart: a client that makes progress may take longer than the timeout in all.
#[tokio::test]
async fn a_client_that_opens_its_window_bit_by_bit_gets_the_whole_response() {
    const STEP: u32 = 16 * 1024;
    const STEPS: u64 = 20;
    let fixture = Fixture::start(Config::minimal().add("server", "body_idle_timeout = \"1s\"")).await;
    fixture.origin.behave("/public/large", Behaviour::Large(STEPS * u64::from(STEP)));
    // `SETTINGS_INITIAL_WINDOW_SIZE` is one step.
    let mut frames = Frames::open_with(&fixture, &[0, 4, 0, 0, 0x40, 0]).await;
    frames.headers(1, &get("/public/large"), true).await;
    let mut interval = tokio::time::interval(Duration::from_millis(80));
    let (mut received, mut wanted) = (0, 0);
    for _ in 0..STEPS {
        wanted += u64::from(STEP);
        while received < wanted {
            received += frames.next_of(kind::DATA).await.payload.len() as u64;
        }
        interval.tick().await;
        for stream in [0, 1] {
            // The last step may come after the end.
            let _ = frames.try_send(kind::WINDOW_UPDATE, 0, stream, &STEP.to_be_bytes()).await;
        }
    }
}

/// DO-3: what the gateway holds of a response for a client with large windows that does not read.
#[tokio::test]
async fn a_client_that_reads_nothing_does_not_make_the_gateway_read_the_whole_response() {
    /// The largest window of a stream, and what makes the connection's as large (RFC 9113 §6.9.1).
    const MAX_WINDOW: [u8; 6] = [0, 4, 0x7f, 0xff, 0xff, 0xff];
    const INCREMENT: [u8; 4] = [0x7f, 0xff, 0, 0];
    let length = 64 * 1024 * 1024;
    let fixture = Fixture::start(Config::minimal().add("server", "body_idle_timeout = \"200ms\"")).await;
    fixture.origin.behave("/public/large", Behaviour::Large(length));
    let mut frames = Frames::open_with(&fixture, &MAX_WINDOW).await;
    frames.send(kind::WINDOW_UPDATE, 0, 0, &INCREMENT).await;
    frames.headers(1, &get("/public/large"), true).await;
    let lines = fixture.gateway.wait_for_access_lines(1).await;
    let taken = lines[0]["bytes_out"].as_u64().expect("a number");
    assert!(taken < length / 2, "{taken}");
    fixture.origin.wait_for_open_connections(0).await;
}

/// DO-2: HTTP/2 itself rejects a head far above the limit, so that it is not collected. See
/// docs/answers.md: without a problem document, a request id or a line in the log.
#[tokio::test]
async fn a_head_far_above_the_limit_never_becomes_a_request() {
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    let fixture = Fixture::start(Config::minimal().one_worker()).await;
    let mut frames = Frames::open(&fixture).await;
    let value = "a".repeat(120);
    let fields = [&GET_REQUEST[..], &vec![("x-a", value.as_str()); 900]].concat();
    let block = frames::block(&fields);
    let mut fragments = block.chunks(16 * 1024).peekable();
    frames.send(kind::HEADERS, END_STREAM, 1, fragments.next().expect("a block")).await;
    while let Some(fragment) = fragments.next() {
        let flags = if fragments.peek().is_none() { END_HEADERS } else { 0 };
        // The gateway may close in the middle of the head.
        let _ = frames.try_send(kind::CONTINUATION, flags, 1, fragment).await;
    }
    let outcome = frames.outcome(1).await;
    assert_ne!(outcome, Outcome::Status(200));
    assert_eq!(fixture.get("/nowhere", &[]).await.status, 404);
    let lines = fixture.gateway.wait_for_access_lines(1).await;
    assert_eq!(lines.iter().map(|line| &line["status"]).collect::<Vec<_>>(), [&json!(404)]);
}

/// The settings that the gateway announces (RFC 9113 §6.5.2) keep a correct client within limits.
#[tokio::test]
async fn announces_its_limits() {
    let fixture = Fixture::start(Config::minimal().add("server", "max_header_size = \"16 KiB\"")).await;
    let settings = Frames::open(&fixture).await.next_of(kind::SETTINGS).await.payload;
    let value = |id: u16| {
        let mut items = settings.chunks_exact(6).filter(|item| item[..2] == id.to_be_bytes());
        items.next().map(|item| u32::from_be_bytes([item[2], item[3], item[4], item[5]]))
    };
    assert_eq!(value(3), Some(100), "concurrent streams");
    assert!(value(6).is_some_and(|bytes| (32 * 1024..64 * 1024).contains(&bytes)), "the size of a head");
}

/// DO-3: a refusal is small; a client that opens no window for it is not waiting for it.
#[tokio::test]
async fn a_refusal_that_the_client_does_not_take_does_not_delay_a_drain() {
    let timeouts = "body_idle_timeout = \"10m\"\nidle_timeout = \"10m\"\ndrain_timeout = \"10m\"";
    let fixture = Fixture::start(Config::minimal().add("server", timeouts)).await;
    let mut frames = Frames::open_with(&fixture, &NO_WINDOW).await;
    frames.headers(1, &get("/nowhere"), true).await;
    assert_eq!(frames.outcome(1).await, Outcome::Status(404));
    fixture.gateway.drain();
    fixture.gateway.wait_for_end().await;
}

/// DO-3: an HTTP/2 connection without a request is as idle as one between two requests.
#[tokio::test]
async fn a_connection_without_a_request_does_not_delay_a_drain() {
    let timeouts = "header_timeout = \"10m\"\ndrain_timeout = \"10m\"";
    let fixture = Fixture::start(Config::minimal().add("server", timeouts)).await;
    let mut frames = Frames::open(&fixture).await;
    frames.next_of(kind::SETTINGS).await;
    fixture.gateway.drain();
    frames.next_of(kind::GO_AWAY).await;
    fixture.gateway.wait_for_end().await;
}

/// DO-1: the idle timeout runs from the end of the last request, however it ends, and not from the
/// next frame of the connection.
#[tokio::test]
async fn an_idle_connection_is_closed_before_the_next_ping() {
    let fixture = Fixture::start(Config::minimal().add("server", "idle_timeout = \"100ms\"")).await;
    fixture.origin.behave("/public/never", Behaviour::Hang);
    for (name, path) in
        [("a response of the upstream", "/public/a"), ("a refusal", "/nowhere"), ("a reset", "/public/never")]
    {
        let mut frames = Frames::open(&fixture).await;
        frames.headers(1, &get(path), true).await;
        if name == "a reset" {
            fixture.origin.wait_for_requests(2).await;
            frames.send(kind::RST_STREAM, 0, 1, &CANCEL).await;
        }
        assert_closed_before_ping(&mut frames, name).await;
    }
}

/// Sends a request for `/public/hang`, and resets it once it is at the origin, as its `number`th.
async fn cancel(frames: &mut Frames, fixture: &Fixture, number: u32) {
    let stream = 2 * number - 1;
    frames.headers(stream, &get("/public/hang"), true).await;
    fixture.origin.wait_for_requests(number as usize).await;
    frames.send(kind::RST_STREAM, 0, stream, &CANCEL).await;
}

/// DO-10: the resets arrive after the requests were accepted, so that h2 does not count them.
#[tokio::test]
async fn a_client_that_cancels_its_requests_gets_goaway_and_is_then_disconnected() {
    let fixture = Fixture::start(Config::minimal()).await;
    fixture.origin.behave("/public/hang", Behaviour::Hang);
    let mut frames = Frames::open(&fixture).await;
    for number in 1..=101 {
        cancel(&mut frames, &fixture, number).await;
    }
    let go_away = frames.next_of(kind::GO_AWAY).await;
    assert_eq!(go_away.payload[4..8], [0; 4], "NO_ERROR: h2 has not seen a fault");
    // This client goes on.
    for number in 102..=202 {
        cancel(&mut frames, &fixture, number).await;
    }
    frames.read_to_close().await;
    assert_eq!(fixture.origin.requests().len(), 202);
}

/// The head of a gRPC call with this deadline.
fn call(path: &'static str, timeout: &'static str) -> Vec<(&'static str, &'static str)> {
    let post = get(path).into_iter().map(|(name, value)| (name, if name == ":method" { "POST" } else { value }));
    post.chain([("content-type", "application/grpc"), ("grpc-timeout", timeout)]).collect()
}

/// DO-10: the deadline that a client sets for its call resets the upstream's stream too.
#[tokio::test]
async fn calls_that_end_at_their_own_deadline_count_as_cancelled() {
    for has_begun in [false, true] {
        let fixture = Fixture::start(Config::minimal()).await;
        fixture.origin.behave("/public/hang", Behaviour::Hang);
        let mut frames = Frames::open(&fixture).await;
        let mut responses = Vec::new();
        for number in 1..=101 {
            if has_begun {
                responses.push(fixture.origin.stream("/public/hang"));
            }
            let stream = 2 * number - 1;
            frames.headers(stream, &call("/public/hang", "20m"), true).await;
            assert_eq!(frames.outcome(stream).await, Outcome::Status(200), "{has_begun}, {number}");
            if has_begun {
                // The trailers.
                frames.next_of(kind::HEADERS).await;
            }
        }
        assert_goes_away_before_ping(&mut frames, "calls past their deadline").await;
    }
}

/// A server would only begin something that is reset at once.
#[tokio::test]
async fn a_call_whose_deadline_has_passed_reaches_no_server() {
    let fixture = Fixture::start(Config::minimal()).await;
    let mut frames = Frames::open(&fixture).await;
    frames.headers(1, &call("/public/a", "1n"), true).await;
    assert_eq!(frames.outcome(1).await, Outcome::Status(200), "with a gRPC status");
    assert_eq!(fixture.origin.requests().len(), 0);
}

/// The counterpart of the test above: as many requests are completed as cancelled.
#[tokio::test]
async fn a_client_that_completes_requests_too_may_cancel_others() {
    for (name, path, status) in [("with a body", "/public/a", 200), ("without one", "/public/empty", 204)] {
        let fixture = Fixture::start(Config::minimal()).await;
        fixture.origin.behave("/public/hang", Behaviour::Hang);
        fixture.origin.behave("/public/empty", Behaviour::response(204, &[], ""));
        let mut frames = Frames::open(&fixture).await;
        for number in 1..=120 {
            cancel(&mut frames, &fixture, 2 * number - 1).await;
            let stream = 4 * number - 1;
            frames.headers(stream, &get(path), true).await;
            assert_eq!(frames.outcome(stream).await, Outcome::Status(status), "{name}, {number}");
        }
    }
}

/// DO-10: a refusal costs a client nothing, so it does not pay for a cancelled request.
#[tokio::test]
async fn refusals_between_cancelled_requests_change_nothing() {
    let fixture = Fixture::start(Config::minimal()).await;
    fixture.origin.behave("/public/hang", Behaviour::Hang);
    let mut frames = Frames::open(&fixture).await;
    for number in 1..=101 {
        let (refused, cancelled) = (4 * number - 3, 4 * number - 1);
        frames.headers(refused, &get("/nowhere"), true).await;
        assert_eq!(frames.outcome(refused).await, Outcome::Status(404), "{number}");
        frames.headers(cancelled, &get("/public/hang"), true).await;
        fixture.origin.wait_for_requests(number as usize).await;
        frames.send(kind::RST_STREAM, 0, cancelled, &CANCEL).await;
    }
    frames.next_of(kind::GO_AWAY).await;
}

/// DO-10: a response that is nearly there is read without its client, and the connection to the
/// upstream is used again.
#[tokio::test]
async fn a_cancelled_request_does_not_cost_the_upstream_a_connection() {
    for (name, body, reused) in [
        ("before the head", None, true),
        ("a body of 64 KiB", Some(64 * 1024), true),
        ("a longer body", Some(64 * 1024 + 1), false),
    ] {
        let fixture = Fixture::start(Config::minimal().one_worker()).await;
        let mut frames = Frames::open(&fixture).await;
        let head = fixture.origin.delay("/public/head");
        let chunks = fixture.origin.stream("/public/body");
        if body.is_some() {
            frames.headers(1, &get("/public/body"), true).await;
            assert_eq!(frames.outcome(1).await, Outcome::Status(200), "{name}");
        } else {
            frames.headers(1, &get("/public/head"), true).await;
            fixture.origin.wait_for_requests(1).await;
        }
        frames.send(kind::RST_STREAM, 0, 1, &CANCEL).await;
        fixture.gateway.wait_for_access_lines(1).await;
        match body {
            Some(length) => {
                chunks.send(vec![b'x'; length]);
                chunks.finish();
            }
            None => drop(head),
        }
        let idle = r#"portcullis_upstream_connections{upstream="main",state="idle"}"#;
        if reused {
            fixture.gateway.wait_for_metric(idle, 1.0).await;
        } else {
            fixture.origin.wait_for_open_connections(0).await;
        }
        assert_eq!(fixture.get("/public/next", &[]).await.json()["target"], "/public/next", "{name}");
        assert_eq!(fixture.origin.connections(), if reused { 1 } else { 2 }, "{name}");
    }
}

/// The limit in time: see also `a_client_that_disconnects_aborts_its_upstream_request`.
#[tokio::test]
async fn a_response_that_does_not_end_is_broken_off_with_its_connection() {
    let fixture = Fixture::start(Config::minimal().one_worker()).await;
    fixture.origin.behave("/public/hang", Behaviour::Hang);
    fixture.origin.behave("/public/stall", Behaviour::Stall { sent: "part".into() });
    for (stream, path) in [(1, "/public/hang"), (3, "/public/stall")] {
        let mut frames = Frames::open(&fixture).await;
        frames.headers(1, &get(path), true).await;
        fixture.origin.wait_for_requests(stream / 2 + 1).await;
        frames.send(kind::RST_STREAM, 0, 1, &CANCEL).await;
        fixture.origin.wait_for_open_connections(0).await;
    }
}

/// Threat DO-6: a client that opens its window byte by byte. No client keeps to the rate of this
/// test, so that it need not wait between the bytes.
#[tokio::test]
async fn aborts_a_response_whose_stream_window_opens_byte_by_byte() {
    let lines = "body_idle_timeout = \"500ms\"\nmin_body_rate = \"1000 GiB/s\"";
    let fixture = Fixture::start(Config::minimal().add("server", lines)).await;
    fixture.origin.behave("/public/a", Behaviour::Large(1 << 40));
    let mut frames = Frames::open_with(&fixture, &NO_WINDOW).await;
    frames.headers(1, &GET_REQUEST, true).await;
    assert_eq!(frames.outcome(1).await, Outcome::Status(200));
    loop {
        frames.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]).await;
        let frame = frames.next().await;
        if frame.kind == kind::RST_STREAM {
            break;
        }
    }
    fixture.origin.wait_for_open_connections(0).await;
    fixture.gateway.wait_for_metric("portcullis_slow_bodies_total{direction=\"response\"}", 1.0).await;
}
