//! Which kinds of tokens an issuer's profile accepts, and where its claims are read: access tokens,
//! ID tokens, sender-constrained tokens.

use serde_json::{Value, json};

use crate::support::config::Config;
use crate::support::fixture::Fixture;

/// RFC 7800 §3.1, RFC 9449 §7.2, RFC 8705 §3; threats J-16, J-44: tokens that the same issuer signs
/// for other purposes, and tokens that are bound to a key.
#[tokio::test]
async fn refuses_tokens_of_other_kinds_and_sender_constrained_tokens() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit()).await;
    let with = |claim: &str, value: Value| fixture.token().claim(claim, value).to_jwt();
    let bound = Err("sender-constrained without proof");
    let mut rows = vec![
        ("typ Bearer, as Keycloak sends it", with("typ", json!("Bearer")), Ok(())),
        ("token_use access, as Cognito sends it", with("token_use", json!("access")), Ok(())),
    ];
    for (claim, value, reason) in [
        ("at_hash", json!("x"), "not an access token: at_hash"),
        ("c_hash", json!("x"), "not an access token: c_hash"),
        ("typ", json!("ID"), "not an access token: typ"),
        ("typ", json!("Refresh"), "not an access token: typ"),
        ("typ", json!("Offline"), "not an access token: typ"),
        ("typ", json!("Logout"), "not an access token: typ"),
        ("token_use", json!("id"), "not an access token: token_use"),
        ("events", json!({"http://schemas.openid.net/event/backchannel-logout": {}}), "not an access token: events"),
    ] {
        rows.push((claim, with(claim, value), Err(reason)));
    }
    for value in [json!({"jkt": "x"}), json!({"x5t#S256": "x"}), json!({}), json!("x")] {
        rows.push(("cnf", with("cnf", value), bound));
    }
    rows.push(("cnf null", with("cnf", json!(null)), Ok(())));
    fixture.assert_verdicts("/token/x", rows).await;
}

/// Keycloak before 25, Azure B2C and Casdoor write `nonce` into access tokens: it marks an ID token
/// only where nothing marks an access token.
#[tokio::test]
async fn accepts_an_access_token_with_a_nonce() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit()).await;
    let token = || fixture.token().without("scope").header("typ", "JWT").claim("nonce", "n");
    let refused = Err("not an access token: nonce");
    let rows = [
        ("nothing marks it", token().to_jwt(), refused),
        ("at+jwt", token().header("typ", "at+jwt").to_jwt(), Ok(())),
        ("typ Bearer", token().claim("typ", "Bearer").to_jwt(), Ok(())),
        ("token_use access", token().claim("token_use", "access").to_jwt(), Ok(())),
        ("scope", token().claim("scope", "orders:read").to_jwt(), Ok(())),
        ("scp", token().claim("scp", json!(["orders:read"])).to_jwt(), Ok(())),
        ("an empty nonce", token().claim("nonce", "").to_jwt(), Ok(())),
        ("a scope that is null", token().claim("scope", json!(null)).to_jwt(), refused),
        (
            "at_hash beside it",
            token().claim("scp", "a").claim("at_hash", "h").to_jwt(),
            Err("not an access token: at_hash"),
        ),
    ];
    fixture.assert_verdicts("/token/x", rows).await;
}

