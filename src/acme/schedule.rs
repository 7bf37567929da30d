//! When a certificate is renewed, and when an attempt that has failed is repeated.

use std::time::Duration;

use crate::primitives::clock::WallTime;
use crate::tls::certificate::CertificateFacts;

/// The pause after a first failure. Each further one is four times as long, up to [`MAX_PAUSE`]:
/// attempts after 0, 1, 5, 21 and 85 minutes. Public authorities refuse a host after five failed
/// validations in an hour.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

const MAX_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

/// The most by which a pause is lengthened at random, as a fraction of it.
const PAUSE_JITTER: f64 = 0.2;

/// The longest pause that the ACME server can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// When the certificate is renewed: `renew_before` its expiry, or by default a third of its
/// lifetime, and up to a tenth of that time earlier by `jitter` (from 0 to 1), so that many
/// gateways do not order at the same time. Never before a third of the lifetime has passed, so that
/// a `renew_before` longer than the lifetime does not order one certificate after the other.
#[must_use]
pub(super) fn renewal_due(facts: &CertificateFacts, renew_before: Option<Duration>, jitter: f64) -> WallTime {
    let (from, to) = (facts.not_before.seconds(), facts.not_after.seconds());
    let lifetime = Duration::from_secs(to.saturating_sub(from));
    let before = renew_before.unwrap_or(lifetime / 3);
    let earliest = from.saturating_add(lifetime.as_secs() / 3);
    let due = to.saturating_sub(before.saturating_add((before / 10).mul_f64(jitter)).as_secs());
    WallTime::from_seconds(due.max(earliest))
}

/// The pause from the beginning of an attempt to the next one, if `failures` attempts in a row have
/// failed, this one included. `jitter` is from 0 to 1.
#[must_use]
pub(super) fn pause(failures: u32, jitter: f64) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(4_u32.saturating_pow(failures.saturating_sub(1))).min(MAX_PAUSE);
    pause.mul_f64(1.0 + PAUSE_JITTER * jitter)
}

/// The pause that the ACME server asks for, bounded by [`MAX_RETRY_AFTER`].
#[must_use]
pub(super) fn requested_pause(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn facts(from_day: u64, to_day: u64) -> CertificateFacts {
        CertificateFacts {
            dns_names: Vec::new(),
            addresses: Vec::new(),
            not_before: WallTime::from_seconds(from_day * DAY),
            not_after: WallTime::from_seconds(to_day * DAY),
            fingerprint: [0; 32],
        }
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_lifetime() {
        let days = |days: u64| Some(Duration::from_secs(days * DAY));
        for (name, facts, renew_before, jitter, due_day) in [
            ("90 days", facts(1_000, 1_090), None, 0.0, 1_060),
            ("90 days, the earliest", facts(1_000, 1_090), None, 1.0, 1_057),
            ("6 days", facts(1_000, 1_006), None, 0.0, 1_004),
            ("as configured", facts(1_000, 1_090), days(10), 0.0, 1_080),
            ("as configured, the earliest", facts(1_000, 1_090), days(10), 1.0, 1_079),
            ("longer than the lifetime", facts(1_000, 1_090), days(365), 1.0, 1_030),
            ("no lifetime at all", facts(1_000, 1_000), None, 1.0, 1_000),
            ("ends before it begins", facts(1_000, 900), days(365), 1.0, 1_000),
        ] {
            assert_eq!(renewal_due(&facts, renew_before, jitter).seconds(), due_day * DAY, "{name}");
        }
    }

    #[test]
    fn pauses_grow_and_retry_after_is_bounded() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        for (failures, expected) in [(1, 1), (2, 4), (3, 16), (4, 64), (5, 256), (6, 360), (7, 360), (u32::MAX, 360)] {
            assert_eq!(pause(failures, 0.0), minutes(expected), "after {failures} failures");
        }
        assert_eq!(pause(1, 1.0), Duration::from_secs(72), "at random a fifth longer");
        assert_eq!(requested_pause(None), Duration::ZERO);
        assert_eq!(requested_pause(Some(minutes(120))), minutes(120));
        assert_eq!(requested_pause(Some(Duration::MAX)), minutes(24 * 60));
    }

    /// The limit of a large public authority: five failed validations per host and hour.
    #[test]
    fn there_are_few_attempts_in_an_hour() {
        let (mut now, mut failures, mut attempts) = (Duration::ZERO, 0, 0);
        while now < Duration::from_secs(60 * 60) {
            attempts += 1;
            failures += 1;
            now += pause(failures, 0.0);
        }
        assert_eq!(attempts, 4);
    }
}
