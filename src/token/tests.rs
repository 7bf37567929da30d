//! Whole tokens, signed as raw bytes with real keys: which are accepted, refused and cached.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::test_support::{
    ED25519, ISSUER, NOW, OTHER_RSA, P256, P384, RSA, TestKey, b64, claims, claims_with, idle_settings, jwks, verifier,
};
use super::*;
use crate::primitives::clock::ManualClock;

/// Issuers and a cache, as the gateway uses them together.
struct Fixture {
    time: ManualClock,
    issuers: Issuers,
    cache: Arc<VerdictCache<Principal>>,
}

impl Fixture {
    fn new(settings: IssuerSettings, keys: &[Value]) -> Self {
        let time = ManualClock::at(NOW);
        let verifier = verifier(settings, &time.clock(), keys);
        Self { issuers: Issuers::new(vec![verifier]), time, cache: Arc::default() }
    }

    fn with_one_key() -> Self {
        Self::new(idle_settings(), &[RSA.jwk("k1")])
    }

    fn with_every_algorithm() -> Self {
        let settings = IssuerSettings { algorithms: Algorithm::ALL.to_vec(), ..idle_settings() };
        Self::new(settings, &[RSA.jwk("rsa"), P256.jwk("p256"), P384.jwk("p384"), ED25519.jwk("ed")])
    }

    /// The same cache with other issuers, as after a reload.
    fn with_verifiers(&self, verifiers: Vec<Arc<Verifier>>) -> Self {
        Self { issuers: Issuers::new(verifiers), time: self.time.clone(), cache: Arc::clone(&self.cache) }
    }

    fn verifier(&self) -> &Arc<Verifier> {
        self.issuers.by_name("main").unwrap()
    }

    async fn verify(&self, token: &str) -> Result<Arc<Principal>, VerifyError> {
        let token = RawToken::new(token);
        let Verification { principal, proof } = self.issuers.verify(&token).await?;
        let principal = Arc::new(principal);
        self.cache.insert(token.digest(), proof, Arc::clone(&principal), principal.estimated_bytes());
        Ok(principal)
    }

    async fn outcome(&self, token: &str) -> Result<(), VerifyError> {
        self.verify(token).await.map(drop)
    }

    fn cached(&self, token: &str) -> Option<Arc<Principal>> {
        let verdict = self.cache.get(&RawToken::new(token).digest())?;
        let now = self.time.clock().moment(Instant::now());
        self.issuers.revalidate(verdict.proof(), now).then(|| Arc::clone(verdict.value()))
    }
}

fn valid_token() -> String {
    RSA.rs256("k1", &claims())
}

#[tokio::test]
async fn a_valid_token_yields_its_principal() {
    let principal = Fixture::with_one_key().verify(&valid_token()).await.unwrap();
    assert_eq!((principal.issuer(), principal.subject(), &**principal.issuer_name()), (ISSUER, "alice", "main"));
    assert!(principal.has_scope("orders:read") && !principal.has_scope("orders") && principal.roles().is_empty());
    assert_eq!((principal.audiences(), principal.client_id()), (&["api".to_owned()][..], None));
    assert_eq!(principal.claim(&ClaimPath::parse("exp").unwrap()), Some(&json!(NOW + 300)));
    assert_eq!(principal.expires_at().seconds(), NOW + 330);
}

