//! Tables of published keys, and which of them are accepted.

use serde_json::json;

use super::*;
use crate::token::test_support::{ED25519, OTHER_RSA, P256, P384, RSA, b64, jwks, with};

fn read(jwk: &Value) -> Result<(), KeyRejection> {
    VerificationKey::read(jwk).map(drop)
}

/// Threats J-50, J-57, J-58, J-61, T8; RFC 7517 §4.
#[test]
fn only_public_keys_for_signatures_are_accepted() {
    let rsa = RSA.jwk("k");
    for (name, changes, expected) in [
        ("plain", json!({}), Ok(())),
        ("use sig", json!({ "use": "sig" }), Ok(())),
        ("key_ops verify", json!({ "key_ops": ["verify"] }), Ok(())),
        ("both", json!({ "use": "sig", "key_ops": ["verify"] }), Ok(())),
        ("alg of its kind", json!({ "alg": "PS512" }), Ok(())),
        ("without a name", json!({ "kid": null }), Ok(())),
        ("unknown members", json!({ "x5c": "AA", "issuer": 7 }), Ok(())),
        ("use enc", json!({ "use": "enc" }), Err(KeyRejection::Use)),
        ("use enc, as Keycloak has it", json!({ "use": "enc", "alg": "RSA-OAEP" }), Err(KeyRejection::Use)),
        ("use SIG", json!({ "use": "SIG" }), Err(KeyRejection::Use)),
        ("use an array", json!({ "use": ["sig"] }), Err(KeyRejection::Use)),
        ("key_ops encrypt", json!({ "key_ops": ["encrypt"] }), Err(KeyRejection::KeyOperations)),
        ("key_ops sign", json!({ "key_ops": ["sign"] }), Err(KeyRejection::KeyOperations)),
        ("key_ops against use", json!({ "use": "sig", "key_ops": ["encrypt"] }), Err(KeyRejection::KeyOperations)),
        ("key_ops empty", json!({ "key_ops": [] }), Err(KeyRejection::KeyOperations)),
        ("key_ops a string", json!({ "key_ops": "verify" }), Err(KeyRejection::KeyOperations)),
        ("alg for encryption", json!({ "alg": "RSA-OAEP" }), Err(KeyRejection::Algorithm)),
        ("alg in lower case", json!({ "alg": "rs256" }), Err(KeyRejection::Algorithm)),
        ("alg symmetric", json!({ "alg": "HS256" }), Err(KeyRejection::Algorithm)),
        ("alg none", json!({ "alg": "none" }), Err(KeyRejection::Algorithm)),
        ("alg of another kind", json!({ "alg": "ES256" }), Err(KeyRejection::Algorithm)),
        ("alg a number", json!({ "alg": 5 }), Err(KeyRejection::Algorithm)),
        ("kid a number", json!({ "kid": 7 }), Err(KeyRejection::KeyId)),
        ("kid too long", json!({ "kid": "k".repeat(257) }), Err(KeyRejection::KeyId)),
        ("no kty", json!({ "kty": null }), Err(KeyRejection::KeyType)),
        ("kty in lower case", json!({ "kty": "rsa" }), Err(KeyRejection::KeyType)),
        ("kty AKP", json!({ "kty": "AKP" }), Err(KeyRejection::KeyType)),
        ("kty of another kind", json!({ "kty": "EC" }), Err(KeyRejection::Curve)),
        ("symmetric", json!({ "kty": "oct", "k": "AAAA" }), Err(KeyRejection::Symmetric)),
        ("with its private exponent", json!({ "d": "AAAA" }), Err(KeyRejection::Private)),
        ("with a private factor", json!({ "p": "AAAA" }), Err(KeyRejection::Private)),
        ("with a secret", json!({ "k": "AAAA" }), Err(KeyRejection::Private)),
    ] {
        assert_eq!(read(&with(&rsa, &changes)), expected, "{name}");
    }
    for jwk in [json!(null), json!([]), json!("x"), json!(7)] {
        assert_eq!(read(&jwk), Err(KeyRejection::Malformed), "{jwk}");
    }
}

