//! The audit. There is one connection, so nobody else adds an entry meanwhile.

use pactum_core::id::Incarnation;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::database;
use super::rows::{self, get};
use crate::decision_log::audit::{AuditColumns, UNENDED_MAX, now_microseconds};
use crate::decision_log::{AuditDraft, AuditEntry, AuditPage, DecisionLogError};

const ADD: &str = "\
INSERT INTO audit (number, at, kind, begun, who, origin, act, target, reason, plan, state_before,
                   state_after, result, incarnation, previous, hash)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

macro_rules! columns {
    () => {
        "SELECT a.number, a.at, a.kind, a.begun, a.who, a.origin, a.act, a.target, a.reason, a.plan,
       a.state_before, a.state_after, a.result, a.incarnation, a.previous, a.hash
FROM audit AS a "
    };
}

/// `?1` after this number, `?2` limit.
const AFTER: &str = concat!(columns!(), "WHERE a.number > ?1 ORDER BY a.number LIMIT ?2");

/// `?1` before this number, `?2` limit.
const BEFORE: &str = concat!(columns!(), "WHERE a.number < ?1 ORDER BY a.number DESC LIMIT ?2");

/// `?1` limit. See `postgres/audit.rs`.
const UNENDED: &str = concat!(
    columns!(),
    "WHERE a.kind = 'begun' AND a.incarnation IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM audit AS e WHERE e.begun = a.number AND e.number > a.number)
  AND NOT EXISTS (SELECT 1 FROM incarnations AS i WHERE i.id = a.incarnation AND i.ended_at IS NULL)
ORDER BY a.number LIMIT ?1"
);

/// Adds an entry; see [`DecisionLog::append_audit`](crate::decision_log::DecisionLog::append_audit).
pub(super) async fn append(
    connection: &mut SqliteConnection,
    draft: AuditDraft,
) -> Result<AuditEntry, DecisionLogError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(database)?;
    let statement = sqlx::query(BEFORE).bind(i64::MAX).bind(1);
    let last = statement.fetch_optional(&mut *tx).await.map_err(database)?;
    let last = last.map(|row| entry(&row)).transpose()?.map(|last| (last.number, last.hash));
    let entry = AuditEntry::after(last, now_microseconds(), draft);
    let draft = &entry.draft;
    let statement = sqlx::query(ADD)
        .bind(entry.number.cast_signed())
        .bind(entry.at_microseconds)
        .bind(draft.kind.name())
        .bind(draft.begun.map(u64::cast_signed))
        .bind(&draft.who)
        .bind(&draft.origin)
        .bind(&draft.act)
        .bind(&draft.target)
        .bind(&draft.reason)
        .bind(&draft.plan)
        .bind(&draft.before)
        .bind(&draft.after)
        .bind(&draft.result)
        .bind(draft.incarnation.map(|incarnation| incarnation.to_string()))
        .bind(&entry.previous.0[..])
        .bind(&entry.hash.0[..]);
    statement.execute(&mut *tx).await.map_err(database)?;
    tx.commit().await.map_err(database)?;
    Ok(entry)
}

/// Reads a page.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    page: AuditPage,
    limit: u32,
) -> Result<Vec<AuditEntry>, DecisionLogError> {
    let (sql, number) = match page {
        AuditPage::After(number) => (AFTER, number),
        AuditPage::Before(number) => (BEFORE, number.unwrap_or(u64::MAX)),
    };
    // Numbers that the column cannot hold lie after all that it holds.
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let statement = sqlx::query(sql).bind(number).bind(i64::from(limit));
    statement.fetch_all(connection).await.map_err(database)?.iter().map(entry).collect()
}

/// Reads the beginnings that a coordinator which is gone left without an end.
pub(super) async fn unended(connection: &mut SqliteConnection) -> Result<Vec<AuditEntry>, DecisionLogError> {
    let statement = sqlx::query(UNENDED).bind(i64::from(UNENDED_MAX));
    statement.fetch_all(connection).await.map_err(database)?.iter().map(entry).collect()
}

/// A row of `audit`.
fn entry(row: &SqliteRow) -> Result<AuditEntry, DecisionLogError> {
    let text = |name| get::<String>(row, name);
    let incarnation: Option<String> = get(row, "incarnation")?;
    let incarnation =
        incarnation.map(|id| id.parse::<Incarnation>().map_err(rows::unreadable)).transpose()?;
    AuditColumns {
        number: get(row, "number")?,
        at_microseconds: get(row, "at")?,
        kind: text("kind")?,
        begun: get(row, "begun")?,
        texts: [
            text("who")?,
            text("origin")?,
            text("act")?,
            text("target")?,
            text("reason")?,
            text("plan")?,
            text("state_before")?,
            text("state_after")?,
            text("result")?,
        ],
        incarnation,
        previous: get(row, "previous")?,
        hash: get(row, "hash")?,
    }
    .entry()
}
