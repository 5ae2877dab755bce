//! One measurement, and several of the same kind put together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::relay::Traffic;
use super::wire::Measured;

/// What one run showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// What the load saw.
    pub(super) measured: Measured,
    /// Forced writes of the log for each transaction.
    pub(super) log_syncs_per_tx: Option<f64>,
    /// What went over the wires while it was measured, where that was counted.
    pub(super) traffic: Option<Traffic>,
    /// Processor time while it was measured, in seconds, by process.
    pub(super) cpu: BTreeMap<String, f64>,
    /// The most memory ever held, in bytes, by process.
    pub(super) memory: BTreeMap<String, u64>,
}

impl Sample {
    /// Spreads the log's forced writes of the whole run over its transactions.
    pub(super) fn set_log_syncs(&mut self, forces: i64) {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let (forces, done) = (forces as f64, self.measured.done_in_all as f64);
        self.log_syncs_per_tx = (self.measured.done_in_all > 0).then(|| forces / done);
    }
}

/// The median of several, with the least and the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    /// The middle one.
    pub(super) median: f64,
    /// The least.
    pub(super) min: f64,
    /// The most.
    pub(super) max: f64,
}

impl Spread {
    /// Of these; zero of none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        let (upper, half) = (values.len() / 2, values.len().is_multiple_of(2));
        let median = if half { f64::midpoint(values[upper - 1], values[upper]) } else { values[upper] };
        Self { median, min, max }
    }
}

/// A figure of one kind against another's, round by round: what disturbs the machine disturbs both of a
/// round. Not a number where there are no rounds.
pub(super) fn ratios(own: &[Sample], other: &[Sample], figure: fn(&Sample) -> f64) -> Spread {
    let pairs = own.iter().zip(other).map(|(own, other)| figure(own) / figure(other));
    let pairs: Vec<f64> = pairs.collect();
    if pairs.is_empty() { Spread::of([f64::NAN]) } else { Spread::of(pairs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn ratios_are_of_the_same_round_and_of_no_rounds_there_are_none() {
        let sample =
            |p50_ms| Sample { measured: Measured { p50_ms, ..Measured::default() }, ..Sample::default() };
        let (own, other) = ([sample(1.0), sample(6.0)], [sample(2.0), sample(3.0)]);
        let p50 = |sample: &Sample| sample.measured.p50_ms;
        assert_eq!(ratios(&own, &other, p50), Spread { median: 1.25, min: 0.5, max: 2.0 });
        assert!(ratios(&own, &[], p50).median.is_nan());
    }
}
