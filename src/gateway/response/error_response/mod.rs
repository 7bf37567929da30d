//! Error responses: the one place that turns a [`Refusal`] into HTTP.
//!
//! One table gives each refusal its status, code, text, challenge and what becomes of the connection.
//! It lists every variant: a new one must be thought about. The client gets a fixed text and the
//! request id, as a problem document (RFC 9457).

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::refusal::{Refusal, TokenFault};
use crate::gateway::policy::Challenges;
use crate::primitives::field_syntax::retry_after_seconds;

/// What an error response needs to know of the request that it answers.
#[derive(Clone, Copy, Debug)]
pub struct ErrorContext<'a> {
    /// The challenges of the route, or of requests that have none.
    pub challenges: &'a Challenges,
    /// Only letters, digits, `-`, `_` and `.`.
    pub request_id: &'a str,
    /// Whether the connection speaks HTTP/1, where a response can ask to close it.
    pub http_1: bool,
}

/// What one refusal is on the wire.
struct Representation {
    status: u16,
    code: &'static str,
    detail: &'static str,
    challenge: Challenge,
    connection: Connection,
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

/// What becomes of an HTTP/1 connection after a refusal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// Later bytes on it cannot be attributed to any request.
    Closes,
    /// The next request on it can be read.
    StaysOpen,
}

impl Refusal {
    /// The code in the problem document, in metrics and in the log.
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
        use Connection::{Closes, StaysOpen};
        let (status, code, detail, challenge, connection) = match self {
            Self::HeadTooLarge => {
                (431, "head_too_large", "The request head is larger than the limit of this server.", No, Closes)
            }
            Self::UriTooLong => {
                (414, "uri_too_long", "The request target is longer than the limit of this server.", No, Closes)
            }
            Self::Framing(_) => {
                (400, "framing_refused", "The request's framing is malformed or ambiguous.", No, Closes)
            }
            Self::Host(_) => (400, "host_refused", "The request must name exactly one valid host.", No, Closes),
            Self::Path(_) => (400, "path_refused", "The path is not in normal form.", No, StaysOpen),
            Self::RouteNotFound => {
                (404, "route_not_found", "Nothing is served under this host and path.", No, StaysOpen)
            }
            Self::MethodNotAllowed { .. } => {
                (405, "method_not_allowed", "This method is not allowed here; see Allow.", No, StaysOpen)
            }
            Self::RateLimited { .. } => (429, "rate_limited", "Too many requests; see Retry-After.", No, StaysOpen),
            Self::CredentialsMissing => {
                (401, "credentials_missing", "An access token is required.", Missing, StaysOpen)
            }
            Self::RequestMalformed(_) => (
                400,
                "request_malformed",
                "The request's credentials are malformed or given twice.",
                Malformed,
                StaysOpen,
            ),
            Self::TokenInvalid(TokenFault::Verify(error)) if error.is_expired() => {
                (401, "token_invalid", "The access token expired.", Expired, StaysOpen)
            }
            Self::TokenInvalid(_) => (401, "token_invalid", "The access token is not valid.", Invalid, StaysOpen),
            Self::KeysUnavailable { .. } => (
                503,
                "keys_unavailable",
                "Access tokens cannot be verified at the moment; see Retry-After.",
                No,
                StaysOpen,
            ),
            Self::ScopeInsufficient => (
                403,
                "scope_insufficient",
                "The access token lacks a scope that is required here.",
                InsufficientScope,
                StaysOpen,
            ),
            Self::AccessDenied(_) => (403, "access_denied", "The caller may not do this.", No, StaysOpen),
            Self::BodyTooLarge => {
                (413, "body_too_large", "The request body is larger than the limit of this route.", No, StaysOpen)
            }
            Self::ClientTimeout => (408, "client_timeout", "The request did not arrive in time.", No, Closes),
            Self::UpstreamBusy => {
                (503, "upstream_busy", "The service behind this gateway is at its limit.", No, StaysOpen)
            }
            Self::UpstreamFailed => {
                (502, "upstream_failed", "The service behind this gateway gave no valid response.", No, StaysOpen)
            }
            Self::UpstreamTimeout => {
                (504, "upstream_timeout", "The service behind this gateway did not respond in time.", No, StaysOpen)
            }
            Self::UpstreamUnreachable => {
                (502, "upstream_unreachable", "The service behind this gateway cannot be reached.", No, StaysOpen)
            }
            Self::Internal => (500, "internal", "The gateway failed.", No, StaysOpen),
        };
        Representation { status, code, detail, challenge, connection }
    }

    /// The response: status, challenge and a problem document.
    #[must_use]
    pub fn to_response(&self, context: ErrorContext<'_>) -> Response<Bytes> {
        let representation = self.representation();
        let status = self.status();
        let mut response = Response::new(problem(status, &representation, self.limit(), context.request_id));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(challenge) = representation.challenge.value(context.challenges) {
            headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
        }
        if context.http_1 && representation.connection == Connection::Closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.write_extra_headers(headers);
        response
    }

    fn write_extra_headers(&self, headers: &mut HeaderMap) {
        if let Self::MethodNotAllowed { allow } = self {
            headers.insert(header::ALLOW, allow.clone());
        }
        if let Self::RateLimited { retry_after, .. } | Self::KeysUnavailable { retry_after } = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds(*retry_after)));
        }
    }

    fn limit(&self) -> Option<&str> {
        if let Self::RateLimited { limit, .. } = self { Some(limit) } else { None }
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

fn problem(status: StatusCode, of: &Representation, limit: Option<&str>, request_id: &str) -> Bytes {
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
    // `about:blank` means that the status says what kind of problem it is (RFC 9457 §4.2.1); `code` is
    // more precise. For an exhausted quota there is a registered type.
    let r#type =
        if limit.is_some() { "https://iana.org/assignments/http-problem-types#quota-exceeded" } else { "about:blank" };
    let body = Problem {
        r#type,
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: of.detail,
        code: of.code,
        request_id,
        violated_policies: limit.map(|name| [name]),
    };
    serde_json::to_vec(&body).expect("strings and a number are always JSON").into()
}

#[cfg(test)]
mod tests;
