//! Phase 2: ends a prepared branch, and tells what became of one that is gone.
//!
//! ```text
//! COMMIT PREPARED ─▶ done ─▶ committed
//!                 ├▶ 55000 ─▶ another session is ending it: ask again        (D4)
//!                 └▶ 42704 ─▶ the evidence decides:                          (D3)
//!                      anchor void (H6) ─▶ witness row, else hazard
//!                      xid committed    ─▶ committed
//!                      xid aborted      ─▶ heuristic: aborted
//!                      xid in progress  ─▶ wrong database, or still ending: ask again
//!                      too old, unknown ─▶ witness row, else hazard
//! ```
//!
//! A connection lost on the way (D2) is followed by one attempt on a new one, by evidence.

use std::collections::BTreeSet;
use std::time::Duration;

use pactum_core::id::PreparedName;
use pactum_core::outcome::{BranchOutcome, HeuristicOutcome};
use pactum_core::vote::Evidence;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use tokio::time::timeout;

use super::control::{Control, bounded};
use super::evidence::{self, Anchor, XidStatus};
use super::operation::unsettled;
use super::sql::{Refused, SYNCHRONOUS, Sql, code, is_lost, refusal, simple};
use super::{Inner, marker};
use crate::resource::{BranchContext, HookError, PreparedBranch};

/// How long the list of what is prepared waits for its turn. Well below what a scan may take in all, or a queue
/// that is longer for long would keep it from ever being made.
const TURN_TIME_MAX: Duration = Duration::from_secs(5);

/// What became of one attempt to end a branch by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was prepared and has ended so.
    Done,
    /// Nothing of that name is prepared.
    Missing,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Commit,
    RollBack,
}

impl Verb {
    fn text(self) -> &'static str {
        match self {
            Self::Commit => "COMMIT PREPARED",
            Self::RollBack => "ROLLBACK PREPARED",
        }
    }
}

/// The commit hook.
pub(super) async fn commit(
    inner: &Inner,
    branch: &BranchContext,
    decided: &Evidence,
    prepared: Option<&Evidence>,
) -> Result<BranchOutcome, HookError> {
    let Some((xid, anchor)) = evidence::read(decided) else {
        return Err(HookError::new(format!(
            "the evidence {decided:?} was not written by this version for PostgreSQL"
        )));
    };
    if prepared.is_some_and(|prepared| prepared.same_execution(decided)) {
        // What this process prepared itself need not be looked at first.
        match attempt(inner, &branch.name, Verb::Commit).await {
            Ok(Ended::Done) => return Ok(BranchOutcome::Committed),
            Ok(Ended::Missing) => {}
            Err(Failed::Lost(error)) => tracing::debug!(
                branch = %branch.name, %error, "COMMIT PREPARED was not answered"
            ),
            Err(Failed::Refused(error)) => return Err(error),
        }
    }
    commit_by_evidence(inner, &branch.name, xid, &anchor).await
}

/// Commits the execution `xid` if it is the one prepared, else finds out what became of it.
async fn commit_by_evidence(
    inner: &Inner,
    name: &PreparedName,
    xid: u64,
    anchor: &Anchor,
) -> Result<BranchOutcome, HookError> {
    let found = inner.look_ups.prepared_xid(inner.ending(), name).await?;
    if found == Some(xid) && attempt(inner, name, Verb::Commit).await? == Ended::Done {
        return Ok(BranchOutcome::Committed);
    }
    // Rare, and large: apart from what waits for its turn.
    let fate = Box::pin(fate(inner, name, xid, anchor)).await?;
    let outcome = match fate {
        Fate::Committed => BranchOutcome::Committed,
        Fate::Aborted => BranchOutcome::Heuristic(HeuristicOutcome::Aborted),
        Fate::Unprovable => BranchOutcome::Heuristic(HeuristicOutcome::Hazard),
        Fate::InProgress => {
            return Err(HookError::new(format!(
                "{name} is neither prepared in this database nor has its transaction {xid} ended: \
                 is it prepared in another database of the same server?"
            )));
        }
    };
    if let Some(other) = found
        && other != xid
    {
        if outcome == BranchOutcome::Committed {
            // H3: a second execution under the name of a committed one. Without the proof that
            // the decided one committed it must stay: it may be all that is left of the work.
            tracing::warn!(branch = %name, decided = xid, other, "rolling back a second execution");
            attempt(inner, name, Verb::RollBack).await?;
        } else {
            tracing::error!(
                branch = %name, decided = xid, other, ?outcome,
                "another execution than the decided one is prepared, and the decided one is not \
                 known to have committed: left for an operator"
            );
        }
    }
    Ok(outcome)
}

