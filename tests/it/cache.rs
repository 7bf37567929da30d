//! The cache of verified tokens as seen from outside: it saves work, and never accepts a token that
//! would be refused without it.
//!
//! The effect of a withdrawn key is in [`key_rotation`](super::key_rotation), that of other routes
//! in [`authorization`](super::authorization).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::{Fixture, NOW};
use crate::support::token::TestKey;
use crate::support::with_deadline;

/// How many good tokens were verified, and how many came from the cache.
async fn verification_counts(fixture: &Fixture) -> (u64, u64) {
    (fixture.verifications("accepted", "miss").await, fixture.verifications("accepted", "hit").await)
}

/// Each token is verified once, whichever worker receives it. Bad tokens are not cached, because a
/// client can make any number of them (threats J-84, J-87).
#[tokio::test]
async fn caches_good_tokens_and_never_bad_ones() {
    let fixture = Fixture::start(Config::minimal()).await;
    let (alice, bob) = (fixture.good_token(), fixture.token().claim("sub", "bob").to_jwt());
    for token in [&alice, &bob, &alice, &alice, &bob] {
        assert_eq!(fixture.get_with_token("/token/x", token).await.status, 200);
    }
    assert_eq!(verification_counts(&fixture).await, (2, 3));
    for number in 0..20 {
        let bad = fixture.token().claim("jti", number).sign(&TestKey::rsa("k2").with_kid("k1"));
        assert_eq!(fixture.get_with_token("/token/x", &bad).await.status, 401);
        assert_eq!(fixture.get_with_token("/token/x", &bad).await.status, 401);
    }
    assert_eq!(
        (fixture.verifications("refused", "miss").await, fixture.verifications("refused", "hit").await),
        (40, 0)
    );
    assert_eq!(fixture.gateway.count("portcullis_token_verify_seconds_count{issuer=\"main\"}").await, 42);
    assert!(fixture.gateway.count("portcullis_token_cache_entries").await <= 2);
    assert_eq!(verification_counts(&fixture).await, (2, 3));
}

/// The cache counts its entries now and then while it serves, so that the metric lags behind.
#[tokio::test]
async fn the_number_of_cached_tokens_is_a_metric() {
    let fixture = Fixture::start(Config::minimal()).await;
    let tokens = ["alice", "bob", "carol"].map(|subject| fixture.token().claim("sub", subject).to_jwt());
    let counted = async {
        while fixture.gateway.count("portcullis_token_cache_entries").await != 3 {
            for token in &tokens {
                assert_eq!(fixture.get_with_token("/token/x", token).await.status, 200);
            }
        }
    };
    with_deadline("three cached tokens", counted).await;
}

/// Threats J-23, J-80, J-85, I7: a cached token expires in the same second as an uncached one.
#[tokio::test]
async fn a_cached_token_expires_in_the_same_second_as_an_uncached_one() {
    let fixture = Fixture::start(Config::minimal()).await;
    let token = |id: u32| fixture.token().claim("exp", NOW + 300).claim("iat", NOW).claim("jti", id).to_jwt();
    let (cached, later, last) = (token(1), token(2), token(3));
    assert_eq!(fixture.get_with_token("/token/x", &cached).await.status, 200);
    fixture.clock.advance(Duration::from_secs(329));
    assert_eq!(
        (
            fixture.get_with_token("/token/x", &cached).await.status,
            fixture.get_with_token("/token/x", &later).await.status
        ),
        (200, 200)
    );
    fixture.clock.advance(Duration::from_secs(1));
    fixture
        .assert_verdicts(
            "/token/x",
            [
                ("cached for a long time", cached, Err("expired")),
                ("cached for a second", later, Err("expired")),
                ("new", last, Err("expired")),
            ],
        )
        .await;
}

