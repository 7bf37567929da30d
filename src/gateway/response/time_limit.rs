//! Time limits of a response: when it ends at the latest, and why.

use tokio::time::Instant;

/// When a response ends at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit {
    /// The end.
    pub at: Instant,
    /// What sets it.
    pub source: TimeLimitSource,
}

/// What limits the time of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimitSource {
    /// The client, by the `grpc-timeout` of its call.
    Call,
    /// The route's `timeout`.
    Route,
    /// The token's `exp` and the route's `stream_after_expiry`.
    Token,
}

impl TimeLimit {
    /// The earliest of `limits`.
    #[must_use]
    pub(crate) fn earliest(limits: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        limits.into_iter().flatten().min_by_key(|limit| limit.at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_limit_counts() {
        let now = Instant::now();
        let limit = |seconds, source| Some(TimeLimit { at: now + Duration::from_secs(seconds), source });
        let (call, route) = (limit(1, TimeLimitSource::Call), limit(2, TimeLimitSource::Route));
        assert_eq!(TimeLimit::earliest([route, call]), call);
        assert_eq!(TimeLimit::earliest([None, route]), route);
        assert_eq!(TimeLimit::earliest([None, None]), None);
    }
}
