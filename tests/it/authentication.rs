//! Authentication as a client sees it: which credentials are accepted, and what each refusal looks
//! like.
//!
//! Faults inside a token are in [`token_headers`](super::token_headers) and
//! [`token_claims`](super::token_claims).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::client::{self, Response};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::idp::Idp;
use crate::support::token::{TestKey, TokenBuilder};

const INVALID: &str =
    "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"The access token is not valid\"";
const EXPIRED: &str =
    "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"The access token expired\"";
const MALFORMED: &str = "Bearer realm=\"portcullis\", error=\"invalid_request\", error_description=\"The request's credentials are malformed\"";
const LACKS_SCOPE: &str = "Bearer realm=\"portcullis\", error=\"insufficient_scope\", error_description=\"The access token lacks a scope\", scope=\"orders:read\"";

/// Name, target, `Authorization` fields; status, code and challenge of the response.
type Row<'a> = (&'a str, &'a str, &'a [&'a str], u16, &'a str, Option<&'a str>);

/// What every refusal promises besides its own status, code and challenge.
fn assert_is_problem(name: &str, response: &Response, title: &str) {
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{name}");
    assert_eq!(response.headers_named("cache-control"), ["no-store"], "{name}");
    let body = response.json();
    let members: Vec<_> = body.as_object().expect("a problem is an object").keys().map(String::as_str).collect();
    assert_eq!(members, ["code", "detail", "request_id", "status", "title", "type"], "{name}");
    assert_eq!((&body["type"], &body["title"]), (&json!("about:blank"), &json!(title)), "{name}");
    assert_eq!(body["status"], response.status, "{name}");
    let ids = response.headers_named("x-request-id");
    assert_eq!((ids.len(), &body["request_id"]), (1, &json!(ids[0])), "{name}: {ids:?}");
}

/// RFC 6750 §3 and §3.1, RFC 9457, RFC 9110 §11.6.1; threats J-21, J-90: each refusal of
/// credentials, the same over HTTP/1.1 and HTTP/2. None of the requests reaches the upstream.
#[tokio::test]
async fn every_refusal_of_credentials_has_its_status_challenge_and_body() {
    let fixture = Fixture::start(Config::minimal()).await;
    let key = TestKey::rsa("k1");
    let bearer = |token: TokenBuilder| format!("Bearer {}", token.sign(&key));
    let good = bearer(fixture.token());
    let expired = bearer(fixture.token().claim("exp", 1_000_000_000));
    let without_route = bearer(fixture.token().scope("orders:write orders:reader"));
    let other_audience = bearer(fixture.token().claim("aud", "api2"));
    let too_long = format!("Bearer {}", "a".repeat(8 * 1024 + 1));
    let missing = "Bearer realm=\"portcullis\"";
    let missing_scope = "Bearer realm=\"portcullis\", scope=\"orders:read\"";
    let (code_missing, code_malformed, code_invalid) = ("credentials_missing", "request_malformed", "token_invalid");
    let rows: &[Row<'_>] = &[
        ("none", "/token/x", &[], 401, code_missing, Some(missing)),
        ("no credentials, scope required", "/scope/x", &[], 401, code_missing, Some(missing_scope)),
        ("another scheme", "/scope/x", &["Basic dXNlcjpwYXNz"], 401, code_missing, Some(missing_scope)),
        ("a scheme with a longer name", "/token/x", &["BearerToken abc"], 401, code_missing, Some(missing)),
        ("an empty field", "/token/x", &[""], 401, code_missing, Some(missing)),
        ("no token", "/token/x", &["Bearer"], 400, code_malformed, Some(MALFORMED)),
        ("two tokens", "/token/x", &["Bearer abc def"], 400, code_malformed, Some(MALFORMED)),
        ("a list", "/token/x", &["Bearer abc,def"], 400, code_malformed, Some(MALFORMED)),
        ("a parameter", "/token/x", &["Bearer token=\"abc\""], 400, code_malformed, Some(MALFORMED)),
        ("an escape", "/token/x", &["Bearer abc%3D"], 400, code_malformed, Some(MALFORMED)),
        ("not ASCII", "/token/x", &["Bearer ab\u{e9}"], 400, code_malformed, Some(MALFORMED)),
        ("one token twice", "/token/x", &[&good, &good], 400, code_malformed, Some(MALFORMED)),
        ("two schemes", "/token/x", &["Basic dXNlcjpwYXNz", &good], 400, code_malformed, Some(MALFORMED)),
        ("not a JWT", "/token/x", &["Bearer abc"], 401, code_invalid, Some(INVALID)),
        ("padding", "/token/x", &[&format!("{good}=")], 401, code_invalid, Some(INVALID)),
        ("too long", "/token/x", &[&too_long], 401, code_invalid, Some(INVALID)),
        ("for another audience", "/scope/x", &[&other_audience], 401, code_invalid, Some(INVALID)),
        ("expired", "/scope/x", &[&expired], 401, code_invalid, Some(EXPIRED)),
        ("without the scope", "/scope/x", &[&without_route], 403, "scope_insufficient", Some(LACKS_SCOPE)),
        ("without the role", "/admin/x", &[&good], 403, "access_denied", None),
    ];
    let h2 = client::h2(fixture.gateway.addr()).await;
    for (name, target, fields, status, code, challenge) in rows {
        let title = match status {
            400 => "Bad Request",
            401 => "Unauthorized",
            _ => "Forbidden",
        };
        let headers: Vec<_> = fields.iter().map(|field| ("Authorization", *field)).collect();
        for (version, response) in
            [("HTTP/1.1", fixture.get(target, &headers).await), ("HTTP/2", h2.get(target, &headers).await)]
        {
            let name = format!("{name}, {version}");
            assert_eq!((response.status, &response.json()["code"]), (*status, &json!(code)), "{name}");
            let challenges: Vec<_> = challenge.iter().copied().collect();
            assert_eq!(response.headers_named("www-authenticate"), challenges, "{name}");
            assert_is_problem(&name, &response, title);
        }
    }
    assert!(fixture.origin.requests().is_empty());
}

/// RFC 9110 §11.1, RFC 6750 §2.1; threat J-21: the accepted counterpart of the table above.
#[tokio::test]
async fn accepts_the_bearer_scheme_in_any_case_and_with_extra_spaces() {
    let fixture = Fixture::start(Config::minimal()).await;
    let token = fixture.good_token();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "] {
        let response = fixture.get("/scope/x", &[("Authorization", &format!("{scheme} {token}"))]).await;
        assert_eq!(response.status, 200, "{scheme:?}: {}", response.text());
    }
}

