//! Tokens, keys and issuers: whether an access token is valid, and whom it identifies (RFC 7519,
//! RFC 9068, RFC 8725).
//!
//! Knows nothing about routes, upstreams or the configuration. Verification runs in this order:
//! [`raw`] splits the token, [`header`] and [`claims`] parse its parts strictly, `iss` selects the
//! [`Verifier`], whose [`key_store`] provides the keys, and the signature is verified. The result
//! is a [`Principal`], which the owner of a [`VerdictCache`] can keep for later requests with the
//! same token. [`discovery`], [`fetch`] and [`jwks`] get the keys.

pub(crate) mod algorithm;
pub(crate) mod claim_path;
pub(crate) mod claims;
pub(crate) mod discovery;
pub(crate) mod error;
pub(crate) mod fetch;
pub(crate) mod header;
mod jwk;
pub(crate) mod jwks;
mod key_rejection;
pub(crate) mod key_store;
pub(crate) mod number;
pub(crate) mod principal;
mod provider_document;
pub(crate) mod raw;
pub(crate) mod strict_json;
#[cfg(test)]
pub(crate) mod test_support;
pub(crate) mod verdict_cache;
pub(crate) mod verifier;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

use crate::outbound::is_secure_url;
use crate::primitives::clock::Moment;

pub use self::algorithm::Algorithm;
pub(crate) use self::claim_path::ClaimPath;
pub use self::claims::ClaimSources;
pub(crate) use self::error::{IssuerSetupError, VerifyError};
pub(crate) use self::principal::Binding;
pub use self::principal::Principal;
pub use self::raw::RawToken;
pub(crate) use self::raw::TokenDigest;
pub(crate) use self::verdict_cache::Proof;
pub use self::verdict_cache::VerdictCache;
pub use self::verifier::{Verification, Verifier};

use self::header::Header;

/// The settings of one issuer: the conditions on its tokens, and the source of its keys. The plan
/// has checked them.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerSettings {
    /// The issuer's name in the configuration, for logs and metrics.
    pub name: Arc<str>,
    /// Compared byte for byte with `iss` and with the discovery document.
    pub issuer: Arc<str>,
    /// A token must be for one of these audiences. Never empty.
    pub audiences: Vec<String>,
    /// The allowed signature algorithms. Never empty.
    pub algorithms: Vec<Algorithm>,
    /// The kind of token.
    pub profile: Profile,
    /// How far the issuer's clock may be off. Whole seconds, at most five minutes.
    pub leeway: Duration,
    /// The longest accepted `exp - iat`. If set, a token without `iat` is refused.
    pub max_lifetime: Option<Duration>,
    /// The source of the keys.
    pub keys: KeySource,
    /// A PEM file of certificates that are trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether keys may come over plain http from another machine.
    pub allow_http: bool,
    /// Which claims hold the subject, the client, the scopes and the roles.
    pub claims: ClaimSources,
    /// When keys are fetched, and how long they may be used.
    pub times: RefreshTimes,
}

/// When an issuer's keys are fetched, and how long they may be used. Has no effect on which keys
/// the issuer has, nor on which tokens are valid while there are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTimes {
    /// The lifetime of a key set whose response has no cache headers.
    pub refresh: Duration,
    /// The least time between two fetches for unknown keys, and after the first failure.
    pub cooldown: Duration,
    /// How long a key set may be used after it was fetched, if no refresh succeeds.
    pub max_stale: Duration,
}

impl IssuerSettings {
    /// Whether the keys come over plain http from another machine, so that anyone on the network
    /// path can replace them.
    #[must_use]
    pub fn trusts_the_network(&self) -> bool {
        match &self.keys {
            KeySource::Discovery(url) | KeySource::JwksUrl(url) => !is_secure_url(url),
            KeySource::JwksFile(_) => false,
        }
    }

    /// Whether `other` differs from these settings in nothing but its [`RefreshTimes`].
    #[must_use]
    fn differs_only_in_times(&self, other: &Self) -> bool {
        Self { times: self.times, ..other.clone() } == *self
    }
}

/// The source of an issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The `jwks_uri` in the discovery document at this URL.
    Discovery(Url),
    /// This file, which is read at the start and at each refresh.
    JwksFile(PathBuf),
    /// The key set at this URL.
    JwksUrl(Url),
}

/// The kind of token that an issuer issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// An access token of any usual `typ`. ID tokens are refused.
    Default,
    /// An ID token, for issuers that sign nothing else.
    IdToken,
    /// An `at+jwt` access token with all claims that RFC 9068 requires.
    Rfc9068,
}

