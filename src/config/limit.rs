//! `[limits.NAME]`: how many requests of whom, in what time.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::table;
use super::units::Rate;

/// One rate limit.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["key", "rate"]))]
pub struct Limit {
    /// What is counted apart: `"ip"`, `"subject"`, `"client"`, `"issuer"`, `"route"`, `"claim:PATH"` or `"header:NAME"`.
    /// Required.
    pub key: Option<String>,
    /// Requests per time, in the long run. Required.
    pub rate: Option<Rate>,
    /// Requests that may come at once. Default: 20.
    pub burst: Option<NonZeroU32>,
    /// Other rates for those whose token says so. Default: none.
    #[serde(deserialize_with = "table::optional")]
    pub tiers: Option<Tiers>,
}

/// Rates by the value of a claim.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["claim", "rates"]))]
pub struct Tiers {
    /// Path of the claim that names the tier. Required.
    pub claim: Option<String>,
    /// The rate of each tier; a token whose tier is not named here gets the limit's own rate. Required.
    pub rates: BTreeMap<String, Rate>,
}
