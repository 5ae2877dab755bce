//! `pactum bench commit`: transactions whose branches do nothing, so that Pactum and its log are all that is
//! measured. Beside them, in the same rounds: the best rate at which the same rows can be written to the same
//! table, one row alone, and calls that do nothing.

use std::time::Duration;

use super::chart;
use super::options::{Commit, Common, LogKind};
use super::place::{Place, SampleRow};
use super::process::Process;
use super::relay::Wires;
use super::report::{Report, Row};
use super::run::{Size, Watched, measure, measure_life, warm_up};
use super::sample::{Sample, Spread, ratios};
use super::wire::{Orders, RowsWork, Run, SubmitWork, Work};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// The run that floors are about.
pub(super) const REFERENCE: (u16, u32) = (2, 2048);
/// Calls at once where calls are compared.
const UNARY_IN_FLIGHT: u32 = 256;
const ROUNDS: u32 = 3;
const MEASURE: Duration = Duration::from_millis(1500);
/// Where the ceiling is looked for: rows in a statement, and connections.
const BATCHES: [usize; 6] = [128, 256, 512, 1024, 2048, 4096];
const CONNECTIONS: [usize; 3] = [1, 2, 4];

/// One row at a time.
pub(super) const SINGLE_ROW: Kind = Kind::Rows { batch: 1, connections: 1 };

/// What is measured in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Transactions by the SDK.
    Submit { participants: u16, in_flight: u32 },
    /// Transactions by unary calls.
    Unary,
    /// Calls that do nothing.
    Nothing,
    /// Rows, so many in a statement over so many connections.
    Rows { batch: usize, connections: usize },
}

/// Runs it.
pub(super) async fn run(options: &Commit, output: &Output) -> Result<Exit, Failure> {
    chart::check(&options.common)?;
    let report = measure_all(options, output).await?;
    report.show(&options.common, output)?;
    Ok(report.exit())
}

/// Measures, and puts the figures together.
pub(super) async fn measure_all(options: &Commit, output: &Output) -> Result<Report, Failure> {
    let mut sizes = Vec::new();
    for &participants in &options.participants {
        sizes.extend(options.in_flight.iter().map(|&in_flight| (participants, in_flight)));
    }
    let mut taken = measure_sizes(options.log, &options.common, &sizes, output).await?;
    output.note("counting what goes over the wires");
    taken.count().await?;
    taken.end().await
}

/// Everything that was measured, and what it was measured with.
pub(super) struct Taken {
    bench: Bench,
    log: LogKind,
    delay: Option<Duration>,
    rounds: u32,
    kinds: Vec<Kind>,
    /// One of each round, for each kind.
    samples: Vec<Vec<Sample>>,
    /// What went through relays.
    counted: Vec<Option<Sample>>,
}

/// Measures transactions of these sizes (participants, and transactions in flight), and what they are
/// compared with.
pub(super) async fn measure_sizes(
    log: LogKind,
    options: &Common,
    sizes: &[(u16, u32)],
    output: &Output,
) -> Result<Taken, Failure> {
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let time = options.measure.unwrap_or(MEASURE);
    let place = Place::make(log, options.log_delay).await?;
    let mut bench = Bench { place, time, load: Process::start("load", &Orders::Load).await?, row: None };

    let submit = |&(participants, in_flight): &(u16, u32)| Kind::Submit { participants, in_flight };
    let mut kinds: Vec<Kind> = sizes.iter().map(submit).collect();
    kinds.extend([Kind::Unary, Kind::Nothing]);
    // Once, unmeasured: everything is read from disk, and the log has a row to look at.
    output.note("warming up");
    bench.take(Kind::Submit { participants: REFERENCE.0, in_flight: 64 }, false).await?;
    if log == LogKind::Postgres {
        output.note("looking for the ceiling");
        let best = bench.best_ceiling().await?;
        kinds.extend([best, SINGLE_ROW]);
    }
    let mut samples: Vec<Vec<Sample>> = kinds.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        output.note(format_args!("round {round} of {rounds}"));
        for (kind, samples) in kinds.iter().zip(&mut samples) {
            samples.push(bench.take(*kind, false).await?);
        }
    }
    let counted = kinds.iter().map(|_| None).collect();
    Ok(Taken { bench, log, delay: options.log_delay, rounds, kinds, samples, counted })
}

impl Taken {
    /// The samples of a kind, one of each round; none if it was not measured.
    pub(super) fn of(&self, kind: Kind) -> &[Sample] {
        self.first(|one| *one == kind)
    }

    /// The samples of the best rate at which rows are written.
    pub(super) fn ceiling(&self) -> &[Sample] {
        self.first(|kind| matches!(kind, Kind::Rows { .. }) && *kind != SINGLE_ROW)
    }

    fn first(&self, is_it: impl Fn(&Kind) -> bool) -> &[Sample] {
        let mut both = self.kinds.iter().zip(&self.samples);
        both.find(|(kind, _)| is_it(kind)).map_or(&[], |(_, samples)| samples)
    }

