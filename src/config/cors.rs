//! `[cors.NAME]`: what browsers on other origins may do.

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::Span;

/// One set of cross-origin rules (Fetch standard, "CORS protocol").
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["origins"]))]
pub struct Cors {
    /// Exact origins, or `"*"` where `credentials` is false. Required.
    pub origins: Vec<String>,
    /// Methods that a page may use. Default: the route's.
    pub methods: Option<Vec<String>>,
    /// Request headers that a page may set. Default: `["Authorization", "Content-Type"]`.
    pub headers: Option<Vec<String>>,
    /// Answer headers that a page may read beside the safelisted ones. Default: none.
    pub expose: Vec<String>,
    /// Let browsers send cookies and client certificates along. Default: false.
    pub credentials: Option<bool>,
    /// How long a browser may remember a preflight's answer. Default: `"10m"`.
    pub max_age: Option<Span>,
}
