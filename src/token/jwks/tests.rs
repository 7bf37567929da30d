//! Tables of published keys and what becomes of them.

use serde_json::json;

use super::*;
use crate::token::test_support::{ED25519, OTHER_RSA, P256, P384, RSA, b64, jwks};

/// `base` with some members changed; null takes one away.
fn with(base: &Value, changes: &Value) -> Value {
    let mut jwk = base.clone();
    for (name, value) in changes.as_object().unwrap() {
        let members = jwk.as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name)
        } else {
            members.insert(name.clone(), value.clone())
        };
    }
    jwk
}

fn read(jwk: &Value) -> Result<(), Skip> {
    VerificationKey::read(jwk).map(drop)
}

/// Threats J-50, J-57, J-58, J-61, T8; RFC 7517 §4.
#[test]
fn only_public_keys_for_signatures_are_taken() {
    let rsa = RSA.jwk("k");
    for (name, changes, expected) in [
        ("plain", json!({}), Ok(())),
        ("use sig", json!({ "use": "sig" }), Ok(())),
        ("key_ops verify", json!({ "key_ops": ["verify"] }), Ok(())),
        ("both", json!({ "use": "sig", "key_ops": ["verify"] }), Ok(())),
        ("alg of its kind", json!({ "alg": "PS512" }), Ok(())),
        ("without a name", json!({ "kid": null }), Ok(())),
        ("unknown members", json!({ "x5c": "AA", "issuer": 7 }), Ok(())),
        ("use enc", json!({ "use": "enc" }), Err(Skip::Use)),
        ("use enc, as Keycloak has it", json!({ "use": "enc", "alg": "RSA-OAEP" }), Err(Skip::Use)),
        ("use SIG", json!({ "use": "SIG" }), Err(Skip::Use)),
        ("use an array", json!({ "use": ["sig"] }), Err(Skip::Use)),
        ("key_ops encrypt", json!({ "key_ops": ["encrypt"] }), Err(Skip::KeyOperations)),
        ("key_ops sign", json!({ "key_ops": ["sign"] }), Err(Skip::KeyOperations)),
        ("key_ops against use", json!({ "use": "sig", "key_ops": ["encrypt"] }), Err(Skip::KeyOperations)),
        ("key_ops empty", json!({ "key_ops": [] }), Err(Skip::KeyOperations)),
        ("key_ops a string", json!({ "key_ops": "verify" }), Err(Skip::KeyOperations)),
        ("alg for encryption", json!({ "alg": "RSA-OAEP" }), Err(Skip::Algorithm)),
        ("alg in lower case", json!({ "alg": "rs256" }), Err(Skip::Algorithm)),
        ("alg symmetric", json!({ "alg": "HS256" }), Err(Skip::Algorithm)),
        ("alg none", json!({ "alg": "none" }), Err(Skip::Algorithm)),
        ("alg of another kind", json!({ "alg": "ES256" }), Err(Skip::Algorithm)),
        ("alg a number", json!({ "alg": 5 }), Err(Skip::Algorithm)),
        ("kid a number", json!({ "kid": 7 }), Err(Skip::KeyId)),
        ("kid too long", json!({ "kid": "k".repeat(257) }), Err(Skip::KeyId)),
        ("no kty", json!({ "kty": null }), Err(Skip::KeyType)),
        ("kty in lower case", json!({ "kty": "rsa" }), Err(Skip::KeyType)),
        ("kty AKP", json!({ "kty": "AKP" }), Err(Skip::KeyType)),
        ("kty of another kind", json!({ "kty": "EC" }), Err(Skip::Curve)),
        ("symmetric", json!({ "kty": "oct", "k": "AAAA" }), Err(Skip::Symmetric)),
        ("with its private exponent", json!({ "d": "AAAA" }), Err(Skip::Private)),
        ("with a private factor", json!({ "p": "AAAA" }), Err(Skip::Private)),
        ("with a secret", json!({ "k": "AAAA" }), Err(Skip::Private)),
    ] {
        assert_eq!(read(&with(&rsa, &changes)), expected, "{name}");
    }
    for jwk in [json!(null), json!([]), json!("x"), json!(7)] {
        assert_eq!(read(&jwk), Err(Skip::Malformed), "{jwk}");
    }
}

