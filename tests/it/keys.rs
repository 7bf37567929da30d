//! Keys: where they come from, which parts of them are trusted, and what happens while there are
//! none.
//!
//! How they change while the gateway runs is in [`key_rotation`](super::key_rotation).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::{Fixture, NOW};
use crate::support::idp::Idp;
use crate::support::temporary::TempDir;
use crate::support::token::{TestKey, TokenBuilder, base64url};
use crate::support::with_deadline;

/// What `/readyz` shows: the status and the reasons.
async fn readiness(fixture: &Fixture) -> (u16, Vec<String>) {
    let response = client::get(fixture.gateway.admin(), "/readyz", &[]).await;
    let reasons = response.json()["reasons"].as_array().cloned().unwrap_or_default();
    (response.status, reasons.iter().map(|reason| reason.as_str().expect("a text").to_owned()).collect())
}

/// Protected routes refuse every token, public routes work, and readiness names the reason.
async fn assert_has_no_keys(name: &str, fixture: &Fixture, why: &str) {
    let response = fixture.get_with_token("/token/x", &fixture.good_token()).await;
    assert_eq!((response.status, &response.json()["code"]), (503, &json!("keys_unavailable")), "{name}");
    assert_eq!(response.header("www-authenticate"), None, "{name}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{name}");
    let retry_after: u64 = response.header("retry-after").expect("a Retry-After field").parse().expect("seconds");
    assert!((1..=30).contains(&retry_after), "{name}: {retry_after}");
    assert!(fixture.origin.requests().is_empty(), "{name}");
    let (status, reasons) = readiness(fixture).await;
    assert_eq!(status, 503, "{name}");
    assert_eq!(reasons.len(), 1, "{name}: {reasons:?}");
    assert!(
        reasons[0].starts_with("issuer main has no usable keys: ") && reasons[0].contains(why),
        "{name}: {reasons:?}"
    );
    assert_eq!(fixture.get("/public/x", &[]).await.status, 200, "{name}");
    assert_eq!(fixture.get("/token/x", &[]).await.status, 401, "{name}: without a token");
}

/// OpenID Connect Discovery §4, RFC 7517 §5: one fetch of the document and one of the key set;
/// after that, verification is offline.
#[tokio::test]
async fn fetches_keys_once_and_verifies_offline() {
    let fixture = Fixture::start(Config::minimal()).await;
    for subject in ["alice", "bob", "carol", "dave", "alice"] {
        let token = fixture.token().claim("sub", subject).to_jwt();
        assert_eq!(fixture.get_with_token("/token/x", &token).await.status, 200, "{subject}");
    }
    assert_eq!((fixture.idp.discovery_fetches(), fixture.idp.fetches()), (1, 1));
    assert_eq!(readiness(&fixture).await, (200, Vec::new()));
    assert_eq!(
        (fixture.verifications("accepted", "miss").await, fixture.verifications("accepted", "hit").await),
        (4, 1)
    );
}

/// A fault of the identity provider, set before the gateway starts.
type Fault<'a> = Box<dyn Fn(&Idp) + 'a>;

