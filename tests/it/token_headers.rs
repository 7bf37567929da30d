//! Tokens with a wrong header or signature, validly signed wherever possible: only the check under
//! test can refuse them.
//!
//! Each row names the reason that the access log must give. The client sees the same 401 for all
//! ([`authentication`](super::authentication)).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::idp::Idp;
use crate::support::origin::Origin;
use crate::support::token::{TestKey, TokenBuilder, base64url};

const ALL_ALGORITHMS: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// Publishes the keys `k1` (RSA), `e1` (P-256), `p1` (P-384) and `d1` (Ed25519); RS256, ES256 and
/// EdDSA are allowed. No limit on failed tokens: the tables are full of them.
async fn start() -> Fixture {
    let idp = Idp::start().await;
    idp.set_keys(&[&TestKey::rsa("k1"), &TestKey::es256("e1"), &TestKey::es384("p1"), &TestKey::ed25519("d1")]);
    Fixture::with_idp(idp, Config::minimal().without_auth_failure_limit()).await
}

fn header(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// RFC 8725 §3.1 and §3.2; threats J-01, J-03, J-04, A04, A05, A12, A13, A19, A29: the key decides
/// the algorithm, and only asymmetric algorithms are supported.
#[tokio::test]
async fn the_algorithm_must_be_allowed_and_match_the_key() {
    let fixture = start().await;
    let (rsa, p256, p384, ed) =
        (TestKey::rsa("k1"), TestKey::es256("e1"), TestKey::es384("p1"), TestKey::ed25519("d1"));
    let not_allowed = Err("algorithm not allowed");
    let good = fixture.token();
    let mut rows = vec![
        ("RS256", good.sign(&rsa), Ok(())),
        ("ES256", good.sign(&p256), Ok(())),
        ("EdDSA", good.sign(&ed), Ok(())),
        ("none without signature", good.clone().header("alg", "none").unsigned(), Err("not a JWT")),
        ("none with a good signature", good.clone().header("alg", "none").sign(&rsa), not_allowed),
        ("an allowed one without signature", good.clone().header("alg", "RS256").unsigned(), Err("not a JWT")),
        ("not in the list, good key", good.sign(&p384), not_allowed),
        ("not in the list, RSA", good.sign(&rsa.clone().with_algorithm("RS512")), not_allowed),
        ("none at all", good.clone().without_header("alg").sign(&rsa), Err("header malformed")),
        ("ES256 with an RSA key", good.clone().header("alg", "ES256").sign(&rsa), Err("key not for this algorithm")),
        ("RS256 with a P-256 key", good.clone().header("alg", "RS256").sign(&p256), Err("key not for this algorithm")),
        ("ES256 with a P-384 key", good.clone().header("alg", "ES256").sign(&p384), Err("key not for this algorithm")),
        ("EdDSA with a P-256 key", good.clone().header("alg", "EdDSA").sign(&p256), Err("key not for this algorithm")),
    ];
    for name in
        ["None", "NONE", "nOnE", "rs256", "RS256 ", " RS256", "RS256\0", "", "XS256", "ML-DSA-44", "ES256K", "RSA-OAEP"]
    {
        rows.push((name, good.clone().header("alg", name).sign(&rsa), not_allowed));
    }
    for (name, value) in [("a number", json!(256)), ("null", json!(null)), ("an array", json!(["RS256"]))] {
        rows.push((name, good.clone().header("alg", value).sign(&rsa), Err("header malformed")));
    }
    let jwk = rsa.public_jwk();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().expect("a modulus")).expect("base64url");
    let issuer = fixture.idp.issuer();
    for (name, secret) in [
        ("HS256 with the JWK's text", jwk.to_string().into_bytes()),
        ("HS256 with the modulus", modulus),
        ("HS256 with the modulus as text", jwk["n"].as_str().expect("a modulus").as_bytes().to_vec()),
        ("HS256 with nothing", Vec::new()),
        ("HS256 with a zero byte", vec![0]),
        ("HS256 with null", b"null".to_vec()),
        ("HS256 with the key id", b"k1".to_vec()),
        ("HS256 with the issuer", issuer.into_bytes()),
    ] {
        rows.push((name, good.sign(&TestKey::hs256("k1", secret)), not_allowed));
    }
    let bomb = json!({"alg": "PBES2-HS256+A128KW", "p2c": 2_147_483_647_u32, "p2s": "AA", "kid": "k1"});
    rows.push(("PBES2", good.clone().raw_header(bomb.to_string()).sign(&rsa), not_allowed));
    fixture.assert_verdicts("/token/x", rows).await;
}