    /// Has everything go through relays once, but for rows: of those it says nothing.
    async fn count(&mut self) -> Result<(), Failure> {
        for (kind, counted) in self.kinds.iter().zip(&mut self.counted) {
            if !matches!(kind, Kind::Rows { .. }) {
                *counted = Some(self.bench.take(*kind, true).await?);
            }
        }
        Ok(())
    }

    /// Ends all that it was measured with, and puts the figures together.
    pub(super) async fn end(self) -> Result<Report, Failure> {
        let report = put_together(&self);
        let Bench { place, load, .. } = self.bench;
        load.stop().await?;
        place.remove().await;
        Ok(report)
    }
}

struct Bench {
    place: Place,
    load: Process,
    time: Duration,
    row: Option<SampleRow>,
}

impl Bench {
    /// Takes one measurement, on an empty log and with processes of its own. One that is counted goes
    /// through relays, and its times mean nothing.
    async fn take(&mut self, kind: Kind, counted: bool) -> Result<Sample, Failure> {
        self.place.empty().await?;
        match kind {
            Kind::Rows { batch, connections } => self.rows(batch, connections, self.time).await,
            Kind::Submit { participants, in_flight } => {
                self.system(participants, in_flight, counted, Work::Submit).await
            }
            Kind::Unary => self.system(REFERENCE.0, UNARY_IN_FLIGHT, counted, Work::UnarySubmit).await,
            Kind::Nothing => {
                let nothing = |work: SubmitWork| Work::Nothing { coordinator: work.coordinator };
                self.system(REFERENCE.0, UNARY_IN_FLIGHT, counted, nothing).await
            }
        }
    }

    async fn system(
        &mut self,
        participants: u16,
        in_flight: u32,
        counted: bool,
        work: impl FnOnce(SubmitWork) -> Work,
    ) -> Result<Sample, Failure> {
        let mut wires = if counted { Wires::counting() } else { Wires::direct() };
        let size = Size { participants, in_flight, measure: self.time };
        let sample = measure_life(&self.place, &mut self.load, size, &mut wires, work).await?;
        if self.row.is_none() {
            self.row = self.place.sample().await?;
        }
        Ok(sample)
    }

    async fn rows(&mut self, batch: usize, connections: usize, time: Duration) -> Result<Sample, Failure> {
        let row = self.row.clone().ok_or_else(|| Failure::new(Exit::Failed, "the log holds no row"))?;
        let work = Work::Rows(RowsWork {
            url: self.place.url(),
            batch,
            branches: row.branches,
            details: row.details,
        });
        let run = Run { work, in_flight: connections, warm_up: warm_up(time), measure: time };
        let watched =
            Watched::default().process("load", self.load.pid()).family("log_postgres", self.place.pid());
        measure(&mut self.load, &run, &watched, &Wires::direct()).await
    }

    /// The sizes of the statements and the number of connections at which most rows are written.
    async fn best_ceiling(&mut self) -> Result<Kind, Failure> {
        let mut best = (0.0, Kind::Rows { batch: BATCHES[0], connections: CONNECTIONS[0] });
        for connections in CONNECTIONS {
            for batch in BATCHES {
                self.place.empty().await?;
                let rate = self.rows(batch, connections, self.time / 4).await?.measured.per_second();
                if rate > best.0 {
                    best = (rate, Kind::Rows { batch, connections });
                }
            }
        }
        Ok(best.1)
    }
}

fn put_together(taken: &Taken) -> Report {
    let mut report = Report::new("commit", taken.log, taken.delay, taken.rounds);
    let rate = |samples: &[Sample]| Spread::of(samples.iter().map(|sample| sample.measured.per_second()));
    let reference = taken.of(Kind::Submit { participants: REFERENCE.0, in_flight: REFERENCE.1 });
    for ((kind, samples), counted) in taken.kinds.iter().zip(&taken.samples).zip(&taken.counted) {
        let counted = counted.as_ref();
        match *kind {
            Kind::Submit { participants, in_flight } => {
                report.runs.push(Row::new("submit", participants, in_flight, samples).counted(counted));
            }
            Kind::Unary => {
                let row = Row::new("unary-submit", REFERENCE.0, UNARY_IN_FLIGHT, samples);
                report.runs.push(row.counted(counted));
            }
            Kind::Nothing => {
                report.beside.push(Row::new("unary-nothing", 0, UNARY_IN_FLIGHT, samples).counted(counted));
            }
            Kind::Rows { batch: 1, .. } => report.beside.push(Row::new("single-row-commit", 0, 1, samples)),
            Kind::Rows { batch, connections } => {
                let in_flight = u32::try_from(connections).unwrap_or(u32::MAX);
                let mut row = Row::new("ceiling", 0, in_flight, samples);
                row.rows_per_statement = Some(batch);
                report.ceiling_rows_per_second = Some(rate(samples).median);
                if !reference.is_empty() {
                    let ratio = ratios(reference, samples, |sample| sample.measured.per_second());
                    report.ratio_to_ceiling = Some(ratio.median);
                }
                report.beside.push(row);
            }
        }
    }
    report
}
