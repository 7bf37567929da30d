//! Errors of tokens and keys: what is wrong with a token, with an issuer's keys, with the settings at the start.
//!
//! Variants carry data of ours, never text of a token: what a client wrote may reach neither a log nor an answer. What an identity provider
//! wrote is escaped and cut before it is stored.

use std::path::PathBuf;
use std::time::Duration;

use super::jwks::JwksError;

/// Why a token is not accepted. For the log and for metrics; a client learns only that it expired, or that it is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The header's `alg` is not one that the issuer's settings allow (RFC 8725 §3.1).
    #[error("algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// No audience in the token (RFC 9068 §4): the issuer has to be told to write one.
    #[error("no audience in the token")]
    AudienceMissing,
    /// The audience is neither a string nor an array of strings (RFC 7519 §4.1.3).
    #[error("audience is neither a string nor strings")]
    AudienceMalformed,
    /// For other audiences than ours.
    #[error("for another audience")]
    AudienceOther,
    /// No key with that name confirms the signature.
    #[error("signature does not verify")]
    BadSignature,
    /// A claim has another JSON type than it must have.
    #[error("a claim has the wrong type")]
    ClaimType {
        /// Which one: a fixed name.
        claim: &'static str,
    },
    /// The payload is not one JSON object, or a member occurs twice in it (RFC 7519 §4).
    #[error("claims are not one strict JSON object")]
    ClaimsMalformed,
    /// `crit` or `b64`: extensions that would change what is signed; none is implemented (RFC 7515 §4.1.11, RFC 7797).
    #[error("header asks for an extension")]
    CriticalExtension,
    /// Five segments, or `enc` or `zip` in the header: encrypted tokens are not read (RFC 7516).
    #[error("encrypted token")]
    Encrypted,
    /// `exp` and the leeway are over (RFC 7519 §4.1.4).
    #[error("expired {ago_seconds} s ago")]
    Expired {
        /// Seconds since `exp`.
        ago_seconds: u64,
    },
    /// The header is not one JSON object with a string `alg`, or a member of it is malformed or occurs twice (RFC 7515 §4).
    #[error("header is malformed")]
    HeaderMalformed,
    /// An ID token, refresh token or logout token, sent as an access token.
    #[error("another kind of token than an access token")]
    IdToken,
    /// `iat` is later than now and the leeway.
    #[error("issued in the future")]
    IssuedInFuture,
    /// `iss` is not there, or is no string.
    #[error("no issuer in the token")]
    IssuerMissing,
    /// The key of that name is not for the header's algorithm (RFC 8725 §3.1).
    #[error("key is not for this algorithm")]
    KeyMismatch,
    /// The issuer's keys cannot be had: not the client's fault.
    #[error("keys of the issuer are not available")]
    KeysUnavailable {
        /// When it is worth to try again.
        retry_after: Duration,
    },
    /// `exp - iat` is above `max_lifetime`, or cannot be told.
    #[error("lifetime is too long")]
    LifetimeTooLong,
    /// A segment is not strict base64url without padding (RFC 7515 §2).
    #[error("not base64url")]
    NotBase64Url,
    /// Not three segments (RFC 7515 §3.1).
    #[error("not three segments")]
    NotThreeSegments,
    /// `nbf` is later than now and the leeway (RFC 7519 §4.1.5).
    #[error("not valid yet")]
    NotYetValid,
    /// A claim that the profile demands is not there (RFC 9068 §2.2), or `exp` is not.
    #[error("a required claim is missing")]
    RequiredClaimMissing {
        /// Which one: a fixed name.
        claim: &'static str,
    },
    /// Bound to a key by `cnf` (RFC 7800), but sent without proof of that key.
    #[error("sender-constrained token without proof")]
    SenderConstrained,
    /// The subject is missing, empty, too long, no string or has control characters.
    #[error("no usable subject in the token")]
    SubjectMissing,
    /// `exp` is not after `nbf`, or before `iat`, where lifetimes are bounded.
    #[error("times contradict each other")]
    TimesContradict,
    /// The header's `typ` says that this is another kind of token (RFC 8725 §3.11).
    #[error("type of token is not allowed")]
    TokenType,
    /// `iss` is not a configured issuer, compared byte for byte.
    #[error("issuer is not configured")]
    UnknownIssuer,
    /// No key of that name in the issuer's current set.
    #[error("key is not in the issuer's set")]
    UnknownKey,
}

