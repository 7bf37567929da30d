//! `RateLimit` and `RateLimit-Policy`: the response headers that describe limits to a client.
//!
//! They follow draft-ietf-httpapi-ratelimit-headers-10: lists of RFC 9651 Strings with parameters,
//! one item per limit, on several field lines or separated by commas. All numbers come from the
//! [`QuotaDecision`] that was acted on. No partition key is sent, because it would reveal what a
//! limit counts by.

use std::fmt::Write as _;

use http::HeaderValue;

use super::{Quota, QuotaDecision};
use crate::primitives::field_syntax::{retry_after_seconds, seconds_rounded_up};

/// An item of `RateLimit-Policy`: `"name";q=100;w=60`. `q` is the count, `w` the period in whole
/// seconds, at least 1.
#[must_use]
pub(crate) fn policy(name: &str, quota: &Quota) -> HeaderValue {
    item(name, ["q", "w"], [quota.count, seconds_rounded_up(quota.period).max(1)])
}

/// An item of `RateLimit`: `"name";r=97;t=41`. `r` is the number of requests that remain.
///
/// `t` is the time in seconds until the whole burst is available again. For a refusal it is the
/// time until the next request is allowed, the same number as in `Retry-After` (see
/// [`retry_after_seconds`]).
#[must_use]
pub(crate) fn limit(name: &str, decision: &QuotaDecision) -> HeaderValue {
    let numbers = match *decision {
        QuotaDecision::Allowed { remaining, full_after } => [remaining, seconds_rounded_up(full_after)],
        QuotaDecision::Exceeded { retry_after } => [0, retry_after_seconds(retry_after)],
    };
    item(name, ["r", "t"], numbers)
}

/// A String (RFC 9651 §3.3.3) with two Integers as parameters. A String holds printable ASCII only;
/// any other character becomes `?`.
fn item(name: &str, parameters: [&str; 2], numbers: [u64; 2]) -> HeaderValue {
    let mut text = String::with_capacity(name.len() + 24);
    text.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text.push('"');
    for (parameter, number) in parameters.into_iter().zip(numbers) {
        write!(text, ";{parameter}={}", number.min(MAX_INTEGER)).expect("writing into a String does not fail");
    }
    HeaderValue::try_from(text).expect("printable ASCII is a valid header value")
}

/// Largest Integer of RFC 9651 §3.3.1.
const MAX_INTEGER: u64 = 999_999_999_999_999;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn quota(count: u64, period: Duration) -> Quota {
        Quota { count, period, burst: 5 }
    }

    fn allowed(remaining: u64, millis: u64) -> QuotaDecision {
        QuotaDecision::Allowed { remaining, full_after: Duration::from_millis(millis) }
    }

    fn refused(millis: u64) -> QuotaDecision {
        QuotaDecision::Exceeded { retry_after: Duration::from_millis(millis) }
    }

    #[test]
    fn a_policy_is_a_string_with_count_and_period() {
        let minute = quota(100, Duration::from_secs(60));
        for (case, name, quota, expect) in [
            ("plain", "default", minute, r#""default";q=100;w=60"#),
            ("a period below a second", "a", quota(5, Duration::from_millis(100)), r#""a";q=5;w=1"#),
            ("escapes", "a\"b\\c", minute, r#""a\"b\\c";q=100;w=60"#),
            ("no line ends, no letters beyond ASCII", "a\r\né", minute, r#""a???";q=100;w=60"#),
            ("the largest number", "a", quota(u64::MAX, Duration::MAX), r#""a";q=999999999999999;w=999999999999999"#),
        ] {
            assert_eq!(policy(name, &quota).to_str().unwrap(), expect, "{case}");
        }
    }

    #[test]
    fn a_decision_is_written_with_seconds_rounded_up() {
        for (case, decision, expect) in [
            ("allowed", allowed(97, 41_000), r#""default";r=97;t=41"#),
            ("rounded up", allowed(97, 40_001), r#""default";r=97;t=41"#),
            ("full", allowed(100, 0), r#""default";r=100;t=0"#),
            ("refused for a moment", refused(1), r#""default";r=0;t=1"#),
            ("refused", refused(1_500), r#""default";r=0;t=2"#),
        ] {
            assert_eq!(limit("default", &decision).to_str().unwrap(), expect, "{case}");
        }
    }
}
