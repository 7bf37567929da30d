//! The limit on tokens that fail verification, `server.auth_failures`, counted per client address.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Response;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::idp::Idp;
use crate::support::token::{TestKey, TokenBuilder};

const BURST: u32 = 3;

/// One failure a second, three at once. The gateway trusts the forwarding headers of the test's own
/// address.
async fn start() -> Fixture {
    Fixture::start(config("auth_failures = { rate = \"60/min\", burst = 3 }")).await
}

fn config(lines: &str) -> Config {
    Config::minimal().add("server", &format!("{lines}\ntrusted_proxies = [\"127.0.0.1/32\"]"))
}

/// A token that only its signature makes invalid; another one for each `number`.
fn badly_signed(fixture: &Fixture, number: u32) -> String {
    fixture.token().claim("jti", number).sign(&TestKey::rsa("k2").with_kid("k1"))
}

async fn get_from(fixture: &Fixture, address: &str, token: &str) -> Response {
    let credentials = format!("Bearer {token}");
    fixture.get("/token/x", &[("Authorization", &credentials), ("X-Forwarded-For", address)]).await
}

async fn spend_budget(fixture: &Fixture, address: &str) {
    for number in 0..BURST {
        assert_eq!(get_from(fixture, address, &badly_signed(fixture, number)).await.status, 401, "{address}, {number}");
    }
}

/// Like [`spend_budget`], and the share of the subject.
async fn spend_budget_and_share(fixture: &Fixture, address: &str) {
    spend_budget(fixture, address).await;
    assert_eq!(get_from(fixture, address, &badly_signed(fixture, BURST)).await.status, 401, "{address}: its share");
}

/// How many signatures the gateway has checked.
async fn signature_checks(fixture: &Fixture) -> u64 {
    fixture.gateway.count("portcullis_token_verify_seconds_count{issuer=\"main\"}").await
}

/// Over the limit, a token without a cached verdict is refused before any cryptography, whether it
/// is good or not, once the share of its subject is used up as well.
#[tokio::test]
async fn over_the_limit_verifies_no_new_tokens() {
    let fixture = start().await;
    spend_budget_and_share(&fixture, "192.0.2.1").await;
    let before = signature_checks(&fixture).await;
    assert_eq!(before, u64::from(BURST) + 1);
    for (name, token) in [
        ("another bad token", badly_signed(&fixture, 100)),
        ("an expired token", fixture.token().claim("exp", 1).to_jwt()),
        ("signed with an unknown key", fixture.token().sign(&TestKey::rsa("k2"))),
        ("not a JWT", "abc".to_owned()),
        ("a good token of the same subject", fixture.good_token()),
    ] {
        let response = get_from(&fixture, "192.0.2.1", &token).await;
        assert_eq!((response.status, &response.json()["code"]), (429, &json!("rate_limited")), "{name}");
        assert_eq!(response.header("retry-after"), Some("1"), "{name}");
        assert_eq!(response.header("ratelimit-policy"), Some("\"auth_failures\";q=60;w=60"), "{name}");
        assert_eq!(response.header("ratelimit"), Some("\"auth_failures\";r=0;t=1"), "{name}");
        assert_eq!(response.header("www-authenticate"), None, "{name}");
        assert_eq!(response.json()["violated-policies"], json!(["auth_failures"]), "{name}");
    }
    assert_eq!(signature_checks(&fixture).await, before);
    assert_eq!(fixture.gateway.count("portcullis_limited_total{limit=\"auth_failures\"}").await, 5);
    assert_eq!(fixture.gateway.count("portcullis_limiter_cells{limit=\"auth_failures\"}").await, 1);
    assert!(fixture.origin.requests().is_empty());
}

/// A program that sends bad tokens does not stop the others behind its address. A caller that was
/// there before has a share of its own, and newcomers have shares by their subject.
#[tokio::test]
async fn over_the_limit_still_verifies_tokens_of_other_callers() {
    const NEWCOMERS: usize = 20;
    let fixture = start().await;
    let token_of = |subject: &str, number: u32| fixture.token().claim("sub", subject).claim("jti", number);
    assert_eq!(get_from(&fixture, "192.0.2.1", &token_of("bob", 1).to_jwt()).await.status, 200);
    let bad = |number| token_of("mallory", number).sign(&TestKey::rsa("k2").with_kid("k1"));
    for number in 0..=BURST {
        assert_eq!(get_from(&fixture, "192.0.2.1", &bad(number)).await.status, 401, "{number}");
    }
    assert_eq!(get_from(&fixture, "192.0.2.1", &bad(100)).await.status, 429);
    assert_eq!(get_from(&fixture, "192.0.2.1", &token_of("bob", 2).to_jwt()).await.status, 200, "a new token");
    let mut served = 0;
    for number in 0..NEWCOMERS {
        let token = token_of(&format!("newcomer {number}"), 1).to_jwt();
        served += usize::from(get_from(&fixture, "192.0.2.1", &token).await.status == 200);
    }
    // Mallory has one share of sixteen, and newcomers are spread over them at random.
    assert!(served > NEWCOMERS / 2, "{served} of {NEWCOMERS}");
}

