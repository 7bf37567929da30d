//! Keys that change while the gateway runs: one fetch brings a new key, a withdrawn key is refused
//! from the next refresh on, and while fetches fail the last good keys are used until they are too
//! stale.

use std::time::Duration;

use serde_json::json;

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::idp::Idp;
use crate::support::token::TestKey;
use crate::support::{background, with_deadline};

/// The default `jwks_cooldown`, and a second.
const COOLDOWN: Duration = Duration::from_secs(31);

/// No limit on failed tokens: these tests send many.
async fn start() -> Fixture {
    Fixture::start(Config::minimal().without_auth_failure_limit()).await
}

async fn status_of(fixture: &Fixture, token: &str) -> u16 {
    fixture.get_with_token("/token/x", token).await.status
}

/// Sends one token per key id, all concurrently; returns how many responses had which status.
async fn send_all(fixture: &Fixture, kids: impl IntoIterator<Item = String>, key: &TestKey) -> Vec<(u16, usize)> {
    let h2 = client::h2(fixture.gateway.addr()).await;
    let mut requests = tokio::task::JoinSet::new();
    for (number, kid) in kids.into_iter().enumerate() {
        let token = fixture.token().claim("sub", format!("user-{number}")).sign(&key.clone().with_kid(&kid));
        let h2 = h2.clone();
        requests
            .spawn(async move { h2.get("/token/x", &[("Authorization", &format!("Bearer {token}"))]).await.status });
    }
    let mut statuses = std::collections::BTreeMap::new();
    for status in with_deadline("all responses", requests.join_all()).await {
        *statuses.entry(status).or_insert(0) += 1;
    }
    statuses.into_iter().collect()
}

/// Threats J-69, J-88, A40: a token with a new key triggers a fetch; all requests that need the key
/// wait for that one fetch, and none is refused.
#[tokio::test]
async fn one_fetch_serves_all_requests_that_wait_for_a_new_key() {
    let fixture = start().await;
    assert_eq!(status_of(&fixture, &fixture.good_token()).await, 200);
    let new = TestKey::rsa("k2");
    fixture.idp.set_keys(&[&TestKey::rsa("k1"), &new]);
    fixture.clock.advance(COOLDOWN);
    assert_eq!(send_all(&fixture, (0..50).map(|_| "k2".to_owned()), &new).await, [(200, 50)]);
    assert_eq!((fixture.idp.fetches(), fixture.idp.discovery_fetches()), (2, 1));
    assert_eq!(status_of(&fixture, &fixture.good_token()).await, 200, "the old key is still published");
}

/// The very first requests wait for the keys too instead of failing.
#[tokio::test]
async fn the_first_requests_wait_for_the_first_keys() {
    let fixture = start().await;
    assert_eq!(send_all(&fixture, (0..50).map(|_| "k1".to_owned()), &TestKey::rsa("k1")).await, [(200, 50)]);
    assert_eq!(fixture.idp.fetches(), 1);
}

/// Threats J-68, J-91, A27: a client that invents key ids causes one fetch per cooldown, and other
/// clients are not affected.
#[tokio::test]
async fn unknown_key_ids_cause_one_fetch_per_cooldown() {
    let fixture = start().await;
    let (good, other_key) = (fixture.good_token(), TestKey::rsa("k2"));
    assert_eq!(status_of(&fixture, &good).await, 200);
    let unknown_kids = |round: u32| (0..60).map(move |number| format!("kid-{round}-{number}"));
    assert_eq!(send_all(&fixture, unknown_kids(0), &other_key).await, [(401, 60)]);
    assert_eq!(fixture.idp.fetches(), 1, "within the cooldown of the first fetch");
    for round in 1..=3 {
        fixture.clock.advance(COOLDOWN);
        assert_eq!(send_all(&fixture, unknown_kids(round), &other_key).await, [(401, 60)], "round {round}");
        assert_eq!(fixture.idp.fetches(), 1 + u64::from(round), "round {round}");
        assert_eq!(status_of(&fixture, &good).await, 200, "round {round}");
    }
    let unknown = fixture.gateway.count("portcullis_unknown_kids_total{issuer=\"main\"}").await;
    assert_eq!(unknown, 240);
}

