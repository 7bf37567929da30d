//! Refusals: every reason for which the gateway itself ends a request.
//!
//! A stage returns a [`Refusal`]. Only [`error_response`](super::error_response) decides what the
//! client receives for it; the exact cause goes to the log, as [`Refusal::reason`].

use std::time::Duration;

use http::HeaderValue;

use crate::gateway::matching::host::HostRefusal;
use crate::gateway::matching::path::PathRefusal;
use crate::gateway::policy::Denial;
use crate::gateway::policy::limit::LimitExceeded;
use crate::token::VerifyError;
use crate::upstream::body::RequestBodyFault;
use crate::upstream::tunnel_limits::TunnelLimit;
use crate::upstream::{ConnectFault, Fault, ResponseFault, UpstreamError};

/// Why the gateway ends a request. In the order in which the checks are made.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The head is larger than `max_header_size`.
    HeadTooLarge,
    /// The request target is longer than 8 KiB.
    UriTooLong,
    /// The message's framing is ambiguous or wrong.
    Framing(FramingFault),
    /// The request does not name exactly one valid host.
    Host(HostRefusal),
    /// The path has no normal form, backends may interpret it differently, or the route does not
    /// accept its parameters.
    Path(PathRefusal),
    /// No route matches this host and path.
    RouteNotFound,
    /// Routes match this host and path, but none of them allows the method.
    MethodNotAllowed {
        /// The value of `Allow`.
        allow: HeaderValue,
    },
    /// A limit is used up.
    RateLimited(LimitExceeded),
    /// The route requires a client certificate, and the connection is for another host.
    Misdirected,
    /// The route or the server requires a client certificate.
    ClientCertRequired(ClientCertFault),
    /// The route requires a token, and the request has none.
    CredentialsMissing,
    /// Credentials that RFC 6750 does not allow.
    RequestMalformed(CredentialFault),
    /// The token is invalid, or the route does not accept it.
    TokenInvalid(TokenFault),
    /// There are no usable keys of the token's issuer, which is not the caller's fault.
    KeysUnavailable {
        /// How long until the next attempt to fetch them.
        retry_after: Duration,
    },
    /// A valid token lacks a scope that the route demands.
    ScopeInsufficient,
    /// The caller does not meet a demand for a role or a claim. The text is the reason for the log.
    AccessDenied(&'static str),
    /// The request's body is larger than the route allows.
    BodyTooLarge,
    /// The client stopped in the middle of a head or a body.
    ClientTimeout,
    /// The upstream, or this client, has as many tunnels as it may have.
    TunnelLimit(TunnelLimit),
    /// All connections to the upstream are in use.
    UpstreamBusy,
    /// The upstream's response is malformed or ends before its head is complete.
    UpstreamFailed(ResponseFault),
    /// The upstream did not respond in time.
    UpstreamTimeout,
    /// No server of the upstream is up.
    UpstreamUnavailable {
        /// When a server may be up again.
        retry_after: Duration,
    },
    /// The gateway cannot connect to the upstream.
    UpstreamUnreachable(ConnectFault),
    /// A bug in the gateway.
    Internal,
}

/// What is wrong with a message's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingFault {
    /// The body broke off or its chunks are malformed.
    BrokenBody,
    /// The head is malformed.
    MalformedHead,
    /// `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.1).
    TwoFramings,
    /// `Transfer-Encoding` other than `chunked` alone, or in HTTP/1.0 (RFC 9112 §6.1).
    TransferEncoding,
}

/// Why a connection has no acceptable client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertFault {
    /// It has expired since the handshake.
    Expired,
    /// The client has presented none.
    Missing,
    /// It was revoked since the handshake, or its authority is no longer trusted.
    Withdrawn,
}

/// What is wrong with a request's credentials (RFC 6750 §3.1 `invalid_request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialFault {
    /// There is more than one token, or a byte that is not allowed in a token.
    NotOneToken,
    /// There is no token after `Bearer`.
    NoToken,
    /// There is more than one `Authorization` field.
    TwoCredentials,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenFault {
    /// It is valid, but for none of the route's audiences.
    Audience,
    /// It is bound to a certificate that the client has not presented on this connection.
    Binding,
    /// It is valid, but the route does not accept its issuer.
    Issuer,
    /// It is longer than `max_token_size`.
    TooLong,
    /// It is invalid.
    Verify(VerifyError),
    /// It was valid, but no longer is: its key was withdrawn, or its issuer's settings have
    /// changed.
    Withdrawn,
    /// It was valid, and `stream_after_expiry` passed before the upstream responded.
    ExpiredMeanwhile,
}

impl TokenFault {
    /// Whether the token was valid until it expired.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        match self {
            Self::Verify(error) => error.is_expired(),
            Self::ExpiredMeanwhile => true,
            Self::Audience | Self::Binding | Self::Issuer | Self::TooLong | Self::Withdrawn => false,
        }
    }
}

