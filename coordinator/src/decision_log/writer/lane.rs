//! One lane: a connection and the task that owns it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pactum_core::outcome::ProposalResult;
use pactum_core::time::RetryDelay;

use tokio::time::Instant;

use super::Shared;
use crate::decision_log::DecisionWriter;

/// Between two attempts to connect. The cap is what a coordinator may lag behind its log's return.
const RECONNECT: RetryDelay = RetryDelay { first: Duration::from_millis(50), cap: Duration::from_secs(2) };

/// A lane without work asks its connection whether it is still there, so that the loss of the log is
/// known before the next decision finds out the slow way.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// Runs a lane, and another one if that should panic: its batch was answered when it was dropped.
pub(super) async fn supervise(shared: Arc<Shared>) {
    while let Err(error) = tokio::spawn(run(Arc::clone(&shared))).await {
        if !error.is_panic() {
            return;
        }
        tracing::error!(%error, "a lane of the log writer panicked; starting another one");
        tokio::time::sleep(RECONNECT.first).await;
    }
}

async fn run(shared: Arc<Shared>) {
    let mut attempt = 0;
    loop {
        match shared.log.open_writer().await {
            // It has tried a write, too.
            Ok(writer) => {
                let up = Up::new(&shared);
                let served = serve(&shared, writer).await;
                drop(up);
                match served {
                    Served::ToTheEnd => return,
                    // A log that takes connections and fails each write is as good as away.
                    Served::UntilSpent { of_use } => attempt = if of_use { 0 } else { attempt + 1 },
                }
            }
            Err(error) => {
                attempt += 1;
                tracing::warn!(%error, cause = cause(&error), attempt, "the decision log cannot be reached");
                shared.failed(format!("{error}{}", cause(&error)));
            }
        }
        // While no lane has a connection, whoever waits is told so rather than kept.
        if shared.connected.load(Ordering::Acquire) == 0 && attempt > 0 {
            shared.give_up_waiting();
        }
        if shared.queue.is_closed() && attempt > 0 {
            return;
        }
        let delay = RECONNECT.after(attempt.max(1), rand::random());
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shared.queue.closed() => {}
        }
    }
}

/// The innermost cause, for people.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!(": {error}");
        next = error.source();
    }
    text
}

/// Counts a lane as connected, also if it panics.
struct Up<'a>(&'a Shared);

impl<'a> Up<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.is_up();
        Self(shared)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.is_down();
    }
}

/// How a connection's service ended.
enum Served {
    /// The queue is closed and empty.
    ToTheEnd,
    /// It cannot be used any more.
    UntilSpent {
        /// Whether it had answered anything.
        of_use: bool,
    },
}

/// Writes batches until the connection is spent, or the queue is closed and empty.
async fn serve(shared: &Shared, mut writer: Box<dyn DecisionWriter>) -> Served {
    let config = &shared.config;
    let mut of_use = false;
    loop {
        let next = shared.queue.next(config.batch_rows, config.batch_bytes);
        let batch = match tokio::time::timeout(IDLE_CHECK, next).await {
            Ok(Some(batch)) => batch,
            Ok(None) => return Served::ToTheEnd,
            Err(_idle) => match writer.check().await {
                Ok(()) => {
                    of_use = true;
                    continue;
                }
                Err(error) => {
                    let why = problem(shared, &*writer);
                    tracing::warn!(%error, why, "an idle connection to the decision log was given up");
                    shared.failed(why.unwrap_or_else(|| format!("{error}{}", cause(&error))));
                    return Served::UntilSpent { of_use };
                }
            },
        };
        shared.rows.fetch_add(batch.proposals.len() as u64, Ordering::Relaxed);
        let began = Instant::now();
        let results = writer.write(batch.incarnation, &batch.proposals).await;
        let took = began.elapsed();
        let is_spent = results.contains(&ProposalResult::Unknown) || results.len() < batch.proposals.len();
        (shared.meter)(batch.proposals.len(), took, !is_spent);
        batch.answer(results);
        if is_spent {
            let why = problem(shared, &*writer);
            shared.failed(why.unwrap_or_else(|| "the answer to a write was lost".to_owned()));
            return Served::UntilSpent { of_use };
        }
        of_use = true;
    }
}

/// Why a writer is spent. A log that refuses writes is unavailable at once: the other lanes would find it
/// no better, one decision after the other.
fn problem(shared: &Shared, writer: &dyn DecisionWriter) -> Option<String> {
    let problem = writer.problem()?;
    if problem.refuses_writes {
        shared.is_refusing();
    }
    Some(problem.text)
}
