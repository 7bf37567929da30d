//! Refusals: every way in which the gateway ends a request itself.
//!
//! A stage returns a [`Refusal`], which says *why*. What the client gets is decided in
//! [`error_response`](super::error_response) alone; what was wrong in detail goes to the log as
//! [`Refusal::reason`], from a fixed list.

use std::time::Duration;

use http::HeaderValue;

use crate::gateway::matching::host::HostRefusal;
use crate::gateway::matching::path::PathRefusal;
use crate::gateway::policy::Denial;
use crate::token::VerifyError;

/// Why a request goes no further. Variants by meaning, in the order in which a request meets them.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The head is larger than `max_header_size`.
    HeadTooLarge,
    /// The request target is longer than the gateway looks at.
    UriTooLong,
    /// The message's framing is ambiguous or wrong.
    Framing(Framing),
    /// `Host` is missing, doubled or malformed.
    Host(HostRefusal),
    /// The path is not in a form that everybody reads alike.
    Path(PathRefusal),
    /// No route for this host and path.
    RouteNotFound,
    /// Routes for this host and path, none for the method.
    MethodNotAllowed {
        /// The `Allow` field.
        allow: HeaderValue,
    },
    /// A limit is used up.
    RateLimited {
        /// When to come again.
        retry_after: Duration,
        /// The limit's name in the configuration.
        limit: std::sync::Arc<str>,
    },
    /// The route needs a token and there is none.
    CredentialsMissing,
    /// Credentials that RFC 6750 does not allow.
    RequestMalformed(Malformed),
    /// The token is not good, or not good here.
    TokenInvalid(TokenFault),
    /// No usable keys of the token's issuer: our fault or the identity provider's, not the caller's.
    KeysUnavailable {
        /// When the next attempt to get them is due.
        retry_after: Duration,
    },
    /// A good token without a scope that the route needs.
    ScopeInsufficient,
    /// A valid token whose roles or claims do not suffice; which demand was not met, for the log.
    AccessDenied(&'static str),
    /// The request's body is larger than the route allows.
    BodyTooLarge,
    /// The client stopped in the middle of a head or a body.
    ClientTimeout,
    /// All connections to the upstream are in use.
    UpstreamBusy,
    /// The upstream's answer is no HTTP or was cut off.
    UpstreamFailed,
    /// No answer in time.
    UpstreamTimeout,
    /// No connection to the upstream.
    UpstreamUnreachable,
    /// A fault of the gateway.
    Internal,
}

/// What is wrong with a message's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The body broke off or its chunks are malformed.
    BrokenBody,
    /// The head is no HTTP.
    MalformedHead,
    /// `Transfer-Encoding` other than `chunked` alone, or in HTTP/1.0 (RFC 9112 §6.1).
    TransferEncoding,
    /// An upgrade to a protocol that the gateway does not pass through.
    Upgrade,
}

/// What is wrong with a request's credentials (RFC 6750 §3.1 `invalid_request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A byte that no token has, or more than one token.
    NotOneToken,
    /// `Bearer` and nothing behind it.
    NoToken,
    /// Two `Authorization` fields.
    TwoCredentials,
}

/// Why a token does not count.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenFault {
    /// Good, but for another audience than the route's.
    Audience,
    /// Good, but of an issuer that the route does not take.
    Issuer,
    /// Longer than `max_token_size`.
    TooLong,
    /// Not good at all.
    Verify(VerifyError),
}

impl Refusal {
    /// Why, for the log: from a fixed list, never the client's text.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Framing(Framing::BrokenBody) => "broken body",
            Self::Framing(Framing::MalformedHead) => "malformed head",
            Self::Framing(Framing::TransferEncoding) => "transfer-encoding is not chunked alone",
            Self::Framing(Framing::Upgrade) => "upgrade to a protocol that is not passed through",
            Self::Host(refusal) => refusal.reason(),
            Self::Path(refusal) => refusal.reason(),
            Self::RequestMalformed(Malformed::NotOneToken) => "authorization is not one token",
            Self::RequestMalformed(Malformed::NoToken) => "no token after Bearer",
            Self::RequestMalformed(Malformed::TwoCredentials) => "two authorization fields",
            Self::TokenInvalid(TokenFault::Audience) => "not for an audience of this route",
            Self::TokenInvalid(TokenFault::Issuer) => "of an issuer that this route does not take",
            Self::TokenInvalid(TokenFault::TooLong) => "token too long",
            Self::TokenInvalid(TokenFault::Verify(error)) => error.reason(),
            Self::AccessDenied(reason) => reason,
            Self::ScopeInsufficient => "lacks a scope",
            Self::RateLimited { .. }
            | Self::HeadTooLarge
            | Self::UriTooLong
            | Self::RouteNotFound
            | Self::MethodNotAllowed { .. }
            | Self::CredentialsMissing
            | Self::KeysUnavailable { .. }
            | Self::BodyTooLarge
            | Self::ClientTimeout
            | Self::UpstreamBusy
            | Self::UpstreamFailed
            | Self::UpstreamTimeout
            | Self::UpstreamUnreachable
            | Self::Internal => self.code(),
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Access(reason) => Self::AccessDenied(reason),
            Denial::Scope => Self::ScopeInsufficient,
        }
    }
}

impl From<VerifyError> for Refusal {
    /// 401, or 503 where the fault is not the caller's.
    fn from(error: VerifyError) -> Self {
        match error.retry_after() {
            Some(retry_after) => Self::KeysUnavailable { retry_after },
            None => Self::TokenInvalid(TokenFault::Verify(error)),
        }
    }
}
