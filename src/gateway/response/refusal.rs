//! Refusals: every way a request can end here, and the one place that turns it into an HTTP answer.
//!
//! A stage returns a [`Refusal`], which says *why*; only [`Refusal::answer`] chooses a status, a challenge and a text. The client gets a
//! fixed text and the request id; what was wrong in detail goes to the log as [`Refusal::reason`], from a fixed list as well.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::gateway::matching::host::HostRefusal;
use crate::gateway::matching::path::PathRefusal;
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
    /// A good token whose roles or claims do not suffice.
    AccessDenied(Demand),
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

/// Which demand of a route was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// One of `any_roles`.
    AnyRole,
    /// An entry of `claims`, by its place in the route's list.
    Claim(usize),
    /// One of `roles`.
    Role,
}

/// What an answer needs to know of the request it refuses.
#[derive(Clone, Copy, Debug)]
pub struct ErrorContext<'a> {
    /// The challenges of the route, or of none.
    pub challenges: &'a Challenges,
    /// Only letters, digits, `-`, `_` and `.`.
    pub request_id: &'a str,
    /// Whether the connection speaks HTTP/1, where it can be told to close.
    pub http_1: bool,
}

/// The `WWW-Authenticate` values of a route (RFC 6750 §3), made once.
#[derive(Clone, Debug, PartialEq)]
pub struct Challenges {
    missing: HeaderValue,
    malformed: HeaderValue,
    expired: HeaderValue,
    invalid: HeaderValue,
    insufficient: HeaderValue,
}

impl Challenges {
    /// For a realm, and all scopes that the route asks for, separated by spaces.
    ///
    /// # Panics
    ///
    /// If `realm` or `scope` has a byte that a quoted string cannot hold: the plan has refused those.
    #[must_use]
    pub fn new(realm: &str, scope: &str) -> Self {
        let value = |rest: &str| {
            HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{rest}"))
                .expect("the plan has checked realm and scopes")
        };
        let scope_part = if scope.is_empty() { String::new() } else { format!(", scope=\"{scope}\"") };
        Self {
            missing: value(&scope_part),
            malformed: value(
                ", error=\"invalid_request\", error_description=\"The request's credentials are malformed\"",
            ),
            expired: value(", error=\"invalid_token\", error_description=\"The access token expired\""),
            invalid: value(", error=\"invalid_token\", error_description=\"The access token is not valid\""),
            insufficient: value(&format!(
                ", error=\"insufficient_scope\", error_description=\"The access token lacks a scope\"{scope_part}"
            )),
        }
    }
}

/// What one refusal looks like on the wire.
struct Representation {
    status: StatusCode,
    code: &'static str,
    detail: &'static str,
}

