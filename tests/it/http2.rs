//! HTTP/2 with prior knowledge (RFC 9113 §3.3): the same decisions and responses as over HTTP/1.1,
//! and no way around them.
//!
//! Requests that no HTTP library would send are written as [`frames`](crate::support::frames).

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::client::{Response, h2};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::frames::{Frames, GET_REQUEST, Outcome, kind};
use crate::support::origin::Behaviour;
use crate::support::raw_origin::{RawOrigin, Step};

/// RFC 9113 §8.1, RFC 9110 §8.6: a response without a body ends with its head, and one of the
/// gateway's own says how long it is.
#[tokio::test]
async fn a_client_learns_early_how_long_a_response_is() {
    const END_STREAM: u8 = 1;
    let fixture = Fixture::start(Config::minimal()).await;
    fixture.origin.behave("/public/none", Behaviour::response(204, &[], ""));
    fixture.origin.behave("/public/some", Behaviour::response(200, &[], "body"));
    let mut frames = Frames::open(&fixture).await;
    for (stream, method, path, ends) in [
        (1, "GET", "/public/none", true),
        (3, "HEAD", "/public/some", true),
        (5, "HEAD", "/nowhere", true),
        (7, "GET", "/public/some", false),
        (9, "GET", "/nowhere", false),
    ] {
        let fields = [(":method", method), (":scheme", "http"), (":authority", "g"), (":path", path)];
        frames.headers(stream, &fields, true).await;
        let head = frames.next_of(kind::HEADERS).await;
        assert_eq!((head.stream, head.flags & END_STREAM == END_STREAM), (stream, ends), "{method} {path}");
    }
    let client = h2(fixture.gateway.addr()).await;
    for path in ["/public/some", "/nowhere"] {
        let response = client.get(path, &[]).await;
        assert_eq!(response.header("content-length"), Some(&*response.body.len().to_string()), "{path}");
    }
}

/// The parts in which two responses must agree: all but the request id and the fields of the
/// connection.
fn comparable_parts(response: &Response) -> (u16, Vec<(String, String)>, Value) {
    let own = ["connection", "date", "x-request-id", "content-length", "keep-alive"];
    let fields = response.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let mut fields: Vec<_> = fields.filter(|(name, _)| !own.contains(&name.as_str())).collect();
    fields.sort();
    let mut problem = if response.body.is_empty() { Value::Null } else { response.json() };
    if let Some(problem) = problem.as_object_mut() {
        let id = problem.remove("request_id");
        assert_eq!(id.as_ref().and_then(Value::as_str), response.header("x-request-id"));
    }
    (response.status, fields, problem)
}

