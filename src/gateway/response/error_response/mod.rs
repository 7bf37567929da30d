//! Error responses: the one place that turns a [`Refusal`] into HTTP.
//!
//! One table gives each refusal its status, code, text and challenge, and says whether the
//! connection closes. It lists every variant, so that a new one does not compile without an entry.
//! The client receives a fixed text and the request id, as a problem document (RFC 9457), or as the
//! status of its gRPC call.

mod grpc;

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Version};

use super::refusal::Refusal;
use crate::gateway::policy::Challenges;
use crate::gateway::policy::limit::LimitExceeded;
use crate::gateway::request::RequestHead;
use crate::primitives::field_syntax::retry_after_seconds;

/// The parts of a request that an error response depends on.
#[derive(Clone, Copy, Debug)]
pub struct ErrorContext<'a> {
    /// The challenges of the route, or those of requests without a route.
    pub challenges: &'a Challenges,
    /// Only letters, digits, `-`, `_` and `.`.
    pub request_id: &'a str,
    /// The form in which the client reads a refusal.
    pub form: ErrorForm,
}

/// The form in which a client reads a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorForm {
    /// The status of a gRPC call.
    Grpc,
    /// A problem document over HTTP/1, where `Connection: close` closes the connection.
    Http1Problem,
    /// A problem document over HTTP/2.
    Http2Problem,
}

impl ErrorForm {
    /// The form for the client that sent `head`.
    pub(super) fn of(head: &RequestHead) -> Self {
        if head.is_grpc_call() {
            Self::Grpc
        } else if head.version <= Version::HTTP_11 {
            Self::Http1Problem
        } else {
            Self::Http2Problem
        }
    }
}

/// How one refusal is represented in HTTP.
struct Representation {
    status: u16,
    code: &'static str,
    detail: &'static str,
    challenge: Challenge,
    persistence: Persistence,
}

/// Which `WWW-Authenticate` value a refusal carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Challenge {
    Expired,
    InsufficientScope,
    Invalid,
    Malformed,
    Missing,
    No,
}

/// Whether an HTTP/1 connection persists after a refusal (RFC 9112 §9.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Persistence {
    /// Later bytes on it cannot be attributed to any request, or the client needs another one.
    Close,
    /// The gateway can read the next request on it.
    KeepAlive,
}

