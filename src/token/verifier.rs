//! Verifier: verifies the tokens of one issuer with the issuer's settings and keys.
//!
//! Checks header and claims before it looks for the key, and the key before the signature, so that
//! a token that can be refused cheaply causes neither a fetch nor a public-key operation. The key
//! determines the algorithm, and the header must agree (RFC 8725 §3.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};

use super::IssuerSettings;
use super::claims::{self, ValidatedClaims};
use super::error::{IssuerSetupError, VerifyError};
use super::header::{Header, TokenType};
use super::jwks::{KeyIdentity, KeyLookup};
use super::key_store::KeyStore;
use super::principal::{self, Principal};
use super::raw::Parts;
use super::verdict_cache::Proof;
use crate::primitives::clock::{Clock, Moment};
use crate::telemetry::metrics::{CacheResult, IssuerMetrics, VerifyResult};

/// Verifies the tokens of one issuer.
#[derive(Debug)]
pub struct Verifier {
    /// Stands for the settings that a verdict depends on; unique in the process. A verdict holds
    /// only for a verifier with the id of the one that reached it.
    id: u64,
    settings: IssuerSettings,
    clock: Clock,
    metrics: IssuerMetrics,
    keys: Arc<KeyStore>,
}

/// The result of verifying a valid token: whom it identifies, and why it is valid.
#[derive(Debug)]
pub struct Verification {
    /// Who is calling.
    pub principal: Principal,
    /// Why the token is valid, and until when.
    pub proof: Proof,
}

impl Verifier {
    /// A verifier with a key store of its own. The caller must start [`KeyStore::run`].
    ///
    /// # Errors
    ///
    /// [`IssuerSetupError`].
    pub fn new(settings: IssuerSettings, clock: Clock, metrics: IssuerMetrics) -> Result<Arc<Self>, IssuerSetupError> {
        let keys = KeyStore::new(&settings, clock.clone(), metrics.clone())?;
        Ok(Arc::new(Self { id: next_id(), settings, clock, metrics, keys }))
    }

