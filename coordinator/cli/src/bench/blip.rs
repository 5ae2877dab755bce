//! `pactum bench blip`: a participant is gone for a second under load. What do transactions that have a branch
//! there notice, and what do those that have none?
//!
//! ```text
//!  warm-up │ before            │ during                               │ after
//!          │                   ▲ gone            ▲ back               │
//!          │                   └── absent ───────┴─ catching up ──────┘
//! ```
//!
//! Two loads run side by side: transactions over `idle-1`, which goes, and `idle-2`; and others over `idle-2`
//! and `idle-3`, so that the two meet at one participant. A transaction belongs to the phase in
//! which it began, and counts in the latencies whether it was committed or aborted.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::child::NOTHING;
use super::options::{Absence, Blip, LogKind};
use super::place::Place;
use super::process::Process;
use super::relay::Wires;
use super::report::Head;
use super::run::System;
use super::sample::Spread;
use super::wire::{IdleOrders, Orders, Phase, PhaseMeasured, PhasedOrders, Report as Said, SubmitWork, Turn};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::{render, table};

/// Who goes, and who shares transactions with it; and who has none of them.
const TOUCHING: [&str; 2] = ["idle-1", "idle-2"];
const OTHERS: [&str; 2] = ["idle-2", "idle-3"];
/// What had piled up is done by then. It still counts as *during*.
const CATCH_UP: Duration = Duration::from_millis(500);

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    head: Head,
    gone_ms: f64,
    pub(super) runs: Vec<Row>,
}

/// Figures of one kind of absence.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// `pause` or `restart`.
    pub(super) absence: &'static str,
    in_flight: u32,
    /// From its going until it was attached again, or went on.
    absent_ms: Spread,
    /// The longest that a transaction which touches it waited for its answer, less what half of them wait at
    /// most while everybody is there.
    pub(super) touching_delay_ms: Spread,
    touching_longest_commit_ms: Spread,
    touching_longest_abort_ms: Spread,
    pub(super) touching_p50_before_ms: Spread,
    /// By kind, in all rounds: a participant that is killed loses what it had not promised.
    touching_aborted: BTreeMap<String, u64>,
    pub(super) others_per_second_before: Spread,
    pub(super) others_per_second_during: Spread,
    others_p99_before_ms: Spread,
    others_p99_during_ms: Spread,
    /// During against before.
    pub(super) others_p99_ratio: Spread,
    pub(super) others_throughput_ratio: Spread,
    others_aborted: BTreeMap<String, u64>,
    /// Transactions without an outcome, of both loads.
    pub(super) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
}

/// One round.
#[derive(Debug)]
struct Sample {
    absent: Duration,
    touching: Vec<PhaseMeasured>,
    others: Vec<PhaseMeasured>,
}

/// Runs it.
pub(super) async fn run(options: &Blip, output: &Output) -> Result<Exit, Failure> {
    let report = measure_all(options, output).await?;
    report.show(output)?;
    let errors: u64 = report.runs.iter().map(|row| row.errors).sum();
    Ok(if errors == 0 { Exit::Ok } else { Exit::Failed })
}

/// Measures, and puts the figures together.
pub(super) async fn measure_all(options: &Blip, output: &Output) -> Result<Report, Failure> {
    let place = Place::make(LogKind::Postgres, options.repeated.log_delay).await?;
    let mut samples: Vec<Vec<Sample>> = options.absence.iter().map(|_| Vec::new()).collect();
    for round in 1..=options.repeated.rounds {
        for (absence, samples) in options.absence.iter().zip(&mut samples) {
            output.note(format_args!("{}, round {round} of {}", absence.name(), options.repeated.rounds));
            place.empty().await?;
            samples.push(measure(options, *absence, &place).await?);
        }
    }
    place.remove().await;
    let rows = options.absence.iter().zip(&samples);
    Ok(Report {
        head: Head::new("blip", LogKind::Postgres, options.repeated.log_delay, options.repeated.rounds),
        gone_ms: options.gone.as_secs_f64() * 1000.0,
        runs: rows.map(|(absence, samples)| Row::new(*absence, options.in_flight, samples)).collect(),
    })
}

async fn measure(options: &Blip, absence: Absence, place: &Place) -> Result<Sample, Failure> {
    let mut system = System::start(place, 3, &mut Wires::direct()).await?;
    let load = |name: &'static str, resources: [&str; 2]| {
        let work = SubmitWork {
            coordinator: system.coordinator.url()?,
            resources: resources.map(str::to_owned).to_vec(),
            operation: NOTHING.to_owned(),
        };
        let in_flight = usize::try_from(options.in_flight).unwrap_or(usize::MAX);
        let orders = Orders::Phased(PhasedOrders { work, in_flight });
        Ok::<_, Failure>(async move { Process::start(name, &orders).await })
    };
    let mut touching = load("the load that touches it", TOUCHING)?.await?;
    let mut others = load("the load that does not", OTHERS)?.await?;
    sleep(super::run::warm_up(options.measure)).await;
    tell(&mut touching, &mut others, Turn::Phase(Phase::Before)).await?;
    sleep(options.measure).await;
    tell(&mut touching, &mut others, Turn::Phase(Phase::During)).await?;
    let left = Instant::now();
    be_gone(&mut system, absence, options.gone).await?;
    let absent = left.elapsed();
    sleep(CATCH_UP).await;
    tell(&mut touching, &mut others, Turn::Phase(Phase::After)).await?;
    sleep(options.measure).await;
    tell(&mut touching, &mut others, Turn::End).await?;
    let sample =
        Sample { absent, touching: phases(&mut touching).await?, others: phases(&mut others).await? };
    touching.stop().await?;
    others.stop().await?;
    system.stop().await?;
    Ok(sample)
}

