//! Errors of tokens and keys: what is wrong with a token, why an issuer's keys cannot be fetched,
//! and why an issuer cannot be set up.
//!
//! Variants never hold text from a token: what a client wrote may reach neither a log nor a
//! response. Text from an identity provider is escaped and cut before it is stored.

use std::path::PathBuf;
use std::time::Duration;

use super::jwks::{JwksError, MAX_CANDIDATES};
use super::provider_document::DocumentFault;
use crate::outbound::{self, SetupError};
use crate::primitives::file::ReadError;

/// Why a token is not accepted. For logs and metrics: the client learns only that the token has
/// expired, or that it is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The issuer's settings do not allow the header's `alg` (RFC 8725 §3.1).
    #[error("algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// The token has no audience (RFC 9068 §4). Some issuers add one only if configured to.
    #[error("token has no audience")]
    AudienceMissing,
    /// The audience is neither a string nor an array of strings (RFC 7519 §4.1.3).
    #[error("audience is neither a string nor an array of strings")]
    AudienceMalformed,
    /// None of the token's audiences is configured.
    #[error("token is for another audience")]
    AudienceMismatch,
    /// No key that may have signed the token verifies its signature.
    #[error("signature is invalid")]
    BadSignature,
    /// A claim does not have the JSON type that it must have.
    #[error("claim `{claim}` has the wrong type")]
    ClaimType {
        /// Which one: a fixed name.
        claim: &'static str,
    },
    /// The payload is not one JSON object with unique members (RFC 7519 §4).
    #[error("claims are not a JSON object with unique members")]
    ClaimsMalformed,
    /// The header has `crit` or `b64`. Such extensions could change what is signed, and none is
    /// implemented (RFC 7515 §4.1.11, RFC 7797).
    #[error("header uses an extension")]
    CriticalExtension,
    /// The token has five segments, or `enc` or `zip` in its header. Encrypted tokens are not
    /// supported (RFC 7516).
    #[error("token is encrypted")]
    Encrypted,
    /// `exp` and the leeway have passed (RFC 7519 §4.1.4).
    #[error("token expired {ago_seconds} s ago")]
    Expired {
        /// Seconds since `exp`.
        ago_seconds: u64,
    },
    /// The header is not one JSON object with unique members and a string `alg`, or another member
    /// of it is malformed (RFC 7515 §4).
    #[error("header is malformed")]
    HeaderMalformed,
    /// `exp` is not after `nbf`, or is before `iat`. Checked only if `max_lifetime` is set.
    #[error("`exp`, `nbf` and `iat` contradict each other")]
    InconsistentTimes,
    /// `iat` is later than now plus the leeway.
    #[error("token was issued in the future")]
    IssuedInFuture,
    /// `iss` is missing or not a string.
    #[error("token has no issuer")]
    IssuerMissing,
    /// The key that the header names is not for the header's algorithm (RFC 8725 §3.1).
    #[error("key is not for this algorithm")]
    KeyMismatch,
    /// The issuer's keys cannot be fetched. Not the client's fault.
    #[error("the issuer's keys are not available")]
    KeysUnavailable {
        /// When the next attempt is due.
        retry_after: Duration,
    },
    /// `exp - iat` exceeds `max_lifetime`, or is unknown because there is no `iat`.
    #[error("lifetime is too long")]
    LifetimeTooLong,
    /// An ID token, refresh token or logout token.
    #[error("not an access token: claim `{claim}` says so")]
    NotAnAccessToken {
        /// The claim that says so: a fixed name.
        claim: &'static str,
    },
    /// A segment is not strict base64url without padding (RFC 7515 §2).
    #[error("not base64url")]
    NotBase64Url,
    /// Not three non-empty segments (RFC 7515 §3.1).
    #[error("not three segments")]
    NotThreeSegments,
    /// `nbf` is later than now plus the leeway (RFC 7519 §4.1.5).
    #[error("token is not valid yet")]
    NotYetValid,
    /// More keys may have signed the token than are tried, because it names none of them or they
    /// have the same name. None of those that were tried did.
    #[error("more than {MAX_CANDIDATES} keys fit the token; the first {MAX_CANDIDATES} have not signed it")]
    TooManyKeysFit,
    /// `exp`, or another claim that the profile requires, is missing (RFC 9068 §2.2).
    #[error("required claim `{claim}` is missing")]
    RequiredClaimMissing {
        /// Which one: a fixed name.
        claim: &'static str,
    },
    /// Bound to a key by `cnf` (RFC 7800), but sent without proof of possession of that key.
    #[error("sender-constrained token without proof of possession")]
    SenderConstrained,
    /// The subject is missing, empty, too long, or contains control characters.
    #[error("token has no usable subject")]
    SubjectMissing,
    /// The subject is a number, or has another wrong type (RFC 7519 §4.1.2).
    #[error("subject is not a string")]
    SubjectNotAString,
    /// The profile does not allow the header's `typ` (RFC 8725 §3.11).
    #[error("token type is not allowed")]
    TokenTypeNotAllowed,
    /// `iss` is not a configured issuer, compared byte for byte.
    #[error("issuer is not configured")]
    UnknownIssuer,
    /// The issuer's current key set has no key with that `kid`.
    #[error("key is not in the issuer's key set")]
    UnknownKey,
}

