//! Policy: what a route is, below what the stages do.
//!
//! Plain values with pure functions that judge by them. A stage calls these functions and acts on
//! the result; nothing here knows a stage, a response or the order of a request's life.

pub mod access;
pub mod challenge;
pub mod cors_policy;
pub mod demand;
pub mod header_rules;
pub mod identity;
pub mod limit;
pub mod route;

pub use access::Access;
pub use challenge::Challenges;
pub use cors_policy::{CorsPolicy, Grant};
pub use demand::{ClaimRule, Demand, Denial};
pub use header_rules::HeaderRules;
pub use identity::IdentityHeaders;
pub use limit::{FailureGuard, LimitKey, LimitSettings, LimitSubject, Limiter, Tiers};
pub use route::{Route, RouteSettings};
