//! Writes a batch of decisions in one statement: the critical path. One commit alone has a cheaper one.
//!
//! Each part of these statements is there for a trace that broke without it (`failure-matrix` H1 and
//! H8); every one has a test on a real server:
//! * the fence row is read `FOR SHARE`, so ending an incarnation waits for the batches that saw it
//!   live, and a batch that waited for the end sees it; `FOR KEY SHARE` and advisory locks do not;
//! * the floor row likewise: an insert that was blocked while the floor was raised writes nothing;
//! * `ORDER BY gid`: two batches that meet on several gids wait in one order and never deadlock;
//! * what was not inserted is read by a *second* statement, whose snapshot is taken after the wait:
//!   a union within the first sees neither the new row nor the old;
//! * a closing holds its owner's row `FOR SHARE`, so putting an owner in doubt waits for the closings that
//!   saw it without, and one that waited sees the doubt (`adoption.rs`); it is tested in the statement that
//!   writes, and concerns rows that would be written only: what stands is read as ever;
//! * such rows are handed out after a barrier, a forced write later than the reading (B6);
//! * one statement without BEGIN: nothing can be left open, and one force serves the batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use pactum_core::id::{Gid, Incarnation, TransactionId};
use pactum_core::outcome::{Decision, DecisionRecord, ProposalResult};
use sqlx::Row as _;
use uuid::Uuid;

use super::ledger::{Era, Written};
use super::session::{Commits, Server, Session, SessionError};
use super::{rows, sql};
use crate::decision_log::batch::rounds;
use crate::decision_log::codec::{self, DecisionColumns, FORMAT};
use crate::decision_log::{DecisionLogError, DecisionWriter, Proposal, WriterProblem};

/// `$1` our incarnation, `$2`… the columns, `$10` the format, `$11` the owners of the aborts, each once, `$12`
/// how many rows there are. A commit needs its own incarnation's fence; the sub-select is evaluated only
/// when there is a commit, so aborts wait for no fence. Owners are locked in one order, as gids are.
///
/// Answers one row: how many were inserted, and which, unless it was all: a row for each would cost the
/// server and us more than the insertion of it.
const INSERT: &str = "\
WITH fence AS MATERIALIZED (
    SELECT id FROM pactum.incarnations WHERE id = $1 AND ended_at IS NULL FOR SHARE
), owners AS MATERIALIZED (
    SELECT id, doubted FROM pactum.incarnations WHERE id = ANY ($11::uuid[]) ORDER BY id FOR SHARE
), state AS MATERIALIZED (
    SELECT floor, absent_doubted FROM pactum.log_state FOR SHARE
), written AS (
INSERT INTO pactum.decisions
    (gid, incarnation, number, decision, reason_kind, reason_message, branches, details, format)
SELECT p.gid, p.incarnation, p.number, p.decision, p.reason_kind, p.reason_message, p.branches,
       p.details, $10::int2
FROM state CROSS JOIN unnest($2::uuid[], $3::uuid[], $4::int8[], $5::text[], $6::text[], $7::text[],
                             $8::text[], $9::text[])
    AS p (gid, incarnation, number, decision, reason_kind, reason_message, branches, details)
LEFT JOIN owners o ON o.id = p.incarnation AND p.number = 0
WHERE p.gid > state.floor
  AND CASE p.number WHEN 0 THEN NOT coalesce(o.doubted, state.absent_doubted)
                    ELSE p.incarnation = (SELECT id FROM fence) END
ORDER BY p.gid
ON CONFLICT (gid) DO NOTHING
RETURNING gid
)
SELECT count(*), CASE WHEN count(*) < $12 THEN coalesce(array_agg(gid), '{}') END FROM written";

