//! CORS policy: which origins may read a route's responses, and the responses to preflights.
//!
//! Follows the CORS protocol of the Fetch standard. The header values are built once, when the plan
//! is compiled.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::primitives::field_syntax::list_elements;

/// The fields of the gateway's own responses that a page may read in addition to the configured
/// ones.
const OWN_FIELDS: &str = "WWW-Authenticate, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

/// The `Vary` of a response that depends on the origin.
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
/// The `Vary` of a response to a preflight.
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// The fields of the CORS protocol that an upstream may have set. Those of the policy replace them.
const RESPONSE_FIELDS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// The settings of `[cors.NAME]` for one route, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct CorsPolicy {
    /// The origins whose pages may read responses.
    pub origins: Origins,
    /// Whether browsers may send cookies and client certificates.
    pub credentials: bool,
    /// `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// `Access-Control-Allow-Headers`. Lists each header, because `*` would not include
    /// `Authorization`.
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
    /// These origins, compared byte for byte with the serialized origin.
    Listed(Vec<HeaderValue>),
}

/// What a route's policy decides about the origin of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Grant {
    /// The origin may read the response; the value is `Access-Control-Allow-Origin`.
    Allowed {
        /// `*` or the origin itself.
        origin: HeaderValue,
    },
    /// The origin is not listed, or the request has none.
    Denied,
    /// The route has no policy. The upstream's CORS headers are forwarded.
    #[default]
    NoPolicy,
}

/// The method that a preflight asks for (Fetch, "CORS-preflight request"), which is an `OPTIONS`
/// with `Origin` and `Access-Control-Request-Method`. `None` for any other request.
#[must_use]
pub(crate) fn preflight_method<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    if method != Method::OPTIONS || !headers.contains_key(header::ORIGIN) {
        return None;
    }
    headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)
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
    /// Decides about the request's `Origin`. A request with two is denied: a browser sends one.
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

    /// Writes the headers of the response to a preflight. If the origin is denied, the permission
    /// is missing and the browser does not send the request.
    pub fn write_preflight(&self, grant: &Grant, headers: &mut HeaderMap) {
        headers.insert(header::VARY, VARY_PREFLIGHT);
        if self.write_allowed_origin(grant, headers) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
    }

    /// Writes the policy's headers on any other response, in place of the upstream's.
    pub fn write(&self, grant: &Grant, headers: &mut HeaderMap) {
        for name in &RESPONSE_FIELDS {
            headers.remove(name);
        }
        // A constant `*` does not depend on the origin. Every other response does, even one to a
        // request without an origin.
        if self.origins != Origins::Any && !varies_by_origin(headers) {
            headers.append(header::VARY, VARY_ORIGIN);
        }
        if self.write_allowed_origin(grant, headers) {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
        }
    }

    /// Writes the permission to read the response. Returns whether there is one.
    fn write_allowed_origin(&self, grant: &Grant, headers: &mut HeaderMap) -> bool {
        let Grant::Allowed { origin } = grant else { return false };
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

    /// Fetch §3.2.5: the serialized origins are compared.
    #[test]
    fn only_an_identical_origin_is_allowed() {
        for (name, value, allowed) in [
            ("the origin", "https://app.example", true),
            ("followed by another domain", "https://app.example.evil.com", false),
            ("a longer host", "https://evil-app.example", false),
            ("another scheme", "http://app.example", false),
            ("a port", "https://app.example:444", false),
            ("a trailing slash", "https://app.example/", false),
            ("different case", "https://APP.example", false),
            ("null", "null", false),
        ] {
            let granted = matches!(listed().grant(&origin(value)), Grant::Allowed { .. });
            assert_eq!(granted, allowed, "{name}");
        }
    }

    #[test]
    fn a_request_with_two_origins_is_denied() {
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
    fn a_policy_for_all_origins_does_not_vary() {
        let open = policy(Origins::Any, false);
        let mut headers = HeaderMap::new();
        open.write(&open.grant(&origin("https://any.example")), &mut headers);
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(header::VARY) && !headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn the_response_to_a_preflight_has_the_permission_only_if_the_origin_is_listed() {
        let policy = listed();
        for (name, value, allowed) in
            [("listed", "https://app.example", true), ("other", "https://evil.example", false)]
        {
            let mut headers = HeaderMap::new();
            policy.write_preflight(&policy.grant(&origin(value)), &mut headers);
            for field in ["access-control-allow-origin", "access-control-allow-methods", "access-control-max-age"] {
                assert_eq!(headers.contains_key(field), allowed, "{name}: {field}");
            }
            assert!(varies_by_origin(&headers), "{name}");
            assert!(!headers.contains_key("access-control-expose-headers"), "{name}");
        }
    }

    /// Fetch: `OPTIONS` without an origin or the requested method is an ordinary request.
    #[test]
    fn only_options_with_an_origin_and_a_requested_method_is_a_preflight() {
        let mut headers = origin("https://app.example");
        assert_eq!(preflight_method(&Method::OPTIONS, &headers), None);
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        assert_eq!(preflight_method(&Method::OPTIONS, &headers).unwrap(), "PUT");
        assert_eq!(preflight_method(&Method::GET, &headers), None);
        headers.remove(header::ORIGIN);
        assert_eq!(preflight_method(&Method::OPTIONS, &headers), None);
    }
}
