//! `pactum bench overload`: what happens at twice the rate that can be sustained.
//!
//! 1. **Sustainable.** A closed loop at growing numbers in flight; what counts is the smallest at which the rate
//!    is nearly the best one. Beyond it transactions only wait longer.
//! 2. **Overload.** That rate times a factor, by the clock, whatever is answered. What is offered is accepted
//!    and committed, or shed with a time to wait; nothing is repeated.
//!
//! Afterwards the log is counted: every commit that was answered must stand there.

use std::time::Duration;

use serde::Serialize;

use super::child::NOTHING;
use super::options::{LogKind, Overload};
use super::place::Place;
use super::process::Process;
use super::relay::Wires;
use super::report::Head;
use super::run::{System, warm_up};
use super::sample::Spread;
use super::usage;
use super::wire::{Amount, Flood, FloodMeasured, FloodOrders, Orders, Report as Said, SubmitWork};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::{render, table};

/// A rate of at least this part of the best one is as good.
const NEARLY: f64 = 0.95;
const PARTICIPANTS: u16 = 2;

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    head: Head,
    factor: f64,
    applications: u32,
    participants: u16,
    /// Each round's own.
    runs: Vec<Row>,
    sustainable_per_second: Spread,
    offered_per_second: Spread,
    pub(super) accepted_per_second: Spread,
    shed_per_second: Spread,
    /// Accepted under overload against sustainable.
    pub(super) accepted_ratio: Spread,
    /// Of what was accepted: under overload against sustainable.
    pub(super) p99_ratio: Spread,
    peak_memory_mib: Spread,
    /// Commits that were answered and do not stand in the log, and calls without any answer. None may be.
    pub(super) lost: u64,
    pub(super) errors: u64,
}

/// Figures of one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// In flight where the rate was sustained.
    in_flight: u32,
    sustainable_per_second: f64,
    sustainable_p50_ms: f64,
    sustainable_p99_ms: f64,
    offered_per_second: f64,
    accepted_per_second: f64,
    shed_per_second: f64,
    accepted_p50_ms: f64,
    accepted_p99_ms: f64,
    shed_p99_ms: f64,
    p99_ratio: f64,
    /// The coordinator's, before the overload and after it.
    peak_memory_mib_before: f64,
    peak_memory_mib: f64,
    /// Commits answered in the whole round, and commits in the log.
    committed: u64,
    committed_in_log: u64,
    unanswered: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
}

/// Runs it.
pub(super) async fn run(options: &Overload, output: &Output) -> Result<Exit, Failure> {
    let report = measure_all(options, output).await?;
    report.show(output)?;
    Ok(if report.errors == 0 && report.lost == 0 { Exit::Ok } else { Exit::Failed })
}

/// Measures, and puts the figures together.
pub(super) async fn measure_all(options: &Overload, output: &Output) -> Result<Report, Failure> {
    let place = Place::make(LogKind::Postgres, options.repeated.log_delay).await?;
    let mut runs = Vec::new();
    for round in 1..=options.repeated.rounds {
        output.note(format_args!("round {round} of {}", options.repeated.rounds));
        place.empty().await?;
        runs.push(measure(options, &place).await?);
    }
    place.remove().await;
    let of = |figure: fn(&Row) -> f64| Spread::of(runs.iter().map(figure));
    Ok(Report {
        head: Head::new("overload", LogKind::Postgres, options.repeated.log_delay, options.repeated.rounds),
        factor: options.factor,
        applications: options.applications,
        participants: PARTICIPANTS,
        sustainable_per_second: of(|row| row.sustainable_per_second),
        offered_per_second: of(|row| row.offered_per_second),
        accepted_per_second: of(|row| row.accepted_per_second),
        shed_per_second: of(|row| row.shed_per_second),
        accepted_ratio: of(|row| row.accepted_per_second / row.sustainable_per_second),
        p99_ratio: of(|row| row.p99_ratio),
        peak_memory_mib: of(|row| row.peak_memory_mib),
        lost: runs.iter().map(Row::lost).sum(),
        errors: runs.iter().map(|row| row.errors).sum(),
        runs,
    })
}