/// The first participant is gone for so long. Returns when it is back: attached, if it is another process.
async fn be_gone(system: &mut System, absence: Absence, gone: Duration) -> Result<(), Failure> {
    let until = Instant::now() + gone;
    match absence {
        Absence::Pause => {
            system.participants[0].signal(Signal::STOP)?;
            tokio::time::sleep_until(until).await;
            system.participants[0].signal(Signal::CONT)
        }
        Absence::Restart => {
            let participant = system.participants.remove(0);
            let resource = participant.name().to_owned();
            participant.kill().await?;
            tokio::time::sleep_until(until).await;
            let orders = IdleOrders { resource: resource.clone(), coordinator: system.coordinator.url()? };
            system.participants.insert(0, Process::start(resource, &Orders::Idle(orders)).await?);
            Ok(())
        }
    }
}

async fn tell(touching: &mut Process, others: &mut Process, turn: Turn) -> Result<(), Failure> {
    touching.tell(&turn).await?;
    others.tell(&turn).await
}

async fn phases(load: &mut Process) -> Result<Vec<PhaseMeasured>, Failure> {
    let said = load.hear().await?;
    if let Said::Phases(phases) = &said
        && phases.len() == Phase::ALL.len()
    {
        return Ok(phases.clone());
    }
    Err(load.unexpected(&said))
}

/// What of the phases is shown of both loads.
fn figure(phases: &[PhaseMeasured], phase: Phase) -> &PhaseMeasured {
    &phases[phase as usize]
}

/// Commits in a second.
fn rate(phase: &PhaseMeasured) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let committed = phase.committed as f64;
    committed / phase.seconds.max(f64::MIN_POSITIVE)
}

fn aborted<'a>(phases: impl Iterator<Item = &'a PhaseMeasured>) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for phase in phases {
        for (kind, count) in &phase.aborted {
            *all.entry(kind.clone()).or_insert(0) += count;
        }
    }
    all
}

impl Sample {
    fn longest(&self, of: fn(&PhaseMeasured) -> f64) -> f64 {
        // Not in the warm-up: what begins there may find connections that are being made.
        self.touching.iter().skip(1).map(of).fold(0.0, f64::max)
    }

    fn delay(&self) -> f64 {
        let longest = self.longest(|phase| phase.longest_commit_ms.max(phase.longest_abort_ms));
        (longest - figure(&self.touching, Phase::Before).p50_ms).max(0.0)
    }

    fn others_ratio(&self, of: fn(&PhaseMeasured) -> f64) -> f64 {
        let before = of(figure(&self.others, Phase::Before)).max(f64::MIN_POSITIVE);
        of(figure(&self.others, Phase::During)) / before
    }
}

impl Row {
    fn new(absence: Absence, in_flight: u32, samples: &[Sample]) -> Self {
        let of = |figure: &dyn Fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
        let all = || samples.iter().flat_map(|sample| sample.touching.iter().chain(&sample.others));
        Self {
            absence: absence.name(),
            in_flight,
            absent_ms: of(&|one| one.absent.as_secs_f64() * 1000.0),
            touching_delay_ms: of(&Sample::delay),
            touching_longest_commit_ms: of(&|one| one.longest(|phase| phase.longest_commit_ms)),
            touching_longest_abort_ms: of(&|one| one.longest(|phase| phase.longest_abort_ms)),
            touching_p50_before_ms: of(&|one| figure(&one.touching, Phase::Before).p50_ms),
            touching_aborted: aborted(samples.iter().flat_map(|one| &one.touching)),
            others_per_second_before: of(&|one| rate(figure(&one.others, Phase::Before))),
            others_per_second_during: of(&|one| rate(figure(&one.others, Phase::During))),
            others_p99_before_ms: of(&|one| figure(&one.others, Phase::Before).p99_ms),
            others_p99_during_ms: of(&|one| figure(&one.others, Phase::During).p99_ms),
            others_p99_ratio: of(&|one| one.others_ratio(|phase| phase.p99_ms)),
            others_throughput_ratio: of(&|one| one.others_ratio(rate)),
            others_aborted: aborted(samples.iter().flat_map(|one| &one.others)),
            errors: all().map(|phase| phase.errors).sum(),
            first_error: all().find_map(|phase| phase.first_error.clone()),
        }
    }
}

impl Report {
    fn show(&self, output: &Output) -> Result<(), Failure> {
        if !output.for_people() {
            return output.document(self);
        }
        let header = [
            "ABSENCE",
            "ABSENT MS",
            "DELAY MS",
            "ABORTED",
            "OTHERS P99 BEFORE",
            "DURING",
            "RATIO",
            "OTHERS/S BEFORE",
            "DURING",
            "ERRORS",
        ];
        let mut rows = table(header);
        for row in &self.runs {
            rows.add_row([
                row.absence.to_owned(),
                format!("{:.0}", row.absent_ms.median),
                format!(
                    "{:.0} ({:.0}-{:.0})",
                    row.touching_delay_ms.median, row.touching_delay_ms.min, row.touching_delay_ms.max
                ),
                row.touching_aborted.values().sum::<u64>().to_string(),
                format!("{:.2}", row.others_p99_before_ms.median),
                format!("{:.2}", row.others_p99_during_ms.median),
                format!("{:.2}", row.others_p99_ratio.median),
                format!("{:.0}", row.others_per_second_before.median),
                format!("{:.0}", row.others_per_second_during.median),
                row.errors.to_string(),
            ]);
        }
        output.text(format_args!("{}\n\n{}", render(&rows), self.head.machine))
    }
}
