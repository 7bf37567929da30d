//! GCRA: the generic cell rate algorithm, which needs one number per key.
//!
//! That number is the *theoretical arrival time* (TAT): the time at which the next request would
//! arrive if requests were evenly spaced. With the interval `T = period / count` and the tolerance
//! `τ = T · burst`, a request at `now` computes `tat = max(stored, now)` and `next = tat + T`.
//!
//! - If `next − τ ≤ now`, the request is allowed and `next` is stored. `⌊(now − next + τ) / T⌋`
//!   requests remain, and the whole burst is available again after `next − now`.
//! - Otherwise it is refused and nothing is stored. The next request is allowed after
//!   `next − τ − now`.
//!
//! The unit is the nanosecond, although the clock counts microseconds: the interval of `3/s` is not
//! a whole number of microseconds, and the interval of a rate above a million per second would be
//! zero, which is no limit at all. 64 bits of nanoseconds last 584 years.

use std::time::Duration;

use super::{Quota, QuotaDecision};

/// The decision on one request, and the TAT to store if the request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evaluation {
    pub(super) decision: QuotaDecision,
    /// The new TAT in nanoseconds, later than `now`; `None` if the request is refused.
    pub(super) next: Option<u64>,
}

/// Decides on one request at `now` with the TAT `stored`, both in nanoseconds. A key without a TAT
/// has 0.
pub(super) fn evaluate(stored: u64, now: u64, quota: &Quota) -> Evaluation {
    let (interval, tolerance) = spacing(quota);
    let tat = effective(stored, now, tolerance);
    let next = tat.saturating_add(interval).min(MAX_TAT);
    let earliest = next.saturating_sub(tolerance);
    if quota.burst == 0 || earliest > now {
        let retry_after = Duration::from_nanos(earliest.saturating_sub(now).max(1));
        return Evaluation { decision: QuotaDecision::Exceeded { retry_after }, next: None };
    }
    Evaluation { decision: allowed(next, now, interval, tolerance), next: Some(next) }
}

/// The decision of [`evaluate`] without counting the request, so that `remaining` still includes
/// it.
pub(super) fn peek(stored: u64, now: u64, quota: &Quota) -> QuotaDecision {
    let (interval, tolerance) = spacing(quota);
    let evaluation = evaluate(stored, now, quota);
    match evaluation.decision {
        QuotaDecision::Allowed { .. } => allowed(effective(stored, now, tolerance), now, interval, tolerance),
        QuotaDecision::Exceeded { .. } => evaluation.decision,
    }
}

/// Largest TAT. The table uses the value above it as a mark.
pub(super) const MAX_TAT: u64 = u64::MAX - 1;

/// Interval and tolerance in nanoseconds. The interval is rounded up, so that the rate never
/// exceeds the quota.
fn spacing(quota: &Quota) -> (u64, u64) {
    let period = u64::try_from(quota.period.as_nanos()).unwrap_or(u64::MAX);
    let interval = period.div_ceil(quota.count.max(1)).max(1);
    (interval, interval.saturating_mul(quota.burst))
}

/// The TAT to decide with: `stored`, at least `now` and at most a whole burst ahead. A reload may
/// have tightened the quota since the TAT was stored, and a client must not wait longer than it
/// would with the new quota used up.
fn effective(stored: u64, now: u64, tolerance: u64) -> u64 {
    stored.clamp(now, now.saturating_add(tolerance))
}

fn allowed(tat: u64, now: u64, interval: u64, tolerance: u64) -> QuotaDecision {
    let ahead = tat.saturating_sub(now);
    QuotaDecision::Allowed {
        remaining: tolerance.saturating_sub(ahead) / interval,
        full_after: Duration::from_nanos(ahead),
    }
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
    fn a_burst_is_allowed_then_one_request_per_interval() {
        let quota = quota(10, Duration::from_secs(1), 5);
        let mut stored = 0;
        let mut decisions = Vec::new();
        for now in [0, 0, 0, 0, 1, 1, 99, 100, 100, 350, 100_000] {
            let evaluation = evaluate(stored, (1_000 + now) * MS, &quota);
            stored = evaluation.next.unwrap_or(stored);
            decisions.push(match evaluation.decision {
                QuotaDecision::Allowed { remaining, full_after } => (true, remaining, full_after),
                QuotaDecision::Exceeded { retry_after } => (false, 0, retry_after),
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
    fn unusual_quotas_are_enforced() {
        for (name, quota, per_second) in [
            ("an interval that is not a whole microsecond", quota(3, Duration::from_secs(1), 1), 3),
            ("more than a million per second", quota(2_000_000, Duration::from_secs(1), 1), 2_000_000),
            ("a burst of zero allows nothing", quota(100, Duration::from_secs(1), 0), 0),
            ("a count of zero counts as one", quota(0, Duration::from_secs(1), 1), 1),
        ] {
            let (mut stored, mut now, mut allowed) = (0, 1_000 * MS, 0);
            while now < 2_000 * MS && allowed <= per_second {
                match evaluate(stored, now, &quota) {
                    Evaluation { next: Some(next), .. } => {
                        stored = next;
                        allowed += 1;
                    }
                    Evaluation { decision: QuotaDecision::Exceeded { retry_after }, .. } => {
                        let pause = u64::try_from(retry_after.as_nanos()).unwrap();
                        assert!(pause > 0, "{name}");
                        now += if quota.burst == 0 { 1_000 * MS } else { pause };
                    }
                    Evaluation { decision: QuotaDecision::Allowed { .. }, next: None } => {
                        unreachable!("an allowed request has a TAT to store")
                    }
                }
            }
            assert_eq!(allowed, per_second, "{name}");
        }
    }

    #[test]
    fn a_tighter_quota_waits_for_one_interval_at_most() {
        let wide = quota(10, Duration::from_secs(1), 100);
        let tight = quota(10, Duration::from_secs(1), 1);
        let now = 1_000 * MS;
        let stored = (0..100).fold(0, |stored, _| evaluate(stored, now, &wide).next.unwrap());
        assert_eq!(evaluate(stored, now, &tight).decision, QuotaDecision::Exceeded { retry_after: ms(100) });
    }

    #[test]
    fn peeking_does_not_count_the_request() {
        let quota = quota(10, Duration::from_secs(1), 2);
        let now = 1_000 * MS;
        assert_eq!(peek(0, now, &quota), QuotaDecision::Allowed { remaining: 2, full_after: ms(0) });
        let once = evaluate(0, now, &quota).next.unwrap();
        assert_eq!(peek(once, now, &quota), QuotaDecision::Allowed { remaining: 1, full_after: ms(100) });
        let twice = evaluate(once, now, &quota).next.unwrap();
        assert_eq!(peek(twice, now, &quota), QuotaDecision::Exceeded { retry_after: ms(100) });
    }

    #[test]
    fn extreme_numbers_neither_overflow_nor_lift_the_limit() {
        let huge = quota(1, Duration::MAX, u64::MAX);
        assert!(evaluate(0, u64::MAX, &huge).next.is_none_or(|next| next <= MAX_TAT));
        assert!(evaluate(MAX_TAT, 0, &huge).next.is_none_or(|next| next <= MAX_TAT));
        let rare = quota(1, Duration::from_secs(86_400 * 365), 1);
        let stored = evaluate(0, 1, &rare).next.unwrap();
        assert!(matches!(evaluate(stored, 2, &rare).decision, QuotaDecision::Exceeded { .. }));
    }
}