/// The same for one commit alone, which is what there is to write as long as commits come one at a time: the
/// server spends a quarter less on it than on a batch of one, since there is no list to take apart and no owner
/// to look at. `$1` our incarnation, `$2`… the columns, `$6` the format. Answers a row if it was inserted.
const INSERT_COMMIT: &str = "\
WITH fence AS MATERIALIZED (
    SELECT id FROM pactum.incarnations WHERE id = $1 AND ended_at IS NULL FOR SHARE
), state AS MATERIALIZED (
    SELECT floor FROM pactum.log_state FOR SHARE
)
INSERT INTO pactum.decisions (gid, incarnation, number, decision, branches, details, format)
SELECT p.gid, p.incarnation, $3::int8, 'commit', $4::text, $5::text, $6::int2
FROM state CROSS JOIN (SELECT $2::uuid, $1::uuid) AS p (gid, incarnation)
WHERE p.gid > state.floor AND p.incarnation = (SELECT id FROM fence)
ON CONFLICT (gid) DO NOTHING
RETURNING gid";

/// `$1` gids, `$2` our incarnation, `$3` owners. At least one row, for the floor, the fence and the owners
/// that are in doubt; then a row for each gid that stands.
const READ: &str = "\
SELECT s.floor,
       ARRAY(SELECT w.id FROM unnest($3::uuid[]) AS w (id) LEFT JOIN pactum.incarnations k ON k.id = w.id
             WHERE coalesce(k.doubted, s.absent_doubted)) AS doubted,
       EXISTS (SELECT FROM pactum.incarnations i WHERE i.id = $2 AND i.ended_at IS NULL) AS live,
       d.gid, d.incarnation, d.number, d.decision, d.reason_kind, d.reason_message, d.branches,
       d.details, d.format
FROM pactum.log_state s LEFT JOIN pactum.decisions d ON d.gid = ANY ($1)";

/// The writer of one lane.
#[derive(Debug)]
pub(super) struct PostgresWriter {
    server: Arc<Server>,
    session: Session,
    era: Era,
    problem: Option<WriterProblem>,
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
    /// Owners in doubt.
    doubted: BTreeSet<Uuid>,
    /// `None`: a row stands that cannot be read.
    records: BTreeMap<Gid, Option<DecisionRecord>>,
}

impl PostgresWriter {
    /// A connection of its own, on which a write was tried.
    pub(super) async fn open(server: Arc<Server>) -> Result<Self, DecisionLogError> {
        let mut session = server.session(Commits::Forced).await?;
        server.check_standbys(&session)?;
        server.is_short.store(false, Ordering::Relaxed);
        session.execute(sql::PROBE).await?;
        let era = session.era.ok_or(SessionError::Outdated)?;
        Ok(Self { server, session, era, problem: None, spent: false })
    }

    /// Keeps why this writer is spent.
    fn failed(&mut self, error: &SessionError) {
        let text = error.to_string();
        self.problem = Some(WriterProblem { text, refuses_writes: error.refuses_writes() });
    }

    /// Why nothing may be written now, if so.
    fn check_standbys(&mut self) -> Result<(), SessionError> {
        if !self.server.is_short.load(Ordering::Relaxed) {
            return Ok(());
        }
        let text = "fewer synchronous standbys are configured than log_standbys_min asks for".to_owned();
        self.problem = Some(WriterProblem { text, refuses_writes: true });
        Err(SessionError::Outdated)
    }

