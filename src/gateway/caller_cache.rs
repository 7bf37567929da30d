//! The cache of verified callers: the principal of a token, with its rendered identity headers.
//!
//! The token layer decides whether a verdict still holds; the gateway renders the headers. After a
//! change of `[identity]` the headers of each caller are therefore rendered again, and no token is
//! verified again.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::policy::IdentityHeaders;
use super::policy::identity::RenderedIdentity;
use crate::primitives::clock::Moment;
use crate::telemetry::metrics::Metrics;
use crate::token::{Issuers, Principal, Proof, TokenDigest, VerdictCache, Verification};

/// The caller that a verified token identifies.
#[derive(Debug)]
pub struct VerifiedCaller {
    principal: Principal,
    rendered: RenderedIdentity,
    /// The settings that the headers were rendered with.
    identity: Arc<IdentityHeaders>,
    /// Why the token is valid; `None` if its claims were assumed.
    proof: Option<Proof>,
}

impl VerifiedCaller {
    /// Who is calling.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The identity headers for upstreams.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.rendered.headers
    }

    /// The names of the identity headers that are omitted because their value is too long,
    /// separated by commas.
    #[must_use]
    pub fn omitted_headers(&self) -> Option<&str> {
        self.rendered.omitted.as_deref()
    }

    /// Whether the issuer still vouches for the caller's token at `now`. The token may have
    /// expired: the route decides how long a stream goes on after that.
    #[must_use]
    pub fn is_vouched_for(&self, issuers: &Issuers, now: Moment) -> bool {
        self.proof.as_ref().is_some_and(|proof| issuers.vouches_for(proof, now))
    }

    /// The approximate memory of a header besides its value, in bytes: its name and its array
    /// element.
    const HEADER_BYTES: usize = 96;

    fn estimated_bytes(&self) -> usize {
        let headers = self.headers().iter().map(|(_, value)| Self::HEADER_BYTES + value.len()).sum::<usize>();
        self.principal.estimated_bytes() + headers
    }
}

/// The verified callers of the process. Reloads keep it.
#[derive(Debug)]
pub struct CallerCache {
    verdicts: VerdictCache<VerifiedCaller>,
    metrics: Arc<Metrics>,
}

impl CallerCache {
    /// An empty cache.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { verdicts: VerdictCache::new(), metrics })
    }

    /// Where omitted identity headers are counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The approximate number of callers.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.verdicts.entry_count()
    }

    /// The caller of a token that was verified before, if the verdict still holds at `now`.
    #[must_use]
    pub fn get(
        &self,
        digest: &TokenDigest,
        issuers: &Issuers,
        identity: &Arc<IdentityHeaders>,
        now: Moment,
    ) -> Option<Arc<VerifiedCaller>> {
        let verdict = self.verdicts.get(digest)?;
        if !issuers.revalidate(verdict.proof(), now) {
            return None;
        }
        let caller = verdict.value();
        if Arc::ptr_eq(&caller.identity, identity) {
            return Some(Arc::clone(caller));
        }
        let verification = Verification { principal: caller.principal.clone(), proof: verdict.proof().clone() };
        Some(self.insert(*digest, verification, identity))
    }

    /// Caches and returns the caller of a token that has just been verified.
    pub fn insert(
        &self,
        digest: TokenDigest,
        verification: Verification,
        identity: &Arc<IdentityHeaders>,
    ) -> Arc<VerifiedCaller> {
        let Verification { principal, proof } = verification;
        let caller = self.render_with_proof(principal, identity, Some(proof.clone()));
        self.verdicts.insert(digest, proof, Arc::clone(&caller), caller.estimated_bytes());
        caller
    }

    /// `principal` with its rendered identity headers. Does not cache it.
    #[must_use]
    pub fn render(&self, principal: Principal, identity: &Arc<IdentityHeaders>) -> Arc<VerifiedCaller> {
        self.render_with_proof(principal, identity, None)
    }

    fn render_with_proof(
        &self,
        principal: Principal,
        identity: &Arc<IdentityHeaders>,
        proof: Option<Proof>,
    ) -> Arc<VerifiedCaller> {
        let rendered = identity.render(&principal, &self.metrics);
        Arc::new(VerifiedCaller { principal, rendered, identity: Arc::clone(identity), proof })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gateway::policy::identity::{IdentitySource, TokenSource};
    use crate::primitives::clock::ManualClock;
    use crate::token::test_support::{NOW, P256, claims_with, idle_settings, verifier};

    /// Threat J-87: the cache is bounded by these estimates.
    #[test]
    fn the_estimated_memory_of_a_caller_covers_its_headers() {
        const BYTES: usize = 3_000;
        let clock = ManualClock::at(NOW).clock();
        let issuers = Issuers::new(vec![verifier(idle_settings(), &clock, &[P256.jwk("k")])]);
        let principal = issuers.check_claims(claims_with(&json!({ "sub": "x".repeat(BYTES) }))).unwrap();
        let cache = CallerCache::new(Metrics::new(clock));
        let estimate = |headers: &[&'static str]| {
            let subject = || IdentitySource::Token(TokenSource::Subject);
            let headers = headers.iter().map(|name| (HeaderName::from_static(name), subject())).collect();
            let identity = Arc::new(IdentityHeaders::new(headers, Vec::new(), 4096));
            cache.render(principal.clone(), &identity).estimated_bytes()
        };
        let without = estimate(&[]);
        assert_eq!(without, principal.estimated_bytes());
        for (headers, count) in [(&["x-a"][..], 1), (&["x-a", "x-b"], 2)] {
            let added = estimate(headers) - without;
            assert!((count * BYTES..count * BYTES * 11 / 10).contains(&added), "{headers:?}: {added}");
        }
    }
}