impl Refusal {
    /// The reason for the log. Always one of a fixed set of texts, never text from the client.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Framing(FramingFault::BrokenBody) => "broken body",
            Self::Framing(FramingFault::MalformedHead) => "malformed head",
            Self::Framing(FramingFault::TransferEncoding) => "transfer-encoding is not chunked alone",
            Self::Framing(FramingFault::TwoFramings) => "content-length and transfer-encoding",
            Self::Host(refusal) => refusal.reason(),
            Self::Path(refusal) => refusal.reason(),
            Self::Misdirected => "the connection is for another host",
            Self::ClientCertRequired(ClientCertFault::Expired) => "the client certificate has expired",
            Self::ClientCertRequired(ClientCertFault::Missing) => "no client certificate",
            Self::ClientCertRequired(ClientCertFault::Withdrawn) => "the client certificate is no longer accepted",
            Self::RequestMalformed(CredentialFault::NotOneToken) => "authorization is not one token",
            Self::RequestMalformed(CredentialFault::NoToken) => "no token after Bearer",
            Self::RequestMalformed(CredentialFault::TwoCredentials) => "two authorization fields",
            Self::TokenInvalid(TokenFault::Audience) => "not for an audience of this route",
            Self::TokenInvalid(TokenFault::Binding) => "bound to another client certificate",
            Self::TokenInvalid(TokenFault::Issuer) => "of an issuer that this route does not take",
            Self::TokenInvalid(TokenFault::TooLong) => "token too long",
            Self::TokenInvalid(TokenFault::Verify(error)) => error.reason(),
            Self::TokenInvalid(TokenFault::Withdrawn) => "the token is no longer valid",
            Self::TokenInvalid(TokenFault::ExpiredMeanwhile) => "the token has expired",
            Self::AccessDenied(reason) => reason,
            Self::TunnelLimit(TunnelLimit::All) => "all tunnels to the upstream are in use",
            Self::TunnelLimit(TunnelLimit::PerClient) => "this client has as many tunnels as it may have",
            Self::ScopeInsufficient => "lacks a scope",
            Self::UpstreamFailed(fault) => fault.reason(),
            Self::UpstreamUnreachable(fault) => fault.reason(),
            Self::RateLimited(_)
            | Self::HeadTooLarge
            | Self::UriTooLong
            | Self::RouteNotFound
            | Self::MethodNotAllowed { .. }
            | Self::CredentialsMissing
            | Self::KeysUnavailable { .. }
            | Self::BodyTooLarge
            | Self::ClientTimeout
            | Self::UpstreamBusy
            | Self::UpstreamTimeout
            | Self::UpstreamUnavailable { .. }
            | Self::Internal => self.code(),
        }
    }
}

/// Whose fault it is that a request got no complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client's.
    Client,
    /// This process's or this machine's.
    Gateway,
    /// The identity provider's.
    Issuer,
    /// The upstream's.
    Upstream,
}

impl Blame {
    /// The name in the access log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Issuer => "issuer",
            Self::Upstream => "upstream",
        }
    }
}

impl Refusal {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::HeadTooLarge
            | Self::UriTooLong
            | Self::Framing(_)
            | Self::Host(_)
            | Self::Path(_)
            | Self::RouteNotFound
            | Self::MethodNotAllowed { .. }
            | Self::RateLimited(_)
            | Self::Misdirected
            | Self::ClientCertRequired(_)
            | Self::CredentialsMissing
            | Self::RequestMalformed(_)
            | Self::TokenInvalid(_)
            | Self::ScopeInsufficient
            | Self::AccessDenied(_)
            | Self::BodyTooLarge
            | Self::ClientTimeout
            | Self::TunnelLimit(TunnelLimit::PerClient) => Blame::Client,
            Self::KeysUnavailable { .. } => Blame::Issuer,
            Self::UpstreamUnreachable(ConnectFault::LocalResources) | Self::Internal => Blame::Gateway,
            Self::UpstreamBusy
            | Self::TunnelLimit(TunnelLimit::All)
            | Self::UpstreamFailed(_)
            | Self::UpstreamTimeout
            | Self::UpstreamUnavailable { .. }
            | Self::UpstreamUnreachable(_) => Blame::Upstream,
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Client(RequestBodyFault::TooLarge) => Self::BodyTooLarge,
            Fault::Client(RequestBodyFault::Idle) => Self::ClientTimeout,
            // If the client disconnected, it does not receive this.
            Fault::Client(RequestBodyFault::Abandoned | RequestBodyFault::Broken) => {
                Self::Framing(FramingFault::BrokenBody)
            }
            Fault::Upstream(UpstreamError::Busy) => Self::UpstreamBusy,
            Fault::Upstream(UpstreamError::Failed(fault)) => Self::UpstreamFailed(fault),
            Fault::Upstream(UpstreamError::DeadlineExceeded | UpstreamError::Timeout) => Self::UpstreamTimeout,
            Fault::Upstream(UpstreamError::Unavailable { retry_after }) => Self::UpstreamUnavailable { retry_after },
            Fault::Upstream(UpstreamError::Unreachable(fault)) => Self::UpstreamUnreachable(fault),
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

impl From<LimitExceeded> for Refusal {
    fn from(exceeded: LimitExceeded) -> Self {
        Self::RateLimited(exceeded)
    }
}

impl From<VerifyError> for Refusal {
    /// 503 if the issuer's keys are unavailable, else 401.
    fn from(error: VerifyError) -> Self {
        match error.retry_after() {
            Some(retry_after) => Self::KeysUnavailable { retry_after },
            None => Self::TokenInvalid(TokenFault::Verify(error)),
        }
    }
}
