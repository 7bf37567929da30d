//! GCRA: the generic cell rate algorithm, one number for each key.
//!
//! The number is the *theoretical arrival time* (TAT): when the next one would come if all came evenly spread. With the interval
//! `T = period / count` and the tolerance `τ = T · burst`: `tat = max(stored, now)`, `next = tat + T`; one may pass if
//! `next − τ ≤ now`, and then `next` is stored. `⌊(now − next + τ) / T⌋` remain, and the whole burst is there again after
//! `next − now`. Otherwise one may pass after `next − τ − now`, and nothing is stored.
//!
//! Counted in nanoseconds, although time comes in microseconds: the interval of `3/s` is no whole number of microseconds, and that
//! of more than a million a second would be none at all, which is no limit. 64 bits of them last 584 years.

use std::time::Duration;

use super::{Decision, Quota};

/// A decision, and what to store if it is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) decision: Decision,
    /// The new TAT in nanoseconds, more than `now`; `None` if one may not pass.
    pub(super) next: Option<u64>,
}

/// Decides about one at `now`, with `stored` as TAT; both in nanoseconds. No TAT is 0.
pub(super) fn step(stored: u64, now: u64, quota: &Quota) -> Step {
    let (interval, tolerance) = spacing(quota);
    let tat = effective(stored, now, tolerance);
    let next = tat.saturating_add(interval).min(MAX_TAT);
    let earliest = next.saturating_sub(tolerance);
    if quota.burst == 0 || earliest > now {
        let retry_after = Duration::from_nanos(earliest.saturating_sub(now).max(1));
        return Step { decision: Decision::Refused { retry_after }, next: None };
    }
    Step { decision: allowed(next, now, interval, tolerance), next: Some(next) }
}

/// What [`step`] would decide, with what remains before it is counted.
pub(super) fn look(stored: u64, now: u64, quota: &Quota) -> Decision {
    let (interval, tolerance) = spacing(quota);
    let refused = step(stored, now, quota);
    match refused.decision {
        Decision::Allowed { .. } => allowed(effective(stored, now, tolerance), now, interval, tolerance),
        Decision::Refused { .. } => refused.decision,
    }
}

/// Largest TAT; what is above has another meaning in the table.
pub(super) const MAX_TAT: u64 = u64::MAX - 1;

/// Interval and tolerance in nanoseconds. The interval is rounded up: never more than the quota.
fn spacing(quota: &Quota) -> (u64, u64) {
    let period = u64::try_from(quota.period.as_nanos()).unwrap_or(u64::MAX);
    let interval = period.div_ceil(quota.count.max(1)).max(1);
    (interval, interval.saturating_mul(quota.burst))
}

/// The TAT that counts. Never more than a whole burst ahead: the quota may have become tighter since it was stored, and nobody should
/// wait for longer than an empty bucket takes.
fn effective(stored: u64, now: u64, tolerance: u64) -> u64 {
    stored.clamp(now, now.saturating_add(tolerance))
}

fn allowed(tat: u64, now: u64, interval: u64, tolerance: u64) -> Decision {
    let ahead = tat.saturating_sub(now);
    Decision::Allowed { remaining: tolerance.saturating_sub(ahead) / interval, full_again: Duration::from_nanos(ahead) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn quota(count: u64, period: Duration, burst: u64) -> Quota {
        Quota { count, period, burst }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_then_one_for_each_interval() {
        let quota = quota(10, Duration::from_secs(1), 5);
        let mut stored = 0;
        let mut decisions = Vec::new();
        for now in [0, 0, 0, 0, 1, 1, 99, 100, 100, 350, 100_000] {
            let step = step(stored, (1_000 + now) * MS, &quota);
            stored = step.next.unwrap_or(stored);
            decisions.push(match step.decision {
                Decision::Allowed { remaining, full_again } => (true, remaining, full_again),
                Decision::Refused { retry_after } => (false, 0, retry_after),
            });
        }
        let expect = [
            (true, 4, ms(100)),
            (true, 3, ms(200)),
            (true, 2, ms(300)),
            (true, 1, ms(400)),
            (true, 0, ms(499)),
            (false, 0, ms(99)),
            (false, 0, ms(1)),
            (true, 0, ms(500)),
            (false, 0, ms(100)),
            (true, 1, ms(350)),
            (true, 4, ms(100)),
        ];
        assert_eq!(decisions, expect);
    }

    #[test]
    fn odd_quotas_are_kept() {
        for (name, quota, per_second) in [
            ("an interval that is no whole microsecond", quota(3, Duration::from_secs(1), 1), 3),
            ("more than a million a second", quota(2_000_000, Duration::from_secs(1), 1), 2_000_000),
            ("no burst passes nothing", quota(100, Duration::from_secs(1), 0), 0),
            ("no count counts as one", quota(0, Duration::from_secs(1), 1), 1),
        ] {
            let (mut stored, mut now, mut passed) = (0, 1_000 * MS, 0);
            while now < 2_000 * MS {
                match step(stored, now, &quota) {
                    Step { next: Some(next), .. } => {
                        stored = next;
                        passed += 1;
                    }
                    Step { decision: Decision::Refused { retry_after }, .. } => {
                        now +=
                            if quota.burst == 0 { 1_000 * MS } else { u64::try_from(retry_after.as_nanos()).unwrap() };
                    }
                    Step { decision: Decision::Allowed { .. }, next: None } => unreachable!("allowed is counted"),
                }
            }
            assert_eq!(passed, per_second, "{name}");
        }
    }

    #[test]
    fn a_tighter_quota_waits_for_one_interval_at_most() {
        let wide = quota(10, Duration::from_secs(1), 100);
        let tight = quota(10, Duration::from_secs(1), 1);
        let now = 1_000 * MS;
        let stored = (0..100).fold(0, |stored, _| step(stored, now, &wide).next.unwrap());
        assert_eq!(step(stored, now, &tight).decision, Decision::Refused { retry_after: ms(100) });
    }

    #[test]
    fn a_look_tells_what_is_there_before() {
        let quota = quota(10, Duration::from_secs(1), 2);
        let now = 1_000 * MS;
        assert_eq!(look(0, now, &quota), Decision::Allowed { remaining: 2, full_again: ms(0) });
        let once = step(0, now, &quota).next.unwrap();
        assert_eq!(look(once, now, &quota), Decision::Allowed { remaining: 1, full_again: ms(100) });
        let twice = step(once, now, &quota).next.unwrap();
        assert_eq!(look(twice, now, &quota), Decision::Refused { retry_after: ms(100) });
    }

    #[test]
    fn extreme_numbers_neither_overflow_nor_open() {
        let huge = quota(1, Duration::MAX, u64::MAX);
        assert!(step(0, u64::MAX, &huge).next.is_none_or(|next| next <= MAX_TAT));
        assert!(step(MAX_TAT, 0, &huge).next.is_none_or(|next| next <= MAX_TAT));
        let rare = quota(1, Duration::from_secs(86_400 * 365), 1);
        let stored = step(0, 1, &rare).next.unwrap();
        assert!(!step(stored, 2, &rare).decision.is_allowed());
    }
}
