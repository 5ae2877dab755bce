//! Commits on a slow disk, against the same without: two logs, of which one takes longer to force, in turn.

use std::time::Duration;

use super::super::commit::REFERENCE;
use super::super::options::{Floors, LogKind};
use super::super::place::Place;
use super::super::process::Process;
use super::super::relay::Wires;
use super::super::report::{Report, Row};
use super::super::run::{Size, measure_life};
use super::super::sample::{Sample, ratios};
use super::super::wire::{Orders, Work};
use super::floor::{Bound, Floor};
use super::{Judged, sound};
use crate::failure::Failure;
use crate::output::Output;

const DELAY: Duration = Duration::from_millis(1);
const ROUNDS: u32 = 5;
const MEASURE: Duration = Duration::from_secs(2);

/// Measures and judges it.
pub(super) async fn log_delay(options: &Floors, output: &Output) -> Result<Judged, Failure> {
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let time = options.measure.unwrap_or(MEASURE);
    let places =
        [Place::make(LogKind::Postgres, None).await?, Place::make(LogKind::Postgres, Some(DELAY)).await?];
    let mut load = Process::start("load", &Orders::Load).await?;
    output.note("warming up");
    for place in &places {
        take(place, &mut load, time / 4).await?;
    }
    let mut samples: [Vec<Sample>; 2] = Default::default();
    for round in 1..=rounds {
        output.note(format_args!("round {round} of {rounds}"));
        // There and back: what drifts falls on both alike.
        let turns = if round % 2 == 1 { [0, 1] } else { [1, 0] };
        for which in turns {
            samples[which].push(take(&places[which], &mut load, time).await?);
        }
    }
    load.stop().await?;
    for place in places {
        place.remove().await;
    }

    let [without, with] = &samples;
    let mut report = Report::new("log-delay", LogKind::Postgres, Some(DELAY), rounds);
    report.runs.push(Row::new("submit", REFERENCE.0, REFERENCE.1, with));
    report.beside.push(Row::new("without-delay", REFERENCE.0, REFERENCE.1, without));
    sound(&report)?;
    let ratio = ratios(with, without, |sample| sample.measured.per_second());
    let name = "commit: rate with --log-delay 1ms, 2048 in flight, against without";
    Judged::new(vec![Floor::new(name, ratio, Bound::AtLeast(0.8))], &report)
}

async fn take(place: &Place, load: &mut Process, measure: Duration) -> Result<Sample, Failure> {
    place.empty().await?;
    let size = Size { participants: REFERENCE.0, in_flight: REFERENCE.1, measure };
    measure_life(place, load, size, &mut Wires::direct(), Work::Submit).await
}