/// Threats J-51 … J-53; RFC 7518 §3.3, §6.3.1.
#[test]
fn rsa_keys_must_be_strong_and_well_formed() {
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
        ("512 bits", modulus(64, 0x80, 1), Err(KeyRejection::Modulus)),
        ("1024 bits", modulus(128, 0x80, 1), Err(KeyRejection::Modulus)),
        ("2047 bits", modulus(256, 0x7f, 1), Err(KeyRejection::Modulus)),
        ("8193 bits", modulus(1025, 0x01, 1), Err(KeyRejection::Modulus)),
        ("even", modulus(256, 0x80, 2), Err(KeyRejection::Modulus)),
        ("a zero before 2048 bits", json!({ "n": b64(&[&[0, 0x80][..], &[0x55; 254], &[1]].concat()) }), Ok(())),
        (
            "zeros before 2040 bits",
            json!({ "n": b64(&[&[0, 0x80][..], &[0x55; 253], &[1]].concat()) }),
            Err(KeyRejection::Modulus),
        ),
        ("zeros only", json!({ "n": b64(&[0; 256]) }), Err(KeyRejection::Modulus)),
        ("empty", json!({ "n": "" }), Err(KeyRejection::Modulus)),
        ("missing", json!({ "n": null }), Err(KeyRejection::Malformed)),
        ("a number", json!({ "n": 7 }), Err(KeyRejection::Malformed)),
        ("white space", json!({ "n": "AA AB" }), Err(KeyRejection::Malformed)),
        ("padding inside", json!({ "n": "AA=AB" }), Err(KeyRejection::Malformed)),
        ("an alphabet of its own", json!({ "n": "A.AB" }), Err(KeyRejection::Malformed)),
        ("exponent 3", exponent(&[3]), Ok(())),
        ("exponent 65537", exponent(&[1, 0, 1]), Ok(())),
        ("exponent 1", exponent(&[1]), Err(KeyRejection::Exponent)),
        ("exponent 0", exponent(&[0]), Err(KeyRejection::Exponent)),
        ("exponent even", exponent(&[1, 0, 0]), Err(KeyRejection::Exponent)),
        ("exponent with a leading zero", exponent(&[0, 1, 0, 1]), Ok(())),
        ("exponent 1 with a leading zero", exponent(&[0, 1]), Err(KeyRejection::Exponent)),
        ("exponent of 33 bits", exponent(&[1, 0, 0, 0, 1]), Ok(())),
        ("exponent of 34 bits", exponent(&[2, 0, 0, 0, 1]), Err(KeyRejection::Exponent)),
        ("exponent empty", exponent(&[]), Err(KeyRejection::Exponent)),
        ("exponent missing", json!({ "e": null }), Err(KeyRejection::Malformed)),
    ] {
        assert_eq!(read(&with(&RSA.jwk("k"), &changes)), expected, "{name}");
    }
}

/// Threat J-55; RFC 7518 §6.2.1.
#[test]
fn ec_keys_must_be_points_on_their_curve() {
    let (p256, p384) = (P256.jwk("k"), P384.jwk("k"));
    for (name, jwk, expected) in [
        ("P-256", p256.clone(), Ok(())),
        ("P-384", p384.clone(), Ok(())),
        ("P-256 for ES256", with(&p256, &json!({ "alg": "ES256" })), Ok(())),
        ("P-256 for ES384", with(&p256, &json!({ "alg": "ES384" })), Err(KeyRejection::Algorithm)),
        ("P-256 for EdDSA", with(&p256, &json!({ "alg": "EdDSA" })), Err(KeyRejection::Algorithm)),
        ("P-256 said to be P-384", with(&p256, &json!({ "crv": "P-384" })), Err(KeyRejection::Point)),
        ("P-384 said to be P-256", with(&p384, &json!({ "crv": "P-256" })), Err(KeyRejection::Point)),
        ("P-521", with(&p256, &json!({ "crv": "P-521" })), Err(KeyRejection::Curve)),
        ("secp256k1", with(&p256, &json!({ "crv": "secp256k1" })), Err(KeyRejection::Curve)),
        ("no curve", with(&p256, &json!({ "crv": null })), Err(KeyRejection::Curve)),
        ("x is y", with(&p256, &json!({ "y": p256["x"] })), Err(KeyRejection::Point)),
        ("the point 0, 0", with(&p256, &json!({ "x": b64(&[0; 32]), "y": b64(&[0; 32]) })), Err(KeyRejection::Point)),
        ("a coordinate above the field", with(&p256, &json!({ "x": b64(&[0xff; 32]) })), Err(KeyRejection::Point)),
        ("a coordinate too short", with(&p256, &json!({ "x": b64(&[1; 31]) })), Err(KeyRejection::Point)),
        ("a coordinate too long", with(&p256, &json!({ "x": b64(&[1; 33]) })), Err(KeyRejection::Point)),
        ("no y", with(&p256, &json!({ "y": null })), Err(KeyRejection::Malformed)),
        ("private", with(&p256, &json!({ "d": "AAAA" })), Err(KeyRejection::Private)),
    ] {
        assert_eq!(read(&jwk), expected, "{name}");
    }
}

