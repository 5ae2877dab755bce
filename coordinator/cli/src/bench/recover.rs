//! `pactum bench recover`: how fast a coordinator that starts finishes what it finds decided and unfinished.
//!
//! ```text
//!  rows of an ended incarnation ─▶ coordinator starts ─▶ ready ─▶ participants start ─▶ all finished
//!                                                          └───────── measured ─────────────┘
//! ```
//!
//! The clock starts when the coordinator is ready, hence when it begins to look for what is unfinished, and
//! before its participants are started: what they need to start and to attach is measured too. It stops when
//! the coordinator's counter of recovered transactions says that every branch of every one has ended. The bare
//! loop beside it is told all names, and its clock starts as it connects.

mod prepared;
mod unfinished;

use std::time::Duration;

use pactum_core::id::{BranchId, Incarnation, InstanceId};
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use self::prepared::{BANKS, Banks};
use self::unfinished::{Commit, Voted, branches_text, gids};
use super::metrics::Metrics;
use super::options::{LogKind, Recover};
use super::place::Place;
use super::process::Process;
use super::report::Head;
use super::run::FREE;
use super::sample::Spread;
use super::wire::{CoordinatorOrders, IdleOrders, KeeperOrders, Orders};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::{render, table};

/// What has not finished by then never will.
const FINISH_WITHIN: Duration = Duration::from_mins(5);
/// Between two looks into the log.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Counts commits of ended incarnations, each when its last branch has ended.
const RECOVERED: &str = "pactum_recovered_transactions_total";
/// Participants of the first part.
const IDLE: [&str; 2] = ["idle-1", "idle-2"];

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    head: Head,
    pub(super) runs: Vec<Row>,
    /// Branches that ended otherwise than decided; more than none is a fault.
    pub(super) errors: u64,
}

/// Figures of one part: over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// `log`: commits whose branches do nothing. `prepared`: with PREPARE TRANSACTION.
    pub(super) kind: &'static str,
    pub(super) participants: usize,
    pub(super) transactions: u32,
    pub(super) branches: u32,
    /// From the coordinator's being ready until every branch has ended.
    pub(super) seconds: Spread,
    pub(super) transactions_per_second: f64,
    pub(super) branches_per_second: f64,
    /// The same until the log lists none as unfinished: end records are lazy.
    recorded_seconds: Spread,
    /// What the coordinator's process took to be ready.
    coordinator_start_seconds: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_database: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bare_loop_seconds: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio_to_bare_loop: Option<Spread>,
}

/// One recovery.
#[derive(Clone, Copy, Debug)]
struct Recovered {
    start: Duration,
    finished: Duration,
    recorded: Duration,
}

/// Runs it.
pub(super) async fn run(options: &Recover, output: &Output) -> Result<Exit, Failure> {
    let report = measure_all(options, output).await?;
    report.show(output)?;
    Ok(if report.errors == 0 { Exit::Ok } else { Exit::Failed })
}

/// Measures, and puts the figures together.
pub(super) async fn measure_all(options: &Recover, output: &Output) -> Result<Report, Failure> {
    let place = Place::make(LogKind::Postgres, options.repeated.log_delay).await?;
    // Once for nothing: it makes the log's tables and draws the name that prepared branches bear.
    coordinator(&place).await?.stop().await?;
    let mut report = Report {
        head: Head::new("recover", LogKind::Postgres, options.repeated.log_delay, options.repeated.rounds),
        runs: Vec::new(),
        errors: 0,
    };
    if !options.prepared_only {
        report.runs.push(of_log(options, &place, output).await?);
    }
    if !options.log_only {
        report.runs.push(of_prepared(options, &place, output).await?);
    }
    report.errors = unfinished::heuristics(&place.url()).await?;
    place.remove().await;
    Ok(report)
}

/// Commits whose branches do nothing.
async fn of_log(options: &Recover, place: &Place, output: &Output) -> Result<Row, Failure> {
    let mut all = Vec::new();
    let instance = InstanceId::from_uuid(Uuid::new_v4());
    let voted = IDLE.iter().zip(1..).map(|(resource, branch)| Voted {
        branch: BranchId::new(branch),
        resource,
        // As long as those of PostgreSQL.
        execution: "18446744073",
        anchor: "7412345678901234567/00000001/0/1A2B3C4D",
    });
    let branches = branches_text(&voted.collect::<Vec<_>>(), instance)?;
    for round in 1..=options.repeated.rounds {
        output.note(format_args!(
            "{} commits in the log, round {round} of {}",
            options.commits, options.repeated.rounds
        ));
        place.empty().await?;
        let commit = |gid| Commit { gid, branches: branches.clone() };
        let commits: Vec<Commit> = gids(options.commits).into_iter().map(commit).collect();
        let incarnation = Incarnation::from_uuid(Uuid::now_v7());
        let participant = |place: usize, coordinator: String| {
            Orders::Idle(IdleOrders { resource: IDLE[place].to_owned(), coordinator })
        };
        all.push(recover(place, incarnation, &commits, participant).await?);
    }
    Ok(Row::new("log", options.commits, &all))
}

