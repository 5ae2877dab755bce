//! Group commit: whatever waits when a write returns becomes the next batch, with no timer.
//!
//! ```text
//!  shard ─┐                      ┌─ lane ── DecisionWriter ──▶ log
//!  shard ─┼─▶ queue (bounded) ──▶┤
//!  shard ─┘                      └─ lane ── DecisionWriter ──▶ log
//!    ▲                                │
//!    └── Reply: a batch of answers ◀──┘
//! ```
//!
//! * A lane is a task that owns its connection and is never cancelled; a caller that goes away
//!   takes nothing with it. Two lanes by default: while one waits for the disk, the other gathers.
//! * Every proposal that was taken is answered **exactly once**, also if a lane panics, the log is
//!   down or the writer is shut down: then with [`ProposalResult::Unknown`], which is always
//!   true (law 5). A full queue takes nothing, and gives back what it did not take.
//! * After an unknown answer the lane gives its connection up, tells its submitters at once and
//!   connects anew with jittered back-off. Settling the unknown is the core's business.
//! * Prepare records ride along lazily; see `prepare_records.rs`.
//!
//! It does not know what a proposal means.

mod lane;
pub(crate) mod prepare_records;
mod queue;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pactum_core::id::{Gid, Incarnation, TransactionId};
use pactum_core::outcome::{Decision, ProposalResult};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::prepare_records::PrepareRecords;
use self::queue::{Queue, Submission};
use super::{DecisionLog, Proposal, UndecidedRecord};

/// Takes answers, from within a lane: it must neither block nor panic. One call carries all answers
/// of a batch that go the same way.
pub type Reply = Arc<dyn Fn(Vec<Answer>) + Send + Sync>;

/// Is told of each batch: its rows, how long the log took, and whether all of its answers came. Called
/// from within a lane: it must neither block nor panic.
pub type Meter = Arc<dyn Fn(usize, Duration, bool) + Send + Sync>;

/// The answer to one proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The transaction.
    pub id: TransactionId,
    /// What had been proposed.
    pub decision: Decision,
    /// What became of it.
    pub result: ProposalResult,
}

/// Sizes of the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterConfig {
    /// Connections that write decisions. One leaves the disk idle between two batches; more than
    /// two cut the batches smaller without adding to what a disk can force.
    pub lanes: usize,
    /// Rows in one statement at most. Larger saves round trips under load and makes the last row
    /// wait longer for the first.
    pub batch_rows: usize,
    /// Bytes in one statement at most, near enough; a single larger record goes alone.
    pub batch_bytes: usize,
    /// Proposals waiting at most: about what two lanes write in a second. More would only wait
    /// longer than their deadlines.
    pub queue_rows: usize,
    /// Prepare records kept in memory at most, written and waiting ones together. Beyond it new ones are left out:
    /// they are for people only.
    pub undecided_rows: usize,
    /// Write prepare records at once and without a share: for whoever set their delay to 0.
    pub undecided_always: bool,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            lanes: 2,
            batch_rows: 2048,
            batch_bytes: 1 << 20,
            queue_rows: 65_536,
            undecided_rows: 16_384,
            undecided_always: false,
        }
    }
}

/// The writer of one coordinator. Clones share it; when the last one is dropped it finishes what it
/// has taken and ends.
#[derive(Clone)]
pub struct LogWriter {
    handle: Arc<Handle>,
}

/// Closes the queue with the last handle.
struct Handle {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What lanes and handles share.
pub(super) struct Shared {
    log: Arc<dyn DecisionLog>,
    config: WriterConfig,
    queue: Queue,
    prepare_records: PrepareRecords,
    /// Lanes that have a checked connection.
    connected: AtomicUsize,
    available: watch::Sender<bool>,
    last_error: Mutex<Option<String>>,
    /// Rows of decisions sent so far, for the share of prepare records.
    rows: AtomicU64,
    meter: Meter,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.handle.shared;
        f.debug_struct("LogWriter")
            .field("log", &shared.log.kind())
            .field("waiting", &shared.queue.len())
            .field("available", &*shared.available.borrow())
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Starts the lanes on the current tokio runtime.
    pub fn start(log: Arc<dyn DecisionLog>, config: WriterConfig) -> Self {
        Self::start_measured(log, config, Arc::new(|_, _, _| {}))
    }