impl VerifyError {
    /// One of a fixed list of texts, for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AlgorithmNotAllowed => "algorithm not allowed",
            Self::AudienceMissing => "audience missing",
            Self::AudienceMalformed => "audience malformed",
            Self::AudienceOther => "audience is another",
            Self::BadSignature => "signature invalid",
            Self::ClaimType { .. } => "claim of the wrong type",
            Self::ClaimsMalformed => "claims malformed",
            Self::CriticalExtension => "header extension not supported",
            Self::Encrypted => "encrypted token",
            Self::Expired { .. } => "expired",
            Self::HeaderMalformed => "header malformed",
            Self::IdToken => "not an access token",
            Self::IssuedInFuture => "issued in the future",
            Self::IssuerMissing => "issuer missing",
            Self::KeyMismatch => "key not for this algorithm",
            Self::KeysUnavailable { .. } => "keys unavailable",
            Self::LifetimeTooLong => "lifetime too long",
            Self::NotBase64Url => "not base64url",
            Self::NotThreeSegments => "not a JWT",
            Self::NotYetValid => "not valid yet",
            Self::RequiredClaimMissing { .. } => "required claim missing",
            Self::SenderConstrained => "sender-constrained without proof",
            Self::SubjectMissing => "subject missing",
            Self::TimesContradict => "times contradict",
            Self::TokenType => "token type not allowed",
            Self::UnknownIssuer => "issuer not configured",
            Self::UnknownKey => "key unknown",
        }
    }

    /// Whether the token was once good as far as its claims tell, and is over now.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(self, Self::Expired { .. })
    }

    /// When to try again, if the fault is ours or the identity provider's.
    #[must_use]
    pub fn keys_unavailable(&self) -> Option<Duration> {
        if let Self::KeysUnavailable { retry_after } = self { Some(*retry_after) } else { None }
    }

    /// Whether the token made us work for nothing: a signature computed, or a key looked for. Those count against the sender.
    #[must_use]
    pub fn spent_work(&self) -> bool {
        matches!(self, Self::BadSignature | Self::UnknownKey)
    }
}

/// Why an attempt to get an issuer's keys failed. For the operator: the log, `/readyz` and `check --online`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The answer is longer than is read.
    #[error("answer is longer than {max_bytes} bytes")]
    AnswerTooLong {
        /// The bound.
        max_bytes: usize,
    },
    /// No connection, a TLS failure, or one that broke off.
    #[error("cannot fetch: {what}")]
    Connection {
        /// The chain of causes, escaped and cut.
        what: String,
    },
    /// The discovery document is not a JSON object with the members it must have (OpenID Connect Discovery §3).
    #[error("discovery document is malformed")]
    DiscoveryMalformed,
    /// The keys' file cannot be read.
    #[error("cannot read the file: {what}")]
    File {
        /// The operating system's words.
        what: String,
    },
    /// The discovery document is of another issuer (RFC 8414 §3.3): compared byte for byte.
    #[error("discovery document is of issuer `{found}`, not of the configured one{}", if *.only_slash { " (they differ by a slash at the end)" } else { "" })]
    IssuerDiffers {
        /// What it says, escaped and cut.
        found: String,
        /// Whether a slash at the end is the whole difference.
        only_slash: bool,
    },
    /// `jwks_uri` leads where keys may not come from.
    #[error("discovery document names a jwks_uri that is not allowed: {why}")]
    JwksUriRefused {
        /// Which rule it breaks: a fixed text.
        why: &'static str,
    },
    /// What was read is no key set that can be used.
    #[error(transparent)]
    KeySet(#[from] JwksError),
    /// An answer other than 200; redirects are not followed.
    #[error("answer has status {status}")]
    Status {
        /// Which.
        status: u16,
    },
    /// No full answer in time.
    #[error("no answer in time")]
    Timeout,
}

/// Why an issuer cannot be set up at all. For the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// `ca_file` cannot be read or holds no certificate.
    #[error("cannot use the certificates in {}: {what}", path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The HTTPS client could not be made, for example because the system has no trusted certificates.
    #[error("cannot set up HTTPS: {what}")]
    Client {
        /// Why.
        what: String,
    },
    /// Keys would be fetched in the clear from another machine.
    #[error("keys may be fetched by http:// from a loopback address only")]
    InsecureUrl,
    /// `jwks_file` cannot be used.
    #[error("cannot use the keys in {}: {error}", path.display())]
    JwksFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: KeyError,
    },
}

/// Longest piece of foreign text that is kept, in characters: enough to recognise a URL.
const SHOWN_CHARS: usize = 120;

/// Foreign text made fit for a log: control and special characters escaped, cut after [`SHOWN_CHARS`].
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        assert_eq!(shown("a\r\nb\u{1b}[0m"), "a\\r\\nb\\u{1b}[0m");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), SHOWN_CHARS + 1);
    }

    #[test]
    fn only_wasted_work_counts_against_the_sender() {
        assert!(VerifyError::BadSignature.spent_work() && VerifyError::UnknownKey.spent_work());
        assert!(!VerifyError::Expired { ago_seconds: 1 }.spent_work());
        assert!(!VerifyError::KeysUnavailable { retry_after: Duration::ZERO }.spent_work());
    }
}
