//! JWK Set (RFC 7517 §5): from what an identity provider publishes to the keys that may verify a token.
//!
//! Keys are taken one by one. One that is not for signatures, of a kind that is not supported, too weak, malformed or even private is left
//! out and counted; it never loses the others, and it never becomes a symmetric key. What is left is immutable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use serde_json::Value;

use super::algorithm::{Algorithm, Family};
use super::header::MAX_KID_BYTES;
use super::jwk::{self, Material, ParsedKeys};
use super::raw::Signature;
use super::strict_json;

/// Most keys in a set. Issuers publish two to five; what is far beyond is a mistake, and each unknown token would be tried against them.
const MAX_KEYS: usize = 100;

/// Most keys that one token is tried against: keys may share a name, and a token may name none.
const MAX_CANDIDATES: usize = 8;

/// Why a document is no usable key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// Not a JSON object with an array `keys`, or a member occurs twice.
    #[error("key set is malformed")]
    Malformed,
    /// `keys` is empty.
    #[error("key set is empty")]
    Empty,
    /// None of the keys can verify a token.
    #[error("none of the {keys} keys in the set can be used{}", first_reason(*why))]
    NoneUsable {
        /// How many there are.
        keys: usize,
        /// Why the first is not.
        why: Skip,
    },
    /// More than [`MAX_KEYS`].
    #[error("key set has {keys} keys, more than {MAX_KEYS}")]
    TooMany {
        /// How many there are.
        keys: usize,
    },
}

fn first_reason(why: Skip) -> String {
    format!("; the first: {}", why.label())
}

/// Why a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Skip {
    /// `alg` is no supported one, or not one for this kind of key.
    Algorithm,
    /// `crv` is not supported, or not of this `kty`.
    Curve,
    /// An RSA exponent that is 1, even or longer than 33 bits.
    Exponent,
    /// `kid` is no string, or too long.
    KeyId,
    /// `key_ops` without `verify`.
    KeyOperations,
    /// `kty` is missing or not supported.
    KeyType,
    /// A member is missing, of the wrong type, or no strict base64url.
    Malformed,
    /// An RSA modulus that is even, has leading zeros, or not 2048 to 8192 bits.
    Modulus,
    /// Not a point of the curve, or one of small order.
    Point,
    /// Has private members: the issuer has published what it signs with.
    Private,
    /// `kty` is `oct`.
    Symmetric,
    /// `use` is not `sig`.
    Use,
}

impl Skip {
    /// One of a fixed list of texts, for the log.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm not supported",
            Self::Curve => "curve not supported",
            Self::Exponent => "bad RSA exponent",
            Self::KeyId => "bad key id",
            Self::KeyOperations => "not for verifying",
            Self::KeyType => "key type not supported",
            Self::Malformed => "malformed",
            Self::Modulus => "bad RSA modulus",
            Self::Point => "bad point",
            Self::Private => "private key published",
            Self::Symmetric => "symmetric",
            Self::Use => "not for signatures",
        }
    }
}

/// What makes a key this key: its name, its material and what it is for. A key that is replaced under its name has another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIdentity([u8; 32]);

/// A public key that may verify tokens.
#[derive(Clone)]
pub struct VerificationKey {
    kid: Option<Box<str>>,
    family: Family,
    /// The one that the JWK names; otherwise any of the family.
    only: Option<Algorithm>,
    parsed: ParsedKeys,
    identity: KeyIdentity,
}

/// An issuer's keys as of one fetch. Immutable; holds neither symmetric nor private keys.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    skipped: BTreeMap<Skip, usize>,
    generation: u64,
}

/// The keys that a token could have been signed with.
#[derive(Clone, Debug)]
pub enum Candidates<'a> {
    /// These, at least one.
    Some(Vec<&'a VerificationKey>),
    /// A key has that name, but is not for that algorithm.
    Mismatch,
    /// None has that name, or none is for that algorithm where the token names none.
    None,
}

