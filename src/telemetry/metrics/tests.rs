//! What a scraper sees: names, labels and both formats; and that traffic creates no series.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;

use super::*;
use crate::primitives::clock::ManualClock;

/// A sample: its name, its labels, its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Parses a sample line, whose grammar is the same in both formats.
fn parse_sample(line: &str) -> Sample {
    let name_end = line.find(['{', ' ']).unwrap_or_else(|| panic!("a sample without value: {line}"));
    let (name, mut rest) = line.split_at(name_end);
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("a label without value: {line}"));
            let mut value = String::new();
            let mut characters = after.char_indices();
            let end = loop {
                match characters.next().unwrap_or_else(|| panic!("a label without end: {line}")) {
                    (at, '"') => break at,
                    (_, '\\') => match characters.next().unwrap().1 {
                        'n' => value.push('\n'),
                        escaped @ ('"' | '\\') => value.push(escaped),
                        other => panic!("escape of {other:?}: {line}"),
                    },
                    (_, other) => value.push(other),
                }
            };
            assert_eq!(labels.insert(key.to_owned(), value), None, "{line}");
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("labels without end: {line}"));
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no space before the value: {line}"));
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("a value that is not a number: {line}")))
}

/// Parses a whole exposition and checks its form: each family is described once, before its
/// samples, and each sample belongs to the family above it.
fn parse(exposed: &str, format: Exposition) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut described = BTreeSet::new();
    let mut helped = String::new();
    let mut family = (String::new(), String::new());
    let mut body = exposed;
    match format {
        Exposition::OpenMetrics => body = exposed.strip_suffix("# EOF\n").expect("OpenMetrics ends with its mark"),
        Exposition::PrometheusText => assert!(!exposed.contains("# EOF") && !exposed.contains("# UNIT")),
    }
    assert!(body.ends_with('\n'));
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(text.ends_with('.') && !text.ends_with(".."), "{line}");
            name.clone_into(&mut helped);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, helped, "HELP and TYPE of one family stand together");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(described.insert(name.to_owned()), "described twice: {name}");
            assert_eq!(kind == "counter" && format == Exposition::PrometheusText, name.ends_with("_total"), "{line}");
            family = (name.to_owned(), kind.to_owned());
        } else if line.starts_with("# UNIT ") {
            assert!(line.starts_with(&format!("# UNIT {} ", family.0)), "{line}");
        } else {
            let read = parse_sample(line);
            let suffix = read.0.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line} is not of {}", family.0));
            let expect: &[&str] = match (family.1.as_str(), format) {
                ("counter", Exposition::OpenMetrics) => &["_total"],
                ("histogram", _) => &["_sum", "_count", "_bucket"],
                _ => &[""],
            };
            assert!(expect.contains(&suffix), "{line}");
            samples.push(read);
        }
    }
    let series: BTreeSet<_> = samples.iter().map(|(name, labels, _)| (name, labels)).collect();
    assert_eq!(series.len(), samples.len(), "no series is exposed twice");
    samples
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    samples.iter().find(|sample| sample.0 == name && sample.1 == labels).map(|sample| sample.2)
}

/// Metrics of which every one has been used, and the handles that keep the gauges exposed.
fn metrics_in_use() -> (Arc<Metrics>, (IssuerMetrics, UpstreamMetrics, LimitMetrics)) {
    let manual = ManualClock::at(1_700_000_000);
    let metrics = Metrics::new(manual.clock());
    let route = metrics.route("orders");
    route.record_request(&Method::GET, 200, Duration::from_millis(2));
    route.record_request(&Method::POST, 418, Duration::from_secs(60));
    route.count_rejection("token_invalid");
    route.count_would_reject("scope_insufficient");
    let issuer = metrics.issuer("main");
    issuer.count_verification(VerifyResult::Refused, CacheResult::Miss);
    issuer.record_verification(Duration::from_micros(60));
    issuer.count_refresh(true);
    issuer.set_usable_keys(2);
    issuer.count_unknown_kid();
    issuer.set_fetched_at(manual.clock().monotonic_micros());
    manual.advance(Duration::from_millis(2_500));
    let upstream = metrics.upstream("backend");
    upstream.record_duration(Duration::from_millis(20));
    upstream.count_retry(RetryReason::Stale);
    upstream.count_retry_over_budget();
    upstream.active().add();
    let limit = metrics.limit("per-user");
    limit.count_limited();
    limit.count_overflows(1);
    limit.cells().set(7);
    metrics.connections().open().add();
    metrics.count_reload(false);
    metrics.set_config_loaded(WallTime::from_seconds(1_700_000_000));
    metrics.count_omitted_identity_header();
    metrics.on_scrape(Box::new(|metrics| metrics.set_token_cache_entries(3)));
    metrics.access_log_dropped().inc();
    (metrics, (issuer, upstream, limit))
}

