//! Rows of the PostgreSQL log as values.

use std::time::{Duration, SystemTime};

use pactum_core::id::{Branch, Gid, InstanceId, ResourceName};
use pactum_core::outcome::{DecisionRecord, Details};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::session::SessionError;
use crate::decision_log::codec::{self, DecisionColumns};
use crate::decision_log::{
    DecisionLogError, HeuristicRecord, NumberedCommit, StoredState, StoredTransaction, UndecidedRecord,
};

/// Reads one column.
pub(super) fn get<'r, T>(row: &'r PgRow, name: &'static str) -> Result<T, DecisionLogError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(name).map_err(|error| SessionError::from(error).into())
}

/// The single row of the log's state is gone: the log is not one.
pub(super) fn no_state() -> DecisionLogError {
    DecisionLogError::SchemaNotReady { problem: "its row in pactum.log_state is missing".into() }
}

/// A row of `pactum.decisions`.
pub(super) fn decision(row: &PgRow) -> Result<DecisionRecord, DecisionLogError> {
    columns(row)?.record(codec::id_of(get(row, "incarnation")?, get(row, "gid")?))
}

fn columns(row: &PgRow) -> Result<DecisionColumns, DecisionLogError> {
    Ok(DecisionColumns {
        number: get(row, "number")?,
        decision: get::<String>(row, "decision")?.into(),
        reason_kind: get::<Option<String>>(row, "reason_kind")?.map(Into::into),
        reason_message: get(row, "reason_message")?,
        branches: get(row, "branches")?,
        details: get(row, "details")?,
        format: get(row, "format")?,
    })
}

/// A row of `pactum.decisions` that is a commit.
pub(super) fn commit(row: &PgRow) -> Result<NumberedCommit, DecisionLogError> {
    let record = decision(row)?;
    let gid = record.id.gid;
    match u64::try_from(get::<i64>(row, "number")?) {
        Ok(number) => Ok(NumberedCommit { number, record }),
        Err(error) => Err(codec::corrupt(gid, format!("its number: {error}"))),
    }
}

/// A decision as operators see it.
pub(super) fn stored(row: &PgRow) -> Result<StoredTransaction, DecisionLogError> {
    let record = decision(row)?;
    let since_1970 = Duration::from_micros(get::<i64>(row, "decided_micros")?.unsigned_abs());
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

/// A row of `pactum.undecided`.
pub(super) fn undecided(row: &PgRow) -> Result<StoredTransaction, DecisionLogError> {
    let id = codec::id_of(get(row, "incarnation")?, get(row, "gid")?);
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
    let age = Duration::from_millis(u64::try_from(get::<i64>(row, "age_millis")?).unwrap_or(0));
    let record = UndecidedRecord { id, branches, details, age };
    Ok(StoredTransaction { id, state: StoredState::Undecided { record }, heuristics: Vec::new() })
}

/// A row of `pactum.heuristics`.
pub(super) fn heuristic(row: &PgRow) -> Result<HeuristicRecord, DecisionLogError> {
    let gid: Uuid = get(row, "gid")?;
    let read = |problem: String| codec::corrupt(Gid::from_uuid(gid), problem);
    let resource: String = get(row, "resource")?;
    Ok(HeuristicRecord {
        id: codec::id_of(get(row, "incarnation")?, gid),
        branch: Branch {
            id: codec::read_branch_number(get(row, "branch")?),
            resource: ResourceName::new(&resource).map_err(|error| read(error.to_string()))?,
            instance: InstanceId::from_uuid(get(row, "instance")?),
            marker: get(row, "marker")?,
        },
        outcome: codec::read_outcome(&get::<String>(row, "outcome")?).map_err(read)?,
    })
}
