//! From the proposal to the decision: what the register is asked, and what its answer does.
//!
//! `SendCommit` comes out of this file only while an answer of the register is handled
//! (law 2): a won or lost proposal, or a commit that recovery read from the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{BranchState, Doubt, State, Step, Transaction};
use crate::coordinator::command::Command;
use crate::coordinator::event::RegisterAnswer;
use crate::coordinator::memory::{Ended, Ending};
use crate::coordinator::{IllegalEvent, Mutant};
use crate::id::{Branch, TransactionId};
use crate::outcome::{BranchOutcome, DecidedBranch, Decision, DecisionRecord, Details, ProposalResult};
use crate::time::Timestamp;
use crate::vote::{AbortKind, AbortReason, Evidence, Vote};

impl Transaction {
    /// A transaction known by name only, to be closed: abort is written if nothing stands.
    pub(in crate::coordinator) fn close(id: TransactionId, reason: AbortReason, step: &mut Step<'_>) -> Self {
        let mut transaction = Self::unrecorded(id, Arc::default(), State::closing(reason), step);
        transaction.propose(step);
        transaction
    }

    /// A one-branch transaction known by name only: its branch's register is asked; and then, if there
    /// may be more branches than this one, the log.
    pub(in crate::coordinator) fn settle(
        id: TransactionId,
        branch: Branch,
        then_close: Option<AbortReason>,
        step: &mut Step<'_>,
    ) -> Self {
        let state = State::Settling { asked_only: true, then_close };
        let mut transaction = Self::unrecorded(id, Arc::default(), state, step);
        transaction.branches.add(BranchState::new(branch, None));
        transaction.send_settle(step);
        transaction
    }

    /// A commit that recovery found unfinished in the log.
    pub(in crate::coordinator) fn recovered(record: &DecisionRecord, step: &mut Step<'_>) -> Self {
        let mut transaction =
            Self::unrecorded(record.id, Arc::clone(&record.details), State::Committing, step);
        transaction.obey_commit(&record.branches, step);
        transaction
    }

    /// One that ended with abort, while this branch of it was prepared.
    pub(in crate::coordinator) fn abort_again(
        ended: Ended,
        branch: Branch,
        evidence: Evidence,
        step: &mut Step<'_>,
    ) -> Self {
        let Ended { id, ending, digest } = ended;
        let details = Arc::new(Details { digest, ..Details::default() });
        let mut transaction = Self::new(id, details, Timestamp::ORIGIN, State::Active, step.now);
        transaction.add_voter(branch, Vote::Commit(evidence));
        match ending {
            Ending::Aborted { reason, .. } => transaction.abort(reason, step),
            // Nothing is to be done for these.
            Ending::Committed { .. } | Ending::Forgotten => transaction.state = State::Dropped,
        }
        transaction
    }

    /// One that we did not begin: it needs no prepare record of ours, and if its owner left one,
    /// that goes when it is decided.
    fn unrecorded(id: TransactionId, details: Arc<Details>, state: State, step: &Step<'_>) -> Self {
        let mut transaction = Self::new(id, details, Timestamp::ORIGIN, state, step.now);
        transaction.recorded_undecided = true;
        transaction
    }

    /// Keeps the branches that somebody named who asked: they are told the decision at once, and
    /// need not find out by themselves.
    pub(in crate::coordinator) fn add_named(&mut self, branches: BTreeSet<Branch>) {
        for branch in branches {
            self.branches.add(BranchState::new(branch, None));
        }
    }

    /// Keeps a branch that voted although nothing is known of its transaction (E5): it is told the
    /// decision once that stands.
    pub(in crate::coordinator) fn add_voter(&mut self, branch: Branch, vote: Vote) {
        let mut state = BranchState::new(branch, None);
        state.votes(vote);
        self.branches.add(state);
    }

    /// Hands the record to the log, unless an attempt is under way.
    pub(super) fn propose(&mut self, step: &mut Step<'_>) {
        let record = match &mut self.state {
            State::Proposing { branches, in_flight, .. } if !*in_flight => {
                *in_flight = true;
                DecisionRecord {
                    id: self.id,
                    decision: Decision::Commit,
                    reason: None,
                    branches: Arc::clone(branches),
                    details: Arc::clone(&self.details),
                }
            }
            State::Closing { reason, in_flight, .. } if !*in_flight => {
                *in_flight = true;
                DecisionRecord {
                    details: Arc::clone(&self.details),
                    ..DecisionRecord::abort(self.id, reason.clone())
                }
            }
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Over(_)
            | State::Dropped => return,
        };
        step.order(Command::Propose { record });
    }

