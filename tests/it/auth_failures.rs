//! The guard against tokens that cost work for nothing: `server.auth_failures`, counted per client address.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Answer;
use crate::support::gateway::minimal;
use crate::support::scene::{Scene, add_to};
use crate::support::token::{TestKey, TokenBuilder};

const BURST: u32 = 3;

/// One failure a second, three at once; forwarding headers of the test's own address are believed.
async fn scene() -> Scene {
    guarded("auth_failures = { rate = \"60/min\", burst = 3 }").await
}

async fn guarded(lines: &str) -> Scene {
    let lines = format!("{lines}\ntrusted_proxies = [\"127.0.0.1/32\"]");
    Scene::with(|issuer, upstream| add_to(&minimal(issuer, upstream), "server", &lines)).await
}

/// A token that fails by its signature alone, another one each time.
fn badly_signed(scene: &Scene, number: u32) -> String {
    scene.token().claim("jti", number).sign(&TestKey::rsa("k2").with_kid("k1"))
}

async fn from(scene: &Scene, address: &str, token: &str) -> Answer {
    scene.get_with("/token/x", token, &[("X-Forwarded-For", address)]).await
}

async fn use_up(scene: &Scene, address: &str) {
    for number in 0..BURST {
        assert_eq!(from(scene, address, &badly_signed(scene, number)).await.status, 401, "{address}, {number}");
    }
}

/// How many signatures were checked.
async fn checked(scene: &Scene) -> u64 {
    scene.gateway.count("portcullis_token_verify_seconds_count{issuer=\"main\"}").await
}

/// `auth_failures`: over the limit, a token whose verdict is not known is refused before any crypto, good or not.
#[tokio::test]
async fn over_the_limit_nothing_new_is_verified() {
    let scene = scene().await;
    use_up(&scene, "192.0.2.1").await;
    let before = checked(&scene).await;
    assert_eq!(before, u64::from(BURST));
    for (name, token) in [
        ("another bad one", badly_signed(&scene, 100)),
        ("an expired one", scene.token().claim("exp", 1).sign(&TestKey::rsa("k1"))),
        ("no JWT", "abc".to_owned()),
        ("a good one that is new", scene.token().claim("sub", "bob").sign(&TestKey::rsa("k1"))),
    ] {
        let answer = from(&scene, "192.0.2.1", &token).await;
        assert_eq!((answer.status, &answer.json()["code"]), (429, &json!("rate_limited")), "{name}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{name}");
        assert_eq!(answer.header("ratelimit-policy"), Some("\"auth_failures\";q=60;w=60"), "{name}");
        assert_eq!(answer.header("ratelimit"), Some("\"auth_failures\";r=0;t=1"), "{name}");
        assert_eq!(answer.header("www-authenticate"), None, "{name}");
        assert_eq!(answer.json()["violated-policies"], json!(["auth_failures"]), "{name}");
    }
    assert_eq!(checked(&scene).await, before);
    assert_eq!(scene.gateway.count("portcullis_limited_total{limit=\"auth_failures\"}").await, 4);
    assert!(scene.origin.requests().is_empty());
}

/// Nobody behind the same address is locked out by a neighbour: what is known to be good passes, and so does what needs no token.
#[tokio::test]
async fn over_the_limit_a_token_that_is_known_to_be_good_passes() {
    let scene = scene().await;
    let good = scene.good_token();
    assert_eq!(from(&scene, "192.0.2.1", &good).await.status, 200);
    use_up(&scene, "192.0.2.1").await;
    assert_eq!(from(&scene, "192.0.2.1", &badly_signed(&scene, 100)).await.status, 429);
    assert_eq!(from(&scene, "192.0.2.1", &good).await.status, 200);
    let headers = [("X-Forwarded-For", "192.0.2.1")];
    let addr = scene.gateway.addr();
    assert_eq!(crate::support::client::get(addr, "/public/x", &headers).await.status, 200);
    assert_eq!(crate::support::client::get(addr, "/token/x", &headers).await.status, 401, "no token is no failure");
}

