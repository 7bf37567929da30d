//! Route matching: host, path and method → the one route that applies, or why none does.
//!
//! Stage 2, after intake. Looks at nothing but the host and the path in the form in which they are forwarded.
//!
//! **The path commits before the method.** Of all patterns that match host and path the best one wins, and only then is the method
//! looked at, among the routes with exactly that pattern. If none takes the method, the answer is 405. The other order would let a
//! broader pattern catch what a stricter one left out: with `GET /api/admin` for administrators and a public `/*`, a
//! `POST /api/admin` would be public. This way adding a route never widens the methods of another path.
//!
//! Best means: exact host before wildcard (longer suffix first) before none; then segment by segment literal before bound before `*`.
//! The order in the file means nothing.

pub mod host;
pub mod path;
mod pattern;
mod table;

pub use pattern::{HostPattern, InvalidPattern, PathPattern, is_reserved_path, targets_reserved_path};
pub use table::{Conflict, Pattern, RouteMatch, RouteTable};
