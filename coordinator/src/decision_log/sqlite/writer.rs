//! Writes a batch of decisions in one statement, which SQLite commits and forces by itself.
//!
//! There is one connection, so nothing runs beside the statement: fence and floor are plain
//! conditions of it, and what it did not insert is there to read afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use pactum_core::id::{Gid, Incarnation, TransactionId};
use pactum_core::outcome::{Decision, DecisionRecord, ProposalResult};
use sqlx::sqlite::SqliteConnection;

use super::rows::{self, get};
use super::{Inner, database, gids_text, json, now, sql};
use crate::decision_log::batch::rounds;
use crate::decision_log::codec::{DecisionColumns, FORMAT};
use crate::decision_log::{DecisionLogError, DecisionWriter, Proposal};

/// The writer of one lane. Lanes share the log's connection.
#[derive(Debug)]
pub(super) struct SqliteWriter {
    inner: Arc<Inner>,
    spent: bool,
}

impl SqliteWriter {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, spent: false }
    }
}

/// What stands for proposals that were not inserted.
struct Found {
    floor: Gid,
    live: bool,
    /// Owners in doubt.
    doubted: BTreeSet<String>,
    records: BTreeMap<Gid, Option<DecisionRecord>>,
}

impl Found {
    fn result(&self, id: TransactionId, decision: Decision) -> ProposalResult {
        let gid = id.gid;
        if gid <= self.floor {
            return ProposalResult::Forgotten;
        }
        match (self.records.get(&gid), decision) {
            (Some(Some(record)), _) => ProposalResult::Lost(Box::new(record.clone())),
            (None, Decision::Commit) if !self.live => ProposalResult::Fenced,
            (None, Decision::Abort) if self.doubted.contains(&id.incarnation.to_string()) => {
                ProposalResult::Doubted
            }
            // A row that cannot be read, or one that is gone again.
            (Some(None) | None, _) => ProposalResult::Unknown,
        }
    }
}

/// A row as `json_each` takes it apart.
type Row<'a> = (String, String, i64, &'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>, &'a str);

fn row<'a>((proposal, columns): &'a (&Proposal, DecisionColumns)) -> Row<'a> {
    let id = proposal.record.id;
    (
        id.gid.to_string(),
        id.incarnation.to_string(),
        columns.number,
        &columns.decision,
        columns.reason_kind.as_deref(),
        columns.reason_message.as_deref(),
        columns.branches.as_deref(),
        &columns.details,
    )
}

async fn insert(
    connection: &mut SqliteConnection,
    incarnation: Incarnation,
    rows: String,
) -> Result<BTreeSet<Gid>, DecisionLogError> {
    let statement = sqlx::query_scalar::<_, String>(sql::INSERT)
        .bind(rows)
        .bind(incarnation.to_string())
        .bind(FORMAT)
        .bind(now());
    let won = statement.fetch_all(connection).await.map_err(database)?;
    won.iter().map(|gid| gid.parse().map_err(rows::unreadable)).collect()
}

async fn read(
    connection: &mut SqliteConnection,
    incarnation: Incarnation,
    gids: String,
    owners: String,
) -> Result<Found, DecisionLogError> {
    let statement = sqlx::query(sql::READ).bind(gids).bind(incarnation.to_string()).bind(owners);
    let found = statement.fetch_all(connection).await.map_err(database)?;
    let first = found.first().ok_or_else(rows::no_state)?;
    let (floor, live) = (rows::gid(first, "floor")?, get::<bool>(first, "live")?);
    let doubted = serde_json::from_str(&get::<String>(first, "doubted")?)
        .map_err(|error| DecisionLogError::Database(Box::new(error)))?;
    let mut records = BTreeMap::new();
    for row in &found {
        if get::<Option<String>>(row, "gid")?.is_some() {
            let (gid, record) = (rows::gid(row, "gid")?, rows::decision(row));
            if let Err(error) = &record {
                tracing::error!(%gid, %error, "a record in the decision log cannot be read");
            }
            records.insert(gid, record.ok());
        }
    }
    Ok(Found { floor, live, doubted, records })
}

#[async_trait]
impl DecisionWriter for SqliteWriter {
    async fn write(&mut self, incarnation: Incarnation, proposals: &[Proposal]) -> Vec<ProposalResult> {
        let mut results = vec![ProposalResult::Unknown; proposals.len()];
        if self.spent {
            return results;
        }
        self.spent = true;
        for round in rounds(incarnation, proposals) {
            let (places, written): (Vec<usize>, Vec<_>) = round.into_iter().unzip();
            let rows = json(&written.iter().map(row).collect::<Vec<_>>());
            let won = self.inner.run(move |connection| Box::pin(insert(connection, incarnation, rows))).await;
            let won = match won {
                Ok(won) => won,
                Err(error) => {
                    tracing::warn!(%error, rows = written.len(), "the decision log's answer to a batch is unknown");
                    return results;
                }
            };
            let gids = written.iter().map(|(proposal, _)| &proposal.record.id.gid);
            let open: Vec<&Gid> = gids.filter(|gid| !won.contains(gid)).collect();
            let found = if open.is_empty() {
                None
            } else {
                let gids = gids_text(open);
                let owners = written.iter().map(|(proposal, _)| proposal.record.id.incarnation.to_string());
                let owners = json(&owners.collect::<BTreeSet<String>>());
                let found = self
                    .inner
                    .run(move |connection| Box::pin(read(connection, incarnation, gids, owners)))
                    .await;
                found.inspect_err(|error| tracing::warn!(%error, "what stands could not be read")).ok()
            };
            for (place, (proposal, _)) in places.into_iter().zip(&written) {
                let (id, decision) = (proposal.record.id, proposal.record.decision);
                results[place] = match &found {
                    _ if won.contains(&id.gid) => ProposalResult::Won,
                    Some(found) => found.result(id, decision),
                    None => ProposalResult::Unknown,
                };
            }
        }
        self.spent = results.contains(&ProposalResult::Unknown);
        results
    }
}
