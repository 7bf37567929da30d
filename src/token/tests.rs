//! Whole tokens, signed as raw bytes with real keys: accepted, refused, remembered and forgotten.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::test_support::{
    ED25519, ISSUER, NOW, OTHER_RSA, P256, P384, RSA, TestKey, b64, claims, claims_with, idle_settings, jwks, verifier,
};
use super::*;
use crate::primitives::clock::ManualClock;

/// Issuers and a cache, as the gateway uses them together.
struct Bench {
    time: ManualClock,
    issuers: Issuers,
    cache: Arc<VerdictCache<Principal>>,
}

impl Bench {
    fn new(settings: IssuerSettings, keys: &[Value]) -> Self {
        let time = ManualClock::at(NOW);
        let verifier = verifier(settings, &time.clock(), keys);
        Self { issuers: Issuers::new(vec![verifier]), time, cache: Arc::default() }
    }

    fn plain() -> Self {
        Self::new(idle_settings(), &[RSA.jwk("k1")])
    }

    fn any_algorithm() -> Self {
        let settings = IssuerSettings { algorithms: Algorithm::ALL.to_vec(), ..idle_settings() };
        Self::new(settings, &[RSA.jwk("rsa"), P256.jwk("p256"), P384.jwk("p384"), ED25519.jwk("ed")])
    }

    /// The same cache with other issuers, as after a reload.
    fn reloaded(&self, verifiers: Vec<Arc<Verifier>>) -> Self {
        Self { issuers: Issuers::new(verifiers), time: self.time.clone(), cache: Arc::clone(&self.cache) }
    }