async fn measure(options: &Overload, place: &Place) -> Result<Row, Failure> {
    let system = System::start(place, PARTICIPANTS, &mut Wires::direct()).await?;
    let work = SubmitWork {
        coordinator: system.coordinator.url()?,
        resources: system.resources(),
        operation: NOTHING.to_owned(),
    };
    let applications = usize::try_from(options.applications).unwrap_or(usize::MAX);
    let orders = Orders::Flood(FloodOrders { work, applications });
    let mut load = Process::start("load", &orders).await?;

    let mut closed = Vec::new();
    for &in_flight in &options.in_flight {
        let amount = Amount::InFlight(usize::try_from(in_flight).unwrap_or(usize::MAX));
        closed.push((in_flight, flood(&mut load, amount, options.measure).await?));
    }
    let before = peak(&system)?;
    let best = closed.iter().map(|(_, measured)| rate(measured.committed, measured)).fold(0.0, f64::max);
    let is_enough =
        |(_, measured): &&(u32, FloodMeasured)| rate(measured.committed, measured) >= best * NEARLY;
    let fewest = closed.iter().filter(is_enough).min_by_key(|(in_flight, _)| *in_flight);
    let nothing = || Failure::new(Exit::Failed, "nothing is committed, so no rate can be sustained");
    let (in_flight, sustained) = fewest.filter(|_| best > 0.0).ok_or_else(nothing)?;
    let sustainable = rate(sustained.committed, sustained);

    let open = flood(&mut load, Amount::PerSecond(sustainable * options.factor), options.measure).await?;
    let after = peak(&system)?;
    load.stop().await?;
    system.stop().await?;
    let all = || closed.iter().map(|(_, measured)| measured).chain([&open]);
    Ok(Row {
        in_flight: *in_flight,
        sustainable_per_second: sustainable,
        sustainable_p50_ms: sustained.p50_ms,
        sustainable_p99_ms: sustained.p99_ms,
        offered_per_second: rate(open.offered, &open),
        accepted_per_second: rate(open.committed, &open),
        shed_per_second: rate(open.shed, &open),
        accepted_p50_ms: open.p50_ms,
        accepted_p99_ms: open.p99_ms,
        shed_p99_ms: open.shed_p99_ms,
        p99_ratio: open.p99_ms / sustained.p99_ms.max(f64::MIN_POSITIVE),
        peak_memory_mib_before: before,
        peak_memory_mib: after,
        committed: all().map(|measured| measured.committed_in_all).sum(),
        committed_in_log: commits(place).await?,
        unanswered: all().map(|measured| measured.unanswered).sum(),
        errors: all().map(|measured| measured.errors).sum(),
        first_error: all().find_map(|measured| measured.first_error.clone()),
    })
}

async fn flood(load: &mut Process, amount: Amount, measure: Duration) -> Result<FloodMeasured, Failure> {
    load.tell(&Flood { amount, warm_up: warm_up(measure), measure }).await?;
    let said = load.hear().await?;
    if let Said::Flooded(measured) = said { Ok(measured) } else { Err(load.unexpected(&said)) }
}

fn rate(count: u64, measured: &FloodMeasured) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let count = count as f64;
    count / measured.seconds.max(f64::MIN_POSITIVE)
}

/// The most memory that the coordinator ever held, in MiB.
fn peak(system: &System) -> Result<f64, Failure> {
    let bytes = usage::known(usage::peak_memory(system.coordinator.pid(), false))?;
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    let bytes = bytes as f64;
    Ok(bytes / 1_048_576.0)
}

/// Commits that stand in the log.
async fn commits(place: &Place) -> Result<u64, Failure> {
    place.count("SELECT count(*) FROM pactum.decisions WHERE number > 0").await
}

impl Row {
    /// See [`Report::lost`].
    fn lost(&self) -> u64 {
        self.committed.saturating_sub(self.committed_in_log) + self.unanswered
    }
}

impl Report {
    fn show(&self, output: &Output) -> Result<(), Failure> {
        if !output.for_people() {
            return output.document(self);
        }
        let header = [
            "ROUND",
            "IN FLIGHT",
            "SUSTAINED/S",
            "P99 MS",
            "OFFERED/S",
            "ACCEPTED/S",
            "SHED/S",
            "P99 MS",
            "RATIO",
            "PEAK MIB",
            "LOST",
            "ERRORS",
        ];
        let mut rows = table(header);
        for (round, row) in (1..).zip(&self.runs) {
            rows.add_row([
                format!("{round}"),
                row.in_flight.to_string(),
                format!("{:.0}", row.sustainable_per_second),
                format!("{:.1}", row.sustainable_p99_ms),
                format!("{:.0}", row.offered_per_second),
                format!("{:.0}", row.accepted_per_second),
                format!("{:.0}", row.shed_per_second),
                format!("{:.1}", row.accepted_p99_ms),
                format!("{:.2}", row.p99_ratio),
                format!("{:.1}", row.peak_memory_mib),
                row.lost().to_string(),
                row.errors.to_string(),
            ]);
        }
        let ratios = format!(
            "{:.2} of the sustained rate is accepted, its p99 is {:.2} times as long",
            self.accepted_ratio.median, self.p99_ratio.median
        );
        output.text(format_args!("{}\n\n{ratios}\n{}", render(&rows), self.head.machine))
    }
}
