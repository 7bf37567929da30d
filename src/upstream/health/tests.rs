//! Health of servers: ejection, checks and recovery, with a clock that the tests set.

use std::time::Duration;

use super::*;
use crate::primitives::clock::ManualClock;
use crate::telemetry::logging::tests::events_of;
use crate::telemetry::metrics::Metrics;

const SECOND: Duration = Duration::from_secs(1);
const UP: Availability = Availability::Up { percent: 100 };

struct Fixture {
    clock: ManualClock,
    upstream: Arc<UpstreamHealth>,
    servers: Vec<ServerHealth>,
}

/// An upstream with this many servers, which are ejected after three failures for ten seconds.
fn fixture(servers: usize) -> Fixture {
    let statuses = [502..=503].into_iter().collect();
    let eject = Some(EjectSettings { failures: 3, duration: 10 * SECOND, statuses });
    let settings = HealthSettings { check: None, eject, slow_start: 10 * SECOND };
    let clock = ManualClock::at(0);
    let upstream = UpstreamHealth::new("orders".into(), settings, clock.clock());
    let metrics = Metrics::new(clock.clock()).upstream("orders");
    let server = |number| ServerHealth::new(number, "server", &upstream, metrics.server("server"));
    let servers: Vec<_> = (0..).take(servers).map(server).collect();
    upstream.use_servers(1, servers.iter().map(|server| server.server_id).collect());
    Fixture { clock, upstream, servers }
}

fn check_settings() -> CheckSettings {
    CheckSettings {
        path: "/".parse().expect("a path"),
        host: None,
        interval: 5 * SECOND,
        timeout: SECOND,
        unhealthy_after: 1,
        healthy_after: 1,
        expect: [200..=299].into_iter().collect(),
    }
}

fn fail(server: &ServerHealth, times: usize) {
    (0..times).for_each(|_| server.note_failure());
}

#[test]
fn a_share_of_the_picks_is_admitted_and_falls_on_every_turn() {
    for percent in [1, 10, 50, 99, 100] {
        let admitted = |pick: &usize| Availability::Up { percent }.admits(*pick);
        assert_eq!((0..100).filter(admitted).count(), usize::from(percent), "{percent}");
    }
    let ten = Availability::Up { percent: 10 };
    for servers in 2..8 {
        for turn in 0..servers {
            let picks = (0..1000).filter(|pick| pick % servers == turn && ten.admits(*pick)).count();
            assert!(picks > 0, "turn {turn} of {servers}");
        }
    }
    assert!((0..100).all(|pick| !Availability::Suspect.admits(pick) && !Availability::Down.admits(pick)));
}

#[test]
fn failures_in_a_row_eject_a_server_which_comes_back_with_a_growing_share() {
    let Fixture { clock, servers, .. } = fixture(2);
    fail(&servers[0], 2);
    assert_eq!(servers[0].availability(), UP);
    fail(&servers[0], 1);
    assert_eq!([servers[0].availability(), servers[1].availability()], [Availability::Suspect, UP]);
    assert!(servers[0].down_reason().is_some_and(|text| text.contains("ejected")));
    clock.advance(9 * SECOND);
    assert_eq!(servers[0].availability(), Availability::Suspect);
    clock.advance(SECOND);
    for percent in [10, 55, 100] {
        assert_eq!(servers[0].availability(), Availability::Up { percent });
        clock.advance(5 * SECOND);
    }
    assert_eq!(servers[0].down_reason(), None);
}

#[test]
fn the_end_of_an_ejection_is_logged_once_it_is_over() {
    let Fixture { clock, servers, .. } = fixture(2);
    let looked_at = || {
        events_of(|| {
            servers[0].availability();
        })
    };
    let ejected = events_of(|| fail(&servers[0], 3));
    assert!(ejected.contains("is ejected") && ejected.contains("\"seconds\":10"), "{ejected}");
    assert_eq!(looked_at(), "");
    clock.advance(10 * SECOND);
    assert!(looked_at().contains("no longer ejected"));
    assert_eq!(looked_at(), "");
}

#[test]
fn a_success_between_failures_keeps_a_server() {
    let Fixture { servers, .. } = fixture(2);
    for _ in 0..10 {
        fail(&servers[0], 2);
        servers[0].note_response(404);
    }
    assert_eq!(servers[0].availability(), UP);
}

#[test]
fn the_statuses_that_are_listed_count_as_failures() {
    for (status, ejects) in [(502, true), (503, true), (500, false), (504, false), (403, false)] {
        let Fixture { servers, .. } = fixture(2);
        fail(&servers[0], 2);
        servers[0].note_response(status);
        assert_eq!(servers[0].availability() == Availability::Suspect, ejects, "{status}");
    }
}

#[test]
fn the_only_server_is_never_ejected() {
    let Fixture { servers, .. } = fixture(1);
    fail(&servers[0], 100);
    assert_eq!(servers[0].availability(), UP);
}

/// Of two servers one is ejected: the failures of the other do not leave clients without any.
#[test]
fn the_second_of_two_servers_stays_until_the_first_is_back() {
    let Fixture { clock, servers, .. } = fixture(2);
    fail(&servers[0], 3);
    fail(&servers[1], 100);
    assert_eq!([servers[0].availability(), servers[1].availability()], [Availability::Suspect, UP]);
    clock.advance(10 * SECOND);
    fail(&servers[1], 1);
    assert_eq!(
        [servers[0].availability(), servers[1].availability()],
        [Availability::Up { percent: 10 }, Availability::Suspect]
    );
}