/// Each address has a budget of its own; a client of IPv6 has its whole /64, which is what it can choose from (threat RL-3).
#[tokio::test]
async fn failures_count_for_their_own_address() {
    let scene = scene().await;
    use_up(&scene, "192.0.2.1").await;
    use_up(&scene, "2001:db8:1:2::1").await;
    for (address, status) in [
        ("192.0.2.1", 429),
        ("192.0.2.2", 401),
        ("2001:db8:1:2::1", 429),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", 429),
        ("2001:db8:1:3::1", 401),
        ("198.51.100.7, 192.0.2.1", 429),
        ("192.0.2.1, 198.51.100.7", 401),
    ] {
        assert_eq!(from(&scene, address, &badly_signed(&scene, 100)).await.status, status, "{address}");
    }
    // Without a proxy's word, the connection's own address counts.
    assert_eq!(scene.get("/token/x", &badly_signed(&scene, 100)).await.status, 401);
}

/// The budget comes back with time.
#[tokio::test]
async fn the_guard_forgets_at_its_rate() {
    let scene = scene().await;
    use_up(&scene, "192.0.2.1").await;
    scene.clock.advance(Duration::from_millis(999));
    assert_eq!(from(&scene, "192.0.2.1", &badly_signed(&scene, 10)).await.status, 429);
    scene.clock.advance(Duration::from_millis(1));
    assert_eq!(from(&scene, "192.0.2.1", &badly_signed(&scene, 11)).await.status, 401);
    assert_eq!(from(&scene, "192.0.2.1", &badly_signed(&scene, 12)).await.status, 429);
    scene.clock.advance(Duration::from_secs(60));
    use_up(&scene, "192.0.2.1").await;
    assert_eq!(from(&scene, "192.0.2.1", &scene.good_token()).await.status, 429);
}

/// Only work for nothing counts: a signature that was computed, a key that was looked for.
#[tokio::test]
async fn what_costs_nothing_or_is_nobodys_fault_does_not_count() {
    type Make = fn(&Scene) -> String;
    let sign = |token: TokenBuilder| token.sign(&TestKey::rsa("k1"));
    let rows: &[(&str, Make, u16, bool)] = &[
        ("badly signed", |scene| badly_signed(scene, 1), 401, true),
        ("of an unknown key", |scene| scene.token().sign(&TestKey::rsa("k2")), 401, true),
        ("expired", |scene| scene.token().claim("exp", 1).sign(&TestKey::rsa("k1")), 401, false),
        ("for another audience", |scene| scene.token().claim("aud", "x").sign(&TestKey::rsa("k1")), 401, false),
        ("no JWT", |_| "abc".to_owned(), 401, false),
        ("malformed", |_| "a b".to_owned(), 400, false),
        ("too long", |_| "a".repeat(9_000), 401, false),
        ("of another issuer", |_| TokenBuilder::new("https://x.example").sign(&TestKey::rsa("k1")), 401, false),
        ("good", Scene::good_token, 200, false),
    ];
    for (name, make, status, counts) in rows {
        let scene = scene().await;
        for _ in 0..BURST {
            assert_eq!(from(&scene, "192.0.2.1", &make(&scene)).await.status, *status, "{name}");
        }
        let new = sign(scene.token().claim("sub", "bob"));
        assert_eq!(from(&scene, "192.0.2.1", &new).await.status, if *counts { 429 } else { 200 }, "{name}");
    }
}

/// An identity provider's outage is not held against its users.
#[tokio::test]
async fn unavailable_keys_do_not_count() {
    let scene = Scene::between(crate::support::idp::Idp::reserve(), |issuer, upstream| {
        add_to(&minimal(issuer, upstream), "server", "auth_failures = { rate = \"60/min\", burst = 1 }")
    })
    .await;
    for round in 0..3 {
        assert_eq!(scene.get("/token/x", &scene.good_token()).await.status, 503, "{round}");
    }
}

/// `"off"` turns it off; by default a hundred at once are let pass.
#[tokio::test]
async fn the_guard_can_be_turned_off_and_is_on_by_default() {
    for (lines, last) in [("auth_failures = \"off\"", 401), ("", 429)] {
        let scene = guarded(lines).await;
        let bad = badly_signed(&scene, 1);
        for number in 0..100 {
            assert_eq!(from(&scene, "192.0.2.1", &bad).await.status, 401, "{lines} {number}");
        }
        assert_eq!(from(&scene, "192.0.2.1", &bad).await.status, last, "{lines}");
    }
}
