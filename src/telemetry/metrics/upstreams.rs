//! Metrics of upstreams: response times, retries and connections.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::gauge::{ComponentGauge, ComponentRegistry, Gauge, SampleValue};
use super::upstream_reasons::{BrokenOff, RetryReason};
use crate::telemetry::histogram::Histogram;

/// The metrics of one upstream. Cheap to clone; clones count into the same series.
///
/// The gauges of its connections are exposed as long as a handle exists. They count the connections
/// of all workers.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: Arc<Connections>,
    duration: Histogram,
    /// In the order of [`RetryReason::ALL`].
    retries: [Counter; RetryReason::ALL.len()],
    retries_over_budget: Counter,
    upstream: Arc<str>,
    /// In the order of [`BrokenOff::ALL`].
    broken_off: [Counter; BrokenOff::ALL.len()],
    connect_failures: Family<ServerLabels, Counter>,
    ejections: Family<ServerLabels, Counter>,
    health_checks: Family<CheckLabels, Counter>,
    servers: Arc<ComponentRegistry<ServerGauges>>,
    tunnel_ends: Family<ReasonLabels, Counter>,
    tunnels_over_limit: Counter,
    tunnels_over_client_limit: Counter,
}

impl Inner {
    fn end_labels(&self, reason: &'static str) -> ReasonLabels {
        ReasonLabels { upstream: Arc::clone(&self.upstream), reason }
    }
}

#[derive(Debug, Default)]
struct Connections {
    active: Gauge,
    idle: Gauge,
    pending: Gauge,
    tunnels: Gauge,
}

impl UpstreamMetrics {
    /// Records the time until the upstream's response head arrived.
    pub fn record_duration(&self, duration: Duration) {
        self.0.duration.observe(duration);
    }

    /// Counts a further attempt for a request.
    pub fn count_retry(&self, reason: RetryReason) {
        self.0.retries[reason as usize].inc();
    }

    /// Counts a request that was not sent again because the retry budget was used up.
    pub fn count_retry_over_budget(&self) {
        self.0.retries_over_budget.inc();
    }

    /// Counts a response that did not reach its end.
    pub fn count_broken_off(&self, cause: BrokenOff) {
        self.0.broken_off[cause as usize].inc();
    }

    /// The metrics of one of its servers.
    #[must_use]
    pub fn server(&self, server: &str) -> ServerMetrics {
        let labels = ServerLabels { upstream: Arc::clone(&self.0.upstream), server: server.into() };
        let name = format!("{}\n{server}", self.0.upstream).into();
        let gauges = || ServerGauges { labels: labels.clone(), ..ServerGauges::default() };
        ServerMetrics {
            connect_failures: self.0.connect_failures.get_or_create_owned(&labels),
            ejections: self.0.ejections.get_or_create_owned(&labels),
            health_checks: self.0.health_checks.clone(),
            gauges: self.0.servers.get_or_create(&name, gauges),
        }
    }

    /// Counts a tunnel that was refused because of `max_tunnels`.
    pub fn count_tunnel_over_limit(&self) {
        self.0.tunnels_over_limit.inc();
    }

    /// Counts a tunnel that was refused because of `max_tunnels_per_client`.
    pub fn count_tunnel_over_client_limit(&self) {
        self.0.tunnels_over_client_limit.inc();
    }

    /// Counts a tunnel that has ended, by the reason.
    pub fn count_tunnel_end(&self, reason: &'static str) {
        self.0.tunnel_ends.get_or_create(&self.0.end_labels(reason)).inc();
    }

    /// Connections with a request in flight; with HTTP/2, streams.
    #[must_use]
    pub fn active(&self) -> &Gauge {
        &self.0.connections.active
    }

    /// Idle connections in the pool.
    #[must_use]
    pub fn idle(&self) -> &Gauge {
        &self.0.connections.idle
    }

    /// Connections that are tunnels, or were asked to become one.
    #[must_use]
    pub fn tunnels(&self) -> &Gauge {
        &self.0.connections.tunnels
    }

    /// Requests that wait for a connection.
    #[must_use]
    pub fn pending(&self) -> &Gauge {
        &self.0.connections.pending
    }
}