impl Refusal {
    /// The code in the problem body, in metrics and in the log.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.representation().code
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.representation().status
    }

    fn representation(&self) -> Representation {
        let (status, code, detail) = match self {
            Self::HeadTooLarge => (431, "head_too_large", "The request head is larger than this server takes."),
            Self::UriTooLong => (414, "uri_too_long", "The request target is longer than this server takes."),
            Self::Framing(_) => (400, "framing_refused", "The request's framing is malformed or ambiguous."),
            Self::Host(_) => (400, "host_refused", "The request must name exactly one valid host."),
            Self::Path(_) => (400, "path_refused", "The path is not in normal form."),
            Self::RouteNotFound => (404, "route_not_found", "Nothing is served under this host and path."),
            Self::MethodNotAllowed { .. } => {
                (405, "method_not_allowed", "Nothing is served here under this method; see Allow.")
            }
            Self::RateLimited { .. } => (429, "rate_limited", "Too many requests; see Retry-After."),
            Self::CredentialsMissing => (401, "credentials_missing", "An access token is needed."),
            Self::RequestMalformed(_) => {
                (400, "request_malformed", "The request's credentials are malformed or given twice.")
            }
            Self::TokenInvalid(TokenFault::Verify(error)) if error.is_expired() => {
                (401, "token_invalid", "The access token expired.")
            }
            Self::TokenInvalid(_) => (401, "token_invalid", "The access token is not valid."),
            Self::KeysUnavailable { .. } => {
                (503, "keys_unavailable", "Access tokens cannot be verified at the moment; see Retry-After.")
            }
            Self::ScopeInsufficient => {
                (403, "scope_insufficient", "The access token lacks a scope that is needed here.")
            }
            Self::AccessDenied(_) => (403, "access_denied", "The caller may not do this."),
            Self::BodyTooLarge => (413, "body_too_large", "The request body is larger than is taken here."),
            Self::ClientTimeout => (408, "client_timeout", "The request did not arrive in time."),
            Self::UpstreamBusy => (503, "upstream_busy", "The service behind this gateway is at its limit."),
            Self::UpstreamFailed => (502, "upstream_failed", "The service behind this gateway gave no valid answer."),
            Self::UpstreamTimeout => {
                (504, "upstream_timeout", "The service behind this gateway did not answer in time.")
            }
            Self::UpstreamUnreachable => {
                (502, "upstream_unreachable", "The service behind this gateway cannot be reached.")
            }
            Self::Internal => (500, "internal", "The gateway failed."),
        };
        Representation { status: StatusCode::from_u16(status).expect("a literal of the table above"), code, detail }
    }

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
            Self::AccessDenied(Demand::AnyRole) => "has none of any_roles",
            Self::AccessDenied(Demand::Claim(_)) => "a claim does not match",
            Self::AccessDenied(Demand::Role) => "lacks a role",
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
            | Self::Internal => self.representation().code,
        }
    }

    /// Whether what follows on an HTTP/1 connection can no longer be told apart from this request.
    fn ends_the_connection(&self) -> bool {
        matches!(self, Self::Framing(_) | Self::Host(_) | Self::HeadTooLarge | Self::UriTooLong | Self::ClientTimeout)
    }

    /// The answer: status, challenge and a problem body (RFC 9457).
    #[must_use]
    pub fn answer(&self, to: ErrorContext<'_>) -> Response<Bytes> {
        let representation = self.representation();
        let mut response = Response::new(problem(&representation, self.limit(), to.request_id));
        *response.status_mut() = representation.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(challenge) = self.challenge(to.challenges) {
            headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
        }
        if to.http_1 && self.ends_the_connection() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.extra_headers(headers);
        response
    }

    fn challenge<'a>(&self, challenges: &'a Challenges) -> Option<&'a HeaderValue> {
        match self {
            Self::CredentialsMissing => Some(&challenges.missing),
            Self::RequestMalformed(_) => Some(&challenges.malformed),
            Self::TokenInvalid(TokenFault::Verify(error)) if error.is_expired() => Some(&challenges.expired),
            Self::TokenInvalid(_) => Some(&challenges.invalid),
            Self::ScopeInsufficient => Some(&challenges.insufficient),
            Self::HeadTooLarge
            | Self::UriTooLong
            | Self::Framing(_)
            | Self::Host(_)
            | Self::Path(_)
            | Self::RouteNotFound
            | Self::MethodNotAllowed { .. }
            | Self::RateLimited { .. }
            | Self::KeysUnavailable { .. }
            | Self::AccessDenied(_)
            | Self::BodyTooLarge
            | Self::ClientTimeout
            | Self::UpstreamBusy
            | Self::UpstreamFailed
            | Self::UpstreamTimeout
            | Self::UpstreamUnreachable
            | Self::Internal => None,
        }
    }

    fn extra_headers(&self, headers: &mut HeaderMap) {
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert(header::ALLOW, allow.clone());
            }
            Self::RateLimited { retry_after, .. } | Self::KeysUnavailable { retry_after } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(*retry_after)));
            }
            _ => {}
        }
    }

    fn limit(&self) -> Option<&str> {
        match self {
            Self::RateLimited { limit, .. } => Some(limit),
            _ => None,
        }
    }
}

