//! A histogram whose observation is two relaxed atomic adds.
//!
//! The one of the client library takes a lock for each observation, which all shards would share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of buckets for times, in nanoseconds: 0.5 ms to 30 s. A commit over a fast disk takes
/// about a millisecond; what takes more than half a minute is an outage, whatever its length.
const TIMES: &[u64] = &[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Upper bounds of buckets for rows in a batch: up to the writer's largest.
const ROWS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048];

const NANOS_PER_SECOND: f64 = 1e9;

/// Counts by size.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64],
    /// What one unit of an observation is in what is shown.
    unit: f64,
    /// One more than bounds.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Of times, shown in seconds.
    pub(super) fn of_seconds() -> Self {
        Self::new(TIMES, NANOS_PER_SECOND)
    }

    /// Of rows.
    pub(super) fn of_rows() -> Self {
        Self::new(ROWS, 1.0)
    }

    fn new(bounds: &'static [u64], unit: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, unit, counts, sum: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What several, of the same bounds, have counted together. The count is the sum of the buckets,
    /// so the two agree whatever is observed meanwhile.
    pub(super) fn total<'a>(mut all: impl Iterator<Item = &'a Self>) -> Option<Counts> {
        let first = all.next()?;
        let mut buckets: Vec<(f64, u64)> =
            first.bounds.iter().map(|bound| (to_float(*bound) / first.unit, 0)).collect();
        buckets.push((f64::INFINITY, 0));
        let mut sum = 0_u64;
        for histogram in std::iter::once(first).chain(all) {
            for ((_, total), count) in buckets.iter_mut().zip(&histogram.counts) {
                *total += count.load(Ordering::Relaxed);
            }
            sum = sum.wrapping_add(histogram.sum.load(Ordering::Relaxed));
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        Some(Counts { sum: to_float(sum) / first.unit, count, buckets })
    }
}

/// What was counted.
#[derive(Debug, PartialEq)]
pub(super) struct Counts {
    pub(super) sum: f64,
    pub(super) count: u64,
    /// Upper bound and how many lie at or under it and above the one before.
    pub(super) buckets: Vec<(f64, u64)>,
}

/// For people: beyond 2^53 the last digits do not matter.
#[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
pub(super) fn to_float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_larger_than_all_to_the_last() {
        let histogram = Histogram::of_seconds();
        for micros in [1, 500, 501, 31_000_000] {
            histogram.observe_time(Duration::from_micros(micros));
        }
        let counts = Histogram::total(std::iter::once(&histogram)).unwrap();
        assert_eq!(counts.count, 4);
        assert_eq!(counts.buckets[..2], [(0.0005, 2), (0.001, 1)]);
        assert_eq!(counts.buckets.last(), Some(&(f64::INFINITY, 1)));
        assert!((counts.sum - 31.001_002).abs() < 1e-9, "{}", counts.sum);
    }

    #[test]
    fn several_add_up() {
        let (a, b) = (Histogram::of_rows(), Histogram::of_rows());
        a.observe(3);
        b.observe(4);
        b.observe(5000);
        let counts = Histogram::total([&a, &b].into_iter()).unwrap();
        assert_eq!((counts.count, counts.buckets[2]), (3, (4.0, 2)));
        assert!(Histogram::total(std::iter::empty()).is_none());
    }
}
