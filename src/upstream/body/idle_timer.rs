//! Idle timer: runs only while nothing arrives, so that a body without pauses never touches it.

use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::primitives::lazy_timer::LazyTimer;
use crate::primitives::min_rate::WaitAllowance;

/// Measures how long a body waits for bytes.
#[derive(Debug)]
pub(super) struct IdleTimer {
    allowance: WaitAllowance,
    /// Since when nothing has arrived; `None` while bytes arrive.
    since: Option<Instant>,
    timer: LazyTimer,
}

impl IdleTimer {
    pub(super) fn new(allowance: WaitAllowance) -> Self {
        Self { allowance, since: None, timer: LazyTimer::default() }
    }

    /// Starts the timer if it is not running. Ready once it has run for as long as the allowance
    /// lasts.
    pub(super) fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.timer.poll_reached(since + self.allowance.remaining(), cx)
    }

    /// Stops the timer: `bytes` have arrived.
    pub(super) fn arrived(&mut self, bytes: u64) {
        if let Some(since) = self.since.take()
            && self.allowance.has_rate()
        {
            self.allowance.subtract(since.elapsed());
        }
        self.allowance.add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::num::NonZeroU64;
    use std::time::Duration;

    use super::*;
    use crate::primitives::min_rate::MinRate;

    /// Polls the timer, and says whether it has elapsed.
    async fn has_elapsed(timer: &mut IdleTimer) -> bool {
        poll_fn(|cx| Poll::Ready(timer.poll_elapsed(cx).is_ready())).await
    }

    /// How many seconds a body goes on that receives `bytes` each second; at most a thousand.
    async fn seconds_at(bytes: u64) -> u32 {
        let rate = NonZeroU64::new(240).map(MinRate::bytes_per_second);
        let mut timer = IdleTimer::new(WaitAllowance::new(rate, Duration::from_secs(30)));
        for second in 0..1_000 {
            assert!(!has_elapsed(&mut timer).await, "it begins to wait");
            tokio::time::advance(Duration::from_secs(1)).await;
            if has_elapsed(&mut timer).await {
                return second;
            }
            timer.arrived(bytes);
        }
        1_000
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_arrives_byte_by_byte_ends_after_the_grace_period() {
        for (name, bytes, seconds) in
            [("nothing", 0, 4), ("a byte a second", 1, 5), ("half the rate", 120, 8), ("the rate", 240, 1_000)]
        {
            assert_eq!(seconds_at(bytes).await, seconds, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_body_does_not_wait_does_not_count() {
        let rate = NonZeroU64::new(240).map(MinRate::bytes_per_second);
        let mut timer = IdleTimer::new(WaitAllowance::new(rate, Duration::from_secs(30)));
        for _ in 0..100 {
            assert!(!has_elapsed(&mut timer).await);
            timer.arrived(1);
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert!(!has_elapsed(&mut timer).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_only_silence_counts() {
        let mut timer = IdleTimer::new(WaitAllowance::new(None, Duration::from_secs(30)));
        for _ in 0..100 {
            assert!(!has_elapsed(&mut timer).await);
            tokio::time::advance(Duration::from_secs(29)).await;
            assert!(!has_elapsed(&mut timer).await);
            timer.arrived(0);
        }
        assert!(!has_elapsed(&mut timer).await);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(has_elapsed(&mut timer).await);
    }
}
