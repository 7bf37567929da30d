//! Metrics of rate limits: refused requests, and the number of keys in their tables.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::gauge::{ComponentGauge, ComponentRegistry, Gauge, SampleValue};

/// The metrics of one rate limit. Cheap to clone; clones count into the same series.
///
/// The gauge of its cells is exposed as long as a handle exists.
#[derive(Clone, Debug)]
pub struct LimitMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cells: Arc<Gauge>,
    limited: Counter,
    overflow: Counter,
}

impl LimitMetrics {
    /// Counts a request that exceeded the limit.
    pub fn count_limited(&self) {
        self.0.limited.inc();
    }

    /// Counts requests whose key got no cell of its own.
    pub fn count_overflows(&self, requests: u64) {
        self.0.overflow.inc_by(requests);
    }

    /// The number of keys in the table.
    #[must_use]
    pub fn cells(&self) -> &Gauge {
        &self.0.cells
    }
}

/// The metric families of all rate limits.
#[derive(Debug)]
pub(super) struct LimitFamilies {
    limited: Family<LimitLabels, Counter>,
    overflow: Family<LimitLabels, Counter>,
    components: Arc<ComponentRegistry<Gauge>>,
}

impl LimitFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self { limited: Family::default(), overflow: Family::default(), components: Arc::default() };
        registry.register("limited", "Requests that exceeded a rate limit", families.limited.clone());
        registry.register(
            "limiter_overflow",
            "Requests whose key got no cell of its own in a rate limit's table",
            families.overflow.clone(),
        );
        registry.register_collector(Box::new(ComponentGauge {
            name: "limiter_cells",
            help: "Keys in a rate limit's table.",
            unit: None,
            components: Arc::clone(&families.components),
            read: Box::new(|name, cells: &Gauge| {
                vec![(vec![("limit", Arc::clone(name))], SampleValue::Integer(cells.value()))]
            }),
        }));
        families
    }

    pub(super) fn handle(&self, limit: &Arc<str>) -> LimitMetrics {
        let labels = LimitLabels { limit: Arc::clone(limit) };
        LimitMetrics(Arc::new(Inner {
            cells: self.components.get_or_create(limit, Gauge::default),
            limited: self.limited.get_or_create_owned(&labels),
            overflow: self.overflow.get_or_create_owned(&labels),
        }))
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    limit: Arc<str>,
}
