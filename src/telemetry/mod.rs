//! Telemetry: metrics, the event log and the access log.
//!
//! Metric labels come from the configuration or from fixed sets, so the number of series does not
//! depend on traffic. Text from clients appears in the access log only, where it is escaped,
//! truncated and kept on one line. This module knows nothing about routes, tokens or configuration
//! files: a component asks [`Metrics`] for a handle once and keeps it.

pub mod access_log;
pub mod logging;
pub mod metrics;
pub mod pseudonym;

mod exposition;
mod histogram;
mod line;
mod timestamp;

pub use access_log::{AccessLine, AccessLog, AccessLogWriter};
pub use exposition::Exposition;
pub use line::LineFormat;
pub use metrics::{CacheResult, IssuerMetrics, LimitMetrics, Metrics, RouteMetrics, UpstreamMetrics, VerifyResult};
