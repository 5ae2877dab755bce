//! The decision log, as the cores may assume it: write once, fence, floor, doubt.

use std::collections::{BTreeMap, BTreeSet};

use pactum_core_checked::coordinator;
use pactum_core_checked::id::{BranchId, Gid, Incarnation, TransactionId};
use pactum_core_checked::outcome::{
    Decision, DecisionRecord, HeuristicOutcome, LookUpResult, ProposalResult,
};
use pactum_core_checked::time::Timestamp;

use super::{Scope, World};

/// A write on its way. Without a run nobody waits for its answer any more.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Write {
    pub run: Option<usize>,
    pub record: DecisionRecord,
}

/// Faults of the log, for the checkers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LogMutant {
    /// Writes and looks up under the floor as above it (law 7, H1).
    FloorNotTested,
    /// Takes commit proposals of ended incarnations (H10).
    FenceIgnored,
    /// Raises the floor over commits that are not finished (I2).
    CollectedBeforeFinished,
    /// Takes an incarnation's word while writes of it are unsettled (B4).
    VouchesUnsettled,
    /// Forgets doubt when the incarnation is ended (B5).
    EndClearsDoubt,
}

/// The log's durable state, and the writes on their way to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Log {
    pub rows: BTreeMap<Gid, DecisionRecord>,
    pub live: BTreeSet<Incarnation>,
    pub floor: Gid,
    pub finished: BTreeSet<Gid>,
    pub heuristics: BTreeMap<(Gid, BranchId), HeuristicOutcome>,
    pub writes: Vec<Write>,
    /// Incarnations of which commits may have been lost when the log went back in time.
    pub doubted: BTreeSet<Incarnation>,
    /// What ever stood as committed. The checker's knowledge, not the log's.
    pub committed: BTreeSet<TransactionId>,
    /// Of these a commit record was lost. The checker's knowledge, not the log's.
    pub lost: BTreeSet<TransactionId>,
    /// Commits whose owner has heard that they stand, and those of which it is in the dark: what it
    /// knows when it is to vouch for its incarnation. Kept only where the log may go back.
    acknowledged: BTreeSet<TransactionId>,
    unsettled: BTreeSet<TransactionId>,
    tracks: bool,
    mutant: Option<LogMutant>,
}

impl Log {
    pub fn new(scope: &Scope) -> Self {
        Self {
            rows: BTreeMap::new(),
            live: BTreeSet::new(),
            floor: Gid::NIL,
            finished: BTreeSet::new(),
            heuristics: BTreeMap::new(),
            writes: Vec::new(),
            doubted: BTreeSet::new(),
            committed: BTreeSet::new(),
            lost: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            tracks: scope.goes_back,
            mutant: scope.log_mutant,
        }
    }

    fn forgotten(&self, gid: Gid) -> bool {
        gid <= self.floor && self.mutant != Some(LogMutant::FloorNotTested)
    }

    /// Writes the record if none stands, the gid is above the floor, and: for a commit, the fence is
    /// open; for an abort, nothing is in doubt.
    pub fn apply(&mut self, record: &DecisionRecord) -> ProposalResult {
        let gid = record.id.gid;
        if self.forgotten(gid) {
            return ProposalResult::Forgotten;
        }
        if let Some(stands) = self.rows.get(&gid) {
            return ProposalResult::Lost(Box::new(stands.clone()));
        }
        match record.decision {
            Decision::Commit => {
                let open = self.live.contains(&record.id.incarnation);
                if !open && self.mutant != Some(LogMutant::FenceIgnored) {
                    return ProposalResult::Fenced;
                }
                self.committed.insert(record.id);
            }
            Decision::Abort if self.doubted.contains(&record.id.incarnation) => {
                return ProposalResult::Doubted;
            }
            Decision::Abort => {}
        }
        self.rows.insert(gid, record.clone());
        ProposalResult::Won
    }

    /// What the writer of a commit knows of it now.
    pub fn note_answer(&mut self, write: &Write, answer: Option<&ProposalResult>) {
        let id = write.record.id;
        if !self.tracks || write.run.is_none() || write.record.decision == Decision::Abort {
            return;
        }
        match answer {
            None | Some(ProposalResult::Unknown) => {
                self.unsettled.insert(id);
            }
            Some(ProposalResult::Won) => {
                self.unsettled.remove(&id);
                self.acknowledged.insert(id);
            }
            Some(ProposalResult::Lost(stands)) => {
                self.unsettled.remove(&id);
                if stands.decision == Decision::Commit {
                    self.acknowledged.insert(id);
                }
            }
            Some(ProposalResult::Forgotten) => {
                self.unsettled.remove(&id);
            }
            // What was unsettled may have been written all the same.
            Some(ProposalResult::Fenced | ProposalResult::Doubted) => {}
        }
    }

    pub fn look_up(&self, gid: Gid) -> LookUpResult {
        if self.forgotten(gid) {
            return LookUpResult::Forgotten;
        }
        self.rows
            .get(&gid)
            .map_or(LookUpResult::NoRecord, |record| LookUpResult::Stands(Box::new(record.clone())))
    }

