//! Verdict cache: tokens that were found good, by their digest.
//!
//! Kept is who a token speaks for, never what that one may do. A verdict holds only as long as everything it rests on: the time, the key, and
//! the verifier with its settings; that is asked at each look-up, not trusted to the cache. Bad tokens are not kept: there is no end of them.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use serde_json::{Map, Value};

use super::claims::MAX_TRUST;
use super::jwks::{KeyIdentity, KeySet};
use super::principal::Principal;
use super::raw::TokenDigest;
use crate::primitives::clock::WallTime;

/// Most memory of all verdicts together, in bytes, as estimated: about 20 000 tokens of usual size.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// For so many entries the cache has room from the start: growing means moving all of them, in the middle of somebody's request.
const INITIAL_ENTRIES: usize = 16 * 1024;

/// The verdicts of the process, of all issuers.
pub struct VerdictCache(Cache<TokenDigest, Arc<Verdict>, BuildHasherDefault<Prefix>>);

/// That a token is good, and what that rests on.
#[derive(Debug)]
pub(super) struct Verdict {
    principal: Arc<Principal>,
    verifier: u64,
    key: KeyIdentity,
    /// The newest key set in which the key was seen.
    generation: AtomicU64,
    /// From now, for the cache's own clock; only decides when the memory is given back.
    keep_for: Duration,
    bytes: u32,
}

impl VerdictCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let cache = Cache::builder()
            .max_capacity(MAX_BYTES)
            .initial_capacity(INITIAL_ENTRIES)
            .weigher(|_, verdict: &Arc<Verdict>| verdict.bytes)
            .expire_after(KeepFor)
            .build_with_hasher(BuildHasherDefault::default());
        Arc::new(Self(cache))
    }

    /// About how many verdicts there are.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.0.entry_count()
    }

    pub(super) fn get(&self, digest: &TokenDigest) -> Option<Arc<Verdict>> {
        self.0.get(digest)
    }

    pub(super) fn put(&self, digest: TokenDigest, verdict: Verdict) {
        self.0.insert(digest, Arc::new(verdict));
    }
}

impl std::fmt::Debug for VerdictCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("VerdictCache").field("entries", &self.entries()).finish_non_exhaustive()
    }
}

impl Verdict {
    pub(super) fn new(
        principal: Arc<Principal>,
        verifier: u64,
        key: KeyIdentity,
        generation: u64,
        now: WallTime,
    ) -> Self {
        let keep_for =
            Duration::from_micros(principal.expires_at().micros().saturating_sub(now.micros())).min(MAX_TRUST);
        let bytes = bytes_of(&principal);
        Self { principal, verifier, key, generation: AtomicU64::new(generation), keep_for, bytes }
    }

    /// Who spoke it.
    pub(super) fn verifier(&self) -> u64 {
        self.verifier
    }

    pub(super) fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Whether it holds: for that verifier, with these keys, at that time.
    pub(super) fn holds(&self, verifier: u64, keys: &KeySet, now: WallTime) -> bool {
        let in_time = self.principal.valid_from() <= now && now < self.principal.expires_at();
        self.verifier == verifier && in_time && self.key_is_in(keys)
    }

    fn key_is_in(&self, keys: &KeySet) -> bool {
        if self.generation.load(Ordering::Relaxed) == keys.generation() {
            return true;
        }
        let is_in = keys.contains(self.key);
        if is_in {
            self.generation.store(keys.generation(), Ordering::Relaxed);
        }
        is_in
    }
}

/// The place of a digest in the cache: its first eight bytes. Only digests of tokens that an issuer has signed are in there, and nobody
/// chooses those.
#[derive(Default)]
struct Prefix(u64);

impl Hasher for Prefix {
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

struct KeepFor;

impl Expiry<TokenDigest, Arc<Verdict>> for KeepFor {
    fn expire_after_create(&self, _: &TokenDigest, verdict: &Arc<Verdict>, _: Instant) -> Option<Duration> {
        Some(verdict.keep_for)
    }

    fn expire_after_update(
        &self,
        _: &TokenDigest,
        verdict: &Arc<Verdict>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(verdict.keep_for)
    }
}

/// What a verdict takes, roughly and rather too much: the cache's own part, the principal, its claims and headers.
fn bytes_of(principal: &Principal) -> u32 {
    const FIXED: usize = 1024;
    let names = principal.scopes().iter().chain(principal.roles()).map(|name| name.len() + 32).sum::<usize>();
    let texts =
        principal.subject().len() + principal.audiences().iter().map(|audience| audience.len() + 32).sum::<usize>();
    let headers = principal.ready_headers().iter().map(|(_, value)| value.len() + 96).sum::<usize>();
    u32::try_from(FIXED + names + texts + headers + bytes_of_object(principal.claims())).unwrap_or(u32::MAX)
}

fn bytes_of_object(members: &Map<String, Value>) -> usize {
    // A node of the tree has room for eleven members.
    const MEMBER: usize = 96;
    640 + members.iter().map(|(name, value)| MEMBER + name.len() + bytes_of_value(value)).sum::<usize>()
}

/// Recursion is bounded by the depth that the reader allows.
fn bytes_of_value(value: &Value) -> usize {
    match value {
        Value::Array(items) => 32 + items.iter().map(|item| 32 + bytes_of_value(item)).sum::<usize>(),
        Value::Bool(_) | Value::Null | Value::Number(_) => 0,
        Value::Object(members) => bytes_of_object(members),
        Value::String(text) => 16 + text.len(),
    }
}
