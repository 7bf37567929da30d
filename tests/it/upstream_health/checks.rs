//! Health checks: what the gateway asks servers, and what follows from the answers.

use std::time::Duration;

use serde_json::json;

use super::switch::{Mode, Switch};
use super::{readiness, served, two, up, upstream, wait_for_up};
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, Origin};
use crate::support::with_deadline;

/// Waits until the counter of health checks is at least `least`. It has no sample before the checks
/// have started.
async fn wait_for_count(fixture: &Fixture, sample: &str, least: f64) {
    let reached = async || fixture.gateway.metrics().await.get(sample).is_some_and(|value| value >= least);
    with_deadline(sample, async { while !reached().await {} }).await;
}

const FAST_CHECKS: &str = "health = { path = \"/health?full=1\", interval = \"100ms\", timeout = \"10s\" }";

#[tokio::test]
async fn a_server_that_fails_its_checks_gets_no_requests_and_comes_back_with_a_growing_share() {
    let (healthy, failing) = (Origin::start().await, Origin::start().await);
    failing.behave("/health", Behaviour::response(503, &[], "starting"));
    let fixture = Fixture::start(two(&healthy, &failing, FAST_CHECKS)).await;
    wait_for_up(&fixture, &failing, 0).await;
    for _ in 0..10 {
        assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
    }
    assert_eq!([served(&healthy), served(&failing)], [10, 0]);
    let (status, text) = readiness(&fixture).await;
    let reason = format!("upstream two: server {} is not up: it fails its health checks: status 503", failing.addr());
    assert!(status == 200 && text.contains(&reason), "{status} {text}");

    failing.behave("/health", Behaviour::response(200, &[], "ok"));
    wait_for_up(&fixture, &failing, 1).await;
    // Half of the picks are its turn, and of these it takes its share: 10 %, 55 %, all. Which
    // ones is random.
    for (seconds, expected) in [(0, 1..=30), (5, 31..=80), (5, 95..=105)] {
        fixture.clock.advance(Duration::from_secs(seconds));
        let before = served(&failing);
        for _ in 0..200 {
            assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
        }
        let count = served(&failing) - before;
        assert!(expected.contains(&count), "after {seconds} s: {count}");
    }
    assert!(!readiness(&fixture).await.1.contains("two"));
}

#[tokio::test]
async fn a_check_is_a_request_to_the_server_itself_and_one_checker_serves_all_workers() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    let keys = "health = { path = \"/health?full=1\", interval = \"1h\" }";
    let fixture = Fixture::start(upstream("two", &[one.addr(), other.addr()], keys)).await;
    for server in [&one, &other] {
        let labels = format!("upstream=\"two\",server=\"{}\",result=\"success\"", server.addr());
        let sample = format!("portcullis_upstream_health_checks_total{{{labels}}}");
        wait_for_count(&fixture, &sample, 1.0).await;
        for _ in 0..8 {
            assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
        }
        let checks: Vec<_> =
            server.requests().into_iter().filter(|request| request.target.contains("health")).collect();
        let [check] = &checks[..] else { panic!("one check for two workers: {checks:?}") };
        assert_eq!((&*check.method, &*check.target), ("GET", "/health?full=1"));
        assert_eq!(check.header("host"), Some(&*server.addr().to_string()));
        assert!(check.header("user-agent").is_some_and(|agent| agent.starts_with("portcullis/")));
        assert_eq!(check.header("x-request-id"), None);
    }
}

/// If all servers fail their checks, no request tries one: the checks find out when one is back.
#[tokio::test]
async fn if_all_servers_fail_their_checks_requests_are_503_at_once_until_one_passes() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    for server in [&one, &other] {
        server.behave("/health", Behaviour::response(500, &[], ""));
    }
    let fixture = Fixture::start(two(&one, &other, FAST_CHECKS)).await;
    wait_for_up(&fixture, &one, 0).await;
    wait_for_up(&fixture, &other, 0).await;
    for _ in 0..3 {
        let response = fixture.get("/two/1", &[]).await;
        assert_eq!((response.status, &response.json()["code"]), (503, &json!("upstream_unavailable")));
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    assert_eq!([served(&one), served(&other)], [0, 0]);
    other.behave("/health", Behaviour::response(204, &[], ""));
    wait_for_up(&fixture, &other, 1).await;
    for _ in 0..3 {
        assert_eq!(fixture.get("/two/1", &[]).await.status, 200, "the only one that is up takes all");
    }
}

