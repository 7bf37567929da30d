//! The settings of an upstream's health: `health`, `eject` and `slow_start`.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

/// When a server gets requests, and how many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthSettings {
    /// Active checks; `None`: there are none, and no server is down.
    pub check: Option<CheckSettings>,
    /// Passive ejection; `None`: it is off.
    pub eject: Option<EjectSettings>,
    /// How long a server that has recovered gets less than its full share. Zero: no time.
    pub slow_start: Duration,
}

/// `health`: requests that the gateway itself sends to find out whether a server works.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckSettings {
    /// Path and query.
    pub path: PathAndQuery,
    /// The `Host` field; `None`: the server's own address.
    pub host: Option<HeaderValue>,
    /// The pause between two checks, before jitter.
    pub interval: Duration,
    /// From the start of a check to the head of its response.
    pub timeout: Duration,
    /// Failures in a row after which the server is down.
    pub unhealthy_after: u32,
    /// Successes in a row after which it is up again.
    pub healthy_after: u32,
    /// The statuses that count as success.
    pub expect: StatusSet,
}

/// `eject`: avoiding a server after failures of ordinary requests.
#[derive(Clone, Debug, PartialEq)]
pub struct EjectSettings {
    /// Failures in a row after which a server is ejected.
    pub failures: u32,
    /// How long the first ejection lasts; the nth in a row lasts n times as long, n at most
    /// [`MAX_TIMES`](super::ejection::MAX_TIMES).
    pub duration: Duration,
    /// The statuses that count as failures.
    pub statuses: StatusSet,
}

/// A set of response statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusSet(Vec<RangeInclusive<u16>>);

impl StatusSet {
    /// Whether it contains `status`.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl FromIterator<RangeInclusive<u16>> for StatusSet {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u16>>>(ranges: I) -> Self {
        Self(ranges.into_iter().collect())
    }
}
