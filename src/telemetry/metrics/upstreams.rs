//! Metrics of upstreams: response times, retries and connections.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::gauge::{ComponentGauge, ComponentRegistry, Gauge, SampleValue};
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
    retries: Counter,
}

#[derive(Debug, Default)]
struct Connections {
    active: Gauge,
    idle: Gauge,
    pending: Gauge,
}

impl UpstreamMetrics {
    /// Records the time until the upstream's response head arrived.
    pub fn record_duration(&self, duration: Duration) {
        self.0.duration.observe(duration);
    }

    /// Counts a request that was sent a second time.
    pub fn count_retry(&self) {
        self.0.retries.inc();
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

    /// Requests that wait for a connection.
    #[must_use]
    pub fn pending(&self) -> &Gauge {
        &self.0.connections.pending
    }
}

/// The metric families of all upstreams.
#[derive(Debug)]
pub(super) struct UpstreamFamilies {
    durations: Family<UpstreamLabels, Histogram>,
    retries: Family<UpstreamLabels, Counter>,
    components: Arc<ComponentRegistry<Connections>>,
}

impl UpstreamFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            durations: Family::new_with_constructor(Histogram::for_requests),
            retries: Family::default(),
            components: Arc::default(),
        };
        registry.register_with_unit(
            // The registry appends the unit: portcullis_upstream_duration_seconds.
            "upstream_duration",
            "Time until the head of an upstream's response",
            Unit::Seconds,
            families.durations.clone(),
        );
        registry.register("upstream_retries", "Requests sent to an upstream a second time", families.retries.clone());
        registry.register_collector(Box::new(ComponentGauge {
            name: "upstream_connections",
            help: "Connections to an upstream that are active or idle, and requests that wait for a connection (pending).",
            unit: None,
            components: Arc::clone(&families.components),
            read: Box::new(|name, connections: &Connections| {
                [("active", &connections.active), ("idle", &connections.idle), ("pending", &connections.pending)]
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
        let labels = UpstreamLabels { upstream: Arc::clone(upstream) };
        UpstreamMetrics(Arc::new(Inner {
            connections: self.components.get_or_create(upstream, Connections::default),
            duration: self.durations.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
        }))
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: Arc<str>,
}
