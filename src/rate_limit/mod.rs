//! Per-key rate limiting (GCRA), in process.
//!
//! Knows neither requests nor routes: the caller passes a key made by [`key`], a [`Quota`] and the
//! time. [`table`] holds the state, and [`fields`] writes a [`QuotaDecision`] as response headers.
//! Replicas do not share state: each process counts for itself.

pub(crate) mod fields;
mod gcra;
pub(crate) mod key;
mod store;
pub(crate) mod table;

use std::time::Duration;

pub(crate) use store::CellStore;
pub use table::KeyOrigin;

/// A rate and a burst: `count` requests per `period`, of which `burst` may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Requests per period; at least 1.
    pub count: u64,
    /// The period.
    pub period: Duration,
    /// Requests that may come at once; at least 1, since a burst of 0 refuses every request.
    pub burst: u64,
}

/// Whether a request is within its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaDecision {
    /// The request is within the quota.
    Allowed {
        /// How many more requests are allowed at once.
        remaining: u64,
        /// When the whole burst is available again if no request comes.
        full_after: Duration,
    },
    /// The request exceeds the quota and was not counted.
    Exceeded {
        /// When the next request is allowed. Not rounded, never zero.
        retry_after: Duration,
    },
}
