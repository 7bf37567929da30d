//! `[cors.NAME]`: what pages on other origins may do.

use schemars::JsonSchema;
use serde::Deserialize;

use super::field_order;
use super::units::TimeSpan;

/// One CORS policy (Fetch standard, "CORS protocol").
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["origins"]), transform = field_order::record::<Self>)]
pub struct Cors {
    /// Allowed origins, exactly as browsers send them: `"https://app.example.com"`. `"*"` alone
    /// allows every origin.
    pub origins: Vec<String>,
    /// Methods that a page may use.
    /// Default: the route's.
    pub methods: Option<Vec<String>>,
    /// Request headers that a page may set.
    pub headers: Vec<String>,
    /// Response headers that a page may read, in addition to those of the gateway.
    pub expose: Vec<String>,
    /// Whether browsers may send cookies and client certificates.
    pub credentials: bool,
    /// How long a browser may cache the response to a preflight.
    pub max_age: TimeSpan,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            methods: None,
            headers: vec!["Authorization".to_owned(), "Content-Type".to_owned()],
            expose: Vec::new(),
            credentials: false,
            max_age: TimeSpan::seconds(10 * 60),
        }
    }
}