    pub fn heuristics_of(&self, gid: Gid) -> Vec<(BranchId, HeuristicOutcome)> {
        let of_it = self.heuristics.iter().filter(|((about, _), _)| *about == gid);
        of_it.map(|((_, branch), outcome)| (*branch, *outcome)).collect()
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

    /// An incarnation is ended: its commit proposals fail from now on. Doubt stays.
    pub fn end(&mut self, incarnation: Incarnation) {
        self.live.remove(&incarnation);
        if self.mutant == Some(LogMutant::EndClearsDoubt) {
            self.doubted.remove(&incarnation);
        }
    }

    /// Nobody waits for this run's writes any more; they may still land.
    pub fn orphan(&mut self, run: usize) {
        for write in &mut self.writes {
            if write.run == Some(run) {
                write.run = None;
            }
        }
    }

    /// Whether the floor may pass this gid: no commit at or under it is unfinished.
    pub fn may_forget(&self, gid: Gid) -> bool {
        let unfinished = |record: &DecisionRecord| {
            record.decision == Decision::Commit && !self.finished.contains(&record.id.gid)
        };
        self.floor < gid
            && (self.mutant == Some(LogMutant::CollectedBeforeFinished)
                || !self.rows.range(..=gid).any(|(_, record)| unfinished(record)))
    }

    /// Raises the floor and deletes what lies under it.
    pub fn raise_floor(&mut self, gid: Gid) {
        self.floor = gid;
        self.rows.retain(|of, _| *of > gid);
    }

    /// It is restored, or fails over to a copy that had not received everything. The copy is a prefix:
    /// what an incarnation wrote before its end was seen is there, so only rows of the others are
    /// lost, and those incarnations are in doubt from now on.
    pub fn go_back(&mut self) {
        self.go_back_keeping(|_| false);
    }

    /// It goes back, and of the rows that may be lost these are there all the same.
    pub fn go_back_keeping(&mut self, mut kept: impl FnMut(Gid) -> bool) {
        let live = self.live.clone();
        let (committed, lost) = (Decision::Commit, &mut self.lost);
        self.rows.retain(|gid, record| {
            let stays = !live.contains(&record.id.incarnation) || kept(*gid);
            if !stays && record.decision == committed {
                lost.insert(record.id);
            }
            stays
        });
        self.doubted.extend(live);
    }

    /// Whoever connects first after it went back ends every incarnation: what another had closed may be
    /// lost like a commit, and an owner that went on could commit it.
    pub fn adopt(&mut self) {
        self.live.clear();
    }

    /// Whether its own coordinator may vouch for an incarnation: all that it knows to be written is
    /// there, and there is nothing that it does not know.
    pub fn may_vouch(&self, incarnation: Incarnation) -> bool {
        let own = |id: &&TransactionId| id.incarnation == incarnation;
        let settled = !self.unsettled.iter().any(|id| own(&id));
        self.doubted.contains(&incarnation)
            && (settled || self.mutant == Some(LogMutant::VouchesUnsettled))
            && self.acknowledged.iter().filter(own).all(|id| self.rows.contains_key(&id.gid))
    }

    /// Whether a person who looks at the applications and the databases would release an incarnation:
    /// nothing of it was lost.
    pub fn may_release(&self, incarnation: Incarnation) -> bool {
        self.doubted.contains(&incarnation) && !self.lost.iter().any(|id| id.incarnation == incarnation)
    }
}

impl World {
    /// The log carries out a write. `answered`: its coordinator hears what became of it; else the
    /// answer is lost, and it hears that it is unknown.
    pub fn log_applies(&mut self, index: usize, answered: bool, now: Timestamp) {
        let write = self.log.writes.remove(index);
        let result = self.log.apply(&write.record);
        let commit = write.record.decision == Decision::Commit;
        if commit && result == ProposalResult::Won && !self.log.live.contains(&write.record.id.incarnation) {
            self.break_promise("I3: an incarnation wrote a commit after its end".into());
        }
        self.log.note_answer(&write, if answered { Some(&result) } else { None });
        self.tell_written(&write, if answered { Some(result) } else { None }, now);
    }

    /// The log does not answer; the write may be carried out later, or never.
    pub fn log_silent(&mut self, index: usize, now: Timestamp) {
        let write = self.log.writes[index].clone();
        self.log.note_answer(&write, None);
        self.log.writes[index].run = None;
        self.tell_written(&write, None, now);
    }

    /// A write that nobody waits for is never carried out.
    pub fn log_drops(&mut self, index: usize) {
        self.log.writes.remove(index);
    }

    fn tell_written(&mut self, write: &Write, result: Option<ProposalResult>, now: Timestamp) {
        let Some(run) = write.run else { return };
        let place = self.coordinators.iter().position(|node| node.core.is_some() && node.run == run);
        let Some(place) = place else { return };
        let event = coordinator::Event::ProposalAnswered {
            id: write.record.id,
            proposed: write.record.decision,
            result: result.unwrap_or(ProposalResult::Unknown),
        };
        let paused = std::mem::replace(&mut self.coordinators[place].paused, false);
        self.tell_coordinator(place, event, now);
        self.coordinators[place].paused = paused;
    }
}
