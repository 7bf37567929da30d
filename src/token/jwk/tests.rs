//! Keys in spellings that RFC 7518 does not allow, and that some issuers use.

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::json;

use super::*;
use crate::token::jwks::{KeySet, VerificationKey};
use crate::token::test_support::{ED25519, P256, RSA, TestKey, b64, jwks, with};

/// Sound keys that some issuers write sloppily (Jenkins, UAA, Firebase). Each is the same key as in
/// the usual spelling: one identity, so that no cached verdict ends when the spelling changes.
#[test]
fn sloppy_spellings_of_a_key_are_the_same_key() {
    let octets = |jwk: &Value, member: &str| URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap();
    let (rsa, ec, ed) = (RSA.jwk("k"), P256.jwk("k"), ED25519.jwk("k"));
    let zero_before = |jwk: &Value, member: &str| b64(&[&[0], &octets(jwk, member)[..]].concat());
    let nulls = json!({ "use": null, "alg": null, "key_ops": null, "x5c": null, "d": null, "p": null, "k": null });
    let with_nulls = |jwk: &Value| {
        let mut jwk = jwk.clone();
        jwk.as_object_mut().unwrap().extend(nulls.as_object().unwrap().clone());
        jwk
    };
    let unnamed = with(&rsa, &json!({ "kid": null }));
    let named_null = {
        let mut jwk = unnamed.clone();
        jwk["kid"] = json!(null);
        jwk
    };
    for (name, usual, sloppy) in [
        ("a zero before n", &rsa, with(&rsa, &json!({ "n": zero_before(&rsa, "n") }))),
        ("a zero before e", &rsa, with(&rsa, &json!({ "e": zero_before(&rsa, "e") }))),
        ("n with padding", &rsa, with(&rsa, &json!({ "n": URL_SAFE.encode(octets(&rsa, "n")) }))),
        ("n in standard base64", &rsa, with(&rsa, &json!({ "n": STANDARD.encode(octets(&rsa, "n")) }))),
        (
            "n in standard base64, unpadded",
            &rsa,
            with(&rsa, &json!({ "n": STANDARD_NO_PAD.encode(octets(&rsa, "n")) })),
        ),
        ("a zero before x and y", &ec, with(&ec, &json!({ "x": zero_before(&ec, "x"), "y": zero_before(&ec, "y") }))),
        (
            "x and y in standard base64",
            &ec,
            with(&ec, &json!({ "x": STANDARD.encode(octets(&ec, "x")), "y": STANDARD.encode(octets(&ec, "y")) })),
        ),
        ("Ed25519 in standard base64", &ed, with(&ed, &json!({ "x": STANDARD.encode(octets(&ed, "x")) }))),
        ("nulls", &rsa, with_nulls(&rsa)),
        ("nulls, EC", &ec, with_nulls(&ec)),
        ("kid null", &unnamed, named_null),
    ] {
        let read = |jwk: &Value| {
            let set = KeySet::read(&jwks(std::slice::from_ref(jwk))).unwrap_or_else(|error| panic!("{name}: {error}"));
            set.keys()[0].identity()
        };
        assert_eq!(read(usual), read(&sloppy), "{name}");
    }
}

/// RFC 8032 §5.1.3: the field has 2^255 - 19 elements.
#[test]
fn only_a_coordinate_of_the_field_is_canonical() {
    let point = |first: u8, between: u8, last: u8| {
        let mut bytes = [between; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    for (name, point, expected) in [
        ("the largest", point(0xec, 0xff, 0x7f), true),
        ("one more", point(0xed, 0xff, 0x7f), false),
        ("one more, other sign", point(0xed, 0xff, 0xff), false),
        ("smaller below the top byte", point(0xff, 0xfe, 0x7f), true),
        ("smaller in the top byte", point(0xff, 0xff, 0x7e), true),
        ("zero", point(0, 0, 0), true),
    ] {
        assert_eq!(is_canonical(&point), expected, "{name}");
    }
}

/// A coordinate that begins with a zero byte, written without it.
#[test]
fn coordinates_may_lack_their_leading_zeros() {
    let (full, short) = loop {
        let key = TestKey::p256().jwk("k");
        let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
        if x[0] == 0 {
            let short = with(&key, &json!({ "x": b64(&x[1..]) }));
            break (key, short);
        }
    };
    let identity = |jwk: &Value| VerificationKey::read(jwk).unwrap().identity();
    assert_eq!(identity(&full), identity(&short));
}