#[test]
fn failures_of_requests_in_flight_at_the_ejection_do_not_count_afterwards() {
    let Fixture { clock, servers, .. } = fixture(2);
    fail(&servers[0], 3);
    fail(&servers[0], 100);
    clock.advance(20 * SECOND);
    fail(&servers[0], 2);
    assert_eq!(servers[0].availability(), UP);
}

#[test]
fn without_the_setting_nothing_is_ejected() {
    let Fixture { upstream, servers, .. } = fixture(2);
    upstream.reconfigure(HealthSettings::default());
    fail(&servers[0], 100);
    assert_eq!(servers[0].availability(), UP);
}

#[test]
fn a_refused_connection_counts_but_not_a_lack_of_our_own_resources() {
    for (fault, availability) in [(ConnectFault::Refused, Availability::Suspect), (ConnectFault::LocalResources, UP)] {
        let Fixture { clock, servers, .. } = fixture(2);
        (0..3).for_each(|_| servers[0].note_connect(Some(fault)));
        // Ends the back-off, which is not what is tested.
        servers[0].note_connect(None);
        assert_eq!(servers[0].availability(), availability, "{fault:?}");
        clock.advance(10 * SECOND);
        assert_ne!(servers[0].availability(), Availability::Suspect, "{fault:?}");
    }
}

/// Attempts that begin together would fail together; so the first one counts as failed meanwhile.
#[tokio::test(start_paused = true)]
async fn a_server_that_could_not_be_reached_gets_one_attempt_at_a_time() {
    let Fixture { servers, .. } = fixture(2);
    servers[0].note_connect(Some(ConnectFault::Refused));
    assert_eq!(servers[0].availability(), Availability::Suspect);
    assert_eq!(servers[0].down_reason().as_deref(), Some("it cannot be reached"));
    tokio::time::advance(SECOND).await;
    assert_eq!(servers[0].availability(), UP);
    servers[0].begin_attempt();
    assert_eq!(servers[0].availability(), Availability::Suspect);
}

/// The server has closed the connection after it was opened.
#[test]
fn a_rejected_certificate_counts_against_the_server() {
    let Fixture { servers, .. } = fixture(2);
    (0..3).for_each(|_| servers[0].note_rejection());
    assert_eq!(servers[0].availability(), Availability::Suspect);
}

#[test]
fn a_server_that_fails_its_checks_is_down_even_alone_and_comes_back_with_a_growing_share() {
    let Fixture { clock, servers, .. } = fixture(1);
    let note = |result| servers[0].note_check(result, &check_settings());
    note(Err(CheckFault::Status(503)));
    assert_eq!(servers[0].availability(), Availability::Down);
    assert_eq!(servers[0].down_reason().as_deref(), Some("it fails its health checks: status 503"));
    note(Ok(()));
    assert_eq!(servers[0].availability(), Availability::Up { percent: 10 });
    clock.advance(10 * SECOND);
    assert_eq!(servers[0].availability(), UP);
}

#[test]
fn a_check_that_succeeds_does_not_end_an_ejection() {
    let Fixture { clock, servers, .. } = fixture(2);
    fail(&servers[0], 3);
    servers[0].note_check(Err(CheckFault::TimedOut), &check_settings());
    servers[0].note_check(Ok(()), &check_settings());
    assert_eq!(servers[0].availability(), Availability::Suspect);
    clock.advance(10 * SECOND);
    assert_eq!(servers[0].availability(), Availability::Up { percent: 10 });
}

#[test]
fn a_server_is_up_again_once_it_is_no_longer_checked() {
    let Fixture { servers, .. } = fixture(1);
    servers[0].note_check(Err(CheckFault::TimedOut), &check_settings());
    servers[0].forget_checks();
    assert_eq!(servers[0].availability(), UP);
}

#[test]
fn a_server_that_asks_for_a_pause_is_not_up_and_says_why() {
    let Fixture { servers, .. } = fixture(2);
    servers[0].pause(SECOND);
    assert_eq!(servers[0].availability(), Availability::Suspect);
    assert_eq!(servers[0].down_reason().as_deref(), Some("it has answered 503 with Retry-After"));
}

#[test]
fn failures_of_all_servers_together_open_the_circuit_and_any_response_closes_it() {
    let Fixture { upstream, servers, .. } = fixture(3);
    let is_open = || !matches!(upstream.admit_without_server_up(), Ok(None));
    for server in &servers {
        server.note_connect(Some(ConnectFault::Refused));
    }
    assert!(is_open());
    servers[0].note_response(503);
    assert!(!is_open(), "it has answered");
}

#[test]
fn the_retry_after_of_servers_that_are_down_is_the_pause_between_checks_within_limits() {
    for (interval, retry_after) in [(0, 1), (5, 5), (600, 30)] {
        let Fixture { upstream, .. } = fixture(1);
        let check = Some(CheckSettings { interval: interval * SECOND, ..check_settings() });
        upstream.reconfigure(HealthSettings { check, ..HealthSettings::default() });
        assert_eq!(upstream.all_down(), UpstreamError::Unavailable { retry_after: retry_after * SECOND });
    }
}