/// `keys_unavailable`: after a successful fetch an unknown key does not exist; after a failed one
/// it might. Tokens with known keys are not affected (threat A27).
#[tokio::test]
async fn an_unknown_key_is_401_after_a_good_fetch_and_503_after_a_failed_one() {
    let fixture = start().await;
    let good = fixture.good_token();
    let unknown = |name: &str| fixture.token().sign(&TestKey::rsa("k2").with_kid(name));
    assert_eq!(status_of(&fixture, &good).await, 200);
    assert_eq!(status_of(&fixture, &unknown("a")).await, 401, "within the cooldown");
    fixture.clock.advance(COOLDOWN);
    assert_eq!(status_of(&fixture, &unknown("b")).await, 401, "fetched, and not in the set");
    fixture.idp.fail_with(500);
    fixture.clock.advance(COOLDOWN);
    let response = fixture.get_with_token("/token/x", &unknown("c")).await;
    assert_eq!((response.status, &response.json()["code"]), (503, &json!("keys_unavailable")));
    assert_eq!(response.header("retry-after"), Some("30"), "the cooldown");
    assert_eq!(status_of(&fixture, &unknown("d")).await, 503, "within the cooldown of the failure");
    assert_eq!(status_of(&fixture, &good).await, 200, "cached");
    let another = fixture.token().claim("sub", "bob").to_jwt();
    assert_eq!(status_of(&fixture, &another).await, 200, "verified with the current keys");
    fixture.idp.recover();
    fixture.clock.advance(COOLDOWN);
    assert_eq!(status_of(&fixture, &unknown("e")).await, 401, "fetched again, and not in the set");
}

/// Threats J-71, J-81, A26, D6: a key that is no longer published, or was replaced under its id,
/// verifies nothing from the next refresh on. Verdicts cached with it end too.
#[tokio::test]
async fn refuses_a_token_whose_key_has_left_the_key_set() {
    for (name, published, reason) in [
        ("withdrawn", vec![TestKey::es256("e1")], "key unknown"),
        ("replaced", vec![TestKey::es256("e1"), TestKey::rsa("k2").with_kid("k1")], "signature invalid"),
        (
            "published for another algorithm",
            vec![TestKey::es256("e1"), TestKey::rsa("k1").with_algorithm("PS256")],
            "key not for this algorithm",
        ),
    ] {
        let fixture = start().await;
        let by_old = fixture.good_token();
        fixture
            .assert_verdicts("/token/x", [("verified", by_old.clone(), Ok(())), ("cached", by_old.clone(), Ok(()))])
            .await;
        fixture.idp.set_keys(&published.iter().collect::<Vec<_>>());
        fixture.assert_verdicts("/token/x", [("not fetched yet", by_old.clone(), Ok(()))]).await;
        fixture.clock.advance(COOLDOWN);
        let by_new = fixture.token().sign(&TestKey::es256("e1"));
        fixture.assert_verdicts("/token/x", [(name, by_new, Ok(())), (name, by_old, Err(reason))]).await;
        assert_eq!(fixture.idp.fetches(), 2, "{name}");
    }
}

/// Threat J-95: the issuer moves its keys to another address and withdraws the old one. Clients
/// cannot delay that the gateway follows by sending unknown key ids.
#[tokio::test]
async fn unknown_key_ids_do_not_keep_the_gateway_at_an_old_address_of_the_keys() {
    let (fixture, elsewhere, new) = (start().await, Idp::start().await, TestKey::rsa("k2"));
    assert_eq!(status_of(&fixture, &fixture.good_token()).await, 200);
    elsewhere.set_keys(&[&new]);
    let mut discovery = fixture.idp.discovery();
    discovery["jwks_uri"] = json!(elsewhere.jwks_url());
    fixture.idp.set_discovery(discovery);
    // Each interval is shorter than the refresh; together they are longer.
    for round in 0..4 {
        fixture.clock.advance(Duration::from_secs(240));
        let unknown = fixture.token().sign(&new.clone().with_kid(&format!("invented-{round}")));
        assert_eq!(status_of(&fixture, &unknown).await, 401, "round {round}");
    }
    let by_new = fixture.token().sign(&new);
    fixture
        .assert_verdicts("/token/x", [("new", by_new, Ok(())), ("old", fixture.good_token(), Err("key unknown"))])
        .await;
}

