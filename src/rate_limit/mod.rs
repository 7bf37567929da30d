//! Counters: how often somebody may, counted in this process.
//!
//! Knows neither requests nor routes: a key is a number made by [`key`], a [`Quota`] comes with each question, and so does the
//! time. [`fields`] writes a [`Decision`] down for the client.

pub mod fields;
mod gcra;
pub mod key;
mod store;
pub mod table;

use std::time::Duration;

pub use store::CellStore;

/// So many in such a time, evenly spread, with so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// How many in one period; at least 1.
    pub count: u64,
    /// The period.
    pub period: Duration,
    /// How many may come at once; at least 1, or nothing ever passes.
    pub burst: u64,
}

/// Whether one more may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed {
        /// How many more may pass at once.
        remaining: u64,
        /// When the whole burst will be there again, if nothing comes.
        full_again: Duration,
    },
    /// It may not; nothing was counted.
    Refused {
        /// When one may pass again. Not rounded; more than nothing.
        retry_after: Duration,
    },
}

impl Decision {
    /// Is it [`Decision::Allowed`]?
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}
