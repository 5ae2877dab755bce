//! Phase 2: the decision goes to every branch at once, and again until each has ended. A slow or
//! dead branch delays nobody but itself.

use std::sync::Arc;

use super::{State, Step, Transaction, Waiter};
use crate::coordinator::command::{Answer, Command};
use crate::coordinator::event::Wait;
use crate::coordinator::memory::Ending;
use crate::coordinator::{IllegalEvent, Mutant};
use crate::id::{Branch, ResourceName};
use crate::outcome::{BranchOutcome, DecidedBranch, Decision, HeuristicOutcome};
use crate::vote::{AbortReason, Vote};

impl Transaction {
    /// Abort is decided: by the owner's free choice before it proposed, or by the register.
    pub(super) fn abort(&mut self, reason: AbortReason, step: &mut Step<'_>) {
        for state in self.branches.iter_mut() {
            let ended = match state.vote() {
                // Ended at its vote already.
                Some(Vote::Abort(_) | Vote::ReadOnly) => true,
                // A one-shot branch that nobody was asked to execute.
                None => state.branch.instance.is_nil(),
                Some(Vote::Commit(_)) => false,
            };
            if ended {
                state.outcome = Some(BranchOutcome::Aborted);
            }
        }
        self.enter(State::Aborting { reason });
        self.answer_inquirers(step);
        self.decided(step);
        self.send_decisions(step);
        self.check_finished(step);
    }

    /// Commit or abort has just been decided: requests that wait for that are answered.
    pub(super) fn decided(&mut self, step: &mut Step<'_>) {
        let is_now = |waiter: &Waiter| waiter.wait == Wait::Decision;
        if self.waiters.iter().any(is_now) {
            let outcome = self.outcome();
            for waiter in self.waiters.iter().filter(|waiter| is_now(waiter)) {
                step.reply(waiter.request, Answer::Outcome(outcome.clone()));
            }
            self.waiters.retain(|waiter| !is_now(waiter));
        }
        let aborting = matches!(self.state, State::Aborting { .. });
        self.answer_by =
            (aborting || !self.waiters.is_empty()).then(|| step.now + step.config.finished_bound);
        if self.recorded_undecided {
            step.order(Command::ForgetUndecided { gid: self.id.gid });
        }
    }

    /// Sends the decision to every branch that has not ended.
    pub(super) fn send_decisions(&mut self, step: &mut Step<'_>) {
        self.send_decisions_to(None, step);
    }

    /// Sends the decision to the branches of one resource, or of all, that have not ended.
    pub(super) fn send_decisions_to(&mut self, resource: Option<&ResourceName>, step: &mut Step<'_>) {
        let id = self.id;
        let committing = matches!(self.state, State::Committing);
        let unfinished = self.branches.iter_mut().filter(|state| {
            state.outcome.is_none() && resource.is_none_or(|name| state.branch.resource == *name)
        });
        for state in unfinished {
            state.attempts = state.attempts.saturating_add(1);
            let branch = state.branch.clone();
            match (committing, state.vote()) {
                (true, Some(Vote::Commit(evidence))) => {
                    step.order(Command::SendCommit { id, branch, evidence: evidence.clone() });
                }
                (true, _) => {}
                (false, _) => step.order(Command::SendAbort { id, branch }),
            }
        }
        // An instance that comes and goes does not put off the others' next attempt.
        if resource.is_none() || self.retry_at.is_none() {
            self.schedule_retry(step);
        }
    }

    /// The faulty variant that does not wait for the log.
    pub(super) fn order_commits(&mut self, decided: &[DecidedBranch], step: &mut Step<'_>) {
        for decided in decided {
            step.order(Command::SendCommit {
                id: self.id,
                branch: decided.branch.clone(),
                evidence: decided.evidence.clone(),
            });
        }
    }

