//! Challenges: a route's `WWW-Authenticate` values (RFC 6750 §3), rendered once.

use http::HeaderValue;

use super::access::Access;
use super::demand::Demand;

/// The `WWW-Authenticate` values of a route, or of requests without a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Challenges {
    /// No credentials: no error code (RFC 6750 §3.1).
    pub missing: HeaderValue,
    /// `invalid_request`.
    pub malformed: HeaderValue,
    /// `invalid_token`, because it has expired.
    pub expired: HeaderValue,
    /// `invalid_token`, for any other reason.
    pub invalid: HeaderValue,
    /// `insufficient_scope`.
    pub insufficient_scope: HeaderValue,
}

impl Challenges {
    /// The challenges of requests without a route.
    ///
    /// # Panics
    ///
    /// As [`Challenges::for_route`].
    #[must_use]
    pub fn without_route(realm: &str) -> Self {
        Self::new(realm, "")
    }

    /// The challenges of a route. They name all scopes that its demands name.
    ///
    /// # Panics
    ///
    /// If `realm` or a scope contains a byte that a quoted string cannot contain. The plan refuses
    /// those.
    #[must_use]
    pub fn for_route(realm: &str, access: &Access) -> Self {
        let scopes: Vec<&str> = access.demands().iter().flat_map(Demand::scopes).map(String::as_str).collect();
        Self::new(realm, &scopes.join(" "))
    }

    fn new(realm: &str, scopes: &str) -> Self {
        let value = |rest: &str| {
            HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{rest}"))
                .expect("the plan has checked realm and scopes")
        };
        let scope = if scopes.is_empty() { String::new() } else { format!(", scope=\"{scopes}\"") };
        Self {
            missing: value(&scope),
            malformed: value(
                ", error=\"invalid_request\", error_description=\"The request's credentials are malformed\"",
            ),
            expired: value(", error=\"invalid_token\", error_description=\"The access token expired\""),
            invalid: value(", error=\"invalid_token\", error_description=\"The access token is not valid\""),
            insufficient_scope: value(&format!(
                ", error=\"insufficient_scope\", error_description=\"The access token lacks a scope\"{scope}"
            )),
        }
    }
}
