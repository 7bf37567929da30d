//! JWK (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2): reads the key material of one published key and
//! checks it.
//!
//! This file or the crypto library checks form, size and that a point is on its curve. Neither
//! checks how a modulus was generated (shared or patterned primes): the issuer is responsible for
//! that, and its keys come over an authenticated connection.

use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Family};
use super::key_rejection::KeyRejection;

/// Longest key id that is looked up, in bytes. Thumbprints have 43 characters; the longest ids in
/// practice have fewer than 100.
pub(super) const MAX_KID_BYTES: usize = 256;

type Jwk = Map<String, Value>;

/// The numbers of a public key.
pub(super) enum Material {
    /// An uncompressed point (SEC 1 §2.3.3).
    Ec { family: Family, point: Vec<u8> },
    /// RFC 8032 §5.1.5.
    Ed25519 { point: Vec<u8> },
    /// Big-endian, without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

impl Material {
    /// Reads a key, which must be for verifying signatures.
    pub(super) fn read(jwk: &Jwk) -> Result<Self, KeyRejection> {
        let kty = jwk.get("kty").and_then(Value::as_str).ok_or(KeyRejection::KeyType)?;
        if kty == "oct" {
            return Err(KeyRejection::Symmetric);
        }
        // RFC 7518 §6.2.2, §6.3.2, §6.4.1.
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|member| jwk.contains_key(*member)) {
            return Err(KeyRejection::Private);
        }
        check_purpose(jwk)?;
        match kty {
            "EC" => ec(jwk),
            "OKP" => okp(jwk),
            "RSA" => rsa(jwk),
            _ => Err(KeyRejection::KeyType),
        }
    }

    pub(super) fn family(&self) -> Family {
        match self {
            Self::Ec { family, .. } => *family,
            Self::Ed25519 { .. } => Family::Ed25519,
            Self::Rsa { .. } => Family::Rsa,
        }
    }

    /// The parts that distinguish this key from all others.
    pub(super) fn parts(&self) -> [&[u8]; 3] {
        match self {
            Self::Ec { family: _, point } => [b"EC", point, b""],
            Self::Ed25519 { point } => [b"OKP", point, b""],
            Self::Rsa { modulus, exponent } => [b"RSA", modulus, exponent],
        }
    }

    /// The key, parsed for each of `algorithms` that is for this family of keys.
    pub(super) fn parse_for(&self, algorithms: impl Iterator<Item = Algorithm>) -> Result<ParsedKeys, KeyRejection> {
        let fitting = algorithms.filter(|algorithm| algorithm.family() == self.family());
        let parsed = fitting.map(|algorithm| self.parse(algorithm).map(|key| (algorithm, key)));
        parsed.collect::<Result<_, _>>().map(ParsedKeys)
    }