/// The abort hook, for a branch that is not open here.
pub(super) async fn abort(
    inner: &Inner,
    branch: &BranchContext,
    prepared: Option<&Evidence>,
) -> Result<BranchOutcome, HookError> {
    let name = &branch.name;
    let ended = match attempt(inner, name, Verb::RollBack).await {
        Ok(ended) => ended,
        Err(Failed::Refused(error)) => return Err(error),
        Err(Failed::Lost(error)) => {
            tracing::debug!(branch = %name, %error, "ROLLBACK PREPARED was not answered");
            attempt(inner, name, Verb::RollBack).await?
        }
    };
    let evidence = prepared.and_then(evidence::read);
    let (Ended::Missing, Some((xid, anchor))) = (ended, evidence) else {
        return Ok(BranchOutcome::Aborted);
    };
    // It was prepared once and is gone. Ours, from an attempt whose answer was lost; or by hand.
    match fate(inner, name, xid, &anchor).await? {
        Fate::Committed => Ok(BranchOutcome::Heuristic(HeuristicOutcome::Committed)),
        Fate::Aborted | Fate::Unprovable => Ok(BranchOutcome::Aborted),
        Fate::InProgress => Err(HookError::new(format!(
            "{name} is not prepared in this database, but its transaction {xid} has not ended"
        ))),
    }
}

/// The recover hook: our cluster's names in this database, and no others.
pub(super) async fn recover(inner: &Inner, prefix: &str) -> Result<Vec<PreparedBranch>, HookError> {
    // Behind all whose decisions are known: after an outage those are most of what is prepared, and whatever has
    // ended by then need not be listed. But not for as long as it takes: a branch that nobody tells of is found
    // by no one else.
    let _turn = timeout(TURN_TIME_MAX, inner.ending().turns.acquire()).await;
    let mut control = inner.control().await?;
    let scan = async {
        let rows = sqlx::query(
            // The snapshot in a query of its own, hence once: asked for in each row, the server would sort
            // all that is prepared for each.
            "SELECT gid, transaction::text, (SELECT pg_snapshot_xmax(pg_current_snapshot())::text), \
                    (SELECT system_identifier::text FROM pg_control_system()), \
                    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), \
                    pg_current_wal_flush_lsn()::text \
               FROM pg_catalog.pg_prepared_xacts \
              WHERE database = current_database() AND starts_with(gid, $1) \
              ORDER BY prepared",
        )
        .bind(prefix)
        .fetch_all(control.session())
        .await?;
        let still = still_prepared(control.session(), &rows).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            if !still.contains(row.try_get::<&str, _>(0)?) {
                continue;
            }
            // A name in another spelling is not ours, whatever it begins with.
            let Ok(name) = row.try_get::<String, _>(0)?.parse() else {
                continue;
            };
            let (low, next): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            let columns: [String; 3] = [row.try_get(3)?, row.try_get(4)?, row.try_get(5)?];
            let anchor = Anchor::from_columns(&columns[0], &columns[1], &columns[2])
                .ok_or_else(|| sqlx::Error::Protocol(format!("unreadable identity {columns:?}")))?;
            let xid = evidence::xid_of(&low, &next)?;
            found.push(PreparedBranch { name, evidence: evidence::evidence(xid, &anchor) });
        }
        Ok(found)
    };
    let found = bounded(scan).await;
    conclude(&mut control, found, "scanning for prepared branches").map_err(HookError::from)
}

/// Which of the names that were just read are prepared now.
///
/// The server lists the prepared transactions once, and reads the xid of each as it comes to its row: of
/// one that has ended in between it shows the xid of whichever has taken its place (`pg_prepared_xact` in
/// its `twophase.c`). A name that a later look still shows had not ended when its row was read.
pub(super) async fn still_prepared(
    session: &mut PgConnection,
    rows: &[PgRow],
) -> Result<BTreeSet<String>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(BTreeSet::new());
    }
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    // Joined, hence hashed: a list is compared with each row one by one once the plan is kept.
    let query = sqlx::query_scalar(
        "SELECT gid FROM pg_catalog.pg_prepared_xacts JOIN unnest($1::text[]) AS read (name) ON gid = name",
    );
    Ok(query.bind(names).fetch_all(session).await?.into_iter().collect())
}

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// The server refused, or could not be reached: nothing was done by this attempt.
    Refused(HookError),
    /// May have been done (law 5).
    Lost(HookError),
}

impl From<Failed> for HookError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(error) | Failed::Lost(error) => error,
        }
    }
}

/// Sends COMMIT PREPARED or ROLLBACK PREPARED.
pub(super) async fn attempt(inner: &Inner, name: &PreparedName, verb: Verb) -> Result<Ended, Failed> {
    // Never closed.
    let _turn = inner.ending().turns.acquire().await;
    // Thousands wait for their turn after an outage, each with room for what it will do then if that were not
    // asked for only now.
    Box::pin(attempt_now(inner, name, verb)).await
}