/// RFC 9110 §1.2: the semantics are the same in every version.
#[tokio::test]
async fn refusals_are_the_same_over_http_1_and_http_2() {
    let config = Config::minimal()
        .add("server", "max_body_size = \"1 KiB\"")
        .route("read", "path = \"/read\"\nmethods = [\"GET\"]\naccess = \"public\"");
    let fixture = Fixture::start(config).await;
    let h2 = h2(fixture.gateway.addr()).await;
    let other_scope = fixture.token().scope("other").to_bearer();
    let expired = fixture.token().claim("exp", 1_000_000_000).to_bearer();
    let foreign = fixture.token().claim("iss", "https://other.example").to_bearer();
    let large = "x".repeat(33 * 1024);
    let long = format!("/public/{}", "a".repeat(9 * 1024));
    let body = vec![b'x'; 1025];
    let authorization = |value| vec![("authorization", value)];
    for (name, method, target, fields, body, status, code) in [
        ("no token", "GET", "/scope/a", vec![], &b""[..], 401, "credentials_missing"),
        ("another scheme", "GET", "/scope/a", authorization("Basic YTpi"), b"", 401, "credentials_missing"),
        ("malformed", "GET", "/scope/a", authorization("Bearer a b"), b"", 400, "request_malformed"),
        ("garbage", "GET", "/scope/a", authorization("Bearer a.b.c"), b"", 401, "token_invalid"),
        ("expired", "GET", "/scope/a", authorization(&expired), b"", 401, "token_invalid"),
        ("another issuer's", "GET", "/scope/a", authorization(&foreign), b"", 401, "token_invalid"),
        ("without the scope", "GET", "/scope/a", authorization(&other_scope), b"", 403, "scope_insufficient"),
        ("without the role", "GET", "/admin/a", authorization(&other_scope), b"", 403, "access_denied"),
        ("no route", "GET", "/nowhere", vec![], b"", 404, "route_not_found"),
        ("a method without a route", "POST", "/read", vec![], b"", 405, "method_not_allowed"),
        ("TRACE", "TRACE", "/public/a", vec![], b"", 405, "method_not_allowed"),
        ("a dot segment", "GET", "/public/../admin", vec![], b"", 400, "path_refused"),
        ("an encoded slash", "GET", "/public/%2fa", vec![], b"", 400, "path_refused"),
        ("a long target", "GET", &long, vec![], b"", 414, "uri_too_long"),
        ("a large head", "GET", "/public/a", vec![("x-a", large.as_str())], b"", 431, "head_too_large"),
        ("a large body", "POST", "/public/a", vec![], &body, 413, "body_too_large"),
    ] {
        let old = fixture.request(method, target, &fields, body).await;
        let new = h2.request(method, target, &fields, body).await;
        assert_eq!((new.status, &new.json()["code"]), (status, &json!(code)), "{name}: {}", new.text());
        assert_eq!(comparable_parts(&new), comparable_parts(&old), "{name}");
        assert_eq!(new.header("connection"), None, "{name}: of no meaning in HTTP/2");
        assert_eq!(new.headers_named("x-request-id").len(), 1, "{name}");
    }
    assert!(fixture.origin.requests().is_empty());
    let head = h2.request("HEAD", "/scope/a", &[], b"").await;
    assert_eq!((head.status, head.body.len()), (401, 0));
}

