//! What must hold where something goes wrong: recovery, absence, overload; and what a coordinator can hold.

use std::time::Duration;

use super::super::options::{Absence, Blip, Floors, Open, Overload, Records, Recover, Repeated};
use super::super::sample::Spread;
use super::super::{blip, open, overload, recover};
use super::floor::{Bound, Floor};
use super::{Judged, unsound};
use crate::failure::Failure;
use crate::output::Output;

const ROUNDS: u32 = 3;
const MEASURE: Duration = Duration::from_secs(2);
/// Unfinished commits in the log.
const COMMITS: u32 = 100_000;
/// Branches prepared in PostgreSQL.
const PREPARED: u32 = 10_000;
/// Transactions that stay open.
const OPEN: u32 = 1_000_000;

/// `bench recover`.
pub(super) async fn recover(options: &Floors, output: &Output) -> Result<Judged, Failure> {
    let options = Recover {
        commits: COMMITS,
        prepared: PREPARED,
        log_only: false,
        prepared_only: false,
        connections: 16,
        repeated: repeated(options),
    };
    let report = recover::measure_all(&options, output).await?;
    if report.errors > 0 {
        return Err(unsound(format!("{} branches ended otherwise than decided", report.errors), None));
    }
    let of = |kind: &str| report.runs.iter().find(|row| row.kind == kind);
    let seconds = of("log").map_or_else(unknown, |row| row.seconds);
    let ratio = of("prepared").and_then(|row| row.ratio_to_bare_loop).unwrap_or_else(unknown);
    let floors = vec![
        Floor::new("recover: seconds for 100000 commits in the log", seconds, Bound::AtMost(5.0)),
        Floor::new(
            "recover: 10000 prepared branches, against a bare loop of COMMIT PREPARED",
            ratio,
            Bound::AtLeast(0.8),
        ),
    ];
    Judged::new(floors, &report)
}

/// `bench blip`.
pub(super) async fn blip(options: &Floors, output: &Output) -> Result<Judged, Failure> {
    let options = Blip {
        absence: vec![Absence::Pause, Absence::Restart],
        gone: Duration::from_secs(1),
        in_flight: 64,
        measure: options.measure.unwrap_or(MEASURE),
        repeated: repeated(options),
    };
    let report = blip::measure_all(&options, output).await?;
    let mut floors = Vec::new();
    for row in &report.runs {
        if row.errors > 0 {
            return Err(unsound(
                format!("{}: {} transactions without an outcome", row.absence, row.errors),
                row.first_error.as_deref(),
            ));
        }
        // Of nothing, everything is quick.
        let rates = [row.touching_p50_before_ms, row.others_per_second_before, row.others_per_second_during];
        if rates.iter().any(|rate| rate.min <= 0.0) {
            return Err(unsound(format!("{}: nothing was done in a whole phase", row.absence), None));
        }
        let name = format!("blip: milliseconds of delay, touching whoever is gone ({})", row.absence);
        floors.push(Floor::new(name, row.touching_delay_ms, Bound::AtMost(1500.0)));
        let name = format!("blip: p99 of all others, against before ({})", row.absence);
        floors.push(Floor::new(name, row.others_p99_ratio, Bound::AtMost(2.0)));
    }
    Judged::new(floors, &report)
}

/// `bench open`: once, for memory has no rounds.
pub(super) async fn open(output: &Output) -> Result<Judged, Failure> {
    let options = Open { transactions: OPEN, records: vec![Records::Without, Records::With] };
    let report = open::measure_all(&options, output).await?;
    let floors = report.runs.iter().map(|row| {
        let name = format!("open: bytes for each open transaction, {} records", row.records);
        let floor = Floor::new(name, Spread::of([row.bytes_per_transaction]), Bound::AtMost(1024.0));
        if row.records == Records::With.name() && row.recorded < u64::from(row.transactions) {
            floor.note(format!(
                "{} of {} were recorded: a coordinator leaves out those that its queue has no room for",
                row.recorded, row.transactions
            ))
        } else {
            floor
        }
    });
    Judged::new(floors.collect(), &report)
}

/// `bench overload`.
pub(super) async fn overload(options: &Floors, output: &Output) -> Result<Judged, Failure> {
    let options = Overload {
        in_flight: vec![256, 512, 1024, 2048],
        factor: 2.0,
        applications: 4,
        measure: options.measure.unwrap_or(MEASURE),
        repeated: repeated(options),
    };
    let report = overload::measure_all(&options, output).await?;
    if report.accepted_per_second.min <= 0.0 {
        return Err(unsound("nothing was accepted in a whole round".to_owned(), None));
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let count = |count: u64| Spread::of([count as f64]);
    let floors = vec![
        Floor::new(
            "overload: p99 of what is accepted at twice the rate, against sustainable",
            report.p99_ratio,
            Bound::AtMost(3.0),
        ),
        Floor::new("overload: commits lost", count(report.lost), Bound::AtMost(0.0)),
        Floor::new("overload: calls neither committed nor shed", count(report.errors), Bound::AtMost(0.0)),
    ];
    Judged::new(floors, &report)
}

/// As often as is asked for, and without a delay.
fn repeated(options: &Floors) -> Repeated {
    Repeated { rounds: options.rounds.unwrap_or(ROUNDS), log_delay: None }
}

/// Was not measured.
fn unknown() -> Spread {
    Spread::of([f64::NAN])
}