/// Clients behind one address do not lock each other out: a cached good token passes, and so does a
/// request that needs none.
#[tokio::test]
async fn over_the_limit_still_accepts_cached_good_tokens() {
    let fixture = start().await;
    let good = fixture.good_token();
    assert_eq!(get_from(&fixture, "192.0.2.1", &good).await.status, 200);
    spend_budget_and_share(&fixture, "192.0.2.1").await;
    assert_eq!(get_from(&fixture, "192.0.2.1", &badly_signed(&fixture, 100)).await.status, 429);
    assert_eq!(get_from(&fixture, "192.0.2.1", &good).await.status, 200);
    let headers = [("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(fixture.get("/public/x", &headers).await.status, 200);
    assert_eq!(fixture.get("/token/x", &headers).await.status, 401, "a missing token is not a failure");
}

/// Each address has its own budget. An IPv6 client is counted by its /64, because it can choose any
/// address in it (threat RL-3).
#[tokio::test]
async fn counts_failures_per_address() {
    let fixture = start().await;
    spend_budget_and_share(&fixture, "192.0.2.1").await;
    spend_budget_and_share(&fixture, "2001:db8:1:2::1").await;
    for (address, status) in [
        ("192.0.2.1", 429),
        ("192.0.2.2", 401),
        ("2001:db8:1:2::1", 429),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", 429),
        ("2001:db8:1:3::1", 401),
        ("198.51.100.7, 192.0.2.1", 429),
        ("192.0.2.1, 198.51.100.7", 401),
    ] {
        assert_eq!(get_from(&fixture, address, &badly_signed(&fixture, 100)).await.status, status, "{address}");
    }
    // Without a forwarding header, the address of the connection counts.
    assert_eq!(fixture.get_with_token("/token/x", &badly_signed(&fixture, 100)).await.status, 401);
}

/// The budget refills with time.
#[tokio::test]
async fn the_limit_refills_at_its_rate() {
    let fixture = start().await;
    spend_budget_and_share(&fixture, "192.0.2.1").await;
    fixture.clock.advance(Duration::from_millis(999));
    assert_eq!(get_from(&fixture, "192.0.2.1", &badly_signed(&fixture, 10)).await.status, 429);
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(get_from(&fixture, "192.0.2.1", &badly_signed(&fixture, 11)).await.status, 401);
    assert_eq!(get_from(&fixture, "192.0.2.1", &badly_signed(&fixture, 12)).await.status, 429);
    fixture.clock.advance(Duration::from_secs(60));
    spend_budget(&fixture, "192.0.2.1").await;
    assert_eq!(get_from(&fixture, "192.0.2.1", &fixture.good_token()).await.status, 429);
}

/// Only failures that cost a signature check count. A key rotation within the cooldown makes the
/// key of good tokens unknown, and must not stop the tokens whose key is known.
#[tokio::test]
async fn counts_only_failures_that_cost_a_signature_check() {
    type Make = fn(&Fixture) -> String;
    let rows: &[(&str, Make, u16, bool)] = &[
        ("badly signed", |fixture| badly_signed(fixture, 1), 401, true),
        ("signed with an unknown key", |fixture| fixture.token().sign(&TestKey::rsa("k2")), 401, false),
        ("expired", |fixture| fixture.token().claim("exp", 1).to_jwt(), 401, false),
        ("for another audience", |fixture| fixture.token().claim("aud", "x").to_jwt(), 401, false),
        ("not a JWT", |_| "abc".to_owned(), 401, false),
        ("malformed", |_| "a b".to_owned(), 400, false),
        ("too long", |_| "a".repeat(9_000), 401, false),
        ("from another issuer", |_| TokenBuilder::new("https://x.example").to_jwt(), 401, false),
        ("good", Fixture::good_token, 200, false),
    ];
    for (name, make, status, counts) in rows {
        let fixture = start().await;
        // One more than the limit allows, for the share of the subject.
        for _ in 0..=BURST {
            assert_eq!(get_from(&fixture, "192.0.2.1", &make(&fixture)).await.status, *status, "{name}");
        }
        let new = fixture.token().claim("jti", "new").to_jwt();
        assert_eq!(get_from(&fixture, "192.0.2.1", &new).await.status, if *counts { 429 } else { 200 }, "{name}");
    }
}

/// An outage of the identity provider does not count against its users.
#[tokio::test]
async fn does_not_count_unavailable_keys() {
    let config = config("auth_failures = { rate = \"60/min\", burst = 1 }");
    let fixture = Fixture::with_idp(Idp::reserve(), config).await;
    for round in 0..3 {
        assert_eq!(fixture.get_with_token("/token/x", &fixture.good_token()).await.status, 503, "{round}");
    }
}

/// `"off"` turns the limit off. By default a hundred failures at once are allowed.
#[tokio::test]
async fn the_limit_is_on_by_default_and_can_be_turned_off() {
    for (lines, last) in [("auth_failures = \"off\"", 401), ("", 429)] {
        let fixture = Fixture::start(config(lines)).await;
        let bad = badly_signed(&fixture, 1);
        // One more than the limit allows, for the share of the subject.
        for number in 0..=100 {
            assert_eq!(get_from(&fixture, "192.0.2.1", &bad).await.status, 401, "{lines} {number}");
        }
        assert_eq!(get_from(&fixture, "192.0.2.1", &bad).await.status, last, "{lines}");
    }
}
