//! What the log holds: the statements that are buffered, in order, and the rules by which they are
//! forced or lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::FutureExt as _;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::{DecisionLog as _, FinishUpdate, Proposal, UndecidedRecord};
use pactum_core::id::{Gid, Incarnation};
use pactum_core::outcome::{Decision, LookUpResult, ProposalResult};

use crate::dice::Dice;
use crate::plan::{Flaw, Plan};

/// What happened to the log's clients in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Times that the log ended.
    pub crashes: u64,
    /// Decisions that were buffered and never forced.
    pub writes_lost: u64,
    /// Decisions whose writer was not told what became of them.
    pub answers_unknown: u64,
}

pub(super) struct Model {
    pub(super) dice: Dice,
    pub(super) force_max: Duration,
    pub(super) answers_lost: u64,
    pub(super) flaw: Option<Flaw>,
    /// Nobody can reach it.
    pub(super) is_down: bool,
    /// These coordinators cannot.
    pub(super) cut_off: BTreeSet<usize>,
    /// Counted up by each crash: who asked before it is not answered.
    pub(super) life: u64,
    pub(super) buffer: VecDeque<Buffered>,
    pub(super) last_statement: u64,
    /// What became of statements whose callers have not fetched it yet.
    pub(super) results: BTreeMap<u64, Vec<ProposalResult>>,
    pub(super) counts: LogCounts,
}

/// A statement that was not forced yet.
pub(super) struct Buffered {
    pub(super) statement: u64,
    /// Of the coordinator that sent it.
    pub(super) place: usize,
    pub(super) due: Duration,
    pub(super) what: What,
}

pub(super) enum What {
    Propose(Incarnation, Vec<Proposal>),
    Finish(FinishUpdate),
    Undecided(Vec<UndecidedRecord>, Vec<Gid>),
    Recovered(Incarnation),
}

impl Model {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            dice: Dice::new(plan.seed, 2),
            force_max: plan.force_max,
            answers_lost: plan.answers_lost,
            flaw: plan.flaw,
            is_down: false,
            cut_off: BTreeSet::new(),
            life: 0,
            buffer: VecDeque::new(),
            last_statement: 0,
            results: BTreeMap::new(),
            counts: LogCounts::default(),
        }
    }

    pub(super) fn buffer(&mut self, place: usize, due: Duration, what: What) -> u64 {
        self.last_statement += 1;
        let statement = self.last_statement;
        self.buffer.push_back(Buffered { statement, place, due, what });
        statement
    }

    /// Whether nobody proposed anything for these gids before.
    pub(super) fn are_first(&self, durable: &MemoryLog, proposals: &[Proposal]) -> bool {
        let gids: Vec<Gid> = proposals.iter().map(|proposal| proposal.record.id.gid).collect();
        let found = at_once(durable.look_up(&gids)).expect("no failure was ordered");
        let is_buffered = self.buffer.iter().any(|buffered| match &buffered.what {
            What::Propose(_, proposals) => proposals.iter().any(|one| gids.contains(&one.record.id.gid)),
            What::Finish(_) | What::Undecided(..) | What::Recovered(_) => false,
        });
        !is_buffered && found.iter().all(|found| *found == LookUpResult::NoRecord)
    }

    /// Forces what is due, and all that was buffered before it.
    pub(super) fn force(&mut self, durable: &MemoryLog, now: Duration) {
        let due = self.buffer.iter().rposition(|buffered| buffered.due <= now);
        for _ in 0..due.map_or(0, |last| last + 1) {
            self.force_next(durable);
        }
    }

    pub(super) fn force_all(&mut self, durable: &MemoryLog) {
        while !self.buffer.is_empty() {
            self.force_next(durable);
        }
    }

    pub(super) fn force_next(&mut self, durable: &MemoryLog) {
        let Some(Buffered { statement, what, .. }) = self.buffer.pop_front() else { return };
        match what {
            What::Propose(incarnation, proposals) => {
                let mut writer = at_once(durable.open_writer()).expect("no failure was ordered");
                let mut results = at_once(writer.write(incarnation, &proposals));
                if self.flaw == Some(Flaw::LogDeniesLosing) {
                    for (proposal, result) in proposals.iter().zip(&mut results) {
                        let lost = matches!(result, ProposalResult::Lost(_) | ProposalResult::Fenced);
                        if lost && proposal.record.decision == Decision::Commit {
                            *result = ProposalResult::Won;
                        }
                    }
                }
                self.results.insert(statement, results);
            }
            What::Finish(update) => {
                at_once(durable.record_finished(&update)).expect("no failure was ordered");
            }
            What::Undecided(add, remove) => {
                at_once(durable.record_undecided(&add, &remove)).expect("no failure was ordered");
            }
            What::Recovered(incarnation) => {
                at_once(durable.mark_recovered(incarnation)).expect("no failure was ordered");
            }
        }
    }
}

/// A log in memory never waits.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing holds up a log in memory")
}