/// RFC 9068 §2.2, §4: the profile requires everything that the RFC does.
#[tokio::test]
async fn the_rfc9068_profile_requires_its_type_and_claims() {
    let fixture =
        Fixture::start(Config::minimal().without_auth_failure_limit().add("issuers.main", "profile = \"rfc9068\""))
            .await;
    let full = || fixture.token().claim("client_id", "svc").claim("jti", "1");
    let mut rows = vec![
        ("complete", full().to_jwt(), Ok(())),
        ("long type", full().header("typ", "application/at+jwt").to_jwt(), Ok(())),
        ("type JWT", full().header("typ", "JWT").to_jwt(), Err("token type not allowed")),
        ("no type", full().without_header("typ").to_jwt(), Err("token type not allowed")),
        ("an ID token's claim", full().claim("at_hash", "h").to_jwt(), Err("not an access token: at_hash")),
        ("a nonce", full().claim("nonce", "n").to_jwt(), Ok(())),
        ("no audience", full().without("aud").to_jwt(), Err("audience missing")),
        ("no subject", full().without("sub").to_jwt(), Err("subject missing")),
        ("no issuer", full().without("iss").to_jwt(), Err("issuer missing")),
    ];
    for (claim, reason) in [
        ("exp", "required claim missing: exp"),
        ("iat", "required claim missing: iat"),
        ("client_id", "required claim missing: client_id"),
        ("jti", "required claim missing: jti"),
    ] {
        rows.push((claim, full().without(claim).to_jwt(), Err(reason)));
        rows.push((claim, full().claim(claim, json!(null)).to_jwt(), Err(reason)));
    }
    for value in [json!(7), json!("")] {
        rows.push(("jti", full().claim("jti", value).to_jwt(), Err("claim of the wrong type: jti")));
    }
    fixture.assert_verdicts("/token/x", rows).await;
}

/// OpenID Connect Core §2: for an issuer that signs nothing else, the operator can choose ID
/// tokens; access tokens are then refused.
#[tokio::test]
async fn the_id_token_profile_accepts_id_tokens_only() {
    let fixture =
        Fixture::start(Config::minimal().without_auth_failure_limit().add("issuers.main", "profile = \"id_token\""))
            .await;
    let token = |typ: &str| fixture.token().header("typ", typ);
    fixture
        .assert_verdicts(
            "/token/x",
            [
                ("with a nonce", token("JWT").claim("nonce", "n").claim("at_hash", "x").to_jwt(), Ok(())),
                ("no type", token("JWT").without_header("typ").claim("nonce", "n").to_jwt(), Ok(())),
                ("an access token", token("at+jwt").to_jwt(), Err("token type not allowed")),
                ("a refresh token", token("JWT").claim("typ", "Refresh").to_jwt(), Err("not an access token: typ")),
                (
                    "a logout token",
                    token("JWT").claim("events", json!({})).to_jwt(),
                    Err("not an access token: events"),
                ),
                ("for another audience", token("JWT").claim("aud", "api2").to_jwt(), Err("audience is another")),
            ],
        )
        .await;
}

/// The operator chooses where claims are read. Of several paths for subject, audience and client
/// the first that is present counts.
#[tokio::test]
async fn reads_claims_from_the_configured_paths() {
    let fixture = Fixture::start(Config::minimal().without_auth_failure_limit().add("issuers.main", "subject_claim = [\"/https:~1~1shop.example~1uid\", \"sub\"]\naudience_claim = [\"resource\", \"aud\"]\nclient_claim = \"ext.client\""))
    .await;
    let uid = "https://shop.example/uid";
    for (name, token, expected) in [
        ("the second path", fixture.token(), Some(("alice", None))),
        ("the first", fixture.token().claim(uid, "u-7"), Some(("u-7", None))),
        ("the first, alone", fixture.token().claim(uid, "u-7").without("sub"), Some(("u-7", None))),
        ("the first is unusable", fixture.token().claim(uid, 7), None),
        ("the client", fixture.token().claim("ext", json!({"client": "svc"})), Some(("alice", Some("svc")))),
        ("a client in another claim", fixture.token().claim("azp", "svc"), Some(("alice", None))),
        ("the first audience", fixture.token().claim("resource", "api").without("aud"), Some(("alice", None))),
        ("the first audience is another", fixture.token().claim("resource", "x"), None),
    ] {
        let before = fixture.origin.requests().len();
        let response = fixture.get_with_token("/token/x", &token.to_jwt()).await;
        let requests = fixture.origin.requests();
        let seen = requests.get(before).map(|seen| {
            (
                seen.header("x-identity-subject").unwrap_or_default().to_owned(),
                seen.header("x-identity-client").map(str::to_owned),
            )
        });
        let expected = expected.map(|(subject, client)| (subject.to_owned(), client.map(str::to_owned)));
        assert_eq!((response.status == 200, seen), (expected.is_some(), expected), "{name}");
    }
}
