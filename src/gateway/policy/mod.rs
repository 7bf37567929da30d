//! Policy: what a route is, below what the stages do.
//!
//! Plain values with pure functions that judge by them. A stage calls these functions and acts on
//! the result; nothing here knows a stage, a response or the order of a request's life.

pub(crate) mod access;
pub(crate) mod challenge;
pub(crate) mod cors_policy;
pub(crate) mod demand;
pub(crate) mod header_rules;
pub(crate) mod identity;
pub(crate) mod limit;
pub(crate) mod route;

pub(crate) use access::Access;
pub(crate) use challenge::Challenges;
pub(crate) use cors_policy::{CorsPolicy, Grant};
pub(crate) use demand::{ClaimRule, Demand, Denial};
pub(crate) use header_rules::HeaderRules;
pub(crate) use identity::IdentityHeaders;
pub(crate) use limit::{FailureGuard, LimitKey, LimitSettings, LimitSubject, Limiter, Tiers};
pub(crate) use route::{Route, RouteSettings};
