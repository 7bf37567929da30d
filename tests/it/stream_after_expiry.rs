//! What happens to a stream whose token expires: by default a response ends as usual, and a tunnel
//! a minute later. The leeway of five minutes lets a stream begin with a token that has expired.

use std::time::Duration;

use serde_json::json;

use crate::support::call::{CallOrigin, Caller, Received};
use crate::support::client::Conn;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Behaviour;
use crate::support::token::TestKey;

const EXPIRED: &str = "the token has expired";

/// Of a token whose `exp` is a second later: after this, and the time that a stream has after the
/// `exp`, 300 ms of that time are left.
const NEARLY_A_SECOND: Duration = Duration::from_millis(700);

fn config() -> Config {
    Config::minimal().add("issuers.main", "leeway = \"5m\"")
}

/// A token, and the time set so that 300 ms are left until `after_expiry` has passed since its
/// `exp`.
fn token_expired_for(fixture: &Fixture, after_expiry: Duration) -> String {
    let exp = fixture.clock.clock().now().seconds() + 1;
    let token = fixture.token().claim("exp", exp).to_bearer();
    fixture.clock.advance(NEARLY_A_SECOND + after_expiry);
    token
}

async fn open_tunnel(fixture: &Fixture, bearer: &str) -> Conn {
    fixture.origin.behave("/token/ws", Behaviour::Upgrade);
    let mut conn = fixture.connect().await;
    let head = "GET /token/ws HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    conn.send(format!("{head}Authorization: {bearer}\r\n\r\n")).await;
    let response = conn.read_response().await;
    assert_eq!(response.status, 101, "{}", response.text());
    conn
}

async fn echo(conn: &mut Conn, text: &str) {
    conn.send(text).await;
    assert_eq!(String::from_utf8_lossy(&conn.read_bytes(text.len()).await), text);
}

/// UP-5.
#[tokio::test]
async fn a_tunnel_ends_so_long_after_the_exp_of_its_token() {
    for (name, key, seconds) in [
        ("the default", "", 60),
        ("at once", "stream_after_expiry = \"0s\"", 0),
        ("for both", "stream_after_expiry = \"30s\"", 30),
        ("for tunnels", "stream_after_expiry = { tunnel = \"2m\" }", 120),
        ("for responses only", "stream_after_expiry = { response = \"0s\" }", 60),
    ] {
        let config = if key.is_empty() { config() } else { config().add("routes.token", key) };
        let fixture = Fixture::start(config).await;
        let bearer = token_expired_for(&fixture, Duration::from_secs(seconds));
        let mut conn = open_tunnel(&fixture, &bearer).await;
        echo(&mut conn, name).await;
        assert_eq!(conn.read_to_close().await, b"", "{name}");
        fixture.origin.wait_for_open_connections(0).await;
        let line = fixture.gateway.wait_for_access_lines(1).await.remove(0);
        assert_eq!(line["reason"], EXPIRED, "{name}");
        let lived = line["duration_ms"].as_f64().expect("a number");
        assert!((250.0..10_000.0).contains(&lived), "{name}: {lived}");
    }
}

/// UP-7: in the time that is left to it, new keys and reloads judge a tunnel by everything but its
/// expiry.
#[tokio::test]
async fn a_tunnel_is_judged_by_everything_else_after_its_token_has_expired() {
    let base = || Config::minimal().one_worker();
    let fixture = Fixture::start(base()).await;
    let bearer = fixture.token().scope("orders:read").claim("exp", fixture.clock.clock().now().seconds() + 1);
    let mut conn = open_tunnel(&fixture, &bearer.to_bearer()).await;
    // The leeway and the cooldown of the keys are over, the minute of the tunnel begins to run.
    fixture.clock.advance(Duration::from_secs(40));
    let fetches = fixture.idp.fetches();
    fixture.get_with_token("/token/x", &fixture.token().sign(&TestKey::rsa("none"))).await;
    assert_eq!(fixture.idp.fetches(), fetches + 1);
    echo(&mut conn, "new keys").await;
    fixture.reload(base().route("more", "access = \"public\"")).await;
    echo(&mut conn, "a reload").await;
    fixture.reload(base().add("routes.token", "scopes = [\"other\"]")).await;
    assert_eq!(conn.read_to_close().await, b"");
    let lines = fixture.gateway.wait_for_access_lines(2).await;
    assert!(lines.iter().any(|line| line["reason"] == "lacks a scope"), "{lines:#?}");

    let fixture = Fixture::start(base()).await;
    let exp = fixture.clock.clock().now().seconds() + 1;
    let mut conn = open_tunnel(&fixture, &fixture.token().claim("exp", exp).to_bearer()).await;
    fixture.clock.advance(Duration::from_secs(40));
    fixture.idp.set_keys(&[&TestKey::es256("e1")]);
    fixture.get_with_token("/token/x", &fixture.token().sign(&TestKey::rsa("none"))).await;
    assert_eq!(conn.read_to_close().await, b"");
    let lines = fixture.gateway.wait_for_access_lines(2).await;
    assert!(lines.iter().any(|line| line["reason"] == "the token is no longer valid"), "{lines:#?}");
}