impl VerificationKey {
    /// Reads one member of `keys` (RFC 7517 §4).
    ///
    /// # Errors
    ///
    /// [`Skip`]: why it cannot be used.
    pub fn read(jwk: &Value) -> Result<Self, Skip> {
        let Value::Object(jwk) = jwk else { return Err(Skip::Malformed) };
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_KID_BYTES => Some(kid.as_str()),
            Some(_) => return Err(Skip::KeyId),
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

    /// Its name.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What makes it this key.
    #[must_use]
    pub fn identity(&self) -> KeyIdentity {
        self.identity
    }

    /// Whether it is for `algorithm`: the key decides, the header has to agree (RFC 8725 §3.1).
    #[must_use]
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        match self.only {
            Some(only) => only == algorithm,
            None => self.family == algorithm.family(),
        }
    }

    /// Whether `signature` is this key's over `signed`. Cost: one public-key operation. Never if the key is not for `algorithm`.
    #[must_use]
    pub fn confirms(&self, signature: &Signature<'_>, signed: &[u8], algorithm: Algorithm) -> bool {
        self.is_for(algorithm) && self.parsed.verifies(&signature.bytes, signed, algorithm)
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
    /// Reads a JWK Set.
    ///
    /// # Errors
    ///
    /// [`JwksError`]: a set without a usable key is none.
    pub fn read(document: &[u8]) -> Result<Self, JwksError> {
        let document = strict_json::read_object(document).map_err(|_| JwksError::Malformed)?;
        let Some(Value::Array(jwks)) = document.get("keys") else { return Err(JwksError::Malformed) };
        if jwks.is_empty() {
            return Err(JwksError::Empty);
        }
        if jwks.len() > MAX_KEYS {
            return Err(JwksError::TooMany { keys: jwks.len() });
        }
        let (mut keys, mut skipped, mut first_skip) = (Vec::<VerificationKey>::new(), BTreeMap::new(), None);
        for jwk in jwks {
            match VerificationKey::read(jwk) {
                Ok(key) if keys.iter().any(|other| other.identity == key.identity) => {}
                Ok(key) => keys.push(key),
                Err(why) => {
                    *skipped.entry(why).or_insert(0) += 1;
                    first_skip.get_or_insert(why);
                }
            }
        }
        match first_skip {
            Some(why) if keys.is_empty() => Err(JwksError::NoneUsable { keys: jwks.len(), why }),
            Some(_) | None => Ok(Self { keys, skipped, generation: next_generation() }),
        }
    }

    /// The keys that may have signed a token with this header.
    ///
    /// By name, compared exactly. Without a name, or where keys share one, all that fit the algorithm, at most [`MAX_CANDIDATES`]: all are
    /// the issuer's own, so that it does not matter which of them confirms.
    #[must_use]
    pub fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Candidates<'_> {
        let mut named = self.keys.iter().filter(|key| kid.is_none() || key.kid() == kid).peekable();
        if named.peek().is_none() {
            return Candidates::None;
        }
        let fitting: Vec<_> = named.filter(|key| key.is_for(algorithm)).take(MAX_CANDIDATES).collect();
        match (fitting.is_empty(), kid) {
            (false, _) => Candidates::Some(fitting),
            (true, Some(_)) => Candidates::Mismatch,
            (true, None) => Candidates::None,
        }
    }

    /// Its keys, in the document's order.
    #[must_use]
    pub fn keys(&self) -> &[VerificationKey] {
        &self.keys
    }

    /// How many keys were left out, and why.
    #[must_use]
    pub fn skipped(&self) -> &BTreeMap<Skip, usize> {
        &self.skipped
    }

    /// Another number for each set in this process.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the key is (still) one of this set.
    #[must_use]
    pub fn contains(&self, identity: KeyIdentity) -> bool {
        self.keys.iter().any(|key| key.identity == identity)
    }

    /// Whether the other set has the same keys.
    #[must_use]
    pub fn same_keys(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len() && self.keys.iter().all(|key| other.contains(key.identity))
    }
}

fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

fn identity(kid: Option<&str>, only: Option<Algorithm>, material: &Material) -> KeyIdentity {
    let mut context = digest::Context::new(&digest::SHA256);
    // Each part with its length before it, so that no two different keys give the same text.
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
