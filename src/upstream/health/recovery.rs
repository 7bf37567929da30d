//! Recovery: when an ejected server comes back, and how its share then grows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::primitives::clock::Clock;

/// The share of a server at the moment it comes back, in percent.
const FIRST_PERCENT: u8 = 10;

/// When a server comes back. Times are [`Clock::monotonic_micros`].
///
/// A server that has never failed, or not for long, costs one atomic read and no read of the clock.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// 0: it has its full share.
    back_at: AtomicU64,
    full_at: AtomicU64,
}

/// How far a server has recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is avoided.
    Ejected,
    /// It gets this part of its share.
    SlowStart {
        /// 10 to 99.
        percent: u8,
    },
    /// It gets its full share.
    Full,
}

impl Recovery {
    /// The server comes back at `back_at`, and its share grows for `slow_start`.
    pub(super) fn begin(&self, back_at: u64, slow_start: Duration) {
        let slow_start = u64::try_from(slow_start.as_micros()).unwrap_or(u64::MAX);
        self.full_at.store(back_at.saturating_add(slow_start), Ordering::Relaxed);
        // Released after the other one, so that a thread that sees this time sees that one too.
        self.back_at.store(back_at.max(1), Ordering::Release);
    }

    /// How far the server has recovered now.
    pub(super) fn phase(&self, clock: &Clock) -> Phase {
        let back_at = self.back_at.load(Ordering::Acquire);
        if back_at == 0 {
            return Phase::Full;
        }
        let (now, full_at) = (clock.monotonic_micros(), self.full_at.load(Ordering::Relaxed));
        if now < back_at {
            return Phase::Ejected;
        }
        if now >= full_at {
            // Fails if the server has been ejected again meanwhile; that ejection must stay.
            let _ = self.back_at.compare_exchange(back_at, 0, Ordering::Relaxed, Ordering::Relaxed);
            return Phase::Full;
        }
        let grown = u128::from(100 - FIRST_PERCENT) * u128::from(now - back_at) / u128::from(full_at - back_at);
        let grown = u8::try_from(grown).expect("less than the difference to 100");
        Phase::SlowStart { percent: FIRST_PERCENT + grown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::clock::ManualClock;

    #[test]
    fn the_share_grows_evenly_from_a_tenth_to_all() {
        let manual = ManualClock::at(0);
        let (clock, recovery) = (manual.clock(), Recovery::default());
        assert_eq!(recovery.phase(&clock), Phase::Full);
        recovery.begin(clock.monotonic_micros() + 5_000_000, Duration::from_secs(10));
        for (seconds, phase) in [
            (0, Phase::Ejected),
            (4, Phase::Ejected),
            (1, Phase::SlowStart { percent: 10 }),
            (1, Phase::SlowStart { percent: 19 }),
            (4, Phase::SlowStart { percent: 55 }),
            (4, Phase::SlowStart { percent: 91 }),
            (1, Phase::Full),
        ] {
            manual.advance(Duration::from_secs(seconds));
            assert_eq!(recovery.phase(&clock), phase);
        }
        assert_eq!(recovery.back_at.load(Ordering::Relaxed), 0, "the clock is no longer read");
    }

    #[test]
    fn without_slow_start_it_is_settled_when_it_comes_back() {
        let manual = ManualClock::at(0);
        let (clock, recovery) = (manual.clock(), Recovery::default());
        recovery.begin(clock.monotonic_micros() + 1_000_000, Duration::ZERO);
        assert_eq!(recovery.phase(&clock), Phase::Ejected);
        manual.advance(Duration::from_secs(1));
        assert_eq!(recovery.phase(&clock), Phase::Full);
    }
}
