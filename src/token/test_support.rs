//! Keys, tokens and settings for the tests of `token/`. Tokens are signed over any bytes, even if
//! they are not JSON.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::{Algorithm, ClaimSources, IssuerSettings, KeySource, Profile, RefreshTimes, Verifier};
use crate::primitives::clock::Clock;
use crate::telemetry::metrics::{IssuerMetrics, Metrics};

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const ISSUER: &str = "https://idp.test";

/// A certificate of an authority that has signed nothing; valid until 2126.
pub(crate) const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBjDCCATGgAwIBAgIUJmghBotqaxIVRh0VphczeHSSOSswCgYIKoZIzj0EAwIw\n\
GjEYMBYGA1UEAwwPcG9ydGN1bGxpcyB0ZXN0MCAXDTI2MTEyNzAwNTcwM1oYDzIx\n\
MjYxMTAzMDA1NzAzWjAaMRgwFgYDVQQDDA9wb3J0Y3VsbGlzIHRlc3QwWTATBgcq\n\
hkjOPQIBBggqhkjOPQMBBwNCAAQbsWeIurlMJmvAaNkUBhhxa/pYycEAMCcW2E8q\n\
CX3XwkFV6ZeNQPDtrdTasNAuU/GtcRed5JxGdtVp1ZAoImjBo1MwUTAdBgNVHQ4E\n\
FgQUANiFMtnVuap9etohmgQ8lBg2E4swHwYDVR0jBBgwFoAUANiFMtnVuap9etoh\n\
mgQ8lBg2E4swDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA8naf\n\
UOaoNXPQ1/kl8fL61vqjp6ph315G8hSKsqLxIVYCIQC1ra412blAMOAdWaMCortT\n\
6D3qn+0PuWYV5U1D8C25Tw==\n\
-----END CERTIFICATE-----\n";

/// A key pair.
pub(crate) enum TestKey {
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// Generated once, because an RSA key takes long to generate.
pub(crate) static RSA: LazyLock<TestKey> = LazyLock::new(TestKey::rsa);
pub(crate) static OTHER_RSA: LazyLock<TestKey> = LazyLock::new(TestKey::rsa);
pub(crate) static P256: LazyLock<TestKey> = LazyLock::new(TestKey::p256);
pub(crate) static P384: LazyLock<TestKey> =
    LazyLock::new(|| TestKey::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(), "P-384"));
pub(crate) static ED25519: LazyLock<TestKey> = LazyLock::new(|| TestKey::Ed(Ed25519KeyPair::generate().unwrap()));

impl TestKey {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(crate) fn p256() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), "P-256")
    }

    /// The public key as a JWK with the id `kid`.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": b64(x), "y": b64(y), "kid": kid })
            }
            Self::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref()), "kid": kid })
            }
            Self::Rsa(pair) => {
                let public = pair.public_key();
                let n = public.modulus().big_endian_without_leading_zero().to_vec();
                let e = public.exponent().big_endian_without_leading_zero().to_vec();
                json!({ "kty": "RSA", "n": b64(&n), "e": b64(&e), "kid": kid })
            }
        }
    }

    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    Algorithm::Rs384 => &RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &RSA_PSS_SHA256,
                    Algorithm::Ps384 => &RSA_PSS_SHA384,
                    Algorithm::Ps512 => &RSA_PSS_SHA512,
                    Algorithm::Rs256 | Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token over exactly these bytes.
    pub(crate) fn token(&self, algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
        let signed = format!("{}.{}", b64(header), b64(payload));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", b64(&signature))
    }

    /// An RS256 token with the key id `kid`.
    pub(crate) fn rs256(&self, kid: &str, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "kid": kid, "typ": "JWT" });
        self.token(Algorithm::Rs256, header.to_string().as_bytes(), claims.to_string().as_bytes())
    }
}

pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

/// `base` with some members changed; `null` removes a member.
pub(crate) fn with(base: &Value, changes: &Value) -> Value {
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

pub(crate) fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "api", "sub": "alice", "exp": NOW + 300, "iat": NOW - 1, "scope": "orders:read orders:write" })
}

/// [`claims`] with some of them changed; `null` removes a claim.
pub(crate) fn claims_with(changes: &Value) -> Map<String, Value> {
    let (Value::Object(mut claims), Value::Object(changes)) = (claims(), changes.clone()) else { unreachable!() };
    for (name, value) in changes {
        if value.is_null() {
            claims.remove(&name)
        } else {
            claims.insert(name, value)
        };
    }
    claims
}

pub(crate) fn settings(keys: KeySource) -> IssuerSettings {
    IssuerSettings {
        name: "main".into(),
        issuer: ISSUER.into(),
        audiences: vec!["api".to_owned(), "api-2".to_owned()],
        algorithms: vec![Algorithm::Rs256],
        profile: Profile::Default,
        leeway: Duration::from_secs(30),
        max_lifetime: None,
        keys,
        ca_file: None,
        allow_http: false,
        claims: ClaimSources::default(),
        times: RefreshTimes {
            refresh: Duration::from_secs(900),
            cooldown: Duration::from_secs(30),
            max_stale: Duration::from_secs(24 * 60 * 60),
        },
    }
}

/// Settings for tests that fetch no keys.
pub(crate) fn idle_settings() -> IssuerSettings {
    settings(KeySource::JwksUrl("http://127.0.0.1:1/keys".parse().unwrap()))
}

pub(crate) fn metrics() -> IssuerMetrics {
    Metrics::new(Clock::system()).issuer("main")
}

/// A verifier with these keys, without a loop that fetches others.
pub(crate) fn verifier(settings: IssuerSettings, clock: &Clock, keys: &[Value]) -> Arc<Verifier> {
    let verifier = Verifier::new(settings, clock.clone(), metrics()).unwrap();
    verifier.keys().put(&jwks(keys));
    verifier
}
