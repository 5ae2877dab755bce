//! What is counted of each resource, and the limit to how many are told apart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::add;

/// Names of resources that are told apart. Each may cost a few dozen series; a cluster with more
/// databases than this sees the first ones, and the rest together under [`OTHER`].
pub(crate) const RESOURCES_MAX: usize = 256;

/// The label of all resources beyond the limit. No resource can have this name: theirs begin with a
/// letter or a digit.
const OTHER: &str = "_other";

/// What was asked of a participant and what it answered; or what it asked, and was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    PrepareCommit,
    PrepareReadOnly,
    PrepareAbort,
    PrepareNotAttached,
    CommitFinished,
    CommitHeuristic,
    CommitFailed,
    CommitNotAttached,
    AbortFinished,
    AbortHeuristic,
    AbortFailed,
    AbortNotAttached,
    RegisterCommitted,
    RegisterAborted,
    RegisterUnknown,
    RegisterForgotten,
    EnlistOk,
    EnlistRefused,
    Inquiry,
}

impl Call {
    const ALL: [(Self, &'static str, &'static str); 19] = [
        (Self::PrepareCommit, "prepare", "commit"),
        (Self::PrepareReadOnly, "prepare", "read_only"),
        (Self::PrepareAbort, "prepare", "abort"),
        (Self::PrepareNotAttached, "prepare", "not_attached"),
        (Self::CommitFinished, "commit", "finished"),
        (Self::CommitHeuristic, "commit", "heuristic"),
        (Self::CommitFailed, "commit", "failed"),
        (Self::CommitNotAttached, "commit", "not_attached"),
        (Self::AbortFinished, "abort", "finished"),
        (Self::AbortHeuristic, "abort", "heuristic"),
        (Self::AbortFailed, "abort", "failed"),
        (Self::AbortNotAttached, "abort", "not_attached"),
        (Self::RegisterCommitted, "register", "committed"),
        (Self::RegisterAborted, "register", "aborted"),
        (Self::RegisterUnknown, "register", "unknown"),
        (Self::RegisterForgotten, "register", "forgotten"),
        (Self::EnlistOk, "enlist", "ok"),
        (Self::EnlistRefused, "enlist", "refused"),
        (Self::Inquiry, "inquire", "received"),
    ];
}

/// What is counted of one resource.
#[derive(Debug)]
pub(crate) struct ResourceMeter {
    calls: [AtomicU64; Call::ALL.len()],
    /// Branches that were told a decision and have not ended.
    unfinished: AtomicI64,
}

impl Default for ResourceMeter {
    fn default() -> Self {
        Self { calls: [const { AtomicU64::new(0) }; Call::ALL.len()], unfinished: AtomicI64::new(0) }
    }
}

impl ResourceMeter {
    pub(crate) fn count(&self, call: Call) {
        add(&self.calls[call as usize], 1);
    }

    /// A branch is told its decision for the first time.
    pub(crate) fn owes_an_end(&self) {
        self.unfinished.fetch_add(1, Ordering::Relaxed);
    }

    /// Such a branch has ended, or is not waited for any more.
    pub(crate) fn owes_no_more(&self) {
        self.unfinished.fetch_sub(1, Ordering::Relaxed);
    }

    /// Calls that were made, with what was asked and what was answered.
    pub(super) fn calls(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let counted = Call::ALL
            .iter()
            .map(|(call, op, code)| (*op, *code, self.calls[*call as usize].load(Ordering::Relaxed)));
        counted.filter(|(_, _, count)| *count > 0)
    }

    pub(super) fn unfinished(&self) -> i64 {
        self.unfinished.load(Ordering::Relaxed)
    }
}

/// All resources that were seen.
#[derive(Debug, Default)]
pub(super) struct Resources(RwLock<BTreeMap<Arc<str>, Arc<ResourceMeter>>>);

impl Resources {
    /// The meter of a name. The caller keeps it: this takes a lock.
    pub(super) fn meter(&self, name: &str) -> Arc<ResourceMeter> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut meters = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = if meters.len() < RESOURCES_MAX || meters.contains_key(name) { name } else { OTHER };
        Arc::clone(meters.entry(name.into()).or_default())
    }

    pub(super) fn all(&self) -> BTreeMap<Arc<str>, Arc<ResourceMeter>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_stands_at_its_own_place() {
        for (place, (call, op, code)) in Call::ALL.iter().enumerate() {
            assert_eq!(*call as usize, place, "{op} {code}");
        }
    }

    #[test]
    fn names_beyond_the_limit_share_one() {
        let resources = Resources::default();
        for number in 0..RESOURCES_MAX {
            resources.meter(&format!("db{number}"));
        }
        resources.meter("one-more").count(Call::EnlistOk);
        resources.meter("and-another").count(Call::EnlistOk);
        resources.meter("db7").count(Call::EnlistOk);
        let all = resources.all();
        assert_eq!(all.len(), RESOURCES_MAX + 1);
        assert_eq!(all[OTHER].calls().collect::<Vec<_>>(), [("enlist", "ok", 2)]);
        assert_eq!(all["db7"].calls().collect::<Vec<_>>(), [("enlist", "ok", 1)]);
    }
}
