//! Commits that a coordinator had decided and not finished when it ended, as they stand in the log.

use pactum_core::id::{BranchId, Gid, Incarnation, InstanceId};
use serde::Serialize;
use sqlx::Connection as _;
use uuid::Uuid;

use super::failed;
use crate::bench::place::connect;
use crate::failure::Failure;

/// Rows in one statement: bounds its memory.
const BATCH: usize = 5000;

/// What stands in the column `details`: an application's name for what it does, and a label.
const DETAILS: &str = r#"{"name":"transfer","labels":{"order":"4711"}}"#;

/// Its fence is down, and nothing of it is marked as finished.
const END: &str = "\
WITH ended AS (INSERT INTO pactum.incarnations (id, address, ended_at) VALUES ($1, '', now()))
INSERT INTO pactum.progress (incarnation) VALUES ($1)";

const LEAVE: &str = "\
INSERT INTO pactum.decisions (gid, incarnation, number, decision, branches, details)
SELECT gid, $1, number, 'commit', branches, $5
FROM unnest($2::uuid[], $3::int8[], $4::text[]) AS c (gid, number, branches)";

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) gid: Gid,
    pub(super) branches: String,
}

/// A branch with the evidence of its vote.
#[derive(Clone, Debug)]
pub(super) struct Voted<'a> {
    pub(super) branch: BranchId,
    pub(super) resource: &'a str,
    pub(super) execution: &'a str,
    pub(super) anchor: &'a str,
}

/// The form of a branch in the log.
#[derive(Serialize)]
struct BranchText<'a> {
    branch: String,
    resource: &'a str,
    instance: String,
    marker: bool,
    execution: &'a str,
    anchor: &'a str,
}

/// The text of the column `branches`. The instance that enlisted them is gone, as after a restart.
pub(super) fn branches_text(branches: &[Voted<'_>], instance: InstanceId) -> Result<String, Failure> {
    let texts: Vec<BranchText<'_>> = branches
        .iter()
        .map(|voted| BranchText {
            branch: voted.branch.to_string(),
            resource: voted.resource,
            instance: instance.to_string(),
            marker: false,
            execution: voted.execution,
            anchor: voted.anchor,
        })
        .collect();
    serde_json::to_string(&texts).map_err(|error| failed("the commits have no text").because(&error))
}

/// Names in the order in which they are made.
pub(super) fn gids(count: u32) -> Vec<Gid> {
    (0..count).map(|_| Gid::from_uuid(Uuid::now_v7())).collect()
}

/// Leaves these commits in the log at that URL, all or none, as those of an incarnation that has ended.
pub(super) async fn leave(url: &str, incarnation: Incarnation, commits: &[Commit]) -> Result<(), Failure> {
    let failed = |error: sqlx::Error| failed("the commits could not be written into the log").because(&error);
    let mut connection = connect(url).await?;
    let mut transaction = connection.begin().await.map_err(failed)?;
    let owner = *incarnation.as_uuid();
    sqlx::query(END).bind(owner).execute(&mut *transaction).await.map_err(failed)?;
    let mut number = 0_i64;
    for batch in commits.chunks(BATCH) {
        let numbers: Vec<i64> = (number + 1..).take(batch.len()).collect();
        number = numbers.last().copied().unwrap_or(number);
        sqlx::query(LEAVE)
            .bind(owner)
            .bind(batch.iter().map(|commit| *commit.gid.as_uuid()).collect::<Vec<_>>())
            .bind(numbers)
            .bind(batch.iter().map(|commit| commit.branches.as_str()).collect::<Vec<_>>())
            .bind(DETAILS)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    // As it would be long after they were written: what they left to write is written.
    sqlx::raw_sql("ANALYZE pactum.decisions; CHECKPOINT").execute(&mut connection).await.map_err(failed)?;
    connection.close().await.map_err(failed)
}

/// Whether the log lists none of that incarnation's commits as unfinished.
const NONE_LEFT: &str = "\
SELECT EXISTS (SELECT FROM pactum.incarnations WHERE id = $1 AND recovered_at IS NOT NULL)
   AND NOT EXISTS (SELECT FROM pactum.stragglers WHERE incarnation = $1)";

/// Waits until the log says so: end records are lazy.
pub(super) async fn until_none_is_left(url: &str, incarnation: Incarnation) -> Result<(), Failure> {
    let failed = |error: sqlx::Error| failed("the log does not answer").because(&error);
    let mut connection = connect(url).await?;
    let until = tokio::time::Instant::now() + super::FINISH_WITHIN;
    loop {
        let query = sqlx::query_scalar(NONE_LEFT).bind(*incarnation.as_uuid());
        let none_left: bool = query.fetch_one(&mut connection).await.map_err(failed)?;
        if none_left {
            return connection.close().await.map_err(failed);
        }
        if tokio::time::Instant::now() >= until {
            return Err(super::failed("the log still lists commits as unfinished"));
        }
        tokio::time::sleep(super::LOOK_AGAIN_AFTER).await;
    }
}

/// How many branches ended otherwise than decided. There is no reason for any.
pub(super) async fn heuristics(url: &str) -> Result<u64, Failure> {
    let failed = |error: sqlx::Error| failed("the log does not answer").because(&error);
    let mut connection = connect(url).await?;
    let query = sqlx::query_scalar("SELECT count(*) FROM pactum.heuristics");
    let count: i64 = query.fetch_one(&mut connection).await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(count.unsigned_abs())
}

/// The name that coordinators of that log give branches in databases.
pub(super) async fn cluster(url: &str) -> Result<pactum::Cluster, Failure> {
    let failed = |error: sqlx::Error| failed("the log does not tell its cluster").because(&error);
    let mut connection = connect(url).await?;
    let query = sqlx::query_scalar("SELECT cluster FROM pactum.log_state");
    let cluster: String = query.fetch_one(&mut connection).await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    pactum::Cluster::new(&cluster)
        .map_err(|error| super::failed("the log's cluster has no proper name").because(&error))
}