/// OpenID Connect Discovery §4.3, RFC 8414 §3.3; threats J-65, J-66, A36: a document of another
/// issuer, or one that points to a forbidden address, is not followed.
#[tokio::test]
async fn checks_the_discovery_document_before_following_it() {
    let member = |name: &'static str, value: Value| {
        move |idp: &Idp| {
            let mut document = idp.discovery();
            document[name] = value.clone();
            idp.set_discovery(document);
        }
    };
    let without = |name: &'static str| {
        move |idp: &Idp| {
            let mut document = idp.discovery();
            document.as_object_mut().expect("an object").remove(name);
            idp.set_discovery(document);
        }
    };
    let rows: Vec<(&str, Fault<'_>, &str)> = vec![
        ("another issuer", Box::new(member("issuer", json!("https://idp.example"))), "is for issuer"),
        (
            "an extra slash",
            Box::new(|idp| member("issuer", json!(format!("{}/", idp.issuer())))(idp)),
            "differ by a trailing slash",
        ),
        ("no issuer", Box::new(without("issuer")), "malformed"),
        ("issuers", Box::new(|idp| member("issuer", json!([idp.issuer()]))(idp)), "malformed"),
        ("no jwks_uri", Box::new(without("jwks_uri")), "malformed"),
        ("not a URL", Box::new(member("jwks_uri", json!("/jwks"))), "it is not a URL"),
        ("plain http", Box::new(member("jwks_uri", json!("http://192.0.2.1/jwks"))), "it is not https"),
        ("a file", Box::new(member("jwks_uri", json!("file:///etc/passwd"))), "it is not https"),
        ("cloud metadata", Box::new(member("jwks_uri", json!("https://169.254.169.254/"))), "internal address"),
        ("a private network", Box::new(member("jwks_uri", json!("https://10.0.0.1/jwks"))), "internal address"),
        (
            "a password",
            Box::new(|idp| member("jwks_uri", json!(idp.jwks_url().replace("//", "//u:p@")))(idp)),
            "password",
        ),
        ("not JSON", Box::new(|idp| idp.set_discovery(json!("<html>"))), "malformed"),
        ("an array", Box::new(|idp| idp.set_discovery(json!([idp.discovery()]))), "malformed"),
        ("an error", Box::new(|idp| idp.fail_with(500)), "status 500"),
        ("no content", Box::new(|idp| idp.fail_with(204)), "status 204"),
        (
            "a redirect",
            Box::new(|idp| {
                idp.set_header("Location", &idp.jwks_url());
                idp.fail_with(302);
            }),
            "status 302",
        ),
    ];
    for (name, apply_fault, why) in rows {
        let idp = Idp::start().await;
        apply_fault(&idp);
        let fixture = Fixture::with_idp(idp, Config::minimal()).await;
        assert_has_no_keys(name, &fixture, why).await;
        assert_eq!((fixture.idp.discovery_fetches(), fixture.idp.fetches()), (1, 0), "{name}");
    }
}

/// RFC 7517 §5; threats J-63, J-64, J-65: a document without a usable key is refused, whatever its
/// form.
#[tokio::test]
async fn refuses_a_key_set_without_usable_keys() {
    let key = TestKey::rsa("k1").public_jwk();
    let text = |padding: usize| format!("{{\"keys\":[{key}],\"x\":\"{}\"}}", "x".repeat(padding));
    for (name, document, why) in [
        ("empty", json!({"keys": []}), "key set is empty"),
        ("no keys", json!({}), "malformed"),
        ("keys are an object", json!({"keys": {"k1": key}}), "malformed"),
        ("an array", json!([key]), "malformed"),
        ("not JSON", json!("keys"), "malformed"),
        ("keys twice", json!(format!("{{\"keys\":[],\"keys\":[{key}]}}")), "malformed"),
        ("only unusable ones", json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}), "none of the 1 keys"),
        ("too long", json!(text(513 * 1024)), "larger than the limit"),
    ] {
        let idp = Idp::start().await;
        idp.set_jwks(document);
        let fixture = Fixture::with_idp(idp, Config::minimal()).await;
        assert_has_no_keys(name, &fixture, why).await;
    }
    let idp = Idp::start().await;
    idp.set_jwks(json!(text(500 * 1024)));
    let fixture = Fixture::with_idp(idp, Config::minimal()).await;
    assert_eq!(fixture.get_with_token("/token/x", &fixture.good_token()).await.status, 200, "long, but not too long");
}

