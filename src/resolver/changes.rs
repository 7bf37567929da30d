//! Changes: whether the addresses of any name have changed.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts the changes of all names of a resolver.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    changed: Notify,
}

impl Changes {
    /// How many changes there were. Cheap enough to be read for each request.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until the count is no longer `seen`, and returns it.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the next call misses nothing.
    pub(crate) async fn changed_since(&self, seen: u64) -> u64 {
        loop {
            let changed = self.changed.notified();
            // Registered before the count is read, so that no change between the two is missed.
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.count() {
                count if count != seen => return count,
                _ => changed.await,
            }
        }
    }

    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }
}
