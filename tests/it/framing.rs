//! Framing and request smuggling: raw bytes, and what of them reaches an upstream that records
//! every byte.
//!
//! How a test detects smuggling: a complete marker request follows each attack, at the place
//! where a parser that misjudges the body's end would see one. It must never reach the upstream.
//! Afterwards another client, on the same upstream connection, must get its own response.

use serde_json::json;

use crate::support::client::{Conn, Response, raw};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Behaviour;
use crate::support::raw_origin::{RawOrigin, Step};

const MARKER: &str = "GET /public/marker HTTP/1.1\r\nHost: g\r\nX-Marker: 1\r\n\r\n";

/// A gateway with one worker, so that all requests share its upstream connections, before an
/// upstream that echoes.
struct RecordedFixture {
    fixture: Fixture,
    upstream: RawOrigin,
}

impl RecordedFixture {
    async fn start() -> Self {
        let upstream = RawOrigin::start(vec![Step::Echo; 200]).await;
        let config = Config::minimal().one_worker().main_server(upstream.addr());
        Self { fixture: Fixture::start(config).await, upstream }
    }

    async fn conn(&self) -> Conn {
        self.fixture.connect().await
    }

    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        raw(self.fixture.gateway.addr(), bytes).await
    }

    /// Sends a request of another client right after an attack: the response must be to that very
    /// request.
    async fn assert_next_client_is_unaffected(&self, after: &str) {
        let tag = format!("/public/next?after={}", after.replace(' ', "-"));
        let response = self.conn().await.request("GET", &tag, &[], b"").await;
        assert!(response.text().starts_with(&format!("GET {tag} HTTP/1.1\r\n")), "{after}: {:?}", response.text());
    }

    fn assert_no_marker(&self, after: &str) {
        let requests = self.upstream.requests();
        assert!(requests.iter().all(|request| !request.contains("GET /public/marker")), "{after}: {requests:#?}");
    }
}

/// Asserts a refusal after which the gateway closed the connection.
fn assert_refused(name: &str, received: &str, status: u16, code: &str) {
    assert!(
        received.starts_with("HTTP/1.") && received.get(8..13) == Some(&*format!(" {status} ")),
        "{name}: {received:?}"
    );
    let (head, body) = received.split_once("\r\n\r\n").expect("a head");
    let head = head.to_ascii_lowercase();
    let problem: serde_json::Value =
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{name}: one response: {body:?}"));
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{name}");
    for field in ["connection: close", "content-type: application/problem+json", "cache-control: no-store"] {
        assert!(head.contains(&format!("\r\n{field}")), "{name}: {field}: {head}");
    }
    let id = problem["request_id"].as_str().expect("an id");
    assert!(head.contains(&format!("\r\nx-request-id: {id}")), "{name}: {head}");
}

