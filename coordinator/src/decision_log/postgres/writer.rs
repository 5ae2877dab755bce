//! Writes a batch of decisions in one statement: the critical path.
//!
//! Each part of the statement is there for a trace that broke without it (`failure-matrix` H1 and
//! H8); every one has a test on a real server:
//! * the fence row is read `FOR SHARE`, so ending an incarnation waits for the batches that saw it
//!   live, and a batch that waited for the end sees it; `FOR KEY SHARE` and advisory locks do not;
//! * the floor row likewise: an insert that was blocked while the floor was raised writes nothing;
//! * `ORDER BY gid`: two batches that meet on several gids wait in one order and never deadlock;
//! * what was not inserted is read by a *second* statement, whose snapshot is taken after the wait:
//!   a union within the first sees neither the new row nor the old;
//! * such rows are handed out after a barrier, a forced write later than the reading (B6);
//! * one statement without BEGIN: nothing can be left open, and one force serves the batch.

use std::collections::BTreeMap;

use async_trait::async_trait;
use pactum_core::id::{Gid, Incarnation};
use pactum_core::outcome::{Decision, DecisionRecord, ProposalResult};
use sqlx::Row as _;
use uuid::Uuid;

use super::rows;
use super::session::{Session, SessionError};
use crate::decision_log::batch::rounds;
use crate::decision_log::codec::{DecisionColumns, FORMAT};
use crate::decision_log::{DecisionLogError, DecisionWriter, Proposal};

/// `$1` our incarnation, `$2`… the columns, `$10` the format. A commit needs its own incarnation's
/// fence; the sub-select is evaluated only when there is a commit, so aborts wait for no fence.
const INSERT: &str = "\
WITH fence AS MATERIALIZED (
    SELECT id FROM pactum.incarnations WHERE id = $1 AND ended_at IS NULL FOR SHARE
), state AS MATERIALIZED (
    SELECT floor FROM pactum.log_state FOR SHARE
)
INSERT INTO pactum.decisions
    (gid, incarnation, number, decision, reason_kind, reason_message, branches, details, format)
SELECT p.gid, p.incarnation, p.number, p.decision, p.reason_kind, p.reason_message, p.branches,
       p.details, $10::int2
FROM state CROSS JOIN unnest($2::uuid[], $3::uuid[], $4::int8[], $5::text[], $6::text[], $7::text[],
                             $8::text[], $9::text[])
    AS p (gid, incarnation, number, decision, reason_kind, reason_message, branches, details)
WHERE p.gid > state.floor AND (p.number = 0 OR p.incarnation = (SELECT id FROM fence))
ORDER BY p.gid
ON CONFLICT (gid) DO NOTHING
RETURNING gid";

/// At least one row, for the floor and the fence; then a row for each gid that stands.
const READ: &str = "\
SELECT s.floor,
       EXISTS (SELECT FROM pactum.incarnations i WHERE i.id = $2 AND i.ended_at IS NULL) AS live,
       d.gid, d.incarnation, d.number, d.decision, d.reason_kind, d.reason_message, d.branches,
       d.details, d.format
FROM pactum.log_state s LEFT JOIN pactum.decisions d ON d.gid = ANY ($1)";

/// The writer of one lane.
#[derive(Debug)]
pub(super) struct PostgresWriter {
    session: Session,
    /// A statement was begun and not answered: nothing more may be sent here.
    spent: bool,
}

/// The answers to one round, and whether the connection may be used again.
struct Answers {
    results: Vec<ProposalResult>,
    spent: bool,
}

/// What was found for proposals that were not inserted.
struct Found {
    floor: Gid,
    live: bool,
    /// `None`: a row stands that cannot be read.
    records: BTreeMap<Gid, Option<DecisionRecord>>,
}

impl PostgresWriter {
    pub(super) fn new(session: Session) -> Self {
        Self { session, spent: false }
    }

    /// Writes proposals of different gids, sorted by gid.
    async fn write_distinct(
        &mut self,
        incarnation: Incarnation,
        rows: &[(&Proposal, DecisionColumns)],
    ) -> Result<Answers, SessionError> {
        let mut won = self.insert(incarnation, rows).await?;
        if won.len() == rows.len() {
            return Ok(Answers { results: vec![ProposalResult::Won; rows.len()], spent: false });
        }
        won.sort_unstable();
        let is_won = |gid: &Gid| won.binary_search(gid.as_uuid()).is_ok();
        let gids = rows.iter().map(|(proposal, _)| proposal.record.id.gid);
        let open: Vec<Uuid> = gids.filter(|gid| !is_won(gid)).map(|gid| *gid.as_uuid()).collect();
        // If that fails, what was inserted is durable all the same.
        let found = self.read_and_force(incarnation, &open).await;
        if let Err(error) = &found {
            tracing::warn!(%error, rows = open.len(), "what stands in the decision log could not be read");
        }
        let result = |proposal: &Proposal| match &found {
            _ if is_won(&proposal.record.id.gid) => ProposalResult::Won,
            Ok(found) => found.result(proposal),
            Err(_) => ProposalResult::Unknown,
        };
        Ok(Answers {
            results: rows.iter().map(|(proposal, _)| result(proposal)).collect(),
            spent: found.is_err(),
        })
    }

