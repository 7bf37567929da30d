//! Retry budget: bounds the load that retries add to an upstream that is failing already.
//!
//! Each request earns a fifth of a retry, up to [`MAX_SAVED`] retries, so that in the long run
//! retries are at most 20 % of the requests. A reserve of [`RESERVE`] retries, which refills by one
//! per second, lets an upstream with few requests retry at all.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How many requests earn one retry.
const REQUESTS_PER_RETRY: u32 = 5;

/// The most retries that are saved for later: enough for the requests in flight at one server that
/// dies, and few compared with the requests that have earned them.
const MAX_SAVED: u32 = 500;

/// The retries that need not be earned.
const RESERVE: u32 = 10;

/// How long one retry of the reserve takes to refill.
const REFILL: Duration = Duration::from_secs(1);

/// The retries that one upstream may still receive; shared by all workers, without a lock.
#[derive(Debug)]
pub(in crate::upstream) struct RetryBudget {
    /// Requests that have earned their part of a retry.
    requests: AtomicU32,
    created_at: Instant,
    /// When the reserve will be full again, in microseconds since `created_at` (a GCRA).
    full_at: AtomicU64,
}

impl RetryBudget {
    pub(in crate::upstream) fn new() -> Self {
        Self { requests: AtomicU32::new(0), created_at: Instant::now(), full_at: AtomicU64::new(0) }
    }

    /// Counts a request.
    pub(in crate::upstream) fn note_request(&self) {
        // Mostly only a read, which the workers' caches share. Workers that count at the same time
        // may save a few more than the maximum.
        if self.requests.load(Ordering::Relaxed) < MAX_SAVED * REQUESTS_PER_RETRY {
            self.requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one retry. Returns whether there was one.
    pub(super) fn withdraw(&self) -> bool {
        let earned = |requests: u32| requests.checked_sub(REQUESTS_PER_RETRY);
        self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earned).is_ok() || self.withdraw_reserve()
    }

    fn withdraw_reserve(&self) -> bool {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let now = micros(self.created_at.elapsed());
        let withdrawn = |full_at: u64| {
            let full_at = full_at.max(now).saturating_add(micros(REFILL));
            (full_at - now <= micros(REFILL * RESERVE)).then_some(full_at)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, withdrawn).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// How many retries can be taken now.
    fn withdrawals(budget: &RetryBudget) -> u32 {
        (0..10_000).take_while(|_| budget.withdraw()).count().try_into().expect("at most ten thousand")
    }

    #[tokio::test(start_paused = true)]
    async fn five_requests_earn_one_retry() {
        let budget = RetryBudget::new();
        assert_eq!(withdrawals(&budget), RESERVE, "a new upstream has the reserve only");
        (0..50).for_each(|_| budget.note_request());
        assert_eq!(withdrawals(&budget), 10);
        (0..4).for_each(|_| budget.note_request());
        assert_eq!(withdrawals(&budget), 0);
        budget.note_request();
        assert_eq!(withdrawals(&budget), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_saved_up_to_a_maximum() {
        let budget = RetryBudget::new();
        (0..1_000_000).for_each(|_| budget.note_request());
        assert_eq!(withdrawals(&budget), MAX_SAVED + RESERVE);
        (0..4).for_each(|_| budget.note_request());
        assert_eq!(withdrawals(&budget), 0, "nor is a part of one left");
    }

    #[tokio::test(start_paused = true)]
    async fn the_reserve_refills_by_one_per_second() {
        let budget = RetryBudget::new();
        withdrawals(&budget);
        advance(REFILL * 3).await;
        assert_eq!(withdrawals(&budget), 3);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(withdrawals(&budget), RESERVE, "never more than the reserve");
    }

    /// The property that the budget is for: an upstream that fails everything gets 20 % more.
    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_fails_every_request_gets_a_fifth_more_of_them() {
        let budget = RetryBudget::new();
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.note_request();
            retries += u32::from(budget.withdraw());
        }
        assert_eq!(retries, 10_000 / REQUESTS_PER_RETRY + RESERVE);
    }
}