/// Threat J-56; RFC 8037 §2, RFC 8032 §5.1.3.
#[test]
fn ed25519_keys_must_be_canonical_and_of_full_order() {
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
        ("for ES256", json!({ "alg": "ES256" }), Err(KeyRejection::Algorithm)),
        ("X25519", json!({ "crv": "X25519" }), Err(KeyRejection::Curve)),
        ("Ed448", json!({ "crv": "Ed448" }), Err(KeyRejection::Curve)),
        ("y = 0", point(0, 0, 0), Err(KeyRejection::Point)),
        ("y = 0, other sign", point(0, 0, 0x80), Err(KeyRejection::Point)),
        ("y = 1", point(1, 0, 0), Err(KeyRejection::Point)),
        ("y = -1", point(0xec, 0xff, 0x7f), Err(KeyRejection::Point)),
        ("y = -1, other sign", point(0xec, 0xff, 0xff), Err(KeyRejection::Point)),
        ("order eight", json!({ "x": eighth }), Err(KeyRejection::Point)),
        ("order eight, the other", json!({ "x": minus_eighth }), Err(KeyRejection::Point)),
        ("y = p", point(0xed, 0xff, 0x7f), Err(KeyRejection::Point)),
        ("y = p + 1", point(0xee, 0xff, 0x7f), Err(KeyRejection::Point)),
        ("y = 2^255 - 1", point(0xff, 0xff, 0xff), Err(KeyRejection::Point)),
        ("too short", json!({ "x": b64(&[9; 31]) }), Err(KeyRejection::Point)),
        ("too long", json!({ "x": b64(&[9; 33]) }), Err(KeyRejection::Point)),
        ("no x", json!({ "x": null }), Err(KeyRejection::Malformed)),
    ] {
        assert_eq!(read(&with(&good, &changes)), expected, "{name}");
    }
}

#[test]
fn a_key_that_is_published_twice_is_one_key() {
    let (twice, other) = (RSA.jwk("k1"), P256.jwk("k2"));
    let set = KeySet::read(&jwks(&[twice.clone(), other, twice])).unwrap();
    assert_eq!(set.keys().iter().map(VerificationKey::kid).collect::<Vec<_>>(), [Some("k1"), Some("k2")]);
}

/// Threats J-62, T7; RFC 7517 §5.
#[test]
fn rejected_keys_do_not_affect_the_others() {
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
    let rejected: Vec<_> = set.rejected().iter().map(|(rejection, count)| (*rejection, *count)).collect();
    let expected = [
        (KeyRejection::Curve, 2),
        (KeyRejection::KeyType, 2),
        (KeyRejection::Malformed, 3),
        (KeyRejection::Symmetric, 1),
        (KeyRejection::Use, 1),
    ];
    assert_eq!(rejected, expected);
}