/// Threats J-67, A35: the gateway starts without its identity provider, reports it, and recovers by
/// itself, without a request or a reload.
#[tokio::test]
async fn starts_without_its_identity_provider_and_recovers() {
    let mut fixture = Fixture::with_idp(Idp::reserve(), Config::minimal()).await;
    assert_has_no_keys("down", &fixture, "cannot fetch").await;
    assert_eq!(fixture.get_with_token("/token/x", "abc").await.status, 401, "a malformed token needs no key");
    fixture.idp.listen().await;
    fixture.clock.advance(std::time::Duration::from_secs(31));
    fixture.idp.wait_for_fetches(1).await;
    with_deadline("readiness", async { while readiness(&fixture).await.0 != 200 {} }).await;
    assert_eq!(fixture.get_with_token("/token/x", &fixture.good_token()).await.status, 200);
}

/// Threat D5: issuers fail independently.
#[tokio::test]
async fn an_unavailable_issuer_affects_only_its_own_tokens() {
    let down = Idp::reserve();
    let table = format!("[issuers.down]\nissuer = \"{}\"\naudiences = [\"api\"]", down.issuer());
    let fixture = Fixture::start(Config::minimal().append(&table)).await;
    let of_down = TokenBuilder::at(&down.issuer(), NOW).to_jwt();
    for round in 0..2 {
        assert_eq!(fixture.get_with_token("/token/x", &of_down).await.status, 503, "round {round}");
        assert_eq!(fixture.get_with_token("/token/x", &fixture.good_token()).await.status, 200, "round {round}");
    }
    let (status, reasons) = readiness(&fixture).await;
    assert_eq!((status, reasons.len()), (503, 1));
    assert!(reasons[0].starts_with("issuer down "), "{reasons:?}");
    let samples = fixture.gateway.metrics().await;
    let of = |issuer: &str, result: &str| {
        samples.count(&format!(
            "portcullis_token_verifications_total{{issuer=\"{issuer}\",result=\"{result}\",cache=\"miss\"}}"
        ))
    };
    assert_eq!((of("down", "keys_unavailable"), of("main", "keys_unavailable"), of("main", "accepted")), (2, 0, 1));
}

/// `discovery_url` and `jwks_url`: the issuer is then only a name, and need not be a reachable URL.
#[tokio::test]
async fn fetches_keys_from_jwks_url_or_discovery_url() {
    let name = "urn:shop:idp";
    let token = TokenBuilder::at(name, NOW).to_jwt();
    for (key, path, discoveries) in
        [("jwks_url", "/jwks", 0), ("discovery_url", "/as/.well-known/oauth-authorization-server", 1)]
    {
        let idp = Idp::start().await;
        let mut document = idp.discovery();
        document["issuer"] = json!(name);
        idp.set_discovery(document);
        let config = Config::minimal()
            .replace("issuers.main", &format!("issuer = \"{name}\""))
            .add("issuers.main", &format!("{key} = \"<issuer>{path}\""));
        let fixture = Fixture::with_idp(idp, config).await;
        fixture
            .assert_verdicts(
                "/token/x",
                [
                    ("with the issuer name", token.clone(), Ok(())),
                    ("with the address as issuer", fixture.good_token(), Err("issuer not configured")),
                ],
            )
            .await;
        assert_eq!((fixture.idp.discovery_fetches(), fixture.idp.fetches()), (discoveries, 1), "{key}");
    }
}

/// `allow_http`: keys come over plain http from another machine only if the operator says so, and a
/// metric shows it. On Linux, 0.0.0.0 leads to this machine, but it is no loopback address.
#[tokio::test]
async fn fetches_keys_over_plain_http_only_if_that_is_allowed() {
    let idp = Idp::start().await;
    let url = idp.jwks_url().replace("127.0.0.1", "0.0.0.0");
    let fixture = Fixture::with_idp(idp, Config::minimal()).await;
    let plain_http = async || fixture.gateway.count("portcullis_jwks_plain_http{issuer=\"main\"}").await;
    assert_eq!(plain_http().await, 0);
    let config = Config::minimal().add("issuers.main", &format!("jwks_url = \"{url}\""));
    let error = fixture.try_reload(config.clone()).await.expect_err("plain http").to_string();
    assert!(error.contains("issuers.main.jwks_url") && error.contains("allow_http"), "{error}");
    fixture.reload(config.add("issuers.main", "allow_http = true")).await;
    assert_eq!(fixture.get_with_token("/token/x", &fixture.good_token()).await.status, 200);
    assert_eq!(plain_http().await, 1);
    fixture.reload(Config::minimal()).await;
    assert_eq!(fixture.get_with_token("/token/x", &fixture.good_token()).await.status, 200);
    assert_eq!(plain_http().await, 0);
}