    /// The log answered a proposal.
    pub(in crate::coordinator) fn proposal_answered(
        &mut self,
        proposed: Decision,
        result: ProposalResult,
        step: &mut Step<'_>,
    ) -> Result<(), IllegalEvent> {
        match (proposed, &result) {
            (Decision::Abort, ProposalResult::Fenced) => return Err(self.illegal("fenced abort")),
            (Decision::Commit, ProposalResult::Doubted) => return Err(self.illegal("doubted commit")),
            _ => {}
        }
        match (&mut self.state, proposed) {
            (State::Proposing { in_flight, .. }, Decision::Commit)
            | (State::Closing { in_flight, .. }, Decision::Abort)
                if *in_flight =>
            {
                *in_flight = false;
            }
            _ => return Err(self.illegal("answer to a proposal")),
        }
        match result {
            ProposalResult::Won => self.won(step),
            ProposalResult::Lost(record) => self.obey(*record, step),
            ProposalResult::Fenced => {
                // Ours was not written and cannot be any more; somebody else may have closed it.
                let reason =
                    AbortReason::new(AbortKind::OwnerEnded, "its coordinator's incarnation was ended");
                self.enter(State::closing(reason));
                self.propose(step);
            }
            ProposalResult::Forgotten => self.below_floor(step),
            ProposalResult::Doubted => self.doubted(step),
            ProposalResult::Unknown => self.unknown(step),
        }
        Ok(())
    }

    fn won(&mut self, step: &mut Step<'_>) {
        match std::mem::replace(&mut self.state, State::Dropped) {
            State::Proposing { branches, .. } => self.obey_commit(&branches, step),
            State::Closing { reason, .. } => self.abort(reason, step),
            // Only the two states above have a proposal in flight.
            other @ (State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Over(_)
            | State::Dropped) => self.state = other,
        }
    }

    /// What stands is obeyed, whoever wrote it (law 1).
    fn obey(&mut self, record: DecisionRecord, step: &mut Step<'_>) {
        match record.decision {
            // The gid is taken by a transaction of another owner: nothing stands for this one, and
            // nothing ever can.
            _ if record.id != self.id => {
                self.abort(AbortReason::new(AbortKind::LogRefused, "its gid is another transaction's"), step);
            }
            Decision::Commit => self.obey_commit(&record.branches, step),
            Decision::Abort => {
                let reason = record.reason.unwrap_or_else(|| {
                    AbortReason::new(AbortKind::OwnerEnded, "closed with abort in the log")
                });
                self.abort(reason, step);
            }
        }
    }

    fn obey_commit(&mut self, decided: &[DecidedBranch], step: &mut Step<'_>) {
        for DecidedBranch { branch, evidence } in decided {
            let state = match self.branches.get_mut(branch.id) {
                Some(state) => {
                    state.branch = branch.clone();
                    state
                }
                None => self.branches.add(BranchState::new(branch.clone(), None)),
            };
            state.votes(Vote::Commit(evidence.clone()));
        }
        // A branch that the record does not name has no part in phase 2: it was read-only, or
        // it is another execution, which will inquire and be told to abort.
        self.branches.retain(|state| decided.iter().any(|decided| decided.branch.id == state.branch.id));
        self.enter(State::Committing);
        self.answer_inquirers(step);
        self.decided(step);
        self.send_decisions(step);
    }

    /// The gid lies under the floor: the log has said nothing and will say nothing any more.
    fn below_floor(&mut self, step: &mut Step<'_>) {
        match &self.state {
            // The only proposer of commit knows that nothing of his was ever written.
            State::Proposing { maybe_written: false, .. } => {
                let reason =
                    AbortReason::new(AbortKind::LogRefused, "the gid is older than the log remembers");
                self.abort(reason, step);
            }
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Over(_)
            | State::Dropped => self.end(Ending::Forgotten, step),
        }
    }

