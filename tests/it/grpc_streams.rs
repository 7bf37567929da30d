//! gRPC through the gateway: streaming in both directions, trailers, cancellation, deadlines, and
//! calls that break off. gRPC-Web and Connect pass unchanged.

use bytes::Bytes;
use http::response::Parts;
use serde_json::{Value, json};

use crate::support::call::{CallOrigin, Caller, Received, Receiver};
use crate::support::client::h2;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::raw_origin::{RawOrigin, Step};

const GRPC: (&str, &str) = ("content-type", "application/grpc");

async fn start(config: Config) -> (Fixture, CallOrigin, Caller) {
    let origin = CallOrigin::start().await;
    let config = config.main_server(origin.addr).add("upstreams.main", "protocol = \"http2\"");
    let fixture = Fixture::start(config).await;
    let caller = Caller::connect(fixture.gateway.addr()).await;
    (fixture, origin, caller)
}

fn data(bytes: &'static [u8]) -> Received {
    Received::Data(Bytes::from_static(bytes))
}

fn status_of(head: &Parts) -> Option<&str> {
    head.headers.get("grpc-status").and_then(|value| value.to_str().ok())
}

/// The status in the trailers that arrive next.
async fn trailing_status(body: &mut Receiver) -> String {
    match body.next().await {
        Received::Trailers(fields) => {
            let status = fields.into_iter().find(|(name, _)| name == "grpc-status");
            status.expect("a status in the trailers").1
        }
        other => panic!("trailers, not {other:?}"),
    }
}

async fn line(fixture: &Fixture) -> Value {
    fixture.gateway.wait_for_access_lines(1).await.remove(0)
}

#[tokio::test]
async fn messages_pass_in_both_directions_when_they_are_sent() {
    let (fixture, origin, mut caller) = start(Config::minimal()).await;
    let fields = [GRPC, ("te", "trailers"), ("grpc-timeout", "1H"), ("grpc-encoding", "gzip")];
    let call = caller.post("/public/chat", &fields);
    call.body.data(b"one");
    let mut received = origin.call().await;
    for (name, value) in fields {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    assert_eq!(received.body.next().await, data(b"one"));
    let (response, mut request) = received.respond(&[GRPC, ("initial", "metadata")]);
    let (body, head, mut answer) = call.response().await;
    assert_eq!((head.status.as_u16(), head.headers["initial"].as_bytes()), (200, &b"metadata"[..]));
    for message in [b"two", b"six"] {
        response.data(message);
        assert_eq!(answer.next().await, data(message));
        body.data(message);
        assert_eq!(request.next().await, data(message));
    }
    drop(body);
    assert_eq!(request.next().await, Received::End);
    response.data(b"last");
    response.trailers(&[("grpc-status", "5"), ("grpc-message", "no%20such%20room"), ("custom-bin", "AAE")]);
    assert_eq!(answer.next().await, data(b"last"));
    let expected = [("grpc-status", "5"), ("grpc-message", "no%20such%20room"), ("custom-bin", "AAE")];
    assert_eq!(answer.next().await, Received::Trailers(expected.map(|(n, v)| (n.into(), v.into())).to_vec()));
    let line = line(&fixture).await;
    assert_eq!((&line["status"], &line["grpc_status"], &line["reason"]), (&json!(200), &json!(5), &Value::Null));
}

#[tokio::test]
async fn a_status_in_the_head_passes_and_is_logged() {
    let (fixture, origin, mut caller) = start(Config::minimal()).await;
    let call = caller.post("/public/call", &[GRPC]);
    origin.call().await.respond_without_body(&[GRPC, ("grpc-status", "12"), ("grpc-message", "none")]);
    let (_body, head, _answer) = call.response().await;
    assert_eq!((status_of(&head), head.headers.get("portcullis-code")), (Some("12"), None));
    assert_eq!(line(&fixture).await["grpc_status"], json!(12));
}

#[tokio::test]
async fn a_client_that_cancels_its_call_cancels_it_at_the_server() {
    let (fixture, origin, mut caller) = start(Config::minimal()).await;
    let call = caller.post("/public/before", &[GRPC]);
    let mut received = origin.call().await;
    call.body.reset();
    received.cancelled().await;
    let call = caller.post("/public/after", &[GRPC]);
    let received = origin.call().await;
    let (response, mut request) = received.respond(&[GRPC]);
    let (body, _head, answer) = call.response().await;
    body.reset();
    drop(answer);
    response.closed().await;
    assert_eq!(request.next().await, Received::Reset);
    let lines = fixture.gateway.wait_for_access_lines(2).await;
    assert_eq!((&lines[0]["status"], &lines[1]["reason"]), (&json!(499), &json!("client left")));
}

/// FR-15; `doc/PROTOCOL-HTTP2.md`: the deadline holds for all of the call.
#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let (fixture, origin, mut caller) = start(Config::minimal()).await;
    let call = caller.post("/public/before", &[GRPC, ("grpc-timeout", "200m")]);
    let mut received = origin.call().await;
    let (_body, head, _) = call.response().await;
    assert_eq!((head.status.as_u16(), status_of(&head)), (200, Some("4")));
    received.cancelled().await;
    let call = caller.post("/public/after", &[GRPC, ("grpc-timeout", "200000u")]);
    let (response, mut request) = origin.call().await.respond(&[GRPC]);
    response.data(b"one");
    let (_body, head, mut answer) = call.response().await;
    assert_eq!((head.status.as_u16(), status_of(&head)), (200, None));
    assert_eq!(answer.next().await, data(b"one"));
    assert_eq!(trailing_status(&mut answer).await, "4");
    response.closed().await;
    assert_eq!(request.next().await, Received::Reset);
    let lines = fixture.gateway.wait_for_access_lines(2).await;
    for (line, status, code, reason) in [
        (&lines[0], 504, json!("upstream_timeout"), "upstream_timeout"),
        (&lines[1], 200, Value::Null, "deadline of the call"),
    ] {
        assert_eq!((&line["status"], &line["code"]), (&json!(status), &code), "{line}");
        assert_eq!((&line["reason"], &line["grpc_status"]), (&json!(reason), &json!(4)), "{line}");
    }
    assert_eq!(lines[1]["blame"], "client");
}

