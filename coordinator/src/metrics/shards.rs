//! What one shard counts: written by its task alone, read by scrapes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pactum_core::vote::AbortKind;

use super::add;
use super::histogram::Histogram;

/// A part of a transaction's course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// From the first Prepare to the last vote.
    Prepare,
    /// From the last vote until the decision to commit is durable.
    Decide,
    /// From the decision until every branch has ended.
    Finish,
    /// From the first Prepare until the decision to commit is durable: what an application waits for.
    Commit,
}

impl Phase {
    pub(super) const ALL: [(Self, &'static str); 4] = [
        (Self::Prepare, "prepare"),
        (Self::Decide, "decide"),
        (Self::Finish, "finish"),
        (Self::Commit, "commit"),
    ];
}

/// How a transaction of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Committed,
    ReadOnly,
    Aborted,
    Forgotten,
}

impl Ended {
    pub(super) const ALL: [(Self, &'static str); 4] = [
        (Self::Committed, "committed"),
        (Self::ReadOnly, "read_only"),
        (Self::Aborted, "aborted"),
        (Self::Forgotten, "forgotten"),
    ];
}

/// Why transactions aborted, as labels.
pub(super) const ABORTS: [(AbortKind, &str); 10] = [
    (AbortKind::Requested, "requested"),
    (AbortKind::VotedNo, "voted_no"),
    (AbortKind::LocalFailure, "local_failure"),
    (AbortKind::LockTimeout, "lock_timeout"),
    (AbortKind::Deadline, "deadline"),
    (AbortKind::NotAttached, "not_attached"),
    (AbortKind::BranchSetDiffers, "branch_set_differs"),
    (AbortKind::Resolved, "resolved"),
    (AbortKind::OwnerEnded, "owner_ended"),
    (AbortKind::LogRefused, "log_refused"),
];

/// No transaction is in doubt.
const NONE: u64 = u64::MAX;

/// What one shard counts.
#[derive(Debug)]
pub(crate) struct ShardMeter {
    ended: [AtomicU64; Ended::ALL.len()],
    aborts: [AtomicU64; ABORTS.len()],
    /// Of other incarnations, driven to their end here.
    recovered: AtomicU64,
    phases: [Histogram; Phase::ALL.len()],
    in_doubt: AtomicU64,
    /// Seconds since the shards' origin.
    in_doubt_since: AtomicU64,
}

impl Default for ShardMeter {
    fn default() -> Self {
        Self {
            ended: Default::default(),
            aborts: Default::default(),
            recovered: AtomicU64::new(0),
            phases: std::array::from_fn(|_| Histogram::of_seconds()),
            in_doubt: AtomicU64::new(0),
            in_doubt_since: AtomicU64::new(NONE),
        }
    }
}

impl ShardMeter {
    pub(crate) fn ended(&self, ended: Ended) {
        add(&self.ended[ended as usize], 1);
    }

    pub(crate) fn aborted(&self, kind: AbortKind) {
        self.ended(Ended::Aborted);
        add(&self.aborts[kind as usize], 1);
    }

    pub(crate) fn recovered(&self) {
        add(&self.recovered, 1);
    }

    pub(crate) fn took(&self, phase: Phase, time: Duration) {
        self.phases[phase as usize].observe_time(time);
    }

    /// How many are in doubt now, and the second since the shards' origin in which the oldest began
    /// to be.
    pub(crate) fn publish_in_doubt(&self, count: u64, since: Option<u64>) {
        self.in_doubt.store(count, Ordering::Relaxed);
        self.in_doubt_since.store(since.unwrap_or(NONE), Ordering::Relaxed);
    }

    pub(super) fn count_of(&self, ended: Ended) -> u64 {
        self.ended[ended as usize].load(Ordering::Relaxed)
    }

    pub(super) fn aborts_of(&self, kind: AbortKind) -> u64 {
        self.aborts[kind as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count_recovered(&self) -> u64 {
        self.recovered.load(Ordering::Relaxed)
    }

    pub(super) fn phase(&self, phase: Phase) -> &Histogram {
        &self.phases[phase as usize]
    }

    pub(super) fn in_doubt(&self) -> u64 {
        self.in_doubt.load(Ordering::Relaxed)
    }

    pub(super) fn in_doubt_since(&self) -> Option<u64> {
        Some(self.in_doubt_since.load(Ordering::Relaxed)).filter(|since| *since != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_stands_at_its_own_place() {
        assert!(Phase::ALL.iter().enumerate().all(|(place, (phase, _))| *phase as usize == place));
        assert!(Ended::ALL.iter().enumerate().all(|(place, (ended, _))| *ended as usize == place));
        assert!(ABORTS.iter().enumerate().all(|(place, (kind, _))| *kind as usize == place));
    }
}