/// Threat J-73: as long as a key stays published, its cached tokens need no new signature check.
#[tokio::test]
async fn a_refresh_keeps_cached_tokens_whose_key_is_still_published() {
    let fixture = start().await;
    let token = fixture.good_token();
    assert_eq!(status_of(&fixture, &token).await, 200);
    let new = TestKey::rsa("k2");
    fixture.idp.set_keys(&[&new, &TestKey::rsa("k1")]);
    fixture.clock.advance(COOLDOWN);
    assert_eq!(status_of(&fixture, &fixture.token().sign(&new)).await, 200);
    assert_eq!(status_of(&fixture, &token).await, 200);
    assert_eq!(
        (fixture.verifications("accepted", "miss").await, fixture.verifications("accepted", "hit").await),
        (2, 1)
    );
}

/// Threats J-67, A27: an outage of the identity provider has no effect until the keys are older
/// than `jwks_max_stale`. Then every token is refused, cached or not, with 503 and not 401.
#[tokio::test]
async fn stale_keys_are_used_until_jwks_max_stale() {
    let config = Config::minimal().add("issuers.main", "jwks_max_stale = \"1h\"\njwks_refresh = \"10m\"");
    let fixture = Fixture::start(config).await;
    let token = fixture.token().claim("exp", 1_900_000_000).to_jwt();
    let fresh = |name: &str| fixture.token().claim("sub", name).to_jwt();
    assert_eq!(status_of(&fixture, &token).await, 200);
    fixture.idp.fail_with(500);
    fixture.clock.advance(Duration::from_secs(3_600));
    assert_eq!(
        (status_of(&fixture, &token).await, status_of(&fixture, &fresh("a")).await),
        (200, 200),
        "just within the limit"
    );
    fixture.clock.advance(Duration::from_secs(1));
    for (name, token) in [("cached", token.clone()), ("fresh", fresh("b"))] {
        let response = fixture.get_with_token("/token/x", &token).await;
        assert_eq!((response.status, &response.json()["code"]), (503, &json!("keys_unavailable")), "{name}");
        assert!(response.header("retry-after").is_some(), "{name}");
    }
    // The gateway has had keys: if readiness failed here, an outage of one identity provider would
    // take every replica out of service.
    let readiness = client::get(fixture.gateway.admin(), "/readyz", &[]).await;
    assert_eq!((readiness.status, &readiness.json()["ready"]), (200, &json!(true)));
    let reason = json!(["issuer main has no usable keys: response has status 500"]);
    assert_eq!(readiness.json()["reasons"], reason, "but says what does not work");
    assert_eq!(fixture.get("/public/x", &[]).await.status, 200);
    fixture.idp.recover();
    fixture.clock.advance(Duration::from_secs(300));
    assert_eq!((status_of(&fixture, &token).await, status_of(&fixture, &fresh("c")).await), (200, 200), "recovered");
}

/// Threat J-63: an invalid key set, or one without usable keys, does not replace a good one.
#[tokio::test]
async fn an_invalid_key_set_does_not_replace_a_good_one() {
    let fixture = start().await;
    assert_eq!(status_of(&fixture, &fixture.good_token()).await, 200);
    for (name, document) in [
        ("empty", json!({"keys": []})),
        ("not JSON", json!("<html>")),
        ("unusable", json!({"keys": [{"kty": "oct", "k": "AAAA"}]})),
    ] {
        fixture.idp.set_jwks(document);
        // The backoff grows with each failure.
        fixture.clock.advance(Duration::from_secs(301));
        let unknown = fixture.token().sign(&TestKey::rsa("k2"));
        assert_eq!(status_of(&fixture, &unknown).await, 503, "{name}");
        assert_eq!(status_of(&fixture, &fixture.good_token()).await, 200, "{name}");
    }
    assert!(fixture.gateway.count("portcullis_jwks_refreshes_total{issuer=\"main\",result=\"failure\"}").await >= 3);
}