#[tokio::test]
async fn a_deadline_extends_no_timeout_of_the_route() {
    let config = Config::minimal().route("brief", "access = \"public\"\ntimeout = \"200ms\"");
    let (fixture, origin, mut caller) = start(config).await;
    let call = caller.post("/brief/call", &[GRPC, ("grpc-timeout", "99999999H")]);
    let (response, _request) = origin.call().await.respond(&[GRPC]);
    let (_body, _head, mut answer) = call.response().await;
    assert_eq!(trailing_status(&mut answer).await, "4");
    response.closed().await;
    assert_eq!(line(&fixture).await["reason"], "route timeout");
}

/// A malformed `grpc-timeout` is the server's to judge, and only a gRPC call has a deadline.
#[tokio::test]
async fn what_is_no_deadline_ends_no_request() {
    let (_fixture, origin, mut caller) = start(Config::minimal()).await;
    for (name, fields) in [
        ("malformed", [GRPC, ("grpc-timeout", "1")]),
        ("zero", [GRPC, ("grpc-timeout", "0n")]),
        ("another protocol", [("content-type", "application/json"), ("grpc-timeout", "1n")]),
    ] {
        let call = caller.post("/public/call", &fields);
        let received = origin.call().await;
        assert_eq!(received.header("grpc-timeout"), Some(fields[1].1), "{name}");
        received.respond_without_body(&[("grpc-status", "0")]);
        let (_body, head, _) = call.response().await;
        assert_eq!(status_of(&head), Some("0"), "{name}");
    }
}

/// FR-14: a gRPC client takes a call without a status for incomplete, but cannot tell why it is.
#[tokio::test]
async fn a_call_that_the_server_breaks_off_ends_as_unavailable() {
    let (fixture, origin, mut caller) = start(Config::minimal()).await;
    let call = caller.post("/public/call", &[GRPC]);
    let (response, _request) = origin.call().await.respond(&[GRPC]);
    response.data(b"half a mess");
    let (_body, _head, mut answer) = call.response().await;
    assert_eq!(answer.next().await, data(b"half a mess"));
    response.reset();
    assert_eq!(trailing_status(&mut answer).await, "14");
    let line = line(&fixture).await;
    assert_eq!((&line["reason"], &line["grpc_status"]), (&json!("upstream broke off"), &json!(14)), "{line}");
    assert_eq!(line["blame"], "upstream");
    // Any other client would take trailers for the end of a complete response.
    let call = caller.post("/public/call", &[("content-type", "application/json")]);
    let (response, _request) = origin.call().await.respond(&[]);
    response.data(b"{");
    let (_body, _head, mut answer) = call.response().await;
    assert_eq!(answer.next().await, data(b"{"));
    response.reset();
    assert_eq!(answer.next().await, Received::Reset);
}

#[tokio::test]
async fn a_response_without_a_status_passes_as_it_is() {
    let (fixture, origin, mut caller) = start(Config::minimal()).await;
    let call = caller.post("/public/call", &[GRPC]);
    let (response, _request) = origin.call().await.respond(&[GRPC]);
    drop(response);
    let (_body, head, mut answer) = call.response().await;
    assert_eq!((head.status.as_u16(), status_of(&head)), (200, None));
    assert_eq!(answer.next().await, Received::End, "the gateway makes up no status");
    assert_eq!(line(&fixture).await["grpc_status"], Value::Null);
}

/// gRPC-Web writes its trailers into the body, Connect an envelope or headers with a prefix.
#[tokio::test]
async fn grpc_web_and_connect_pass_unchanged() {
    let body = b"\0\0\0\0\x02hi\x80\0\0\0\x0fgrpc-status:0\r\n";
    for (name, fields) in [
        ("gRPC-Web", vec![("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1"), ("grpc-timeout", "1S")]),
        ("gRPC-Web as text", vec![("content-type", "application/grpc-web-text"), ("x-grpc-web", "1")]),
        ("Connect", vec![("content-type", "application/connect+proto"), ("connect-timeout-ms", "1000")]),
        ("Connect, unary", vec![("content-type", "application/proto"), ("connect-protocol-version", "1")]),
    ] {
        let content_type = fields[0].1;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntrailer-a: b\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let response = [head.as_bytes(), body].concat();
        let origin = RawOrigin::start(vec![Step::Response(response.clone()), Step::Response(response)]).await;
        let fixture = Fixture::start(Config::minimal().main_server(origin.addr())).await;
        let http_1 = fixture.request("POST", "/public/call", &fields, body).await;
        let http_2 = h2(fixture.gateway.addr()).await.request("POST", "/public/call", &fields, body).await;
        for response in [http_1, http_2] {
            assert_eq!((response.status, &response.body[..]), (200, &body[..]), "{name}");
            assert_eq!(response.header("content-type"), Some(content_type), "{name}");
            assert_eq!((response.header("trailer-a"), response.header("grpc-status")), (Some("b"), None), "{name}");
        }
        for request in origin.requests() {
            assert!(request.as_bytes().ends_with(body) || request.ends_with(&*String::from_utf8_lossy(body)), "{name}");
            for (field, value) in &fields {
                assert!(request.contains(&format!("{field}: {value}\r\n")), "{name}: {request}");
            }
        }
    }
}