/// A reason followed by the name of the claim, as in `required claim missing: exp`. All texts are
/// fixed, and never contain a claim's value.
macro_rules! with_claim {
    ($reason:literal, $claim:expr, [$($name:literal),*]) => {
        match *$claim {
            $($name => concat!($reason, ": ", $name),)*
            _ => $reason,
        }
    };
}

impl VerifyError {
    /// A fixed text per variant and claim, for logs. The documentation lists these texts.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AlgorithmNotAllowed => "algorithm not allowed",
            Self::AudienceMissing => "audience missing",
            Self::AudienceMalformed => "audience malformed",
            Self::AudienceMismatch => "audience is another",
            Self::BadSignature => "signature invalid",
            Self::ClaimType { claim } => {
                with_claim!(
                    "claim of the wrong type",
                    claim,
                    ["exp", "nbf", "iat", "client", "sub", "client_id", "jti"]
                )
            }
            Self::ClaimsMalformed => "claims malformed",
            Self::CriticalExtension => "header extension not supported",
            Self::Encrypted => "encrypted token",
            Self::Expired { .. } => "expired",
            Self::HeaderMalformed => "header malformed",
            Self::InconsistentTimes => "times contradict",
            Self::IssuedInFuture => "issued in the future",
            Self::IssuerMissing => "issuer missing",
            Self::KeyMismatch => "key not for this algorithm",
            Self::KeysUnavailable { .. } => "keys unavailable",
            Self::LifetimeTooLong => "lifetime too long",
            Self::NotAnAccessToken { claim } => {
                with_claim!("not an access token", claim, ["typ", "token_use", "events", "at_hash", "c_hash", "nonce"])
            }
            Self::NotBase64Url => "not base64url",
            Self::NotThreeSegments => "not a JWT",
            Self::NotYetValid => "not valid yet",
            Self::RequiredClaimMissing { claim } => {
                with_claim!("required claim missing", claim, ["exp", "aud", "iat", "sub", "client_id", "jti"])
            }
            Self::SenderConstrained => "sender-constrained without proof",
            Self::SubjectMissing => "subject missing",
            Self::SubjectNotAString => "subject is not a string",
            Self::TooManyKeysFit => "too many keys fit",
            Self::TokenTypeNotAllowed => "token type not allowed",
            Self::UnknownIssuer => "issuer not configured",
            Self::UnknownKey => "key unknown",
        }
    }

    /// Whether the token is past its expiry.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(self, Self::Expired { .. })
    }

    /// When to retry, if the issuer's keys are unavailable; `None` for every other error.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::KeysUnavailable { retry_after } = self { Some(*retry_after) } else { None }
    }

    /// Whether the refusal cost a public-key operation. Such refusals count against the client's
    /// address. An unknown key costs nothing: keys are fetched at most once per cooldown, however
    /// many clients ask.
    #[must_use]
    pub fn is_costly(&self) -> bool {
        matches!(self, Self::BadSignature | Self::TooManyKeysFit)
    }
}

