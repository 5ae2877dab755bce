//! `pactum bench transfer`: money from one PostgreSQL database to another. By Pactum, and in the same rounds by
//! hand-written two-phase commit without and with a decision record, and within one database alone.
//!
//! ```text
//!  load ──▶ coordinator ──▶ log's server            load ──▶ hand-written ──▶ log's server (if safe)
//!               │ ▲                                              │    │
//!               ▼ │                                              ▼    ▼
//!     participant  participant                               bank 1   bank 2
//!          ▼            ▼
//!       bank 1       bank 2
//! ```
//! Each bank is a server of its own: branches of one server would share its forced writes, which two
//! services' databases do not. The log has a third, which the safe variant uses as well.

use std::time::Duration;

use super::bank::{Bank, CONNECTIONS_MAX, audit};
use super::chart;
use super::hand_written::{DECISIONS, FORGET};
use super::options::{LogKind, Transfer};
use super::place::{Place, connect};
use super::process::Process;
use super::relay::Wires;
use super::report::{Report, Row};
use super::run::{FREE, System, Watched, measure, warm_up};
use super::sample::{Sample, Spread, ratios};
use super::wire::{
    BankOrders, CoordinatorOrders, HandWrittenWork, OneDatabaseWork, Orders, Run, TransferWork, Work,
};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Transfers at once in the run that floors are about.
const REFERENCE: u32 = 64;
const ROUNDS: u32 = 9;
const MEASURE: Duration = Duration::from_secs(2);
/// The resources.
const BANKS: [&str; 2] = ["bank-1", "bank-2"];

/// Who transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Pactum.
    Pactum,
    /// By hand, with a durable decision before phase 2.
    Safe,
    /// By hand, without.
    Unsafe,
    /// In one database, with one local transaction.
    OneDatabase,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Pactum, Self::Safe, Self::Unsafe, Self::OneDatabase];

    fn name(self) -> &'static str {
        match self {
            Self::Pactum => "transfer",
            Self::Safe => "hand-written-safe",
            Self::Unsafe => "hand-written-unsafe",
            Self::OneDatabase => "one-database",
        }
    }

    /// Databases that take part in each transfer.
    fn participants(self) -> u16 {
        if self == Self::OneDatabase { 1 } else { 2 }
    }
}

/// Runs it.
pub(super) async fn run(options: &Transfer, output: &Output) -> Result<Exit, Failure> {
    chart::check(&options.common)?;
    let Compared { report, .. } = measure_all(options, output).await?;
    report.show(&options.common, output)?;
    Ok(report.exit())
}

/// The figures, and the rate of the reference run against hand-written two-phase commit.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) report: Report,
    pub(super) to_safe: Spread,
    pub(super) to_unsafe: Spread,
}

/// Measures, counts the money after each measurement, and puts the figures together.
pub(super) async fn measure_all(options: &Transfer, output: &Output) -> Result<Compared, Failure> {
    let rounds = options.common.rounds.unwrap_or(ROUNDS);
    let time = options.common.measure.unwrap_or(MEASURE);
    let mut bench = Bench::open(options, time).await?;
    output.note("warming up");
    for kind in Kind::ALL {
        bench.take(kind, options.in_flight[0], &mut Wires::direct()).await?;
    }
    let mut all: Vec<(u32, Taken)> =
        options.in_flight.iter().map(|&in_flight| (in_flight, Taken::default())).collect();
    for round in 1..=rounds {
        output.note(format_args!("round {round} of {rounds}"));
        for (in_flight, taken) in &mut all {
            for place in 0..Kind::ALL.len() {
                // There and back: what drifts falls on all alike.
                let place = if round % 2 == 0 { Kind::ALL.len() - 1 - place } else { place };
                taken.timed[place]
                    .push(bench.take(Kind::ALL[place], *in_flight, &mut Wires::direct()).await?);
            }
        }
    }
    output.note("counting what goes over the wires");
    for (in_flight, taken) in &mut all {
        for kind in Kind::ALL {
            taken.counted.push(bench.take(kind, *in_flight, &mut Wires::counting()).await?);
        }
    }
    bench.close().await?;
    let mut report = Report::new("transfer", LogKind::Postgres, options.common.log_delay, rounds);
    for (in_flight, taken) in &all {
        taken.tell(*in_flight, &mut report);
    }
    let reference = all.iter().find(|(in_flight, _)| *in_flight == REFERENCE).unwrap_or(&all[0]);
    let [own, safe, unsafe_, _] = &reference.1.timed;
    let rate = |sample: &Sample| sample.measured.per_second();
    let (to_safe, to_unsafe) = (ratios(own, safe, rate), ratios(own, unsafe_, rate));
    report.ratio_to_safe = Some(to_safe.median);
    report.ratio_to_unsafe = Some(to_unsafe.median);
    Ok(Compared { report, to_safe, to_unsafe })
}

