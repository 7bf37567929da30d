//! Routes with `report_only`: a request that would be refused is counted, logged and forwarded. A
//! bad token still gives no identity.

use serde_json::{Value, json};

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::idp::Idp;
use crate::support::token::{TestKey, TokenBuilder};

fn config() -> Config {
    Config::minimal()
        .route("report", "report_only = true\nscopes = [\"orders:write\"]\nroles = [\"admin\"]")
        .route("limited", "report_only = true\nlimits = [\"one\"]")
        .route("early", "report_only = true\nlimits = [\"address\"]")
        .route("narrow", "report_only = true\naudiences = [\"web\"]")
        .append("[limits.one]\nkey = \"subject\"\nrate = \"1/h\"\nburst = 1")
        .append("[limits.address]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 1")
}

/// 0 also for a family that has no series yet.
async fn count_of(fixture: &Fixture, family: &str, route: &str, code: &str) -> u64 {
    let (samples, sample) =
        (fixture.gateway.metrics().await, format!("portcullis_{family}_total{{route=\"{route}\",code=\"{code}\"}}"));
    samples.get(&sample).map_or(0, |_| samples.count(&sample))
}

/// Name, route, `Authorization` fields; the reported code and reason, and the subject that the
/// upstream sees.
type Row<'a> = (&'a str, &'a str, &'a [&'a str], Option<(&'a str, &'a str)>, Option<&'a str>);

