//! Backoff: how long to avoid something that has just failed, before it is tried again.
//!
//! The first failure is avoided for [`FIRST_DELAY`], each further one for twice as long, up to
//! [`MAX_DELAY`]. Shared by threads without a lock: two threads that disagree for a moment make one
//! attempt too many, which costs less.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(10);

/// The recent failures of one thing.
#[derive(Debug)]
pub(crate) struct Backoff {
    created_at: Instant,
    /// Failures in a row.
    failures: AtomicU32,
    /// When it may be tried again, in microseconds since `created_at`. Meaningless without
    /// failures.
    retry_at: AtomicU64,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { created_at: Instant::now(), failures: AtomicU32::new(0), retry_at: AtomicU64::new(0) }
    }

    /// Whether it has not failed, or has been avoided for long enough.
    pub(crate) fn allows_attempt(&self) -> bool {
        !self.is_failing() || self.retry_at.load(Ordering::Relaxed) <= self.now()
    }

    /// Whether its last attempt failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 0
    }

    /// Notes that an attempt begins. If earlier ones failed, this one counts as failed until it
    /// succeeds, so that one attempt finds out and the others stay away.
    pub(crate) fn begin(&self) {
        if self.is_failing() {
            self.fail();
        }
    }

    /// Notes a success. Returns whether it was failing.
    pub(crate) fn succeed(&self) -> bool {
        self.is_failing() && self.failures.swap(0, Ordering::Relaxed) > 0
    }

    /// Notes a failure. Attempts that began together and fail together count as one. Returns
    /// whether it is the first.
    pub(crate) fn fail(&self) -> bool {
        if !self.allows_attempt() {
            return false;
        }
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        let delay = FIRST_DELAY.saturating_mul(1 << before.min(16)).min(MAX_DELAY);
        let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.retry_at.store(self.now().saturating_add(delay), Ordering::Relaxed);
        before == 0
    }

    /// Microseconds since it was created.
    fn now(&self) -> u64 {
        u64::try_from(self.created_at.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// How long it is avoided from now on.
    async fn avoided_for(backoff: &Backoff) -> Duration {
        let start = Instant::now();
        while !backoff.allows_attempt() {
            advance(Duration::from_millis(50)).await;
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_in_a_row_is_avoided_for_longer_up_to_a_maximum() {
        let backoff = Backoff::new();
        assert!(backoff.allows_attempt());
        for millis in [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            backoff.fail();
            assert_eq!(avoided_for(&backoff).await, Duration::from_millis(millis));
        }
        for _ in 0..100 {
            backoff.fail();
            avoided_for(&backoff).await;
        }
        backoff.fail();
        assert_eq!(avoided_for(&backoff).await, MAX_DELAY, "the count of failures does not overflow the delay");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_at_the_same_time_count_as_one() {
        let backoff = Backoff::new();
        assert_eq!([backoff.fail(), backoff.fail(), backoff.fail()], [true, false, false]);
        assert_eq!(avoided_for(&backoff).await, FIRST_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn one_attempt_finds_out_whether_it_has_recovered() {
        let backoff = Backoff::new();
        backoff.begin();
        assert!(backoff.allows_attempt(), "an attempt on what has not failed changes nothing");
        backoff.fail();
        avoided_for(&backoff).await;
        backoff.begin();
        assert!(!backoff.allows_attempt(), "the others stay away");
        assert!(backoff.succeed());
        assert!(backoff.allows_attempt() && !backoff.succeed());
        assert!(backoff.fail(), "a success starts the count again");
    }
}
