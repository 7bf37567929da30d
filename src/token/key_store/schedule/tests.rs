//! Sequences of attempts and requests, and what the schedule decides. The time is an argument.

use super::*;

const SECOND: u64 = 1_000_000;
const TIMES: RefreshTimes = RefreshTimes {
    refresh: Duration::from_secs(900),
    cooldown: Duration::from_secs(30),
    max_stale: Duration::from_secs(86_400),
};

/// A schedule whose first attempt, at second 1, succeeded.
fn fetched() -> Schedule {
    let mut schedule = Schedule::new(TIMES);
    schedule.start(SECOND);
    schedule.succeed(SECOND, FetchScope::Everything, None, 0.5);
    schedule
}

fn failed(times: u32) -> Schedule {
    let mut schedule = Schedule::new(TIMES);
    for _ in 0..times {
        schedule.start(SECOND);
        schedule.fail();
    }
    schedule
}

fn unavailable(seconds: u64) -> MissOutcome {
    MissOutcome::Unavailable { retry_after: Duration::from_secs(seconds) }
}

/// Threat J-67: requests wait for the end of the first attempt.
#[test]
fn the_first_attempt_is_due_at_once_and_requests_wait_for_it() {
    let mut schedule = Schedule::new(TIMES);
    assert_eq!(schedule.next_step(0), NextStep::Fetch(FetchCause::Scheduled));
    assert_eq!(schedule.on_missing_key(0, "k", false, Waiter::New), MissOutcome::Wait);
    schedule.start(SECOND);
    assert_eq!(schedule.on_missing_key(SECOND, "k", false, Waiter::New), MissOutcome::Wait);
}

#[test]
fn a_set_is_refreshed_after_four_fifths_of_its_lifetime_within_ten_per_cent() {
    for (lifetime, jitter, expected) in [
        (None, 0.5, 720.0),
        (None, 0.0, 648.0),
        (None, 1.0, 792.0),
        (Some(60), 0.5, 48.0),
        (Some(86_400), 0.5, 69_120.0),
        (Some(10 * 86_400), 0.5, 69_120.0),
    ] {
        let mut schedule = Schedule::new(TIMES);
        schedule.start(0);
        schedule.succeed(0, FetchScope::Everything, lifetime.map(Duration::from_secs), jitter);
        let NextStep::Wait(pause) = schedule.next_step(0) else { panic!("{lifetime:?} {jitter}") };
        assert!((pause.as_secs_f64() - expected).abs() < 0.01, "{lifetime:?} {jitter}: {pause:?}");
    }
}

#[test]
fn failures_double_the_pause_up_to_five_minutes() {
    for (failures, seconds) in [(1, 30), (2, 60), (3, 120), (4, 240), (5, 300), (6, 300), (4_000_000, 300)] {
        let mut schedule = failed(1);
        schedule.failures = failures;
        assert_eq!(schedule.next_step(SECOND), NextStep::Wait(Duration::from_secs(seconds)), "{failures}");
    }
    assert_eq!(failed(1).next_step(31 * SECOND), NextStep::Fetch(FetchCause::Scheduled));
}

/// Threats J-68, J-69, J-91, A27.
#[test]
fn an_unknown_key_causes_one_fetch_per_cooldown() {
    let mut schedule = fetched();
    assert_eq!(schedule.on_missing_key(30 * SECOND, "k", true, Waiter::New), MissOutcome::RefuseUnknown);
    assert_eq!(schedule.next_step(30 * SECOND), NextStep::Wait(Duration::from_secs(691)));
    assert_eq!(schedule.on_missing_key(31 * SECOND, "k", true, Waiter::New), MissOutcome::Wait);
    assert_eq!(schedule.next_step(31 * SECOND), NextStep::Fetch(FetchCause::UnknownKey));
    schedule.start(31 * SECOND);
    assert_eq!(schedule.on_missing_key(31 * SECOND, "other", true, Waiter::New), MissOutcome::Wait);
    schedule.succeed(32 * SECOND, FetchScope::Everything, None, 0.5);
    assert_eq!(schedule.on_missing_key(32 * SECOND, "k", true, Waiter::Waited), MissOutcome::RefuseUnknown);
    // The cooldown counts from the start of the attempt.
    assert_eq!(schedule.on_missing_key(60 * SECOND, "new", true, Waiter::New), MissOutcome::RefuseUnknown);
    assert_eq!(schedule.on_missing_key(61 * SECOND, "k", true, Waiter::New), MissOutcome::RefuseUnknown);
    assert_eq!(schedule.on_missing_key(61 * SECOND, "new", true, Waiter::New), MissOutcome::Wait);
}

/// Threat J-95: only a scheduled fetch reads the discovery document, so a request for an unknown
/// key must not take the place of a refresh that is due.
#[test]
fn a_fetch_is_for_an_unknown_key_only_before_the_refresh_and_after_a_success() {
    let mut schedule = fetched();
    assert_eq!(schedule.on_missing_key(700 * SECOND, "k", true, Waiter::New), MissOutcome::Wait);
    assert_eq!(schedule.next_step(721 * SECOND - 1), NextStep::Fetch(FetchCause::UnknownKey));
    assert_eq!(schedule.next_step(721 * SECOND), NextStep::Fetch(FetchCause::Scheduled), "the refresh is due");
    let mut schedule = fetched();
    schedule.start(31 * SECOND);
    schedule.fail();
    assert_eq!(schedule.on_missing_key(61 * SECOND, "k", true, Waiter::New), MissOutcome::Wait);
    assert_eq!(schedule.next_step(61 * SECOND), NextStep::Fetch(FetchCause::Scheduled), "the last attempt failed");
}