#[test]
fn both_formats_are_well_formed_and_expose_the_same_samples() {
    let (metrics, _handles) = metrics_in_use();
    let ours = |format| -> BTreeSet<String> {
        let samples = parse(&metrics.encode(format), format);
        let ours = samples.iter().filter(|sample| sample.0.starts_with("portcullis_"));
        ours.map(|sample| format!("{sample:?}")).collect()
    };
    let open_metrics = ours(Exposition::OpenMetrics);
    assert!(open_metrics.len() > 50, "{open_metrics:?}");
    assert_eq!(open_metrics, ours(Exposition::PrometheusText));
}

#[test]
fn every_metric_has_its_name_and_labels() {
    let (metrics, _handles) = metrics_in_use();
    let samples = parse(&metrics.encode(Exposition::PrometheusText), Exposition::PrometheusText);
    let orders = ("route", "orders");
    let main = ("issuer", "main");
    let backend = ("upstream", "backend");
    for (name, labels, expect) in [
        ("requests_total", &[orders, ("method", "GET"), ("status", "200")][..], 1.0),
        ("requests_total", &[orders, ("method", "POST"), ("status", "418")], 1.0),
        ("request_duration_seconds_count", &[orders], 2.0),
        ("request_duration_seconds_sum", &[orders], 60.002),
        ("request_duration_seconds_bucket", &[orders, ("le", "0.001")], 0.0),
        ("request_duration_seconds_bucket", &[orders, ("le", "0.0025")], 1.0),
        ("request_duration_seconds_bucket", &[orders, ("le", "30.0")], 1.0),
        ("request_duration_seconds_bucket", &[orders, ("le", "+Inf")], 2.0),
        ("rejections_total", &[orders, ("code", "token_invalid")], 1.0),
        ("would_reject_total", &[orders, ("code", "scope_insufficient")], 1.0),
        ("token_verifications_total", &[main, ("result", "refused"), ("cache", "miss")], 1.0),
        ("token_verifications_total", &[main, ("result", "accepted"), ("cache", "hit")], 0.0),
        ("token_verify_seconds_count", &[main], 1.0),
        ("token_verify_seconds_bucket", &[main, ("le", "0.0001")], 1.0),
        ("jwks_refreshes_total", &[main, ("result", "success")], 1.0),
        ("jwks_refreshes_total", &[main, ("result", "failure")], 0.0),
        ("jwks_age_seconds", &[main], 2.5),
        ("jwks_keys", &[main], 2.0),
        ("unknown_kids_total", &[main], 1.0),
        ("upstream_duration_seconds_count", &[backend], 1.0),
        ("upstream_connections", &[backend, ("state", "active")], 1.0),
        ("upstream_connections", &[backend, ("state", "idle")], 0.0),
        ("upstream_connections", &[backend, ("state", "pending")], 0.0),
        ("upstream_retries_total", &[backend, ("reason", "stale")], 1.0),
        ("upstream_retries_total", &[backend, ("reason", "closed")], 0.0),
        ("upstream_retry_budget_exhausted_total", &[backend], 1.0),
        ("limited_total", &[("limit", "per-user")], 1.0),
        ("limiter_overflow_total", &[("limit", "per-user")], 1.0),
        ("limiter_cells", &[("limit", "per-user")], 7.0),
        ("connections_open", &[], 1.0),
        ("config_reloads_total", &[("result", "failure")], 1.0),
        ("config_reloads_total", &[("result", "success")], 0.0),
        ("config_loaded_timestamp_seconds", &[], 1_700_000_000.0),
        ("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
        ("identity_headers_omitted_total", &[], 1.0),
        ("token_cache_entries", &[], 3.0),
        ("access_log_dropped_total", &[], 1.0),
    ] {
        let found = value(&samples, &format!("portcullis_{name}"), labels);
        assert!(found.is_some_and(|found| (found - expect).abs() < 1e-9), "{name}{labels:?} is {found:?}");
    }
}

/// Number of series after `rounds` rounds of unusual requests to a route and to none.
fn series_after(rounds: u16) -> usize {
    let metrics = Metrics::new(ManualClock::at(1_700_000_000).clock());
    let routes = [metrics.route("orders"), metrics.route("")];
    for round in 0..rounds {
        for route in &routes {
            let invented = format!("M{round}");
            for method in ["GET", "PROPFIND", "get", invented.as_str()] {
                route.record_request(&method.parse().unwrap(), 404, Duration::from_millis(1));
                route.record_request(&method.parse().unwrap(), 600 + round, Duration::from_millis(1));
            }
            route.count_rejection("route_not_found");
        }
    }
    let exposed = metrics.encode(Exposition::OpenMetrics);
    parse(&exposed, Exposition::OpenMetrics).iter().filter(|sample| sample.0.starts_with("portcullis_")).count()
}

#[test]
fn traffic_creates_no_series() {
    assert_eq!(series_after(1), series_after(300));
}

#[test]
fn a_name_with_quotes_and_newlines_stays_one_label() {
    let metrics = Metrics::new(ManualClock::at(0).clock());
    let odd = "a\"} 1\nportcullis_forged 1 \\";
    metrics.route(odd).record_request(&Method::GET, 200, Duration::ZERO);
    for format in [Exposition::OpenMetrics, Exposition::PrometheusText] {
        let samples = parse(&metrics.encode(format), format);
        let labels = [("route", odd), ("method", "GET"), ("status", "200")];
        assert_eq!(value(&samples, "portcullis_requests_total", &labels), Some(1.0), "{format:?}");
    }
}

#[test]
fn the_key_age_is_absent_before_the_first_fetch_and_after_the_issuer_is_removed() {
    let manual = ManualClock::at(1_700_000_000);
    let metrics = Metrics::new(manual.clock());
    let age = || {
        let samples = parse(&metrics.encode(Exposition::OpenMetrics), Exposition::OpenMetrics);
        value(&samples, "portcullis_jwks_age_seconds", &[("issuer", "main")])
    };
    let issuer = metrics.issuer("main");
    assert_eq!(age(), None);
    issuer.set_fetched_at(manual.clock().monotonic_micros());
    assert_eq!(age(), Some(0.0));
    let after_reload = metrics.issuer("main");
    drop(issuer);
    manual.advance(Duration::from_secs(3));
    assert_eq!(age(), Some(3.0));
    drop(after_reload);
    assert_eq!(age(), None);
}

#[test]
fn handles_of_one_name_count_into_the_same_series() {
    let metrics = Metrics::new(ManualClock::at(0).clock());
    metrics.route("orders").record_request(&Method::GET, 200, Duration::ZERO);
    metrics.route("orders").record_request(&Method::GET, 200, Duration::ZERO);
    let samples = parse(&metrics.encode(Exposition::OpenMetrics), Exposition::OpenMetrics);
    let labels = [("route", "orders"), ("method", "GET"), ("status", "200")];
    assert_eq!(value(&samples, "portcullis_requests_total", &labels), Some(2.0));
}

#[test]
fn dropping_a_gauge_guard_subtracts_its_unit() {
    let gauge = Gauge::default();
    let held = gauge.hold();
    assert_eq!(gauge.value(), 1);
    drop(held);
    assert_eq!(gauge.value(), 0);
}

#[test]
fn a_hook_may_register_a_hook() {
    let metrics = Metrics::new(ManualClock::at(0).clock());
    metrics.on_scrape(Box::new(|metrics| metrics.on_scrape(Box::new(|metrics| metrics.set_token_cache_entries(1)))));
    assert!(metrics.encode(Exposition::OpenMetrics).contains("portcullis_token_cache_entries 0\n"));
    assert!(metrics.encode(Exposition::OpenMetrics).contains("portcullis_token_cache_entries 1\n"));
}