/// Threats J-01 … J-07, J-61, A05, A12, A13: mismatches between key, algorithm and signature.
#[tokio::test]
async fn only_the_named_key_with_its_algorithm_is_accepted() {
    use VerifyError::{AlgorithmNotAllowed, BadSignature, KeyMismatch, NotThreeSegments, UnknownKey};
    let fixture = Fixture::with_every_algorithm();
    let payload = claims().to_string();
    let token = |key: &TestKey, signed_as: Algorithm, alg: &str, kid: &str| {
        key.token(signed_as, json!({ "alg": alg, "kid": kid }).to_string().as_bytes(), payload.as_bytes())
    };
    let mut rows = vec![
        ("Ed25519 by its RFC 9864 name", token(&ED25519, Algorithm::EdDsa, "Ed25519", "ed"), Ok(())),
        ("another key under the same id", token(&OTHER_RSA, Algorithm::Rs256, "RS256", "rsa"), Err(BadSignature)),
        ("an unknown key id", token(&RSA, Algorithm::Rs256, "RS256", "nope"), Err(UnknownKey)),
        ("a path as the key id", token(&RSA, Algorithm::Rs256, "RS256", "../../dev/null"), Err(UnknownKey)),
        ("alg RS256, signed with PS256", token(&RSA, Algorithm::Ps256, "RS256", "rsa"), Err(BadSignature)),
        ("alg PS256, signed with RS256", token(&RSA, Algorithm::Rs256, "PS256", "rsa"), Err(BadSignature)),
        ("alg RS512, signed with RS256", token(&RSA, Algorithm::Rs256, "RS512", "rsa"), Err(BadSignature)),
        ("an RSA key for ES256", token(&P256, Algorithm::Es256, "ES256", "rsa"), Err(KeyMismatch)),
        ("an EC key for RS256", token(&RSA, Algorithm::Rs256, "RS256", "p256"), Err(KeyMismatch)),
        ("a P-384 key for ES256", token(&P256, Algorithm::Es256, "ES256", "p384"), Err(KeyMismatch)),
        ("alg none", token(&RSA, Algorithm::Rs256, "none", "rsa"), Err(AlgorithmNotAllowed)),
        ("no signature", format!("{}.{}.", b64(br#"{"alg":"none"}"#), b64(payload.as_bytes())), Err(NotThreeSegments)),
        ("a symmetric algorithm", token(&RSA, Algorithm::Rs256, "HS256", "rsa"), Err(AlgorithmNotAllowed)),
    ];
    for (key, algorithm, kid) in [
        (&RSA, Algorithm::Rs256, "rsa"),
        (&RSA, Algorithm::Rs384, "rsa"),
        (&RSA, Algorithm::Rs512, "rsa"),
        (&RSA, Algorithm::Ps256, "rsa"),
        (&RSA, Algorithm::Ps384, "rsa"),
        (&RSA, Algorithm::Ps512, "rsa"),
        (&P256, Algorithm::Es256, "p256"),
        (&P384, Algorithm::Es384, "p384"),
        (&ED25519, Algorithm::EdDsa, "ed"),
    ] {
        rows.push((algorithm.name(), token(key, algorithm, algorithm.name(), kid), Ok(())));
    }
    for (name, token, expected) in rows {
        assert_eq!(fixture.outcome(&token).await, expected, "{name}");
    }
    let own_key = json!({ "alg": "RS256", "kid": "rsa", "jwk": OTHER_RSA.jwk("rsa"), "jku": "http://127.0.0.1:1/", "x5c": ["AA"] });
    let token = OTHER_RSA.token(Algorithm::Rs256, own_key.to_string().as_bytes(), payload.as_bytes());
    assert_eq!(fixture.outcome(&token).await, Err(BadSignature), "a key in the token's header is ignored");
}

/// Threat J-60: without a key id, the issuer's keys for the algorithm are tried.
#[tokio::test]
async fn a_token_without_a_key_id_is_verified_with_every_key_for_its_algorithm() {
    let fixture = Fixture::new(idle_settings(), &[P256.jwk("ec"), OTHER_RSA.jwk("k2"), RSA.jwk("k1")]);
    let payload = claims().to_string();
    let token = |key: &TestKey| key.token(Algorithm::Rs256, br#"{"alg":"RS256"}"#, payload.as_bytes());
    assert_eq!(fixture.outcome(&token(&RSA)).await, Ok(()));
    assert_eq!(fixture.outcome(&token(&OTHER_RSA)).await, Ok(()));
    let fixture = Fixture::new(idle_settings(), &[OTHER_RSA.jwk("k2")]);
    assert_eq!(fixture.outcome(&token(&RSA)).await, Err(VerifyError::BadSignature));
    // More keys fit than are tried: whether one of the others signed the token is not known.
    let mut keys: Vec<_> = (0..8).map(|number| OTHER_RSA.jwk(&number.to_string())).collect();
    keys.push(RSA.jwk("last"));
    let fixture = Fixture::new(idle_settings(), &keys);
    assert_eq!(fixture.outcome(&token(&OTHER_RSA)).await, Ok(()));
    assert_eq!(fixture.outcome(&token(&RSA)).await, Err(VerifyError::TooManyKeysFit));
    assert_eq!(fixture.outcome(&RSA.rs256("last", &claims())).await, Ok(()));
}

/// Threats J-10, J-13, J-14, J-17, J-18, J-47: malformed tokens with a valid signature.
#[tokio::test]
async fn a_malformed_token_is_refused_despite_its_valid_signature() {
    let fixture = Fixture::with_one_key();
    let (header, payload) = (r#"{"alg":"RS256","kid":"k1"}"#, claims().to_string());
    let double = payload.replacen('{', r#"{"sub":"root","#, 1);
    for (name, header, payload, expected) in [
        ("well-formed", header.as_bytes(), payload.as_bytes(), Ok(())),
        ("a duplicate claim", header.as_bytes(), double.as_bytes(), Err(VerifyError::ClaimsMalformed)),
        ("not UTF-8", header.as_bytes(), &b"{\"iss\":\"\xff\"}"[..], Err(VerifyError::ClaimsMalformed)),
        ("an array", header.as_bytes(), &b"[]"[..], Err(VerifyError::ClaimsMalformed)),
        (
            "a duplicate header parameter",
            br#"{"alg":"RS256","kid":"k1","kid":"k1"}"#,
            payload.as_bytes(),
            Err(VerifyError::HeaderMalformed),
        ),
        (
            "a critical extension",
            br#"{"alg":"RS256","kid":"k1","crit":["x"],"x":1}"#,
            payload.as_bytes(),
            Err(VerifyError::CriticalExtension),
        ),
        ("a header that is an array", br#"["RS256"]"#, payload.as_bytes(), Err(VerifyError::HeaderMalformed)),
    ] {
        assert_eq!(fixture.outcome(&RSA.token(Algorithm::Rs256, header, payload)).await, expected, "{name}");
    }
}

/// Threat A42: a token with any changed character is refused, and the cached verdict does not apply
/// to it.
#[tokio::test]
async fn a_changed_token_is_refused() {
    let fixture = Fixture::with_one_key();
    let token = valid_token();
    assert_eq!(fixture.outcome(&token).await, Ok(()));
    for index in (0..token.len()).step_by(7) {
        let mut changed = token.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(fixture.outcome(&changed).await.is_err(), "{index}");
        assert!(fixture.cached(&changed).is_none(), "{index}");
    }
}

/// Algorithm and claims are checked before the key and the signature.
#[tokio::test]
async fn cheap_checks_come_first() {
    let fixture = Fixture::with_one_key();
    let settings = IssuerSettings { algorithms: vec![Algorithm::Es256], ..idle_settings() };
    for (name, fixture, changes, expected) in [
        (
            "expired, unknown key",
            &fixture,
            json!({ "exp": NOW - 100, "iat": null }),
            VerifyError::Expired { ago_seconds: 100 },
        ),
        ("another audience, unknown key", &fixture, json!({ "aud": "x" }), VerifyError::AudienceMismatch),
        ("another issuer, unknown key", &fixture, json!({ "iss": "https://x.test" }), VerifyError::UnknownIssuer),
        (
            "algorithm, before the claims",
            &Fixture::new(settings, &[RSA.jwk("k1")]),
            json!({ "aud": "x" }),
            VerifyError::AlgorithmNotAllowed,
        ),
    ] {
        let token = OTHER_RSA.rs256("nope", &Value::Object(claims_with(&changes)));
        assert_eq!(fixture.outcome(&token).await, Err(expected), "{name}");
    }
}

/// Threats J-37, A38; RFC 8725 §3.8: the keys of two issuers have the same id.
#[tokio::test]
async fn keys_do_not_cross_issuers() {
    let time = ManualClock::at(NOW);
    let other = IssuerSettings { name: "other".into(), issuer: "https://other.test".into(), ..idle_settings() };
    let verifiers = vec![
        verifier(idle_settings(), &time.clock(), &[RSA.jwk("k1")]),
        verifier(other, &time.clock(), &[OTHER_RSA.jwk("k1")]),
    ];
    let fixture = Fixture { issuers: Issuers::new(verifiers), time, cache: Arc::default() };
    let token = |key: &TestKey, iss: &str| key.rs256("k1", &Value::Object(claims_with(&json!({ "iss": iss }))));
    for (name, token, expected) in [
        ("the first issuer", token(&RSA, ISSUER), Ok("main")),
        ("the other issuer", token(&OTHER_RSA, "https://other.test"), Ok("other")),
        ("the key of the other issuer", token(&OTHER_RSA, ISSUER), Err(VerifyError::BadSignature)),
        ("the name of the other issuer", token(&RSA, "https://other.test"), Err(VerifyError::BadSignature)),
    ] {
        let found = fixture.verify(&token).await;
        assert_eq!(found.as_ref().map(|principal| &**principal.issuer_name()), expected.as_ref().copied(), "{name}");
    }
}

/// Threats J-29, J-80, J-85: the cache agrees with a full verification at every second.
#[tokio::test]
async fn a_verdict_ends_when_the_token_expires() {
    let fixture = Fixture::with_one_key();
    let token = RSA.rs256("k1", &Value::Object(claims_with(&json!({ "nbf": NOW - 10 }))));
    assert!(fixture.cached(&token).is_none());
    fixture.verify(&token).await.unwrap();
    for (now, valid) in [
        (NOW, true),
        (NOW + 329, true),
        (NOW + 330, false),
        (NOW + 3_600, false),
        (NOW - 31, true),
        (NOW - 32, false),
        (NOW - 3_600, false),
        (NOW, true),
    ] {
        fixture.time.set_wall(now);
        assert_eq!(fixture.cached(&token).is_some(), valid, "cached at {now}");
        assert_eq!(fixture.outcome(&token).await.is_ok(), valid, "verified at {now}");
    }
}

/// Threats A26, J-71, J-81.
#[tokio::test]
async fn a_verdict_dies_with_its_key() {
    let fixture = Fixture::with_one_key();
    let token = valid_token();
    for (name, keys, cached, outcome) in [
        ("initial", vec![RSA.jwk("k1")], true, Ok(())),
        ("another key added", vec![RSA.jwk("k1"), P256.jwk("k2")], true, Ok(())),
        ("removed", vec![P256.jwk("k2")], false, Err(VerifyError::UnknownKey)),
        ("restored", vec![RSA.jwk("k1")], true, Ok(())),
        ("replaced under the same id", vec![OTHER_RSA.jwk("k1")], false, Err(VerifyError::BadSignature)),
    ] {
        fixture.verifier().keys().put(&jwks(&keys));
        let _ = fixture.verify(&token).await;
        assert_eq!(fixture.cached(&token).is_some(), cached, "{name}");
        assert_eq!(fixture.outcome(&token).await, outcome, "{name}");
    }
    // The verdict ends at once, without a verification in between.
    fixture.verifier().keys().put(&jwks(&[RSA.jwk("k1")]));
    fixture.verify(&token).await.unwrap();
    fixture.verifier().keys().put(&jwks(&[OTHER_RSA.jwk("k1")]));
    assert!(fixture.cached(&token).is_none());
}

#[tokio::test]
async fn a_verdict_ends_when_the_key_set_is_too_stale() {
    let mut settings = idle_settings();
    settings.times.max_stale = Duration::from_secs(60);
    let fixture = Fixture::new(settings, &[RSA.jwk("k1")]);
    let token = valid_token();
    fixture.verify(&token).await.unwrap();
    fixture.time.advance(Duration::from_secs(60));
    fixture.verifier().keys().fail();
    assert!(fixture.cached(&token).is_some());
    fixture.time.advance(Duration::from_secs(1));
    assert!(fixture.cached(&token).is_none());
    assert_eq!(fixture.outcome(&token).await.unwrap_err().retry_after(), Some(Duration::from_secs(29)));
}

/// Threats J-82, J-83, A25: new settings apply at once, and the keys are kept.
#[tokio::test]
async fn a_verdict_ends_when_the_settings_change() {
    let fixture = Fixture::with_one_key();
    let token = valid_token();
    fixture.verify(&token).await.unwrap();
    let with_settings = |settings| fixture.verifier().with_settings(settings).unwrap();
    let stricter = with_settings(IssuerSettings { audiences: vec!["other".to_owned()], ..idle_settings() });
    assert!(Arc::ptr_eq(stricter.keys(), fixture.verifier().keys()));
    assert!(fixture.with_verifiers(vec![stricter]).cached(&token).is_none());
    assert!(fixture.cached(&token).is_some(), "a request that began with the old settings still uses them");
    let moved = with_settings(IssuerSettings {
        keys: KeySource::JwksUrl("http://127.0.0.1:2/".parse().unwrap()),
        ..idle_settings()
    });
    assert!(!Arc::ptr_eq(moved.keys(), fixture.verifier().keys()));
    assert!(fixture.with_verifiers(Vec::new()).cached(&token).is_none());
}

/// Threat A24: concurrent requests each get the principal of their own token.
#[tokio::test]
async fn concurrent_tokens_yield_their_own_principals() {
    let fixture = Arc::new(Fixture::with_one_key());
    let mut tasks = JoinSet::new();
    for number in 0..50 {
        let fixture = Arc::clone(&fixture);
        let subject = format!("user-{number}");
        tasks.spawn(async move {
            let token = RSA.rs256("k1", &Value::Object(claims_with(&json!({ "sub": subject }))));
            let first = fixture.verify(&token).await.unwrap();
            let again = fixture.cached(&token).unwrap();
            first.subject() == subject && again.subject() == subject
        });
    }
    assert!(tasks.join_all().await.into_iter().all(|is_own| is_own));
}

/// Threat J-84: invalid tokens are not cached.
#[tokio::test]
async fn refused_tokens_are_not_cached() {
    let fixture = Fixture::with_one_key();
    for number in 0..20 {
        let token = OTHER_RSA.rs256("k1", &Value::Object(claims_with(&json!({ "jti": number.to_string() }))));
        assert_eq!(fixture.outcome(&token).await, Err(VerifyError::BadSignature));
        assert!(fixture.cached(&token).is_none());
    }
}

#[test]
fn claims_without_a_token_are_checked_by_the_same_rules() {
    let fixture = Fixture::with_one_key();
    let check = |changes: Value| fixture.issuers.check_claims(claims_with(&changes));
    assert_eq!(check(json!({})).unwrap().subject(), "alice");
    for (name, changes, expected) in [
        ("another audience", json!({ "aud": "x" }), VerifyError::AudienceMismatch),
        ("another issuer", json!({ "iss": "https://x.test" }), VerifyError::UnknownIssuer),
        ("expired", json!({ "exp": NOW - 60 }), VerifyError::Expired { ago_seconds: 60 }),
    ] {
        assert_eq!(check(changes).err(), Some(expected), "{name}");
    }
}

/// Whether the JWT library accepts a token when it does all the checks itself.
fn accepted_by_library(token: &str, key: &TestKey, algorithm: Algorithm) -> bool {
    let jwk = serde_json::from_value(key.jwk("k")).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let mut rules = jsonwebtoken::Validation::new(algorithm.name().parse().unwrap());
    // The library reads the system clock, and the tokens of the tests are from another time.
    rules.validate_exp = false;
    rules.set_issuer(&[ISSUER]);
    rules.set_audience(&["api"]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    jsonwebtoken::decode::<Value>(token, &key, &rules).is_ok()
}

/// An independent implementation accepts the same tokens and refuses the same forged signatures.
#[tokio::test]
async fn an_independent_implementation_agrees() {
    let fixture = Fixture::with_every_algorithm();
    for (key, algorithm, kid) in [
        (&RSA, Algorithm::Rs256, "rsa"),
        (&RSA, Algorithm::Ps384, "rsa"),
        (&P256, Algorithm::Es256, "p256"),
        (&P384, Algorithm::Es384, "p384"),
        (&ED25519, Algorithm::EdDsa, "ed"),
    ] {
        let header = json!({ "alg": algorithm.name(), "kid": kid, "typ": "at+jwt" }).to_string();
        for (changes, valid) in [
            (json!({}), true),
            (json!({ "aud": ["x", "api"], "scope": "a" }), true),
            (json!({ "aud": "x" }), false),
            (json!({ "iss": "https://x.test" }), false),
            (json!({ "sub": null }), false),
        ] {
            let payload = Value::Object(claims_with(&changes)).to_string();
            let token = key.token(algorithm, header.as_bytes(), payload.as_bytes());
            assert_eq!(fixture.outcome(&token).await.is_ok(), valid, "{} {changes}", algorithm.name());
            assert_eq!(accepted_by_library(&token, key, algorithm), valid, "{} {changes}", algorithm.name());
            let forged = format!("{}.{}", token.rsplit_once('.').unwrap().0, b64(&[7; 64]));
            assert!(fixture.outcome(&forged).await.is_err() && !accepted_by_library(&forged, key, algorithm));
        }
    }
}
