//! JWK Set (RFC 7517 §5): parses the keys that an identity provider publishes.
//!
//! Each key is accepted or rejected on its own. A key that is not for signatures, unsupported, too
//! weak, malformed or even private is rejected and counted. It neither affects the other keys nor
//! ever becomes a symmetric key. The resulting set is immutable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use serde_json::Value;

use super::algorithm::{Algorithm, Family};
use super::jwk::{self, MAX_KID_BYTES, Material, ParsedKeys};
use super::key_rejection::KeyRejection;
use super::provider_document::{self, DocumentFault};

/// Most keys that are read from a set; the rest is skipped. Most issuers publish two to five; some
/// publish one for each client.
pub(super) const MAX_KEYS: usize = 500;

/// Most keys that a signature is checked against. Keys may share an id, and a token may name none.
pub(super) const MAX_CANDIDATES: usize = 8;

/// Why a document is not a usable key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// Not a JSON object with unique members and an array `keys`.
    #[error("the issuer's key set is malformed{0}")]
    Malformed(DocumentFault),
    /// `keys` is empty.
    #[error("the issuer's key set is empty")]
    Empty,
    /// None of the keys can verify a token.
    #[error("none of the {keys} keys in the issuer's key set can be used{}", first_reason(*rejection))]
    NoneUsable {
        /// How many there are.
        keys: usize,
        /// Why the first one was rejected.
        rejection: KeyRejection,
    },
}

fn first_reason(rejection: KeyRejection) -> String {
    format!("; the first: {}", rejection.label())
}

/// Identifies a key by its id, its material and its purpose. A new key under the same id has
/// another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIdentity([u8; 32]);

/// A public key that may verify tokens.
#[derive(Clone)]
pub struct VerificationKey {
    kid: Option<Box<str>>,
    family: Family,
    /// The one that the JWK names; `None` allows every algorithm of the family.
    only: Option<Algorithm>,
    parsed: ParsedKeys,
    identity: KeyIdentity,
}

/// An issuer's keys as of one fetch. Immutable; contains neither symmetric nor private keys.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    rejected: BTreeMap<KeyRejection, usize>,
    generation: u64,
}