/// Threat J-82, I7: every change of the token rules by a reload applies to the next request, also
/// for cached tokens. `true`: the token is still accepted.
#[tokio::test]
async fn a_reload_applies_at_once_to_cached_tokens() {
    let issuer = "issuers.main";
    for (name, config, passes) in [
        ("audience", Config::minimal().replace(issuer, "audiences = [\"api2\"]"), false),
        ("a further audience", Config::minimal().replace(issuer, "audiences = [\"x\", \"api\"]"), true),
        ("algorithms", Config::minimal().replace(issuer, "algorithms = [\"ES256\"]"), false),
        ("lifetime", Config::minimal().add(issuer, "max_lifetime = \"1m\""), false),
        ("profile", Config::minimal().add(issuer, "profile = \"rfc9068\""), false),
        ("scope claims", Config::minimal().add(issuer, "scope_claims = [\"permissions\"]"), false),
        ("subject claim", Config::minimal().add(issuer, "subject_claim = \"uid\""), false),
        ("the route's scopes", Config::minimal().replace("routes.scope", "scopes = [\"orders:write\"]"), false),
        ("the route's audiences", Config::minimal().add("routes.scope", "audiences = [\"api2\"]"), false),
        ("nothing about tokens", Config::minimal().replace("server", "drain_delay = \"1s\""), true),
    ] {
        let fixture = Fixture::start(Config::minimal()).await;
        let token = fixture.good_token();
        for _ in 0..2 {
            assert_eq!(fixture.get_with_token("/scope/x", &token).await.status, 200, "{name}");
        }
        fixture.reload(config).await;
        assert_eq!(fixture.get_with_token("/scope/x", &token).await.status == 200, passes, "{name}");
        assert_eq!(fixture.idp.fetches(), 1, "{name}: the keys are the same");
        // And back: after a reload of the first configuration its results hold again.
        fixture.reload(Config::minimal()).await;
        assert_eq!(fixture.get_with_token("/scope/x", &token).await.status, 200, "{name}");
    }
}

/// Identity headers are rendered once per verified token; a reload that changes them renders them
/// again.
#[tokio::test]
async fn a_reload_of_identity_headers_applies_at_once_to_cached_tokens() {
    let fixture = Fixture::start(Config::minimal()).await;
    let token = fixture.token().claim("email", "alice@shop.example").to_jwt();
    assert_eq!(fixture.get_with_token("/token/x", &token).await.status, 200);
    let table = "[identity.headers]\nX-Identity-Email = \"claim:email\"\nX-User = \"subject\"";
    fixture.reload(Config::minimal().append(table)).await;
    assert_eq!(fixture.get_with_token("/token/x", &token).await.status, 200);
    let seen = fixture.origin.requests();
    let identity = |at: usize| {
        ["x-identity-subject", "x-identity-scopes", "x-identity-email", "x-user"].map(|name| seen[at].header(name))
    };
    assert_eq!(identity(0), [Some("alice"), Some("orders:read"), None, None]);
    assert_eq!(identity(1), [None, None, Some("alice@shop.example"), Some("alice")]);
}

/// Tokens of an issuer that a reload has removed are no longer accepted.
#[tokio::test]
async fn refuses_cached_tokens_of_a_removed_issuer() {
    let fixture = Fixture::start(Config::minimal()).await;
    let token = fixture.good_token();
    assert_eq!(fixture.get_with_token("/token/x", &token).await.status, 200);
    fixture.reload(Config::minimal().replace("issuers.main", "issuer = \"<issuer>/other\"")).await;
    fixture.assert_verdicts("/token/x", [("from the old issuer", token, Err("issuer not configured"))]).await;
}

/// A rejected configuration changes neither the rules nor the cache.
#[tokio::test]
async fn a_rejected_configuration_changes_nothing() {
    let fixture = Fixture::start(Config::minimal()).await;
    let token = fixture.good_token();
    assert_eq!(fixture.get_with_token("/scope/x", &token).await.status, 200);
    assert!(fixture.try_reload(Config::minimal().replace("issuers.main", "audiences = []")).await.is_err());
    assert_eq!(fixture.get_with_token("/scope/x", &token).await.status, 200);
    assert_eq!(verification_counts(&fixture).await, (1, 1));
}

/// Threat A24: under concurrency each response carries its own subject, cached or not.
#[tokio::test]
async fn concurrent_requests_each_carry_their_own_identity() {
    let fixture = Fixture::start(Config::minimal()).await;
    let h2 = client::h2(fixture.gateway.addr()).await;
    let mut requests = tokio::task::JoinSet::new();
    for round in 0..4 {
        for number in 0..40 {
            let subject = format!("user-{number}");
            let token = fixture.token().claim("sub", &*subject).claim("iat", NOW).to_jwt();
            let h2 = h2.clone();
            requests.spawn(async move {
                let response = h2.get("/token/x", &[("Authorization", &format!("Bearer {token}"))]).await;
                let echoed = response.json();
                let headers = echoed["headers"].as_array().cloned().unwrap_or_default();
                let identity = headers.iter().find(|pair| pair[0] == "x-identity-subject").map(|pair| pair[1].clone());
                (round, subject, identity)
            });
        }
    }
    let mut seen = BTreeSet::new();
    while let Some(request) = requests.join_next().await {
        let (round, subject, identity) = request.expect("requests do not panic");
        assert_eq!(identity.as_ref().and_then(|identity| identity.as_str()), Some(&*subject), "round {round}");
        seen.insert(subject);
    }
    assert_eq!(seen.len(), 40);
    let (miss, hit) = verification_counts(&fixture).await;
    assert_eq!(miss + hit, 160);
    assert!(miss >= 40);
}