#[tokio::test]
async fn a_response_goes_on_to_its_end_unless_the_route_says_otherwise() {
    let limited = "path = \"/limited\"\nstream_after_expiry = { response = \"10s\" }";
    let optional = "path = \"/optional\"\naccess = \"optional\"\nstream_after_expiry = \"0s\"";
    let fixture = Fixture::start(config().route("limited", limited).route("optional", optional)).await;
    let bearer = token_expired_for(&fixture, Duration::from_secs(10));
    for (path, authorization, is_cut_off) in
        [("/token/a", Some(&bearer), false), ("/optional", None, false), ("/limited", Some(&bearer), true)]
    {
        let body = fixture.origin.stream(path);
        let mut conn = fixture.connect().await;
        let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        conn.send(format!("GET {path} HTTP/1.1\r\nHost: g\r\n{authorization}\r\n")).await;
        body.send("first");
        let head = conn.read_head().await;
        assert_eq!(head.status, 200, "{path}");
        conn.read_until("first").await;
        if is_cut_off {
            let rest = conn.read_to_close().await;
            assert!(!rest.ends_with(b"0\r\n\r\n"), "the body has no end: {rest:?}");
            let line = fixture.gateway.access_line_of(&head).await;
            assert_eq!((&line["status"], &line["reason"]), (&json!(200), &json!(EXPIRED)), "{line}");
            let sample = format!("portcullis_upstream_broken_off_total{{upstream=\"main\",reason=\"{EXPIRED}\"}}");
            assert_eq!(fixture.gateway.count(&sample).await, 1);
        } else {
            body.send("last");
            body.finish();
            conn.read_until("last").await;
            conn.read_until("0\r\n\r\n").await;
        }
    }
}

/// Otherwise a client could go on sending for as long as `response_timeout` lets it, which begins
/// anew with each part of the body.
#[tokio::test]
async fn an_upload_ends_as_a_response_does() {
    let limited = "path = \"/limited\"\nstream_after_expiry = { response = \"10s\" }";
    let fixture = Fixture::start(config().route("limited", limited)).await;
    let bearer = token_expired_for(&fixture, Duration::from_secs(10));
    fixture.origin.behave("/limited", Behaviour::Hang);
    let mut conn = fixture.connect().await;
    let head = format!("POST /limited HTTP/1.1\r\nHost: g\r\nAuthorization: {bearer}\r\nContent-Length: 10\r\n\r\n");
    conn.send(head + "begin").await;
    let response = conn.read_response().await;
    assert_eq!((response.status, &response.json()["code"]), (401, &json!("token_invalid")));
    let challenge = response.header("www-authenticate").expect("a challenge");
    assert!(challenge.contains("The access token expired"), "{challenge}");
    fixture.origin.wait_for_open_connections(0).await;
    let line = fixture.gateway.access_line_of(&response).await;
    assert_eq!(line["reason"], EXPIRED, "{line}");
}

#[tokio::test]
async fn a_grpc_call_whose_token_expires_ends_as_unauthenticated() {
    let origin = CallOrigin::start().await;
    let config = config()
        .main_server(origin.addr)
        .add("upstreams.main", "protocol = \"http2\"")
        .add("routes.token", "stream_after_expiry = \"10s\"");
    let fixture = Fixture::start(config).await;
    let bearer: &'static str = token_expired_for(&fixture, Duration::from_secs(10)).leak();
    let mut caller = Caller::connect(fixture.gateway.addr()).await;
    let call = caller.post("/token/call", &[("content-type", "application/grpc"), ("authorization", bearer)]);
    let (response, _request) = origin.call().await.respond(&[("content-type", "application/grpc")]);
    response.data(b"message");
    let (_body, _head, mut answer) = call.response().await;
    assert_eq!(answer.next().await, Received::Data("message".into()));
    let Received::Trailers(trailers) = answer.next().await else { panic!("trailers") };
    assert!(trailers.contains(&("grpc-status".to_owned(), "16".to_owned())), "{trailers:?}");
    response.closed().await;
    let line = fixture.gateway.wait_for_access_lines(1).await.remove(0);
    assert_eq!((&line["grpc_status"], &line["reason"]), (&json!(16), &json!(EXPIRED)));
}
