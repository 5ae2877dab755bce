//! A log file that went back in time: who is in doubt, and how that is lifted.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use pactum_core::id::{Cluster, Incarnation};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Sqlite, Transaction};

use super::rows::{self, get};
use super::{database, now, sql};
use crate::decision_log::status::EVENTS_MAX;
use crate::decision_log::{
    DecisionLogError, IncarnationStatus, LogEvent, LogEventKind, LogStatus, Release, codec,
};

async fn note(
    tx: &mut Transaction<'_, Sqlite>,
    kind: LogEventKind,
    incarnation: Option<Incarnation>,
    detail: &str,
) -> Result<(), DecisionLogError> {
    let statement = sqlx::query(sql::NOTE)
        .bind(now())
        .bind(kind.name())
        .bind(incarnation.map(|incarnation| incarnation.to_string()))
        .bind(detail.replace('\0', ""));
    statement.execute(&mut **tx).await.map_err(database).map(drop)
}

/// Ends all that has not ended and puts it in doubt. Durable on return.
pub(super) async fn doubt_all(
    connection: &mut SqliteConnection,
    detail: String,
) -> Result<(), DecisionLogError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(database)?;
    let doubted = sqlx::query(sql::DOUBT).bind(now()).execute(&mut *tx).await.map_err(database)?;
    sqlx::query(sql::SWITCH).execute(&mut *tx).await.map_err(database)?;
    note(&mut tx, LogEventKind::Doubted, None, &detail).await?;
    tx.commit().await.map_err(database)?;
    tracing::error!(
        incarnations = doubted.rows_affected(),
        detail,
        "the log went back in time: what has no record is in doubt until an operator releases it"
    );
    Ok(())
}

/// Its coordinator is this process, whose records this file holds: it was never away.
pub(super) async fn vouch(
    connection: &mut SqliteConnection,
    incarnation: Incarnation,
) -> Result<(), DecisionLogError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(database)?;
    let statement = sqlx::query(sql::VOUCH).bind(incarnation.to_string());
    if statement.execute(&mut *tx).await.map_err(database)?.rows_affected() > 0 {
        note(&mut tx, LogEventKind::Vouched, Some(incarnation), "all that was acknowledged stands").await?;
    }
    tx.commit().await.map_err(database)
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    which: Release,
    reason: String,
) -> Result<u64, DecisionLogError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(database)?;
    let (released, of) = match which {
        Release::One(incarnation) => {
            let statement = sqlx::query(sql::RELEASE_ONE).bind(incarnation.to_string());
            (statement.execute(&mut *tx).await.map_err(database)?, Some(incarnation))
        }
        Release::All => {
            sqlx::query(sql::RELEASE_ABSENT).execute(&mut *tx).await.map_err(database)?;
            (sqlx::query(sql::RELEASE_ALL).execute(&mut *tx).await.map_err(database)?, None)
        }
    };
    note(&mut tx, LogEventKind::Released, of, &reason).await?;
    tx.commit().await.map_err(database)?;
    let released = released.rows_affected();
    tracing::warn!(released, reason, "an operator lifted doubts");
    Ok(released)
}

/// Those of these that are in doubt, or would be if they had a row.
pub(super) async fn doubted_of(
    connection: &mut SqliteConnection,
    asked: String,
) -> Result<BTreeSet<Incarnation>, DecisionLogError> {
    let statement = sqlx::query_scalar::<_, String>(sql::DOUBTED_OF).bind(asked);
    let found = statement.fetch_all(connection).await.map_err(database)?;
    found.iter().map(|id| id.parse().map_err(rows::unreadable)).collect()
}

pub(super) async fn status(
    connection: &mut SqliteConnection,
    cluster: Cluster,
) -> Result<LogStatus, DecisionLogError> {
    let found = sqlx::query(sql::STATUS).fetch_all(&mut *connection).await.map_err(database)?;
    let first = found.first().ok_or_else(rows::no_state)?;
    let mut status = LogStatus {
        kind: "sqlite",
        cluster,
        floor: rows::gid(first, "floor")?,
        server: None,
        switches: get::<i64>(first, "switches")?.unsigned_abs(),
        absent_doubted: get(first, "absent_doubted")?,
        replication: None,
        incarnations: Vec::new(),
        events: Vec::new(),
    };
    for row in &found {
        let Some(id) = get::<Option<String>>(row, "id")? else { continue };
        status.incarnations.push(IncarnationStatus {
            incarnation: id.parse().map_err(rows::unreadable)?,
            address: get(row, "address")?,
            started_at: at(get(row, "started_at")?),
            ended_at: get::<Option<i64>>(row, "run_ended_at")?.map(at),
            live: get(row, "live")?,
            recovered: get(row, "recovered")?,
            doubted: get(row, "doubted")?,
        });
    }
    let statement = sqlx::query(sql::EVENTS).bind(i64::from(EVENTS_MAX));
    for row in &statement.fetch_all(connection).await.map_err(database)? {
        let incarnation: Option<String> = get(row, "incarnation")?;
        status.events.push(LogEvent {
            at: at(get(row, "at")?),
            kind: codec::read_event_kind(&get::<String>(row, "kind")?)?,
            incarnation: incarnation.map(|id| id.parse().map_err(rows::unreadable)).transpose()?,
            who: "this machine".into(),
            detail: get(row, "detail")?,
        });
    }
    Ok(status)
}

/// A time as the file holds it.
fn at(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
