//! Forgetting: the floor is raised past what is old and finished, and rows under it go (law 7).
//!
//! The order is the log's: the raise has committed before a row is deleted. Age chooses how far
//! to go; that nothing unfinished is passed is checked by the log itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::decision_log::{DecisionLog, DecisionLogError};
use crate::journal::chain;

/// Rows deleted by one statement. More holds locks and makes the log's disk busy for longer.
const DELETE_ROWS: u32 = 5000;

/// Between two statements, so that decisions are not behind them for long.
const DELETE_PAUSE: Duration = Duration::from_millis(20);

/// The longest and the shortest time between two raises.
const PERIOD: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);

/// Raises the floor and deletes under it, for the coordinator's life.
pub(crate) async fn forget_for_ever(log: Arc<dyn DecisionLog>, retention: Duration) {
    let mut ticks = interval((retention / 100).clamp(*PERIOD.start(), *PERIOD.end()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = forget(log.as_ref(), retention).await {
            tracing::warn!(error = %chain(&error), "old decisions could not be forgotten yet");
        }
    }
}

async fn forget(log: &dyn DecisionLog, retention: Duration) -> Result<(), DecisionLogError> {
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