    /// A branch has ended.
    pub(in crate::coordinator) fn branch_finished(
        &mut self,
        branch: &Branch,
        outcome: BranchOutcome,
        step: &mut Step<'_>,
    ) -> Result<(), IllegalEvent> {
        let decision = match self.state {
            State::Committing => Decision::Commit,
            State::Aborting { .. } => Decision::Abort,
            // Repeated, after the last acknowledgement ended it.
            State::Over(_) | State::Dropped => return Ok(()),
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. } => return Err(self.illegal("end of a branch")),
        };
        let outcome = against(decision, outcome);
        // An abort may be acknowledged by a branch that was never part of this execution; also one of
        // another resource, to which the id of a branch was given twice.
        let Some(state) = self.branches.get_mut(branch.id) else {
            if let BranchOutcome::Heuristic(outcome) = outcome {
                let (id, branch) = (self.id, branch.clone());
                step.order(Command::RecordHeuristic { id, branch, outcome });
            }
            return Ok(());
        };
        if state.branch.resource != branch.resource {
            if let BranchOutcome::Heuristic(outcome) = outcome {
                let what = format!("branch {} of {} ended so: {outcome:?}", branch.id, branch.resource);
                step.order(Command::ReportViolation { id: self.id, what });
            }
            return Ok(());
        }
        match &state.outcome {
            None => {}
            // Taken for ended by its vote, which says that nothing was done here; that it is committed all
            // the same is known by evidence (D8).
            Some(BranchOutcome::Aborted) if matches!(outcome, BranchOutcome::Heuristic(_)) => {}
            Some(_) => return Ok(()),
        }
        if let BranchOutcome::Heuristic(heuristic) = outcome {
            step.order(Command::RecordHeuristic {
                id: self.id,
                branch: state.branch.clone(),
                outcome: heuristic,
            });
        }
        state.outcome = Some(outcome);
        state.last_error = None;
        self.check_finished(step);
        Ok(())
    }

    /// A branch could not be ended yet; it is asked again by the timer.
    pub(in crate::coordinator) fn branch_failed(&mut self, branch: &Branch, error: Arc<str>) {
        let state = self.branches.get_mut(branch.id);
        if let Some(state) = state.filter(|state| state.branch.resource == branch.resource) {
            state.last_error = Some(error);
        }
    }

    /// Ends the transaction once every branch has ended.
    pub(super) fn check_finished(&mut self, step: &mut Step<'_>) {
        let unfinished = self.branches.iter().filter(|state| state.outcome.is_none()).count();
        match &self.state {
            State::Committing => {
                let spared = usize::from(step.config.plays(Mutant::FinishedBeforeLastAck));
                if unfinished > spared {
                    return;
                }
                let heuristic = self.heuristic(Decision::Commit);
                step.order(Command::RecordFinished { id: self.id });
                self.end(Ending::Committed { read_only: false, heuristic }, step);
            }
            State::Aborting { reason } => {
                // Who could not be reached is not waited for: he will inquire.
                let awaited =
                    self.branches.iter().any(|state| state.outcome.is_none() && !state.not_attached);
                if !awaited {
                    let reason = reason.clone();
                    self.end_aborted(reason, step);
                }
            }
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Over(_)
            | State::Dropped => {}
        }
    }

    pub(super) fn end_aborted(&mut self, reason: AbortReason, step: &mut Step<'_>) {
        let heuristic = self.heuristic(Decision::Abort);
        self.end(Ending::Aborted { reason, heuristic }, step);
    }

    /// It is over: everybody who waits is told.
    pub(super) fn end(&mut self, ending: Ending, step: &mut Step<'_>) {
        if self.is_undecided() && self.recorded_undecided {
            step.order(Command::ForgetUndecided { gid: self.id.gid });
        }
        let outcome = ending.outcome();
        self.enter(State::Over(ending));
        self.answer_by = None;
        for waiter in std::mem::take(&mut self.waiters) {
            step.reply(waiter.request, Answer::Outcome(outcome.clone()));
        }
        self.answer_inquirers(step);
    }
}

/// What a branch reports, seen against the decision: an end that agrees is no heuristic outcome
/// (G3), and a plain end that contradicts is one.
pub(in crate::coordinator) fn against(decision: Decision, outcome: BranchOutcome) -> BranchOutcome {
    use HeuristicOutcome as Heuristic;
    match (decision, outcome) {
        (Decision::Commit, BranchOutcome::Heuristic(Heuristic::Committed)) => BranchOutcome::Committed,
        (Decision::Abort, BranchOutcome::Heuristic(Heuristic::Aborted)) => BranchOutcome::Aborted,
        (Decision::Commit, BranchOutcome::Aborted) => BranchOutcome::Heuristic(Heuristic::Aborted),
        (Decision::Abort, BranchOutcome::Committed) => BranchOutcome::Heuristic(Heuristic::Committed),
        (_, outcome) => outcome,
    }
}
