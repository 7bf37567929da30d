//! Tokens with wrong claims, each validly signed: only the check under test can refuse them.
//!
//! Each row names the reason that the access log must give. The clock stays at [`NOW`] until a test
//! moves it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::config::Config;
use crate::support::fixture::{Fixture, NOW};
use crate::support::token::TestKey;

/// The default leeway, in seconds.
const LEEWAY: u64 = 30;

/// RFC 7519 §4.1.4 to §4.1.6; threats J-23, J-26, J-27: exact to the second on both sides of each
/// boundary.
#[tokio::test]
async fn checks_times_to_the_second() {
    let config = || Config::minimal().without_auth_failure_limit();
    for (config, leeway) in [
        (config(), LEEWAY),
        (config().add("issuers.main", "leeway = \"0s\""), 0),
        (config().add("issuers.main", "leeway = \"5m\""), 300),
    ] {
        let fixture = Fixture::start(config).await;
        let with = |claim: &str, at: u64| fixture.token().claim(claim, at).to_jwt();
        let by_other_key = fixture.token().claim("exp", NOW - leeway).sign(&TestKey::rsa("k2").with_kid("k1"));
        fixture
            .assert_verdicts(
                "/token/x",
                [
                    ("exp a second before its end", with("exp", NOW - leeway + 1), Ok(())),
                    ("exp at its end", with("exp", NOW - leeway), Err("expired")),
                    ("exp a second after its end", with("exp", NOW - leeway - 1), Err("expired")),
                    // Times are checked before the signature, which is more expensive.
                    ("exp at its end, and another key's signature", by_other_key, Err("expired")),
                    ("nbf at its start", with("nbf", NOW + leeway), Ok(())),
                    ("nbf a second before its start", with("nbf", NOW + leeway + 1), Err("not valid yet")),
                    ("iat as late as allowed", with("iat", NOW + leeway), Ok(())),
                    ("iat a second later", with("iat", NOW + leeway + 1), Err("issued in the future")),
                    ("no iat", fixture.token().without("iat").to_jwt(), Ok(())),
                ],
            )
            .await;
    }
}

/// Threats J-29, J-80, J-85: one token, with a cached verdict, as time passes. The clock may also
/// be set back.
#[tokio::test]
async fn a_token_is_valid_from_nbf_to_exp_by_the_gateways_clock() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit()).await;
    let token = fixture.token().claim("exp", NOW + 300).claim("nbf", NOW + 100).to_jwt();
    for (seconds, expected) in [
        (0, Err("not valid yet")),
        (69, Err("not valid yet")),
        (70, Ok(())),
        (300, Ok(())),
        (329, Ok(())),
        (330, Err("expired")),
        (3_600, Err("expired")),
        (200, Ok(())),
        (69, Err("not valid yet")),
    ] {
        fixture.clock.set_wall(NOW + seconds);
        fixture.assert_verdicts("/token/x", [(&*format!("after {seconds} s"), token.clone(), expected)]).await;
    }
}