/// The keys that may have signed a token.
#[derive(Clone, Debug)]
pub enum KeyLookup<'a> {
    /// At least one key, and at most [`MAX_CANDIDATES`].
    Found(Vec<&'a VerificationKey>),
    /// More than [`MAX_CANDIDATES`]: the first of them.
    TooMany(Vec<&'a VerificationKey>),
    /// A key has that id, but none of that id is for that algorithm.
    AlgorithmMismatch,
    /// No key has that id; or the token names no id, and no key is for its algorithm.
    NotFound,
}

impl VerificationKey {
    /// Parses one element of `keys` (RFC 7517 §4).
    ///
    /// # Errors
    ///
    /// [`KeyRejection`].
    pub fn read(jwk: &Value) -> Result<Self, KeyRejection> {
        let Value::Object(jwk) = jwk else { return Err(KeyRejection::Malformed) };
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_KID_BYTES => Some(kid.as_str()),
            Some(_) => return Err(KeyRejection::KeyId),
        };
        let material = Material::read(jwk)?;
        let only = jwk::only_algorithm(jwk, material.family())?;
        let algorithms = Algorithm::ALL.into_iter().filter(|algorithm| only.is_none_or(|only| only == *algorithm));
        Ok(Self {
            kid: kid.map(Box::from),
            family: material.family(),
            only,
            identity: identity(kid, only, &material),
            parsed: material.parse_for(algorithms)?,
        })
    }

    /// The key id.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> KeyIdentity {
        self.identity
    }

    /// Whether the key may be used with `algorithm`. The key decides; the token's header must agree
    /// (RFC 8725 §3.1).
    #[must_use]
    pub fn allows(&self, algorithm: Algorithm) -> bool {
        match self.only {
            Some(only) => only == algorithm,
            None => self.family == algorithm.family(),
        }
    }

    /// Whether this key made `signature` over `signed`. Costs one public-key operation. Always
    /// `false` if the key does not allow `algorithm`.
    #[must_use]
    pub fn verifies(&self, signature: &[u8], signed: &[u8], algorithm: Algorithm) -> bool {
        self.allows(algorithm) && self.parsed.verifies(signature, signed, algorithm)
    }
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("VerificationKey")
            .field("kid", &self.kid)
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// Parses a JWK Set.
    ///
    /// # Errors
    ///
    /// [`JwksError`], also if no key in it is usable.
    pub fn read(document: &[u8]) -> Result<Self, JwksError> {
        let document = provider_document::read(document).map_err(JwksError::Malformed)?;
        let Some(Value::Array(jwks)) = document.get("keys") else {
            return Err(JwksError::Malformed(DocumentFault::Members));
        };
        if jwks.is_empty() {
            return Err(JwksError::Empty);
        }
        let (mut keys, mut rejected, mut first_rejection) = (Vec::<VerificationKey>::new(), BTreeMap::new(), None);
        if jwks.len() > MAX_KEYS {
            rejected.insert(KeyRejection::BeyondLimit, jwks.len() - MAX_KEYS);
        }
        for jwk in jwks.iter().take(MAX_KEYS) {
            match VerificationKey::read(jwk) {
                Ok(key) if keys.iter().any(|other| other.identity == key.identity) => {}
                Ok(key) => keys.push(key),
                Err(rejection) => {
                    *rejected.entry(rejection).or_insert(0) += 1;
                    first_rejection.get_or_insert(rejection);
                }
            }
        }
        match first_rejection {
            Some(rejection) if keys.is_empty() => Err(JwksError::NoneUsable { keys: jwks.len(), rejection }),
            Some(_) | None => Ok(Self { keys, rejected, generation: next_generation() }),
        }
    }

    /// The keys that may have signed a token with this header.
    ///
    /// Compares ids exactly. Without an id in the token, or if keys share an id, returns all keys
    /// that allow the algorithm, or the first of them. All of them belong to the issuer, so it does
    /// not matter which one verifies the signature.
    #[must_use]
    pub fn lookup(&self, kid: Option<&str>, algorithm: Algorithm) -> KeyLookup<'_> {
        let mut named = self.keys.iter().filter(|key| kid.is_none() || key.kid() == kid).peekable();
        if named.peek().is_none() {
            return KeyLookup::NotFound;
        }
        let mut allowing = named.filter(|key| key.allows(algorithm));
        let allowed: Vec<_> = allowing.by_ref().take(MAX_CANDIDATES).collect();
        if allowing.next().is_some() {
            return KeyLookup::TooMany(allowed);
        }
        match (allowed.is_empty(), kid) {
            (false, _) => KeyLookup::Found(allowed),
            (true, Some(_)) => KeyLookup::AlgorithmMismatch,
            (true, None) => KeyLookup::NotFound,
        }
    }

    /// The keys, in the order of the document.
    #[must_use]
    pub fn keys(&self) -> &[VerificationKey] {
        &self.keys
    }

    /// How many keys were rejected, and why.
    #[must_use]
    pub fn rejected(&self) -> &BTreeMap<KeyRejection, usize> {
        &self.rejected
    }

    /// A number that is unique within this process.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether this set contains the key.
    #[must_use]
    pub fn contains(&self, identity: KeyIdentity) -> bool {
        self.keys.iter().any(|key| key.identity == identity)
    }

    /// Whether both sets contain the same keys.
    #[must_use]
    pub fn has_same_keys(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len() && self.keys.iter().all(|key| other.contains(key.identity))
    }
}

fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

fn identity(kid: Option<&str>, only: Option<Algorithm>, material: &Material) -> KeyIdentity {
    let mut context = digest::Context::new(&digest::SHA256);
    // A length before each part makes the encoding unambiguous.
    for part in [
        kid.map_or(&b""[..], |_| b"named"),
        kid.unwrap_or_default().as_bytes(),
        only.map_or("", Algorithm::name).as_bytes(),
    ]
    .into_iter()
    .chain(material.parts())
    {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    KeyIdentity(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests;
