//! Forgetting: the floor is raised past what is old and finished, and rows under it go (law 7).
//!
//! The order is the log's: the raise has committed before a row is deleted. Age chooses how far
//! to go; that nothing unfinished is passed is checked by the log itself. Before that, heuristic outcomes
//! that agree with the decision are dropped: nobody need look at them, and they hold their records no longer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::decision_log::{DecisionLog, DecisionLogError, HeuristicRecord};
use crate::journal::chain;
use crate::metrics::Metrics;

/// Rows deleted by one statement. More holds locks and makes the log's disk busy for longer.
const DELETE_ROWS: u32 = 5000;

/// Between two statements, so that decisions are not behind them for long.
const DELETE_PAUSE: Duration = Duration::from_millis(20);

/// The longest and the shortest time between two raises.
const PERIOD: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);

/// Raises the floor and deletes under it, for the coordinator's life.
pub(crate) async fn forget_for_ever(log: Arc<dyn DecisionLog>, retention: Duration, metrics: Metrics) {
    let mut ticks = interval((retention / 100).clamp(*PERIOD.start(), *PERIOD.end()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = clear_agreeing(log.as_ref()).await {
            tracing::warn!(error = %chain(&error), "heuristic outcomes could not be compared with the decisions yet");
        }
        if let Err(error) = forget(log.as_ref(), retention, &metrics).await {
            tracing::warn!(error = %chain(&error), "old decisions could not be forgotten yet");
        }
    }
}

async fn forget(
    log: &dyn DecisionLog,
    retention: Duration,
    metrics: &Metrics,
) -> Result<(), DecisionLogError> {
    if let Some(to) = log.newest_older_than(retention).await? {
        let floor = log.raise_floor(to).await?;
        tracing::debug!(%floor, "the floor stands here");
    }
    // Also if nothing is old enough now: whoever raised the floor before may have died before he had
    // deleted what is under it, and what an operator has seen since may go.
    let mut deleted = 0;
    loop {
        let rows = log.delete_below_floor(DELETE_ROWS).await?;
        deleted += rows;
        metrics.forgot(rows);
        if rows < u64::from(DELETE_ROWS) {
            break;
        }
        tokio::time::sleep(DELETE_PAUSE).await;
    }
    if deleted > 0 {
        tracing::info!(deleted, "old decisions forgotten");
    }
    Ok(())
}

/// Drops heuristic outcomes that turned out to be what was decided, and tells each.
async fn clear_agreeing(log: &dyn DecisionLog) -> Result<(), DecisionLogError> {
    loop {
        let cleared = log.clear_agreeing_heuristics().await?;
        for HeuristicRecord { id, branch, outcome } in &cleared {
            tracing::info!(%id, branch = %branch.id, resource = %branch.resource, ?outcome,
                "a branch that was ended by hand ended as was decided: its heuristic outcome is dropped");
        }
        if cleared.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(DELETE_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use pactum_core::outcome::HeuristicOutcome;

    use super::*;
    use crate::decision_log::contract::{branch, commit, gid};
    use crate::decision_log::memory::MemoryLog;
    use crate::decision_log::{FinishUpdate, ListPage};

    #[tokio::test]
    async fn a_round_drops_what_agrees_and_keeps_what_an_operator_has_to_see() {
        let log = MemoryLog::new();
        let own = log.start_incarnation("here").await.unwrap();
        let commits = [commit(own, gid(1), 1), commit(own, gid(2), 2)];
        log.open_writer().await.unwrap().write(own, &commits).await;
        let heuristic =
            |n: usize, outcome| HeuristicRecord { id: commits[n].record.id, branch: branch(1), outcome };
        let (agreeing, other) =
            (heuristic(0, HeuristicOutcome::Committed), heuristic(1, HeuristicOutcome::Aborted));
        log.record_heuristics(&[agreeing, other.clone()]).await.unwrap();
        let update = FinishUpdate { mark: Some((own, 2)), ..FinishUpdate::default() };
        log.record_finished(&update).await.unwrap();
        clear_agreeing(&log).await.unwrap();
        forget(&log, Duration::ZERO, &Metrics::default()).await.unwrap();
        assert_eq!(log.heuristics(&[gid(1), gid(2)]).await.unwrap(), [other]);
        let page = ListPage { limit: 10, ..ListPage::default() };
        let left: Vec<_> = log.list(&page).await.unwrap().into_iter().map(|stored| stored.id.gid).collect();
        assert_eq!(left, [gid(2)], "the first is forgotten in the same round");
    }
}
