//! Where a limit's cells are: in this process ([`Table`]).
//!
//! A store shared by several gateways answers later than at once, so that the question is
//! asynchronous; the table's answer is ready when it is asked.

use super::table::Table;
use super::{Decision, Quota};

/// Counts by key, as [GCRA](super) decides.
pub trait CellStore {
    /// Counts one for `key` if `quota` allows it. `now_micros` is monotonic time, in microseconds.
    fn take(&self, key: u64, quota: &Quota, now_micros: u64) -> impl Future<Output = Decision>;
}

impl CellStore for Table {
    async fn take(&self, key: u64, quota: &Quota, now_micros: u64) -> Decision {
        Self::take(self, key, quota, now_micros)
    }
}
