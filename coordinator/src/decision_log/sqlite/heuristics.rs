//! Heuristic outcomes: kept next to the decisions until they agree with one, or somebody forgets them.

use std::time::{Duration, SystemTime};

use pactum_core::id::Gid;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::rows::get;
use super::{database, json, now, rows, sql};
use crate::decision_log::{
    CLEARED_MAX, DecisionLogError, HeuristicRecord, StoredHeuristic, codec, whole_gids,
};

/// As a JSON array, for `json_each`.
pub(super) fn text(heuristics: &[HeuristicRecord]) -> String {
    let row = |record: &HeuristicRecord| {
        (
            record.id.gid.to_string(),
            codec::branch_number(record.branch.id),
            record.id.incarnation.to_string(),
            record.branch.resource.to_string(),
            record.branch.instance.to_string(),
            i64::from(record.branch.marker),
            codec::outcome_text(record.outcome),
        )
    };
    json(&heuristics.iter().map(row).collect::<Vec<_>>())
}

/// Keeps what [`text`] says.
pub(super) async fn record(connection: &mut SqliteConnection, rows: String) -> Result<(), DecisionLogError> {
    let statement = sqlx::query(sql::RECORD_HEURISTICS).bind(rows).bind(now());
    statement.execute(connection).await.map_err(database).map(drop)
}

/// Those of these gids.
pub(super) async fn of(
    connection: &mut SqliteConnection,
    gids: String,
) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
    let rows = sqlx::query(sql::HEURISTICS_OF).bind(gids).fetch_all(connection).await.map_err(database)?;
    rows.iter().map(rows::heuristic).collect()
}

/// A page of all.
pub(super) async fn list(
    connection: &mut SqliteConnection,
    before: Option<Gid>,
    limit: u32,
) -> Result<Vec<StoredHeuristic>, DecisionLogError> {
    let statement =
        sqlx::query(sql::LIST_HEURISTICS).bind(before.map(|gid| gid.to_string())).bind(i64::from(limit) + 1);
    let found = statement.fetch_all(connection).await.map_err(database)?;
    Ok(whole_gids(found.iter().map(stored).collect::<Result<_, _>>()?, limit))
}

/// Drops those of a gid.
pub(super) async fn forget(connection: &mut SqliteConnection, gid: Gid) -> Result<u64, DecisionLogError> {
    let statement = sqlx::query(sql::FORGET_HEURISTICS).bind(gid.to_string());
    Ok(statement.execute(connection).await.map_err(database)?.rows_affected())
}

/// Drops those that agree with a decision.
pub(super) async fn clear_agreeing(
    connection: &mut SqliteConnection,
) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
    let statement = sqlx::query(sql::CLEAR_AGREEING_HEURISTICS).bind(i64::from(CLEARED_MAX));
    let found = statement.fetch_all(connection).await.map_err(database)?;
    found.iter().map(rows::heuristic).collect()
}

/// A row of `heuristics` with what is known of it.
fn stored(row: &SqliteRow) -> Result<StoredHeuristic, DecisionLogError> {
    let record = rows::heuristic(row)?;
    let since_1970 = Duration::from_millis(get::<i64>(row, "recorded_at")?.unsigned_abs());
    let decision = codec::read_decision(record.id.gid, get::<Option<String>>(row, "decision")?.as_deref())?;
    Ok(StoredHeuristic { record, recorded_at: SystemTime::UNIX_EPOCH + since_1970, decision })
}
