//! Verified callers, and the cache of them: the principal of a token, with its identity headers
//! rendered for the upstream.
//!
//! The token layer says whether a verdict still holds; what is rendered is the gateway's own. A
//! change of `[identity]` therefore costs a new rendering per caller, and no verdict.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::policy::IdentityHeaders;
use crate::primitives::clock::Moment;
use crate::telemetry::metrics::Metrics;
use crate::token::{Issuers, Principal, TokenDigest, VerdictCache, Verification};

/// The bearer of a verified token.
#[derive(Debug)]
pub struct VerifiedCaller {
    principal: Principal,
    headers: Box<[(HeaderName, HeaderValue)]>,
    /// What `headers` were rendered by.
    identity: Arc<IdentityHeaders>,
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
        &self.headers
    }

    /// What a header costs in memory, beside its value: its name and its place, roughly.
    const HEADER_BYTES: usize = 96;

    fn estimated_bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(_, value)| Self::HEADER_BYTES + value.len()).sum::<usize>();
        self.principal.estimated_bytes() + headers
    }
}

/// The verified callers of the process; outlives every configuration.
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

    /// About how many callers there are.
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

    /// Renders the caller of a token that has just been verified, and keeps it for the next request.
    pub fn insert(
        &self,
        digest: TokenDigest,
        verification: Verification,
        identity: &Arc<IdentityHeaders>,
    ) -> Arc<VerifiedCaller> {
        let Verification { principal, proof } = verification;
        let caller = self.render(principal, identity);
        self.verdicts.insert(digest, proof, Arc::clone(&caller), caller.estimated_bytes());
        caller
    }

    /// The caller that `principal` would be.
    #[must_use]
    pub fn render(&self, principal: Principal, identity: &Arc<IdentityHeaders>) -> Arc<VerifiedCaller> {
        let headers = identity.render(&principal, &self.metrics);
        Arc::new(VerifiedCaller { principal, headers, identity: Arc::clone(identity) })
    }
}
