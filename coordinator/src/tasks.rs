//! The coordinator's own tasks: tracked, so that a drain can await them, and ended together when
//! the coordinator is dropped hard.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks that no caller can cancel and that end when the coordinator is killed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    killed: CancellationToken,
}

impl Tasks {
    /// Runs a task to its end, or until [`kill`](Self::kill).
    pub(crate) fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let killed = self.killed.clone();
        self.tracker.spawn(async move { killed.run_until_cancelled(future).await })
    }

    /// Ends every task where it stands, as a crash would.
    pub(crate) fn kill(&self) {
        self.killed.cancel();
    }

    /// Cancelled by [`kill`](Self::kill).
    pub(crate) fn killed(&self) -> CancellationToken {
        self.killed.clone()
    }

    /// Waits until every task has ended. None may be spawned after.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
