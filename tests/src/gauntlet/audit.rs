//! The end of a run: load stops, everything heals, and whatever is left is asked about.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use pactum::application::Standing;
use pactum::{Gid, Pactum};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Row, types::Uuid};

use super::checker::{self, Decision, History, Settled};
use super::child::Deed;
use super::journal::{self, Shape, Told, Transfer};
use super::stage::Stage;

/// After the last fault and the last request, everything is finished within this; a wrong
/// program fails here.
const QUIET_MAX: Duration = Duration::from_mins(1);
/// How long one question at the end may take.
const SETTLE_MAX: Duration = Duration::from_secs(30);
/// Questions at once.
const QUESTIONS: usize = 64;
/// Definite answers that are asked for again at the end, of another coordinator.
const ASKED_AGAIN_MAX: usize = 2_000;

/// What the end came to.
#[derive(Debug)]
pub(crate) struct Audit {
    pub(crate) transfers: usize,
    pub(crate) committed: usize,
    pub(crate) aborted: usize,
    /// Answers that said nothing definite.
    pub(crate) unknown_answers: usize,
    /// Transfers whose application was killed before it heard.
    pub(crate) unheard: usize,
    /// Errors that promised that nothing happened.
    pub(crate) refused: usize,
    pub(crate) left_in_doubt: usize,
    pub(crate) violations: Vec<String>,
}

/// Ends the applications' work and waits until nobody is in doubt any more; returns how much is
/// left.
pub(crate) async fn quiet(stage: &Stage) -> usize {
    let ends = stage.applications.iter().map(|application| application.order(Deed::End));
    futures::future::join_all(ends).await;
    let deadline = Instant::now() + QUIET_MAX;
    loop {
        let left = left(stage).await;
        if left == Some(0) {
            return 0;
        }
        if Instant::now() > deadline {
            return left.unwrap_or(1);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Branches that are prepared, and transactions that a coordinator holds unfinished. `None`: not
/// everything could be looked at.
async fn left(stage: &Stage) -> Option<usize> {
    let mut left = 0;
    for books in &stage.servers.books {
        left += books.prepared().await.ok()?.len();
    }
    let open: u64 = stage.coordinators.iter().map(|coordinator| coordinator.status().open).sum();
    Some(left + usize::try_from(open).ok()?)
}

/// Asks about everything unknown, reads everything, and checks.
pub(crate) async fn audit(stage: &Stage, left_in_doubt: usize) -> anyhow::Result<Audit> {
    let mut history = History::default();
    for application in &stage.applications {
        history.transfers.extend(journal::read(&application.directory)?);
    }
    read_decisions(stage, &mut history).await?;
    settle(stage, &mut history).await?;
    for (place, books) in stage.servers.books.iter().enumerate() {
        let statement = books.statement().await.with_context(|| format!("the books of bank {place}"))?;
        history.statements.push(statement);
    }
    let mut violations = std::mem::take(&mut stage.tally.lock().violations);
    for child in stage.children() {
        let status = child.status();
        if status.violations > 0 {
            violations.push(format!("{} saw the protocol broken {} times", child.name, status.violations));
        }
    }
    let panics = stage.log_lines("panicked at");
    violations.extend(panics.into_iter().map(|line| format!("a panic: {line}")));
    violations.extend(checker::check(&history));

    let told = |told: Told| history.transfers.iter().filter(|transfer| transfer.told == Some(told)).count();
    let done: std::collections::HashSet<&str> = history
        .statements
        .iter()
        .flat_map(|statement| statement.lines.iter().map(|line| &*line.leg.key))
        .collect();
    let open = history.settled.values().filter(|settled| **settled == Settled::Open).count();
    Ok(Audit {
        transfers: history.transfers.len(),
        committed: done.len(),
        aborted: history.transfers.len().saturating_sub(done.len()),
        unknown_answers: told(Told::Unknown),
        unheard: history.transfers.iter().filter(|transfer| transfer.told.is_none()).count(),
        refused: told(Told::Refused),
        left_in_doubt: left_in_doubt + open,
        violations,
    })
}

/// The label under which a transaction carries its key.
fn key_of(details: &str) -> Option<String> {
    let details: serde_json::Value = serde_json::from_str(details).ok()?;
    Some(details.get("labels")?.get("key")?.as_str()?.to_owned())
}

async fn read_decisions(stage: &Stage, history: &mut History) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new().max_connections(1).connect(&stage.servers.log_url).await?;
    let rows = sqlx::query("select gid, decision = 'commit', details from pactum.decisions");
    for row in rows.fetch_all(&pool).await? {
        let gid: Uuid = row.try_get(0)?;
        let decision = Decision { gid: Gid::from_uuid(gid), commit: row.try_get(1)? };
        let Some(key) = key_of(row.try_get(2)?) else {
            history.strangers.push(decision);
            continue;
        };
        // A one-shot that certainly did not start is tried under another gid: the one that
        // committed counts, and there may be but one.
        match history.decisions.get(&key) {
            Some(known) if known.commit => history.strangers.push(decision),
            _ => drop(history.decisions.insert(key, decision)),
        }
    }
    pool.close().await;
    Ok(())
}

/// Asks what became of whatever its application does not know for certain, and of a share of what it
/// does.
async fn settle(stage: &Stage, history: &mut History) -> anyhow::Result<()> {
    let urls: Vec<String> =
        stage.coordinators.iter().zip(&stage.fronts).map(|(_, front)| front.url()).collect();
    let pactum = Arc::new(Pactum::builder(urls).connect().await.context("no coordinator serves at the end")?);
    let mut again = 0;
    let mut questions = Vec::new();
    for transfer in history.transfers.iter().filter(|transfer| transfer.asked) {
        let Some(id) = transfer.id else { continue };
        let heard = matches!(transfer.told, Some(Told::Committed | Told::Aborted | Told::Refused));
        if heard {
            again += 1;
        }
        if !heard || again <= ASKED_AGAIN_MAX {
            questions.push((transfer.key.clone(), id, transfer.branches.clone()));
        }
    }
    let asking = questions.into_iter().map(|(key, id, branches)| {
        let pactum = Arc::clone(&pactum);
        async move {
            let deadline = Instant::now() + SETTLE_MAX;
            loop {
                match pactum.outcome(id, branches.clone()).await {
                    Ok(Standing::Decided(outcome)) => {
                        let settled =
                            if outcome.is_committed() { Settled::Committed } else { Settled::Aborted };
                        return (key, settled);
                    }
                    Ok(Standing::NoRecord) => return (key, Settled::NoRecord),
                    _ if Instant::now() > deadline => return (key, Settled::Open),
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
    });
    let settled: Vec<(String, Settled)> =
        futures::stream::iter(asking).buffer_unordered(QUESTIONS).collect().await;
    history.settled = settled.into_iter().collect::<HashMap<_, _>>();
    // A one-shot whose application was killed has no gid that anybody knows: the log is asked by its key.
    for transfer in history.transfers.iter().filter(|transfer| is_nameless(transfer)) {
        let settled = match history.decisions.get(&transfer.key) {
            Some(Decision { commit: true, .. }) => Settled::Committed,
            Some(Decision { commit: false, .. }) => Settled::Aborted,
            None => Settled::NoRecord,
        };
        history.settled.insert(transfer.key.clone(), settled);
    }
    Ok(())
}

fn is_nameless(transfer: &Transfer) -> bool {
    transfer.shape == Shape::OneShot && transfer.told.is_none() && transfer.id.is_none()
}
