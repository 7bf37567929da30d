//! Schedule of one issuer's key fetches: when the next fetch is due, and whether a request with
//! an unknown key waits for a fetch or is refused.
//!
//! Decides only: no I/O, no waiting, and the time is an argument, in microseconds of the monotonic
//! clock. The rules:
//!
//! - The key set is refreshed after four fifths of its lifetime. A refresh reads everything again,
//!   also the discovery document.
//! - A token with an unknown key triggers a fetch at once, but not within the cooldown, which
//!   starts with the last attempt, whether or not that succeeded.
//! - A fetch for an unknown key that did not read the discovery document does not postpone the
//!   refresh: clients decide when such a fetch happens.
//! - After repeated failures the cooldown doubles, up to [`MAX_BACKOFF`].

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::token::RefreshTimes;

/// Longest pause between two attempts after failures.
const MAX_BACKOFF: Duration = Duration::from_secs(5 * 60);

/// Shortest pause between two attempts, whatever is configured: protects the identity provider.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// What the fetch loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Fetch.
    Fetch(FetchCause),
    /// Wait for this long, or until woken.
    Wait(Duration),
}

/// Why keys are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchCause {
    /// The refresh is due, or the last attempt failed.
    Scheduled,
    /// A token names a key that is not in the set.
    UnknownKey,
}

/// How much a successful attempt read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchScope {
    /// Everything that leads to the keys.
    Everything,
    /// The key set only, at the address that an earlier discovery document named.
    KeysOnly,
}

/// What happens to a request whose key is not in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MissOutcome {
    /// Refuse it: the key does not exist.
    RefuseUnknown,
    /// Refuse it: whether the key exists cannot be determined at the moment.
    Unavailable { retry_after: Duration },
    /// An attempt is running or about to start: wait for its end, then look up the key again.
    Wait,
}

/// Whether a request whose key is missing has already waited for an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// It has not waited yet.
    New,
    /// It has waited for an attempt, which has ended.
    Waited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastAttempt {
    Failed,
    None,
    Succeeded,
}

/// When keys are fetched.
#[derive(Debug)]
pub(super) struct Schedule {
    times: RefreshTimes,
    last: LastAttempt,
    is_running: bool,
    /// Whether a request waits for a key that is not in the set.
    is_requested: bool,
    started_at: u64,
    /// The last successful attempt that read everything.
    last_success: Option<Success>,
    /// The last one after that which read the keys only.
    last_keys: Option<Success>,
    failures: u32,
    missing_keys: MissingKeys,
}

/// A successful attempt.
#[derive(Clone, Copy, Debug)]
struct Success {
    at: u64,
    /// By the cache headers.
    lifetime: Option<Duration>,
    jitter: f64,
}

impl Success {
    /// When what the attempt read must be read again.
    fn refresh_at(&self, times: &RefreshTimes) -> u64 {
        // A lifetime beyond `max_stale` would let the set become unusable before its refresh.
        let lifetime = self.lifetime.unwrap_or(times.refresh).min(times.max_stale);
        let pause = lifetime.mul_f64(0.8 * (0.9 + 0.2 * self.jitter)).max(MIN_PAUSE);
        self.at.saturating_add(micros(pause))
    }
}

impl Schedule {
    /// A schedule without any attempt yet: the first is due at once.
    pub(super) fn new(times: RefreshTimes) -> Self {
        Self {
            times,
            last: LastAttempt::None,
            is_running: false,
            is_requested: false,
            started_at: 0,
            last_success: None,
            last_keys: None,
            failures: 0,
            missing_keys: MissingKeys::default(),
        }
    }

    /// What to do at `now`. Only the fetch loop calls this, and never during an attempt.
    pub(super) fn next_step(&self, now: u64) -> NextStep {
        let next_at = self.next_attempt_at();
        if next_at > now {
            return NextStep::Wait(Duration::from_micros(next_at - now));
        }
        let is_for_unknown_key = self.last == LastAttempt::Succeeded && self.is_requested && now < self.refresh_at();
        NextStep::Fetch(if is_for_unknown_key { FetchCause::UnknownKey } else { FetchCause::Scheduled })
    }

    /// Records that an attempt starts.
    pub(super) fn start(&mut self, now: u64) {
        self.is_running = true;
        self.is_requested = false;
        self.started_at = now;
    }

    /// Records that the attempt got a key set with this lifetime, or without one. `jitter` in
    /// `0.0..1.0` moves the refresh by up to ten per cent either way, so that several gateways do
    /// not fetch at the same time.
    pub(super) fn succeed(&mut self, now: u64, scope: FetchScope, lifetime: Option<Duration>, jitter: f64) {
        self.is_running = false;
        self.last = LastAttempt::Succeeded;
        self.failures = 0;
        let success = Some(Success { at: now, lifetime, jitter });
        match scope {
            FetchScope::Everything => (self.last_success, self.last_keys) = (success, None),
            FetchScope::KeysOnly => self.last_keys = success,
        }
    }

