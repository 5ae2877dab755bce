//! A rolling kill: each coordinator in turn, under load, and nothing else.

use std::time::Duration;

use super::Running;
use super::arguments::Run;
use super::child::Deed;

/// Load before the first kill, and after each restart: longer than a takeover.
const BETWEEN: Duration = Duration::from_secs(7);

/// Kills one after the other until the time is up, and each at least once.
pub(super) async fn run(run: &Run) -> anyhow::Result<bool> {
    let running = Running::start("rolling-kill", run).await?;
    let until = tokio::time::Instant::now() + Duration::from_secs(run.seconds);
    loop {
        for coordinator in &running.stage.coordinators {
            tokio::time::sleep(BETWEEN).await;
            coordinator.order(Deed::Kill).await;
            coordinator.up().await;
        }
        if tokio::time::Instant::now() >= until {
            break;
        }
    }
    running.finish(run).await
}
