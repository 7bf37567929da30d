//! HTTP/2 clients that hold a connection: they do not take their responses or leave the connection
//! idle.

use serde_json::json;

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::frames::{CANCEL, Frames, GET_REQUEST, NO_WINDOW, Outcome, kind};
use crate::support::origin::Behaviour;

/// `SETTINGS_INITIAL_WINDOW_SIZE` is 1: of each response, a stream may carry one byte.
const WINDOW_OF_ONE: [u8; 6] = [0, 4, 0, 0, 0, 1];

fn get(path: &'static str) -> Vec<(&'static str, &'static str)> {
    GET_REQUEST.iter().map(|&(name, value)| (name, if name == ":path" { path } else { value })).collect()
}

/// Waits for GOAWAY and the end. The gateway's first ping, which comes after 20 seconds, must not
/// come first: the connection would then have been closed because of that frame.
async fn assert_closed_before_ping(frames: &mut Frames, name: &str) {
    loop {
        let frame = frames.next().await;
        assert_ne!(frame.kind, kind::PING, "{name}");
        if frame.kind == kind::GO_AWAY {
            break;
        }
    }
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
