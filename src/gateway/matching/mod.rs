//! Route matching: finds the one route for a host, path and method, or says why there is none.
//!
//! Stage 2, after normalize. Reads only the host and the path, both in the form in which they are
//! forwarded.
//!
//! **The path is matched before the method.** Of all patterns that match host and path the most
//! specific one wins, and only then is the method compared, among the routes with exactly that
//! pattern. If none of them allows the method, the response is 405. The other order would let a
//! broader pattern take what a stricter one left out: with `GET /api/admin` for administrators and
//! a public `/*`, a `POST /api/admin` would be public. In this order, adding a route never widens
//! the methods of another path.
//!
//! Most specific means: an exact host before a wildcard (longer suffix first) before no host; then,
//! segment by segment, a literal before a bound segment before `*`. The order of the routes in the
//! file does not matter.

pub(crate) mod host;
pub(crate) mod path;
mod pattern;
mod table;

pub use pattern::PathPattern;
pub(crate) use pattern::{HostPattern, is_reserved_path, targets_reserved_path};
pub use table::{Pattern, RouteMatch, RouteTable};
