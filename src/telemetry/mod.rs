//! Telemetry: metrics, the event log and the access log. What the gateway tells its operator, and nothing it was told.
//!
//! Metric labels come from the configuration or from closed sets, so the number of series does not depend on who calls;
//! text from a client appears in the access log only, escaped, cut, on one line. Knows nothing of routes, tokens or
//! configuration files: whoever has something to count asks [`Metrics`] for a handle once and keeps it.

pub mod access_log;
pub mod fields;
pub mod logging;
pub mod metrics;

mod exposition;
mod histogram;
mod line;
mod timestamp;

pub use access_log::{AccessLine, AccessLog};
pub use exposition::Exposition;
pub use line::LineFormat;
pub use metrics::{CacheResult, IssuerMetrics, LimitMetrics, Metrics, RouteMetrics, UpstreamMetrics, VerifyResult};