#[test]
fn a_missing_key_is_forgotten_after_a_minute() {
    let mut schedule = fetched();
    assert_eq!(schedule.on_missing_key(2 * SECOND, "k", true, Waiter::Waited), MissOutcome::RefuseUnknown);
    assert_eq!(schedule.on_missing_key(61 * SECOND, "k", true, Waiter::New), MissOutcome::RefuseUnknown);
    assert_eq!(schedule.on_missing_key(62 * SECOND, "k", true, Waiter::New), MissOutcome::Wait);
}

#[test]
fn a_key_counts_as_missing_only_after_a_request_has_waited() {
    let mut schedule = fetched();
    assert_eq!(schedule.on_missing_key(2 * SECOND, "k", true, Waiter::New), MissOutcome::RefuseUnknown);
    assert_eq!(schedule.on_missing_key(31 * SECOND, "k", true, Waiter::New), MissOutcome::Wait);
}

/// After a failed fetch an unknown key may exist, so the response must not say that it does
/// not.
#[test]
fn after_a_failure_an_unknown_key_means_unavailable() {
    let mut schedule = failed(1);
    assert_eq!(schedule.on_missing_key(11 * SECOND, "k", true, Waiter::New), unavailable(20));
    assert_eq!(schedule.on_missing_key(11 * SECOND, "k", false, Waiter::New), unavailable(20));
    assert_eq!(schedule.on_missing_key(30 * SECOND + 900_000, "k", true, Waiter::New), unavailable(1));
    assert_eq!(schedule.on_missing_key(31 * SECOND, "k", true, Waiter::New), MissOutcome::Wait);
    assert_eq!(schedule.on_missing_key(31 * SECOND, "k", true, Waiter::Waited), unavailable(1));
    assert_eq!(failed(2).on_missing_key(31 * SECOND, "k", true, Waiter::New), unavailable(30));
}

#[test]
fn without_a_usable_set_no_key_is_refused_as_unknown() {
    let mut schedule = fetched();
    assert_eq!(schedule.on_missing_key(2 * SECOND, "k", false, Waiter::New), unavailable(719));
    assert_eq!(schedule.on_missing_key(31 * SECOND, "k", false, Waiter::New), MissOutcome::Wait);
    assert_eq!(schedule.on_missing_key(31 * SECOND, "k", false, Waiter::Waited), unavailable(1));
}

/// Threat J-70.
#[test]
fn a_flood_of_unknown_keys_does_not_delay_the_refresh() {
    let mut schedule = fetched();
    schedule.times.cooldown = Duration::from_secs(3_600);
    assert_eq!(schedule.on_missing_key(700 * SECOND, "k", true, Waiter::New), MissOutcome::RefuseUnknown);
    assert_eq!(schedule.next_step(721 * SECOND), NextStep::Fetch(FetchCause::Scheduled));
}

/// Threat J-95.
#[test]
fn a_fetch_of_the_keys_alone_does_not_postpone_the_refresh() {
    let refresh_at = |scope: FetchScope, lifetime: u64| {
        let mut schedule = fetched();
        schedule.start(700 * SECOND);
        schedule.succeed(700 * SECOND, scope, Some(Duration::from_secs(lifetime)), 0.5);
        schedule.next_attempt_at() / SECOND
    };
    assert_eq!(refresh_at(FetchScope::Everything, 900), 700 + 720);
    assert_eq!(refresh_at(FetchScope::KeysOnly, 900), 1 + 720);
    assert_eq!(refresh_at(FetchScope::KeysOnly, 10), 700 + 8, "a shorter lifetime still applies");
}

#[test]
fn new_times_apply_to_the_keys_that_have_been_fetched() {
    let mut schedule = fetched();
    let seconds = Duration::from_secs;
    schedule.set_times(RefreshTimes { refresh: seconds(100), ..TIMES });
    assert_eq!(schedule.next_step(2 * SECOND), NextStep::Wait(seconds(79)));
    schedule.set_times(RefreshTimes { max_stale: seconds(50), ..TIMES });
    assert_eq!(schedule.next_step(2 * SECOND), NextStep::Wait(seconds(39)));
    let mut schedule = failed(1);
    schedule.set_times(RefreshTimes { cooldown: seconds(5), ..TIMES });
    assert_eq!(schedule.next_step(2 * SECOND), NextStep::Wait(seconds(4)));
}

/// Threat J-68.
#[test]
fn missing_keys_are_bounded_in_number() {
    let mut missing = MissingKeys::default();
    for number in 0..3_000 {
        missing.insert(&number.to_string(), SECOND);
    }
    assert_eq!(missing.seen.len(), MissingKeys::MAX_KEYS);
    assert!(missing.contains("2999", SECOND) && !missing.contains("0", SECOND));
}

#[test]
fn the_longest_times_do_not_overflow() {
    let endless = RefreshTimes { refresh: Duration::MAX, cooldown: Duration::MAX, max_stale: Duration::MAX };
    let mut schedule = Schedule::new(endless);
    schedule.start(SECOND);
    schedule.fail();
    schedule.fail();
    assert!(matches!(schedule.next_step(2 * SECOND), NextStep::Wait(_)));
}
