//! CORS policy: which origins may read a route's responses, and how preflights are answered.
//!
//! Follows the CORS protocol of the Fetch standard. The header values are rendered once, when the
//! plan is compiled.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::primitives::field_syntax::list_elements;

/// Fields that the gateway writes to responses, which a page may read in addition to the configured
/// ones.
const OWN_FIELDS: &str = "WWW-Authenticate, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

/// `Vary` of a response that depends on the origin.
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
/// `Vary` of the response to a preflight.
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// The response fields of the CORS protocol. On a route with a policy, those of the upstream are
/// removed.
const RESPONSE_FIELDS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// What `[cors.NAME]` means on one route, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct CorsPolicy {
    /// Whose pages may read responses.
    pub origins: Origins,
    /// Whether browsers may send cookies and client certificates.
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
    /// Every origin; only without credentials.
    Any,
    /// These origins, compared byte for byte as serialized.
    Listed(Vec<HeaderValue>),
}

/// A policy's decision on the origin of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum OriginDecision {
    /// The origin may read the response; the value is `Access-Control-Allow-Origin`.
    Allowed {
        /// `*` or the origin itself.
        origin: HeaderValue,
    },
    /// The origin is not listed, or the request does not name exactly one.
    Denied,
}

/// The method that a preflight asks for (Fetch, "CORS-preflight request"): `OPTIONS` with `Origin`
/// and `Access-Control-Request-Method`. `None` for any other request.
#[must_use]
pub(crate) fn preflight_method<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    let may_be = method == Method::OPTIONS && headers.contains_key(header::ORIGIN);
    if may_be { headers.get(header::ACCESS_CONTROL_REQUEST_METHOD) } else { None }
}

/// The value of `Access-Control-Expose-Headers` for the configured names.
#[must_use]
pub(crate) fn expose(configured: &[String]) -> String {
    let mut value = OWN_FIELDS.to_owned();
    for name in configured {
        value.push_str(", ");
        value.push_str(name);
    }
    value
}

impl CorsPolicy {
    /// Decides on the request's `Origin`. Denies a request with several `Origin` fields, since no
    /// browser sends more than one.
    #[must_use]
    pub fn decide(&self, headers: &HeaderMap) -> OriginDecision {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return OriginDecision::Denied };
        match &self.origins {
            Origins::Any => OriginDecision::Allowed { origin: HeaderValue::from_static("*") },
            Origins::Listed(listed) if listed.contains(origin) => OriginDecision::Allowed { origin: origin.clone() },
            Origins::Listed(_) => OriginDecision::Denied,
        }
    }

    /// Writes the headers of the response to a preflight. A denied origin gets no permission, and
    /// its browser does not send the request.
    pub fn write_preflight(&self, decision: &OriginDecision, headers: &mut HeaderMap) {
        headers.insert(header::VARY, VARY_PREFLIGHT);
        if self.write_permission(decision, headers) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
    }

    /// Writes the headers of any other response, in place of the upstream's.
    pub fn write(&self, decision: &OriginDecision, headers: &mut HeaderMap) {
        for name in &RESPONSE_FIELDS {
            headers.remove(name);
        }
        // `*` is the same for all origins. Every other response depends on the origin, including
        // the one to a request without `Origin`, which a cache could otherwise reuse for one with
        // it.
        if self.origins != Origins::Any && !varies_by_origin(headers) {
            headers.append(header::VARY, VARY_ORIGIN);
        }
        if self.write_permission(decision, headers) {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
        }
    }

    fn write_permission(&self, decision: &OriginDecision, headers: &mut HeaderMap) -> bool {
        let OriginDecision::Allowed { origin } = decision else { return false };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    list_elements(headers, &header::VARY).any(|name| name.eq_ignore_ascii_case(b"origin") || name == b"*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: Origins, credentials: bool) -> CorsPolicy {
        CorsPolicy {
            origins,
            credentials,
            methods: HeaderValue::from_static("GET, HEAD"),
            headers: HeaderValue::from_static("Authorization, Content-Type"),
            expose: HeaderValue::try_from(expose(&["X-Total".to_owned()])).unwrap(),
            max_age: HeaderValue::from_static("600"),
        }
    }

    fn listed() -> CorsPolicy {
        policy(Origins::Listed(vec![HeaderValue::from_static("https://app.example")]), true)
    }

    fn origin(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(value))])
    }

    /// Fetch §3.2.5: the origin is compared as serialized.
    #[test]
    fn only_exactly_the_listed_origin_is_allowed() {
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
            let granted = matches!(listed().decide(&origin(value)), OriginDecision::Allowed { .. });
            assert_eq!(granted, allowed, "{name}");
        }
    }

    #[test]
    fn two_origins_are_denied() {
        let mut headers = origin("https://app.example");
        headers.append(header::ORIGIN, HeaderValue::from_static("https://app.example"));
        assert_eq!(listed().decide(&headers), OriginDecision::Denied);
    }

    #[test]
    fn the_policy_replaces_what_the_upstream_says() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("1"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        let policy = listed();
        policy.write(&policy.decide(&origin("https://app.example")), &mut headers);
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

    /// RFC 9110 §12.5.5: `*` says that the response varies by more than headers.
    #[test]
    fn vary_names_the_origin_once() {
        for (before, after) in [
            (&["*"][..], &["*"][..]),
            (&["Accept, origin"], &["Accept, origin"]),
            (&["Accept", "ORIGIN"], &["Accept", "ORIGIN"]),
            (&["X-Origin"], &["X-Origin", "Origin"]),
            (&[], &["Origin"]),
        ] {
            let mut headers: HeaderMap =
                before.iter().map(|value| (header::VARY, HeaderValue::from_static(value))).collect();
            listed().write(&OriginDecision::Denied, &mut headers);
            assert_eq!(headers.get_all(header::VARY).iter().collect::<Vec<_>>(), after);
        }
    }

    #[test]
    fn a_denied_origin_gets_vary_and_nothing_else() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        listed().write(&OriginDecision::Denied, &mut headers);
        assert_eq!(headers, HeaderMap::from_iter([(header::VARY, VARY_ORIGIN)]));
    }

    #[test]
    fn a_policy_for_all_origins_does_not_vary() {
        let open = policy(Origins::Any, false);
        let mut headers = HeaderMap::new();
        open.write(&open.decide(&origin("https://any.example")), &mut headers);
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(header::VARY) && !headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn a_preflight_is_answered_with_the_permission_or_without() {
        let policy = listed();
        for (name, value, allowed) in
            [("listed", "https://app.example", true), ("other", "https://evil.example", false)]
        {
            let mut headers = HeaderMap::new();
            policy.write_preflight(&policy.decide(&origin(value)), &mut headers);
            for field in ["access-control-allow-origin", "access-control-allow-methods", "access-control-max-age"] {
                assert_eq!(headers.contains_key(field), allowed, "{name}: {field}");
            }
            assert!(varies_by_origin(&headers), "{name}");
            assert!(!headers.contains_key("access-control-expose-headers"), "{name}");
        }
    }

    /// Fetch: `OPTIONS` alone, or without the requested method, is a request like any other.
    #[test]
    fn only_options_with_origin_and_requested_method_is_a_preflight() {
        let mut headers = origin("https://app.example");
        assert_eq!(preflight_method(&Method::OPTIONS, &headers), None);
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        assert_eq!(preflight_method(&Method::OPTIONS, &headers).unwrap(), "PUT");
        assert_eq!(preflight_method(&Method::GET, &headers), None);
        headers.remove(header::ORIGIN);
        assert_eq!(preflight_method(&Method::OPTIONS, &headers), None);
    }
}