/// `jwks_file`: no network at all. The gateway notices a change when it next refreshes the keys.
#[tokio::test]
async fn reads_keys_from_a_file_and_rereads_it() {
    let directory = TempDir::new();
    let write = |keys: &[&TestKey]| {
        let set = json!({"keys": keys.iter().map(|key| key.public_jwk()).collect::<Vec<_>>()});
        directory.write("jwks.json", set.to_string())
    };
    let (old, new) = (TestKey::rsa("k1"), TestKey::es256("e1"));
    let file = write(&[&old]);
    let config = Config::minimal().add("issuers.main", &format!("jwks_file = \"{}\"", file.display()));
    let fixture = Fixture::start(config).await;
    assert_eq!(readiness(&fixture).await, (200, Vec::new()), "ready at once");
    let (by_old, by_new) = (fixture.token().sign(&old), fixture.token().sign(&new));
    fixture
        .assert_verdicts("/token/x", [("old", by_old.clone(), Ok(())), ("new", by_new.clone(), Err("key unknown"))])
        .await;
    write(&[&new]);
    fixture.clock.advance(std::time::Duration::from_secs(31));
    fixture.assert_verdicts("/token/x", [("new", by_new.clone(), Ok(())), ("old", by_old, Err("key unknown"))]).await;
    assert_eq!((fixture.idp.discovery_fetches(), fixture.idp.fetches()), (0, 0));
    // A file that becomes invalid is a failed refresh: the current keys remain.
    directory.write("jwks.json", "{");
    fixture.clock.advance(std::time::Duration::from_secs(31));
    let unknown = fixture.get_with_token("/token/x", &fixture.token().sign(&TestKey::rsa("k2"))).await;
    assert_eq!((unknown.status, fixture.get_with_token("/token/x", &by_new).await.status), (503, 200));
}

/// Threats J-50, J-51, J-57, J-58, J-61, J-62, T7, T8: keys are read one by one. An unusable key is
/// skipped, whatever its fault; it does not affect the good keys and never verifies anything.
#[tokio::test]
async fn skips_unusable_keys_and_keeps_the_good_ones() {
    let (rsa, ec) = (TestKey::rsa("k1"), TestKey::es256("e1"));
    let odd = TestKey::rsa("odd");
    let broken = |kid: &str, change: &dyn Fn(&mut Value)| {
        let mut jwk = odd.clone().with_kid(kid).public_jwk();
        change(&mut jwk);
        jwk
    };
    let short = base64url([&[0xc1][..], &[0x55; 126], &[0x01]].concat());
    let secret = "a published symmetric key";
    let keys = vec![
        json!(null),
        json!("k1"),
        json!({}),
        json!([{"kty": "RSA"}]),
        json!({"kty": "oct", "kid": "oct", "k": base64url(secret), "alg": "HS256"}),
        json!({"kty": "AKP", "kid": "akp", "alg": "ML-DSA-44", "pub": "AA"}),
        json!({"kty": "EC", "kid": "k256", "crv": "secp256k1", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "kid": "x", "crv": "X25519", "x": base64url([9; 32])}),
        json!({"kty": "EC", "kid": "off", "crv": "P-256", "x": base64url([1; 32]), "y": base64url([1; 32])}),
        broken("enc", &|jwk| jwk["use"] = json!("enc")),
        broken("ops", &|jwk| jwk["key_ops"] = json!(["encrypt"])),
        broken("oaep", &|jwk| jwk["alg"] = json!("RSA-OAEP")),
        broken("lower", &|jwk| jwk["alg"] = json!("rs256")),
        broken("short", &|jwk| jwk["n"] = json!(short)),
        broken("number", &|jwk| jwk["n"] = json!(7)),
        broken("private", &|jwk| jwk["d"] = json!("AQAB")),
        broken("kid", &|jwk| jwk["kid"] = json!(7)),
        rsa.public_jwk(),
        rsa.public_jwk(),
        ec.public_jwk(),
    ];
    let idp = Idp::start().await;
    idp.set_jwks(json!({"keys": keys}));
    let fixture = Fixture::with_idp(idp, Config::minimal()).await;
    let mut rows = vec![
        ("RSA", fixture.token().sign(&rsa), Ok(())),
        ("EC", fixture.token().sign(&ec), Ok(())),
        ("a symmetric key", fixture.token().sign(&TestKey::hs256("oct", secret)), Err("algorithm not allowed")),
    ];
    for kid in ["enc", "ops", "oaep", "lower", "private", "kid", "oct", "akp", "short"] {
        rows.push((kid, fixture.token().sign(&odd.clone().with_kid(kid)), Err("key unknown")));
    }
    fixture.assert_verdicts("/token/x", rows).await;
    assert_eq!(fixture.gateway.count("portcullis_jwks_keys{issuer=\"main\"}").await, 2);
}