/// Threats J-51 … J-53; RFC 7518 §3.3, §6.3.1.
#[test]
fn rsa_keys_are_of_sound_size_and_form() {
    let modulus = |bytes: usize, first: u8, last: u8| {
        let mut modulus = vec![0x55; bytes];
        (modulus[0], modulus[bytes - 1]) = (first, last);
        json!({ "n": b64(&modulus) })
    };
    let exponent = |bytes: &[u8]| json!({ "e": b64(bytes) });
    for (name, changes, expected) in [
        ("2048 bits", modulus(256, 0x80, 1), Ok(())),
        ("3072 bits", modulus(384, 0x80, 1), Ok(())),
        ("8192 bits", modulus(1024, 0x80, 1), Ok(())),
        ("512 bits", modulus(64, 0x80, 1), Err(Skip::Modulus)),
        ("1024 bits", modulus(128, 0x80, 1), Err(Skip::Modulus)),
        ("2047 bits", modulus(256, 0x7f, 1), Err(Skip::Modulus)),
        ("8193 bits", modulus(1025, 0x01, 1), Err(Skip::Modulus)),
        ("even", modulus(256, 0x80, 2), Err(Skip::Modulus)),
        ("leading zero", modulus(257, 0, 1), Err(Skip::Modulus)),
        ("empty", json!({ "n": "" }), Err(Skip::Modulus)),
        ("missing", json!({ "n": null }), Err(Skip::Malformed)),
        ("a number", json!({ "n": 7 }), Err(Skip::Malformed)),
        ("padded", json!({ "n": "AAE=" }), Err(Skip::Malformed)),
        ("the other alphabet", json!({ "n": "+/AB" }), Err(Skip::Malformed)),
        ("exponent 3", exponent(&[3]), Ok(())),
        ("exponent 65537", exponent(&[1, 0, 1]), Ok(())),
        ("exponent 1", exponent(&[1]), Err(Skip::Exponent)),
        ("exponent 0", exponent(&[0]), Err(Skip::Exponent)),
        ("exponent even", exponent(&[1, 0, 0]), Err(Skip::Exponent)),
        ("exponent with a leading zero", exponent(&[0, 1, 0, 1]), Err(Skip::Exponent)),
        ("exponent of 34 bits", exponent(&[2, 0, 0, 0, 1]), Err(Skip::Exponent)),
        ("exponent empty", exponent(&[]), Err(Skip::Exponent)),
        ("exponent missing", json!({ "e": null }), Err(Skip::Malformed)),
    ] {
        assert_eq!(read(&with(&RSA.jwk("k"), &changes)), expected, "{name}");
    }
}