impl Refusal {
    /// The code, as the problem document, the metrics and the log show it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.representation().code
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.representation().status).expect("a literal of the table")
    }

    fn representation(&self) -> Representation {
        use Challenge::{Expired, InsufficientScope, Invalid, Malformed, Missing, No};
        use Persistence::{Close, KeepAlive};
        let (status, code, detail, challenge, persistence) = match self {
            Self::HeadTooLarge => {
                (431, "head_too_large", "The request head is larger than the limit of this server.", No, Close)
            }
            Self::UriTooLong => {
                (414, "uri_too_long", "The request target is longer than the limit of this server.", No, Close)
            }
            Self::Framing(_) => (400, "framing_refused", "The request's framing is malformed or ambiguous.", No, Close),
            Self::Host(_) => (400, "host_refused", "The request must name exactly one valid host.", No, Close),
            Self::Path(_) => (400, "path_refused", "The path is not in normal form.", No, KeepAlive),
            Self::RouteNotFound => {
                (404, "route_not_found", "Nothing is served under this host and path.", No, KeepAlive)
            }
            Self::MethodNotAllowed { .. } => {
                (405, "method_not_allowed", "This method is not allowed here; see Allow.", No, KeepAlive)
            }
            Self::RateLimited(_) => (429, "rate_limited", "Too many requests; see Retry-After.", No, KeepAlive),
            Self::Misdirected => (
                421,
                "misdirected_request",
                "This connection was opened for another host; send the request on a connection to this host.",
                No,
                KeepAlive,
            ),
            // The client can present a certificate on another connection only.
            Self::ClientCertRequired(_) => {
                (403, "client_cert_required", "A valid client certificate is required here.", No, Close)
            }
            Self::CredentialsMissing => {
                (401, "credentials_missing", "An access token is required.", Missing, KeepAlive)
            }
            Self::RequestMalformed(_) => (
                400,
                "request_malformed",
                "The request's credentials are malformed or given twice.",
                Malformed,
                KeepAlive,
            ),
            Self::TokenInvalid(fault) if fault.is_expired() => {
                (401, "token_invalid", "The access token expired.", Expired, KeepAlive)
            }
            Self::TokenInvalid(_) => (401, "token_invalid", "The access token is not valid.", Invalid, KeepAlive),
            Self::KeysUnavailable { .. } => (
                503,
                "keys_unavailable",
                "Access tokens cannot be verified at the moment; see Retry-After.",
                No,
                KeepAlive,
            ),
            Self::ScopeInsufficient => (
                403,
                "scope_insufficient",
                "The access token lacks a scope that is required here.",
                InsufficientScope,
                KeepAlive,
            ),
            Self::AccessDenied(_) => (403, "access_denied", "The caller may not do this.", No, KeepAlive),
            Self::BodyTooLarge => {
                (413, "body_too_large", "The request body is larger than the limit of this route.", No, KeepAlive)
            }
            Self::ClientTimeout => (408, "client_timeout", "The request did not arrive in time.", No, Close),
            Self::TunnelLimit(_) | Self::UpstreamBusy => {
                (503, "upstream_busy", "The service behind this gateway is at its limit.", No, KeepAlive)
            }
            Self::UpstreamFailed(_) => {
                (502, "upstream_failed", "The service behind this gateway gave no valid response.", No, KeepAlive)
            }
            Self::UpstreamTimeout => {
                (504, "upstream_timeout", "The service behind this gateway did not respond in time.", No, KeepAlive)
            }
            Self::UpstreamUnavailable { .. } => (
                503,
                "upstream_unavailable",
                "The service behind this gateway is not available at the moment; see Retry-After.",
                No,
                KeepAlive,
            ),
            Self::UpstreamUnreachable(_) => {
                (502, "upstream_unreachable", "The service behind this gateway cannot be reached.", No, KeepAlive)
            }
            Self::Internal => (500, "internal", "The gateway failed.", No, KeepAlive),
        };
        Representation { status, code, detail, challenge, persistence }
    }

    /// The response, in the form that the client reads.
    #[must_use]
    pub fn to_response(&self, context: ErrorContext<'_>) -> Response<Bytes> {
        let representation = self.representation();
        let mut response = match context.form {
            ErrorForm::Grpc => self.trailers_only(&representation),
            ErrorForm::Http1Problem | ErrorForm::Http2Problem => self.problem(&representation, context.request_id),
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(challenge) = representation.challenge.value(context.challenges) {
            headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
        }
        if context.form == ErrorForm::Http1Problem && representation.persistence == Persistence::Close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.write_extra_headers(headers);
        response
    }

    fn problem(&self, representation: &Representation, request_id: &str) -> Response<Bytes> {
        let status = self.status();
        let mut response = Response::new(problem_document(status, representation, self.limit(), request_id));
        *response.status_mut() = status;
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }

    fn write_extra_headers(&self, headers: &mut HeaderMap) {
        if let Self::MethodNotAllowed { allow } = self {
            headers.insert(header::ALLOW, allow.clone());
        }
        if let Some(retry_after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds(retry_after)));
        }
    }

    /// When the client may try again, if the gateway knows it.
    fn retry_after(&self) -> Option<Duration> {
        let (Self::RateLimited(LimitExceeded { retry_after, .. })
        | Self::KeysUnavailable { retry_after }
        | Self::UpstreamUnavailable { retry_after }) = self
        else {
            return None;
        };
        Some(*retry_after)
    }

    fn limit(&self) -> Option<&str> {
        if let Self::RateLimited(exceeded) = self { Some(&exceeded.limit) } else { None }
    }
}

impl Challenge {
    fn value(self, challenges: &Challenges) -> Option<&HeaderValue> {
        match self {
            Self::Expired => Some(&challenges.expired),
            Self::InsufficientScope => Some(&challenges.insufficient_scope),
            Self::Invalid => Some(&challenges.invalid),
            Self::Malformed => Some(&challenges.malformed),
            Self::Missing => Some(&challenges.missing),
            Self::No => None,
        }
    }
}

fn problem_document(
    status: StatusCode,
    representation: &Representation,
    limit: Option<&str>,
    request_id: &str,
) -> Bytes {
    #[derive(serde::Serialize)]
    struct Problem<'a> {
        r#type: &'static str,
        title: &'static str,
        status: u16,
        detail: &'static str,
        code: &'static str,
        request_id: &'a str,
        #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
        violated_policies: Option<[&'a str; 1]>,
    }
    // `about:blank` means that the type of the problem is its status (RFC 9457 §4.2.1); `code` is
    // more precise. An exhausted quota has a registered type.
    let r#type =
        if limit.is_some() { "https://iana.org/assignments/http-problem-types#quota-exceeded" } else { "about:blank" };
    let body = Problem {
        r#type,
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: representation.detail,
        code: representation.code,
        request_id,
        violated_policies: limit.map(|name| [name]),
    };
    serde_json::to_vec(&body).expect("strings and a number are always JSON").into()
}

#[cfg(test)]
mod tests;
