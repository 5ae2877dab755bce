//! The decision log, as the cores may assume it: write once, fence, floor.

use std::collections::{BTreeMap, BTreeSet};

use pactum_core_checked::id::{Gid, Incarnation};
use pactum_core_checked::outcome::{Decision, DecisionRecord, LookUpResult, ProposalResult};

/// A write on its way. Without a run nobody waits for its answer any more.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Write {
    pub run: Option<usize>,
    pub record: DecisionRecord,
}

/// The log's durable state, and the writes on their way to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Log {
    pub rows: BTreeMap<Gid, DecisionRecord>,
    pub live: BTreeSet<Incarnation>,
    pub floor: Gid,
    pub finished: BTreeSet<Gid>,
    pub writes: Vec<Write>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            live: BTreeSet::new(),
            floor: Gid::NIL,
            finished: BTreeSet::new(),
            writes: Vec::new(),
        }
    }
}

impl Log {
    /// Writes the record if none stands, the fence is open, and the gid is above the floor.
    pub fn apply(&mut self, record: &DecisionRecord) -> ProposalResult {
        let gid = record.id.gid;
        if gid <= self.floor {
            return ProposalResult::Forgotten;
        }
        if let Some(stands) = self.rows.get(&gid) {
            return ProposalResult::Lost(Box::new(stands.clone()));
        }
        if record.decision == Decision::Commit && !self.live.contains(&record.id.incarnation) {
            return ProposalResult::Fenced;
        }
        self.rows.insert(gid, record.clone());
        ProposalResult::Won
    }

    pub fn look_up(&self, gid: Gid) -> LookUpResult {
        if gid <= self.floor {
            return LookUpResult::Forgotten;
        }
        self.rows
            .get(&gid)
            .map_or(LookUpResult::NoRecord, |record| LookUpResult::Stands(Box::new(record.clone())))
    }

    /// Commits of ended incarnations that are not known finished.
    pub fn unfinished(&self) -> Vec<DecisionRecord> {
        self.rows
            .values()
            .filter(|record| record.decision == Decision::Commit)
            .filter(|record| !self.live.contains(&record.id.incarnation))
            .filter(|record| !self.finished.contains(&record.id.gid))
            .cloned()
            .collect()
    }

    /// Nobody waits for this run's writes any more; they may still land.
    pub fn orphan(&mut self, run: usize) {
        for write in &mut self.writes {
            if write.run == Some(run) {
                write.run = None;
            }
        }
    }
}