/// Why an attempt to fetch an issuer's keys failed. For the operator: the log, `/readyz` and
/// `check --online`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The response is compressed or encoded in another way. The request has asked for none
    /// (RFC 9110 §12.5.3).
    #[error("response has content encoding `{encoding}`, which was not asked for")]
    ContentEncoding {
        /// What `Content-Encoding` says, escaped and cut.
        encoding: String,
    },
    /// The discovery document is not a JSON object with the required members (OpenID Connect
    /// Discovery §3).
    #[error("discovery document is malformed{0}")]
    DiscoveryMalformed(DocumentFault),
    /// There was no complete response.
    #[error("cannot fetch: {0}")]
    Fetch(#[from] outbound::Error),
    /// The key file cannot be read.
    #[error("cannot read the file: {0}")]
    File(#[from] ReadError),
    /// The discovery document belongs to another issuer. Compared byte for byte (RFC 8414 §3.3).
    #[error(
        "discovery document is for issuer `{found}`, not the configured one{}",
        if *.only_slash { " (they differ by a trailing slash)" } else { "" }
    )]
    IssuerDiffers {
        /// The issuer that the document names, escaped and cut.
        found: String,
        /// Whether a trailing slash is the only difference.
        only_slash: bool,
    },
    /// Keys must not be fetched from the document's `jwks_uri`.
    #[error("jwks_uri in the discovery document is not allowed: {reason}")]
    JwksUriRefused {
        /// The rule that it breaks: a fixed text.
        reason: &'static str,
    },
    /// The document is not a usable key set.
    #[error(transparent)]
    KeySet(#[from] JwksError),
    /// The HTTP client cannot be set up with the `ca_file` as it is now.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The response has a status other than 200. Redirects are not followed.
    #[error("response has status {status}")]
    Status {
        /// The status.
        status: u16,
    },
}

/// Why an issuer cannot be set up. For the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerSetupError {
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Client(#[from] SetupError),
    /// The URL of the keys is plain http to another machine.
    #[error("without `allow_http`, keys may be fetched over plain http from a loopback address only")]
    InsecureUrl,
    /// `jwks_file` cannot be used.
    #[error("cannot use the keys in {}: {error}", path.display())]
    JwksFile {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        error: KeyError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_that_cost_work_are_costly() {
        assert!(VerifyError::BadSignature.is_costly());
        assert!(!VerifyError::UnknownKey.is_costly());
        assert!(!VerifyError::Expired { ago_seconds: 1 }.is_costly());
        assert!(!VerifyError::KeysUnavailable { retry_after: Duration::ZERO }.is_costly());
    }

    #[test]
    fn only_an_expired_token_is_expired() {
        assert!(VerifyError::Expired { ago_seconds: 1 }.is_expired());
        for error in [VerifyError::NotYetValid, VerifyError::BadSignature, VerifyError::LifetimeTooLong] {
            assert!(!error.is_expired(), "{error}");
        }
    }

    #[test]
    fn a_reason_names_the_claim() {
        for (error, expected) in [
            (VerifyError::ClaimType { claim: "exp" }, "claim of the wrong type: exp"),
            (VerifyError::NotAnAccessToken { claim: "at_hash" }, "not an access token: at_hash"),
            (VerifyError::RequiredClaimMissing { claim: "jti" }, "required claim missing: jti"),
        ] {
            assert_eq!(error.reason(), expected);
        }
    }

    #[test]
    fn what_operators_read_is_plain_text() {
        for (error, expected) in [
            (
                KeyError::IssuerDiffers { found: "https://idp.test/".to_owned(), only_slash: true },
                "discovery document is for issuer `https://idp.test/`, not the configured one (they differ by a trailing slash)",
            ),
            (KeyError::Fetch(outbound::Error::Timeout), "cannot fetch: timed out"),
            (
                KeyError::Fetch(outbound::Error::ResponseTooLarge { max_bytes: 10 }),
                "cannot fetch: response is larger than the limit of 10 bytes",
            ),
            (KeyError::DiscoveryMalformed(DocumentFault::Members), "discovery document is malformed"),
            (
                KeyError::KeySet(JwksError::Malformed(DocumentFault::Gzip)),
                "the issuer's key set is malformed; it is compressed with gzip, which was not asked for",
            ),
            (KeyError::KeySet(JwksError::Empty), "the issuer's key set is empty"),
            (KeyError::Status { status: 404 }, "response has status 404"),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }
}