    /// Writes proposals of different gids, sorted by gid.
    async fn write_distinct(
        &mut self,
        incarnation: Incarnation,
        rows: &[Row<'_>],
    ) -> Result<Answers, SessionError> {
        let Some(mut won) = self.insert(incarnation, rows).await? else {
            return Ok(Answers { results: vec![ProposalResult::Won; rows.len()], spent: false });
        };
        won.sort_unstable();
        let is_won = |gid: &Gid| won.binary_search(gid.as_uuid()).is_ok();
        let gids = rows.iter().map(|(proposal, _)| proposal.record.id.gid);
        let open: Vec<Uuid> = gids.filter(|gid| !is_won(gid)).map(|gid| *gid.as_uuid()).collect();
        // If that fails, what was inserted is durable all the same.
        let found = self.read_and_force(incarnation, &open, owners(rows)).await;
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

    /// Inserts; answers which of them were, or `None` if all.
    async fn insert(
        &mut self,
        incarnation: Incarnation,
        rows: &[Row<'_>],
    ) -> Result<Option<Vec<Uuid>>, SessionError> {
        if let [(proposal, columns)] = rows
            && proposal.record.decision == Decision::Commit
        {
            return self.insert_commit(incarnation, proposal.record.id.gid, columns).await;
        }
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
        let all = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let statement = sqlx::query_as::<_, (i64, Option<Vec<Uuid>>)>(INSERT)
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
            .bind(owners(rows))
            .bind(all)
            // To the end of the statement, not to its first row: that is sent before the commit, and nothing is
            // durable before the server has said that the statement is complete (law 2).
            .fetch_all(&mut self.session.connection);
        let mut answer = self.session.notices.watch(self.session.limit, statement).await?;
        match (answer.pop(), answer.is_empty()) {
            (Some((count, None)), true) if count == all => Ok(None),
            (Some((_, Some(won))), true) => Ok(Some(won)),
            // Another number than were sent, and no word of which: nobody may believe that.
            (Some((_, None)) | None, true) | (_, false) => Err(SessionError::Incomplete),
        }
    }

    /// Inserts one commit; answers as [`insert`](Self::insert).
    async fn insert_commit(
        &mut self,
        incarnation: Incarnation,
        gid: Gid,
        columns: &DecisionColumns,
    ) -> Result<Option<Vec<Uuid>>, SessionError> {
        let statement = sqlx::query_scalar::<_, Uuid>(INSERT_COMMIT)
            .bind(*incarnation.as_uuid())
            .bind(*gid.as_uuid())
            .bind(columns.number)
            .bind(columns.branches.as_deref())
            .bind(columns.details.as_str())
            .bind(FORMAT)
            // To the end of the statement, as for a batch.
            .fetch_all(&mut self.session.connection);
        match *self.session.notices.watch(self.session.limit, statement).await? {
            [] => Ok(Some(Vec::new())),
            [inserted] if inserted == *gid.as_uuid() => Ok(None),
            _ => Err(SessionError::Incomplete),
        }
    }

    /// Reads what stands, then forces a write of our own.
    async fn read_and_force(
        &mut self,
        incarnation: Incarnation,
        gids: &[Uuid],
        owners: Vec<Uuid>,
    ) -> Result<Found, DecisionLogError> {
        let statement = sqlx::query(READ).bind(gids).bind(*incarnation.as_uuid()).bind(owners);
        let statement = statement.fetch_all(&mut self.session.connection);
        let rows = self.session.notices.watch(self.session.limit, statement).await?;
        self.session.make_known_durable().await?;
        let Some(first) = rows.first() else {
            return Err(rows::no_state());
        };
        let mut found = Found {
            floor: Gid::from_uuid(first.try_get("floor").map_err(SessionError::from)?),
            live: first.try_get("live").map_err(SessionError::from)?,
            doubted: first
                .try_get::<Vec<Uuid>, _>("doubted")
                .map_err(SessionError::from)?
                .into_iter()
                .collect(),
            records: BTreeMap::new(),
        };
        for row in &rows {
            let Some(gid) = row.try_get::<Option<Uuid>, _>("gid").map_err(SessionError::from)? else {
                continue;
            };
            let gid = Gid::from_uuid(gid);
            found.records.insert(gid, codec::or_unknown(gid, rows::decision(row)));
        }
        Ok(found)
    }
}

impl Found {
    fn result(&self, proposal: &Proposal) -> ProposalResult {
        let TransactionId { incarnation, gid } = proposal.record.id;
        // The floor first: what lies under it is not answered, whether or not its row is deleted yet.
        if gid <= self.floor {
            return ProposalResult::Forgotten;
        }
        match (self.records.get(&gid), proposal.record.decision) {
            (Some(Some(record)), _) => ProposalResult::Lost(Box::new(record.clone())),
            (None, Decision::Commit) if !self.live => ProposalResult::Fenced,
            (None, Decision::Abort) if self.doubted.contains(incarnation.as_uuid()) => {
                ProposalResult::Doubted
            }
            // A row that cannot be read. Or neither inserted nor there: what stood in the way has been deleted
            // since, or its writer failed; the next attempt will show.
            (Some(None) | None, _) => ProposalResult::Unknown,
        }
    }
}

/// A proposal, ready to be written.
type Row<'a> = (&'a Proposal, DecisionColumns);

/// Whose transactions are to be closed, each once.
fn owners(rows: &[Row<'_>]) -> Vec<Uuid> {
    let aborts = rows.iter().filter(|(proposal, _)| proposal.record.decision == Decision::Abort);
    let owners: BTreeSet<Uuid> =
        aborts.map(|(proposal, _)| *proposal.record.id.incarnation.as_uuid()).collect();
    owners.into_iter().collect()
}

/// What the ledger is told of an answered batch.
fn written(rows: &[Row<'_>], results: &[ProposalResult]) -> Written {
    let mut written = Written::default();
    for ((proposal, _), result) in rows.iter().zip(results) {
        let gid = proposal.record.id.gid;
        match result {
            ProposalResult::Won => written.won = Some(gid),
            ProposalResult::Lost(_) => written.found.push(gid),
            ProposalResult::Unknown if proposal.record.decision == Decision::Commit => {
                written.unknown.push(gid);
            }
            // A closing that nobody heard of binds nobody: its owner is ended if it is lost.
            ProposalResult::Unknown
            | ProposalResult::Fenced
            | ProposalResult::Forgotten
            | ProposalResult::Doubted => {}
        }
        // Doubted is no answer to an earlier attempt.
        if !matches!(result, ProposalResult::Unknown | ProposalResult::Doubted) {
            written.settled.push(gid);
        }
    }
    written
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
        if self.check_standbys().is_err() {
            return results;
        }
        for round in rounds(incarnation, proposals) {
            let (places, rows): (Vec<usize>, Vec<Row<'_>>) = round.into_iter().unzip();
            let commits = rows.iter().filter(|(proposal, _)| proposal.record.decision == Decision::Commit);
            let commits = commits.map(|(proposal, _)| proposal.record.id.gid).collect();
            let Some(ticket) = self.server.ledger.begin(self.era, commits) else {
                self.failed(&SessionError::Outdated);
                return results;
            };
            let answers = match self.write_distinct(incarnation, &rows).await {
                Ok(answers) => answers,
                Err(error) => {
                    let count = rows.len();
                    tracing::warn!(%error, rows = count, "the decision log's answer to a batch is unknown");
                    self.failed(&error);
                    Answers { results: vec![ProposalResult::Unknown; count], spent: true }
                }
            };
            if !self.server.ledger.end(ticket, written(&rows, &answers.results)) {
                tracing::warn!("an answer came from a log that has been replaced since, and counts as lost");
                self.failed(&SessionError::Outdated);
                return results;
            }
            for (place, result) in places.into_iter().zip(answers.results) {
                results[place] = result;
            }
            if answers.spent {
                return results;
            }
        }
        self.spent = false;
        results
    }

    async fn check(&mut self) -> Result<(), DecisionLogError> {
        // As in `write`: spent unless this comes to its end.
        let was_spent = std::mem::replace(&mut self.spent, true);
        let is_current = self.server.ledger.is_current(self.era);
        let checked = match self.check_standbys() {
            Ok(()) if is_current => self.session.execute(sql::CHECK).await,
            Ok(()) => Err(SessionError::Outdated),
            Err(short) => Err(short),
        };
        if let Err(error) = checked {
            if self.problem.is_none() {
                self.failed(&error);
            }
            return Err(error.into());
        }
        self.spent = was_spent;
        Ok(())
    }

    fn problem(&self) -> Option<WriterProblem> {
        self.problem.clone()
    }
}