/// Keys as Jenkins, UAA, Firebase and others have written them: the numbers are right, their
/// spelling is not what RFC 7518 requires. The document may begin with a byte-order mark.
#[tokio::test]
async fn uses_sound_keys_that_are_written_sloppily() {
    let (rsa, ec) = (TestKey::rsa("k1"), TestKey::es256("e1"));
    let octets = |jwk: &Value, member: &str| {
        URL_SAFE_NO_PAD.decode(jwk[member].as_str().expect("a text")).expect("the key's own base64url")
    };
    let mut sloppy_rsa = rsa.public_jwk();
    for member in ["n", "e"] {
        sloppy_rsa[member] = json!(STANDARD.encode([&[0], &octets(&sloppy_rsa, member)[..]].concat()));
    }
    let mut sloppy_ec = ec.public_jwk();
    for member in ["x", "y"] {
        sloppy_ec[member] = json!(STANDARD.encode(octets(&sloppy_ec, member)));
    }
    for jwk in [&mut sloppy_rsa, &mut sloppy_ec] {
        for member in ["use", "alg", "key_ops", "x5c", "x5t", "d", "k"] {
            jwk[member] = json!(null);
        }
    }
    let idp = Idp::start().await;
    idp.set_jwks(json!(format!("\u{feff}{}", json!({"keys": [sloppy_rsa, sloppy_ec], "next": null}))));
    let fixture = Fixture::with_idp(idp, Config::minimal()).await;
    let rows = [("RSA", fixture.token().sign(&rsa), Ok(())), ("EC", fixture.token().sign(&ec), Ok(()))];
    fixture.assert_verdicts("/token/x", rows).await;
}

/// Two keys with one id and different material (threat J-59): both are the issuer's, and a
/// signature of either is valid.
#[tokio::test]
async fn accepts_either_of_two_keys_with_the_same_id() {
    let (first, second) = (TestKey::rsa("k1"), TestKey::rsa("k2").with_kid("k1"));
    let idp = Idp::start().await;
    idp.set_keys(&[&first, &second]);
    let fixture = Fixture::with_idp(idp, Config::minimal()).await;
    let other_key = TestKey::rsa("k3").with_kid("k1");
    fixture
        .assert_verdicts(
            "/token/x",
            [
                ("the first", fixture.token().sign(&first), Ok(())),
                ("the second", fixture.token().sign(&second), Ok(())),
                ("a third", fixture.token().sign(&other_key), Err("signature invalid")),
            ],
        )
        .await;
}
