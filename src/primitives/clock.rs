//! Clock: time as an argument, so that tests can set it.
//!
//! A clock has two readings, both in whole microseconds. *Wall* time is what tokens refer to
//! (`exp`, `nbf`); it jumps when the machine's clock is set. *Monotonic* time never runs backwards;
//! rate limits and ages are measured with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time. Cheap to clone; all clones read the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Manual(ManualClock),
    System { started: Instant },
}

/// A point in wall time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WallTime(u64);

impl WallTime {
    /// A point given in whole seconds since the Unix epoch (the unit of JWT's `NumericDate`,
    /// RFC 7519 §2).
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }
}

/// Both readings of a clock at one moment, for decisions that must agree on the time.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The reading of [`Clock::now`].
    pub wall: WallTime,
    /// The reading of [`Clock::monotonic_micros`].
    pub monotonic_micros: u64,
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System { started: Instant::now() })
    }

    /// The current wall time. It jumps when the machine's clock is set.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system time")]
    pub fn now(&self) -> WallTime {
        match &self.0 {
            Source::Manual(manual) => WallTime(manual.wall.load(Ordering::Acquire)),
            Source::System { .. } => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                WallTime(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
            }
        }
    }

    /// Microseconds since an arbitrary start; never runs backwards.
    #[must_use]
    pub fn monotonic_micros(&self) -> u64 {
        self.monotonic_at(Instant::now())
    }

    /// Both readings. `now` is the current [`Instant`]; a caller that has read it already saves a
    /// second read.
    #[must_use]
    pub fn moment(&self, now: Instant) -> Moment {
        Moment { wall: self.now(), monotonic_micros: self.monotonic_at(now) }
    }

    fn monotonic_at(&self, now: Instant) -> u64 {
        match &self.0 {
            Source::Manual(manual) => manual.monotonic.load(Ordering::Acquire),
            // Starts at one second, so that 0 can mean "never" and a point shortly before the start
            // can be represented.
            Source::System { started } => {
                let elapsed = now.saturating_duration_since(*started);
                u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).saturating_add(1_000_000)
            }
        }
    }
}

/// A clock that only moves when a test moves it.
#[derive(Clone, Debug)]
pub struct ManualClock {
    wall: Arc<AtomicU64>,
    monotonic: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock whose wall time is `unix_seconds`.
    #[must_use]
    pub fn at(unix_seconds: u64) -> Self {
        Self {
            wall: Arc::new(AtomicU64::new(unix_seconds * 1_000_000)),
            monotonic: Arc::new(AtomicU64::new(1_000_000)),
        }
    }

    /// A [`Clock`] that reads this one.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
    }

    /// Moves both readings forward.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.wall.fetch_add(micros, Ordering::AcqRel);
        self.monotonic.fetch_add(micros, Ordering::AcqRel);
    }

    /// Sets the wall time alone, as an operator or NTP may.
    pub fn set_wall(&self, unix_seconds: u64) {
        self.wall.store(unix_seconds * 1_000_000, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_advanced() {
        let manual = ManualClock::at(1_000);
        let clock = manual.clock();
        assert_eq!((clock.now().seconds(), clock.monotonic_micros()), (1_000, 1_000_000));
        manual.advance(Duration::from_millis(1_500));
        assert_eq!((clock.now().micros(), clock.monotonic_micros()), (1_001_500_000, 2_500_000));
    }

    #[test]
    fn setting_the_wall_time_leaves_the_monotonic_reading() {
        let manual = ManualClock::at(1_000);
        manual.set_wall(10);
        assert_eq!((manual.clock().now().seconds(), manual.clock().monotonic_micros()), (10, 1_000_000));
    }
}