/// The samples of one number of transfers at once, in the order of [`Kind::ALL`].
#[derive(Debug, Default)]
struct Taken {
    timed: [Vec<Sample>; Kind::ALL.len()],
    /// One of each, which went through relays: its times mean nothing.
    counted: Vec<Sample>,
}

impl Taken {
    fn tell(&self, in_flight: u32, report: &mut Report) {
        for (place, (kind, samples)) in Kind::ALL.into_iter().zip(&self.timed).enumerate() {
            let row = Row::new(kind.name(), kind.participants(), in_flight, samples);
            let row = row.counted(self.counted.get(place));
            if kind == Kind::Pactum { report.runs.push(row) } else { report.beside.push(row) }
        }
    }
}

/// Everything that stays from one measurement to the next.
struct Bench {
    place: Place,
    banks: [Bank; 2],
    load: Process,
    time: Duration,
}

impl Bench {
    async fn open(options: &Transfer, time: Duration) -> Result<Self, Failure> {
        let most = options.in_flight.iter().copied().max().unwrap_or(REFERENCE);
        let place = Place::make(LogKind::Postgres, options.common.log_delay).await?;
        let banks = [Bank::open(most).await?, Bank::open(most).await?];
        let bench = Self { place, banks, load: Process::start("load", &Orders::Load).await?, time };
        bench.at_the_log(DECISIONS).await?;
        Ok(bench)
    }

    async fn at_the_log(&self, statement: &'static str) -> Result<(), Failure> {
        let mut connection = connect(&self.place.url()).await?;
        sqlx::raw_sql(statement).execute(&mut connection).await.map(drop).map_err(|error| {
            Failure::new(Exit::Failed, "the log's server does not answer as it should").because(&error)
        })
    }

    /// Takes one measurement, on an empty log, and counts the money.
    async fn take(&mut self, kind: Kind, in_flight: u32, wires: &mut Wires) -> Result<Sample, Failure> {
        self.place.empty().await?;
        self.at_the_log(FORGET).await?;
        let before = self.place.forces().await?;
        let connections = in_flight.min(CONNECTIONS_MAX);
        let mut watched = Watched::default()
            .process("load", self.load.pid())
            .family("bank_postgres", self.banks[0].pid())
            .family("bank_postgres", self.banks[1].pid());
        let log = wires.sql(self.place.url()).await?;
        let banks = [wires.sql(self.banks[0].url()).await?, wires.sql(self.banks[1].url()).await?];
        let mut system = None;
        let work = match kind {
            Kind::Pactum => {
                let started = start(log, &banks, connections, wires).await?;
                watched = watched.system(&started, &self.place);
                let coordinator = started.url.clone();
                system = Some(started);
                Work::Transfer(TransferWork { coordinator, banks: BANKS.map(str::to_owned) })
            }
            Kind::Safe => {
                watched = watched.family("log_postgres", self.place.pid());
                Work::HandWritten(HandWrittenWork { banks, decisions: Some(log), connections })
            }
            Kind::Unsafe => Work::HandWritten(HandWrittenWork { banks, decisions: None, connections }),
            Kind::OneDatabase => {
                let [bank, _] = banks;
                Work::OneDatabase(OneDatabaseWork { bank, connections })
            }
        };
        let in_flight = usize::try_from(in_flight).unwrap_or(usize::MAX);
        let run = Run { work, in_flight, warm_up: warm_up(self.time), measure: self.time };
        let mut sample = measure(&mut self.load, &run, &watched, wires).await?;
        audit(&self.banks).await?;
        if let Some(system) = system {
            system.stop().await?;
        }
        if let (Some(before), Some(after)) = (before, self.place.forces().await?) {
            sample.set_log_syncs(after - before);
        }
        Ok(sample)
    }

    async fn close(self) -> Result<(), Failure> {
        let Self { place, banks, load, .. } = self;
        load.stop().await?;
        for bank in banks {
            bank.close().await;
        }
        place.remove().await;
        Ok(())
    }
}

/// A coordinator, and a participant for each bank.
async fn start(
    log: String,
    banks: &[String; 2],
    connections: u32,
    wires: &mut Wires,
) -> Result<System, Failure> {
    let orders = CoordinatorOrders { log, listen: FREE, prepare_record_after: None };
    let coordinator = Process::start("coordinator", &Orders::Coordinator(orders)).await?;
    let url = wires.grpc(coordinator.url()?).await?;
    let mut participants = Vec::new();
    for (resource, bank) in BANKS.into_iter().zip(banks) {
        let orders = BankOrders {
            resource: resource.to_owned(),
            coordinator: url.clone(),
            url: bank.clone(),
            connections,
        };
        participants.push(Process::start(resource, &Orders::Bank(orders)).await?);
    }
    Ok(System { coordinator, url, participants })
}