/// Threats J-05, A06, A07, A08: with all RSA algorithms allowed and a key without `alg`, a
/// signature is valid for its own algorithm only. A key with `alg` is valid for that one only.
#[tokio::test]
async fn a_signature_of_one_rsa_algorithm_fails_under_another() {
    let idp = Idp::start().await;
    let (key, tied) = (TestKey::rsa("k1"), TestKey::rsa("k2").with_algorithm("RS512"));
    let mut untied = key.public_jwk();
    untied.as_object_mut().expect("an object").remove("alg");
    idp.set_jwks(json!({"keys": [untied, tied.public_jwk()]}));
    let config = Config::minimal()
        .without_auth_failure_limit()
        .replace("issuers.main", &format!("algorithms = {}", json!(ALL_ALGORITHMS)));
    let fixture = Fixture::with_idp(idp, config).await;
    let mut rows = Vec::new();
    for said in ALL_ALGORITHMS {
        for used in ALL_ALGORITHMS {
            let token = fixture.token().header("alg", said).sign(&key.clone().with_algorithm(used));
            rows.push((said, token, if said == used { Ok(()) } else { Err("signature invalid") }));
        }
        let token = fixture.token().header("alg", said).sign(&tied);
        rows.push((said, token, if said == "RS512" { Ok(()) } else { Err("key not for this algorithm") }));
    }
    fixture.assert_verdicts("/token/x", rows).await;
}

/// RFC 7518 §3.4; threats J-06, A30, A31: an ES256 signature is r and s, 32 bytes each, and neither
/// is zero.
#[tokio::test]
async fn accepts_only_the_fixed_size_ecdsa_signature() {
    let fixture = start().await;
    let token = fixture.token().sign(&TestKey::es256("e1"));
    let (signed, signature) = token.rsplit_once('.').expect("three segments");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let (r, s) = signature.split_at(32);
    let integer = |number: &[u8]| {
        // A leading zero byte keeps the integer positive; DER forbids it where it is not needed.
        let digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        let padding = usize::from(digits[0] >= 0x80);
        [&[2, u8::try_from(digits.len() + padding).expect("short")][..], &vec![0; padding], &digits].concat()
    };
    let inside = [integer(r), integer(s)].concat();
    let der = [&[0x30, u8::try_from(inside.len()).expect("short")][..], &inside].concat();
    let with = |signature: &[u8]| format!("{signed}.{}", base64url(signature));
    let bad = Err("signature invalid");
    fixture
        .assert_verdicts(
            "/token/x",
            [
                ("valid", token.clone(), Ok(())),
                ("DER", with(&der), bad),
                ("s before r", with(&[s, r].concat()), bad),
                ("63 bytes", with(&signature[..63]), bad),
                ("65 bytes", with(&[&signature[..], &[0]].concat()), bad),
                ("66 bytes, each padded", with(&[&[0], r, &[0], s].concat()), bad),
                ("zeros", with(&[0; 64]), bad),
                ("r is zero", with(&[&[0; 32], s].concat()), bad),
                ("s is zero", with(&[r, &[0; 32]].concat()), bad),
                ("all ones", with(&[0xff; 64]), bad),
                ("one byte", with(&[1]), bad),
                ("long", with(&[7; 4_000]), bad),
            ],
        )
        .await;
}

