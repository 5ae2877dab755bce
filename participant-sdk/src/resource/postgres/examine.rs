//! What an operator is told of branches: what is prepared and since when, what it holds, whom it
//! keeps waiting, and what became of the rest, by evidence.
//!
//! It runs on connections of its own whose statements the server gives up after two seconds, so that
//! a question never stands in the way of a branch that ends. It reads only, tells no text of anybody's
//! query, and makes do with the rights that it has: what it may not see is said in a note.
//!
//! A prepared transaction has no session. Its locks are found by the lock on its own xid, which it
//! holds under the same virtual transaction as all others.

use std::collections::HashMap;
use std::time::Duration;

use pactum_core::id::PreparedName;
use pactum_core::vote::Evidence;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::control::{Control, bounded};
use super::evidence::{self, Anchor};
use super::finish::{self, Fate, Seen};
use super::sql::{Sql, code, describe, is_lost};
use super::{Inner, marker};
use crate::resource::{
    BLOCKED_SESSIONS_MAX, BlockedSession, BranchFinding, BranchPresence, BranchQuestion, HookError,
    PreparedFindings,
};

/// Waiting sessions that one question reads, of all branches together: bounds the answer of a
/// database in which everybody waits.
const WAITING_MAX: i64 = 4096;

/// What each row of the prepared transactions is read with.
const PREPARED: &str = "SELECT gid, transaction::text, (SELECT pg_snapshot_xmax(pg_current_snapshot())::text), \
        (SELECT system_identifier::text FROM pg_control_system()), \
        substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), \
        pg_current_wal_flush_lsn()::text, \
        greatest(extract(epoch FROM clock_timestamp() - prepared), 0)::float8, \
        age(transaction)::int8 \
   FROM pg_catalog.pg_prepared_xacts \
  WHERE database = current_database() AND ";

/// The locks of these prepared transactions, by their virtual transactions.
const HELD: &str = "WITH locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks), \
     own AS (SELECT transactionid::text AS xid, virtualtransaction AS vxid FROM locks \
              WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted AND pid IS NULL \
                AND transactionid::text = ANY($1)), \
     held AS (SELECT own.xid, locks.* FROM own JOIN locks ON locks.virtualtransaction = own.vxid \
               WHERE locks.pid IS NULL AND locks.granted AND locks.mode <> 'SIReadLock') ";

/// How many locks each holds.
const COUNTED: &str = "SELECT xid, count(*) FROM held GROUP BY xid";

/// Who waits for one of them: for the same object, in a mode that conflicts with the one held
/// (PostgreSQL manual, section *Explicit Locking*, table *Conflicting Lock Modes*).
const WAITING: &str = "SELECT held.xid, waits.pid, max(activity.usename::text), max(activity.application_name), \
        max(greatest(extract(epoch FROM clock_timestamp() - waits.waitstart), 0))::float8 AS seconds \
   FROM held JOIN locks AS waits \
     ON NOT waits.granted AND waits.pid IS NOT NULL AND waits.locktype = held.locktype \
    AND (waits.database, waits.relation, waits.page, waits.tuple, waits.transactionid, waits.classid, waits.objid, waits.objsubid) \
        IS NOT DISTINCT FROM \
        (held.database, held.relation, held.page, held.tuple, held.transactionid, held.classid, held.objid, held.objsubid) \
    AND CASE held.mode \
        WHEN 'AccessShareLock' THEN waits.mode = 'AccessExclusiveLock' \
        WHEN 'RowShareLock' THEN waits.mode IN ('ExclusiveLock', 'AccessExclusiveLock') \
        WHEN 'RowExclusiveLock' THEN waits.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
        WHEN 'ShareUpdateExclusiveLock' THEN waits.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock') \
        WHEN 'ShareLock' THEN waits.mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareLock') \
        WHEN 'ShareRowExclusiveLock' THEN waits.mode NOT IN ('AccessShareLock', 'RowShareLock') \
        WHEN 'ExclusiveLock' THEN waits.mode <> 'AccessShareLock' \
        ELSE true END \
   LEFT JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = waits.pid \
  GROUP BY held.xid, waits.pid \
  ORDER BY seconds DESC NULLS LAST LIMIT $2";

/// The hook `examine`.
pub(super) async fn these(
    inner: &Inner,
    questions: &[BranchQuestion],
) -> Result<Vec<BranchFinding>, HookError> {
    let mut control = Control::acquire(inner.looking()).await?;
    let look = async {
        let session = control.session();
        let names: Vec<String> = questions.iter().map(|question| question.name.to_string()).collect();
        let sql = Sql::default().text(PREPARED).text("gid = ANY($1)");
        let rows = sqlx::query(sql.trusted()).bind(names).fetch_all(&mut *session).await?;
        let prepared = held(session, &rows).await?;
        let mut found = findings(session, prepared).await?;
        for question in questions {
            match found.iter_mut().find(|finding| finding.name == question.name) {
                Some(prepared) => mind_other(inner, session, question, prepared).await?,
                None => found.push(gone(inner, session, question).await?),
            }
        }
        Ok(found)
    };
    let found = bounded(look).await;
    conclude(&mut control, found)
}

