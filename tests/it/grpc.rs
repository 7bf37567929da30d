//! Refusals of gRPC calls: the client reads a gRPC status, operators see an HTTP status.

use serde_json::json;

use crate::support::client::h2;
use crate::support::closed_port;
use crate::support::config::Config;
use crate::support::fixture::Fixture;

const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");

fn config() -> Config {
    Config::minimal()
        .append("[limits.one]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 1")
        .append("[cors.pages]\norigins = [\"https://app.example\"]")
        .upstream("gone", &[closed_port()], "")
        .route("limited", "access = \"public\"\nlimits = [\"one\"]")
        .route("gone", "access = \"public\"\nupstream = \"gone\"")
        .route("read", "access = \"public\"\nmethods = [\"GET\"]")
        .route("small", "access = \"public\"\nmax_body_size = \"1 B\"")
        .route("pages", "cors = \"pages\"")
}

#[tokio::test]
async fn a_refused_call_gets_a_grpc_status_and_the_log_both() {
    let fixture = Fixture::start(config()).await;
    let h2 = h2(fixture.gateway.addr()).await;
    assert_eq!(h2.request("POST", "/limited/a", &[GRPC], b"").await.status, 200);
    let expired = fixture.token().claim("exp", 1_000_000_000).to_bearer();
    let other_scope = fixture.token().scope("other").to_bearer();
    for (name, target, token, grpc_status, status, code) in [
        ("no token", "/scope/a", "", 16, 401, "credentials_missing"),
        ("expired", "/scope/a", &expired, 16, 401, "token_invalid"),
        ("without the scope", "/scope/a", &other_scope, 7, 403, "scope_insufficient"),
        ("without the role", "/admin/a", &other_scope, 7, 403, "access_denied"),
        ("no route", "/nowhere", "", 12, 404, "route_not_found"),
        ("a route for another method", "/read/a", "", 12, 405, "method_not_allowed"),
        ("rate limited", "/limited/a", "", 8, 429, "rate_limited"),
        ("a large message", "/small/a", "", 8, 413, "body_too_large"),
        ("no upstream", "/gone/a", "", 14, 502, "upstream_unreachable"),
        ("a dot segment", "/public/../admin", "", 13, 400, "path_refused"),
    ] {
        let mut fields = vec![GRPC];
        if !token.is_empty() {
            fields.push(("authorization", token));
        }
        let response = h2.request("POST", target, &fields, b"message").await;
        assert_eq!((response.status, response.text()), (200, String::new()), "{name}");
        for (field, expected) in [
            ("content-type", "application/grpc"),
            ("grpc-status", &*grpc_status.to_string()),
            ("portcullis-code", code),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(response.headers_named(field), [expected], "{name}: {field}");
        }
        assert!(!response.header("grpc-message").unwrap_or_default().is_empty(), "{name}");
        let is_challenged = status == 401 || code == "scope_insufficient";
        assert_eq!(response.header("www-authenticate").is_some(), is_challenged, "{name}");
        let line = fixture.gateway.access_line_of(&response).await;
        assert_eq!(
            (&line["status"], &line["grpc_status"], &line["code"]),
            (&json!(status), &json!(grpc_status), &json!(code)),
            "{name}"
        );
    }
    assert_eq!(
        fixture.gateway.count("portcullis_requests_total{route=\"scope\",method=\"POST\",status=\"401\"}").await,
        2
    );
    assert_eq!(fixture.origin.requests().len(), 1, "only the one that used up the limit");
}

/// gRFC A6: `grpc-retry-pushback-ms` delays the retries of the client's library.
#[tokio::test]
async fn a_rate_limited_call_says_when_to_retry() {
    let fixture = Fixture::start(config()).await;
    let h2 = h2(fixture.gateway.addr()).await;
    h2.request("POST", "/limited/a", &[GRPC], b"").await;
    let limited = h2.request("POST", "/limited/a", &[GRPC], b"").await;
    assert_eq!(limited.header("retry-after"), Some("3600"));
    let pushback: u32 = limited.header("grpc-retry-pushback-ms").expect("a delay").parse().expect("a number");
    assert!((3_590_000..=3_600_000).contains(&pushback), "{pushback}");
    assert!(limited.header("ratelimit-policy").is_some());
}

/// RFC 9110 §15: with 200, any other client would take a refusal for a success.
#[tokio::test]
async fn other_requests_get_a_problem_document() {
    let fixture = Fixture::start(config()).await;
    let h2 = h2(fixture.gateway.addr()).await;
    for (name, method, content_type) in [
        ("gRPC-Web", "POST", "application/grpc-web+proto"),
        ("gRPC-Web as text", "POST", "application/grpc-web-text"),
        ("Connect, streaming", "POST", "application/connect+proto"),
        ("Connect, unary", "POST", "application/proto"),
        ("no call", "GET", "application/grpc"),
    ] {
        let response = h2.request(method, "/scope/a", &[("content-type", content_type)], b"").await;
        assert_eq!((response.status, response.header("grpc-status")), (401, None), "{name}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{name}");
        assert_eq!(fixture.gateway.access_line_of(&response).await["grpc_status"], json!(null), "{name}");
    }
    let http_1 = fixture.request("POST", "/scope/a", &[GRPC], b"").await;
    assert_eq!((http_1.status, http_1.header("grpc-status")), (401, None), "gRPC needs HTTP/2");
}

#[tokio::test]
async fn a_page_may_read_the_refusal_of_its_call() {
    let fixture = Fixture::start(config()).await;
    let h2 = h2(fixture.gateway.addr()).await;
    let response = h2.request("POST", "/pages/a", &[GRPC, ("origin", "https://app.example")], b"").await;
    assert_eq!(response.header("grpc-status"), Some("16"));
    assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example"));
}