/// Threat J-55; RFC 7518 §6.2.1.
#[test]
fn elliptic_keys_are_points_of_their_curve() {
    let (p256, p384) = (P256.jwk("k"), P384.jwk("k"));
    for (name, jwk, expected) in [
        ("P-256", p256.clone(), Ok(())),
        ("P-384", p384.clone(), Ok(())),
        ("P-256 for ES256", with(&p256, &json!({ "alg": "ES256" })), Ok(())),
        ("P-256 for ES384", with(&p256, &json!({ "alg": "ES384" })), Err(Skip::Algorithm)),
        ("P-256 for EdDSA", with(&p256, &json!({ "alg": "EdDSA" })), Err(Skip::Algorithm)),
        ("P-256 said to be P-384", with(&p256, &json!({ "crv": "P-384" })), Err(Skip::Point)),
        ("P-384 said to be P-256", with(&p384, &json!({ "crv": "P-256" })), Err(Skip::Point)),
        ("P-521", with(&p256, &json!({ "crv": "P-521" })), Err(Skip::Curve)),
        ("secp256k1", with(&p256, &json!({ "crv": "secp256k1" })), Err(Skip::Curve)),
        ("no curve", with(&p256, &json!({ "crv": null })), Err(Skip::Curve)),
        ("x is y", with(&p256, &json!({ "y": p256["x"] })), Err(Skip::Point)),
        ("the point 0, 0", with(&p256, &json!({ "x": b64(&[0; 32]), "y": b64(&[0; 32]) })), Err(Skip::Point)),
        ("a coordinate above the field", with(&p256, &json!({ "x": b64(&[0xff; 32]) })), Err(Skip::Point)),
        ("a coordinate too short", with(&p256, &json!({ "x": b64(&[1; 31]) })), Err(Skip::Point)),
        ("a coordinate too long", with(&p256, &json!({ "x": b64(&[1; 33]) })), Err(Skip::Point)),
        ("no y", with(&p256, &json!({ "y": null })), Err(Skip::Malformed)),
        ("private", with(&p256, &json!({ "d": "AAAA" })), Err(Skip::Private)),
    ] {
        assert_eq!(read(&jwk), expected, "{name}");
    }
}

/// Threat J-56; RFC 8037 §2, RFC 8032 §5.1.3.
#[test]
fn edwards_keys_are_canonical_and_of_full_order() {
    let good = ED25519.jwk("k");
    let point = |first: u8, rest: u8, last: u8| {
        let mut bytes = [rest; 32];
        (bytes[0], bytes[31]) = (first, last);
        json!({ "x": b64(&bytes) })
    };
    let eighth = "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU";
    let minus_eighth = "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o";
    for (name, changes, expected) in [
        ("good", json!({}), Ok(())),
        ("for EdDSA", json!({ "alg": "EdDSA" }), Ok(())),
        ("for Ed25519, RFC 9864", json!({ "alg": "Ed25519" }), Ok(())),
        ("for ES256", json!({ "alg": "ES256" }), Err(Skip::Algorithm)),
        ("X25519", json!({ "crv": "X25519" }), Err(Skip::Curve)),
        ("Ed448", json!({ "crv": "Ed448" }), Err(Skip::Curve)),
        ("y = 0", point(0, 0, 0), Err(Skip::Point)),
        ("y = 0, other sign", point(0, 0, 0x80), Err(Skip::Point)),
        ("y = 1", point(1, 0, 0), Err(Skip::Point)),
        ("y = -1", point(0xec, 0xff, 0x7f), Err(Skip::Point)),
        ("y = -1, other sign", point(0xec, 0xff, 0xff), Err(Skip::Point)),
        ("order eight", json!({ "x": eighth }), Err(Skip::Point)),
        ("order eight, the other", json!({ "x": minus_eighth }), Err(Skip::Point)),
        ("y = p", point(0xed, 0xff, 0x7f), Err(Skip::Point)),
        ("y = p + 1", point(0xee, 0xff, 0x7f), Err(Skip::Point)),
        ("y = 2^255 - 1", point(0xff, 0xff, 0xff), Err(Skip::Point)),
        ("too short", json!({ "x": b64(&[9; 31]) }), Err(Skip::Point)),
        ("too long", json!({ "x": b64(&[9; 33]) }), Err(Skip::Point)),
        ("no x", json!({ "x": null }), Err(Skip::Malformed)),
    ] {
        assert_eq!(read(&with(&good, &changes)), expected, "{name}");
    }
}

