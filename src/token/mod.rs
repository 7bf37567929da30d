//! Tokens, keys, issuers: whether a bearer token is good, and whom it speaks for (RFC 7519, RFC 9068, RFC 8725).
//!
//! Knows nothing of routes, servers or configuration. In the order a token meets them: [`raw`] splits the secret text, [`header`] and
//! [`claims`] read it strictly, `iss` picks the [`Verifier`], the [`KeyStore`] has its keys, a signature is checked, and what comes out is a
//! [`Principal`]. [`VerdictCache`] remembers it for the next request with the same token. Keys come by way of [`discovery`], [`fetch`] and
//! [`jwks`].

pub mod algorithm;
pub mod claim_path;
pub mod claims;
pub mod discovery;
pub mod error;
pub mod fetch;
pub mod header;
mod jwk;
pub mod jwks;
pub mod key_store;
pub mod principal;
pub mod raw;
pub mod strict_json;
#[cfg(test)]
pub(crate) mod test_support;
pub mod verdict_cache;
pub mod verifier;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::Url;

use crate::primitives::clock::Moment;

pub use self::algorithm::Algorithm;
pub use self::claim_path::{ClaimPath, InvalidClaimPath};
pub use self::claims::ClaimSources;
pub use self::error::{KeyError, StartError, VerifyError};
pub use self::key_store::{KeyStatus, KeyStore};
pub use self::principal::Principal;
pub use self::raw::{RawToken, TokenDigest};
pub use self::verdict_cache::VerdictCache;
pub use self::verifier::Verifier;

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

/// Makes what upstreams are told about a principal.
pub type Portrayal = dyn Fn(&Principal) -> Vec<(HeaderName, HeaderValue)> + Send + Sync;

/// All issuers of a configuration, found by their exact `iss`.
#[derive(Clone, Debug)]
pub struct Issuers {
    by_issuer: HashMap<Arc<str>, Arc<Verifier>>,
    /// Sorted: a verdict knows the number of who spoke it.
    by_number: Vec<(u64, Arc<Verifier>)>,
    verdicts: Arc<VerdictCache>,
}

impl Issuers {
    /// These issuers; each `iss` once. The verdicts outlive a configuration, and hold only for a verifier that is here.
    #[must_use]
    pub fn new(verifiers: Vec<Arc<Verifier>>, verdicts: Arc<VerdictCache>) -> Self {
        let mut by_number: Vec<_> = verifiers.iter().map(|verifier| (verifier.id(), Arc::clone(verifier))).collect();
        by_number.sort_unstable_by_key(|(number, _)| *number);
        let by_issuer =
            verifiers.into_iter().map(|verifier| (Arc::clone(&verifier.settings().issuer), verifier)).collect();
        Self { by_issuer, by_number, verdicts }
    }

    /// The issuer that the configuration calls so.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Verifier>> {
        self.iter().find(|verifier| &*verifier.settings().name == name)
    }

    /// The issuer with exactly this `iss`.
    #[must_use]
    pub fn by_issuer(&self, issuer: &str) -> Option<&Arc<Verifier>> {
        self.by_issuer.get(issuer)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Verifier>> {
        self.by_issuer.values()
    }

    /// Whom a token speaks for that was verified before, if nothing has changed since that the verdict rests on: time, key, settings.
    #[must_use]
    pub fn cached(&self, digest: &TokenDigest, now: Moment) -> Option<Arc<Principal>> {
        let verdict = self.verdicts.get(digest)?;
        let place = self.by_number.binary_search_by_key(&verdict.verifier(), |(number, _)| *number).ok()?;
        self.by_number[place].1.recall(&verdict, now)
    }

    /// About how many verdicts are remembered, of all issuers of the process.
    #[must_use]
    pub fn cached_verdicts(&self) -> u64 {
        self.verdicts.entries()
    }

    /// Verifies `token`, whose digest is `digest`, and remembers the verdict if it is good. Costs a public-key operation, and may wait for an
    /// attempt to fetch keys.
    ///
    /// # Errors
    ///
    /// [`VerifyError`], in the order: form, header, claims as a document, issuer; then as the issuer's settings have it.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; others who wait for the same fetch are not affected.
    pub async fn verify(&self, token: &RawToken<'_>, digest: &TokenDigest) -> Result<Arc<Principal>, VerifyError> {
        let parts = token.parts()?;
        let header = Header::read(&parts.header)?;
        let claims = claims::read(&parts.payload)?;
        // Not believed, only used to choose who may believe it: keys never cross issuers (RFC 8725 §3.8).
        let verifier = self.by_issuer(claims::issuer(&claims)?).ok_or(VerifyError::UnknownIssuer)?;
        let verdict = verifier.verify(&parts, &header, claims).await?;
        let principal = Arc::clone(verdict.principal());
        self.verdicts.put(*digest, verdict);
        Ok(principal)
    }
}

#[cfg(test)]
mod tests;