/// The metrics of one server of an upstream.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    connect_failures: Counter,
    ejections: Counter,
    health_checks: Family<CheckLabels, Counter>,
    gauges: Arc<ServerGauges>,
}

/// The gauges of one server, which end with it.
#[derive(Debug, Default)]
struct ServerGauges {
    labels: ServerLabels,
    up: Gauge,
    addresses_up: Gauge,
    addresses_avoided: Gauge,
}

/// The counters of one server's health checks.
#[derive(Debug)]
pub struct CheckCounters {
    succeeded: Counter,
    failed: Counter,
}

impl CheckCounters {
    /// Counts a check.
    pub fn count(&self, has_passed: bool) {
        if has_passed {
            self.succeeded.inc()
        } else {
            self.failed.inc()
        };
    }
}

impl ServerMetrics {
    /// Counts an ejection.
    pub fn count_ejection(&self) {
        self.ejections.inc();
    }

    /// The counters of its health checks. They are exposed from then on.
    #[must_use]
    pub fn health_checks(&self) -> CheckCounters {
        let counter = |result| {
            let ServerLabels { upstream, server } = self.gauges.labels.clone();
            self.health_checks.get_or_create_owned(&CheckLabels { upstream, server, result })
        };
        CheckCounters { succeeded: counter("success"), failed: counter("failure") }
    }

    /// Sets whether the server is up.
    pub fn set_up(&self, is_up: bool) {
        self.gauges.up.set(u64::from(is_up));
    }

    /// Sets how many addresses the server has that are up, and how many others.
    pub fn set_addresses(&self, up: u64, avoided: u64) {
        self.gauges.addresses_up.set(up);
        self.gauges.addresses_avoided.set(avoided);
    }

    /// Counts an attempt to connect that failed.
    pub fn count_connect_failure(&self) {
        self.connect_failures.inc();
    }
}

/// The reasons for which tunnels end. Each has a series from the start, so that its first increase
/// is seen.
const TUNNEL_END_REASONS: [&str; 6] = ["closed", "expired", "idle", "lifetime", "refused", "stopped"];

/// The metric families of all upstreams.
#[derive(Debug)]
pub(super) struct UpstreamFamilies {
    durations: Family<UpstreamLabels, Histogram>,
    retries: Family<ReasonLabels, Counter>,
    retries_over_budget: Family<UpstreamLabels, Counter>,
    broken_off: Family<ReasonLabels, Counter>,
    connect_failures: Family<ServerLabels, Counter>,
    ejections: Family<ServerLabels, Counter>,
    health_checks: Family<CheckLabels, Counter>,
    servers: Arc<ComponentRegistry<ServerGauges>>,
    tunnels_refused: Family<LimitLabels, Counter>,
    tunnel_ends: Family<ReasonLabels, Counter>,
    components: Arc<ComponentRegistry<Connections>>,
}