#[tokio::test]
async fn checks_use_the_protocol_of_the_upstream() {
    let server = Switch::start(Mode::Serve).await;
    let keys = format!("protocol = \"http2\"\n{FAST_CHECKS}");
    let fixture = Fixture::start(upstream("two", &[server.addr], &keys)).await;
    let result = |result| {
        format!(
            "portcullis_upstream_health_checks_total{{upstream=\"two\",server=\"{}\",result=\"{result}\"}}",
            server.addr
        )
    };
    wait_for_count(&fixture, &result("success"), 3.0).await;
    assert_eq!(fixture.gateway.count(&result("failure")).await, 0);
    server.set(Mode::Close);
    wait_for_count(&fixture, &result("failure"), 3.0).await;
}

#[tokio::test]
async fn a_check_has_a_time_limit_for_the_head_and_expects_the_configured_statuses() {
    for (name, behaviour, keys, expected) in [
        ("no response", Behaviour::Hang, "timeout = \"20ms\"", 0),
        ("closed", Behaviour::CloseBeforeHead, "timeout = \"10s\"", 0),
        ("not listed", Behaviour::response(200, &[], ""), "expect = [204, \"300-399\"]", 0),
        ("a redirect", Behaviour::response(302, &[], ""), "timeout = \"10s\"", 0),
        ("a listed redirect", Behaviour::response(302, &[], ""), "expect = [204, \"300-399\"]", 1),
        ("a body that does not end", Behaviour::Stall { sent: "x".into() }, "timeout = \"500ms\"", 1),
    ] {
        let (healthy, other) = (Origin::start().await, Origin::start().await);
        other.behave("/health", behaviour);
        let keys = format!("health = {{ path = \"/health\", interval = \"100ms\", unhealthy_after = 1, {keys} }}");
        let fixture = Fixture::start(two(&healthy, &other, &keys)).await;
        let checks = |result| {
            let labels = format!("upstream=\"two\",server=\"{}\",result=\"{result}\"", other.addr());
            format!("portcullis_upstream_health_checks_total{{{labels}}}")
        };
        wait_for_count(&fixture, &checks(if expected == 1 { "success" } else { "failure" }), 2.0).await;
        with_deadline(name, async { while fixture.gateway.count(&up(&other)).await != expected {} }).await;
    }
}

/// Threat DO-13.
#[tokio::test]
async fn a_check_reads_a_bounded_part_of_the_body() {
    let (endless, other) = (Origin::start().await, Origin::start().await);
    endless.behave("/health", Behaviour::Large(u64::MAX / 2));
    let keys = "health = { path = \"/health\", interval = \"1h\", timeout = \"1h\" }";
    let fixture = Fixture::start(two(&endless, &other, keys)).await;
    let labels = format!("upstream=\"two\",server=\"{}\",result=\"success\"", endless.addr());
    wait_for_count(&fixture, &format!("portcullis_upstream_health_checks_total{{{labels}}}"), 1.0).await;
    endless.wait_for_open_connections(0).await;
}

#[tokio::test]
async fn a_server_that_a_reload_removes_is_no_longer_checked() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    let fixture = Fixture::start(two(&one, &other, FAST_CHECKS)).await;
    other.wait_for_requests(2).await;
    fixture.reload(upstream("two", &[one.addr()], FAST_CHECKS).one_worker()).await;
    let (before, checks) = (other.requests().len(), one.requests().len());
    one.wait_for_requests(checks + 10).await;
    let more = other.requests().len() - before;
    assert!(more <= 1, "{more}: no more than the one that was on its way");
}

/// A server that takes connections and does not respond costs one connection at a time.
#[tokio::test]
async fn a_check_that_times_out_closes_its_connection() {
    for protocol in ["http1", "http2"] {
        let server = Switch::start(Mode::Hold).await;
        let check = "health = { path = \"/\", interval = \"100ms\", timeout = \"20ms\" }";
        let fixture =
            Fixture::start(upstream("two", &[server.addr], &format!("protocol = \"{protocol}\"\n{check}"))).await;
        let labels = format!("upstream=\"two\",server=\"{}\",result=\"failure\"", server.addr);
        wait_for_count(&fixture, &format!("portcullis_upstream_health_checks_total{{{labels}}}"), 8.0).await;
        let config = upstream("two", &[server.addr], &format!("protocol = \"{protocol}\""));
        fixture.reload(config).await;
        server.wait_for_held(0).await;
    }
}

#[tokio::test]
async fn a_reload_replaces_checks_whose_settings_have_changed() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    other.behave("/health", Behaviour::response(503, &[], ""));
    let fixture = Fixture::start(two(&one, &other, FAST_CHECKS)).await;
    wait_for_up(&fixture, &other, 0).await;
    fixture.reload(two(&one, &other, &FAST_CHECKS.replace("/health?full=1", "/health/ready"))).await;
    wait_for_up(&fixture, &other, 1).await;
    let before = other.requests().len();
    let checks = other.wait_for_requests(before + 10).await;
    let old = checks[before..].iter().filter(|check| check.target == "/health?full=1").count();
    assert!(old <= 1, "{old}: no more than the one that was on its way");
}
