//! Where a limit's cells are: in this process ([`Table`]).
//!
//! `take` is asynchronous because a store shared by several gateways answers only after a round
//! trip. The table answers immediately.

use super::table::Table;
use super::{KeyOrigin, Quota, QuotaDecision};

/// Counts by key, as [GCRA](super) decides.
pub trait CellStore {
    /// Counts one for `key` if `quota` allows it. `now_micros` is monotonic time, in microseconds.
    fn take(&self, key: u64, origin: KeyOrigin, quota: &Quota, now_micros: u64) -> impl Future<Output = QuotaDecision>;
}

impl CellStore for Table {
    async fn take(&self, key: u64, origin: KeyOrigin, quota: &Quota, now_micros: u64) -> QuotaDecision {
        Self::take(self, key, origin, quota, now_micros)
    }
}