    /// The answer was lost: neither success nor failure (law 5). Proposing the same record again is
    /// the conflicting insert that settles it.
    fn unknown(&mut self, step: &mut Step<'_>) {
        if step.config.plays(Mutant::UnknownTakenForAborted) {
            self.abort(AbortReason::new(AbortKind::LogRefused, "the log did not answer"), step);
            return;
        }
        if let State::Proposing { maybe_written, .. } = &mut self.state {
            *maybe_written = true;
        }
        self.schedule_retry(step);
        if self.answer_by.is_none() && !self.waiters.is_empty() {
            self.answer_by = Some(step.now + step.config.unknown_bound);
        }
    }

    /// The log went back in time: that nothing stands does not mean that nothing stood, and nobody may
    /// conclude abort (B4, B5). Whoever waits is told so; the log is asked again at the slowest pace,
    /// for until a person releases the incarnation nothing changes.
    fn doubted(&mut self, step: &mut Step<'_>) {
        if step.config.plays(Mutant::DoubtTakenForAborted) {
            self.abort(AbortReason::new(AbortKind::OwnerEnded, "the log holds no record"), step);
            return;
        }
        if let State::Closing { doubt, .. } = &mut self.state {
            *doubt = Doubt::Held;
        }
        self.answer_inquirers(step);
        self.answer_by = None;
        self.answer_unknown(step);
        self.attempts = self.attempts.saturating_add(1);
        self.retry_at = Some(step.now + step.config.retry.after(u32::MAX, self.fraction()));
    }

    /// Asks the register of a one-branch transaction.
    pub(super) fn send_settle(&mut self, step: &mut Step<'_>) {
        for state in self.branches.iter() {
            step.order(Command::SendSettle { id: self.id, branch: state.branch.clone() });
        }
        self.schedule_retry(step);
        if self.answer_by.is_none() && !self.waiters.is_empty() {
            self.answer_by = Some(step.now + step.config.unknown_bound);
        }
    }

    /// The register of a one-branch transaction answered.
    pub(in crate::coordinator) fn register_answered(
        &mut self,
        branch: &Branch,
        answer: RegisterAnswer,
        step: &mut Step<'_>,
    ) -> Result<(), IllegalEvent> {
        match self.state {
            State::OnePhase { .. } | State::Settling { .. } => {}
            // Repeated, after the first answer ended it.
            State::Over(_) | State::Dropped => return Ok(()),
            State::Active
            | State::Preparing
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Aborting { .. } => return Err(self.illegal("answer of a register")),
        }
        let state = self.branches.get_mut(branch.id);
        let Some(state) = state.filter(|state| state.branch.resource == branch.resource) else {
            return Err(self.illegal("answer of another register"));
        };
        match answer {
            RegisterAnswer::Committed => {
                state.outcome = Some(BranchOutcome::Committed);
                self.end(Ending::Committed { read_only: false, heuristic: None }, step);
            }
            RegisterAnswer::Aborted(reason) => match self.then_close() {
                // The branch can commit alone no more. If it was not alone, the log decides, or has.
                Some(reason) => {
                    self.enter(State::closing(reason));
                    self.propose(step);
                }
                None => self.end_one_phase_aborted(reason, step),
            },
            RegisterAnswer::Forgotten => self.end(Ending::Forgotten, step),
            RegisterAnswer::Unknown => {
                if !matches!(self.state, State::Settling { .. }) {
                    self.enter(State::settling_own());
                }
                self.schedule_retry(step);
                if self.answer_by.is_none() && !self.waiters.is_empty() {
                    self.answer_by = Some(step.now + step.config.unknown_bound);
                }
            }
        }
        Ok(())
    }

    /// Why the log is to be closed after the register.
    fn then_close(&self) -> Option<AbortReason> {
        match &self.state {
            State::Settling { then_close, .. } => then_close.clone(),
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Over(_)
            | State::Dropped => None,
        }
    }

    pub(super) fn end_one_phase_aborted(&mut self, reason: AbortReason, step: &mut Step<'_>) {
        for state in self.branches.iter_mut() {
            state.outcome = Some(BranchOutcome::Aborted);
        }
        self.end_aborted(reason, step);
    }

    /// Every branch voted read-only: nothing was written anywhere, and nothing is logged (law 3).
    pub(super) fn end_read_only(&mut self, step: &mut Step<'_>) {
        self.end(Ending::Committed { read_only: true, heuristic: None }, step);
    }
}