/// RFC 6750 §3: the operator sets the realm.
#[tokio::test]
async fn the_challenge_names_the_configured_realm() {
    let fixture = Fixture::start(Config::minimal().add("server", "realm = \"Orders of shop 7\"")).await;
    let response = fixture.get("/token/x", &[]).await;
    assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"Orders of shop 7\""));
}

/// A public route needs no token, looks at none, and forwards no identity: a token of any kind
/// changes nothing.
#[tokio::test]
async fn a_public_route_ignores_tokens() {
    let fixture = Fixture::start(Config::minimal()).await;
    let good = format!("Bearer {}", fixture.good_token());
    let rows: &[(&str, &[&str])] = &[
        ("none", &[]),
        ("a good one", &[&good]),
        ("a bad one", &["Bearer abc"]),
        ("a malformed one", &["Bearer a b"]),
        ("two", &[&good, "Basic abc"]),
    ];
    for (name, fields) in rows {
        let headers: Vec<_> = fields.iter().map(|field| ("Authorization", *field)).collect();
        let response = fixture.get("/public/x", &headers).await;
        assert_eq!(response.status, 200, "{name}");
        let seen = fixture.origin.requests().pop().expect("a request at the origin");
        let identity: Vec<_> =
            seen.headers.iter().filter(|(h, _)| h.starts_with("x-identity") || h == "authorization").collect();
        assert!(identity.is_empty(), "{name}: {identity:?}");
        let line = fixture.gateway.access_line_of(&response).await;
        assert_eq!((&line["issuer"], &line["subject"]), (&Value::Null, &Value::Null), "{name}");
    }
    assert_eq!(fixture.verifications("accepted", "miss").await, 0, "no token was verified");
}