/// Branches prepared in two databases, in turn with the bare loop over an equal set.
async fn of_prepared(options: &Recover, place: &Place, output: &Output) -> Result<Row, Failure> {
    let banks = Banks::start(options.prepared, options.connections).await?;
    let cluster = unfinished::cluster(&place.url()).await?;
    let transactions = options.prepared / 2;
    let (mut all, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=options.repeated.rounds {
        output.note(format_args!(
            "{} prepared branches, round {round} of {}",
            options.prepared, options.repeated.rounds
        ));
        // Whoever is second finds the server's memory warmer, so they take turns.
        let turns = if round % 2 == 1 { [true, false] } else { [false, true] };
        for is_bare in turns {
            banks.empty().await?;
            place.empty().await?;
            let set = banks.prepare(&cluster, transactions).await?;
            if is_bare {
                bare.push(banks.bare_loop(&set).await?);
            } else {
                let participant = |place: usize, coordinator: String| {
                    Orders::Keeper(KeeperOrders {
                        resource: BANKS[place].0.to_owned(),
                        coordinator,
                        database: banks.urls()[place].clone(),
                        connections: options.connections,
                    })
                };
                all.push(recover(place, set.incarnation(), &set.commits()?, participant).await?);
            }
            banks.check(transactions).await?;
        }
    }
    banks.remove().await;
    let mut row = Row::new("prepared", transactions, &all);
    row.connections_per_database = Some(options.connections);
    row.bare_loop_seconds = Some(Spread::of(bare.iter().map(Duration::as_secs_f64)));
    let pairs = all.iter().zip(&bare);
    // Round by round: what disturbs the machine disturbs both of a round.
    row.ratio_to_bare_loop =
        Some(Spread::of(pairs.map(|(own, bare)| bare.as_secs_f64() / own.finished.as_secs_f64())));
    Ok(row)
}

/// Leaves these commits in the log, starts a coordinator and two participants, and waits until all have finished.
async fn recover(
    place: &Place,
    incarnation: Incarnation,
    commits: &[Commit],
    participant: impl Fn(usize, String) -> Orders,
) -> Result<Recovered, Failure> {
    unfinished::leave(&place.url(), incarnation, commits).await?;
    let began = Instant::now();
    let coordinator = coordinator(place).await?;
    let start = began.elapsed();
    let ready = Instant::now();
    let url = coordinator.url()?;
    let start_one = |number: usize| {
        let orders = participant(number, url.clone());
        async move { Process::start(format!("participant {}", number + 1), &orders).await }
    };
    let participants = tokio::try_join!(start_one(0), start_one(1))?;
    let metrics = Metrics::of(&coordinator)?;
    metrics.reach(RECOVERED, commits.len() as u64, FINISH_WITHIN).await?;
    let finished = ready.elapsed();
    unfinished::until_none_is_left(&place.url(), incarnation).await?;
    let recorded = ready.elapsed();
    participants.0.stop().await?;
    participants.1.stop().await?;
    coordinator.stop().await?;
    Ok(Recovered { start, finished, recorded })
}

async fn coordinator(place: &Place) -> Result<Process, Failure> {
    let orders = CoordinatorOrders { log: place.url(), listen: FREE, prepare_record_after: None };
    Process::start("coordinator", &Orders::Coordinator(orders)).await
}

/// A failure of the measurement itself.
fn failed(sentence: &str) -> Failure {
    Failure::new(Exit::Failed, sentence)
}

impl Row {
    fn new(kind: &'static str, transactions: u32, all: &[Recovered]) -> Self {
        let of = |part: fn(&Recovered) -> Duration| Spread::of(all.iter().map(|one| part(one).as_secs_f64()));
        let seconds = of(|one| one.finished);
        let per_second = |count: u32| f64::from(count) / seconds.median.max(f64::MIN_POSITIVE);
        let branches = transactions * 2;
        Self {
            kind,
            participants: 2,
            transactions,
            branches,
            seconds,
            transactions_per_second: per_second(transactions),
            branches_per_second: per_second(branches),
            recorded_seconds: of(|one| one.recorded),
            coordinator_start_seconds: of(|one| one.start),
            connections_per_database: None,
            bare_loop_seconds: None,
            ratio_to_bare_loop: None,
        }
    }
}

impl Report {
    fn show(&self, output: &Output) -> Result<(), Failure> {
        if !output.for_people() {
            return output.document(self);
        }
        let header = [
            "WHAT",
            "TRANSACTIONS",
            "SECONDS",
            "RANGE",
            "BRANCHES/S",
            "RECORDED S",
            "START S",
            "BARE LOOP S",
            "RATIO",
        ];
        let mut rows = table(header);
        for row in &self.runs {
            rows.add_row([
                row.kind.to_owned(),
                row.transactions.to_string(),
                format!("{:.2}", row.seconds.median),
                format!("{:.2}-{:.2}", row.seconds.min, row.seconds.max),
                format!("{:.0}", row.branches_per_second),
                format!("{:.2}", row.recorded_seconds.median),
                format!("{:.2}", row.coordinator_start_seconds.median),
                row.bare_loop_seconds.map_or_else(|| "-".to_owned(), |bare| format!("{:.2}", bare.median)),
                row.ratio_to_bare_loop.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median)),
            ]);
        }
        output.text(format_args!("{}\n\n{}", render(&rows), self.head.machine))
    }
}