/// RFC 8725 §3.10; threats J-07, J-08, A11, A14: keys that a token carries or points to are neither
/// used nor fetched.
#[tokio::test]
async fn ignores_keys_that_a_token_carries_or_points_to() {
    let (fixture, elsewhere) = (start().await, Origin::start().await);
    let (good, evil) = (TestKey::rsa("k1"), TestKey::rsa("evil"));
    let own = |kid: &str| evil.clone().with_kid(kid);
    let url = format!("http://{}/jwks", elsewhere.addr());
    let mut rows = Vec::new();
    for (member, value) in [
        ("jwk", evil.public_jwk()),
        ("x5c", json!(["MIIB"])),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("jku", json!("http://169.254.169.254/latest/meta-data")),
        ("jku", json!("file:///etc/passwd")),
    ] {
        let token = fixture.token().header(member, value);
        rows.push((member, token.sign(&own("evil")), Err("key unknown")));
        rows.push((member, token.sign(&own("k1")), Err("signature invalid")));
        rows.push((member, token.clone().without_header("kid").sign(&own("k1")), Err("signature invalid")));
        rows.push((member, token.sign(&good), Ok(())));
    }
    for kid in ["../../../../dev/null", "http://127.0.0.1/k1", "/etc/passwd", "k1;ls", "' OR '1'='1"] {
        rows.push((kid, fixture.token().sign(&own(kid)), Err("key unknown")));
    }
    fixture.assert_verdicts("/token/x", rows).await;
    assert_eq!(elsewhere.connections(), 0);
    assert_eq!(fixture.idp.fetches(), 1, "an unknown key id within the cooldown triggers no fetch");
}

