//! Histograms: how long things took, in fixed buckets of atomics.
//!
//! The metrics library's own histogram is a mutex that every request of every worker would queue at. Here an observation is
//! two relaxed additions to memory that the thread shares with few others; the shares are summed when somebody scrapes.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Bounds for the time of a whole request or of an upstream's answer: what a gateway adds is below a millisecond, what makes
/// people wait is up to the usual timeouts.
const EXCHANGE_BOUNDS: &[Duration] = &[
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

/// Bounds for the check of a token: a signature takes tens of microseconds, a busy machine makes milliseconds of it.
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

/// Most bounds a histogram may have; the buckets are stored in line, so that a share is one piece of memory.
const MAX_BOUNDS: usize = 20;

/// How many shares a histogram has. Threads are dealt to them in turn: up to this many workers never meet.
const SHARES: usize = 8;

/// Times in fixed buckets. Cheap to clone; clones count into the same buckets.
#[derive(Clone)]
pub(super) struct Histogram(Arc<Inner>);

struct Inner {
    bounds: &'static [Duration],
    shares: [Share; SHARES],
}

/// Two cache lines' alignment: processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Share {
    /// One count per bucket, the last used one without an upper bound.
    counts: [AtomicU64; MAX_BOUNDS + 1],
    /// Sum of all observed times in nanoseconds: enough for 584 years of them.
    nanos: AtomicU64,
}

impl Histogram {
    /// An empty histogram for requests, answers of upstreams and the like.
    pub(super) fn of_exchanges() -> Self {
        Self::new(EXCHANGE_BOUNDS)
    }

    /// An empty histogram for checks of tokens.
    pub(super) fn of_verifications() -> Self {
        Self::new(VERIFY_BOUNDS)
    }

    /// An empty histogram whose buckets end at `bounds`, which rise, and after them one without end.
    fn new(bounds: &'static [Duration]) -> Self {
        assert!(bounds.len() <= MAX_BOUNDS && bounds.is_sorted(), "bounds are constants of this file");
        Self(Arc::new(Inner { bounds, shares: Default::default() }))
    }

    /// Counts one thing that took `took`.
    pub(super) fn observe(&self, took: Duration) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < took);
        let share = &self.0.shares[share_of_this_thread()];
        share.counts[bucket].fetch_add(1, Ordering::Relaxed);
        share.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The upper bound in seconds and the count of each bucket (not cumulative), and the sum in seconds.
    fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let bounds = self.0.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let buckets = bounds.enumerate().map(|(bucket, bound)| {
            (bound, self.0.shares.iter().map(|share| share.counts[bucket].load(Ordering::Relaxed)).sum())
        });
        let nanos = self.0.shares.iter().map(|share| share.nanos.load(Ordering::Relaxed)).fold(0, u64::saturating_add);
        (buckets.collect(), Duration::from_nanos(nanos).as_secs_f64())
    }
}

fn share_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARES);
    }
    SHARE.get()
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let (buckets, sum) = self.read();
        // The count is made from the buckets, not kept beside them: a scrape amid traffic still adds up.
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
    fn a_time_falls_into_the_first_bucket_that_reaches_it() {
        for (name, took, expect) in [
            ("nothing", Duration::ZERO, 0),
            ("on the bound", Duration::from_millis(1), 0),
            ("just above the bound", Duration::from_nanos(1_000_001), 1),
            ("above all bounds", Duration::from_secs(60), 2),
            ("longer than can be summed", Duration::MAX, 2),
        ] {
            let histogram = Histogram::new(BOUNDS);
            histogram.observe(took);
            let (buckets, _) = histogram.read();
            assert_eq!(buckets.iter().position(|(_, count)| *count == 1), Some(expect), "{name}");
        }
    }

    #[test]
    fn counts_of_many_threads_are_summed() {
        let histogram = Histogram::new(BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARES {
                scope.spawn(|| (0..1_000).for_each(|_| histogram.observe(Duration::from_millis(2))));
            }
        });
        let (buckets, sum) = histogram.read();
        assert_eq!(buckets[1], (0.01, 16_000));
        assert!((sum - 32.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn the_bounds_in_use_rise_and_fit() {
        for bounds in [EXCHANGE_BOUNDS, VERIFY_BOUNDS] {
            assert!(bounds.len() <= MAX_BOUNDS && bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
