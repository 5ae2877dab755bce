//! Transactions that force nothing: those that are aborted, those that only read, and those of one branch
//! whose own database is where they are decided.
//!
//! A coordinator forces the log a few times in its life whatever it does: at its start and end, and for its
//! heartbeat. So much is measured of one that does nothing for as long, and taken off. What is left may be a few
//! more or less by chance, hence a bound a little above nothing. Few transactions are in flight, so that
//! one which did force could share that with few others and would stand far above the bound.

use std::time::Duration;

use tokio::time::sleep;

use super::super::bank::Bank;
use super::super::child::{READ, REFUSE};
use super::super::options::{Floors, LogKind};
use super::super::place::Place;
use super::super::process::Process;
use super::super::relay::Wires;
use super::super::report::{Report, Row};
use super::super::run::{Size, System, measure_life, warm_up};
use super::super::sample::{Sample, Spread};
use super::super::wire::{OneBranchWork, Orders, SubmitWork, Work};
use super::floor::{Bound, Floor};
use super::{Judged, sound};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

const ROUNDS: u32 = 3;
const MEASURE: Duration = Duration::from_secs(2);
const IN_FLIGHT: u32 = 16;
/// Far below one force for every [`IN_FLIGHT`] transactions.
const NEARLY_NOTHING: f64 = 0.01;

/// Transactions that force nothing.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Both participants refuse.
    Aborted,
    /// Both participants only read.
    ReadOnly,
    /// One branch, with a marker table.
    OneBranch,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Aborted, Self::ReadOnly, Self::OneBranch];

    fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::ReadOnly => "read-only",
            Self::OneBranch => "one-branch",
        }
    }

    fn floor(self) -> &'static str {
        match self {
            Self::Aborted => "commit: forced log writes each, aborted",
            Self::ReadOnly => "commit: forced log writes each, read-only",
            Self::OneBranch => "commit: forced log writes each, one branch with its marker table",
        }
    }

    /// Participants beside the load; that of one branch is in the load's process.
    fn participants(self) -> u16 {
        match self {
            Self::Aborted | Self::ReadOnly => 2,
            Self::OneBranch => 0,
        }
    }

    /// What transactions of branches that do nothing become.
    fn work(self, work: SubmitWork, bank: &Bank) -> Work {
        match self {
            Self::Aborted => Work::Submit(SubmitWork { operation: REFUSE.to_owned(), ..work }),
            Self::ReadOnly => Work::Submit(SubmitWork { operation: READ.to_owned(), ..work }),
            Self::OneBranch => Work::OneBranch(OneBranchWork {
                coordinator: work.coordinator,
                bank: bank.url(),
                connections: IN_FLIGHT,
            }),
        }
    }
}

/// Measures and judges it.
pub(super) async fn unforced(options: &Floors, output: &Output) -> Result<Judged, Failure> {
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let time = options.measure.unwrap_or(MEASURE);
    let place = Place::make(LogKind::Postgres, None).await?;
    let bank = Bank::open(IN_FLIGHT).await?;
    let mut load = Process::start("load", &Orders::Load).await?;
    output.note("warming up");
    // The first makes the log's tables.
    idle(&place, Duration::ZERO).await?;
    let mut samples: [Vec<Sample>; Kind::ALL.len()] = Default::default();
    let mut idles = Vec::new();
    for round in 1..=rounds {
        output.note(format_args!("round {round} of {rounds}"));
        place.empty().await?;
        idles.push(idle(&place, warm_up(time) + time).await?);
        for (kind, samples) in Kind::ALL.into_iter().zip(&mut samples) {
            place.empty().await?;
            let size = Size { participants: kind.participants(), in_flight: IN_FLIGHT, measure: time };
            let work = |work| kind.work(work, &bank);
            samples.push(measure_life(&place, &mut load, size, &mut Wires::direct(), work).await?);
        }
    }
    load.stop().await?;
    bank.close().await;
    place.remove().await;

    let mut report = Report::new("unforced", LogKind::Postgres, None, rounds);
    let mut floors = Vec::new();
    for (kind, samples) in Kind::ALL.into_iter().zip(&samples) {
        // One branch is somebody's, wherever it is.
        report.runs.push(Row::new(kind.name(), kind.participants().max(1), IN_FLIGHT, samples));
        let forced = Spread::of(samples.iter().zip(&idles).map(|(sample, idle)| more(sample, *idle)));
        let note = "less those of a coordinator that does nothing for as long";
        floors.push(Floor::new(kind.floor(), forced, Bound::Below(NEARLY_NOTHING)).note(note));
    }
    sound(&report)?;
    Judged::new(floors, &report)
}

/// Forced writes for each transaction, beyond those of a coordinator that does nothing. Not a number where
/// they were not counted.
fn more(sample: &Sample, idle: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let (idle, done) = (idle as f64, sample.measured.done_in_all as f64);
    sample.log_syncs_per_tx.unwrap_or(f64::NAN) - idle / done
}

/// How often the log is forced in the life of a coordinator that does nothing for so long.
async fn idle(place: &Place, time: Duration) -> Result<i64, Failure> {
    let unknown = || Failure::new(Exit::Failed, "the log's forced writes cannot be counted");
    let before = place.forces().await?.ok_or_else(unknown)?;
    let system = System::start(place, 2, &mut Wires::direct()).await?;
    sleep(time).await;
    system.stop().await?;
    Ok(place.forces().await?.ok_or_else(unknown)? - before)
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::Measured;
    use super::*;

    #[test]
    fn what_an_idle_coordinator_forces_is_taken_off_and_what_was_not_counted_is_no_number() {
        let mut sample =
            Sample { measured: Measured { done_in_all: 1_000, ..Measured::default() }, ..Sample::default() };
        assert!(more(&sample, 12).is_nan());
        sample.set_log_syncs(12);
        assert!(more(&sample, 12).abs() < 1e-12);
        sample.set_log_syncs(1_012);
        assert!((more(&sample, 12) - 1.0).abs() < 1e-12);
        let nothing_done = Sample { log_syncs_per_tx: Some(0.0), ..Sample::default() };
        assert!(!more(&nothing_done, 0).is_finite());
    }
}