/// RFC 7515 §4.1.4; threats J-09, J-60: a key id is an opaque string, compared exactly. Without
/// one, the issuer's own keys are tried.
#[tokio::test]
async fn compares_the_key_id_exactly() {
    let fixture = start().await;
    let key = TestKey::rsa("k1");
    let mut rows = vec![
        ("as published", fixture.good_token(), Ok(())),
        (
            "an escape in JSON",
            fixture.token().raw_header(header(r#"{"alg":"RS256","kid":"\u006b1"}"#)).sign(&key),
            Ok(()),
        ),
        ("none", fixture.token().without_header("kid").sign(&key), Ok(())),
        (
            "none, signed with another key",
            fixture.token().without_header("kid").sign(&TestKey::rsa("k2")),
            Err("signature invalid"),
        ),
        ("too long", fixture.token().header("kid", "k".repeat(257)).sign(&key), Err("header malformed")),
    ];
    for kid in ["K1", "k1 ", " k1", "k1\0", "k", "k11", "k1\n", "", "%6b1"] {
        rows.push((kid, fixture.token().header("kid", kid).sign(&key), Err("key unknown")));
    }
    for (name, kid) in [("number", json!(1)), ("null", json!(null)), ("array", json!(["k1"])), ("object", json!({}))] {
        rows.push((name, fixture.token().header("kid", kid).sign(&key), Err("header malformed")));
    }
    fixture.assert_verdicts("/token/x", rows).await;
}

/// RFC 7515 §4.1.11, RFC 7797 §7, RFC 7516 §4.1; threats J-10 to J-13, A09, A16, A18: no extension
/// is supported, and none may be ignored.
#[tokio::test]
async fn refuses_header_extensions_and_duplicate_header_members() {
    let fixture = start().await;
    let key = TestKey::rsa("k1");
    let with = |name: &str, value: Value| fixture.token().header(name, value).sign(&key);
    let raw = |text: &str| fixture.token().raw_header(header(text)).sign(&key);
    let (extension, encrypted, malformed) =
        (Err("header extension not supported"), Err("encrypted token"), Err("header malformed"));
    let mut rows = vec![
        ("unknown members", with("x", json!({"deep": [1, {"y": null}]})), Ok(())),
        ("cty of something else", with("cty", json!("json")), Ok(())),
        ("zip", with("zip", json!("DEF")), encrypted),
        ("enc", with("enc", json!("A256GCM")), encrypted),
        ("nested", with("cty", json!("JWT")), Err("token type not allowed")),
        ("nested, other case", with("cty", json!("application/jwt")), Err("token type not allowed")),
        ("alg twice", raw(r#"{"alg":"RS256","alg":"RS256","kid":"k1"}"#), malformed),
        ("alg twice, the other first", raw(r#"{"alg":"none","alg":"RS256","kid":"k1"}"#), malformed),
        ("kid twice", raw(r#"{"alg":"RS256","kid":"k1","kid":"k1"}"#), malformed),
        ("kid twice, once escaped", raw(r#"{"alg":"RS256","kid":"k1","k\u0069d":"k1"}"#), malformed),
        ("another member twice", raw(r#"{"alg":"RS256","kid":"k1","x":1,"x":2}"#), malformed),
        ("a nested member twice", raw(r#"{"alg":"RS256","kid":"k1","x":{"y":1,"y":2}}"#), malformed),
    ];
    for value in [json!(["exp"]), json!(["b64"]), json!([]), json!(null), json!("exp"), json!(["x", "x"]), json!({})] {
        rows.push(("crit", with("crit", value), extension));
    }
    for value in [json!(false), json!(true), json!("false"), json!(null)] {
        rows.push(("b64", with("b64", value.clone()), extension));
        let both = fixture.token().header("b64", value).header("crit", json!(["b64"]));
        rows.push(("b64 and crit", both.sign(&key), extension));
    }
    fixture.assert_verdicts("/token/x", rows).await;
}

/// RFC 8725 §3.11, RFC 9068 §2.1, RFC 7515 §4.1.9; threat J-15: the same keys sign other kinds of
/// tokens too.
#[tokio::test]
async fn refuses_types_other_than_an_access_tokens() {
    let fixture = start().await;
    let key = TestKey::rsa("k1");
    let mut rows = vec![("absent", fixture.token().without_header("typ").sign(&key), Ok(()))];
    for typ in [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "Application/AT+JWT",
        "JWT",
        "jwt",
        "application/jwt",
        "JOSE",
        "application/jose",
    ] {
        rows.push((typ, fixture.token().header("typ", typ).sign(&key), Ok(())));
    }
    for typ in [
        "id_token",
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "JOSE+JSON",
        "at+jwt ",
        "",
        "at",
    ] {
        rows.push((typ, fixture.token().header("typ", typ).sign(&key), Err("token type not allowed")));
    }
    for typ in [json!(null), json!(["at+jwt"]), json!(1)] {
        rows.push(("not a string", fixture.token().header("typ", typ).sign(&key), Err("header malformed")));
    }
    fixture.assert_verdicts("/token/x", rows).await;
}

/// The signature covers every claim: no change passes, whatever was verified before (threat J-83).
#[tokio::test]
async fn a_changed_claim_invalidates_the_signature() {
    let fixture = start().await;
    let key = TestKey::rsa("k1");
    let token = fixture.good_token();
    let mallory = fixture.token().claim("sub", "mallory").sign(&key);
    let (signed, _) = mallory.rsplit_once('.').expect("three segments");
    let (_, signature) = token.rsplit_once('.').expect("three segments");
    let forged = |token: TokenBuilder| token.sign(&TestKey::rsa("k2").with_kid("k1"));
    fixture
        .assert_verdicts(
            "/token/x",
            [
                ("alice's", token.clone(), Ok(())),
                ("mallory's claims with alice's signature", format!("{signed}.{signature}"), Err("signature invalid")),
                ("another key's signature", forged(fixture.token()), Err("signature invalid")),
                ("expired, and another key's signature", forged(fixture.token().claim("exp", 1)), Err("expired")),
                ("mallory's own", mallory.clone(), Ok(())),
            ],
        )
        .await;
    let subjects: Vec<_> =
        fixture.origin.requests().iter().filter_map(|r| r.header("x-identity-subject").map(str::to_owned)).collect();
    assert_eq!(subjects, ["alice", "mallory"]);
}