/// Seconds, rounded up, at least one: a client must not come again too early (RFC 9110 §10.2.3).
#[must_use]
pub fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn problem(representation: &Representation, limit: Option<&str>, request_id: &str) -> Bytes {
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
    // `about:blank` means: the status says what kind of problem it is (RFC 9457 §4.2.1); `code` tells ours apart. For a used-up quota there is
    // a registered type.
    let r#type =
        if limit.is_some() { "https://iana.org/assignments/http-problem-types#quota-exceeded" } else { "about:blank" };
    let body = Problem {
        r#type,
        title: representation.status.canonical_reason().unwrap_or("Error"),
        status: representation.status.as_u16(),
        detail: representation.detail,
        code: representation.code,
        request_id,
        violated_policies: limit.map(|name| [name]),
    };
    serde_json::to_vec(&body).expect("strings and a number are always JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(refusal: &Refusal) -> Response<Bytes> {
        let challenges = Challenges::new("portcullis", "orders:read orders:write");
        refusal.answer(ErrorContext { challenges: &challenges, request_id: "r-1", http_1: true })
    }

    /// RFC 6750 §3: no credentials, no error code.
    #[test]
    fn each_refusal_has_its_status_code_and_challenge() {
        let bearer = |rest: &str| Some(format!("Bearer realm=\"portcullis\"{rest}"));
        let scope = ", scope=\"orders:read orders:write\"";
        let retry_after = Duration::from_millis(1_500);
        for (refusal, status, code, challenge) in [
            (Refusal::CredentialsMissing, 401, "credentials_missing", bearer(scope)),
            (
                Refusal::RequestMalformed(Malformed::TwoCredentials),
                400,
                "request_malformed",
                bearer(", error=\"invalid_request\", error_description=\"The request's credentials are malformed\""),
            ),
            (
                Refusal::TokenInvalid(TokenFault::Issuer),
                401,
                "token_invalid",
                bearer(", error=\"invalid_token\", error_description=\"The access token is not valid\""),
            ),
            (
                Refusal::ScopeInsufficient,
                403,
                "scope_insufficient",
                bearer(&format!(
                    ", error=\"insufficient_scope\", error_description=\"The access token lacks a scope\"{scope}"
                )),
            ),
            (Refusal::AccessDenied(Demand::Role), 403, "access_denied", None),
            (Refusal::KeysUnavailable { retry_after }, 503, "keys_unavailable", None),
            (Refusal::RateLimited { retry_after, limit: "calls".into() }, 429, "rate_limited", None),
            (Refusal::RouteNotFound, 404, "route_not_found", None),
            (
                Refusal::MethodNotAllowed { allow: HeaderValue::from_static("GET, HEAD") },
                405,
                "method_not_allowed",
                None,
            ),
            (Refusal::Framing(Framing::MalformedHead), 400, "framing_refused", None),
            (Refusal::HeadTooLarge, 431, "head_too_large", None),
            (Refusal::BodyTooLarge, 413, "body_too_large", None),
            (Refusal::UriTooLong, 414, "uri_too_long", None),
            (Refusal::ClientTimeout, 408, "client_timeout", None),
            (Refusal::UpstreamUnreachable, 502, "upstream_unreachable", None),
            (Refusal::UpstreamFailed, 502, "upstream_failed", None),
            (Refusal::UpstreamTimeout, 504, "upstream_timeout", None),
            (Refusal::UpstreamBusy, 503, "upstream_busy", None),
            (Refusal::Internal, 500, "internal", None),
        ] {
            let answer = answer(&refusal);
            let challenge_sent = answer.headers().get("www-authenticate").map(|v| v.to_str().unwrap().to_owned());
            assert_eq!((answer.status().as_u16(), refusal.code(), challenge_sent), (status, code, challenge), "{code}");
            let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!((&body["status"], &body["code"]), (&status.into(), &code.into()), "{code}");
            assert_eq!(body["request_id"], "r-1");
            assert_eq!(answer.headers()["cache-control"], "no-store");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_rounded_up() {
        for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
        let limited =
            answer(&Refusal::RateLimited { retry_after: Duration::from_millis(1_500), limit: "calls".into() });
        assert_eq!(limited.headers()["retry-after"], "2");
        let body: serde_json::Value = serde_json::from_slice(limited.body()).unwrap();
        assert_eq!(body["violated-policies"], serde_json::json!(["calls"]));
    }

    #[test]
    fn only_what_makes_the_next_request_doubtful_closes_the_connection() {
        assert_eq!(answer(&Refusal::Framing(Framing::TransferEncoding)).headers()["connection"], "close");
        assert!(!answer(&Refusal::CredentialsMissing).headers().contains_key("connection"));
    }
}
