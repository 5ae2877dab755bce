//! `pactum bench open`: what one open transaction costs a coordinator in memory.
//!
//! Transactions are begun by calls, each with a label, and get a branch at two participants; then they stay
//! as they are, as while their application is at work. A first hundredth is opened before the first look at
//! the memory, so that connections and buffers are in it and not in the growth.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::metrics::Metrics;
use super::options::{LogKind, Open, Records};
use super::place::Place;
use super::process::Process;
use super::report::Head;
use super::run::FREE;
use super::usage;
use super::wire::{CoordinatorOrders, Open as OpenMore, OpenerOrders, Orders, Report as Said};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::{render, table};

/// Whose branches they have.
const RESOURCES: [&str; 2] = ["idle-1", "idle-2"];
/// Open transactions, as the coordinator counts them.
const OPEN: &str = "pactum_transactions_in_flight";
/// What is not as it should be by then never will be.
const WITHIN: Duration = Duration::from_mins(3);
/// The age at which transactions are recorded where none shall be: none grows so old.
const NEVER: Duration = Duration::from_hours(24);
/// Records come a second after their transactions; if none has come for so long, none will.
const NO_MORE_AFTER: Duration = Duration::from_secs(4);
/// The memory is looked at so often, and the least counts: what was freed goes back a little later.
const LOOKS: u32 = 10;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    head: Head,
    pub(super) runs: Vec<Row>,
    /// The most of all runs.
    pub(super) bytes_per_transaction: f64,
    errors: u64,
}

/// Figures of one run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// Whether the log was told of each as undecided: `without` or `with`.
    pub(super) records: &'static str,
    pub(super) transactions: u32,
    participants: usize,
    labels: u32,
    /// Growth of the resident memory, spread over the transactions that it grew by.
    pub(super) bytes_per_transaction: f64,
    /// With a hundredth of the transactions open.
    resident_mib_before: f64,
    /// With all.
    resident_mib: f64,
    peak_mib: f64,
    opened_per_second: f64,
    /// Of how many the log holds a record: a coordinator leaves out those that it has no time for.
    pub(super) recorded: u64,
}

/// Runs it.
pub(super) async fn run(options: &Open, output: &Output) -> Result<Exit, Failure> {
    let report = measure_all(options, output).await?;
    report.show(output)?;
    Ok(Exit::Ok)
}

/// Measures, and puts the figures together.
pub(super) async fn measure_all(options: &Open, output: &Output) -> Result<Report, Failure> {
    let place = Place::make(LogKind::Postgres, None).await?;
    let mut runs = Vec::new();
    for records in &options.records {
        output.note(format_args!("{} open transactions, {} records", options.transactions, records.name()));
        place.empty().await?;
        runs.push(measure(options.transactions, *records, &place).await?);
    }
    place.remove().await;
    Ok(Report {
        head: Head::new("open", LogKind::Postgres, None, None),
        bytes_per_transaction: runs.iter().map(|row| row.bytes_per_transaction).fold(0.0, f64::max),
        runs,
        // Whatever goes wrong ends the measurement.
        errors: 0,
    })
}

async fn measure(transactions: u32, records: Records, place: &Place) -> Result<Row, Failure> {
    let prepare_record_after = match records {
        Records::Without => Some(NEVER),
        Records::With => None,
    };
    let orders = CoordinatorOrders { log: place.url(), listen: FREE, prepare_record_after };
    let coordinator = Process::start("coordinator", &Orders::Coordinator(orders)).await?;
    let resources = RESOURCES.map(str::to_owned).to_vec();
    let orders = OpenerOrders { coordinator: coordinator.url()?, resources };
    let mut opener = Process::start("the opener", &Orders::Opener(orders)).await?;
    let metrics = Metrics::of(&coordinator)?;

    let first = transactions / 100;
    open(&mut opener, first).await?;
    let before = settled(&coordinator, &metrics, place, first, records).await?;
    let rest = transactions - first;
    let seconds = open(&mut opener, rest).await?;
    let after = settled(&coordinator, &metrics, place, transactions, records).await?;
    let recorded = undecided(place).await?;
    let peak = usage::known(usage::peak_memory(coordinator.pid(), false))?;
    // In order it would wait for them, and with the opener gone abort them all; nothing was promised.
    coordinator.kill().await?;
    opener.stop().await?;

    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    let (mib, growth) = (|bytes: u64| bytes as f64 / 1_048_576.0, after as f64 - before as f64);
    Ok(Row {
        records: records.name(),
        transactions,
        participants: RESOURCES.len(),
        labels: 1,
        bytes_per_transaction: growth / f64::from(rest),
        resident_mib_before: mib(before),
        resident_mib: mib(after),
        peak_mib: mib(peak),
        opened_per_second: f64::from(rest) / seconds.max(f64::MIN_POSITIVE),
        recorded,
    })
}

async fn open(opener: &mut Process, transactions: u32) -> Result<f64, Failure> {
    opener.tell(&OpenMore { transactions }).await?;
    let said = opener.hear().await?;
    if let Said::Opened { seconds } = said { Ok(seconds) } else { Err(opener.unexpected(&said)) }
}

/// The coordinator's memory when so many are open, and recorded if they shall be.
async fn settled(
    coordinator: &Process,
    metrics: &Metrics,
    place: &Place,
    transactions: u32,
    records: Records,
) -> Result<u64, Failure> {
    metrics.reach(OPEN, u64::from(transactions), WITHIN).await?;
    if records == Records::With {
        until_recorded(place, transactions).await?;
    }
    let mut least = u64::MAX;
    for _ in 0..LOOKS {
        sleep(LOOK_AGAIN_AFTER).await;
        least = least.min(usage::known(usage::resident_memory(coordinator.pid()))?);
    }
    Ok(least)
}

/// Waits until all are recorded, or until no more records come: whoever is in the way of a coordinator's
/// own work is left out, since records are for people only.
async fn until_recorded(place: &Place, transactions: u32) -> Result<(), Failure> {
    let (mut recorded, mut since) = (undecided(place).await?, Instant::now());
    while recorded < u64::from(transactions) && since.elapsed() < NO_MORE_AFTER {
        sleep(LOOK_AGAIN_AFTER).await;
        let now = undecided(place).await?;
        if now != recorded {
            (recorded, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Records in the log of transactions that are undecided.
async fn undecided(place: &Place) -> Result<u64, Failure> {
    place.count("SELECT count(*) FROM pactum.undecided").await
}

impl Report {
    fn show(&self, output: &Output) -> Result<(), Failure> {
        if !output.for_people() {
            return output.document(self);
        }
        let mut rows = table([
            "RECORDS",
            "TRANSACTIONS",
            "BYTES EACH",
            "MIB BEFORE",
            "MIB",
            "PEAK MIB",
            "OPENED/S",
            "RECORDED",
        ]);
        for row in &self.runs {
            rows.add_row([
                row.records.to_owned(),
                row.transactions.to_string(),
                format!("{:.0}", row.bytes_per_transaction),
                format!("{:.1}", row.resident_mib_before),
                format!("{:.1}", row.resident_mib),
                format!("{:.1}", row.peak_mib),
                format!("{:.0}", row.opened_per_second),
                row.recorded.to_string(),
            ]);
        }
        output.text(format_args!("{}\n\n{}", render(&rows), self.head.machine))
    }
}
