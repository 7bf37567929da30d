//! Tokens made by hand: any byte of header and payload can be wrong while the signature is real.
//!
//! Signs raw bytes with aws-lc-rs and uses no JWT library, because a library would limit which
//! tokens a test can make.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::clock::Clock;
use serde_json::{Map, Value, json};

/// base64url without padding (RFC 7515 §2).
pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A signing key with its `kid` and the `alg` that it signs with.
///
/// The same kind and `kid` give the same key in the whole process, because generating an RSA key
/// takes longer than most tests. For a second key with the `kid` of the first:
/// `TestKey::rsa("k2").with_kid("k1")`.
#[derive(Clone)]
pub(crate) struct TestKey {
    kid: String,
    algorithm: &'static str,
    secret: Arc<PrivateKey>,
}

enum PrivateKey {
    Ed25519(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Es384(EcdsaKeyPair),
    Hmac(Vec<u8>),
    Rsa(RsaKeyPair),
}

impl TestKey {
    /// RSA, 2048 bits. Signs with RS256 unless [`with_algorithm`](Self::with_algorithm) changes it.
    pub(crate) fn rsa(kid: &str) -> Self {
        let make = || PrivateKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key can be made"));
        Self::shared(kid, "RS256", make)
    }

    pub(crate) fn es256(kid: &str) -> Self {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        Self::shared(kid, "ES256", || {
            PrivateKey::Es256(EcdsaKeyPair::generate(algorithm).expect("a P-256 key can be made"))
        })
    }

    pub(crate) fn es384(kid: &str) -> Self {
        let algorithm = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        Self::shared(kid, "ES384", || {
            PrivateKey::Es384(EcdsaKeyPair::generate(algorithm).expect("a P-384 key can be made"))
        })
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        Self::shared(kid, "EdDSA", || {
            PrivateKey::Ed25519(Ed25519KeyPair::generate().expect("an Ed25519 key can be made"))
        })
    }

    /// HS256 with `secret`: for the attack that signs with the bytes of a *public* key.
    pub(crate) fn hs256(kid: &str, secret: impl Into<Vec<u8>>) -> Self {
        Self { kid: kid.to_owned(), algorithm: "HS256", secret: Arc::new(PrivateKey::Hmac(secret.into())) }
    }

    fn shared(kid: &str, algorithm: &'static str, make: impl FnOnce() -> PrivateKey) -> Self {
        type Keys = BTreeMap<(&'static str, String), Arc<OnceLock<Arc<PrivateKey>>>>;
        static KEYS: LazyLock<Mutex<Keys>> = LazyLock::new(Mutex::default);
        // The key is generated outside the map's lock, so that tests that need other keys do not
        // wait for it.
        let slot = {
            let mut keys = KEYS.lock().expect("no thread panics while it holds this lock");
            Arc::clone(keys.entry((algorithm, kid.to_owned())).or_default())
        };
        Self { kid: kid.to_owned(), algorithm, secret: Arc::clone(slot.get_or_init(|| Arc::new(make()))) }
    }

    /// The same key under another `kid`.
    pub(crate) fn with_kid(mut self, kid: &str) -> Self {
        kid.clone_into(&mut self.kid);
        self
    }

    /// The same RSA key with another of its algorithms: `RS384`, `RS512`, `PS256`, `PS384`,
    /// `PS512`.
    pub(crate) fn with_algorithm(mut self, algorithm: &'static str) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half as a JWK (RFC 7517; RFC 7518 §6, RFC 8037 §2) with `kid`, `use` and `alg`.
    ///
    /// # Panics
    ///
    /// For a symmetric key: it has no public half.
    pub(crate) fn public_jwk(&self) -> Value {
        let mut jwk = match &*self.secret {
            PrivateKey::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key())}),
            PrivateKey::Es256(pair) => curve_jwk("P-256", pair),
            PrivateKey::Es384(pair) => curve_jwk("P-384", pair),
            PrivateKey::Hmac(_) => panic!("a symmetric key is never published"),
            PrivateKey::Rsa(pair) => json!({
                "kty": "RSA",
                "n": base64url(pair.public_key().modulus().big_endian_without_leading_zero()),
                "e": base64url(pair.public_key().exponent().big_endian_without_leading_zero()),
            }),
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm);
        jwk
    }

