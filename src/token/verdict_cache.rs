//! Verdict cache: valid tokens, by their digest.
//!
//! Caches the caller's identity, never an authorization decision, which depends on the route. The
//! owner of the cache chooses the value (`T`) that is kept for a token. Expiry only frees memory:
//! each lookup checks again that the token has not expired, that its issuer's verifier is the same,
//! and that the [basis](Basis) of the verdict still holds. Invalid tokens are not cached, because
//! an attacker can send any number of them.

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

/// The estimated memory of all verdicts, in bytes: about 20 000 tokens of usual size.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The initial capacity, in entries. When the cache grows, it moves all entries, and a request
/// would wait for that.
const INITIAL_ENTRIES: usize = 16 * 1024;

/// The estimated memory of a cache entry besides its value, in bytes.
const ENTRY_BYTES: usize = 512;

/// A cache of verdicts on tokens of all issuers.
pub struct VerdictCache<T>(Cache<TokenDigest, Arc<Verdict<T>>, BuildHasherDefault<DigestHasher>>);

/// The verdict that a token is valid, with the value that is kept for it.
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
    /// How long the cache keeps the entry, which only frees memory.
    keep_for: Duration,
}

/// The evidence that a token is valid.
#[derive(Debug)]
enum Basis {
    /// A signature by this key. The verdict ends when the key leaves the issuer's key set.
    Key {
        identity: KeyIdentity,
        /// The newest key set that is known to contain the key, so that each set is searched once.
        generation: AtomicU64,
    },
}

impl<T: Send + Sync + 'static> VerdictCache<T> {
    /// An empty cache.
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

    /// The verdict on the token with this digest. It may no longer hold: see
    /// [`Issuers::revalidate`](super::Issuers::revalidate).
    #[must_use]
    pub fn get(&self, digest: &TokenDigest) -> Option<Arc<Verdict<T>>> {
        self.0.get(digest)
    }

    /// Keeps `value` for the token with this digest. `bytes` is the estimated memory of `value`.
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
    /// The value that is kept for the token.
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
    /// The proof by a signature: the key with `identity` in `keys` verified `principal`'s token at
    /// `now`.
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

    /// Whether the proof holds for this verifier, with these keys, at this time.
    pub(super) fn holds(&self, verifier: u64, keys: &KeySet, now: WallTime) -> bool {
        let in_time = self.valid_from <= now && now < self.expires_at;
        in_time && self.is_vouched_for(verifier, keys)
    }

    /// Whether this verifier and these keys still vouch for the token, expired or not.
    pub(super) fn is_vouched_for(&self, verifier: u64, keys: &KeySet) -> bool {
        self.verifier == verifier && self.basis.holds_in(keys)
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
    fn holds_in(&self, keys: &KeySet) -> bool {
        match self {
            Self::Key { identity, generation } => {
                if generation.load(Ordering::Relaxed) == keys.generation() {
                    return true;
                }
                let holds = keys.contains(*identity);
                if holds {
                    generation.store(keys.generation(), Ordering::Relaxed);
                }
                holds
            }
        }
    }
}

/// Hashes a digest to its first eight bytes. The cache contains only digests of tokens that an
/// issuer has signed, so an attacker cannot choose entries that collide.
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

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use serde_json::json;

    use super::*;
    use crate::primitives::clock::ManualClock;
    use crate::token::raw::RawToken;
    use crate::token::test_support::{NOW, P256, claims_with, idle_settings, jwks, verifier};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn digest(number: u32) -> TokenDigest {
        RawToken::new(&format!("e30.e30.{number}")).digest()
    }

    fn proof(keep_for: Duration) -> Proof {
        let identity = KeySet::read(&jwks(&[P256.jwk("k")])).unwrap().keys()[0].identity();
        Proof {
            verifier: 1,
            basis: Basis::Key { identity, generation: AtomicU64::new(1) },
            valid_from: WallTime::from_seconds(0),
            expires_at: WallTime::from_seconds(NOW),
            keep_for,
        }
    }

    /// A cache with this many verdicts of this estimated size.
    fn filled(count: u32, bytes: usize) -> VerdictCache<()> {
        let (cache, proof) = (VerdictCache::new(), proof(DAY));
        for number in 0..count {
            cache.insert(digest(number), proof.clone(), Arc::new(()), bytes);
        }
        cache.0.run_pending_tasks();
        cache
    }

    /// Threat J-87.
    #[test]
    fn the_cache_is_bounded_by_the_memory_of_its_verdicts() {
        assert_eq!(filled(20_000, 2_800).entry_count(), 20_000, "tokens of usual size");
        assert_eq!(filled(1_000, 60_000).entry_count(), 1_000);
        assert!(filled(2_000, 60_000).entry_count() < 1_200, "60 kB each");
        assert!(filled(140_000, 0).entry_count() < 132_000, "an entry needs memory of its own");
    }

    #[test]
    fn a_verdict_is_kept_until_its_token_expires_and_no_longer_than_a_day() {
        let verifier = verifier(idle_settings(), &ManualClock::at(NOW).clock(), &[P256.jwk("k")]);
        let keys = KeySet::read(&jwks(&[P256.jwk("k")])).unwrap();
        for (expires, expected) in [(NOW + 300, Duration::from_secs(330)), (u64::MAX, DAY)] {
            let principal = verifier.check_claims(claims_with(&json!({ "exp": expires }))).unwrap();
            let identity = keys.keys()[0].identity();
            let proof = Proof::by_key(&principal, 1, identity, &keys, WallTime::from_seconds(NOW));
            let verdict = Arc::new(Verdict { value: Arc::new(()), proof, bytes: 1 });
            let (digest, now) = (digest(1), Instant::now());
            let created = UntilTokenExpires.expire_after_create(&digest, &verdict, now);
            assert_eq!(created, Some(expected), "{expires}");
            let updated = UntilTokenExpires.expire_after_update(&digest, &verdict, now, Some(Duration::ZERO));
            assert_eq!(updated, Some(expected), "{expires}: a newer verdict on the same token");
        }
    }

    /// A cache whose keys all have one hash would be searched entry by entry.
    #[test]
    fn digests_are_distributed_over_the_cache() {
        let build = BuildHasherDefault::<DigestHasher>::default();
        let hashes: std::collections::HashSet<u64> = (0..100).map(|number| build.hash_one(digest(number))).collect();
        assert_eq!(hashes.len(), 100);
    }
}
