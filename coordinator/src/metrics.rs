//! What is counted, for whoever watches this coordinator from outside.
//!
//! ```text
//!  shard (one task) ─▶ its own ShardMeter ─┐
//!  log writer, recovery, acts ─▶ counters ─┼─▶ scrape ─▶ /metrics
//!  registry, lifecycle, queues ────────────┘     (read at that moment)
//! ```
//!
//! * There is no global registry: a process may run several coordinators, and each has its own.
//! * Counting is relaxed atomic adds. What a shard counts it counts in a block of its own, so no two
//!   shards share a cache line, and a scrape adds the blocks up.
//! * A scrape asks no shard and walks no transaction: how many are in doubt, and since when the oldest
//!   one, each shard keeps in step as it goes (`shard/course.rs`).
//! * No id is ever a label. Names of resources are, up to [`RESOURCES_MAX`](resources::RESOURCES_MAX).
//!
//! `docs/metrics.md` lists all of them; a test compares it with a scrape.

mod exposition;
mod health;
mod histogram;
mod resources;
mod scrape;
mod shards;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pactum_core::outcome::{Decision, HeuristicOutcome};

pub(crate) use health::{Recovery, not_ready};
pub(crate) use resources::{Call, ResourceMeter};
pub(crate) use scrape::{Monitoring, routes};
pub(crate) use shards::{Ended, Phase, ShardMeter};

use crate::decision_log::writer::Meter;
use histogram::Histogram;
use resources::Resources;

/// What one coordinator counts. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    shards: Mutex<Vec<Arc<ShardMeter>>>,
    resources: Resources,
    append_duration: Histogram,
    append_rows: Histogram,
    appends_unknown: AtomicU64,
    recovery_runs: [AtomicU64; 2],
    takeovers: AtomicU64,
    incarnations: AtomicU64,
    forgotten_rows: AtomicU64,
    outbox_rejects: [AtomicU64; 2],
    shed: [AtomicU64; Shed::ALL.len()],
    heuristics: [AtomicU64; 4],
    /// By act and result.
    acts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    overruled: [AtomicU64; 2],
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            shards: Mutex::default(),
            resources: Resources::default(),
            append_duration: Histogram::of_seconds(),
            append_rows: Histogram::of_rows(),
            appends_unknown: AtomicU64::default(),
            recovery_runs: Default::default(),
            takeovers: AtomicU64::default(),
            incarnations: AtomicU64::default(),
            forgotten_rows: AtomicU64::default(),
            outbox_rejects: Default::default(),
            shed: Default::default(),
            heuristics: Default::default(),
            acts: Mutex::default(),
            overruled: Default::default(),
        }
    }
}

/// Why a call was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    /// More open transactions than the limit.
    Transactions,
    /// A shard's queue was full.
    Queue,
    /// More attached participants than the limit.
    Participants,
    /// The log cannot be written.
    Log,
    /// The coordinator is stopping.
    Draining,
    /// A shard's own queues stand.
    Overload,
}

impl Shed {
    const ALL: [Self; 6] =
        [Self::Transactions, Self::Queue, Self::Participants, Self::Log, Self::Draining, Self::Overload];

    const fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::Queue => "queue",
            Self::Participants => "participants",
            Self::Log => "log",
            Self::Draining => "draining",
            Self::Overload => "overload",
        }
    }
}

/// What became of a message that a stream's outbox did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    /// It follows when the participant has read more.
    Later,
    /// The stream was cut off: its participant reads too slowly, or has gone.
    Cut,
}

/// Adds one. Relaxed: a counter orders nothing.
fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Metrics {
    /// The block of one more shard.
    pub(crate) fn of_shard(&self) -> Arc<ShardMeter> {
        let meter = Arc::new(ShardMeter::default());
        self.shards().push(Arc::clone(&meter));
        meter
    }

    fn shards(&self) -> std::sync::MutexGuard<'_, Vec<Arc<ShardMeter>>> {
        self.0.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted of a resource. Beyond the limit of names, of all further ones together.
    pub(crate) fn of_resource(&self, name: &str) -> Arc<ResourceMeter> {
        self.0.resources.meter(name)
    }

    /// For the log writer: told of each batch.
    pub(crate) fn log_meter(&self) -> Meter {
        let counted = Arc::clone(&self.0);
        Arc::new(move |rows: usize, took: Duration, is_known: bool| {
            counted.append_duration.observe_time(took);
            counted.append_rows.observe(rows as u64);
            if !is_known {
                add(&counted.appends_unknown, 1);
            }
        })
    }

    /// Recovery has looked once at what ended incarnations left.
    pub(crate) fn recovery_ran(&self, well: bool) {
        add(&self.0.recovery_runs[usize::from(!well)], 1);
    }

    /// We have ended another's incarnation whose heartbeat had stopped.
    pub(crate) fn took_over(&self) {
        add(&self.0.takeovers, 1);
    }

    /// An incarnation of ours has started.
    pub(crate) fn incarnation_started(&self) {
        add(&self.0.incarnations, 1);
    }

    /// So many rows under the floor were deleted.
    pub(crate) fn forgot(&self, rows: u64) {
        add(&self.0.forgotten_rows, rows);
    }

    /// An outbox did not take a message.
    pub(crate) fn outbox_rejected(&self, reject: Reject) {
        add(&self.0.outbox_rejects[reject as usize], 1);
    }

    /// A call was turned away.
    pub(crate) fn shed(&self, why: Shed) {
        add(&self.0.shed[why as usize], 1);
    }

    /// A branch ended without the decision.
    pub(crate) fn heuristic(&self, outcome: HeuristicOutcome) {
        add(&self.0.heuristics[outcome as usize], 1);
    }

    /// An operator's act has come to an end: `act` as the audit names it, `result` one of
    /// `done`, `refused`, `failed` and, where its plan was made for another state, `changed`. Neither may hold anything that an operator typed.
    pub(crate) fn act(&self, act: &'static str, result: &'static str) {
        let mut acts = self.0.acts.lock().unwrap_or_else(PoisonError::into_inner);
        *acts.entry((act, result)).or_insert(0) += 1;
    }

    /// An operator has ended one branch by hand, so.
    pub(crate) fn overruled(&self, end: Decision) {
        add(&self.0.overruled[usize::from(end == Decision::Abort)], 1);
    }
}