    /// Signs `message` with this key's JWS algorithm (RFC 7518 §3).
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &*self.secret {
            PrivateKey::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            PrivateKey::Es256(pair) | PrivateKey::Es384(pair) => {
                pair.sign(&random, message).expect("ECDSA signs any message").as_ref().to_vec()
            }
            PrivateKey::Hmac(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
            PrivateKey::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match self.algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    other => panic!("an RSA key does not sign {other}"),
                };
                let mut signed = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signed).expect("RSA signs any message");
                signed
            }
        }
    }
}

fn curve_jwk(curve: &str, pair: &EcdsaKeyPair) -> Value {
    // SEC 1 §2.3.3: one byte 4, then both coordinates.
    let coordinates = &pair.public_key().as_ref()[1..];
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
}

impl fmt::Debug for TestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestKey({} {})", self.algorithm, self.kid)
    }
}

/// Builds one token. Starts as a good access token (RFC 9068): `typ` `at+jwt`, audience `api`,
/// subject `alice`, scope `orders:read`, issued now and valid for 300 s. `alg` and `kid` come from
/// the signing key.
#[derive(Clone, Debug)]
pub(crate) struct TokenBuilder {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    without_header: Vec<String>,
    raw_header: Option<Vec<u8>>,
    raw_payload: Option<Vec<u8>>,
}

impl TokenBuilder {
    /// A good token of `issuer` by the system clock.
    pub(crate) fn new(issuer: &str) -> Self {
        Self::at(issuer, Clock::system().now().seconds())
    }

    /// A good token of `issuer` at `now`, in seconds since the Unix epoch: for a gateway with a
    /// manual clock.
    pub(crate) fn at(issuer: &str, now: u64) -> Self {
        Self { header: Map::new(), claims: Map::new(), without_header: Vec::new(), raw_header: None, raw_payload: None }
            .header("typ", "at+jwt")
            .claim("iss", issuer)
            .claim("aud", "api")
            .claim("sub", "alice")
            .claim("iat", now)
            .claim("exp", now + 300)
            .scope("orders:read")
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without(mut self, claim: &str) -> Self {
        self.claims.remove(claim);
        self
    }

    /// The scopes, separated by spaces.
    pub(crate) fn scope(self, scope: &str) -> Self {
        self.claim("scope", scope)
    }

    /// Sets a member of the header, in place of the signing key's `alg` or `kid`.
    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a member of the header; also works for `alg` and `kid`.
    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self.without_header.push(name.to_owned());
        self
    }

    /// Makes these bytes the header, before base64url. All other settings of the header are
    /// ignored.
    pub(crate) fn raw_header(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.raw_header = Some(bytes.into());
        self
    }

    /// Makes these bytes the payload, before base64url. All claims are ignored.
    pub(crate) fn raw_payload(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.raw_payload = Some(bytes.into());
        self
    }

    /// The token in compact form (RFC 7515 §7.1).
    pub(crate) fn sign(&self, key: &TestKey) -> String {
        let unsigned = self.signing_input(Some((key.algorithm, &key.kid)));
        let signature = base64url(key.sign(unsigned.as_bytes()));
        format!("{unsigned}.{signature}")
    }

    /// The token, signed with the RSA key `k1`, which an `Idp` publishes unless a test changes its
    /// keys.
    pub(crate) fn to_jwt(&self) -> String {
        self.sign(&TestKey::rsa("k1"))
    }

    /// The value of `Authorization` with [`to_jwt`](Self::to_jwt).
    pub(crate) fn to_bearer(&self) -> String {
        format!("Bearer {}", self.to_jwt())
    }

    /// The token with nothing after its second dot, as with the algorithm `none` (RFC 7515 §A.5).
    pub(crate) fn unsigned(&self) -> String {
        format!("{}.", self.signing_input(None))
    }

    fn signing_input(&self, key: Option<(&str, &str)>) -> String {
        let header = self.raw_header.clone().unwrap_or_else(|| {
            let mut header = self.header.clone();
            if let Some((algorithm, kid)) = key {
                header.entry("alg").or_insert_with(|| json!(algorithm));
                header.entry("kid").or_insert_with(|| json!(kid));
            }
            header.retain(|name, _| !self.without_header.contains(name));
            json!(header).to_string().into_bytes()
        });
        let payload = self.raw_payload.clone().unwrap_or_else(|| json!(self.claims).to_string().into_bytes());
        format!("{}.{}", base64url(header), base64url(payload))
    }
}
