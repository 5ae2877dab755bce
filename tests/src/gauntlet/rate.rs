//! How fast unfinished commits are driven, next to the databases alone.
//!
//! Branches are prepared by the SDK's own resource and their commits are written to the log, by
//! nobody who stays to carry them out. Two banks' processes wait; then a coordinator starts. The bare loop
//! executes COMMIT PREPARED for as many branches of the same kind on the same servers, over as many
//! connections as the SDK keeps for ending branches.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use pactum::resource::{Operation, PostgresResource, Prepared, PreparedName, Resource as _};
use pactum::{Branch, BranchId, Cluster, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_coordinator::decision_log::Proposal;
use pactum_coordinator::open_log;
use pactum_core::outcome::{DecidedBranch, Decision, DecisionRecord, Details, ProposalResult};
use serde::Serialize;

use super::arguments::Format;
use super::child::{Child, Deed, Kind, Plan};
use super::ledger::{self, BANKS};
use super::link::Link;
use super::report::{print, say};
use super::stage::Servers;
use super::tally::Tally;

/// What the SDK keeps for ending branches, in each process.
const CONNECTIONS: usize = 8;
/// Local transactions at once, while everything is being prepared.
const PREPARING: usize = 12;
/// Commits in one statement.
const BATCH: usize = 500;
/// The least part of the bare rate.
const FLOOR: f64 = 0.5;
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_mins(10);

/// The result.
#[derive(Clone, Debug, Serialize)]
struct Rate {
    branches: usize,
    /// A second, from the first branch that ended to the last.
    driven_per_second: f64,
    /// A second, by the databases alone.
    bare_per_second: f64,
    /// Of the two; at least 0.5 is asked for.
    ratio: f64,
    /// From the coordinator's start to the last branch: its start, its attaching, and all of the driving.
    seconds_from_start: f64,
    /// Rates say little of a build without optimisation.
    optimised: bool,
}

pub(super) async fn run(transactions: u32, output: Option<Format>) -> anyhow::Result<bool> {
    let room = (transactions + 100).to_string();
    let settings = [
        ("max_connections", "100"),
        ("max_prepared_transactions", &*room),
        // Each may lock that many tables; the room is shared by all.
        ("max_locks_per_transaction", "16"),
        ("shared_buffers", "64MB"),
        ("max_wal_size", "2GB"),
    ];
    let servers = Servers::start(&settings).await?;
    say(&format!("preparing {} branches and writing {transactions} commits", 2 * transactions));
    leave_commits(&servers, transactions).await?;

    let directory = tempfile::Builder::new().prefix("pactum-rate-").tempdir()?;
    let (driven, from_start) = drive(&servers, directory.path()).await?;
    say("the same by the databases alone");
    let bare = bare(&servers, transactions).await?;

    let branches = 2 * transactions as usize;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let per_second = |time: Duration| branches as f64 / time.as_secs_f64();
    let rate = Rate {
        branches,
        driven_per_second: per_second(driven),
        bare_per_second: per_second(bare),
        ratio: bare.as_secs_f64() / driven.as_secs_f64(),
        seconds_from_start: from_start.as_secs_f64(),
        optimised: !cfg!(debug_assertions),
    };
    match Format::or_default(output) {
        Format::Json => print(&serde_json::to_string(&rate)?)?,
        Format::Table => print(&format!(
            "{} branches: {:.0}/s driven, {:.0}/s by the databases alone, ratio {:.2} (at least {FLOOR}); {:.1} s from the coordinator's start",
            rate.branches, rate.driven_per_second, rate.bare_per_second, rate.ratio, rate.seconds_from_start,
        ))?,
    }
    Ok(rate.ratio >= FLOOR)
}

/// The resource that prepares, as a bank's process would: work that locks nothing but its own row.
fn resource(servers: &Servers, bank: usize) -> anyhow::Result<PostgresResource> {
    let pool = ledger::pool(&servers.bank_urls[bank], u32::try_from(PREPARING)?)?;
    Ok(PostgresResource::new(BANKS[bank], pool)?.operation("note", |bank, payload| {
        Box::pin(async move {
            let key = String::from_utf8_lossy(&payload).into_owned();
            sqlx::query("insert into ledger values ($1, 0, 0, 0)").bind(key).execute(bank).await?;
            Ok(())
        })
    }))
}

fn names(cluster: &Cluster, incarnation: Incarnation, transactions: u32, bank: usize) -> Vec<PreparedName> {
    let branch = BranchId::new(bank as u64 + 1);
    let gid = |number: u32| {
        // Version 7, in order, and above every floor of a fresh log.
        let time = 0x0190_0000_0000_u64 + u64::from(number);
        Gid::from_uuid(uuid::Builder::from_unix_timestamp_millis(time, &[7; 10]).into_uuid())
    };
    let name = |number| PreparedName {
        cluster: cluster.clone(),
        id: TransactionId { incarnation, gid: gid(number) },
        branch,
    };
    (0..transactions).map(name).collect()
}

/// Prepares every branch of a bank, and answers each with what its commit has to name.
async fn prepare(
    servers: &Servers,
    bank: usize,
    names: Vec<PreparedName>,
) -> anyhow::Result<Vec<DecidedBranch>> {
    let resource = resource(servers, bank)?;
    let operation = Operation { name: "note".into(), payload: Arc::from(&b"rate"[..]) };
    let (resource, operation) = (&resource, &operation);
    let preparing = names.into_iter().map(|name| async move {
        let id = name.branch;
        let branch = pactum::resource::BranchContext { name, deadline: Instant::now() + PATIENCE };
        let Ok(Prepared::Yes(evidence)) = resource.prepare(&branch, Some(operation)).await else {
            bail!("{} was not prepared", branch.name)
        };
        let resource = ResourceName::new(BANKS[bank])?;
        Ok(DecidedBranch {
            branch: Branch { id, resource, instance: InstanceId::NIL, marker: false },
            evidence,
        })
    });
    futures::stream::iter(preparing).buffered(PREPARING).collect::<Vec<_>>().await.into_iter().collect()
}

/// Leaves prepared branches, and commits that an incarnation wrote which has ended.
async fn leave_commits(servers: &Servers, transactions: u32) -> anyhow::Result<()> {
    let log = open_log(&servers.log_url).await?;
    let incarnation = log.start_incarnation("127.0.0.1:9").await?;
    let list = |bank| names(log.cluster(), incarnation, transactions, bank);
    let (a, b) = tokio::try_join!(prepare(servers, 0, list(0)), prepare(servers, 1, list(1)))?;
    let details = Arc::new(Details::default());
    let proposals =
        list(0).into_iter().zip(a.into_iter().zip(b)).zip(1..).map(|((name, (a, b)), number)| Proposal {
            record: DecisionRecord {
                id: name.id,
                decision: Decision::Commit,
                reason: None,
                branches: [a, b].into(),
                details: Arc::clone(&details),
            },
            number,
        });
    let proposals: Vec<Proposal> = proposals.collect();
    let mut writer = log.open_writer().await?;
    for batch in proposals.chunks(BATCH) {
        let results = writer.write(incarnation, batch).await;
        if results.iter().any(|result| *result != ProposalResult::Won) {
            bail!("the log did not take the commits: {:?}", results.first());
        }
    }
    Ok(log.end_incarnation(incarnation).await?)
}

/// Starts the banks, then a coordinator; returns the time of the driving, and that from the start.
async fn drive(servers: &Servers, directory: &Path) -> anyhow::Result<(Duration, Duration)> {
    let tally = Arc::new(Tally::default());
    let front = Arc::new(Link::start("everybody to the coordinator", None).await?);
    let start = |kind, name: &str, arguments: Vec<String>, front: Option<Arc<Link>>| {
        let arguments: Vec<String> = std::iter::once("role".into()).chain(arguments).collect();
        let plan = Plan {
            kind,
            name: name.into(),
            directory: directory.join(name),
            arguments: Box::new(move |_| arguments.clone()),
            front,
        };
        Child::start(plan, Arc::clone(&tally))
    };
    let mut banks = Vec::new();
    for (place, bank) in BANKS.iter().enumerate() {
        let arguments =
            ["bank", "--name", bank, "--database", &servers.bank_urls[place], "--coordinators", &front.url()];
        banks.push(start(Kind::Bank, bank, arguments.map(Into::into).into(), None)?);
    }
    for bank in &banks {
        bank.up().await;
    }
    let all = prepared(servers).await?;
    let started = Instant::now();
    let address = front.address().to_string();
    let arguments = ["coordinator", "--database", &servers.log_url, "--advertise", &address];
    let arguments = arguments.map(Into::into).into();
    let coordinator = start(Kind::Coordinator, "coordinator", arguments, Some(Arc::clone(&front)))?;
    let mut first = None;
    let mut before = started;
    loop {
        let left = prepared(servers).await?;
        if left < all && first.is_none() {
            first = Some(before);
        }
        if left == 0 {
            break;
        }
        if started.elapsed() > PATIENCE {
            bail!("{left} of {all} branches are still prepared after {PATIENCE:?}");
        }
        before = Instant::now();
        tokio::time::sleep(LOOK).await;
    }
    let ended = Instant::now();
    coordinator.order(Deed::End).await;
    for bank in &banks {
        bank.order(Deed::End).await;
    }
    let violations = tally.lock().violations.clone();
    if !violations.is_empty() {
        bail!("{violations:?}");
    }
    Ok((ended - first.context("nothing was prepared")?, ended - started))
}

async fn prepared(servers: &Servers) -> anyhow::Result<usize> {
    let mut count = 0;
    for books in &servers.books {
        count += books.prepared_count().await?;
    }
    Ok(count)
}

/// Prepares as much again, and ends it by COMMIT PREPARED alone.
async fn bare(servers: &Servers, transactions: u32) -> anyhow::Result<Duration> {
    let cluster = Cluster::new("bare")?;
    let list = |bank| names(&cluster, Incarnation::from_uuid(uuid::Uuid::from_u128(1)), transactions, bank);
    tokio::try_join!(prepare(servers, 0, list(0)), prepare(servers, 1, list(1)))?;
    let pools = servers.bank_urls.iter().map(|url| ledger::pool(url, u32::try_from(CONNECTIONS)?));
    let pools: Vec<_> = pools.collect::<anyhow::Result<_>>()?;
    for pool in &pools {
        // Connecting is not what is measured.
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            open.push(pool.acquire().await?);
        }
    }
    let started = Instant::now();
    let commit = |bank: usize| {
        let pool = &pools[bank];
        let statements = list(bank).into_iter().map(move |name| async move {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("COMMIT PREPARED '{name}'"))).execute(pool).await
        });
        futures::stream::iter(statements).buffer_unordered(CONNECTIONS).collect::<Vec<_>>()
    };
    let (a, b) = tokio::join!(commit(0), commit(1));
    let took = started.elapsed();
    for result in a.into_iter().chain(b) {
        result?;
    }
    Ok(took)
}
