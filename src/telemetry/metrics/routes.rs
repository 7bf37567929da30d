//! Metrics of routes: requests, their duration and rejections.
//!
//! This is the hot path of the metrics, since every request is counted here. A handle therefore
//! keeps its counters in a table and finds them by method and status, without hashing labels.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Method;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use crate::telemetry::histogram::Histogram;

/// The metrics of one route. Cheap to clone; clones count into the same series.
#[derive(Clone, Debug)]
pub struct RouteMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    route: Arc<str>,
    families: RouteFamilies,
    duration: Histogram,
    /// Counters by method and common status. Created at first use: most routes need few of them,
    /// and each one is a series that the monitoring system stores.
    common: Box<[OnceLock<Counter>]>,
}

/// The values of the `method` label: the methods of RFC 9110 §9 and RFC 5789, and one value for all
/// others.
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "other"];

/// Statuses that have an entry in a route's table, in ascending order. Others are looked up in the
/// family.
const COMMON_STATUSES: [u16; 29] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 422,
    429, 499, 500, 502, 503, 504,
];

impl RouteMetrics {
    /// Counts a request that ended with `status` after `duration`.
    pub fn record_request(&self, method: &Method, status: u16, duration: Duration) {
        let inner = &*self.0;
        inner.duration.observe(duration);
        let method = method_index(method);
        match COMMON_STATUSES.binary_search(&status) {
            Ok(column) => {
                let counter = &inner.common[method * COMMON_STATUSES.len() + column];
                counter.get_or_init(|| inner.counter(method, status)).inc();
            }
            Err(_) => {
                inner.counter(method, status).inc();
            }
        }
    }

    /// Counts a rejection by its code.
    pub fn count_rejection(&self, code: &'static str) {
        self.0.families.rejections.get_or_create(&self.0.code_labels(code)).inc();
    }

    /// Counts a request that a `report_only` route allowed and would otherwise have rejected.
    pub fn count_would_reject(&self, code: &'static str) {
        self.0.families.would_reject.get_or_create(&self.0.code_labels(code)).inc();
    }
}

impl Inner {
    fn counter(&self, method: usize, status: u16) -> Counter {
        let labels =
            RequestLabels { route: Arc::clone(&self.route), method: METHODS[method], status: Status::of(status) };
        // Not `get_or_create`, which returns a read guard: two guards in one thread deadlock if a
        // writer waits in between.
        self.families.requests.get_or_create_owned(&labels)
    }

    fn code_labels(&self, code: &'static str) -> CodeLabels {
        CodeLabels { route: Arc::clone(&self.route), code }
    }
}

fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1)
}

/// The metric families of all routes.
#[derive(Clone, Debug)]
pub(super) struct RouteFamilies {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    rejections: Family<CodeLabels, Counter>,
    would_reject: Family<CodeLabels, Counter>,
}

impl RouteFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(Histogram::for_requests),
            rejections: Family::default(),
            would_reject: Family::default(),
        };
        registry.register("requests", "Requests that have ended", families.requests.clone());
        registry.register_with_unit(
            // The registry appends the unit: portcullis_request_duration_seconds.
            "request_duration",
            "Time from the head of a request to the end of its response",
            Unit::Seconds,
            families.durations.clone(),
        );
        registry.register("rejections", "Requests rejected by the gateway, by code", families.rejections.clone());
        registry.register(
            "would_reject",
            "Requests that a report_only route allowed and would otherwise have rejected",
            families.would_reject.clone(),
        );
        families
    }

    pub(super) fn handle(&self, route: Arc<str>) -> RouteMetrics {
        let duration = self.durations.get_or_create_owned(&RouteLabels { route: Arc::clone(&route) });
        let common = (0..METHODS.len() * COMMON_STATUSES.len()).map(|_| OnceLock::new()).collect();
        RouteMetrics(Arc::new(Inner { route, families: self.clone(), duration, common }))
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    method: &'static str,
    status: Status,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabels {
    route: Arc<str>,
    code: &'static str,
}

/// The value of the `status` label. An upstream may send any three digits; statuses that HTTP does
/// not define (RFC 9110 §15) share one value.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Status {
    Other,
    Valid(u16),
}

impl Status {
    fn of(code: u16) -> Self {
        if (100..=599).contains(&code) { Self::Valid(code) } else { Self::Other }
    }
}

impl EncodeLabelValue for Status {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        match self {
            Self::Other => "other".encode(encoder),
            Self::Valid(code) => code.encode(encoder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_statuses_are_in_order_for_the_binary_search() {
        assert!(COMMON_STATUSES.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn every_standard_method_has_its_own_label_and_all_others_share_one() {
        for (method, expect) in [
            ("GET", "GET"),
            ("HEAD", "HEAD"),
            ("POST", "POST"),
            ("PUT", "PUT"),
            ("PATCH", "PATCH"),
            ("DELETE", "DELETE"),
            ("OPTIONS", "OPTIONS"),
            ("CONNECT", "CONNECT"),
            ("TRACE", "TRACE"),
            ("get", "other"),
            ("TRACK", "other"),
            ("other", "other"),
        ] {
            assert_eq!(METHODS[method_index(&method.parse().unwrap())], expect, "{method}");
        }
    }

    #[test]
    fn statuses_that_http_does_not_define_share_a_label() {
        for (code, expect) in [
            (99, Status::Other),
            (100, Status::Valid(100)),
            (599, Status::Valid(599)),
            (600, Status::Other),
            (999, Status::Other),
        ] {
            assert_eq!(Status::of(code), expect, "{code}");
        }
    }
}