/// FR-2, FR-3, FR-4, FR-8, FR-9; RFC 9112 §2.2, §5.1, §5.2, §6.1, §6.3.
#[tokio::test]
async fn ambiguous_or_malformed_heads_are_400_and_never_reach_the_upstream() {
    let recorded = RecordedFixture::start().await;
    let post =
        |fields: &str| format!("POST /public/a HTTP/1.1\r\nHost: g\r\n{fields}\r\n\r\n0\r\n\r\n{MARKER}").into_bytes();
    let line = |line: &str| format!("{line}\r\nHost: g\r\n\r\n{MARKER}").into_bytes();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("lengths that differ", post("Content-Length: 5\r\nContent-Length: 0")),
        ("a list of lengths", post("Content-Length: 5, 5")),
        ("a signed length", post("Content-Length: +5")),
        ("a negative length", post("Content-Length: -1")),
        ("a hexadecimal length", post("Content-Length: 0x5")),
        ("a length with a space in it", post("Content-Length: 1 0")),
        ("a fractional length", post("Content-Length: 5.0")),
        ("an empty length", post("Content-Length: ")),
        ("a length that overflows", post("Content-Length: 18446744073709551617")),
        ("a length far beyond any integer", post("Content-Length: 99999999999999999999999999999999")),
        ("another coding", post("Transfer-Encoding: xchunked")),
        ("identity", post("Transfer-Encoding: identity")),
        ("gzip, then chunked", post("Transfer-Encoding: gzip, chunked")),
        ("chunked, then gzip", post("Transfer-Encoding: chunked, gzip")),
        ("chunked twice in a list", post("Transfer-Encoding: chunked, chunked")),
        ("chunked twice in two fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        ("chunked and identity", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
        ("identity and chunked", post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked")),
        ("an empty element", post("Transfer-Encoding: , chunked")),
        ("a parameter", post("Transfer-Encoding: chunked;q=1")),
        ("quoted", post("Transfer-Encoding: \"chunked\"")),
        ("an empty coding", post("Transfer-Encoding: ")),
        ("a control byte in the coding", post("Transfer-Encoding: \u{b}chunked")),
        ("a vertical tab after it", post("Transfer-Encoding: chunked\u{b}")),
        ("a coding and a length", post("Transfer-Encoding: chunked\r\nContent-Length: 5")),
        ("a length and a coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked")),
        ("an empty length and a coding", post("Content-Length: 0\r\nX-A: 1\r\ntransfer-encoding:chunked")),
        ("another coding with a length", post("Transfer-Encoding: gzip, chunked\r\nContent-Length: 5")),
        ("a space before the colon", post("Content-Length : 5")),
        ("a tab before the colon", post("Transfer-Encoding\t: chunked")),
        ("a folded line", post("X-A: 1\r\n Transfer-Encoding: chunked")),
        ("a folded coding", post("Transfer-Encoding:\r\n chunked")),
        ("a space before the first field", line("GET /public/a HTTP/1.1\r\n X-A: 1")),
        ("no colon", post("Transfer-Encoding chunked")),
        ("no name", post(": chunked")),
        ("a name with a space", post("Content Length: 5")),
        ("a name with a NUL", post("Content-Length\0: 5")),
        ("a bare CR in a value", post("X-A: a\rTransfer-Encoding: chunked")),
        ("a NUL in a value", post("X-A: a\0b")),
        (
            "HTTP/1.0 with a coding",
            b"POST /public/a HTTP/1.0\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        ),
        ("no version", line("GET /public/a")),
        ("another version", line("GET /public/a HTTP/1.2")),
        ("version 2", line("GET /public/a HTTP/2.0")),
        ("an unknown protocol", line("GET /public/a HTCPCP/1.1")),
        ("a version in lower case", line("GET /public/a http/1.1")),
        ("two spaces", line("GET  /public/a HTTP/1.1")),
        ("a space in the target", line("GET /public/a b HTTP/1.1")),
        ("no target", line("GET HTTP/1.1")),
        ("a method with a control byte", line("GE\u{1}T /public/a HTTP/1.1")),
        ("a leading space", line(" GET /public/a HTTP/1.1")),
        ("not HTTP at all", b"\x15\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
    ];
    for (name, bytes) in &rows {
        assert_refused(name, &recorded.raw(bytes).await, 400, "framing_refused");
        recorded.assert_next_client_is_unaffected(name).await;
    }
    assert_eq!(recorded.upstream.requests().len(), rows.len(), "only the requests of other clients");
    assert_eq!(recorded.upstream.received().len(), 1, "all of them on one connection");
    let lines = recorded.fixture.gateway.wait_for_access_lines(2 * rows.len()).await;
    assert_eq!(lines.iter().filter(|line| line["code"] == json!("framing_refused")).count(), rows.len());
}

/// FR-1, FR-2, FR-3, FR-4; RFC 9112 §6.3: the gateway forwards every body with one framing of its
/// own.
#[tokio::test]
async fn forwarded_requests_have_exactly_one_framing() {
    let recorded = RecordedFixture::start().await;
    let chunked = format!("5\r\nhello\r\n0\r\n\r\n{MARKER}");
    let hello = format!("hello{MARKER}");
    for (name, fields, body, framing) in [
        ("any case", "tRANSFER-eNCODING: ChUnKeD\r\n", &chunked, "chunked"),
        ("space around the coding", "Transfer-Encoding: \t chunked \t\r\n", &chunked, "chunked"),
        ("a length", "Content-Length: 5\r\n", &hello, "5"),
        ("space around the length", "Content-Length: \t 5 \t\r\n", &hello, "5"),
        ("leading zeros", "Content-Length: 0005\r\n", &hello, "5"),
        ("two equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\n", &hello, "5"),
        (
            "look-alikes",
            "Transfer_Encoding: chunked\r\nX-Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            &hello,
            "5",
        ),
        ("named in Connection", "Connection: content-length\r\nContent-Length: 5\r\n", &hello, "5"),
    ] {
        let before = recorded.upstream.requests().len();
        let mut conn = recorded.conn().await;
        conn.send(format!("POST /public/a HTTP/1.1\r\nHost: g\r\n{fields}\r\n{body}")).await;
        assert_eq!(conn.read_response().await.status, 200, "{name}");
        assert_eq!(conn.read_response().await.status, 200, "{name}: the bytes after it are the next request");
        recorded.assert_next_client_is_unaffected(name).await;
        let requests = recorded.upstream.requests().split_off(before);
        assert_eq!(requests.len(), 3, "{name}: {requests:#?}");
        let (head, body) = requests[0].split_once("\r\n\r\n").expect(name);
        let of = |field: &str| -> Vec<String> {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(name, _)| name.eq_ignore_ascii_case(field)).map(|(_, value)| value.to_owned()).collect()
        };
        let both = [of("content-length"), of("transfer-encoding")].concat();
        assert_eq!(both, [framing], "{name}: {head}");
        assert_eq!(body, if framing == "5" { "hello" } else { "5\r\nhello\r\n0\r\n\r\n" }, "{name}");
    }
}

/// FR-1; RFC 9112 §6.1: found in every head of a connection, however its bytes arrive, and refused
/// after the responses to the requests before it.
#[tokio::test]
async fn a_head_with_two_framings_is_refused_wherever_it_begins() {
    let two =
        "POST /public/two HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let get = "GET /public/a HTTP/1.1\r\nHost: g\r\n\r\n";
    let chunks = "POST /public/a HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\n\r\n";
    let length = "POST /public/a HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\n\r\nhello";
    let fixture = Fixture::start(Config::minimal().one_worker()).await;
    for (name, before, is_slow) in [
        ("the first", vec![], false),
        ("after others", vec![get, chunks, length, get], false),
        ("byte by byte", vec![get, chunks, length], true),
    ] {
        let mut conn = fixture.connect().await;
        let bytes = format!("{}{two}{MARKER}", before.concat());
        let pieces: Vec<&[u8]> = bytes.as_bytes().chunks(if is_slow { 1 } else { bytes.len() }).collect();
        for piece in pieces {
            // The gateway closes in the middle of the attack.
            let _ = conn.try_send(piece).await;
        }
        for _ in before {
            assert_eq!(conn.read_response().await.status, 200, "{name}");
        }
        let refused = conn.read_response().await;
        assert_eq!((refused.status, refused.header("connection")), (400, Some("close")), "{name}");
        assert_eq!(refused.json()["code"], json!("framing_refused"), "{name}");
        let line = fixture.gateway.access_line_of(&refused).await;
        assert_eq!(line["reason"], json!("content-length and transfer-encoding"), "{name}");
        assert_eq!(conn.read_to_close().await, b"", "{name}");
    }
    let head = fixture.origin.delay("/public/delayed");
    let mut conn = fixture.connect().await;
    conn.send(format!("GET /public/delayed HTTP/1.1\r\nHost: g\r\n\r\n{two}")).await;
    fixture.origin.wait_until("the delayed request", |all| all.iter().any(|r| r.target == "/public/delayed")).await;
    drop(head);
    assert_eq!(conn.read_response().await.status, 200, "a request that was in progress");
    assert_eq!(conn.read_response().await.status, 400);
    let seen = fixture.origin.requests();
    assert!(
        seen.iter().all(|request| request.target != "/public/two" && request.target != "/public/marker"),
        "{seen:?}"
    );
}

/// FR-5; RFC 9112 §7.1.
#[tokio::test]
async fn malformed_chunks_abort_the_request() {
    let recorded = RecordedFixture::start().await;
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    let many_trailers = format!("5\r\nhello\r\n0\r\n{}\r\n", "T: 1\r\n".repeat(2_000));
    for (name, body) in [
        ("a size with a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a signed size", "+5\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a size that overflows", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size ended by LF", "5\nhello\r\n0\r\n\r\n"),
        ("a chunk longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        ("a chunk without its line end", "5\r\nhello0\r\n\r\n"),
        ("a chunk ended by LF", "5\r\nhello\n0\r\n\r\n"),
        ("a bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("a CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("an extension without end", long_extension.as_str()),
        ("trailers without end", many_trailers.as_str()),
    ] {
        let attack = format!("POST /public/a HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n{body}{MARKER}");
        assert_refused(name, &recorded.raw(attack).await, 400, "framing_refused");
        recorded.assert_next_client_is_unaffected(name).await;
        recorded.assert_no_marker(name);
    }
    let lines = recorded.fixture.gateway.access_lines();
    assert!(lines.iter().all(|line| line["reason"] != "client left"), "the client waits for its response: {lines:#?}");
    let whole = recorded.upstream.requests();
    assert!(whole.iter().all(|request| request.starts_with("GET ")), "no aborted request was completed: {whole:#?}");
}

/// FR-5, FR-6; RFC 9110 §6.5.1, RFC 9112 §7.1.1.
#[tokio::test]
async fn removes_chunk_extensions_and_trailers() {
    let recorded = RecordedFixture::start().await;
    let mut conn = recorded.conn().await;
    conn.send("POST /public/a HTTP/1.1\r\nHost: g\r\nTrailer: X-Identity-Subject\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    conn.send("5;name=value;\"q\"\r\nhello\r\n0\r\nX-Identity-Subject: admin\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(conn.read_response().await.status, 200);
    conn.send("GET /public/next HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(conn.read_response().await.status, 200);
    let requests = recorded.upstream.requests();
    assert!(requests[0].ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{requests:#?}");
    let lower = requests[0].to_ascii_lowercase();
    assert!(!lower.contains("trailer") && !lower.contains("x-identity") && !lower.contains("\r\nte:"), "{lower}");
}

/// FR-8: a line that ends with LF alone is one line to every reader, since the gateway rewrites it
/// (RFC 9112 §2.2).
#[tokio::test]
async fn bare_line_feeds_are_refused_or_rewritten_as_crlf() {
    let recorded = RecordedFixture::start().await;
    let received = recorded.raw("GET /public/a HTTP/1.1\nHost: g\nX-A: 1\nConnection: close\n\n").await;
    let status = received.get(9..12);
    assert!(status == Some("200") || status == Some("400"), "{received}");
    for request in recorded.upstream.requests() {
        assert_eq!(request.matches('\n').count(), request.matches("\r\n").count(), "{request:?}");
        assert!(request.contains("x-a: 1\r\n"), "{request:?}");
    }
    let received = recorded.raw("\r\n\r\nGET /public/blank HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n").await;
    assert!(received.starts_with("HTTP/1.1 200 "), "empty lines before a request: {received}");
    recorded.raw([&b"\r\n".repeat(40_000)[..], MARKER.as_bytes()].concat()).await;
    recorded.assert_no_marker("empty lines without end");
}

/// FR-7; I3: a request has an identity, a connection has none.
#[tokio::test]
async fn answers_pipelined_requests_in_order_and_authenticates_each() {
    let recorded = RecordedFixture::start().await;
    let request = |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\nHost: g\r\n{more}\r\n");
    let bearer = format!("Authorization: {}\r\n", recorded.fixture.bearer("alice"));
    let all = [
        request("/token/1", &bearer),
        request("/token/2", ""),
        request("/public/3", ""),
        request("/token/4", &bearer),
        request("/admin/5", &bearer),
        request("/token/6", "X-A : 1\r\n"),
        request("/public/7", ""),
    ];
    let mut conn = recorded.conn().await;
    conn.send(all.concat()).await;
    let mut responses: Vec<Response> = Vec::new();
    for _ in 0..6 {
        responses.push(conn.read_response().await);
    }
    assert_eq!(responses.iter().map(|response| response.status).collect::<Vec<_>>(), [200, 401, 200, 200, 403, 400]);
    assert!(
        responses[0].text().starts_with("GET /token/1 ") && responses[0].text().contains("x-identity-subject: alice")
    );
    assert!(responses[2].text().starts_with("GET /public/3 ") && !responses[2].text().contains("x-identity"));
    assert!(
        responses[3].text().starts_with("GET /token/4 ") && responses[3].text().contains("x-identity-subject: alice")
    );
    assert_eq!(conn.read_to_close().await, b"", "nothing after the malformed request gets a response");
    assert_eq!(recorded.upstream.requests().len(), 3);
}

/// FR-9; RFC 9112 §9.3.
#[tokio::test]
async fn http_1_0_closes_by_default_and_authenticates_each_request() {
    let recorded = RecordedFixture::start().await;
    let closed = recorded.raw(format!("POST /public/a HTTP/1.0\r\nHost: g\r\n\r\n{MARKER}")).await;
    assert!(
        closed.get(8..13) == Some(" 200 ") && closed.matches("HTTP/1.").count() == 2,
        "one response, one echo: {closed}"
    );
    recorded.assert_no_marker("HTTP/1.0 without a length has no body and no successor");
    let mut conn = recorded.conn().await;
    let keep = "Host: g\r\nConnection: keep-alive\r\n";
    conn.send(format!("GET /token/a HTTP/1.0\r\n{keep}Authorization: {}\r\n\r\n", recorded.fixture.bearer("alice")))
        .await;
    assert_eq!(conn.read_response().await.status, 200);
    conn.send(format!("GET /token/b HTTP/1.0\r\n{keep}\r\n")).await;
    assert_eq!(conn.read_response().await.status, 401);
    let hosts = recorded.raw("GET /public/a HTTP/1.0\r\n\r\n").await;
    assert_refused("no host", &hosts, 400, "host_refused");
}

/// FR-10: bodies under unusual methods are framed explicitly; the gateway invents none.
#[tokio::test]
async fn frames_bodies_explicitly_under_every_method() {
    let recorded = RecordedFixture::start().await;
    for (name, method, fields, body, expected) in [
        ("GET with a length", "GET", "Content-Length: 5\r\n", "hello", "content-length: 5"),
        (
            "GET in chunks",
            "GET",
            "Transfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding: chunked",
        ),
        (
            "DELETE in chunks",
            "DELETE",
            "Transfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding: chunked",
        ),
        ("OPTIONS with a length", "OPTIONS", "Content-Length: 5\r\n", "hello", "content-length: 5"),
        ("an unknown method with a length", "BREW", "Content-Length: 5\r\n", "hello", "content-length: 5"),
        ("POST without a body", "POST", "", "", "content-length: 0"),
        ("PUT with an empty body", "PUT", "Content-Length: 0\r\n", "", "content-length: 0"),
        ("PATCH without a body", "PATCH", "", "", "content-length: 0"),
        ("GET without a body", "GET", "", "", ""),
        ("DELETE without a body", "DELETE", "", "", ""),
    ] {
        let mut conn = recorded.conn().await;
        conn.send(format!("{method} /public/a HTTP/1.1\r\nHost: g\r\n{fields}\r\n{body}")).await;
        let head = conn.read_response().await.text();
        let framing =
            head.lines().filter(|line| line.starts_with("content-length") || line.starts_with("transfer-encoding"));
        assert_eq!(framing.collect::<Vec<_>>().join(" "), expected, "{name}");
        recorded.assert_next_client_is_unaffected(name).await;
    }
}

/// FR-10, FR-12: an upstream that responds without reading the body leaves a connection that no
/// other request may use.
#[tokio::test]
async fn forwards_an_early_response_and_does_not_reuse_its_connection() {
    let fixture = Fixture::start(Config::minimal().one_worker()).await;
    let origin = &fixture.origin;
    origin.behave("/public/early", Behaviour::EarlyResponse { status: 403 });
    let mut conn = fixture.connect().await;
    conn.send("POST /public/early HTTP/1.1\r\nHost: g\r\nContent-Length: 1000000\r\n\r\nhello").await;
    assert_eq!(conn.read_response().await.status, 403);
    let after = fixture.get("/public/after", &[]).await;
    assert_eq!(after.json()["target"], json!("/public/after"));
    assert_eq!(origin.connections(), 2);
    let rest = conn.try_send(MARKER.repeat(10)).await;
    drop((rest, conn));
    origin.wait_for_open_connections(1).await;
    assert_eq!(origin.requests().len(), 2, "the rest of the body is not a request");
}

/// FR-1: an offer to switch protocols that is not accepted changes nothing about how the bytes
/// after it are read, wherever the reads end.
#[tokio::test]
async fn what_follows_an_offer_to_switch_protocols_is_read_as_hyper_reads_it() {
    let offer = "GET /public/a HTTP/1.1\r\nHost: x\r\nUpgrade: foo\r\n\r\n";
    // Its body looks like the end of a head, and a byte of it would be escaped in a head.
    let body = format!("z /?{}  GET /public/smuggled HTTP/1.1\r\nHost: x\r\n\r\n", "<".repeat(18));
    let length = format!("POST /public/b HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let fixture = Fixture::start(Config::minimal()).await;
    let mut conn = fixture.connect().await;
    let (start, end) = length.split_at(length.len() - 12);
    conn.send(format!("{offer}{start}")).await;
    assert_eq!(conn.read_response().await.status, 200);
    conn.send(format!("{end}{body}")).await;
    assert_eq!(conn.read_response().await.json()["body"], body.as_str());
    let targets: Vec<_> = fixture.origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/public/a", "/public/b"]);

    let both = "POST /public/c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut conn = fixture.connect().await;
    conn.send(format!("{offer}{both}")).await;
    assert_eq!(conn.read_response().await.status, 200);
    assert_eq!(conn.read_response().await.status, 400);
}
