//! Rows of the SQLite log as values.

use std::time::{Duration, SystemTime};

use pactum_core::id::{Branch, Gid, InstanceId, NameError, ResourceName, TransactionId};
use pactum_core::outcome::{DecisionRecord, Details};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{database, now};
use crate::decision_log::codec::{self, DecisionColumns};
use crate::decision_log::{
    DecisionLogError, HeuristicRecord, NumberedCommit, StoredState, StoredTransaction, UndecidedRecord,
};

/// Reads one column.
pub(super) fn get<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T, DecisionLogError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(name).map_err(database)
}

/// The single row of the log's state is gone: the log is not one.
pub(super) fn no_state() -> DecisionLogError {
    DecisionLogError::SchemaNotReady { problem: "its row in log_state is missing".into() }
}

/// A name in the log that is not one.
#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
pub(super) fn unreadable(error: NameError) -> DecisionLogError {
    DecisionLogError::Corrupt { gid: error.given.clone(), problem: error.to_string() }
}

/// A column that holds a gid.
pub(super) fn gid(row: &SqliteRow, name: &'static str) -> Result<Gid, DecisionLogError> {
    get::<String>(row, name)?.parse().map_err(unreadable)
}

fn id(row: &SqliteRow) -> Result<TransactionId, DecisionLogError> {
    let incarnation = get::<String>(row, "incarnation")?.parse().map_err(unreadable)?;
    Ok(TransactionId { incarnation, gid: gid(row, "gid")? })
}

/// A row of `decisions`.
pub(super) fn decision(row: &SqliteRow) -> Result<DecisionRecord, DecisionLogError> {
    let columns = DecisionColumns {
        number: get(row, "number")?,
        decision: get::<String>(row, "decision")?.into(),
        reason_kind: get::<Option<String>>(row, "reason_kind")?.map(Into::into),
        reason_message: get(row, "reason_message")?,
        branches: get(row, "branches")?,
        details: get(row, "details")?,
        format: get(row, "format")?,
    };
    columns.record(id(row)?)
}

/// A row of `decisions` that is a commit.
pub(super) fn commit(row: &SqliteRow) -> Result<NumberedCommit, DecisionLogError> {
    let record = decision(row)?;
    let gid = record.id.gid;
    match u64::try_from(get::<i64>(row, "number")?) {
        Ok(number) => Ok(NumberedCommit { number, record }),
        Err(error) => Err(codec::corrupt(gid, format!("its number: {error}"))),
    }
}

/// A decision as operators see it.
pub(super) fn stored(row: &SqliteRow) -> Result<StoredTransaction, DecisionLogError> {
    let record = decision(row)?;
    let since_1970 = Duration::from_millis(get::<i64>(row, "decided_at")?.unsigned_abs());
    Ok(StoredTransaction {
        id: record.id,
        state: StoredState::Decided {
            record,
            decided_at: SystemTime::UNIX_EPOCH + since_1970,
            finished: get(row, "finished")?,
        },
        heuristics: Vec::new(),
    })
}

/// A row of `undecided`.
pub(super) fn undecided(row: &SqliteRow) -> Result<StoredTransaction, DecisionLogError> {
    let id = id(row)?;
    let (format, branches, details): (i16, String, String) =
        (get(row, "format")?, get(row, "branches")?, get(row, "details")?);
    let read = || -> Result<(Vec<Branch>, Details), String> {
        codec::check_format(format)?;
        let branches = codec::read_branches(&branches)?;
        let details = codec::read_details(&details)?;
        Ok((branches.into_iter().map(|decided| decided.branch).collect(), details))
    };
    let (branches, details) = read().map_err(|problem| codec::corrupt(id.gid, problem))?;
    // A clock that was set back must not give a negative age.
    let age = now().saturating_sub(get(row, "began_at")?);
    let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
    let record = UndecidedRecord { id, branches, details, age };
    Ok(StoredTransaction { id, state: StoredState::Undecided { record }, heuristics: Vec::new() })
}

/// A row of `heuristics`.
pub(super) fn heuristic(row: &SqliteRow) -> Result<HeuristicRecord, DecisionLogError> {
    let id = id(row)?;
    let resource: String = get(row, "resource")?;
    let instance: InstanceId = get::<String>(row, "instance")?.parse().map_err(unreadable)?;
    Ok(HeuristicRecord {
        id,
        branch: Branch {
            id: codec::read_branch_number(get(row, "branch")?),
            resource: ResourceName::new(&resource).map_err(unreadable)?,
            instance,
            marker: get(row, "marker")?,
        },
        outcome: codec::read_outcome(&get::<String>(row, "outcome")?)
            .map_err(|problem| codec::corrupt(id.gid, problem))?,
    })
}
