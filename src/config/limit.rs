//! `[limits.NAME]`: rate limits, and what each counts requests by.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::Rate;
use super::{field_order, table};

/// One rate limit.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["key", "rate"]), transform = field_order::record::<Self>)]
pub struct Limit {
    /// What requests are counted by: `"ip"`, `"subject"`, `"client"`, `"issuer"`, `"route"`,
    /// `"claim:PATH"` or `"header:NAME"`.
    pub key: Option<String>,
    /// Requests per period in the long run.
    pub rate: Option<Rate>,
    /// Requests allowed at once.
    pub burst: NonZeroU32,
    /// Other rates for callers whose token has a certain claim, with the same burst.
    /// Default: none.
    #[serde(deserialize_with = "table::optional")]
    pub tiers: Option<Tiers>,
}

impl Default for Limit {
    fn default() -> Self {
        Self { key: None, rate: None, burst: const { NonZeroU32::new(20).unwrap() }, tiers: None }
    }
}

/// Rates by the value of a claim.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["claim", "rates"]), transform = field_order::record::<Self>)]
pub struct Tiers {
    /// Path of the claim that names the tier.
    pub claim: Option<String>,
    /// Tiers, each with its rate. A token with another tier, or with none, gets the limit's own
    /// rate.
    pub rates: BTreeMap<String, Rate>,
}