/// Threat J-63.
#[test]
fn a_document_without_usable_keys_is_an_error() {
    for (name, document, expected) in [
        ("nothing", Vec::new(), JwksError::Malformed(DocumentFault::NotAnObject)),
        ("not JSON", b"<html>".to_vec(), JwksError::Malformed(DocumentFault::NotAnObject)),
        ("an array", b"[]".to_vec(), JwksError::Malformed(DocumentFault::NotAnObject)),
        ("no keys", b"{}".to_vec(), JwksError::Malformed(DocumentFault::Members)),
        ("keys null", br#"{"keys":null}"#.to_vec(), JwksError::Malformed(DocumentFault::Members)),
        ("keys an object", br#"{"keys":{}}"#.to_vec(), JwksError::Malformed(DocumentFault::Members)),
        ("keys twice", br#"{"keys":[],"keys":[]}"#.to_vec(), JwksError::Malformed(DocumentFault::NotAnObject)),
        ("empty", jwks(&[]), JwksError::Empty),
        (
            "none usable",
            jwks(&[json!({ "kty": "oct", "k": "AA" })]),
            JwksError::NoneUsable { keys: 1, rejection: KeyRejection::Symmetric },
        ),
    ] {
        assert_eq!(KeySet::read(&document).err(), Some(expected), "{name}");
    }
    let unusable = KeySet::read(&jwks(&[json!({ "kty": "oct", "k": "AA" })])).unwrap_err();
    assert!(unusable.to_string().ends_with(KeyRejection::Symmetric.label()), "{unusable}");
}

#[test]
fn keys_beyond_the_limit_are_skipped_and_counted() {
    let unusable = json!({ "kty": "oct", "k": "AA" });
    let set = |before: usize, after: usize| {
        let mut keys = vec![unusable.clone(); before];
        keys.extend([RSA.jwk("k1"), P256.jwk("k2")]);
        keys.extend(vec![unusable.clone(); after]);
        KeySet::read(&jwks(&keys))
    };
    for (before, after, ids, beyond) in [
        (MAX_KEYS - 2, 0, &["k1", "k2"][..], None),
        (MAX_KEYS - 1, 0, &["k1"], Some(&1)),
        (MAX_KEYS - 1, 2, &["k1"], Some(&3)),
    ] {
        let read = set(before, after).unwrap();
        assert_eq!(read.keys().iter().filter_map(VerificationKey::kid).collect::<Vec<_>>(), ids);
        assert_eq!(read.rejected().get(&KeyRejection::BeyondLimit), beyond, "{before} before, {after} after");
    }
    assert!(KeyRejection::BeyondLimit.label().contains(&MAX_KEYS.to_string()));
    let none = JwksError::NoneUsable { keys: MAX_KEYS + 2, rejection: KeyRejection::Symmetric };
    assert_eq!(set(MAX_KEYS, 0).err(), Some(none));
}

/// Threats J-09, J-59, J-60, J-61, A07, A13.
#[test]
fn lookup_finds_the_keys_that_may_have_signed_a_token() {
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
    let count = |kid, algorithm| match set.lookup(kid, algorithm) {
        KeyLookup::Found(keys) => keys.len().to_string(),
        KeyLookup::TooMany(_) => "too many".to_owned(),
        KeyLookup::AlgorithmMismatch => "mismatch".to_owned(),
        KeyLookup::NotFound => "none".to_owned(),
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
fn a_token_without_a_key_id_is_checked_against_a_bounded_number_of_keys() {
    let keys: Vec<_> = (0..20).map(|number| RSA.jwk(&number.to_string())).collect();
    let set = KeySet::read(&jwks(&keys)).unwrap();
    assert!(matches!(set.lookup(None, Algorithm::Rs256), KeyLookup::TooMany(keys) if keys.len() == MAX_CANDIDATES));
    let set = KeySet::read(&jwks(&keys[..MAX_CANDIDATES])).unwrap();
    assert!(matches!(set.lookup(None, Algorithm::Rs256), KeyLookup::Found(keys) if keys.len() == MAX_CANDIDATES));
}

/// Threat J-71.
#[test]
fn identity_covers_id_material_and_purpose() {
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
fn a_signature_is_verified_only_by_its_key_and_algorithm() {
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
        let for_one = VerificationKey::read(&with(&pair.jwk("k"), &json!({ "alg": algorithm.name() }))).unwrap();
        assert!(for_one.verifies(&signature, message, algorithm), "{algorithm:?} in a key for it alone");
        let verifies = |signature: &[u8], message: &[u8], algorithm| key.verifies(signature, message, algorithm);
        for other in Algorithm::ALL {
            assert_eq!(verifies(&signature, message, other), other == algorithm, "{algorithm:?} {other:?}");
        }
        assert!(!verifies(&signature, b"header.payloae", algorithm), "{algorithm:?} another message");
        for index in [0, signature.len() / 2, signature.len() - 1] {
            let mut changed = signature.clone();
            changed[index] ^= 1;
            assert!(!verifies(&changed, message, algorithm), "{algorithm:?} byte {index}");
        }
        for length in [0, 1, signature.len() - 1] {
            assert!(!verifies(&signature[..length], message, algorithm), "{algorithm:?} {length} bytes");
        }
        assert!(!verifies(&[&signature[..], &[0]].concat(), message, algorithm), "{algorithm:?} a byte too many");
        assert!(!verifies(&vec![0; signature.len()], message, algorithm), "{algorithm:?} zeros");
        assert!(!verifies(&vec![0xff; signature.len()], message, algorithm), "{algorithm:?} ones");
        assert!(!verifies(b"", message, algorithm), "{algorithm:?} nothing");
    }
    let other = VerificationKey::read(&OTHER_RSA.jwk("k")).unwrap();
    let bytes = RSA.sign(Algorithm::Rs256, message);
    assert!(!other.verifies(&bytes, message, Algorithm::Rs256));
}