impl UpstreamFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            durations: Family::new_with_constructor(Histogram::for_requests),
            retries: Family::default(),
            retries_over_budget: Family::default(),
            broken_off: Family::default(),
            connect_failures: Family::default(),
            ejections: Family::default(),
            health_checks: Family::default(),
            servers: Arc::default(),
            tunnels_refused: Family::default(),
            tunnel_ends: Family::default(),
            components: Arc::default(),
        };
        registry.register_with_unit(
            // The registry appends the unit: portcullis_upstream_duration_seconds.
            "upstream_duration",
            "Time until the head of an upstream's response",
            Unit::Seconds,
            families.durations.clone(),
        );
        registry.register(
            "upstream_retries",
            "Further attempts for a request, on another connection or server, by reason",
            families.retries.clone(),
        );
        registry.register(
            "upstream_retry_budget_exhausted",
            "Requests that were not sent again because the retry budget was used up",
            families.retries_over_budget.clone(),
        );
        registry.register(
            "upstream_connect_failures",
            "Attempts to connect to a server that failed",
            families.connect_failures.clone(),
        );
        registry.register(
            "upstream_ejections",
            "Times that a server was ejected because requests to it had failed",
            families.ejections.clone(),
        );
        registry.register(
            "upstream_health_checks",
            "Health checks of a server, by result",
            families.health_checks.clone(),
        );
        registry.register_collector(Box::new(ComponentGauge {
            name: "upstream_up",
            help: "Whether a server is up (1), or avoided because it fails health checks, requests or connects (0).",
            unit: None,
            components: Arc::clone(&families.servers),
            read: Box::new(|_, ServerGauges { labels, up, .. }: &ServerGauges| {
                let ServerLabels { upstream, server } = labels.clone();
                vec![(vec![("upstream", upstream), ("server", server)], SampleValue::Integer(up.value()))]
            }),
        }));
        registry.register_collector(Box::new(ComponentGauge {
            name: "upstream_addresses",
            help: "Addresses of a server that are up or avoided; of a name, as many as its last lookup has found.",
            unit: None,
            components: Arc::clone(&families.servers),
            read: Box::new(|_, ServerGauges { labels, addresses_up, addresses_avoided, .. }: &ServerGauges| {
                let ServerLabels { upstream, server } = labels;
                [("up", addresses_up), ("avoided", addresses_avoided)]
                    .into_iter()
                    .map(|(state, gauge)| {
                        let (upstream, server) = (Arc::clone(upstream), Arc::clone(server));
                        let labels = vec![("upstream", upstream), ("server", server), ("state", state.into())];
                        (labels, SampleValue::Integer(gauge.value()))
                    })
                    .collect()
            }),
        }));
        registry.register(
            "upstream_broken_off",
            "Responses of an upstream that did not reach their end, by reason",
            families.broken_off.clone(),
        );
        registry.register("tunnels_ended", "Tunnels that have ended, by the reason", families.tunnel_ends.clone());
        registry.register(
            "tunnels_refused",
            "Tunnels that were refused because a limit was reached",
            families.tunnels_refused.clone(),
        );
        registry.register_collector(Box::new(ComponentGauge {
            name: "upstream_connections",
            help: "Connections to an upstream that are active, idle or tunnels, and requests that wait for a connection (pending).",
            unit: None,
            components: Arc::clone(&families.components),
            read: Box::new(|name, connections: &Connections| {
                let Connections { active, idle, pending, tunnels } = connections;
                [("active", active), ("idle", idle), ("pending", pending), ("tunnel", tunnels)]
                    .into_iter()
                    .map(|(state, gauge)| {
                        (vec![("upstream", Arc::clone(name)), ("state", state.into())], SampleValue::Integer(gauge.value()))
                    })
                    .collect()
            }),
        }));
        families
    }

    pub(super) fn handle(&self, upstream: &Arc<str>) -> UpstreamMetrics {
        let reasons = |reason| ReasonLabels { upstream: Arc::clone(upstream), reason };
        for reason in TUNNEL_END_REASONS {
            self.tunnel_ends.get_or_create_owned(&reasons(reason));
        }
        let labels = UpstreamLabels { upstream: Arc::clone(upstream) };
        let refused =
            |limit| self.tunnels_refused.get_or_create_owned(&LimitLabels { upstream: Arc::clone(upstream), limit });
        UpstreamMetrics(Arc::new(Inner {
            connections: self.components.get_or_create(upstream, Connections::default),
            duration: self.durations.get_or_create_owned(&labels),
            retries: RetryReason::ALL.map(|reason| self.retries.get_or_create_owned(&reasons(reason.label()))),
            retries_over_budget: self.retries_over_budget.get_or_create_owned(&labels),
            upstream: Arc::clone(upstream),
            broken_off: BrokenOff::ALL.map(|cause| self.broken_off.get_or_create_owned(&reasons(cause.reason()))),
            connect_failures: self.connect_failures.clone(),
            ejections: self.ejections.clone(),
            health_checks: self.health_checks.clone(),
            servers: Arc::clone(&self.servers),
            tunnel_ends: self.tunnel_ends.clone(),
            tunnels_over_limit: refused("max_tunnels"),
            tunnels_over_client_limit: refused("max_tunnels_per_client"),
        }))
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    upstream: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServerLabels {
    upstream: Arc<str>,
    server: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CheckLabels {
    upstream: Arc<str>,
    server: Arc<str>,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    upstream: Arc<str>,
    limit: &'static str,
}