/// H2-5, H2-6; RFC 9113 §8.2.3, §8.3.1.
#[tokio::test]
async fn forwards_http_2_requests_as_http_1_1_with_one_host_and_one_cookie() {
    let fixture = Fixture::start(Config::minimal()).await;
    let bearer = fixture.bearer("alice");
    let h2 = h2(fixture.gateway.addr()).await;
    let fields = [
        ("authorization", bearer.as_str()),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-identity-subject", "admin"),
        ("te", "trailers"),
    ];
    let echoed = h2.get("http://api.example.com/token/a?b=%2f", &fields).await.json();
    assert_eq!((&echoed["version"], &echoed["target"]), (&json!("HTTP/1.1"), &json!("/token/a?b=%2f")));
    let received = fixture.origin.requests().remove(0);
    let of = |name: &str| -> Vec<&str> {
        received.headers.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(of("host"), ["api.example.com"]);
    assert_eq!(of("cookie"), ["a=1; b=2"]);
    assert_eq!(of("via"), ["2 portcullis"]);
    assert_eq!(of("x-identity-subject"), ["alice"]);
    for absent in ["authorization", "te", "content-length", "transfer-encoding", "connection"] {
        assert_eq!(of(absent), Vec::<&str>::new(), "{absent}");
    }
    for (name, host, status) in [
        ("the same", "api.example.com", 200),
        ("another", "evil.example", 400),
        ("another port", "api.example.com:81", 400),
        ("a list", "api.example.com,evil", 400),
    ] {
        let response = h2.get("http://api.example.com/public/a", &[("host", host)]).await;
        assert_eq!(response.status, status, "{name}: {}", response.text());
    }
    for field in ["g:", "user@g", "g:99999"] {
        let response = h2.try_request("GET", &format!("http://{field}/public/a"), &[], b"").await;
        assert!(!matches!(response, Ok(response) if response.status == 200), "{field}");
    }
}

/// I4: the gateway streams the body and frames it for the upstream.
#[tokio::test]
async fn frames_http_2_bodies_for_an_http_1_1_upstream() {
    let fixture = Fixture::start(Config::minimal()).await;
    let h2 = h2(fixture.gateway.addr()).await;
    for (name, method, body, length) in [
        ("a body", "POST", &b"hello"[..], Some("5")),
        ("none", "POST", b"", Some("0")),
        ("none, GET", "GET", b"", None),
    ] {
        let echoed = h2.request(method, "/public/a", &[], body).await.json();
        assert_eq!(echoed["body"], json!(String::from_utf8_lossy(body)), "{name}");
        let received = fixture.origin.requests().pop().expect(name);
        assert_eq!((received.header("content-length"), received.header("transfer-encoding")), (length, None), "{name}");
    }
    let large = vec![b'x'; 1024 * 1024];
    let echoed = h2.request("PUT", "/public/large", &[], &large).await.json();
    assert_eq!(echoed["body_length"], json!(large.len()));
    fixture.origin.behave("/public/large", Behaviour::Large(1024 * 1024));
    assert_eq!(h2.get("/public/large", &[]).await.body.len(), 1024 * 1024);
}

/// FR-7, J-86: the streams of a connection share nothing but the connection.
#[tokio::test]
async fn authenticates_concurrent_streams_separately() {
    let fixture = Fixture::start(Config::minimal()).await;
    let bearers = ["alice", "bob", "carol"].map(|subject| fixture.bearer(subject));
    let h2 = h2(fixture.gateway.addr()).await;
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..80_usize {
        let (h2, bearer) = (h2.clone(), bearers.get(number % 4).cloned());
        streams.spawn(async move {
            let target = format!("/token/{number}");
            let fields: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
            (number, h2.get(&target, &fields).await)
        });
    }
    while let Some(stream) = streams.join_next().await {
        let (number, response) = stream.expect("no stream panics");
        let Some(subject) = ["alice", "bob", "carol"].get(number % 4) else {
            assert_eq!(response.status, 401, "{number}");
            continue;
        };
        let echoed = response.json();
        assert_eq!(echoed["target"], json!(format!("/token/{number}")));
        let subjects: Vec<_> = echoed["headers"]
            .as_array()
            .expect("headers")
            .iter()
            .filter(|f| f[0] == json!("x-identity-subject"))
            .collect();
        assert_eq!(subjects, [&json!(["x-identity-subject", subject])], "{number}");
    }
}

/// H2-2, H2-3, H2-4, H2-5; RFC 9113 §8.1.1, §8.2, §8.3.
#[tokio::test]
async fn malformed_requests_never_reach_the_upstream() {
    let fixture = Fixture::start(Config::minimal()).await;
    let with = |fields: &[(&'static str, &'static str)]| [&GET_REQUEST[..], fields].concat();
    let replacing = |name: &'static str, value: &'static str| -> Vec<_> {
        GET_REQUEST.iter().map(|&(given, old)| (given, if given == name { value } else { old })).collect()
    };
    let without = |name: &str| -> Vec<_> { GET_REQUEST.iter().copied().filter(|(given, _)| *given != name).collect() };
    for (name, fields) in [
        ("connection", with(&[("connection", "x-identity-subject")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te other than trailers", with(&[("te", "gzip")])),
        ("a name in upper case", with(&[("X-Identity-Subject", "admin")])),
        ("a name with a space", with(&[("x a", "1")])),
        ("a name with a line break", with(&[("x-a\r\nx-b", "1")])),
        ("an empty name", with(&[("", "1")])),
        ("a value with a line break", with(&[("x-a", "1\r\nx-identity-subject: admin")])),
        ("a value with a NUL", with(&[("x-a", "1\0")])),
        ("a pseudo-field after a field", [&[("x-a", "1")], &GET_REQUEST[..]].concat()),
        ("an unknown pseudo-field", with(&[(":user", "admin")])),
        ("two methods", with(&[(":method", "POST")])),
        ("two paths", with(&[(":path", "/admin/a")])),
        ("two authorities", with(&[(":authority", "evil")])),
        ("a status", with(&[(":status", "200")])),
        ("no method", without(":method")),
        ("no path", without(":path")),
        ("no scheme", without(":scheme")),
        ("no authority and no host", without(":authority")),
        ("an empty path", replacing(":path", "")),
        ("a path without a leading slash", replacing(":path", "public/a")),
        ("a path with a space", replacing(":path", "/public/a b")),
        ("a path with a request in it", replacing(":path", "/public/a HTTP/1.1\r\nx-a: b")),
        ("a query with a raw quote", replacing(":path", "/public/a?\"")),
        ("a path that is a URL", replacing(":path", "http://evil/public/a")),
        ("an authority with a list", replacing(":authority", "g,evil")),
        ("an authority with user information", replacing(":authority", "user@g")),
        ("a method with a space", replacing(":method", "GET /x")),
        ("another host", with(&[("host", "evil")])),
        ("two hosts", with(&[("host", "g"), ("host", "g")])),
        ("an invalid length", with(&[("content-length", "+5")])),
        ("a length and no body", with(&[("content-length", "5")])),
    ] {
        let mut frames = Frames::open(&fixture).await;
        frames.headers(1, &fields, true).await;
        let outcome = frames.outcome(1).await;
        assert!(matches!(outcome, Outcome::Reset | Outcome::GoAway | Outcome::Status(400)), "{name}: {outcome:?}");
        assert!(fixture.origin.requests().is_empty(), "{name}: {:#?}", fixture.origin.requests());
    }
    for (name, fields) in [
        ("as usual", GET_REQUEST.to_vec()),
        ("a host and no authority", [&without(":authority")[..], &[("host", "g")]].concat()),
        ("te: trailers", with(&[("te", "trailers")])),
        ("the scheme of a client before a proxy", replacing(":scheme", "https")),
    ] {
        let mut frames = Frames::open(&fixture).await;
        frames.headers(1, &fields, true).await;
        assert_eq!(frames.outcome(1).await, Outcome::Status(200), "{name}");
    }
    assert!(
        fixture
            .origin
            .requests()
            .iter()
            .all(|request| request.header("host") == Some("g") && request.header("te").is_none())
    );
}

/// H2-1, H2-6; RFC 9113 §8.1.1: the body is chunked while its length is unknown, and never longer
/// or shorter than announced. Trailers are dropped.
#[tokio::test]
async fn forwards_an_http_2_body_of_unknown_length_in_chunks() {
    let upstream = RawOrigin::start(vec![Step::Echo; 20]).await;
    let fixture = Fixture::start(Config::minimal().one_worker().main_server(upstream.addr())).await;
    let post = |more: &[(&'static str, &'static str)]| [&[(":method", "POST")], &GET_REQUEST[1..], more].concat();
    let mut frames = Frames::open(&fixture).await;
    frames.headers(1, &post(&[]), false).await;
    frames.send(0, 0, 1, b"hel").await;
    upstream
        .wait_until("the first part, before the second is sent", |all| {
            all.iter().any(|bytes| bytes.ends_with("3\r\nhel\r\n"))
        })
        .await;
    frames.send(0, 0, 1, b"lo").await;
    frames.headers(1, &[("x-identity-subject", "admin")], true).await;
    assert_eq!(frames.outcome(1).await, Outcome::Status(200));
    let request = upstream.requests().remove(0);
    assert!(
        request.ends_with("\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n") && !request.contains("content-length"),
        "{request}"
    );
    for (name, length, body) in [("shorter than announced", "9", &b"hello"[..]), ("longer", "2", b"hello")] {
        let mut frames = Frames::open(&fixture).await;
        frames.headers(1, &post(&[("content-length", length)]), false).await;
        frames.send(0, 1, 1, body).await;
        let outcome = frames.outcome(1).await;
        assert!(matches!(outcome, Outcome::Reset | Outcome::GoAway | Outcome::Status(400)), "{name}: {outcome:?}");
        let next = fixture.get("/public/next", &[]).await;
        assert!(Bytes::from(next.body).starts_with(b"GET /public/next HTTP/1.1\r\n"), "{name}");
    }
    assert!(
        upstream.requests().iter().all(|request| !request.contains("content-length: 9")),
        "no such request was completed"
    );
}
