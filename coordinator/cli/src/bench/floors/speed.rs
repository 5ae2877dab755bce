//! What commits and transfers must reach.

use super::super::commit::{Kind, REFERENCE, SINGLE_ROW, measure_sizes};
use super::super::options::{Common, Floors, LogKind, Transfer};
use super::super::sample::{Sample, Spread, ratios};
use super::super::transfer::{self, Compared};
use super::floor::{Bound, Floor};
use super::{Judged, sound};
use crate::failure::Failure;
use crate::output::Output;

/// Participants of the reference run, and more.
const PARTICIPANTS: [u16; 3] = [REFERENCE.0, 4, 8];
/// Transfers at once.
const TRANSFERS: u32 = 64;

/// Options of a measurement as it is made without any, but for what was typed.
fn common(options: &Floors) -> Common {
    Common { log_delay: None, rounds: options.rounds, measure: options.measure, chart: None }
}

/// `bench commit`, of the sizes that floors are about.
pub(super) async fn commit(options: &Floors, output: &Output) -> Result<Judged, Failure> {
    let mut sizes = vec![(REFERENCE.0, 1)];
    sizes.extend(PARTICIPANTS.map(|participants| (participants, REFERENCE.1)));
    let taken = measure_sizes(LogKind::Postgres, &common(options), &sizes, output).await?;
    let submit = |participants, in_flight| taken.of(Kind::Submit { participants, in_flight });
    let (single, reference) = (submit(REFERENCE.0, 1), submit(REFERENCE.0, REFERENCE.1));
    let rate = |sample: &Sample| sample.measured.per_second();

    let to_ceiling = ratios(reference, taken.ceiling(), rate);
    let latency = ratios(single, taken.of(SINGLE_ROW), |sample| sample.measured.p50_ms);
    let unary = ratios(taken.of(Kind::Unary), taken.of(Kind::Nothing), rate);
    let name = "commit: rate, 2 participants, 2048 in flight, against the ceiling";
    let mut floors = vec![
        Floor::new(name, to_ceiling, Bound::AtLeast(0.5)).aim(0.8),
        Floor::new("commit: forced log writes each, 1 in flight", forced(single), Bound::Between(0.98, 1.05)),
        Floor::new("commit: forced log writes each, 2048 in flight", forced(reference), Bound::Below(0.02)),
        Floor::new("commit: p50, 1 in flight, against the commit of one row", latency, Bound::AtMost(3.0))
            .aim(2.0),
        Floor::new(
            "commit: unary Submit, 256 in flight, against a call of nothing",
            unary,
            Bound::AtLeast(0.5),
        ),
    ];
    for more in &PARTICIPANTS[1..] {
        let ratio = ratios(submit(*more, REFERENCE.1), reference, rate);
        let name = format!("commit: rate x participants, with {more} against 2, 2048 in flight");
        let times = f64::from(*more) / f64::from(REFERENCE.0);
        floors.push(Floor::new(name, scaled(ratio, times), Bound::AtLeast(0.9)));
    }
    let report = taken.end().await?;
    sound(&report)?;
    Judged::new(floors, &report)
}

/// Forced writes of the log for each transaction; not a number where they are not known.
fn forced(samples: &[Sample]) -> Spread {
    if samples.is_empty() {
        return Spread::of([f64::NAN]);
    }
    Spread::of(samples.iter().map(|sample| sample.log_syncs_per_tx.unwrap_or(f64::NAN)))
}

fn scaled(spread: Spread, by: f64) -> Spread {
    Spread { median: spread.median * by, min: spread.min * by, max: spread.max * by }
}

/// `bench transfer`.
pub(super) async fn transfer(options: &Floors, output: &Output) -> Result<Judged, Failure> {
    let options = Transfer { in_flight: vec![TRANSFERS], common: common(options) };
    let Compared { report, to_safe, to_unsafe } = transfer::measure_all(&options, output).await?;
    sound(&report)?;
    let floors = vec![
        Floor::new("transfer: rate, 64 in flight, against hand-written, safe", to_safe, Bound::AtLeast(1.0))
            .aim(1.1),
        Floor::new(
            "transfer: rate, 64 in flight, against hand-written, unsafe",
            to_unsafe,
            Bound::AtLeast(0.8),
        )
        .aim(0.9),
    ];
    Judged::new(floors, &report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forced_writes_that_were_not_counted_hold_no_floor() {
        let counted = |log_syncs_per_tx| Sample { log_syncs_per_tx, ..Sample::default() };
        let held = |samples: &[Sample]| Floor::new("", forced(samples), Bound::Below(0.02)).held();
        assert!(held(&[counted(Some(0.01)), counted(Some(0.01))]));
        assert!(!held(&[counted(Some(0.01)), counted(None)]));
        assert!(!held(&[]));
    }
}
