//! Verifier: is this token good now? One issuer's settings and keys, and the order of the checks.
//!
//! Form, header and claims come before the key, the key before the signature: what can be refused cheaply never costs a public-key operation or
//! a fetch. The key decides the algorithm; that the header agrees is one of the checks (RFC 8725 §3.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};

use super::IssuerSettings;
use super::claims::{self, ValidatedClaims};
use super::error::{IssuerSetupError, VerifyError};
use super::header::Header;
use super::jwks::{KeyIdentity, KeyLookup};
use super::key_store::KeyStore;
use super::principal::Principal;
use super::raw::Parts;
use super::verdict_cache::Proof;
use crate::primitives::clock::{Clock, Moment};
use crate::telemetry::metrics::{CacheResult, IssuerMetrics, VerifyResult};

/// Verifies the tokens of one issuer.
#[derive(Debug)]
pub struct Verifier {
    /// Different for each verifier of the process: a verdict holds only for the verifier that reached it.
    id: u64,
    settings: IssuerSettings,
    clock: Clock,
    metrics: IssuerMetrics,
    keys: Arc<KeyStore>,
}

/// A token that verified: whom it identifies, and why that is so.
#[derive(Debug)]
pub struct Verification {
    /// Who is calling.
    pub principal: Principal,
    /// Why the token is valid, and until when.
    pub proof: Proof,
}

impl Verifier {
    /// A verifier with a key store of its own, whose [`KeyStore::run`] is to be started.
    ///
    /// # Errors
    ///
    /// [`IssuerSetupError`].
    pub fn new(settings: IssuerSettings, clock: Clock, metrics: IssuerMetrics) -> Result<Arc<Self>, IssuerSetupError> {
        let keys = KeyStore::new(&settings, clock.clone(), metrics.clone())?;
        Ok(Self::with_keys(settings, clock, metrics, keys))
    }

    /// A verifier for new settings of the same issuer. It shares this one's keys if they come from the
    /// same place in the same way, so that a reload neither fetches nor loses them (compare
    /// [`Verifier::keys`] by pointer to see whether a new loop is to be started). Verdicts are never
    /// taken over.
    ///
    /// # Errors
    ///
    /// [`IssuerSetupError`].
    pub fn with_settings(&self, settings: IssuerSettings) -> Result<Arc<Self>, IssuerSetupError> {
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        if self.keys.can_serve(&settings) {
            Ok(Self::with_keys(settings, clock, metrics, Arc::clone(&self.keys)))
        } else {
            Self::new(settings, clock, metrics)
        }
    }

    fn with_keys(settings: IssuerSettings, clock: Clock, metrics: IssuerMetrics, keys: Arc<KeyStore>) -> Arc<Self> {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Self { id, settings, clock, metrics, keys })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<KeyStore> {
        &self.keys
    }

    /// Whom a token with these claims would identify, if its header and signature were good. Applies
    /// the rules for claims only: for explaining decisions to an operator.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]: the first rule that is broken.
    pub(super) fn check_claims(&self, claims: Map<String, Value>) -> Result<Principal, VerifyError> {
        let accepted = claims::check(&claims, &self.settings, self.clock.now())?;
        Ok(self.principal(accepted, claims))
    }

    /// Whether `proof` still holds at `now` with the keys of this moment; a hit is counted.
    pub(super) fn revalidate(&self, proof: &Proof, now: Moment) -> bool {
        let holds =
            self.keys.usable_keys(now.monotonic_micros).is_some_and(|keys| proof.holds(self.id, &keys, now.wall));
        if holds {
            self.metrics.count_verification(VerifyResult::Accepted, CacheResult::Hit);
        }
        holds
    }

    /// Verifies a token of this issuer whose form, header and claims can be read.
    ///
    /// # Errors
    ///
    /// [`VerifyError`], in the order: algorithm, type, claims, key, signature.
    pub(super) async fn verify(
        &self,
        parts: &Parts<'_>,
        header: &Header,
        claims: Map<String, Value>,
    ) -> Result<Verification, VerifyError> {
        let verified = self.judge(parts, header, claims).await;
        let result = match &verified {
            Ok(_) => VerifyResult::Accepted,
            Err(error) if error.retry_after().is_some() => VerifyResult::KeysUnavailable,
            Err(_) => VerifyResult::Refused,
        };
        self.metrics.count_verification(result, CacheResult::Miss);
        verified
    }

    async fn judge(
        &self,
        parts: &Parts<'_>,
        header: &Header,
        claims: Map<String, Value>,
    ) -> Result<Verification, VerifyError> {
        let began = self.clock.monotonic_micros();
        if !self.settings.algorithms.contains(&header.algorithm) {
            return Err(VerifyError::AlgorithmNotAllowed);
        }
        claims::check_token_type(header.token_type, self.settings.profile)?;
        let accepted = claims::check(&claims, &self.settings, self.clock.now())?;
        let asked = self.clock.monotonic_micros();
        let keys = self.keys.key_set_for(header.kid.as_deref(), header.algorithm).await?;
        // Waiting for an identity provider is not work: it is left out of the time.
        let waited = self.clock.monotonic_micros().saturating_sub(asked);
        let candidates = match keys.lookup(header.kid.as_deref(), header.algorithm) {
            KeyLookup::Found(candidates) => candidates,
            KeyLookup::AlgorithmMismatch => return Err(VerifyError::KeyMismatch),
            KeyLookup::NotFound => return Err(VerifyError::UnknownKey),
        };
        let signer: Option<KeyIdentity> = candidates
            .iter()
            .find(|key| key.verifies(&parts.signature, parts.signed, header.algorithm))
            .map(|key| key.identity());
        let took = self.clock.monotonic_micros().saturating_sub(began).saturating_sub(waited);
        self.metrics.record_verification(Duration::from_micros(took));
        let signer = signer.ok_or(VerifyError::BadSignature)?;
        let now = self.clock.now();
        // It may have run out while its key was fetched.
        if now >= accepted.expires_at {
            return Err(VerifyError::Expired { ago_seconds: self.settings.leeway.as_secs() });
        }
        let principal = self.principal(accepted, claims);
        let proof = Proof::by_key(&principal, self.id, signer, &keys, now);
        Ok(Verification { principal, proof })
    }

    fn principal(&self, accepted: ValidatedClaims, claims: Map<String, Value>) -> Principal {
        let (name, issuer) = (Arc::clone(&self.settings.name), Arc::clone(&self.settings.issuer));
        Principal::new(name, issuer, accepted, claims)
    }
}