    /// The times.
    pub(super) fn times(&self) -> RefreshTimes {
        self.times
    }

    /// Changes the times. They apply to the keys that have been fetched, too.
    pub(super) fn set_times(&mut self, times: RefreshTimes) {
        self.times = times;
    }

    /// Records that the attempt failed.
    pub(super) fn fail(&mut self) {
        self.is_running = false;
        self.last = LastAttempt::Failed;
        self.failures = self.failures.saturating_add(1);
    }

    /// The time until the next attempt, at least [`MIN_PAUSE`]: suitable for `Retry-After`.
    pub(super) fn time_to_next(&self, now: u64) -> Duration {
        Duration::from_micros(self.next_attempt_at().saturating_sub(now)).max(MIN_PAUSE)
    }

    /// Decides about a request whose key `kid` is not in the set. `has_set`: whether there is a set
    /// that may be used at all.
    pub(super) fn on_missing_key(&mut self, now: u64, kid: &str, has_set: bool, waiter: Waiter) -> MissOutcome {
        match (waiter, self.last) {
            (Waiter::New, LastAttempt::None) => return MissOutcome::Wait,
            (Waiter::New, LastAttempt::Failed | LastAttempt::Succeeded) if self.is_running => return MissOutcome::Wait,
            (Waiter::New, LastAttempt::Succeeded) if has_set && self.missing_keys.contains(kid, now) => {
                return MissOutcome::RefuseUnknown;
            }
            (Waiter::New, LastAttempt::Failed | LastAttempt::Succeeded) if self.cooldown_ends_at() <= now => {
                self.is_requested = true;
                return MissOutcome::Wait;
            }
            (Waiter::New | Waiter::Waited, LastAttempt::Failed | LastAttempt::None | LastAttempt::Succeeded) => {}
        }
        if self.last != LastAttempt::Succeeded || !has_set {
            return MissOutcome::Unavailable { retry_after: self.time_to_next(now) };
        }
        // A key counts as missing only after a fetch that came later than the request. For a
        // request within the cooldown, the key may have been published since the last fetch.
        if waiter == Waiter::Waited {
            self.missing_keys.insert(kid, now);
        }
        MissOutcome::RefuseUnknown
    }

    fn next_attempt_at(&self) -> u64 {
        match self.last {
            LastAttempt::None => 0,
            LastAttempt::Failed => self.cooldown_ends_at(),
            LastAttempt::Succeeded if self.is_requested => self.cooldown_ends_at().min(self.refresh_at()),
            LastAttempt::Succeeded => self.refresh_at(),
        }
    }

    /// When the refresh is due; 0 before the first success.
    fn refresh_at(&self) -> u64 {
        let successes = [self.last_success, self.last_keys].into_iter().flatten();
        successes.map(|success| success.refresh_at(&self.times)).min().unwrap_or(0)
    }

    fn cooldown_ends_at(&self) -> u64 {
        let longest = MAX_BACKOFF.max(self.times.cooldown);
        let doublings = self.failures.saturating_sub(1).min(16);
        let pause = self.times.cooldown.max(MIN_PAUSE).saturating_mul(1 << doublings).min(longest);
        self.started_at.saturating_add(micros(pause))
    }
}

/// Key ids that a fetch did not find. Another request for one of them causes no fetch. Bounded in
/// number and in age.
#[derive(Debug, Default)]
struct MissingKeys {
    hasher: RandomState,
    /// Hash and time, oldest first. A hash, because clients choose the length of the text; keyed,
    /// so that a client cannot construct collisions.
    seen: VecDeque<(u64, u64)>,
}

impl MissingKeys {
    /// 16 KiB of memory. More ids within a minute are an attack, which the cooldown bounds.
    const MAX_KEYS: usize = 1024;

    /// Not longer, because an issuer may publish a key a moment after it issues the first token.
    const MAX_AGE: Duration = Duration::from_secs(60);

    fn contains(&mut self, kid: &str, now: u64) -> bool {
        while self.seen.front().is_some_and(|(_, at)| at.saturating_add(micros(Self::MAX_AGE)) <= now) {
            self.seen.pop_front();
        }
        let hash = self.hasher.hash_one(kid);
        self.seen.iter().any(|(seen, _)| *seen == hash)
    }

    fn insert(&mut self, kid: &str, now: u64) {
        if self.contains(kid, now) {
            return;
        }
        if self.seen.len() == Self::MAX_KEYS {
            self.seen.pop_front();
        }
        self.seen.push_back((self.hasher.hash_one(kid), now));
    }
}

/// `span` in microseconds; the largest number for a span that is longer than that.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