    /// A verifier for new settings of the same issuer. It shares this verifier's key store if the
    /// store can serve the new settings, so that a reload neither fetches nor loses keys. If
    /// [`Verifier::keys`] is a different pointer afterwards, the caller must start
    /// [`KeyStore::run`]. Verdicts of this verifier hold for the new one only if nothing but
    /// [`RefreshTimes`](super::RefreshTimes) has changed.
    ///
    /// # Errors
    ///
    /// [`IssuerSetupError`].
    pub fn with_settings(&self, settings: IssuerSettings) -> Result<Arc<Self>, IssuerSetupError> {
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        if !self.keys.can_serve(&settings) {
            return Self::new(settings, clock, metrics);
        }
        let id = if self.settings.differs_only_in_times(&settings) { self.id } else { next_id() };
        Ok(Arc::new(Self { id, settings, clock, metrics, keys: Arc::clone(&self.keys) }))
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The issuer's settings.
    #[must_use]
    pub fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// The key store.
    #[must_use]
    pub fn keys(&self) -> &Arc<KeyStore> {
        &self.keys
    }

    /// The principal of a token with these claims, provided that its header and signature were
    /// valid. Checks the claims only. For `explain`.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] for the first check that fails.
    pub(super) fn check_claims(&self, claims: Map<String, Value>) -> Result<Principal, VerifyError> {
        // Without a header, no type says that the token is an access token.
        let accepted = claims::check(&claims, TokenType::Absent, &self.settings, self.clock.now())?;
        Ok(self.principal(accepted, claims))
    }

    /// Whether `proof` still holds at `now` with the current keys. Counts a cache hit if it does.
    pub(super) fn revalidate(&self, proof: &Proof, now: Moment) -> bool {
        let holds =
            self.keys.usable_keys(now.monotonic_micros).is_some_and(|keys| proof.holds(self.id, &keys, now.wall));
        if holds {
            self.metrics.count_verification(VerifyResult::Accepted, CacheResult::Hit);
        }
        holds
    }

    /// Whether the settings and the current keys at `now` still vouch for the token of `proof`,
    /// expired or not.
    pub(super) fn vouches_for(&self, proof: &Proof, now: Moment) -> bool {
        self.keys.usable_keys(now.monotonic_micros).is_some_and(|keys| proof.is_vouched_for(self.id, &keys))
    }

    /// Verifies a token of this issuer that has been parsed.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]. The checks are made in this order: algorithm, type, claims, key, signature.
    pub(super) async fn verify(
        &self,
        parts: &Parts<'_>,
        header: &Header,
        claims: Map<String, Value>,
    ) -> Result<Verification, VerifyError> {
        let verified = self.check_token(parts, header, claims).await;
        let result = match &verified {
            Ok(_) => VerifyResult::Accepted,
            Err(error) if error.retry_after().is_some() => VerifyResult::KeysUnavailable,
            Err(_) => VerifyResult::Refused,
        };
        self.metrics.count_verification(result, CacheResult::Miss);
        verified
    }

    async fn check_token(
        &self,
        parts: &Parts<'_>,
        header: &Header,
        claims: Map<String, Value>,
    ) -> Result<Verification, VerifyError> {
        let started = self.clock.monotonic_micros();
        let accepted = self.check_without_key(header, &claims)?;
        let requested = self.clock.monotonic_micros();
        let keys = self.keys.key_set_for(header.kid.as_deref(), header.algorithm).await?;
        // The time spent waiting for a fetch does not count as verification.
        let waited = self.clock.monotonic_micros().saturating_sub(requested);
        let (candidates, if_none_signed) = match keys.lookup(header.kid.as_deref(), header.algorithm) {
            KeyLookup::Found(candidates) => (candidates, VerifyError::BadSignature),
            KeyLookup::TooMany(candidates) => (candidates, VerifyError::TooManyKeysFit),
            KeyLookup::AlgorithmMismatch => return Err(VerifyError::KeyMismatch),
            KeyLookup::NotFound => return Err(VerifyError::UnknownKey),
        };
        let signer: Option<KeyIdentity> = candidates
            .iter()
            .find(|key| key.verifies(&parts.signature, parts.signed, header.algorithm))
            .map(|key| key.identity());
        let took = self.clock.monotonic_micros().saturating_sub(started).saturating_sub(waited);
        self.metrics.record_verification(Duration::from_micros(took));
        let signer = signer.ok_or(if_none_signed)?;
        let now = self.clock.now();
        // The token may have expired while its key was fetched.
        if now >= accepted.expires_at {
            return Err(VerifyError::Expired { ago_seconds: self.settings.leeway.as_secs() });
        }
        let principal = self.principal(accepted, claims);
        let proof = Proof::by_key(&principal, self.id, signer, &keys, now);
        Ok(Verification { principal, proof })
    }

    /// The checks that need neither a key nor the signature.
    fn check_without_key(&self, header: &Header, claims: &Map<String, Value>) -> Result<ValidatedClaims, VerifyError> {
        if !self.settings.algorithms.contains(&header.algorithm) {
            return Err(VerifyError::AlgorithmNotAllowed);
        }
        claims::check_token_type(header.token_type, self.settings.profile)?;
        claims::check(claims, header.token_type, &self.settings, self.clock.now())
    }

    /// The hash of the claimed subject, if only the signature is left to check.
    pub(super) fn claimed_subject(&self, header: &Header, claims: &Map<String, Value>) -> Option<u64> {
        let accepted = self.check_without_key(header, claims).ok()?;
        let keys = self.keys.usable_keys(self.clock.monotonic_micros())?;
        match keys.lookup(header.kid.as_deref(), header.algorithm) {
            KeyLookup::Found(_) | KeyLookup::TooMany(_) => {
                Some(principal::subject_hash(&self.settings.issuer, &accepted.subject))
            }
            KeyLookup::AlgorithmMismatch | KeyLookup::NotFound => None,
        }
    }

    fn principal(&self, accepted: ValidatedClaims, claims: Map<String, Value>) -> Principal {
        let (name, issuer) = (Arc::clone(&self.settings.name), Arc::clone(&self.settings.issuer));
        Principal::new(name, issuer, accepted, claims)
    }
}

fn next_id() -> u64 {
    static LAST_ID: AtomicU64 = AtomicU64::new(0);
    LAST_ID.fetch_add(1, Ordering::Relaxed) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::clock::ManualClock;
    use crate::token::test_support::{NOW, RSA, claims, idle_settings, jwks, metrics};
    use crate::token::{Issuers, RawToken};

    /// Threat J-71: a verdict says that a token satisfies the settings that were in force then.
    #[tokio::test]
    async fn a_verdict_holds_for_new_settings_only_if_nothing_but_times_has_changed() {
        let time = ManualClock::at(NOW);
        let verifier = Verifier::new(idle_settings(), time.clock(), metrics()).unwrap();
        verifier.keys().put(&jwks(&[RSA.jwk("k1")]));
        let token = RSA.rs256("k1", &claims());
        let first = Issuers::new(vec![Arc::clone(&verifier)]).verify(&RawToken::new(&token)).await.unwrap();
        let times = crate::token::RefreshTimes { cooldown: Duration::from_secs(7), ..idle_settings().times };
        for (name, settings, expected) in [
            ("nothing", idle_settings(), true),
            ("times", IssuerSettings { times, ..idle_settings() }, true),
            ("the audience", IssuerSettings { audiences: vec!["other".to_owned()], ..idle_settings() }, false),
            ("the leeway", IssuerSettings { leeway: Duration::ZERO, ..idle_settings() }, false),
        ] {
            let issuers = Issuers::new(vec![verifier.with_settings(settings).unwrap()]);
            assert_eq!(
                issuers.revalidate(&first.proof, time.clock().moment(std::time::Instant::now())),
                expected,
                "{name}"
            );
        }
    }

    /// Threat J-23: the time that counts is that after the wait for the key.
    #[tokio::test]
    async fn a_token_that_expires_while_its_key_is_fetched_is_refused() {
        for (seconds, expected) in [(329, Ok(())), (330, Err(VerifyError::Expired { ago_seconds: 30 }))] {
            let time = ManualClock::at(NOW);
            let verifier = Verifier::new(idle_settings(), time.clock(), metrics()).unwrap();
            let issuers = Issuers::new(vec![Arc::clone(&verifier)]);
            let token = RSA.rs256("k1", &claims());
            let token = RawToken::new(&token);
            let mut outcome = std::pin::pin!(issuers.verify(&token));
            tokio::select! {
                biased;
                _ = &mut outcome => panic!("there are no keys yet"),
                () = std::future::ready(()) => {}
            }
            time.advance(Duration::from_secs(seconds));
            verifier.keys().put(&jwks(&[RSA.jwk("k1")]));
            assert_eq!(outcome.await.map(drop), expected, "{seconds}");
        }
    }
}