/// The hook `examine_all`: our cluster's names in this database, and no others.
pub(super) async fn all(inner: &Inner, prefix: &str, limit: usize) -> Result<PreparedFindings, HookError> {
    let mut control = Control::acquire(inner.looking()).await?;
    let look = async {
        let session = control.session();
        let sql = Sql::default().text(PREPARED).text("starts_with(gid, $1) ORDER BY prepared, gid LIMIT $2");
        let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let rows = sqlx::query(sql.trusted()).bind(prefix).bind(one_more).fetch_all(&mut *session).await?;
        let more = rows.len() > limit;
        let mut prepared = held(session, &rows).await?;
        prepared.truncate(limit);
        let mut found = PreparedFindings::first(limit, findings(session, prepared).await?);
        found.more = more;
        Ok(found)
    };
    let found = bounded(look).await;
    conclude(&mut control, found)
}

fn conclude<T>(control: &mut Control, found: Result<T, sqlx::Error>) -> Result<T, HookError> {
    finish::conclude(control, found, "looking at branches for an operator").map_err(HookError::from)
}

/// A branch that is prepared.
struct Held {
    name: PreparedName,
    xid: u64,
    evidence: Evidence,
    prepared_for: Duration,
    pinned: u64,
}

impl Held {
    /// What the tables of locks call its transaction.
    fn low_xid(&self) -> String {
        (self.xid & 0xffff_ffff).to_string()
    }
}

/// Reads what is prepared, less what has ended meanwhile, in the order of the rows.
async fn held(session: &mut PgConnection, rows: &[PgRow]) -> Result<Vec<Held>, sqlx::Error> {
    let still = finish::still_prepared(session, rows).await?;
    let mut all = Vec::with_capacity(rows.len());
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
        all.push(Held {
            name,
            xid,
            evidence: evidence::evidence(xid, &anchor),
            prepared_for: seconds(row.try_get(6)?),
            // Negative only for an xid that the server takes for one of the future.
            pinned: u64::try_from(row.try_get::<i64, _>(7)?).unwrap_or(0),
        });
    }
    Ok(all)
}

/// What is prepared, with its locks.
async fn findings(
    session: &mut PgConnection,
    prepared: Vec<Held>,
) -> Result<Vec<BranchFinding>, sqlx::Error> {
    if prepared.is_empty() {
        return Ok(Vec::new());
    }
    let xids: Vec<String> = prepared.iter().map(Held::low_xid).collect();
    let counted = seen(counted(session, &xids).await)?;
    let waiting = seen(waiting(session, &xids).await)?;
    let finding = |held: Held| {
        let xid = held.low_xid();
        let mut finding = BranchFinding::prepared(held.name, held.evidence);
        finding.prepared_for = Some(held.prepared_for);
        finding.pinned_transactions = held.pinned;
        match &counted {
            Ok(counted) => finding.locks = counted.get(&xid).copied().unwrap_or(0),
            Err(why) => finding = finding.with_note(format!("its locks could not be counted: {why}")),
        }
        match &waiting {
            Ok(waiting) => finding.blocked = waiting.get(&xid).cloned().unwrap_or_default(),
            Err(why) => {
                finding = finding.with_note(format!("who waits for its locks could not be seen: {why}"));
            }
        }
        finding
    };
    Ok(prepared.into_iter().map(finding).collect())
}

/// What the role may not see, or what takes the server too long, is said and is no failure of the rest.
fn seen<T>(read: Result<T, sqlx::Error>) -> Result<Result<T, String>, sqlx::Error> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(error) if is_lost(&error) => Err(error),
        Err(error) => {
            let hint = match code(&error).as_deref() {
                Some("42501") => {
                    "; grant pg_read_all_stats, or SELECT on pg_locks and pg_stat_activity, to its role"
                }
                _ => "",
            };
            Ok(Err(format!("{}{hint}", describe(&error))))
        }
    }
}

async fn counted(session: &mut PgConnection, xids: &[String]) -> Result<HashMap<String, u32>, sqlx::Error> {
    let sql = Sql::default().text(HELD).text(COUNTED);
    let rows = sqlx::query(sql.trusted()).bind(xids).fetch_all(session).await?;
    let count = |row: &PgRow| {
        let count: i64 = row.try_get(1)?;
        Ok((row.try_get(0)?, u32::try_from(count).unwrap_or(u32::MAX)))
    };
    rows.iter().map(count).collect()
}