/// RFC 7519 §2 `NumericDate`; threats J-22, J-24, J-25, A01, A02: a claim of the wrong type is not
/// treated as absent, and no number is too large.
#[tokio::test]
async fn times_must_be_numbers_and_exp_is_required() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit()).await;
    let mut rows = vec![("exp absent", fixture.token().without("exp").to_jwt(), Err("required claim missing: exp"))];
    rows.push(("exp null", fixture.token().claim("exp", json!(null)).to_jwt(), Err("required claim missing: exp")));
    for claim in ["nbf", "iat"] {
        rows.push((claim, fixture.token().claim(claim, json!(null)).to_jwt(), Ok(())));
    }
    let wrong = [json!("9999999999"), json!(true), json!([]), json!({}), json!([NOW + 60]), json!(-1), json!(-0.5)];
    for (claim, reason) in [
        ("exp", "claim of the wrong type: exp"),
        ("nbf", "claim of the wrong type: nbf"),
        ("iat", "claim of the wrong type: iat"),
    ] {
        for value in &wrong {
            rows.push((claim, fixture.token().claim(claim, value.clone()).to_jwt(), Err(reason)));
        }
    }
    // Numbers that no Rust integer holds, written into the JSON as they are.
    let raw = |exp: &str| {
        let issuer = fixture.idp.issuer();
        fixture.token().raw_payload(format!(r#"{{"iss":"{issuer}","aud":"api","sub":"alice","exp":{exp}}}"#)).to_jwt()
    };
    for exp in [
        "253402300800",
        "9007199254740992",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1.8e19",
        "1e308",
        "1800000300.5",
        "1.8000003e9",
    ] {
        rows.push((exp, raw(exp), Ok(())));
    }
    for (exp, why) in [
        ("1e400", "claims malformed"),
        ("-1e400", "claims malformed"),
        ("0", "expired"),
        ("1799999969.9", "expired"),
        ("1799999970.9", "expired"),
        ("0x7fffffffff", "claims malformed"),
        ("01800000300", "claims malformed"),
        ("-0.0", "expired"),
    ] {
        rows.push((exp, raw(exp), Err(why)));
    }
    rows.push(("a fraction within the second", raw("1799999971.9"), Ok(())));
    fixture.assert_verdicts("/token/x", rows).await;
    // A second request with a token that never expires: its verdict can be cached.
    fixture.assert_verdicts("/token/x", [("again", raw("1e308"), Ok(()))]).await;
}

/// Threat J-28: with `max_lifetime` the lifetime must be stated, and the times must be consistent.
#[tokio::test]
async fn max_lifetime_bounds_the_lifetime() {
    let fixture =
        Fixture::start(Config::minimal().without_auth_failure_limit().add("issuers.main", "max_lifetime = \"10m\""))
            .await;
    let times = |iat: u64, exp: u64| fixture.token().claim("iat", iat).claim("exp", exp);
    let too_long = Err("lifetime too long");
    fixture
        .assert_verdicts(
            "/token/x",
            [
                ("exactly", times(NOW, NOW + 600).to_jwt(), Ok(())),
                ("a second more", times(NOW, NOW + 601).to_jwt(), too_long),
                ("a century", times(NOW, NOW + 100 * 365 * 86_400).to_jwt(), too_long),
                ("endless", times(NOW, u64::MAX).to_jwt(), too_long),
                ("long, and about to expire", times(NOW - 86_400, NOW + 5).to_jwt(), too_long),
                ("no iat", times(NOW, NOW + 60).without("iat").to_jwt(), too_long),
                ("expired before it was issued", times(NOW + 20, NOW + 10).to_jwt(), Err("times contradict")),
                (
                    "expired before it is valid",
                    times(NOW, NOW + 10).claim("nbf", NOW + 10).to_jwt(),
                    Err("times contradict"),
                ),
            ],
        )
        .await;
}

/// RFC 7519 §4.1.3, RFC 9068 §4; threats J-30 to J-33, A02, A21, A28, A34: one of the configured
/// audiences, exactly.
#[tokio::test]
async fn the_audience_must_be_a_configured_one() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit()).await;
    let aud = |value: Value| fixture.token().claim("aud", value).to_jwt();
    let mut rows = vec![
        ("one", aud(json!("api")), Ok(())),
        ("an array of one", aud(json!(["api"])), Ok(())),
        ("among others", aud(json!(["x", "api", "y"])), Ok(())),
        ("absent", fixture.token().without("aud").to_jwt(), Err("audience missing")),
        ("empty array", aud(json!([])), Err("audience missing")),
        ("others only", aud(json!(["https://a.example", "https://b.example"])), Err("audience is another")),
        ("many others", aud(json!(vec!["x"; 1_000])), Err("audience is another")),
    ];
    for value in ["API", "api ", " api", "apis", "xapi", "ap", "", "api,x", "api x", "api\0", "*", "%61pi"] {
        rows.push((value, aud(json!(value)), Err("audience is another")));
    }
    rows.push(("null", aud(json!(null)), Err("audience missing")));
    for value in [json!(7), json!(true), json!({"api": 1}), json!(["api", 7]), json!(["api", null]), json!([["api"]])] {
        rows.push(("wrong type", aud(value), Err("audience malformed")));
    }
    fixture.assert_verdicts("/token/x", rows).await;
}

/// RFC 7519 §4.1.1, RFC 8725 §3.8; threats J-35, J-36, A03, A23: byte for byte the configured
/// issuer, without normalization.
#[tokio::test]
async fn the_issuer_is_compared_byte_for_byte() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit()).await;
    let issuer = fixture.idp.issuer();
    let (scheme, address) = issuer.split_once("://").expect("a URL");
    let port = address.split_once(':').expect("a port").1;
    let iss = |value: Value| fixture.token().claim("iss", value).to_jwt();
    let unknown = Err("issuer not configured");
    let mut rows = vec![("as configured", iss(json!(issuer)), Ok(()))];
    for other in [
        format!("{issuer}/"),
        format!(" {issuer}"),
        format!("{issuer} "),
        format!("{issuer}\0"),
        format!("{issuer}#"),
        format!("{issuer}?"),
        format!("HTTP://{address}"),
        format!("https://{address}"),
        format!("{scheme}://localhost:{port}"),
        format!("{scheme}://user@{address}"),
        format!("{scheme}://127.0.0.%31:{port}"),
        format!("{scheme}://127.0.0.\u{ff11}:{port}"),
        format!("{scheme}://127.1:{port}"),
        issuer[..issuer.len() - 1].to_owned(),
        address.to_owned(),
        String::new(),
        "https://idp.example".to_owned(),
    ] {
        rows.push(("another", iss(json!(other)), unknown));
    }
    for value in [json!(null), json!(7), json!([issuer]), json!([issuer, "x"]), json!({"x": issuer}), json!(true)] {
        rows.push(("not a string", iss(value), Err("issuer missing")));
    }
    rows.push(("absent", fixture.token().without("iss").to_jwt(), Err("issuer missing")));
    fixture.assert_verdicts("/token/x", rows).await;
    assert_eq!(fixture.idp.fetches(), 1, "no unknown issuer triggered a fetch");
}