/// Threats J-62, T7; RFC 7517 §5.
#[test]
fn odd_keys_do_not_lose_the_good_ones() {
    let set = KeySet::read(&jwks(&[
        json!(null),
        json!({}),
        json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" }),
        json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA" }),
        json!({ "kty": "OKP", "crv": "Ed448", "x": "AA" }),
        json!({ "kty": "RSA", "e": "AQAB" }),
        json!({ "kty": "RSA", "n": { "n": ["x"] }, "e": "AQAB" }),
        with(&RSA.jwk("enc"), &json!({ "use": "enc" })),
        RSA.jwk("k1"),
        P256.jwk("k2"),
        json!({ "kty": "oct", "k": "AAAA", "kid": "k3" }),
    ]))
    .unwrap();
    assert_eq!(set.keys().iter().map(VerificationKey::kid).collect::<Vec<_>>(), [Some("k1"), Some("k2")]);
    let skipped: Vec<_> = set.skipped().iter().map(|(why, count)| (*why, *count)).collect();
    let expected = [(Skip::Curve, 2), (Skip::KeyType, 2), (Skip::Malformed, 3), (Skip::Symmetric, 1), (Skip::Use, 1)];
    assert_eq!(skipped, expected);
}

/// Threat J-63.
#[test]
fn what_is_no_key_set_is_an_error() {
    let many = |count: usize| jwks(&vec![RSA.jwk("k"); count]);
    for (name, document, expected) in [
        ("nothing", Vec::new(), JwksError::Malformed),
        ("not JSON", b"<html>".to_vec(), JwksError::Malformed),
        ("an array", b"[]".to_vec(), JwksError::Malformed),
        ("no keys", b"{}".to_vec(), JwksError::Malformed),
        ("keys an object", br#"{"keys":{}}"#.to_vec(), JwksError::Malformed),
        ("keys twice", br#"{"keys":[],"keys":[]}"#.to_vec(), JwksError::Malformed),
        ("empty", jwks(&[]), JwksError::Empty),
        (
            "none usable",
            jwks(&[json!({ "kty": "oct", "k": "AA" })]),
            JwksError::NoneUsable { keys: 1, why: Skip::Symmetric },
        ),
        ("too many", many(101), JwksError::TooMany { keys: 101 }),
    ] {
        assert_eq!(KeySet::read(&document).err(), Some(expected), "{name}");
    }
    assert_eq!(KeySet::read(&many(100)).unwrap().keys().len(), 1, "one key, a hundred times");
}

/// Threats J-09, J-59, J-60, J-61, A07, A13.
#[test]
fn a_token_is_tried_against_the_keys_it_could_be_of() {
    let ps256 = with(&RSA.jwk("ps"), &json!({ "alg": "PS256" }));
    let unnamed = with(&P384.jwk(""), &json!({ "kid": null }));
    let set = KeySet::read(&jwks(&[
        RSA.jwk("a/b+c="),
        RSA.jwk("twin"),
        OTHER_RSA.jwk("twin"),
        P256.jwk("ec"),
        ps256,
        unnamed,
    ]))
    .unwrap();
    let count = |kid, algorithm| match set.candidates(kid, algorithm) {
        Candidates::Some(keys) => keys.len().to_string(),
        Candidates::Mismatch => "mismatch".to_owned(),
        Candidates::None => "none".to_owned(),
    };
    for (kid, algorithm, expected) in [
        (Some("a/b+c="), Algorithm::Rs256, "1"),
        (Some("a/b+c="), Algorithm::Ps512, "1"),
        (Some("a/b+c="), Algorithm::Es256, "mismatch"),
        (Some("A/b+c="), Algorithm::Rs256, "none"),
        (Some("a/b+c"), Algorithm::Rs256, "none"),
        (Some(" a/b+c="), Algorithm::Rs256, "none"),
        (Some(""), Algorithm::Rs256, "none"),
        (Some("twin"), Algorithm::Rs256, "2"),
        (Some("ec"), Algorithm::Es256, "1"),
        (Some("ec"), Algorithm::Es384, "mismatch"),
        (Some("ec"), Algorithm::Rs256, "mismatch"),
        (Some("ps"), Algorithm::Ps256, "1"),
        (Some("ps"), Algorithm::Rs256, "mismatch"),
        (Some("ps"), Algorithm::Ps384, "mismatch"),
        (None, Algorithm::Rs256, "3"),
        (None, Algorithm::Ps256, "4"),
        (None, Algorithm::Es384, "1"),
        (None, Algorithm::EdDsa, "none"),
    ] {
        assert_eq!(count(kid, algorithm), expected, "{kid:?} {}", algorithm.name());
    }
}

#[test]
fn a_key_without_a_name_is_tried_at_most_so_often() {
    let keys: Vec<_> = (0..20).map(|number| RSA.jwk(&number.to_string())).collect();
    let set = KeySet::read(&jwks(&keys)).unwrap();
    assert!(matches!(set.candidates(None, Algorithm::Rs256), Candidates::Some(keys) if keys.len() == MAX_CANDIDATES));
}

/// Threat J-71.
#[test]
fn a_key_is_known_by_its_name_material_and_purpose() {
    let identity = |jwk: &Value| VerificationKey::read(jwk).unwrap().identity();
    let base = identity(&RSA.jwk("k"));
    assert_eq!(base, identity(&with(&RSA.jwk("k"), &json!({ "use": "sig", "x5t": "x" }))));
    for (name, other) in [
        ("another name", RSA.jwk("l")),
        ("no name", with(&RSA.jwk("k"), &json!({ "kid": null }))),
        ("another key", OTHER_RSA.jwk("k")),
        ("one algorithm", with(&RSA.jwk("k"), &json!({ "alg": "RS256" }))),
        ("another exponent", with(&RSA.jwk("k"), &json!({ "e": "Aw" }))),
    ] {
        assert_ne!(base, identity(&other), "{name}");
    }
    assert_ne!(identity(&with(&RSA.jwk(""), &json!({}))), identity(&with(&RSA.jwk(""), &json!({ "kid": null }))));
}

/// Threats J-05, J-06, J-61, A08, A30, A31.
#[test]
fn a_signature_is_confirmed_by_its_key_and_algorithm_alone() {
    let message = b"header.payload";
    let cases = [
        (&RSA, Algorithm::Rs256),
        (&RSA, Algorithm::Rs384),
        (&RSA, Algorithm::Rs512),
        (&RSA, Algorithm::Ps256),
        (&RSA, Algorithm::Ps384),
        (&RSA, Algorithm::Ps512),
        (&P256, Algorithm::Es256),
        (&P384, Algorithm::Es384),
        (&ED25519, Algorithm::EdDsa),
    ];
    for (pair, algorithm) in cases {
        let key = VerificationKey::read(&pair.jwk("k")).unwrap();
        let signature = pair.sign(algorithm, message);
        let confirms = |signature: &[u8], message: &[u8], algorithm| {
            let text = b64(signature);
            key.confirms(&Signature { text: &text, bytes: signature.to_vec() }, message, algorithm)
        };
        for other in Algorithm::ALL {
            assert_eq!(confirms(&signature, message, other), other == algorithm, "{algorithm:?} {other:?}");
        }
        assert!(!confirms(&signature, b"header.payloae", algorithm), "{algorithm:?} another message");
        for index in [0, signature.len() / 2, signature.len() - 1] {
            let mut changed = signature.clone();
            changed[index] ^= 1;
            assert!(!confirms(&changed, message, algorithm), "{algorithm:?} byte {index}");
        }
        for length in [0, 1, signature.len() - 1] {
            assert!(!confirms(&signature[..length], message, algorithm), "{algorithm:?} {length} bytes");
        }
        assert!(!confirms(&[&signature[..], &[0]].concat(), message, algorithm), "{algorithm:?} a byte too many");
        assert!(!confirms(&vec![0; signature.len()], message, algorithm), "{algorithm:?} zeros");
        assert!(!confirms(&vec![0xff; signature.len()], message, algorithm), "{algorithm:?} ones");
        assert!(!confirms(b"", message, algorithm), "{algorithm:?} nothing");
    }
    let other = VerificationKey::read(&OTHER_RSA.jwk("k")).unwrap();
    let bytes = RSA.sign(Algorithm::Rs256, message);
    let text = b64(&bytes);
    assert!(!other.confirms(&Signature { text: &text, bytes }, message, Algorithm::Rs256));
}