async fn waiting(
    session: &mut PgConnection,
    xids: &[String],
) -> Result<HashMap<String, Vec<BlockedSession>>, sqlx::Error> {
    let sql = Sql::default().text(HELD).text(WAITING);
    let rows = sqlx::query(sql.trusted()).bind(xids).bind(WAITING_MAX).fetch_all(session).await?;
    let mut waiting: HashMap<String, Vec<BlockedSession>> = HashMap::new();
    for row in rows {
        let of = waiting.entry(row.try_get(0)?).or_default();
        if of.len() == BLOCKED_SESSIONS_MAX {
            continue;
        }
        let text = |column| row.try_get::<Option<String>, _>(column).map(Option::unwrap_or_default);
        // Null in the first moment of a wait.
        let waits = row.try_get::<Option<f64>, _>(4)?.unwrap_or(0.0);
        of.push(BlockedSession::new(row.try_get(1)?, text(2)?, text(3)?, seconds(waits)));
    }
    Ok(waiting)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Says so where another execution is prepared than the one that was asked for, and what became of
/// that one.
async fn mind_other(
    inner: &Inner,
    session: &mut PgConnection,
    question: &BranchQuestion,
    prepared: &mut BranchFinding,
) -> Result<(), sqlx::Error> {
    let (Some(asked), Some(found)) = (&question.evidence, &prepared.evidence) else { return Ok(()) };
    if asked.same_execution(found) {
        return Ok(());
    }
    let of_asked = by_evidence(inner, session, question, asked).await?;
    let became = match of_asked.presence {
        BranchPresence::Committed => "was committed",
        BranchPresence::Aborted => "was rolled back",
        BranchPresence::Open | BranchPresence::Prepared | BranchPresence::Unknown => "cannot be told about",
    };
    let note = format!(
        "another execution ({}) is prepared than the one that voted ({}), which {became}",
        found.execution, asked.execution
    );
    *prepared = prepared.clone().with_note(note);
    Ok(())
}

/// What became of a branch that is not prepared.
async fn gone(
    inner: &Inner,
    session: &mut PgConnection,
    question: &BranchQuestion,
) -> Result<BranchFinding, sqlx::Error> {
    let found = |presence| BranchFinding::new(question.name.clone(), presence);
    if inner.is_open(&question.name) {
        return Ok(found(BranchPresence::Open));
    }
    if let Some(evidence) = &question.evidence {
        return by_evidence(inner, session, question, evidence).await;
    }
    let unknown = found(BranchPresence::Unknown);
    if question.marker || inner.keeps_witness() {
        return Ok(match seen(marker::stands(session, &question.name).await)? {
            Ok(Some(true)) => found(BranchPresence::Committed).with_note("its marker row says so"),
            // A branch without a marker writes its row as it commits, so that of it none is ever false.
            Ok(Some(false)) => found(BranchPresence::Aborted).with_note("its marker row says so"),
            Ok(None) => unknown.with_note("it is not prepared, and has no marker row"),
            Err(why) => unknown.with_note(format!("its marker row could not be read: {why}")),
        });
    }
    Ok(unknown
        .with_note("it is not prepared, and without the evidence of its vote nothing else can be known"))
}

/// What became of an execution that is not prepared, as far as its xid proves anything.
async fn by_evidence(
    inner: &Inner,
    session: &mut PgConnection,
    question: &BranchQuestion,
    evidence: &Evidence,
) -> Result<BranchFinding, sqlx::Error> {
    let found = |presence| BranchFinding::new(question.name.clone(), presence);
    let unknown = found(BranchPresence::Unknown);
    let Some((xid, anchor)) = evidence::read(evidence) else {
        return Ok(unknown.with_note("its evidence was not written by this version for PostgreSQL"));
    };
    let fate = match seen(finish::see_fate(inner, session, &question.name, xid, &anchor).await)? {
        Ok(fate) => fate,
        Err(why) => return Ok(unknown.with_note(format!("its transaction could not be looked up: {why}"))),
    };
    Ok(match fate {
        Seen { fate: Fate::Committed, .. } => found(BranchPresence::Committed),
        Seen { fate: Fate::Aborted, .. } => found(BranchPresence::Aborted),
        Seen { fate: Fate::InProgress, .. } => unknown.with_note(format!(
            "its transaction {xid} has not ended and is not prepared in this database: it is ending \
             now, or is prepared in another database of this server"
        )),
        Seen { fate: Fate::Unprovable, holds: false } => unknown.with_note(
            "the database was restored, failed over or replaced since the vote: its transaction's number \
             proves nothing any more",
        ),
        Seen { fate: Fate::Unprovable, holds: true } => {
            unknown.with_note(format!("its transaction {xid} ended too long ago to be looked up"))
        }
    })
}