    async fn insert(
        &mut self,
        incarnation: Incarnation,
        rows: &[(&Proposal, DecisionColumns)],
    ) -> Result<Vec<Uuid>, SessionError> {
        let ids = || rows.iter().map(|(proposal, _)| proposal.record.id);
        let columns = || rows.iter().map(|(_, columns)| columns);
        let gids: Vec<Uuid> = ids().map(|id| *id.gid.as_uuid()).collect();
        let incarnations: Vec<Uuid> = ids().map(|id| *id.incarnation.as_uuid()).collect();
        let numbers: Vec<i64> = columns().map(|c| c.number).collect();
        let decisions: Vec<&str> = columns().map(|c| &*c.decision).collect();
        let kinds: Vec<Option<&str>> = columns().map(|c| c.reason_kind.as_deref()).collect();
        let messages: Vec<Option<&str>> = columns().map(|c| c.reason_message.as_deref()).collect();
        let branches: Vec<Option<&str>> = columns().map(|c| c.branches.as_deref()).collect();
        let details: Vec<&str> = columns().map(|c| c.details.as_str()).collect();
        let statement = sqlx::query_scalar::<_, Uuid>(INSERT)
            .bind(*incarnation.as_uuid())
            .bind(gids)
            .bind(incarnations)
            .bind(numbers)
            .bind(decisions)
            .bind(kinds)
            .bind(messages)
            .bind(branches)
            .bind(details)
            .bind(FORMAT)
            .fetch_all(&mut self.session.connection);
        self.session.notices.watch(self.session.limit, statement).await
    }

    /// Reads what stands, then forces a write of our own.
    async fn read_and_force(
        &mut self,
        incarnation: Incarnation,
        gids: &[Uuid],
    ) -> Result<Found, DecisionLogError> {
        let statement =
            sqlx::query(READ).bind(gids).bind(*incarnation.as_uuid()).fetch_all(&mut self.session.connection);
        let rows = self.session.notices.watch(self.session.limit, statement).await?;
        self.session.barrier().await?;
        let Some(first) = rows.first() else {
            return Err(rows::no_state());
        };
        let mut found = Found {
            floor: Gid::from_uuid(first.try_get("floor").map_err(SessionError::from)?),
            live: first.try_get("live").map_err(SessionError::from)?,
            records: BTreeMap::new(),
        };
        for row in &rows {
            let Some(gid) = row.try_get::<Option<Uuid>, _>("gid").map_err(SessionError::from)? else {
                continue;
            };
            let record = rows::decision(row);
            if let Err(error) = &record {
                tracing::error!(%gid, %error, "a record in the decision log cannot be read");
            }
            found.records.insert(Gid::from_uuid(gid), record.ok());
        }
        Ok(found)
    }
}

impl Found {
    fn result(&self, proposal: &Proposal) -> ProposalResult {
        let gid = proposal.record.id.gid;
        // The floor first: what lies under it is not answered, whether or not its row is deleted yet.
        if gid <= self.floor {
            return ProposalResult::Forgotten;
        }
        match (self.records.get(&gid), proposal.record.decision) {
            (Some(Some(record)), _) => ProposalResult::Lost(Box::new(record.clone())),
            (None, Decision::Commit) if !self.live => ProposalResult::Fenced,
            // A row that cannot be read. Or neither inserted nor there: what stood in the way has been deleted
            // since, or its writer failed; the next attempt will show.
            (Some(None) | None, _) => ProposalResult::Unknown,
        }
    }
}

#[async_trait]
impl DecisionWriter for PostgresWriter {
    async fn write(&mut self, incarnation: Incarnation, proposals: &[Proposal]) -> Vec<ProposalResult> {
        let mut results = vec![ProposalResult::Unknown; proposals.len()];
        if self.spent {
            return results;
        }
        // Set while statements run, so that a write which was cancelled spends the writer.
        self.spent = true;
        for round in rounds(incarnation, proposals) {
            let (places, rows): (Vec<usize>, Vec<_>) = round.into_iter().unzip();
            match self.write_distinct(incarnation, &rows).await {
                Ok(answers) => {
                    for (place, result) in places.into_iter().zip(answers.results) {
                        results[place] = result;
                    }
                    if answers.spent {
                        return results;
                    }
                }
                Err(error) => {
                    let rows = rows.len();
                    tracing::warn!(%error, rows, "the decision log's answer to a batch is unknown");
                    return results;
                }
            }
        }
        self.spent = false;
        results
    }

    async fn check(&mut self) -> Result<(), DecisionLogError> {
        // As in `write`: spent unless this comes to its end.
        let was_spent = std::mem::replace(&mut self.spent, true);
        self.session.execute("SELECT").await?;
        self.spent = was_spent;
        Ok(())
    }
}
