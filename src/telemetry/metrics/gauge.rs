//! Gauges, and gauge families that disappear with the component they describe.
//!
//! When a reload removes a route, its counters stop increasing, which is harmless. A gauge is not:
//! the key age of a removed issuer would keep growing and would page an operator. Such a gauge is
//! therefore read from its component at each scrape, and is absent once the component is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Unit;

/// A number that goes up and down. Cheap to clone; clones share the number.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

/// One unit of a [`Gauge`], subtracted again when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it subtracts the unit at once"]
pub struct GaugeGuard(Gauge);

impl Gauge {
    /// Adds one until the returned guard is dropped, which also covers cancelled tasks.
    pub fn hold(&self) -> GaugeGuard {
        self.add();
        GaugeGuard(self.clone())
    }

    /// Adds one.
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts one.
    fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets the number to `value`, at most `i64::MAX`.
    pub fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// The current number.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.subtract();
    }
}

impl EncodeMetric for Gauge {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder.encode_gauge(&self.value())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Gauge {
    const TYPE: MetricType = MetricType::Gauge;
}

/// The components that exist now, by their names in the configuration. Holds weak references only.
#[derive(Debug)]
pub(super) struct ComponentRegistry<T>(Mutex<BTreeMap<Arc<str>, Weak<T>>>);

impl<T> Default for ComponentRegistry<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> ComponentRegistry<T> {
    /// The component with this name, created by `create` if there is none.
    ///
    /// An existing component is shared and not replaced: a reload creates its components before the
    /// old ones are dropped, and may still fail.
    pub(super) fn get_or_create(&self, name: &Arc<str>, create: impl FnOnce() -> T) -> Arc<T> {
        let mut components = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = components.get(name).and_then(Weak::upgrade) {
            return existing;
        }
        let created = Arc::new(create());
        components.insert(Arc::clone(name), Arc::downgrade(&created));
        created
    }

    /// All existing components, by name. Entries of dropped components are removed.
    fn all(&self) -> Vec<(Arc<str>, Arc<T>)> {
        let mut components = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        components.retain(|_, component| component.strong_count() > 0);
        components.iter().filter_map(|(name, component)| Some((Arc::clone(name), component.upgrade()?))).collect()
    }
}

/// The labels of one sample.
pub(super) type Labels = Vec<(&'static str, Arc<str>)>;

/// The value of one sample.
pub(super) enum SampleValue {
    Float(f64),
    Integer(i64),
}

/// A gauge family whose samples are read from the existing components at each scrape.
pub(super) struct ComponentGauge<T> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) unit: Option<Unit>,
    pub(super) components: Arc<ComponentRegistry<T>>,
    pub(super) read: Box<ReadSamples<T>>,
}

/// Reads the samples of one component, given its name.
pub(super) type ReadSamples<T> = dyn Fn(&Arc<str>, &T) -> Vec<(Labels, SampleValue)> + Send + Sync;

impl<T: Send + Sync + 'static> Collector for ComponentGauge<T> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let samples: Vec<_> =
            self.components.all().iter().flat_map(|(name, component)| (self.read)(name, component)).collect();
        if samples.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in &samples {
            let mut metric = family.encode_family(labels)?;
            match value {
                SampleValue::Float(value) => metric.encode_gauge(value)?,
                SampleValue::Integer(value) => metric.encode_gauge(value)?,
            }
        }
        Ok(())
    }
}

impl<T> fmt::Debug for ComponentGauge<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentGauge").field("name", &self.name).finish_non_exhaustive()
    }
}