/// The verifiers of all issuers in a configuration.
#[derive(Clone, Debug)]
pub struct Issuers {
    by_issuer: HashMap<Arc<str>, Arc<Verifier>>,
    /// Sorted by [`Verifier::id`], which a [`Proof`] refers to.
    by_id: Vec<(u64, Arc<Verifier>)>,
}

impl Issuers {
    /// The issuers of `verifiers`, which have different `iss`.
    #[must_use]
    pub fn new(verifiers: Vec<Arc<Verifier>>) -> Self {
        let mut by_id: Vec<_> = verifiers.iter().map(|verifier| (verifier.id(), Arc::clone(verifier))).collect();
        by_id.sort_unstable_by_key(|(id, _)| *id);
        let by_issuer =
            verifiers.into_iter().map(|verifier| (Arc::clone(&verifier.settings().issuer), verifier)).collect();
        Self { by_issuer, by_id }
    }

    /// The issuer with this name in the configuration.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Verifier>> {
        self.iter().find(|verifier| &*verifier.settings().name == name)
    }

    /// All issuers, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Verifier>> {
        self.by_issuer.values()
    }

    /// Whether a token that was verified before is still valid: it has not expired, its key is
    /// still published, and its issuer's settings are unchanged.
    #[must_use]
    pub fn revalidate(&self, proof: &Proof, now: Moment) -> bool {
        self.verifier_of(proof).is_some_and(|verifier| verifier.revalidate(proof, now))
    }

    /// Whether the issuer still vouches for a token that was verified before: its key is still
    /// published, and its issuer's settings are unchanged. It may have expired.
    #[must_use]
    pub fn vouches_for(&self, proof: &Proof, now: Moment) -> bool {
        self.verifier_of(proof).is_some_and(|verifier| verifier.vouches_for(proof, now))
    }

    fn verifier_of(&self, proof: &Proof) -> Option<&Verifier> {
        let index = self.by_id.binary_search_by_key(&proof.verifier(), |(id, _)| *id).ok()?;
        Some(&self.by_id[index].1)
    }

    /// Verifies `token`. Costs a public-key operation, and may wait for an attempt to fetch keys.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]. The checks are made in this order: form, header, syntax of the claims,
    /// issuer, and then those of the issuer's verifier.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time. Other requests that wait for the same fetch are not affected.
    pub async fn verify(&self, token: &RawToken<'_>) -> Result<Verification, VerifyError> {
        let parts = token.parts()?;
        let header = Header::read(&parts.header)?;
        let claims = claims::read(&parts.payload)?;
        self.verifier_for(&claims)?.verify(&parts, &header, claims).await
    }

    /// The hash of the subject that `token` claims ([`Principal::subject_hash`]), if the signature
    /// is all that is left to check: everything else is right, and its key is in the current set.
    /// Neither waits nor costs a public-key operation. The claim is not verified.
    #[must_use]
    pub fn claimed_subject(&self, token: &RawToken<'_>) -> Option<u64> {
        let parts = token.parts().ok()?;
        let header = Header::read(&parts.header).ok()?;
        let claims = claims::read(&parts.payload).ok()?;
        self.verifier_for(&claims).ok()?.claimed_subject(&header, &claims)
    }

    /// The principal of a token with these claims, provided that its header and signature were
    /// valid. Checks the claims only. For `explain`.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] for the first check that fails.
    pub fn check_claims(&self, mut claims: Map<String, Value>) -> Result<Principal, VerifyError> {
        strict_json::remove_nulls(&mut claims);
        self.verifier_for(&claims)?.check_claims(claims)
    }

    /// Publishes the keys of these issuers as those in use: their timing, their metrics, and for an
    /// issuer with a new key store, the keys of its store in `previous` if they are known to come
    /// from its source. Called when these issuers take the place of `previous`.
    pub(crate) fn take_over(&self, previous: &Self) {
        for verifier in self.iter() {
            let store = verifier.keys();
            store.set_times(verifier.settings().times);
            if let Some(previous) = previous.by_issuer.get(&verifier.settings().issuer) {
                store.inherit(previous.keys());
            }
        }
    }

    /// The verifier of the issuer that the claims name. The claim is not trusted yet: a verifier
    /// only uses the keys of its own issuer (RFC 8725 §3.8).
    fn verifier_for(&self, claims: &Map<String, Value>) -> Result<&Arc<Verifier>, VerifyError> {
        self.by_issuer.get(claims::issuer(claims)?).ok_or(VerifyError::UnknownIssuer)
    }
}

#[cfg(test)]
mod tests;