/// Threat A39: optional access means no token or a good one. A bad token is never treated as none.
#[tokio::test]
async fn optional_access_accepts_no_token_or_a_good_one_but_refuses_a_bad_one() {
    let fixture = Fixture::start(Config::minimal().route("optional", "access = \"optional\"")).await;
    let key = TestKey::rsa("k1");
    let bearer = |token: TokenBuilder| format!("Bearer {}", token.sign(&key));
    let good = bearer(fixture.token());
    let of_others = bearer(TokenBuilder::at("https://other.example", 1_800_000_000));
    let rows: &[(&str, &[&str], u16, Option<&str>)] = &[
        ("none", &[], 200, None),
        ("another scheme", &["Basic dXNlcjpwYXNz"], 200, None),
        ("a good one", &[&good], 200, Some("alice")),
        ("expired", &[&bearer(fixture.token().claim("exp", 1_000_000_000))], 401, None),
        ("for another audience", &[&bearer(fixture.token().claim("aud", "api2"))], 401, None),
        ("from an unknown issuer", &[&of_others], 401, None),
        ("badly signed", &[&format!("Bearer {}", fixture.token().sign(&TestKey::rsa("k2").with_kid("k1")))], 401, None),
        ("not a JWT", &["Bearer abc"], 401, None),
        ("malformed", &["Bearer"], 400, None),
        ("two", &[&good, &good], 400, None),
    ];
    for (name, fields, status, subject) in rows {
        let headers: Vec<_> = fields.iter().map(|field| ("Authorization", *field)).collect();
        let before = fixture.origin.requests().len();
        let response = fixture.get("/optional/x", &headers).await;
        assert_eq!(response.status, *status, "{name}");
        let requests = fixture.origin.requests();
        assert_eq!(requests.len() - before, usize::from(*status == 200), "{name}");
        if *status == 200 {
            assert_eq!(requests.last().and_then(|seen| seen.header("x-identity-subject")), *subject, "{name}");
        }
    }
}

/// Threats J-43, A10: the limit is `max_token_size`, and a longer token is not even parsed.
#[tokio::test]
async fn refuses_a_token_one_byte_over_max_token_size() {
    for (name, written, bound) in [
        ("default", None, 8 * 1024),
        ("larger", Some("max_token_size = \"12 KiB\""), 12 * 1024),
        ("smaller", Some("max_token_size = \"900 B\""), 900),
    ] {
        let config = written.map_or_else(Config::minimal, |lines| Config::minimal().add("server", lines));
        let (idp, key) = (Idp::start().await, TestKey::ed25519("d1"));
        idp.set_keys(&[&key]);
        let fixture = Fixture::with_idp(idp, config).await;
        // Some lengths are impossible in base64; padding both segments reaches every length.
        let of_length = |wanted: usize| {
            let sign = |header: usize, payload: usize| {
                fixture.token().header("x", "x".repeat(header)).claim("x", "x".repeat(payload)).sign(&key)
            };
            let room = (wanted - sign(0, 0).len()) * 3 / 4;
            (0..6)
                .flat_map(|header| (room.saturating_sub(12)..=room).map(move |payload| (header, payload)))
                .map(|(header, payload)| sign(header, payload))
                .find(|token| token.len() == wanted)
                .expect("one of them has the length")
        };
        let refused = Err("token too long");
        fixture
            .assert_verdicts(
                "/token/x",
                [("exactly the limit", of_length(bound), Ok(())), ("one byte over", of_length(bound + 1), refused)],
            )
            .await;
        assert_eq!(fixture.verifications("refused", "miss").await, 0, "{name}: it was passed to an issuer");
    }
}

