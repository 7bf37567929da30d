//! Policy: what a route requires and sets.
//!
//! Values compiled from the configuration, with functions that check a request against them. The
//! stages call these functions and act on the results; nothing here knows a stage or a response.

pub(crate) mod access;
pub(crate) mod affinity;
pub(crate) mod challenge;
pub(crate) mod cors_policy;
pub(crate) mod demand;
pub(crate) mod failure_guard;
pub(crate) mod header_rules;
pub(crate) mod identity;
pub(crate) mod limit;
pub(crate) mod route;
pub(crate) mod server_header;

pub(crate) use access::{Access, ClientCertRule};
pub(crate) use affinity::{AffinityInput, affinity};
pub(crate) use challenge::Challenges;
pub(crate) use cors_policy::{CorsPolicy, OriginDecision};
pub(crate) use demand::{ClaimRule, Demand, Denial};
pub(crate) use failure_guard::FailureGuard;
pub(crate) use header_rules::HeaderRules;
pub(crate) use identity::IdentityHeaders;
pub(crate) use limit::{LimitInput, LimitKey, LimitSettings, Limiter, Tiers};
pub(crate) use route::{AfterExpiry, Route, RouteSettings};
pub(crate) use server_header::ServerHeader;
