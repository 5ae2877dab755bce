//! Heuristic outcomes: kept next to the decisions until they agree with one, or somebody forgets them.

use std::time::{Duration, SystemTime};

use pactum_core::id::Gid;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::rows::{self, get};
use super::session::Session;
use super::{sql, uuids};
use crate::decision_log::{
    CLEARED_MAX, DecisionLogError, HeuristicRecord, StoredHeuristic, codec, whole_gids,
};

impl Session {
    /// Keeps outcomes of different branches.
    pub(super) async fn record_heuristics(
        &mut self,
        records: &[HeuristicRecord],
    ) -> Result<(), DecisionLogError> {
        let of = || records.iter();
        let statement = sqlx::query(sql::RECORD_HEURISTICS)
            .bind(uuids(of().map(|r| &r.id.gid)))
            .bind(of().map(|r| codec::branch_number(r.branch.id)).collect::<Vec<i64>>())
            .bind(of().map(|r| *r.id.incarnation.as_uuid()).collect::<Vec<Uuid>>())
            .bind(of().map(|r| r.branch.resource.to_string()).collect::<Vec<String>>())
            .bind(of().map(|r| *r.branch.instance.as_uuid()).collect::<Vec<Uuid>>())
            .bind(of().map(|r| r.branch.marker).collect::<Vec<bool>>())
            .bind(of().map(|r| codec::outcome_text(r.outcome)).collect::<Vec<&str>>())
            .execute(&mut self.connection);
        self.notices.watch(self.limit, statement).await?;
        Ok(())
    }

    /// Those of these gids.
    pub(super) async fn heuristics_of(
        &mut self,
        gids: Vec<Uuid>,
    ) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        let statement = sqlx::query(sql::HEURISTICS_OF).bind(gids).fetch_all(&mut self.connection);
        self.notices.watch(self.limit, statement).await?.iter().map(rows::heuristic).collect()
    }

    /// A page of all.
    pub(super) async fn list_heuristics(
        &mut self,
        before: Option<Gid>,
        limit: u32,
    ) -> Result<Vec<StoredHeuristic>, DecisionLogError> {
        let statement = sqlx::query(sql::LIST_HEURISTICS)
            .bind(before.map(|gid| *gid.as_uuid()))
            .bind(i64::from(limit) + 1)
            .fetch_all(&mut self.connection);
        let found = self.notices.watch(self.limit, statement).await?;
        Ok(whole_gids(found.iter().map(stored).collect::<Result<_, _>>()?, limit))
    }

    /// Drops those of a gid. Durable on return, also what somebody else dropped.
    pub(super) async fn forget_heuristics(&mut self, gid: Gid) -> Result<u64, DecisionLogError> {
        let statement =
            sqlx::query(sql::FORGET_HEURISTICS).bind(*gid.as_uuid()).execute(&mut self.connection);
        let forgotten = self.notices.watch(self.limit, statement).await?.rows_affected();
        if forgotten == 0 {
            self.barrier().await?;
        }
        Ok(forgotten)
    }

    /// Drops those that agree with a decision.
    pub(super) async fn clear_agreeing_heuristics(
        &mut self,
    ) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        let statement = sqlx::query(sql::CLEAR_AGREEING_HEURISTICS)
            .bind(i64::from(CLEARED_MAX))
            .fetch_all(&mut self.connection);
        self.notices.watch(self.limit, statement).await?.iter().map(rows::heuristic).collect()
    }
}

/// A row of `pactum.heuristics` with what is known of it.
fn stored(row: &PgRow) -> Result<StoredHeuristic, DecisionLogError> {
    let record = rows::heuristic(row)?;
    let since_1970 = Duration::from_micros(get::<i64>(row, "recorded_micros")?.unsigned_abs());
    let decision = codec::read_decision(record.id.gid, get::<Option<String>>(row, "decision")?.as_deref())?;
    Ok(StoredHeuristic { record, recorded_at: SystemTime::UNIX_EPOCH + since_1970, decision })
}
