//! Schedule of one issuer's key fetches: when the next is due, and what a token hears whose key is not in the set.
//!
//! Only decisions, with the time as an argument in microseconds of the monotonic clock: no I/O, no waiting. The rules: the set is fetched anew
//! at four fifths of its lifetime; a token with an unknown key makes it be fetched at once, but not twice within the cooldown, which counts from
//! the last attempt, good or bad; after failures the cooldown doubles up to five minutes.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Longest pause between two attempts after failures.
const MAX_BACK_OFF: Duration = Duration::from_secs(5 * 60);

/// Shortest pause between two attempts, whatever is configured: an identity provider is nobody to be hammered.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// The configured times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// Lifetime of a set whose headers do not say.
    pub(super) refresh: Duration,
    /// Between two attempts for unknown keys, and after the first failure.
    pub(super) cooldown: Duration,
    /// How long a set may be used after it was fetched.
    pub(super) max_stale: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Wait so long, unless woken.
    In(Duration),
    /// Fetch.
    Now(Cause),
}

/// Why keys are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A token names a key that is not in the set.
    Asked,
    /// It is time, or the last attempt failed.
    Scheduled,
}

/// What becomes of a token whose key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// Nobody can tell now whether the key exists.
    Unavailable { retry_after: Duration },
    /// The key does not exist.
    Unknown,
    /// An attempt is under way or about to begin: wait for its end, then look again.
    Wait,
}

/// What a token that misses its key has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// It has just come.
    New,
    /// It has waited for an attempt, which has ended.
    Waited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Failed,
    None,
    Succeeded,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Schedule {
    timing: Timing,
    last: Outcome,
    running: bool,
    asked: bool,
    began_at: u64,
    /// Meaningful after a success.
    refresh_at: u64,
    failures: u32,
    refused: Refused,
}

impl Schedule {
    /// Nothing was tried yet.
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            last: Outcome::None,
            running: false,
            asked: false,
            began_at: 0,
            refresh_at: 0,
            failures: 0,
            refused: Refused::default(),
        }
    }

    /// What to do at `now`. Meant for the one who fetches: while an attempt runs, it is not asked.
    pub(super) fn due(&self, now: u64) -> Due {
        let next_at = self.next_at();
        if next_at > now {
            return Due::In(Duration::from_micros(next_at - now));
        }
        let is_early = self.last == Outcome::Succeeded && self.asked && now < self.refresh_at;
        Due::Now(if is_early { Cause::Asked } else { Cause::Scheduled })
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, now: u64) {
        self.running = true;
        self.asked = false;
        self.began_at = now;
    }

    /// The attempt gave a set that lives for `lifetime`, or for as long as is configured. `jitter` in `0.0..1.0` spreads the gateways of a
    /// site by ten per cent either way.
    pub(super) fn succeed(&mut self, now: u64, lifetime: Option<Duration>, jitter: f64) {
        self.running = false;
        self.last = Outcome::Succeeded;
        self.failures = 0;
        // A set that may not be used for its whole lifetime is fetched before it may not.
        let lifetime = lifetime.unwrap_or(self.timing.refresh).min(self.timing.max_stale);
        let pause = lifetime.mul_f64(0.8 * (0.9 + 0.2 * jitter)).max(MIN_PAUSE);
        self.refresh_at = now.saturating_add(micros(pause));
    }

    /// The attempt failed.
    pub(super) fn fail(&mut self) {
        self.running = false;
        self.last = Outcome::Failed;
        self.failures = self.failures.saturating_add(1);
    }

    /// Whether an attempt has ended, either way.
    pub(super) fn has_tried(&self) -> bool {
        self.last != Outcome::None
    }

    /// How long until the next attempt, at least a second: an answer for those who have to come again.
    pub(super) fn next_in(&self, now: u64) -> Duration {
        Duration::from_micros(self.next_at().saturating_sub(now)).max(MIN_PAUSE)
    }

    /// Decides about a token whose key `kid` is not in the set, or that finds no set that may be used (`has_set`).
    pub(super) fn miss(&mut self, now: u64, kid: &str, has_set: bool, waiter: Waiter) -> Miss {
        match (waiter, self.last) {
            (Waiter::New, Outcome::None) => return Miss::Wait,
            (Waiter::New, Outcome::Failed | Outcome::Succeeded) if self.running => return Miss::Wait,
            (Waiter::New, Outcome::Succeeded) if has_set && self.refused.holds(kid, now) => return Miss::Unknown,
            (Waiter::New, Outcome::Failed | Outcome::Succeeded) if self.cooled_down_at() <= now => {
                self.asked = true;
                return Miss::Wait;
            }
            (Waiter::New | Waiter::Waited, Outcome::Failed | Outcome::None | Outcome::Succeeded) => {}
        }
        if self.last != Outcome::Succeeded || !has_set {
            return Miss::Unavailable { retry_after: self.next_in(now) };
        }
        // Only who has seen a fetch since it asked is remembered: for a token that comes during the cooldown, its key may just have been
        // published.
        if waiter == Waiter::Waited {
            self.refused.remember(kid, now);
        }
        Miss::Unknown
    }

    fn next_at(&self) -> u64 {
        match self.last {
            Outcome::None => 0,
            Outcome::Failed => self.cooled_down_at(),
            Outcome::Succeeded if self.asked => self.cooled_down_at().min(self.refresh_at),
            Outcome::Succeeded => self.refresh_at,
        }
    }

    fn cooled_down_at(&self) -> u64 {
        let longest = MAX_BACK_OFF.max(self.timing.cooldown);
        let doublings = self.failures.saturating_sub(1).min(16);
        let pause = self.timing.cooldown.max(MIN_PAUSE).saturating_mul(1 << doublings).min(longest);
        self.began_at.saturating_add(micros(pause))
    }
}

