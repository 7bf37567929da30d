//! `health`, `eject` and `slow_start` of an upstream: when a server gets requests.

use std::time::Duration;

use http::HeaderValue;
use http::uri::{Authority, PathAndQuery};

use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::units::{OneOrMany, StatusRange};
use crate::config::{Ejection, EjectionRule, HealthCheck, Problems, Upstream};
use crate::plan::syntax::nonzero_duration;
use crate::upstream::{CheckSettings, EjectSettings, HealthSettings, StatusSet};

/// The shortest pause between two checks of a server. A shorter one is probably a mistake, and
/// would load the server.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn compile(key_path: &str, upstream: &Upstream, problems: &mut Problems) -> HealthSettings {
    let check = upstream.health.as_ref();
    HealthSettings {
        check: check.and_then(|check| compile_check(&child(key_path, "health"), check, problems)),
        eject: match &upstream.eject {
            Ejection::On(rule) => Some(compile_ejection(&child(key_path, "eject"), rule, problems)),
            Ejection::Off => None,
        },
        slow_start: upstream.slow_start.duration(),
    }
}

fn compile_check(key_path: &str, check: &HealthCheck, problems: &mut Problems) -> Option<CheckSettings> {
    let path = parse_path(&child(key_path, "path"), &check.path, problems);
    let host = check.host.as_ref().map(|host| parse_host(&child(key_path, "host"), host, problems));
    let interval = check.interval.duration();
    if interval < MIN_CHECK_INTERVAL {
        problems.add_with_hint(
            child(key_path, "interval"),
            "must be at least 100 ms",
            "write a few seconds, such as \"5s\": every gateway process checks every server this often",
        );
    }
    let timeout = nonzero_duration(&child(key_path, "timeout"), check.timeout, problems);
    if check.expect.as_slice().is_empty() {
        problems.add_with_hint(
            child(key_path, "expect"),
            "no status would pass, so that every server would be down",
            "list at least one status, such as 200, or leave the key out",
        );
    }
    Some(CheckSettings {
        path: path?,
        host: host.unwrap_or_default(),
        interval,
        timeout,
        unhealthy_after: check.unhealthy_after.get(),
        healthy_after: check.healthy_after.get(),
        expect: statuses(&check.expect),
    })
}

fn parse_path(key_path: &str, text: &str, problems: &mut Problems) -> Option<PathAndQuery> {
    let hint = "write a path, such as \"/health\"";
    if text.is_empty() {
        problems.add_with_hint(key_path, "missing", hint);
        return None;
    }
    // The parser would drop a fragment.
    let is_path = text.starts_with('/') && !text.contains('#');
    let path = PathAndQuery::try_from(text).ok().filter(|_| is_path);
    if path.is_none() {
        problems.add_with_hint(key_path, format!("{} is not a path", quoted(text)), hint);
    }
    path
}

fn parse_host(key_path: &str, text: &str, problems: &mut Problems) -> Option<HeaderValue> {
    let is_host = Authority::try_from(text).is_ok_and(|authority| !authority.as_str().contains('@'));
    let host = HeaderValue::try_from(text).ok().filter(|_| is_host);
    if host.is_none() {
        let hint = "write a host, and a port if it needs one, such as \"orders.internal\"";
        problems.add_with_hint(key_path, format!("{} is not a host", quoted(text)), hint);
    }
    host
}

fn compile_ejection(key_path: &str, rule: &EjectionRule, problems: &mut Problems) -> EjectSettings {
    let statuses_path = child(key_path, "statuses");
    for (index, range) in rule.statuses.as_slice().iter().enumerate() {
        // A client decides whether its request is answered with a 4xx.
        if *range.range().start() < 500 {
            problems.add_with_hint(
                element(&statuses_path, index),
                format!("{range} is not a failure of the server"),
                "list statuses from 500 to 599",
            );
        }
    }
    EjectSettings {
        failures: rule.failures.get(),
        duration: nonzero_duration(&child(key_path, "for"), rule.duration, problems),
        statuses: statuses(&rule.statuses),
    }
}

fn statuses(ranges: &OneOrMany<StatusRange>) -> StatusSet {
    ranges.as_slice().iter().map(StatusRange::range).collect()
}
