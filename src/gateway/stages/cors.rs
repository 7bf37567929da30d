//! CORS: answers preflights, and adds the headers with which a browser lets its page read the answer.
//!
//! Stage 3 of [`Gateway::handle`](super::Gateway::handle), before any credential is looked at: a preflight carries none, and a page may
//! read a 401 only with these headers. Follows the Fetch standard's CORS protocol; the header values are made once, per route.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::gateway::ResponseContext;
use crate::gateway::stages::routing::RoutedRequest;

/// Fields of the gateway's own answers that a page may read, beyond the configured ones.
const OWN_FIELDS: &str = "WWW-Authenticate, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

/// What a response depends on when the origin decides.
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// The fields of the CORS protocol that an upstream may have set; the gateway's word replaces them.
const ANSWER_FIELDS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// What `[cors.NAME]` means on one route, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Who may ask.
    pub origins: Origins,
    /// Whether cookies and TLS certificates may come along.
    pub credentials: bool,
    /// `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// `Access-Control-Allow-Headers`. Names each header: `*` would not cover `Authorization`.
    pub headers: HeaderValue,
    /// `Access-Control-Expose-Headers`.
    pub expose: HeaderValue,
    /// `Access-Control-Max-Age`, in seconds.
    pub max_age: HeaderValue,
}

/// Which origins a policy allows.
#[derive(Clone, Debug, PartialEq)]
pub enum Origins {
    /// Every one; only without credentials.
    Any,
    /// These, compared byte for byte with the serialised origin.
    Listed(Vec<HeaderValue>),
}

/// What a route's policy says to one request. Applied to every answer from here on.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Grant {
    /// The origin may read the answer; the value is `Access-Control-Allow-Origin`.
    Allowed {
        /// `*` or the origin itself.
        origin: HeaderValue,
    },
    /// The origin is not listed, or the request names none.
    Denied,
    /// The route has no policy: what the upstream says about CORS stands.
    #[default]
    Silent,
}

/// What a request asks of CORS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks<'a> {
    /// `OPTIONS` with `Origin` and `Access-Control-Request-Method`: may a page send this method?
    Preflight {
        /// As the browser wrote it.
        method: &'a HeaderValue,
    },
    /// Any other request.
    Ordinary,
}

/// Whether a request has found its answer here.
#[derive(Debug)]
pub enum Preflight {
    /// It was a preflight; this is the answer.
    Answered(Response<Bytes>),
    /// It goes on.
    GoesOn,
}

/// Answers a preflight, or notes the grant that every answer to this request will carry.
///
/// A `report_only` route lets pass what its policy denies: the request goes on, and what the upstream says about CORS stands.
#[must_use]
pub fn check(routed: &RoutedRequest, context: &mut ResponseContext) -> Preflight {
    let Some(policy) = &routed.route().rules().cors else { return Preflight::GoesOn };
    let request = routed.request();
    let grant = policy.grant(&request.headers);
    if grant == Grant::Denied && request.headers.contains_key(header::ORIGIN) && routed.route().rules().report_only {
        context.would_deny_origin(routed.route());
        return Preflight::GoesOn;
    }
    match asks(&request.method, &request.headers) {
        Asks::Preflight { .. } => Preflight::Answered(policy.preflight(&grant)),
        Asks::Ordinary => {
            context.grant(grant);
            Preflight::GoesOn
        }
    }
}

/// Recognises a preflight (Fetch, "CORS-preflight request").
#[must_use]
pub fn asks<'a>(method: &Method, headers: &'a HeaderMap) -> Asks<'a> {
    if method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && let Some(method) = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return Asks::Preflight { method };
    }
    Asks::Ordinary
}

/// The value of `Access-Control-Expose-Headers` for the configured names.
#[must_use]
pub fn expose(configured: &[String]) -> String {
    let mut value = OWN_FIELDS.to_owned();
    for name in configured {
        value.push_str(", ");
        value.push_str(name);
    }
    value
}