    fn only(&self) -> &Arc<Verifier> {
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

fn good() -> String {
    RSA.rs256("k1", &claims())
}

#[tokio::test]
async fn a_good_token_gives_its_principal() {
    let principal = Bench::plain().verify(&good()).await.unwrap();
    assert_eq!((principal.issuer(), principal.subject(), &**principal.issuer_name()), (ISSUER, "alice", "main"));
    assert!(principal.has_scope("orders:read") && !principal.has_scope("orders") && principal.roles().is_empty());
    assert_eq!((principal.audiences(), principal.client()), (&["api".to_owned()][..], None));
    assert_eq!(principal.claim(&ClaimPath::parse("exp").unwrap()), Some(&json!(NOW + 300)));
    assert_eq!(principal.expires_at().seconds(), NOW + 330);
}

/// Threats J-01 … J-07, J-61, A05, A12, A13: keys, algorithms and signatures that do not belong together.
#[tokio::test]
async fn only_the_named_key_with_its_algorithm_will_do() {
    use VerifyError::{AlgorithmNotAllowed, BadSignature, KeyMismatch, NotThreeSegments, UnknownKey};
    let bench = Bench::any_algorithm();
    let payload = claims().to_string();
    let token = |key: &TestKey, signed_as: Algorithm, said: &str, kid: &str| {
        key.token(signed_as, json!({ "alg": said, "kid": kid }).to_string().as_bytes(), payload.as_bytes())
    };
    let mut rows = vec![
        ("Ed25519 by its RFC 9864 name", token(&ED25519, Algorithm::EdDsa, "Ed25519", "ed"), Ok(())),
        ("another key under the name", token(&OTHER_RSA, Algorithm::Rs256, "RS256", "rsa"), Err(BadSignature)),
        ("an unknown name", token(&RSA, Algorithm::Rs256, "RS256", "nope"), Err(UnknownKey)),
        ("a path for a name", token(&RSA, Algorithm::Rs256, "RS256", "../../dev/null"), Err(UnknownKey)),
        ("RS256 said, PS256 signed", token(&RSA, Algorithm::Ps256, "RS256", "rsa"), Err(BadSignature)),
        ("PS256 said, RS256 signed", token(&RSA, Algorithm::Rs256, "PS256", "rsa"), Err(BadSignature)),
        ("RS512 said, RS256 signed", token(&RSA, Algorithm::Rs256, "RS512", "rsa"), Err(BadSignature)),
        ("an RSA key for ES256", token(&P256, Algorithm::Es256, "ES256", "rsa"), Err(KeyMismatch)),
        ("an elliptic key for RS256", token(&RSA, Algorithm::Rs256, "RS256", "p256"), Err(KeyMismatch)),
        ("P-384 for ES256", token(&P256, Algorithm::Es256, "ES256", "p384"), Err(KeyMismatch)),
        ("no algorithm", token(&RSA, Algorithm::Rs256, "none", "rsa"), Err(AlgorithmNotAllowed)),
        ("no signature", format!("{}.{}.", b64(br#"{"alg":"none"}"#), b64(payload.as_bytes())), Err(NotThreeSegments)),
        ("symmetric", token(&RSA, Algorithm::Rs256, "HS256", "rsa"), Err(AlgorithmNotAllowed)),
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
        assert_eq!(bench.outcome(&token).await, expected, "{name}");
    }
    let own_key = json!({ "alg": "RS256", "kid": "rsa", "jwk": OTHER_RSA.jwk("rsa"), "jku": "http://127.0.0.1:1/", "x5c": ["AA"] });
    let token = OTHER_RSA.token(Algorithm::Rs256, own_key.to_string().as_bytes(), payload.as_bytes());
    assert_eq!(bench.outcome(&token).await, Err(BadSignature), "a key that the token brings along");
}

/// Threat J-60: without a name, the issuer's fitting keys are tried.
#[tokio::test]
async fn a_token_without_a_key_name_is_tried_against_fitting_keys() {
    let bench = Bench::new(idle_settings(), &[P256.jwk("ec"), OTHER_RSA.jwk("k2"), RSA.jwk("k1")]);
    let payload = claims().to_string();
    let token = |key: &TestKey| key.token(Algorithm::Rs256, br#"{"alg":"RS256"}"#, payload.as_bytes());
    assert_eq!(bench.outcome(&token(&RSA)).await, Ok(()));
    assert_eq!(bench.outcome(&token(&OTHER_RSA)).await, Ok(()));
    let bench = Bench::new(idle_settings(), &[OTHER_RSA.jwk("k2")]);
    assert_eq!(bench.outcome(&token(&RSA)).await, Err(VerifyError::BadSignature));
}

/// Threats J-10, J-13, J-14, J-17, J-18, J-47: malformed, though well signed.
#[tokio::test]
async fn a_good_signature_does_not_make_a_malformed_token_good() {
    let bench = Bench::plain();
    let (header, payload) = (r#"{"alg":"RS256","kid":"k1"}"#, claims().to_string());
    let double = payload.replacen('{', r#"{"sub":"root","#, 1);
    for (name, header, payload, expected) in [
        ("as it should be", header.as_bytes(), payload.as_bytes(), Ok(())),
        ("a claim twice", header.as_bytes(), double.as_bytes(), Err(VerifyError::ClaimsMalformed)),
        ("not UTF-8", header.as_bytes(), &b"{\"iss\":\"\xff\"}"[..], Err(VerifyError::ClaimsMalformed)),
        ("an array", header.as_bytes(), &b"[]"[..], Err(VerifyError::ClaimsMalformed)),
        (
            "a name twice",
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
        assert_eq!(bench.outcome(&RSA.token(Algorithm::Rs256, header, payload)).await, expected, "{name}");
    }
}

/// Threat A42: any one changed bit makes another token.
#[tokio::test]
async fn a_changed_token_is_refused() {
    let bench = Bench::plain();
    let token = good();
    assert_eq!(bench.outcome(&token).await, Ok(()));
    for index in (0..token.len()).step_by(7) {
        let mut changed = token.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(bench.outcome(&changed).await.is_err(), "{index}");
        assert!(bench.cached(&changed).is_none(), "{index}");
    }
}

/// The rules of claims come before the key and the signature, whatever those are like.
#[tokio::test]
async fn cheap_refusals_come_first() {
    let bench = Bench::plain();
    let settings = IssuerSettings { algorithms: vec![Algorithm::Es256], ..idle_settings() };
    for (name, bench, changes, expected) in [
        (
            "expired, unknown key",
            &bench,
            json!({ "exp": NOW - 100, "iat": null }),
            VerifyError::Expired { ago_seconds: 100 },
        ),
        ("for others, unknown key", &bench, json!({ "aud": "x" }), VerifyError::AudienceMismatch),
        ("of others, unknown key", &bench, json!({ "iss": "https://x.test" }), VerifyError::UnknownIssuer),
        (
            "algorithm, before the claims",
            &Bench::new(settings, &[RSA.jwk("k1")]),
            json!({ "aud": "x" }),
            VerifyError::AlgorithmNotAllowed,
        ),
    ] {
        let token = OTHER_RSA.rs256("nope", &Value::Object(claims_with(&changes)));
        assert_eq!(bench.outcome(&token).await, Err(expected), "{name}");
    }
}

/// Threats J-37, A38; RFC 8725 §3.8: two issuers whose keys have one name.
#[tokio::test]
async fn keys_do_not_cross_issuers() {
    let time = ManualClock::at(NOW);
    let other = IssuerSettings { name: "other".into(), issuer: "https://other.test".into(), ..idle_settings() };
    let verifiers = vec![
        verifier(idle_settings(), &time.clock(), &[RSA.jwk("k1")]),
        verifier(other, &time.clock(), &[OTHER_RSA.jwk("k1")]),
    ];
    let bench = Bench { issuers: Issuers::new(verifiers), time, cache: Arc::default() };
    let token = |key: &TestKey, iss: &str| key.rs256("k1", &Value::Object(claims_with(&json!({ "iss": iss }))));
    for (name, token, expected) in [
        ("one", token(&RSA, ISSUER), Ok("main")),
        ("the other", token(&OTHER_RSA, "https://other.test"), Ok("other")),
        ("the other's key", token(&OTHER_RSA, ISSUER), Err(VerifyError::BadSignature)),
        ("the other's name", token(&RSA, "https://other.test"), Err(VerifyError::BadSignature)),
    ] {
        let found = bench.verify(&token).await;
        assert_eq!(found.as_ref().map(|principal| &**principal.issuer_name()), expected.as_ref().copied(), "{name}");
    }
}

/// Threats J-29, J-80, J-85: what is remembered and what is not agree at every second.
#[tokio::test]
async fn a_verdict_ends_when_the_token_does() {
    let bench = Bench::plain();
    let token = RSA.rs256("k1", &Value::Object(claims_with(&json!({ "nbf": NOW - 10 }))));
    assert!(bench.cached(&token).is_none());
    bench.verify(&token).await.unwrap();
    for (now, good) in [
        (NOW, true),
        (NOW + 329, true),
        (NOW + 330, false),
        (NOW + 3_600, false),
        (NOW - 31, true),
        (NOW - 32, false),
        (NOW - 3_600, false),
        (NOW, true),
    ] {
        bench.time.set_wall(now);
        assert_eq!(bench.cached(&token).is_some(), good, "remembered at {now}");
        assert_eq!(bench.outcome(&token).await.is_ok(), good, "anew at {now}");
    }
}

/// Threats A26, J-71, J-81.
#[tokio::test]
async fn a_verdict_dies_with_its_key() {
    let bench = Bench::plain();
    let token = good();
    for (name, keys, cached, outcome) in [
        ("first", vec![RSA.jwk("k1")], true, Ok(())),
        ("another key added", vec![RSA.jwk("k1"), P256.jwk("k2")], true, Ok(())),
        ("withdrawn", vec![P256.jwk("k2")], false, Err(VerifyError::UnknownKey)),
        ("back", vec![RSA.jwk("k1")], true, Ok(())),
        ("replaced under its name", vec![OTHER_RSA.jwk("k1")], false, Err(VerifyError::BadSignature)),
    ] {
        bench.only().keys().put(&jwks(&keys));
        let _ = bench.verify(&token).await;
        assert_eq!(bench.cached(&token).is_some(), cached, "{name}");
        assert_eq!(bench.outcome(&token).await, outcome, "{name}");
    }
    // At once, without anybody verifying in between.
    bench.only().keys().put(&jwks(&[RSA.jwk("k1")]));
    bench.verify(&token).await.unwrap();
    bench.only().keys().put(&jwks(&[OTHER_RSA.jwk("k1")]));
    assert!(bench.cached(&token).is_none());
}

#[tokio::test]
async fn a_verdict_does_not_outlive_trust_in_the_keys() {
    let settings = IssuerSettings { max_stale: Duration::from_secs(60), ..idle_settings() };
    let bench = Bench::new(settings, &[RSA.jwk("k1")]);
    let token = good();
    bench.verify(&token).await.unwrap();
    bench.time.advance(Duration::from_secs(60));
    bench.only().keys().fail();
    assert!(bench.cached(&token).is_some());
    bench.time.advance(Duration::from_secs(1));
    assert!(bench.cached(&token).is_none());
    assert_eq!(bench.outcome(&token).await.unwrap_err().retry_after(), Some(Duration::from_secs(29)));
}

/// Threats J-82, J-83, A25: new settings hold at once, and keep the keys.
#[tokio::test]
async fn a_verdict_dies_with_its_settings() {
    let bench = Bench::plain();
    let token = good();
    bench.verify(&token).await.unwrap();
    let renew = |settings| bench.only().with_settings(settings).unwrap();
    let stricter = renew(IssuerSettings { audiences: vec!["other".to_owned()], ..idle_settings() });
    assert!(Arc::ptr_eq(stricter.keys(), bench.only().keys()));
    assert!(bench.reloaded(vec![stricter]).cached(&token).is_none());
    assert!(bench.cached(&token).is_some(), "a request that still has the old settings goes on with them");
    let moved =
        renew(IssuerSettings { keys: KeySource::JwksUrl("http://127.0.0.1:2/".parse().unwrap()), ..idle_settings() });
    assert!(!Arc::ptr_eq(moved.keys(), bench.only().keys()));
    assert!(bench.reloaded(Vec::new()).cached(&token).is_none());
}

/// Threat A24: each token gives its own principal, however many at once.
#[tokio::test]
async fn tokens_at_once_keep_their_own_principals() {
    let bench = Arc::new(Bench::plain());
    let mut tasks = JoinSet::new();
    for number in 0..50 {
        let bench = Arc::clone(&bench);
        let subject = format!("user-{number}");
        tasks.spawn(async move {
            let token = RSA.rs256("k1", &Value::Object(claims_with(&json!({ "sub": subject }))));
            let first = bench.verify(&token).await.unwrap();
            let again = bench.cached(&token).unwrap();
            (first.subject() == subject) && (again.subject() == subject)
        });
    }
    assert!(tasks.join_all().await.into_iter().all(|kept| kept));
}

/// Threat J-84: bad tokens are not kept.
#[tokio::test]
async fn refused_tokens_take_no_memory() {
    let bench = Bench::plain();
    for number in 0..20 {
        let token = OTHER_RSA.rs256("k1", &Value::Object(claims_with(&json!({ "jti": number.to_string() }))));
        assert_eq!(bench.outcome(&token).await, Err(VerifyError::BadSignature));
        assert!(bench.cached(&token).is_none());
    }
}

#[test]
fn claims_alone_are_checked_by_the_same_rules() {
    let bench = Bench::plain();
    let check = |changes: Value| bench.issuers.check_claims(claims_with(&changes));
    assert_eq!(check(json!({})).unwrap().subject(), "alice");
    for (name, changes, expected) in [
        ("another audience", json!({ "aud": "x" }), VerifyError::AudienceMismatch),
        ("another issuer", json!({ "iss": "https://x.test" }), VerifyError::UnknownIssuer),
        ("expired", json!({ "exp": NOW - 60 }), VerifyError::Expired { ago_seconds: 60 }),
    ] {
        assert_eq!(check(changes).err(), Some(expected), "{name}");
    }
}

/// What the library that checks signatures makes of a token, with all the checks it has turned on.
fn by_the_library(token: &str, key: &TestKey, algorithm: Algorithm) -> bool {
    let jwk = serde_json::from_value(key.jwk("k")).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let mut rules = jsonwebtoken::Validation::new(algorithm.name().parse().unwrap());
    // It reads the machine's clock, and our tokens are of another time.
    rules.validate_exp = false;
    rules.set_issuer(&[ISSUER]);
    rules.set_audience(&["api"]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    jsonwebtoken::decode::<Value>(token, &key, &rules).is_ok()
}

/// Another reader comes to the same verdict on plain tokens, and never accepts where we do not for the signature's sake.
#[tokio::test]
async fn an_independent_reader_agrees() {
    let bench = Bench::any_algorithm();
    for (key, algorithm, kid) in [
        (&RSA, Algorithm::Rs256, "rsa"),
        (&RSA, Algorithm::Ps384, "rsa"),
        (&P256, Algorithm::Es256, "p256"),
        (&P384, Algorithm::Es384, "p384"),
        (&ED25519, Algorithm::EdDsa, "ed"),
    ] {
        let header = json!({ "alg": algorithm.name(), "kid": kid, "typ": "at+jwt" }).to_string();
        for (changes, good) in [
            (json!({}), true),
            (json!({ "aud": ["x", "api"], "scope": "a" }), true),
            (json!({ "aud": "x" }), false),
            (json!({ "iss": "https://x.test" }), false),
            (json!({ "sub": null }), false),
        ] {
            let payload = Value::Object(claims_with(&changes)).to_string();
            let token = key.token(algorithm, header.as_bytes(), payload.as_bytes());
            assert_eq!(bench.outcome(&token).await.is_ok(), good, "{} {changes}", algorithm.name());
            assert_eq!(by_the_library(&token, key, algorithm), good, "{} {changes}", algorithm.name());
            let forged = format!("{}.{}", token.rsplit_once('.').unwrap().0, b64(&[7; 64]));
            assert!(bench.outcome(&forged).await.is_err() && !by_the_library(&forged, key, algorithm));
        }
    }
}