/// Threat J-64: while a fetch hangs, tokens with known keys are verified as usual.
#[tokio::test]
async fn a_hanging_fetch_does_not_delay_known_keys() {
    let fixture = start().await;
    assert_eq!(status_of(&fixture, &fixture.good_token()).await, 200);
    fixture.idp.hang();
    fixture.clock.advance(COOLDOWN);
    let (addr, unknown) = (fixture.gateway.addr(), fixture.token().sign(&TestKey::rsa("k2")));
    let waiting = background()
        .spawn(async move { client::get(addr, "/token/x", &[("Authorization", &format!("Bearer {unknown}"))]).await });
    fixture.idp.wait_for_fetches(2).await;
    for name in ["a", "b", "c"] {
        let token = fixture.token().claim("sub", name).to_jwt();
        assert_eq!(status_of(&fixture, &token).await, 200, "{name}");
    }
    assert!(!waiting.is_finished());
    waiting.abort();
}

/// RFC 9111 §5.2.2 and `jwks_refresh`: the gateway refreshes the set within its lifetime, which the
/// cache headers set within bounds.
#[tokio::test]
async fn refreshes_keys_within_their_cache_lifetime() {
    let fixture = start().await;
    fixture.idp.set_header("Cache-Control", "no-store");
    assert_eq!(status_of(&fixture, &fixture.good_token()).await, 200);
    fixture.idp.set_keys(&[&TestKey::es256("e1")]);
    // 15 minutes is the maximum: the headers arrived after the first set's refresh was scheduled,
    // or they asked for a minute.
    fixture.clock.advance(Duration::from_secs(15 * 60));
    fixture.gateway.wait_for_metric("portcullis_jwks_refreshes_total{issuer=\"main\",result=\"success\"}", 2.0).await;
    let by_new = fixture.token().sign(&TestKey::es256("e1"));
    fixture
        .assert_verdicts("/token/x", [("new", by_new, Ok(())), ("old", fixture.good_token(), Err("key unknown"))])
        .await;
    // A minute is the minimum, and the refresh comes before it is over.
    fixture.clock.advance(Duration::from_secs(60));
    fixture.idp.wait_for_fetches(3).await;
}

/// An operator can alert on the age of the keys.
#[tokio::test]
async fn metrics_show_the_state_of_the_keys() {
    let fixture = start().await;
    assert_eq!(status_of(&fixture, &fixture.good_token()).await, 200);
    fixture.idp.set_keys(&[&TestKey::rsa("k1"), &TestKey::es256("e1"), &TestKey::ed25519("d1")]);
    fixture.idp.fail_with(503);
    fixture.clock.advance(Duration::from_secs(120));
    let of = |samples: &crate::support::gateway::Samples| {
        let value = |name: &str, more: &str| samples.count(&format!("portcullis_{name}{{issuer=\"main\"{more}}}"));
        (
            value("jwks_age_seconds", ""),
            value("jwks_keys", ""),
            value("jwks_refreshes_total", ",result=\"success\""),
            value("jwks_refreshes_total", ",result=\"failure\""),
            value("unknown_kids_total", ""),
        )
    };
    assert_eq!(of(&fixture.gateway.metrics().await), (120, 1, 1, 0, 0));
    let by_new = fixture.token().sign(&TestKey::es256("e1"));
    assert_eq!(status_of(&fixture, &by_new).await, 503);
    assert_eq!(of(&fixture.gateway.metrics().await), (120, 1, 1, 1, 1));
    fixture.idp.recover();
    fixture.clock.advance(COOLDOWN);
    assert_eq!(status_of(&fixture, &by_new).await, 200);
    assert_eq!(of(&fixture.gateway.metrics().await), (0, 3, 2, 1, 2));
}
