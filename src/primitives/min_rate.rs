//! Minimum rate of a body: how long a client may keep it waiting.
//!
//! A timeout that starts again with each byte does not bound a body that arrives byte by byte. So a
//! body has an allowance of waiting time. Waiting for the client uses it up, and each byte adds the
//! time that it may take at the minimum rate. Time in which nothing waits for the client does not
//! count.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The allowance at the start of a body: a network may be lost for a moment, and a client may still
/// be preparing the first bytes.
const GRACE: Duration = Duration::from_secs(5);

/// The lowest rate at which a body may pass, in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate(NonZeroU64);

/// How long a client may still keep a body waiting. Never more than the idle timeout.
///
/// Used by one thread at a time. The value is atomic because hyper requires that some of its owners
/// can be shared.
#[derive(Debug)]
pub(crate) struct WaitAllowance {
    /// `None`: only the idle timeout applies.
    rate: Option<MinRate>,
    idle_timeout: u64,
    /// In microseconds, like `idle_timeout`.
    remaining: AtomicU64,
}

impl MinRate {
    /// A rate in bytes per second.
    #[must_use]
    pub fn bytes_per_second(bytes: NonZeroU64) -> Self {
        Self(bytes)
    }

    fn micros_for(self, bytes: u64) -> u64 {
        bytes.saturating_mul(1_000_000) / self.0
    }
}

impl WaitAllowance {
    /// The allowance at the start of a body.
    pub(crate) fn new(rate: Option<MinRate>, idle_timeout: Duration) -> Self {
        let idle_timeout = micros(idle_timeout);
        let remaining = if rate.is_some() { idle_timeout.min(micros(GRACE)) } else { idle_timeout };
        Self { rate, idle_timeout, remaining: AtomicU64::new(remaining) }
    }

    /// How long the client may keep the body waiting from now on.
    pub(crate) fn remaining(&self) -> Duration {
        Duration::from_micros(self.remaining.load(Relaxed))
    }

    /// Whether there is a minimum rate. If not, there is nothing to subtract.
    pub(crate) fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    /// Starts the allowance of the next body.
    pub(crate) fn begin_body(&self) {
        let grace = self.idle_timeout.min(micros(GRACE));
        if self.remaining.load(Relaxed) < grace {
            self.remaining.store(grace, Relaxed);
        }
    }

    /// Subtracts the time that the body has waited for the client.
    pub(crate) fn subtract(&self, waited: Duration) {
        if self.rate.is_some() {
            self.remaining.store(self.remaining.load(Relaxed).saturating_sub(micros(waited)), Relaxed);
        }
    }

    /// Adds the time that `bytes`, which have just passed, may take.
    pub(crate) fn add(&self, bytes: u64) {
        let remaining = self.remaining.load(Relaxed);
        // The allowance of a body that passes quickly is full nearly always.
        if remaining < self.idle_timeout
            && let Some(rate) = self.rate
        {
            self.remaining.store(remaining.saturating_add(rate.micros_for(bytes)).min(self.idle_timeout), Relaxed);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    fn allowance(bytes_per_second: u64) -> WaitAllowance {
        WaitAllowance::new(NonZeroU64::new(bytes_per_second).map(MinRate::bytes_per_second), IDLE)
    }

    #[test]
    fn a_body_at_the_minimum_rate_goes_on_and_a_slower_one_does_not() {
        let (at_rate, slower) = (allowance(240), allowance(240));
        for _ in 0..1_000 {
            at_rate.subtract(Duration::from_secs(1));
            at_rate.add(240);
            slower.subtract(Duration::from_secs(1));
            slower.add(200);
        }
        assert_eq!(at_rate.remaining(), GRACE);
        assert!(slower.remaining() < Duration::from_secs(1), "{slower:?}");
    }

    #[test]
    fn bytes_that_come_early_do_not_pay_for_more_than_the_idle_timeout() {
        let allowance = allowance(240);
        allowance.add(10 << 20);
        assert_eq!(allowance.remaining(), IDLE);
        allowance.subtract(Duration::from_secs(29));
        allowance.add(1);
        assert!(allowance.remaining() < Duration::from_millis(1_005), "one byte is worth a 240th of a second");
    }

    #[test]
    fn the_next_body_begins_with_the_grace_period() {
        let allowance = allowance(240);
        allowance.subtract(GRACE);
        assert_eq!(allowance.remaining(), Duration::ZERO);
        allowance.begin_body();
        assert_eq!(allowance.remaining(), GRACE);
    }

    #[test]
    fn without_a_rate_only_the_idle_timeout_applies() {
        let allowance = allowance(0);
        allowance.subtract(IDLE);
        assert_eq!(allowance.remaining(), IDLE);
    }
}
