//! Gauges of things that come and go with the configuration: shown while somebody holds them.
//!
//! A counter of a route that a reload took away may stand still for ever and mislead nobody. A gauge may: the age of the keys
//! of an issuer that is gone would grow until somebody is called out at night. So these are read from their owners.

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

/// One unit of a [`Gauge`], given back when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the unit back at once"]
pub struct GaugeGuard(Gauge);

impl Gauge {
    /// Counts one more until the returned value is dropped: also when a task is cancelled.
    pub fn hold(&self) -> GaugeGuard {
        self.add();
        GaugeGuard(self.clone())
    }

    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// From now on `value`; beyond the range of `i64` its end.
    pub fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// The number now.
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

/// What is alive now, by its name in the configuration.
#[derive(Debug)]
pub(super) struct Live<T>(Mutex<BTreeMap<Arc<str>, Weak<T>>>);

impl<T> Default for Live<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Live<T> {
    /// The one alive under this name, or the one that `make` makes.
    ///
    /// Shared, not replaced: a reload builds its parts before the old ones are gone, and may yet be given up.
    pub(super) fn get_or_make(&self, name: &Arc<str>, make: impl FnOnce() -> T) -> Arc<T> {
        let mut living = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = living.get(name).and_then(Weak::upgrade) {
            return present;
        }
        let fresh = Arc::new(make());
        living.insert(Arc::clone(name), Arc::downgrade(&fresh));
        fresh
    }

    /// All that are alive, by name; the others are forgotten.
    fn all(&self) -> Vec<(Arc<str>, Arc<T>)> {
        let mut living = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        living.retain(|_, part| part.strong_count() > 0);
        living.iter().filter_map(|(name, part)| Some((Arc::clone(name), part.upgrade()?))).collect()
    }
}

/// The labels of one sample.
pub(super) type Labels = Vec<(&'static str, Arc<str>)>;

/// The value of one sample.
pub(super) enum Sample {
    Seconds(f64),
    Whole(i64),
}

/// A gauge family whose samples are asked of what is alive.
pub(super) struct LiveGauge<T> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) unit: Option<Unit>,
    pub(super) live: Arc<Live<T>>,
    pub(super) read: Box<ReadSamples<T>>,
}

/// Tells the samples of one living part, given its name.
pub(super) type ReadSamples<T> = dyn Fn(&Arc<str>, &T) -> Vec<(Labels, Sample)> + Send + Sync;

impl<T: Send + Sync + 'static> Collector for LiveGauge<T> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let samples: Vec<_> = self.live.all().iter().flat_map(|(name, part)| (self.read)(name, part)).collect();
        if samples.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), MetricType::Gauge)?;
        for (labels, sample) in &samples {
            let mut metric = family.encode_family(labels)?;
            match sample {
                Sample::Seconds(value) => metric.encode_gauge(value)?,
                Sample::Whole(value) => metric.encode_gauge(value)?,
            }
        }
        Ok(())
    }
}

impl<T> fmt::Debug for LiveGauge<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveGauge").field("name", &self.name).finish_non_exhaustive()
    }
}