    fn parse(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, KeyRejection> {
        match (self, SignatureScheme::of(algorithm)) {
            (Self::Ec { point, .. } | Self::Ed25519 { point }, SignatureScheme::Point(how)) => {
                ParsedPublicKey::new(how, point).map_err(|_| KeyRejection::Point)
            }
            (Self::Rsa { modulus, exponent }, SignatureScheme::Rsa(how)) => {
                let components = RsaPublicKeyComponents { n: modulus, e: exponent };
                components.to_parsed_public_key(how).map_err(|_| KeyRejection::Modulus)
            }
            (Self::Ec { .. } | Self::Ed25519 { .. }, SignatureScheme::Rsa(_))
            | (Self::Rsa { .. }, SignatureScheme::Point(_)) => Err(KeyRejection::Algorithm),
        }
    }
}

/// One key, parsed once per key set for each algorithm that it may verify. Parsing an RSA key for
/// each signature would be a third of the cost of a verification.
#[derive(Clone)]
pub(super) struct ParsedKeys(Arc<[(Algorithm, ParsedPublicKey)]>);

impl ParsedKeys {
    /// Whether `signature` is a valid signature of `signed` by this key. `false` if the key is not
    /// for `algorithm`.
    pub(super) fn verifies(&self, signature: &[u8], signed: &[u8], algorithm: Algorithm) -> bool {
        let key = self.0.iter().find(|(parsed_for, _)| *parsed_for == algorithm);
        key.is_some_and(|(_, key)| key.verify_sig(signed, signature).is_ok())
    }
}

/// How signatures of an algorithm are verified, by the kind of key.
#[derive(Clone, Copy)]
enum SignatureScheme {
    /// ECDSA with signatures of fixed length (RFC 7518 §3.4), and Ed25519.
    Point(&'static dyn VerificationAlgorithm),
    /// At least 2048 bits; with PSS, a salt as long as the digest (RFC 7518 §3.3, §3.5).
    Rsa(&'static RsaParameters),
}

impl SignatureScheme {
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Es256 => Self::Point(&ECDSA_P256_SHA256_FIXED),
            Algorithm::Es384 => Self::Point(&ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDsa => Self::Point(&ED25519),
            Algorithm::Rs256 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Self::Rsa(&RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Self::Rsa(&RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Self::Rsa(&RSA_PSS_2048_8192_SHA512),
        }
    }
}

/// The only algorithm that the key may be used with (RFC 7517 §4.4). `None` if it may be used with
/// any algorithm of its family.
pub(super) fn only_algorithm(jwk: &Jwk, family: Family) -> Result<Option<Algorithm>, KeyRejection> {
    match jwk.get("alg") {
        None => Ok(None),
        Some(Value::String(name)) => match Algorithm::parse(name) {
            Some(algorithm) if algorithm.family() == family => Ok(Some(algorithm)),
            Some(_) | None => Err(KeyRejection::Algorithm),
        },
        Some(_) => Err(KeyRejection::Algorithm),
    }
}

/// RFC 7517 §4.2, §4.3: both `use` and `key_ops` are optional, but must allow verifying signatures
/// if they are present.
fn check_purpose(jwk: &Jwk) -> Result<(), KeyRejection> {
    if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
        return Err(KeyRejection::Use);
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => Ok(()),
        Some(_) => Err(KeyRejection::KeyOperations),
    }
}

/// RFC 7518 §6.2.1: coordinates have the full length of the field. Some issuers leave leading zeros
/// out or add some, which changes nothing about the number.
fn ec(jwk: &Jwk) -> Result<Material, KeyRejection> {
    let (family, bytes, algorithm): (_, usize, &'static dyn VerificationAlgorithm) = match curve(jwk)? {
        "P-256" => (Family::EcP256, 32, &ECDSA_P256_SHA256_FIXED),
        "P-384" => (Family::EcP384, 48, &ECDSA_P384_SHA384_FIXED),
        _ => return Err(KeyRejection::Curve),
    };
    let mut point = vec![4];
    for member in ["x", "y"] {
        let coordinate = number(jwk, member)?;
        let zeros = bytes.checked_sub(coordinate.len()).ok_or(KeyRejection::Point)?;
        point.resize(point.len() + zeros, 0);
        point.extend(coordinate);
    }
    // Parsing includes the check that the point is on the curve.
    parsed(algorithm, &point).ok_or(KeyRejection::Point)?;
    Ok(Material::Ec { family, point })
}

/// RFC 8037 §2.
fn okp(jwk: &Jwk) -> Result<Material, KeyRejection> {
    if curve(jwk)? != "Ed25519" {
        return Err(KeyRejection::Curve);
    }
    let point = octets(jwk, "x")?;
    let bytes: &[u8; 32] = point.as_slice().try_into().map_err(|_| KeyRejection::Point)?;
    // A point that is not on the curve verifies no signature. A point of small order could verify
    // many, and the library does not refuse it.
    if !is_canonical(bytes) || has_small_order(bytes) || parsed(&ED25519, &point).is_none() {
        return Err(KeyRejection::Point);
    }
    Ok(Material::Ed25519 { point })
}

/// The smallest and largest accepted modulus, in bits. RFC 7518 §3.3 requires 2048; above 8192 a
/// verification is too slow, and the library refuses the key.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// RFC 7518 §6.3.1 allows no leading zero octets in modulus and exponent; some issuers write them
/// all the same, because their libraries add one to show that the number is positive.
fn rsa(jwk: &Jwk) -> Result<Material, KeyRejection> {
    let (modulus, exponent) = (number(jwk, "n")?, number(jwk, "e")?);
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !is_odd(&modulus) || !MODULUS_BITS.contains(&bits(&modulus)) {
        return Err(KeyRejection::Modulus);
    }
    // 33 bits is the limit of the library. With an exponent of 1, every signature would be its own
    // message.
    if !is_odd(&exponent) || exponent == [1] || bits(&exponent) > 33 {
        return Err(KeyRejection::Exponent);
    }
    let components = RsaPublicKeyComponents { n: &modulus, e: &exponent };
    if components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_err() {
        return Err(KeyRejection::Modulus);
    }
    Ok(Material::Rsa { modulus, exponent })
}

/// The length in bits of a big-endian number without leading zeros.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn curve(jwk: &Jwk) -> Result<&str, KeyRejection> {
    jwk.get("crv").and_then(Value::as_str).ok_or(KeyRejection::Curve)
}

/// A big-endian number, without leading zeros.
fn number(jwk: &Jwk, member: &str) -> Result<Vec<u8>, KeyRejection> {
    let mut octets = octets(jwk, member)?;
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets.drain(..zeros);
    Ok(octets)
}

/// RFC 7518 §2 requires base64url without padding. Padding and the standard alphabet (RFC 4648 §4)
/// are accepted too: some issuers write them, and unlike in a token, nothing depends on there being
/// one spelling only. The key's identity is computed from the octets.
fn octets(jwk: &Jwk, member: &str) -> Result<Vec<u8>, KeyRejection> {
    let text = jwk.get(member).and_then(Value::as_str).ok_or(KeyRejection::Malformed)?;
    let url_safe = |byte| match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    };
    let text: Vec<u8> = text.trim_end_matches('=').bytes().map(url_safe).collect();
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyRejection::Malformed)
}

fn parsed(algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]) -> Option<ParsedPublicKey> {
    ParsedPublicKey::new(algorithm, bytes).ok()
}

/// RFC 8032 §5.1.3: `y`, little-endian without the uppermost bit, is below 2^255 - 19.
fn is_canonical(point: &[u8; 32]) -> bool {
    let top_is_full = point[31] & 0x7f == 0x7f && point[1..31].iter().all(|byte| *byte == 0xff);
    !(top_is_full && point[0] >= 0xed)
}

/// Whether eight times the point is the neutral element: `y` is 0, 1, -1, or the `y` of a point of
/// order eight.
fn has_small_order(point: &[u8; 32]) -> bool {
    const ZERO: [u8; 32] = [0; 32];
    const ONE: [u8; 32] = {
        let mut one = [0; 32];
        one[0] = 1;
        one
    };
    const MINUS_ONE: [u8; 32] = {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    };
    const EIGHTH: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    const MINUS_EIGHTH: [u8; 32] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ];
    // The uppermost bit is the sign of `x`, and a point and its negative have the same order.
    let mut unsigned = *point;
    unsigned[31] &= 0x7f;
    [ZERO, ONE, MINUS_ONE, EIGHTH, MINUS_EIGHTH].contains(&unsigned)
}

#[cfg(test)]
mod tests;
