//! Telemetry: metrics, the event log and the access log.
//!
//! Metric labels come from the configuration or from fixed sets, so the number of series does not
//! depend on traffic. Text from clients appears in the access log only, where it is escaped,
//! truncated and kept on one line. This module knows nothing about routes, tokens or configuration
//! files: a component asks [`Metrics`] for a handle once and keeps it.

pub(crate) mod access_log;
pub(crate) mod logging;
pub(crate) mod metrics;
pub(crate) mod pseudonym;

mod exposition;
mod histogram;
mod line;
mod line_queue;
mod timestamp;

pub(crate) use access_log::AccessLog;
pub(crate) use exposition::Exposition;
pub use line::LineFormat;
pub(crate) use metrics::Metrics;
pub(crate) use timestamp::Rfc3339;
