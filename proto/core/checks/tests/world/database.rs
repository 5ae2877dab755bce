//! A participant's database: it prepares, commits and rolls back, and survives its processes.

use std::collections::{BTreeMap, BTreeSet};

use pactum_core_checked::outcome::{BranchOutcome, HeuristicOutcome};
use pactum_core_checked::participant::BranchKey;
use pactum_core_checked::vote::Evidence;

/// What a database holds of one branch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Held {
    /// A local transaction is open; gone with the process.
    Open,
    Prepared(Evidence),
    Committed(Evidence),
    /// Ended without effect after it had been opened.
    Aborted,
}

/// A participant's database: what survives its process.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Database {
    pub branches: BTreeMap<BranchKey, Held>,
    /// The marker table: committed or aborted.
    pub markers: BTreeMap<BranchKey, bool>,
    /// Executions that were committed before the one in `branches` (H3).
    pub earlier: BTreeMap<BranchKey, Evidence>,
    /// Branches that a person ended, and those that came back after their end.
    pub by_hand: BTreeSet<BranchKey>,
    pub reappeared: BTreeSet<BranchKey>,
    pub(super) executions: u32,
    pub(super) mutant: Option<DatabaseMutant>,
}

/// Faults of a resource, for the checkers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DatabaseMutant {
    /// Commits whatever execution is prepared under the branch's name (law 1, H3).
    CommitsAnyExecution,
    /// Commits in one phase without minding the marker that stands (H5).
    MarkerUnchecked,
    /// Takes a branch that is not there for committed (law 8, D3).
    NotFoundIsSuccess,
}

impl Database {
    /// How often anything was prepared here.
    pub fn executions(&self) -> u32 {
        self.executions
    }

    pub fn begin(&mut self, key: BranchKey) {
        self.branches.insert(key, Held::Open);
    }

    pub(super) fn prepare(&mut self, key: BranchKey) -> Option<Evidence> {
        let held = self.branches.get_mut(&key)?;
        if *held != Held::Open {
            return None;
        }
        self.executions += 1;
        let evidence = Evidence::new(format!("x{}", self.executions), "");
        *held = Held::Prepared(evidence.clone());
        Some(evidence)
    }

    /// Begins the work of a one-shot branch anew; what was committed under its name stays.
    pub(super) fn execute(&mut self, key: BranchKey) {
        if let Some(Held::Committed(evidence)) = self.branches.insert(key, Held::Open) {
            self.earlier.insert(key, evidence);
        }
    }

    pub(super) fn commit(&mut self, key: BranchKey, decided: &Evidence) -> BranchOutcome {
        let any = self.mutant == Some(DatabaseMutant::CommitsAnyExecution);
        match self.branches.get(&key) {
            Some(Held::Prepared(evidence)) if any || evidence.same_execution(decided) => {
                let committed = Held::Committed(evidence.clone());
                self.branches.insert(key, committed);
                BranchOutcome::Committed
            }
            Some(Held::Committed(evidence)) if evidence.same_execution(decided) => BranchOutcome::Committed,
            _ if self.earlier.get(&key).is_some_and(|evidence| evidence.same_execution(decided)) => {
                BranchOutcome::Committed
            }
            _ if self.mutant == Some(DatabaseMutant::NotFoundIsSuccess) => BranchOutcome::Committed,
            Some(Held::Aborted) => BranchOutcome::Heuristic(HeuristicOutcome::Aborted),
            Some(Held::Open | Held::Prepared(_) | Held::Committed(_)) | None => {
                BranchOutcome::Heuristic(HeuristicOutcome::Hazard)
            }
        }
    }

    /// `known`: the execution that is meant, where its process remembers it. Its own evidence says that
    /// it is gone without effect if another one is here; without it nothing speaks against that.
    pub(super) fn abort(&mut self, key: BranchKey, known: Option<&Evidence>) -> BranchOutcome {
        if let (Some(known), Some(Held::Prepared(here) | Held::Committed(here))) =
            (known, self.branches.get(&key))
            && !here.same_execution(known)
        {
            return BranchOutcome::Aborted;
        }
        match self.branches.get_mut(&key) {
            Some(Held::Committed(_)) if known.is_some() => {
                BranchOutcome::Heuristic(HeuristicOutcome::Committed)
            }
            Some(held @ (Held::Open | Held::Prepared(_) | Held::Aborted)) => {
                // Another execution under its name stays committed.
                let committed = self.earlier.remove(&key).map(Held::Committed);
                *held = committed.unwrap_or(Held::Aborted);
                BranchOutcome::Aborted
            }
            Some(Held::Committed(_)) | None => BranchOutcome::Aborted,
        }
    }

    /// Inserts the marker (gid, committed) and commits, or rolls back on a duplicate.
    pub(super) fn commit_one_phase(&mut self, key: BranchKey) -> bool {
        if self.branches.get(&key) != Some(&Held::Open) {
            return self.markers.get(&key) == Some(&true);
        }
        if self.markers.contains_key(&key) && self.mutant != Some(DatabaseMutant::MarkerUnchecked) {
            self.branches.insert(key, Held::Aborted);
            return false;
        }
        self.markers.entry(key).or_insert(true);
        self.branches.insert(key, Held::Committed(Evidence::default()));
        true
    }

    /// One-phase commit failed, and its connection is closed: nobody will ask a register that has answered
    /// already to end what was open.
    pub(super) fn give_up_if_closed(&mut self, key: BranchKey) {
        if self.markers.contains_key(&key)
            && let Some(held @ Held::Open) = self.branches.get_mut(&key)
        {
            *held = Held::Aborted;
        }
    }

    /// Ends open work, inserts the marker (gid, aborted) unless one stands, and reads what stands.
    ///
    /// `landing`: a statement of a dead process is still under way; its transaction is not ours to end.
    pub(super) fn settle(&mut self, key: BranchKey, landing: bool) -> bool {
        if !landing && let Some(held @ Held::Open) = self.branches.get_mut(&key) {
            *held = Held::Aborted;
        }
        *self.markers.entry(key).or_insert(false)
    }
}
