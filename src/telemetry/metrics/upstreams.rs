//! Metrics of upstreams: their answers' time, and the connections to them.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::live::{Gauge, Live, LiveGauge, Sample};
use crate::telemetry::histogram::Histogram;

/// The metrics of one upstream. Cheap to clone; clones count into the same series.
///
/// The gauges about its connections are shown as long as a handle exists, and add up over all workers.
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
    /// Counts the time that the upstream took to answer.
    pub fn record_duration(&self, took: Duration) {
        self.0.duration.observe(took);
    }

    /// Counts a request that was sent once more.
    pub fn count_retry(&self) {
        self.0.retries.inc();
    }

    /// Connections with a request under way.
    #[must_use]
    pub fn active(&self) -> &Gauge {
        &self.0.connections.active
    }

    /// Connections that wait for a request.
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

/// The families of all upstreams.
#[derive(Debug)]
pub(super) struct UpstreamFamilies {
    durations: Family<UpstreamLabels, Histogram>,
    retries: Family<UpstreamLabels, Counter>,
    live: Arc<Live<Connections>>,
}

impl UpstreamFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            durations: Family::new_with_constructor(Histogram::of_exchanges),
            retries: Family::default(),
            live: Arc::default(),
        };
        registry.register_with_unit(
            // With its unit: portcullis_upstream_duration_seconds.
            "upstream_duration",
            "Time that an upstream took to answer",
            Unit::Seconds,
            families.durations.clone(),
        );
        registry.register("upstream_retries", "Requests sent to an upstream once more", families.retries.clone());
        registry.register_collector(Box::new(LiveGauge {
            name: "upstream_connections",
            help: "Connections to an upstream that are active or idle, and requests pending for want of one.",
            unit: None,
            live: Arc::clone(&families.live),
            read: Box::new(|name, connections: &Connections| {
                [("active", &connections.active), ("idle", &connections.idle), ("pending", &connections.pending)]
                    .into_iter()
                    .map(|(state, gauge)| {
                        (vec![("upstream", Arc::clone(name)), ("state", state.into())], Sample::Whole(gauge.value()))
                    })
                    .collect()
            }),
        }));
        families
    }

    pub(super) fn handle(&self, upstream: &Arc<str>) -> UpstreamMetrics {
        let labels = UpstreamLabels { upstream: Arc::clone(upstream) };
        UpstreamMetrics(Arc::new(Inner {
            connections: self.live.get_or_make(upstream, Connections::default),
            duration: self.durations.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
        }))
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: Arc<str>,
}