    /// As [`start`](Self::start); `meter` is told of each batch.
    pub fn start_measured(log: Arc<dyn DecisionLog>, config: WriterConfig, meter: Meter) -> Self {
        let shared = Arc::new(Shared {
            queue: Queue::new(config.queue_rows),
            prepare_records: PrepareRecords::new(config.undecided_rows, config.undecided_always),
            connected: AtomicUsize::new(0),
            available: watch::Sender::new(false),
            last_error: Mutex::default(),
            rows: AtomicU64::new(0),
            meter,
            log,
            config,
        });
        let mut tasks: Vec<_> = (0..shared.config.lanes.max(1))
            .map(|_| tokio::spawn(lane::supervise(Arc::clone(&shared))))
            .collect();
        tasks.push(tokio::spawn(prepare_records::run(Arc::clone(&shared))));
        Self { handle: Arc::new(Handle { shared, tasks: Mutex::new(tasks) }) }
    }

    /// Hands proposals over, to be written under `incarnation`. Does not wait. Every one that is
    /// taken is answered exactly once through `reply`.
    ///
    /// # Errors
    /// The queue is full or closed: these were not taken, in order, and nothing happened to them.
    pub fn try_submit(
        &self,
        incarnation: Incarnation,
        proposals: Vec<Proposal>,
        reply: &Reply,
    ) -> Result<(), Vec<Proposal>> {
        let submissions =
            proposals.into_iter().map(|proposal| Submission::new(incarnation, proposal, Arc::clone(reply)));
        let rest = self.handle.shared.queue.push(submissions);
        if rest.is_empty() { Ok(()) } else { Err(rest.into_iter().map(Submission::into_proposal).collect()) }
    }

    /// Whether a proposal would be taken now.
    pub fn has_room(&self) -> bool {
        self.handle.shared.queue.has_room()
    }

    /// Waits until a proposal would be taken, or none ever will.
    pub async fn room(&self) {
        self.handle.shared.queue.room().await;
    }

    /// How many proposals wait, not counting those being written.
    pub fn waiting(&self) -> usize {
        self.handle.shared.queue.len()
    }

    /// Whether the log takes writes as far as is known: a lane has a connection, and none has been
    /// refused since one was opened. While false, proposals are soon answered unknown, and whoever proposes
    /// none has nobody to wait for.
    pub fn available(&self) -> watch::Receiver<bool> {
        self.handle.shared.available.subscribe()
    }

    /// Why the log was last found unavailable, for people.
    pub fn last_error(&self) -> Option<String> {
        self.handle.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the writer was shut down: it takes nothing any more.
    pub fn is_closed(&self) -> bool {
        self.handle.shared.queue.is_closed()
    }

    /// Keeps a prepare record, lazily. Does not wait; may be left out under load.
    pub fn record_undecided(&self, record: UndecidedRecord) {
        self.handle.shared.prepare_records.keep(record);
    }

    /// The prepare record of `gid`, if any, is not needed any more. Does not wait.
    pub fn forget_undecided(&self, gid: Gid) {
        self.handle.shared.prepare_records.forget(gid);
    }

    /// Takes no more, writes what is waiting, and ends. After `limit` what still waits is answered
    /// unknown; a write under way is left to end by itself, and answers then.
    pub async fn shut_down(&self, limit: Duration) {
        self.handle.shared.queue.close();
        self.handle.shared.prepare_records.close();
        let tasks = std::mem::take(&mut *self.handle.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = tokio::time::timeout(limit, futures::future::join_all(tasks)).await;
        if ended.is_err() {
            tracing::warn!(?limit, "the decision log did not take everything before the writer's end");
        }
        self.handle.shared.give_up_waiting();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.prepare_records.close();
    }
}

impl Shared {
    /// Answers everything that waits: unknown.
    fn give_up_waiting(&self) {
        drop(self.queue.take_all());
    }

    /// The log is there and refuses writes. Until a lane has a connection on which one was tried, it counts as
    /// unavailable, whatever connections there are.
    fn is_refusing(&self) {
        self.available.send_if_modified(|available| std::mem::replace(available, false));
    }

    /// A lane has got a connection.
    fn is_up(&self) {
        self.connected.fetch_add(1, Ordering::AcqRel);
        self.available.send_if_modified(|available| !std::mem::replace(available, true));
    }

    /// A lane has lost its connection.
    fn is_down(&self) {
        if self.connected.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.available.send_if_modified(|available| std::mem::replace(available, false));
        }
    }

    fn failed(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}