/// RFC 9068 §2.2, RFC 6749; threats J-38, J-45, J-46: the subject must be present and fit into a
/// header. A token may be used more than once.
#[tokio::test]
async fn the_subject_must_be_a_non_empty_string_without_control_characters() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit()).await;
    let sub = |value: Value| fixture.token().claim("sub", value).to_jwt();
    let missing = Err("subject missing");
    let mut rows = vec![
        ("usual", sub(json!("alice")), Ok(())),
        ("in any script", sub(json!("Zoë|\u{1f980}")), Ok(())),
        ("4 KiB", sub(json!("x".repeat(4_096))), Ok(())),
        ("a byte more", sub(json!("x".repeat(4_097))), missing),
        ("absent", fixture.token().without("sub").to_jwt(), missing),
        ("a used jti", fixture.token().claim("jti", "1").to_jwt(), Ok(())),
        ("the jti again", fixture.token().claim("jti", "1").claim("x", 1).to_jwt(), Ok(())),
        ("a client", fixture.token().claim("client_id", "svc").to_jwt(), Ok(())),
        ("an actor", fixture.token().claim("act", json!({"sub": "svc"})).to_jwt(), Ok(())),
        (
            "a client that is not a string",
            fixture.token().claim("client_id", 7).to_jwt(),
            Err("claim of the wrong type: client"),
        ),
        ("a client that is null", fixture.token().claim("client_id", json!(null)).to_jwt(), Ok(())),
    ];
    for value in [json!(7), json!({}), json!(["alice"]), json!(true)] {
        rows.push(("of another type", sub(value), Err("subject is not a string")));
    }
    for value in [json!(""), json!(null), json!("a\r\nX-Identity-Roles: admin"), json!("a\0"), json!("a\u{85}")] {
        rows.push(("unusable", sub(value), missing));
    }
    fixture.assert_verdicts("/token/x", rows).await;
}

/// RFC 7519 §4; threat J-14: parsers disagree on which of two members of one name counts, so the
/// token is refused.
#[tokio::test]
async fn refuses_duplicate_members_in_the_claims() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit()).await;
    let issuer = fixture.idp.issuer();
    let with = |more: &str| {
        let text = format!(r#"{{"iss":"{issuer}","aud":"api","sub":"alice","exp":{}{more}}}"#, NOW + 60);
        fixture.token().raw_payload(text).to_jwt()
    };
    let malformed = Err("claims malformed");
    fixture
        .assert_verdicts(
            "/token/x",
            [
                ("each once", with(r#","scope":"a","realm_access":{"roles":["a"]},"x":[{"y":1},{"y":2}]"#), Ok(())),
                ("sub", with(r#","sub":"mallory""#), malformed),
                ("sub, the same", with(r#","sub":"alice""#), malformed),
                ("exp", with(r#","exp":99999999999"#), malformed),
                ("scope", with(r#","scope":"a","scope":"admin""#), malformed),
                ("scope, once escaped", with(r#","scope":"a","sc\u006fpe":"admin""#), malformed),
                ("nested", with(r#","realm_access":{"roles":["a"],"roles":["admin"]}"#), malformed),
                ("in an array", with(r#","x":[{"y":1,"y":2}]"#), malformed),
            ],
        )
        .await;
}

/// Threats J-25, J-85: a token that never expires is not cached forever.
#[tokio::test]
async fn a_token_that_never_expires_still_needs_fresh_keys() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit()).await;
    let token = fixture.token().claim("exp", u64::MAX).to_jwt();
    for days in [0, 1, 365] {
        fixture.clock.set_wall(NOW + days * 86_400);
        fixture.assert_verdicts("/token/x", [("endless", token.clone(), Ok(()))]).await;
    }
    // The key set is now older than `jwks_max_stale`.
    fixture.idp.fail_with(500);
    fixture.clock.advance(Duration::from_secs(25 * 3_600));
    let response = fixture.get_with_token("/token/x", &token).await;
    assert_eq!(response.status, 503);
}