async fn attempt_now(inner: &Inner, name: &PreparedName, verb: Verb) -> Result<Ended, Failed> {
    let mut control = inner.control().await.map_err(Failed::Refused)?;
    let sql = Sql::default().splice(&verb.text()).text(" '").splice(name).text("'");
    let result = bounded(simple(control.session(), sql)).await;
    match &result {
        Ok(_) => {
            control.answered();
            Ok(Ended::Done)
        }
        Err(error) if refusal(error) == Some(Refused::Missing) => {
            control.answered();
            Ok(Ended::Missing)
        }
        Err(error) => {
            let hint = match code(error).as_deref() {
                Some("55000") => " (another session is ending it, or waits for a standby)",
                Some("42501") => {
                    " (only the role that prepared it, or a superuser, may end it: \
                     connect as that role)"
                }
                Some("0A000") => " (it belongs to another database of this server)",
                _ => "",
            };
            let doing = format!("{} of {name}{hint}", verb.text());
            conclude(&mut control, result, &doing).map(|_| Ended::Done)
        }
    }
}

/// Gives the connection back if the server answered, and tells refused from lost.
pub(super) fn conclude<T>(
    control: &mut Control,
    result: Result<T, sqlx::Error>,
    doing: &str,
) -> Result<T, Failed> {
    match result {
        Ok(value) => {
            control.answered();
            Ok(value)
        }
        Err(error) if is_lost(&error) => Err(Failed::Lost(unsettled(doing, &error))),
        Err(error) => {
            control.answered();
            Err(Failed::Refused(unsettled(doing, &error)))
        }
    }
}

/// What became of an execution that is not prepared any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    Aborted,
    InProgress,
    /// The database cannot tell any more.
    Unprovable,
}

pub(super) async fn fate(
    inner: &Inner,
    name: &PreparedName,
    xid: u64,
    anchor: &Anchor,
) -> Result<Fate, HookError> {
    let mut control = inner.control().await?;
    let looked = async {
        let Seen { fate, holds } = see_fate(inner, control.session(), name, xid, anchor).await?;
        if !holds {
            tracing::error!(
                branch = %name, xid, ?anchor,
                "the database's identity changed or its history went back since the vote: the xid proves nothing"
            );
        }
        if fate == Fate::Committed {
            make_durable(control.session()).await?;
        }
        Ok(fate)
    };
    let fate = bounded(looked).await;
    conclude(&mut control, fate, "asking what became of the branch").map_err(HookError::from)
}

/// What a session sees of an execution that is not prepared any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) fate: Fate,
    /// Whether the xid still means what it meant at the vote.
    pub(super) holds: bool,
}

/// Looks at what became of an execution. A commit that is seen may not be durable yet.
pub(super) async fn see_fate(
    inner: &Inner,
    session: &mut PgConnection,
    name: &PreparedName,
    xid: u64,
    anchor: &Anchor,
) -> Result<Seen, sqlx::Error> {
    let (status, now) = evidence::look_up(&mut *session, xid).await?;
    let holds = now.is_some_and(|now| anchor.still_holds(&now));
    let fate = match status {
        XidStatus::Committed if holds => Fate::Committed,
        XidStatus::Aborted if holds => Fate::Aborted,
        XidStatus::InProgress if holds => Fate::InProgress,
        XidStatus::Committed
        | XidStatus::Aborted
        | XidStatus::InProgress
        | XidStatus::TooOld
        | XidStatus::NeverAssigned => match marker::witness(session, name, inner.keeps_witness()).await? {
            Some(true) => Fate::Committed,
            Some(false) => Fate::Aborted,
            None => Fate::Unprovable,
        },
    };
    Ok(Seen { fate, holds })
}

/// Waits until a commit that somebody else made, and that is visible here, cannot be lost.
///
/// A commit whose wait for the standby was cancelled is visible and not replicated. A write of
/// one's own, replicated, has everything before it replicated too. A message in the WAL needs no table.
async fn make_durable(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = Sql::default()
        .text("BEGIN; SELECT ")
        .text(SYNCHRONOUS)
        .text("; SELECT pg_catalog.pg_logical_emit_message(true, 'pactum', ''); COMMIT");
    let written = simple(session, sql).await.map(drop);
    if written.as_ref().is_err_and(|error| !is_lost(error)) {
        // Or the session would stay inside the failed transaction.
        simple(session, Sql::default().text("ROLLBACK")).await?;
    }
    written
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;

    use super::super::PostgresResource;
    use super::*;

    /// Whoever ends branches may do so for hours.
    #[tokio::test(start_paused = true)]
    async fn a_list_goes_on_without_a_turn_when_none_is_to_be_had() {
        let pool = PgPoolOptions::new().connect_lazy("postgres://127.0.0.1:1/none").unwrap();
        let resource = PostgresResource::new("bank", pool).unwrap().ending_connections(2);
        let _all = resource.inner.ending().turns.acquire_many(2).await.unwrap();
        let listed = timeout(Duration::from_mins(1), recover(&resource.inner, "pactum:")).await;
        // It got as far as asking for a connection.
        let refused = listed.expect("the list waits for ever").unwrap_err();
        assert!(refused.to_string().contains("no connection"), "{refused}");
    }
}
