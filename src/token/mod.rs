//! Tokens, keys, issuers: whether a bearer token is good, and whom it speaks for (RFC 7519, RFC 9068, RFC 8725).
//!
//! Knows nothing of routes, servers or configuration. In the order a token meets them: [`raw`] splits the secret text, [`header`] and
//! [`claims`] read it strictly, `iss` picks the [`Verifier`], the [`KeyStore`] has its keys, a signature is checked, and what comes out is a
//! [`Principal`]. [`VerdictCache`] remembers it for the next request with the same token. Keys come by way of [`discovery`], [`fetch`] and
//! [`jwks`].

pub(crate) mod algorithm;
pub(crate) mod claim_path;
pub(crate) mod claims;
pub(crate) mod discovery;
pub(crate) mod error;
pub(crate) mod fetch;
pub(crate) mod header;
mod jwk;
pub(crate) mod jwks;
pub(crate) mod key_store;
pub(crate) mod principal;
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

/// What is asked of an issuer's tokens, and where its keys are. Checked by whoever makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerSettings {
    /// Its name in the configuration: for logs and metrics.
    pub name: Arc<str>,
    /// Compared byte for byte with `iss` and with the discovery document.
    pub issuer: Arc<str>,
    /// One of these must be in the token's audience; at least one.
    pub audiences: Vec<String>,
    /// The only ones allowed; at least one.
    pub algorithms: Vec<Algorithm>,
    /// Which kind of token.
    pub profile: Profile,
    /// How far the issuer's clock may be off: up to five minutes, whole seconds.
    pub leeway: Duration,
    /// Longest `exp - iat`; a token without `iat` is refused then.
    pub max_lifetime: Option<Duration>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Certificates (PEM) that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Where to read subject, scopes, …
    pub claims: ClaimSources,
    /// Lifetime of a key set whose cache headers do not say.
    pub refresh: Duration,
    /// Shortest time between two fetches for unknown keys.
    pub cooldown: Duration,
    /// How long a key set may be used after it was fetched.
    pub max_stale: Duration,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Where its discovery document says, which is here.
    Discovery(Url),
    /// In this file, read at the start and at each refresh.
    JwksFile(PathBuf),
    /// Here.
    JwksUrl(Url),
}

/// Which kind of token an issuer is expected to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// An access token with any of the usual types; an ID token is refused.
    Default,
    /// An ID token, for issuers that sign nothing else.
    IdToken,
    /// RFC 9068: `at+jwt`, with all required claims.
    Rfc9068,
}

/// All issuers of a configuration, found by their exact `iss`.
#[derive(Clone, Debug)]
pub struct Issuers {
    by_issuer: HashMap<Arc<str>, Arc<Verifier>>,
    /// Sorted: a verdict knows the number of who spoke it.
    by_number: Vec<(u64, Arc<Verifier>)>,
}

impl Issuers {
    /// These issuers; each `iss` once.
    #[must_use]
    pub fn new(verifiers: Vec<Arc<Verifier>>) -> Self {
        let mut by_number: Vec<_> = verifiers.iter().map(|verifier| (verifier.id(), Arc::clone(verifier))).collect();
        by_number.sort_unstable_by_key(|(number, _)| *number);
        let by_issuer =
            verifiers.into_iter().map(|verifier| (Arc::clone(&verifier.settings().issuer), verifier)).collect();
        Self { by_issuer, by_number }
    }

    /// The issuer that the configuration calls so.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Verifier>> {
        self.iter().find(|verifier| &*verifier.settings().name == name)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Verifier>> {
        self.by_issuer.values()
    }

    /// Whether a token that was verified before is still valid: nothing may have changed that the
    /// verdict rests on, neither time nor key nor settings.
    #[must_use]
    pub fn revalidate(&self, proof: &Proof, now: Moment) -> bool {
        let place = self.by_number.binary_search_by_key(&proof.verifier(), |(number, _)| *number);
        place.is_ok_and(|place| self.by_number[place].1.revalidate(proof, now))
    }

    /// Verifies `token`. Costs a public-key operation, and may wait for an attempt to fetch keys.
    ///
    /// # Errors
    ///
    /// [`VerifyError`], in the order: form, header, claims as a document, issuer; then as the
    /// issuer's settings have it.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; others who wait for the same fetch are not affected.
    pub async fn verify(&self, token: &RawToken<'_>) -> Result<Verification, VerifyError> {
        let parts = token.parts()?;
        let header = Header::read(&parts.header)?;
        let claims = claims::read(&parts.payload)?;
        self.verifier_for(&claims)?.verify(&parts, &header, claims).await
    }

    /// Whom a token with these claims would identify, if its header and signature were good. Applies
    /// the rules for claims only: for explaining decisions to an operator.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]: the first rule that is broken.
    pub fn check_claims(&self, claims: Map<String, Value>) -> Result<Principal, VerifyError> {
        self.verifier_for(&claims)?.check_claims(claims)
    }

    /// The issuer that the claims name. The claim is not believed, only used to choose the verifier:
    /// keys never cross issuers (RFC 8725 §3.8).
    fn verifier_for(&self, claims: &Map<String, Value>) -> Result<&Arc<Verifier>, VerifyError> {
        self.by_issuer.get(claims::issuer(claims)?).ok_or(VerifyError::UnknownIssuer)
    }
}

#[cfg(test)]
mod tests;