/// Threats J-90, A33: an attacker who tries tokens does not learn which part is wrong. Only expiry
/// has its own text, because the client can fix it.
#[tokio::test]
async fn every_bad_token_but_an_expired_one_gets_the_same_response() {
    let fixture = Fixture::start(Config::minimal()).await;
    let key = TestKey::rsa("k1");
    let other_key = TestKey::rsa("k2");
    let sign = |token: TokenBuilder| token.sign(&key);
    let faults = [
        ("not a JWT", "abc".to_owned()),
        ("too long", "a".repeat(9_000)),
        ("unsigned", fixture.token().header("alg", "none").unsigned()),
        ("an algorithm that is not allowed", fixture.token().sign(&key.clone().with_algorithm("PS256"))),
        ("an unknown key", fixture.token().sign(&other_key)),
        ("a bad signature", fixture.token().sign(&other_key.clone().with_kid("k1"))),
        ("an unknown issuer", sign(TokenBuilder::at("https://other.example", 1_800_000_000))),
        ("another audience", sign(fixture.token().claim("aud", "api2"))),
        ("no subject", sign(fixture.token().without("sub"))),
        ("not valid yet", sign(fixture.token().claim("nbf", 1_900_000_000))),
        ("an ID token", sign(fixture.token().claim("at_hash", "h"))),
        ("bound to a key", sign(fixture.token().claim("cnf", json!({"jkt": "x"})))),
        ("a critical extension", sign(fixture.token().header("crit", json!(["exp"])))),
        ("encrypted", "e30.e30.AAAA.AAAA.AAAA".to_owned()),
    ];
    let mut responses = BTreeMap::new();
    for (name, token) in faults {
        let response = fixture.get_with_token("/scope/x", &token).await;
        let id = response.header("x-request-id").expect("an id").to_owned();
        let body = response.text().replace(&id, "ID");
        let headers: Vec<_> = response
            .headers
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("date"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.replace(&id, "ID")))
            .collect();
        responses.entry((response.status, headers, body)).or_insert_with(Vec::new).push(name);
    }
    assert_eq!(responses.len(), 1, "{responses:#?}");
    let expired = fixture.get_with_token("/scope/x", &sign(fixture.token().claim("exp", 1_000_000_000))).await;
    assert_eq!(expired.header("www-authenticate"), Some(EXPIRED));
    assert_eq!(expired.json()["detail"], "The access token expired.");
}

/// RFC 6750 §2.2 and §2.3 are not supported; threat J-21: a token in a query or a form is not a
/// credential, and reaches no log.
#[tokio::test]
async fn accepts_tokens_in_the_authorization_header_only() {
    let fixture = Fixture::start(Config::minimal()).await;
    let (addr, token) = (fixture.gateway.addr(), fixture.good_token());
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for (name, response) in [
        ("query", client::get(addr, &format!("/token/x?access_token={token}"), &[]).await),
        ("form", client::request(addr, "POST", "/token/x", &form, format!("access_token={token}").as_bytes()).await),
        ("cookie", client::get(addr, "/token/x", &[("Cookie", &format!("access_token={token}"))]).await),
        ("proxy", client::get(addr, "/token/x", &[("Proxy-Authorization", &format!("Bearer {token}"))]).await),
    ] {
        assert_eq!((response.status, &response.json()["code"]), (401, &json!("credentials_missing")), "{name}");
        let line = fixture.gateway.access_line_of(&response).await;
        assert_eq!(line["path"], "/token/x", "{name}");
        assert!(!line.to_string().contains(&token[..20]), "{name}: {line}");
    }
    assert!(fixture.origin.requests().is_empty());
}

/// Threat J-93: an unknown path is 404 with any credentials, so that it cannot be used to test
/// them.
#[tokio::test]
async fn an_unknown_path_is_404_whatever_the_credentials() {
    let fixture = Fixture::start(Config::minimal()).await;
    let good = format!("Bearer {}", fixture.good_token());
    for fields in [&[][..], &["Bearer abc"], &["Bearer"], &[&good], &[&good, &good]] {
        let headers: Vec<_> = fields.iter().map(|field| ("Authorization", *field)).collect();
        let response = fixture.get("/elsewhere", &headers).await;
        assert_eq!((response.status, &response.json()["code"]), (404, &json!("route_not_found")), "{fields:?}");
        assert_eq!(response.header("www-authenticate"), None, "{fields:?}");
    }
}
