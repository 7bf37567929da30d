//! Verdict cache: the valid tokens, by their digest.
//!
//! Caches the caller's identity, never an authorization decision: one token means different things
//! on different routes. The owner of the cache decides what to store for a token (`T`); this file
//! decides how long a verdict is valid. A verdict depends on the time, on the verifier with its
//! settings, and on the [basis](Basis). Each lookup checks all three, instead of relying on the
//! expiry of the entry. Invalid tokens are not cached, because an attacker can make any number of
//! them.

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

use super::claims::MAX_VERDICT_LIFETIME;
use super::jwks::{KeyIdentity, KeySet};
use super::principal::Principal;
use super::raw::TokenDigest;
use crate::primitives::clock::WallTime;

/// The most memory that all verdicts may use, in bytes, by estimate: about 20 000 tokens of usual
/// size.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The number of entries that the cache has room for from the start. Growing moves all entries, and
/// a request would have to wait for that.
const INITIAL_ENTRIES: usize = 16 * 1024;

/// The memory of a verdict apart from its value, in bytes: the cache's own entry.
const ENTRY_BYTES: usize = 512;

/// The verdicts on the tokens of all issuers.
pub struct VerdictCache<T>(Cache<TokenDigest, Arc<Verdict<T>>, BuildHasherDefault<DigestHasher>>);

/// The verdict on a valid token, with the value that the owner of the cache stores for it.
#[derive(Debug)]
pub struct Verdict<T> {
    value: Arc<T>,
    proof: Proof,
    bytes: u32,
}

/// Why a token is valid, and until when.
#[derive(Debug)]
pub struct Proof {
    verifier: u64,
    basis: Basis,
    valid_from: WallTime,
    expires_at: WallTime,
    /// How long the cache keeps the entry, by its own clock. This frees memory; it does not decide
    /// whether the verdict is valid.
    keep_for: Duration,
}

/// The evidence that a token is valid.
#[derive(Debug)]
enum Basis {
    /// A signature by this key. The verdict ends when the key is removed from the issuer's key set.
    Key {
        identity: KeyIdentity,
        /// The newest key set that was seen to have the key, so that each set is searched once.
        generation: AtomicU64,
    },
}

impl<T: Send + Sync + 'static> VerdictCache<T> {
    /// Creates an empty cache.
    #[must_use]
    pub fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(MAX_BYTES)
            .initial_capacity(INITIAL_ENTRIES)
            .weigher(|_, verdict: &Arc<Verdict<T>>| verdict.bytes)
            .expire_after(UntilTokenExpires)
            .build_with_hasher(BuildHasherDefault::default());
        Self(cache)
    }

    /// The approximate number of verdicts.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.0.entry_count()
    }

    /// The verdict on the token with this digest. It may no longer be valid:
    /// [`Issuers::revalidate`](super::Issuers::revalidate) checks that.
    #[must_use]
    pub fn get(&self, digest: &TokenDigest) -> Option<Arc<Verdict<T>>> {
        self.0.get(digest)
    }

    /// Stores `value` for the token with this digest. `bytes` is about how much memory `value`
    /// uses.
    pub fn insert(&self, digest: TokenDigest, proof: Proof, value: Arc<T>, bytes: usize) {
        let bytes = u32::try_from(ENTRY_BYTES + bytes).unwrap_or(u32::MAX);
        self.0.insert(digest, Arc::new(Verdict { value, proof, bytes }));
    }
}

impl<T: Send + Sync + 'static> Default for VerdictCache<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for VerdictCache<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("VerdictCache").field("entries", &self.entry_count()).finish_non_exhaustive()
    }
}

impl<T> Verdict<T> {
    /// The value that was stored for the token.
    #[must_use]
    pub fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// Why the token is valid.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        &self.proof
    }
}

impl Proof {
    /// The proof for `principal`'s token, whose signature by a key of `keys` was verified at `now`.
    pub(super) fn by_key(
        principal: &Principal,
        verifier: u64,
        identity: KeyIdentity,
        keys: &KeySet,
        now: WallTime,
    ) -> Self {
        let (valid_from, expires_at) = (principal.valid_from(), principal.expires_at());
        let keep_for =
            Duration::from_micros(expires_at.micros().saturating_sub(now.micros())).min(MAX_VERDICT_LIFETIME);
        let basis = Basis::Key { identity, generation: AtomicU64::new(keys.generation()) };
        Self { verifier, basis, valid_from, expires_at, keep_for }
    }

    /// The id of the verifier that verified the token.
    pub(super) fn verifier(&self) -> u64 {
        self.verifier
    }

    /// Whether the token is still valid for this verifier, with these keys, at this time.
    pub(super) fn holds(&self, verifier: u64, keys: &KeySet, now: WallTime) -> bool {
        let is_in_time = self.valid_from <= now && now < self.expires_at;
        self.verifier == verifier && is_in_time && self.basis.is_in(keys)
    }
}

impl Clone for Proof {
    fn clone(&self) -> Self {
        let basis = match &self.basis {
            Basis::Key { identity, generation } => {
                Basis::Key { identity: *identity, generation: AtomicU64::new(generation.load(Ordering::Relaxed)) }
            }
        };
        Self { basis, ..*self }
    }
}

impl Basis {
    fn is_in(&self, keys: &KeySet) -> bool {
        match self {
            Self::Key { identity, generation } => {
                if generation.load(Ordering::Relaxed) == keys.generation() {
                    return true;
                }
                let is_in = keys.contains(*identity);
                if is_in {
                    generation.store(keys.generation(), Ordering::Relaxed);
                }
                is_in
            }
        }
    }
}

/// Uses the first eight bytes of a digest as its hash. The cache has only digests of tokens that an
/// issuer has signed, and an attacker cannot choose those.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, prefix: u64) {
        self.0 = prefix;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

struct UntilTokenExpires;

impl<T> Expiry<TokenDigest, Arc<Verdict<T>>> for UntilTokenExpires {
    fn expire_after_create(&self, _: &TokenDigest, verdict: &Arc<Verdict<T>>, _: Instant) -> Option<Duration> {
        Some(verdict.proof.keep_for)
    }

    fn expire_after_update(
        &self,
        _: &TokenDigest,
        verdict: &Arc<Verdict<T>>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(verdict.proof.keep_for)
    }
}