/// Key ids that were looked for and are not there: bounded in number and in time, so that asking again for one of them costs nothing.
#[derive(Debug, Default)]
struct Refused {
    hasher: RandomState,
    /// Hash and time, oldest first. A hash, because a client chooses the text; keyed, so that nobody can choose one that collides.
    seen: VecDeque<(u64, u64)>,
}

impl Refused {
    /// 16 KiB; more names than that within a minute are no rotation but a flood, and the cooldown bounds that.
    const MOST: usize = 1024;

    /// An issuer may publish the key a moment after its first token.
    const REMEMBERED: Duration = Duration::from_secs(60);

    fn holds(&mut self, kid: &str, now: u64) -> bool {
        while self.seen.front().is_some_and(|(_, at)| at.saturating_add(micros(Self::REMEMBERED)) <= now) {
            self.seen.pop_front();
        }
        let hash = self.hasher.hash_one(kid);
        self.seen.iter().any(|(seen, _)| *seen == hash)
    }

    fn remember(&mut self, kid: &str, now: u64) {
        if self.holds(kid, now) {
            return;
        }
        if self.seen.len() == Self::MOST {
            self.seen.pop_front();
        }
        self.seen.push_back((self.hasher.hash_one(kid), now));
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const TIMING: Timing = Timing {
        refresh: Duration::from_secs(900),
        cooldown: Duration::from_secs(30),
        max_stale: Duration::from_secs(86_400),
    };

    /// A schedule whose first attempt, at second 1, gave a set.
    fn fetched() -> Schedule {
        let mut schedule = Schedule::new(TIMING);
        schedule.begin(SECOND);
        schedule.succeed(SECOND, None, 0.5);
        schedule
    }

    fn failed(times: u32) -> Schedule {
        let mut schedule = Schedule::new(TIMING);
        for _ in 0..times {
            schedule.begin(SECOND);
            schedule.fail();
        }
        schedule
    }

    fn unavailable(seconds: u64) -> Miss {
        Miss::Unavailable { retry_after: Duration::from_secs(seconds) }
    }

    /// Threat J-67: requests before the first attempt's end wait for it.
    #[test]
    fn the_first_attempt_is_due_at_once_and_waited_for() {
        let mut schedule = Schedule::new(TIMING);
        assert_eq!(schedule.due(0), Due::Now(Cause::Scheduled));
        assert_eq!(schedule.miss(0, "k", false, Waiter::New), Miss::Wait);
        schedule.begin(SECOND);
        assert_eq!(schedule.miss(SECOND, "k", false, Waiter::New), Miss::Wait);
        assert!(!schedule.has_tried());
    }

    #[test]
    fn a_set_is_fetched_anew_at_four_fifths_of_its_lifetime_give_or_take_a_tenth() {
        for (lifetime, jitter, expected) in [
            (None, 0.5, 720.0),
            (None, 0.0, 648.0),
            (None, 1.0, 792.0),
            (Some(60), 0.5, 48.0),
            (Some(86_400), 0.5, 69_120.0),
            (Some(10 * 86_400), 0.5, 69_120.0),
        ] {
            let mut schedule = Schedule::new(TIMING);
            schedule.begin(0);
            schedule.succeed(0, lifetime.map(Duration::from_secs), jitter);
            let Due::In(pause) = schedule.due(0) else { panic!("{lifetime:?} {jitter}") };
            assert!((pause.as_secs_f64() - expected).abs() < 0.01, "{lifetime:?} {jitter}: {pause:?}");
        }
    }

    #[test]
    fn failures_double_the_pause_up_to_five_minutes() {
        for (failures, seconds) in [(1, 30), (2, 60), (3, 120), (4, 240), (5, 300), (6, 300), (4_000_000, 300)] {
            let mut schedule = failed(1);
            schedule.failures = failures;
            assert_eq!(schedule.due(SECOND), Due::In(Duration::from_secs(seconds)), "{failures}");
        }
        assert_eq!(failed(1).due(31 * SECOND), Due::Now(Cause::Scheduled));
    }

    /// Threats J-68, J-69, J-91, A27.
    #[test]
    fn an_unknown_key_is_asked_for_once_per_cooldown() {
        let mut schedule = fetched();
        assert_eq!(schedule.miss(30 * SECOND, "k", true, Waiter::New), Miss::Unknown);
        assert_eq!(schedule.due(30 * SECOND), Due::In(Duration::from_secs(691)));
        assert_eq!(schedule.miss(31 * SECOND, "k", true, Waiter::New), Miss::Wait);
        assert_eq!(schedule.due(31 * SECOND), Due::Now(Cause::Asked));
        schedule.begin(31 * SECOND);
        assert_eq!(schedule.miss(31 * SECOND, "other", true, Waiter::New), Miss::Wait);
        schedule.succeed(32 * SECOND, None, 0.5);
        assert_eq!(schedule.miss(32 * SECOND, "k", true, Waiter::Waited), Miss::Unknown);
        // The cooldown counts from the attempt's begin.
        assert_eq!(schedule.miss(60 * SECOND, "new", true, Waiter::New), Miss::Unknown);
        assert_eq!(schedule.miss(61 * SECOND, "k", true, Waiter::New), Miss::Unknown);
        assert_eq!(schedule.miss(61 * SECOND, "new", true, Waiter::New), Miss::Wait);
    }

    #[test]
    fn a_refused_key_is_forgotten_after_a_minute() {
        let mut schedule = fetched();
        assert_eq!(schedule.miss(2 * SECOND, "k", true, Waiter::Waited), Miss::Unknown);
        assert_eq!(schedule.miss(61 * SECOND, "k", true, Waiter::New), Miss::Unknown);
        assert_eq!(schedule.miss(62 * SECOND, "k", true, Waiter::New), Miss::Wait);
    }

    #[test]
    fn a_key_is_not_remembered_by_who_did_not_wait() {
        let mut schedule = fetched();
        assert_eq!(schedule.miss(2 * SECOND, "k", true, Waiter::New), Miss::Unknown);
        assert_eq!(schedule.miss(31 * SECOND, "k", true, Waiter::New), Miss::Wait);
    }

    /// An unknown key after a fetch that failed may exist: nobody is told that it does not.
    #[test]
    fn after_a_failure_an_unknown_key_is_unavailable_until_the_next_attempt() {
        let mut schedule = failed(1);
        assert_eq!(schedule.miss(11 * SECOND, "k", true, Waiter::New), unavailable(20));
        assert_eq!(schedule.miss(11 * SECOND, "k", false, Waiter::New), unavailable(20));
        assert_eq!(schedule.miss(30 * SECOND + 900_000, "k", true, Waiter::New), unavailable(1));
        assert_eq!(schedule.miss(31 * SECOND, "k", true, Waiter::New), Miss::Wait);
        assert_eq!(schedule.miss(31 * SECOND, "k", true, Waiter::Waited), unavailable(1));
        assert_eq!(failed(2).miss(31 * SECOND, "k", true, Waiter::New), unavailable(30));
    }

    #[test]
    fn without_a_usable_set_no_key_is_called_unknown() {
        let mut schedule = fetched();
        assert_eq!(schedule.miss(2 * SECOND, "k", false, Waiter::New), unavailable(719));
        assert_eq!(schedule.miss(31 * SECOND, "k", false, Waiter::New), Miss::Wait);
        assert_eq!(schedule.miss(31 * SECOND, "k", false, Waiter::Waited), unavailable(1));
    }

    /// Threat J-70: a flood of unknown keys fetches the set too, and does not put off the scheduled refresh.
    #[test]
    fn a_flood_does_not_put_off_the_scheduled_refresh() {
        let mut schedule = fetched();
        schedule.timing.cooldown = Duration::from_secs(3_600);
        assert_eq!(schedule.miss(700 * SECOND, "k", true, Waiter::New), Miss::Unknown);
        assert_eq!(schedule.due(721 * SECOND), Due::Now(Cause::Scheduled));
    }

    /// Threat J-68.
    #[test]
    fn refused_keys_are_bounded_in_number() {
        let mut refused = Refused::default();
        for number in 0..3_000 {
            refused.remember(&number.to_string(), SECOND);
        }
        assert_eq!(refused.seen.len(), Refused::MOST);
        assert!(refused.holds("2999", SECOND) && !refused.holds("0", SECOND));
    }

    #[test]
    fn times_beyond_all_bounds_do_not_overflow() {
        let endless = Timing { refresh: Duration::MAX, cooldown: Duration::MAX, max_stale: Duration::MAX };
        let mut schedule = Schedule::new(endless);
        schedule.begin(SECOND);
        schedule.fail();
        schedule.fail();
        assert!(matches!(schedule.due(2 * SECOND), Due::In(_)));
    }
}