impl Policy {
    /// Decides on the request's `Origin`. Two of them are none: a browser sends one.
    #[must_use]
    pub fn grant(&self, headers: &HeaderMap) -> Grant {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return Grant::Denied };
        match &self.origins {
            Origins::Any => Grant::Allowed { origin: HeaderValue::from_static("*") },
            Origins::Listed(listed) if listed.contains(origin) => Grant::Allowed { origin: origin.clone() },
            Origins::Listed(_) => Grant::Denied,
        }
    }

    /// The whole answer to a preflight: 204, with the permission or without it. The browser draws the conclusion.
    #[must_use]
    pub fn preflight(&self, grant: &Grant) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::VARY, VARY_PREFLIGHT);
        if self.allow(grant, headers) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        response
    }

    /// Writes the policy's word on any other answer, whoever made it, in place of what is there.
    pub fn write(&self, grant: &Grant, headers: &mut HeaderMap) {
        for name in &ANSWER_FIELDS {
            headers.remove(name);
        }
        // A constant `*` does not depend on the origin; everything else does, also where there is none.
        if self.origins != Origins::Any && !varies_by_origin(headers) {
            headers.append(header::VARY, VARY_ORIGIN);
        }
        if self.allow(grant, headers) {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
        }
    }

    fn allow(&self, grant: &Grant, headers: &mut HeaderMap) -> bool {
        let Grant::Allowed { origin } = grant else { return false };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("origin") || name.trim() == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: Origins, credentials: bool) -> Policy {
        Policy {
            origins,
            credentials,
            methods: HeaderValue::from_static("GET, HEAD"),
            headers: HeaderValue::from_static("Authorization, Content-Type"),
            expose: HeaderValue::try_from(expose(&["X-Total".to_owned()])).unwrap(),
            max_age: HeaderValue::from_static("600"),
        }
    }

    fn listed() -> Policy {
        policy(Origins::Listed(vec![HeaderValue::from_static("https://app.example")]), true)
    }

    fn origin(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(value))])
    }

    /// Fetch §3.2.5: the origin is compared as it is serialised.
    #[test]
    fn only_the_very_origin_is_allowed() {
        for (name, value, allowed) in [
            ("the origin", "https://app.example", true),
            ("a suffix in front of another domain", "https://app.example.evil.com", false),
            ("a longer host", "https://evil-app.example", false),
            ("another scheme", "http://app.example", false),
            ("a port", "https://app.example:444", false),
            ("a trailing slash", "https://app.example/", false),
            ("another case", "https://APP.example", false),
            ("null", "null", false),
        ] {
            let granted = matches!(listed().grant(&origin(value)), Grant::Allowed { .. });
            assert_eq!(granted, allowed, "{name}");
        }
    }

    #[test]
    fn two_origins_are_none() {
        let mut headers = origin("https://app.example");
        headers.append(header::ORIGIN, HeaderValue::from_static("https://app.example"));
        assert_eq!(listed().grant(&headers), Grant::Denied);
    }

    #[test]
    fn the_policy_replaces_what_the_upstream_says() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("1"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        let policy = listed();
        policy.write(&policy.grant(&origin("https://app.example")), &mut headers);
        assert_eq!(
            headers.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN).iter().collect::<Vec<_>>(),
            ["https://app.example"]
        );
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(
            headers[header::ACCESS_CONTROL_EXPOSE_HEADERS],
            "WWW-Authenticate, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id, X-Total"
        );
        assert!(!headers.contains_key(header::ACCESS_CONTROL_MAX_AGE));
        assert_eq!(headers.get_all(header::VARY).iter().collect::<Vec<_>>(), ["Accept", "Origin"]);
    }

    #[test]
    fn a_denied_origin_gets_vary_and_nothing_else() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        listed().write(&Grant::Denied, &mut headers);
        assert_eq!(headers, HeaderMap::from_iter([(header::VARY, VARY_ORIGIN)]));
    }

    #[test]
    fn a_policy_for_everybody_is_constant() {
        let open = policy(Origins::Any, false);
        let mut headers = HeaderMap::new();
        open.write(&open.grant(&origin("https://any.example")), &mut headers);
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(header::VARY) && !headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn a_preflight_is_answered_with_the_permission_or_without() {
        let policy = listed();
        for (name, value, allowed) in
            [("listed", "https://app.example", true), ("other", "https://evil.example", false)]
        {
            let grant = policy.grant(&origin(value));
            let response = policy.preflight(&grant);
            assert_eq!(response.status(), StatusCode::NO_CONTENT, "{name}");
            for field in ["access-control-allow-origin", "access-control-allow-methods", "access-control-max-age"] {
                assert_eq!(response.headers().contains_key(field), allowed, "{name}: {field}");
            }
            assert!(varies_by_origin(response.headers()), "{name}");
            assert!(!response.headers().contains_key("access-control-expose-headers"), "{name}");
        }
    }

    /// Fetch: `OPTIONS` alone, or without the requested method, is a request like another.
    #[test]
    fn only_options_with_origin_and_requested_method_is_a_preflight() {
        let mut headers = origin("https://app.example");
        assert_eq!(asks(&Method::OPTIONS, &headers), Asks::Ordinary);
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        assert!(matches!(asks(&Method::OPTIONS, &headers), Asks::Preflight { .. }));
        assert_eq!(asks(&Method::GET, &headers), Asks::Ordinary);
        headers.remove(header::ORIGIN);
        assert_eq!(asks(&Method::OPTIONS, &headers), Asks::Ordinary);
    }
}
