//! Histograms of durations, with fixed buckets and without locks.
//!
//! The metrics library's histogram has a mutex, for which all workers would contend at every
//! request. Here an observation is two relaxed additions to a shard that few threads share. A
//! scrape sums the shards.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Bucket bounds for requests and upstream responses. The gateway itself adds less than a
/// millisecond; slow upstreams take up to the usual timeouts.
const REQUEST_BOUNDS: &[Duration] = &[
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// Bucket bounds for token verification. A signature takes tens of microseconds, and milliseconds
/// on a busy machine.
const VERIFY_BOUNDS: &[Duration] = &[
    Duration::from_micros(10),
    Duration::from_micros(20),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
];

/// Maximum number of bounds of a histogram. Buckets are stored inline, so that a shard is one piece
/// of memory.
const MAX_BOUNDS: usize = 20;

/// Number of shards of a histogram. Threads are assigned to shards in turn, so up to this many
/// workers never share one.
const SHARDS: usize = 8;

/// A histogram of durations. Cheap to clone; clones count into the same buckets.
#[derive(Clone)]
pub(super) struct Histogram(Arc<Inner>);

struct Inner {
    bounds: &'static [Duration],
    shards: [Shard; SHARDS],
}

/// Counts of the threads assigned to it. Aligned to two cache lines, because processors prefetch
/// lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    /// One count per bucket. The bucket after the last bound has no upper bound.
    counts: [AtomicU64; MAX_BOUNDS + 1],
    /// Sum of all observed durations in nanoseconds; overflows after 584 years.
    nanos: AtomicU64,
}

impl Histogram {
    /// An empty histogram for requests and upstream responses.
    pub(super) fn for_requests() -> Self {
        Self::new(REQUEST_BOUNDS)
    }

    /// An empty histogram for token verifications.
    pub(super) fn for_verifications() -> Self {
        Self::new(VERIFY_BOUNDS)
    }

    /// An empty histogram with a bucket up to each of `bounds`, which must be in ascending order,
    /// and an unbounded one.
    fn new(bounds: &'static [Duration]) -> Self {
        assert!(bounds.len() <= MAX_BOUNDS && bounds.is_sorted(), "bounds are constants of this file");
        Self(Arc::new(Inner { bounds, shards: Default::default() }))
    }

    /// Counts a duration.
    pub(super) fn observe(&self, duration: Duration) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < duration);
        let shard = &self.0.shards[shard_of_this_thread()];
        shard.counts[bucket].fetch_add(1, Ordering::Relaxed);
        shard.nanos.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The upper bound in seconds and the count of each bucket (not cumulative), and the sum in
    /// seconds.
    fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let bounds = self.0.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let buckets = bounds.enumerate().map(|(bucket, bound)| {
            (bound, self.0.shards.iter().map(|shard| shard.counts[bucket].load(Ordering::Relaxed)).sum())
        });
        let nanos = self.0.shards.iter().map(|shard| shard.nanos.load(Ordering::Relaxed)).fold(0, u64::saturating_add);
        (buckets.collect(), Duration::from_nanos(nanos).as_secs_f64())
    }
}

fn shard_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
    }
    SHARD.get()
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let (buckets, sum) = self.read();
        // Computed from the buckets instead of counted separately, so that a scrape during traffic
        // is consistent.
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").field(&self.read()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(10)];

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_contains_it() {
        for (name, duration, expect) in [
            ("zero", Duration::ZERO, 0),
            ("on the bound", Duration::from_millis(1), 0),
            ("just above the bound", Duration::from_nanos(1_000_001), 1),
            ("above all bounds", Duration::from_secs(60), 2),
            ("longer than the sum can hold", Duration::MAX, 2),
        ] {
            let histogram = Histogram::new(BOUNDS);
            histogram.observe(duration);
            let (buckets, _) = histogram.read();
            assert_eq!(buckets.iter().position(|(_, count)| *count == 1), Some(expect), "{name}");
        }
    }

    #[test]
    fn counts_of_many_threads_are_summed() {
        let histogram = Histogram::new(BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| (0..1_000).for_each(|_| histogram.observe(Duration::from_millis(2))));
            }
        });
        let (buckets, sum) = histogram.read();
        assert_eq!(buckets[1], (0.01, 16_000));
        assert!((sum - 32.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn the_bounds_in_use_are_ascending_and_fit() {
        for bounds in [REQUEST_BOUNDS, VERIFY_BOUNDS] {
            assert!(bounds.len() <= MAX_BOUNDS && bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
