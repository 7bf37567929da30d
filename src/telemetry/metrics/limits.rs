//! Metrics of limits: what they held back, and how full their tables are.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::live::{Gauge, Live, LiveGauge, Sample};

/// The metrics of one limit. Cheap to clone; clones count into the same series.
///
/// The gauge of its cells is shown as long as a handle exists.
#[derive(Clone, Debug)]
pub struct LimitMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cells: Arc<Gauge>,
    limited: Counter,
    overflow: Counter,
}

impl LimitMetrics {
    /// Counts a request that the limit held back.
    pub fn count_limited(&self) {
        self.0.limited.inc();
    }

    /// Counts requests whose key found the table full, so that they were counted together with all such keys.
    pub fn count_overflows(&self, requests: u64) {
        self.0.overflow.inc_by(requests);
    }

    /// Keys that the table holds now.
    #[must_use]
    pub fn cells(&self) -> &Gauge {
        &self.0.cells
    }
}

/// The families of all limits.
#[derive(Debug)]
pub(super) struct LimitFamilies {
    limited: Family<LimitLabels, Counter>,
    overflow: Family<LimitLabels, Counter>,
    live: Arc<Live<Gauge>>,
}

impl LimitFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self { limited: Family::default(), overflow: Family::default(), live: Arc::default() };
        registry.register("limited", "Requests held back by a limit", families.limited.clone());
        registry.register(
            "limiter_overflow",
            "Requests counted in the common cell because a limit's table was full",
            families.overflow.clone(),
        );
        registry.register_collector(Box::new(LiveGauge {
            name: "limiter_cells",
            help: "Keys that a limit's table holds.",
            unit: None,
            live: Arc::clone(&families.live),
            read: Box::new(|name, cells: &Gauge| {
                vec![(vec![("limit", Arc::clone(name))], Sample::Whole(cells.value()))]
            }),
        }));
        families
    }

    pub(super) fn handle(&self, limit: &Arc<str>) -> LimitMetrics {
        let labels = LimitLabels { limit: Arc::clone(limit) };
        LimitMetrics(Arc::new(Inner {
            cells: self.live.get_or_make(limit, Gauge::default),
            limited: self.limited.get_or_create_owned(&labels),
            overflow: self.overflow.get_or_create_owned(&labels),
        }))
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    limit: Arc<str>,
}