/// `report_only`; threat A39: every request is forwarded, only a verified identity reaches the
/// upstream, and the first reason is reported.
#[tokio::test]
async fn report_only_forwards_and_reports_what_it_would_refuse() {
    let fixture = Fixture::start(config()).await;
    let key = TestKey::rsa("k1");
    let bearer = |token: TokenBuilder| format!("Bearer {}", token.sign(&key));
    let enough = fixture.token().scope("orders:write").claim("roles", json!(["admin"]));
    let good = bearer(enough.clone());
    let rows: &[Row<'_>] = &[
        ("all requirements met", "report", &[&good], None, Some("alice")),
        ("no token", "report", &[], Some(("credentials_missing", "credentials_missing")), None),
        ("another scheme", "report", &["Basic YTpi"], Some(("credentials_missing", "credentials_missing")), None),
        ("not a JWT", "report", &["Bearer abc"], Some(("token_invalid", "not a JWT")), None),
        ("malformed", "report", &["Bearer"], Some(("request_malformed", "no token after Bearer")), None),
        ("two", "report", &[&good, &good], Some(("request_malformed", "two authorization fields")), None),
        ("expired", "report", &[&bearer(enough.clone().claim("exp", 1))], Some(("token_invalid", "expired")), None),
        (
            "badly signed",
            "report",
            &[&format!("Bearer {}", enough.sign(&TestKey::rsa("k2").with_kid("k1")))],
            Some(("token_invalid", "signature invalid")),
            None,
        ),
        (
            "without the scope",
            "report",
            &[&bearer(fixture.token())],
            Some(("scope_insufficient", "lacks a scope")),
            Some("alice"),
        ),
        (
            "without the role",
            "report",
            &[&bearer(fixture.token().scope("orders:write"))],
            Some(("access_denied", "lacks a role")),
            Some("alice"),
        ),
        ("not for this route", "narrow", &[&good], Some(("token_invalid", "not for an audience of this route")), None),
        ("within the limit", "limited", &[&good], None, Some("alice")),
        ("over the limit", "limited", &[&good], Some(("rate_limited", "rate_limited")), Some("alice")),
        ("within the limit by address", "early", &[&good], None, Some("alice")),
        (
            "over the limit by address, and expired: the code and the reason of the first",
            "early",
            &[&bearer(enough.clone().claim("exp", 1))],
            Some(("rate_limited", "rate_limited")),
            None,
        ),
    ];
    let mut expected_counts = std::collections::BTreeMap::<(&str, &str), u64>::new();
    for (name, route, fields, report, subject) in rows {
        // Identity headers from the client are not an identity either.
        let forged = [("X-Identity-Subject", "mallory"), ("X-Identity-Roles", "admin")];
        let headers: Vec<_> = fields.iter().map(|field| ("Authorization", *field)).chain(forged).collect();
        let response = fixture.get(&format!("/{route}/x"), &headers).await;
        assert_eq!(response.status, 200, "{name}: {}", response.text());
        assert_eq!(response.header("www-authenticate"), None, "{name}");
        let seen = fixture.origin.requests().pop().expect("a request at the origin");
        assert_eq!(seen.header("x-identity-subject"), *subject, "{name}");
        if subject.is_none() {
            let identity: Vec<_> = seen.headers.iter().filter(|(field, _)| field.starts_with("x-identity")).collect();
            assert!(identity.is_empty(), "{name}: {identity:?}");
        }
        let line = fixture.gateway.access_line_of(&response).await;
        let reported = line.get("would_reject").zip(line.get("reason")).map(|(code, why)| (text(code), text(why)));
        assert_eq!(reported, *report, "{name}: {line}");
        assert_eq!((&line["status"], line.get("code")), (&json!(200), None), "{name}");
        if let Some((code, _)) = report {
            *expected_counts.entry((route, code)).or_default() += 1;
        }
    }
    for ((route, code), count) in expected_counts {
        assert_eq!(count_of(&fixture, "would_reject", route, code).await, count, "{route} {code}");
        assert_eq!(count_of(&fixture, "rejections", route, code).await, 0, "{route} {code}");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The counterpart: without `report_only` the same requests are refused and counted as rejections.
#[tokio::test]
async fn an_enforcing_route_reports_no_would_be_refusals() {
    let fixture = Fixture::start(Config::minimal()).await;
    assert_eq!(fixture.get_with_token("/admin/x", &fixture.good_token()).await.status, 403);
    assert_eq!(fixture.get("/admin/x", &[]).await.status, 401);
    for code in ["access_denied", "credentials_missing"] {
        assert_eq!(count_of(&fixture, "rejections", "admin", code).await, 1, "{code}");
        assert_eq!(count_of(&fixture, "would_reject", "admin", code).await, 0, "{code}");
    }
    for line in fixture.gateway.wait_for_access_lines(2).await {
        assert_eq!(line.get("would_reject"), None, "{line}");
    }
}

/// An unavailable identity provider blocks no request on a report-only route.
#[tokio::test]
async fn report_only_reports_missing_keys() {
    let fixture = Fixture::with_idp(Idp::reserve(), config()).await;
    let response = fixture.get_with_token("/report/x", &fixture.good_token()).await;
    assert_eq!(response.status, 200);
    assert_eq!(fixture.gateway.access_line_of(&response).await["would_reject"], "keys_unavailable");
    let seen = fixture.origin.requests().pop().expect("a request at the origin");
    assert_eq!(seen.header("x-identity-subject"), None);
}

/// What is not a matter of authorization is refused on such a route too.
#[tokio::test]
async fn report_only_still_refuses_ambiguous_paths() {
    let fixture = Fixture::start(config()).await;
    for target in ["/report/../admin/x", "/report/%2e%2e/x", "/report//x"] {
        assert_eq!(fixture.get(target, &[]).await.status, 400, "{target}");
    }
    assert!(fixture.origin.requests().is_empty());
}

/// A preflight that a report-only route does not grant is an ordinary `OPTIONS` request, which the
/// route does not allow.
#[tokio::test]
async fn a_preflight_from_an_unlisted_origin_is_routed_by_its_own_method() {
    let config = Config::minimal()
        .route("browser", "report_only = true\nmethods = [\"GET\"]\ncors = \"spa\"")
        .append("[cors.spa]\norigins = [\"https://app.example\"]");
    let fixture = Fixture::start(config).await;
    for (origin, status) in [("https://app.example", 204), ("https://evil.example", 405)] {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "GET")];
        let response = fixture.request("OPTIONS", "/browser/x", &headers, b"").await;
        assert_eq!(response.status, status, "{origin}");
    }
    assert!(fixture.origin.requests().is_empty());
}
