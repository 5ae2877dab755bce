//! What is told of a transaction that is not over: to requests, to inquiries, and to operators.
//!
//! Nothing here decides anything. What the register has not said yet is *pending*, *unknown* or
//! *wait*, never a guess (law 5).

use std::sync::Arc;

use super::{Doubt, Inquirer, State, Step, Transaction, Waiter};
use crate::coordinator::Mutant;
use crate::coordinator::command::{
    Answer, BranchView, InquiryAnswer, Phase, TransactionOutcome, TransactionView,
};
use crate::coordinator::event::{RequestId, Wait};
use crate::coordinator::memory::Ending;
use crate::id::{Branch, BranchId, ResourceName};
use crate::outcome::{Decision, HeuristicOutcome, combine};
use crate::time::Timestamp;
use crate::vote::{Evidence, Vote};

impl Transaction {
    /// What is known of the outcome now.
    pub(in crate::coordinator) fn outcome(&self) -> TransactionOutcome {
        let unfinished = || {
            self.branches
                .iter()
                .filter(|state| state.outcome.is_none())
                .map(|state| state.branch.clone())
                .collect()
        };
        match &self.state {
            State::Committing => TransactionOutcome::Committed {
                read_only: false,
                unfinished: unfinished(),
                heuristic: self.heuristic(Decision::Commit),
            },
            State::Aborting { reason } => TransactionOutcome::Aborted {
                reason: reason.clone(),
                unfinished: unfinished(),
                heuristic: self.heuristic(Decision::Abort),
            },
            State::Over(ending) => ending.outcome(),
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Dropped => TransactionOutcome::Pending,
        }
    }

    /// Whether it waits for a person to release its owner's incarnation.
    fn is_held(&self) -> bool {
        matches!(self.state, State::Closing { doubt: Doubt::Held, .. })
    }

    /// Everybody who waits for the outcome is told that it is not known.
    pub(super) fn answer_unknown(&mut self, step: &mut Step<'_>) {
        for waiter in std::mem::take(&mut self.waiters) {
            step.reply(waiter.request, Answer::Outcome(TransactionOutcome::Unknown));
        }
    }

    pub(super) fn heuristic(&self, decision: Decision) -> Option<HeuristicOutcome> {
        combine(decision, self.branches.iter().filter_map(|state| state.outcome.as_ref()))
    }

    /// A request waits for the outcome. Single flight: it never starts anything (A13).
    pub(in crate::coordinator) fn wait_for_outcome(
        &mut self,
        request: RequestId,
        wait: Wait,
        step: &mut Step<'_>,
    ) {
        let answer_now = match &self.state {
            State::Committing | State::Aborting { .. } => wait == Wait::Decision,
            State::Over(_) => true,
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Dropped => false,
        };
        if answer_now {
            step.reply(request, Answer::Outcome(self.outcome()));
            return;
        }
        if self.is_held() {
            step.reply(request, Answer::Outcome(TransactionOutcome::Unknown));
            return;
        }
        self.waiters.push(Waiter { request, wait });
        if self.answer_by.is_none() {
            self.answer_by = match &self.state {
                State::Committing | State::Aborting { .. } => Some(step.now + step.config.finished_bound),
                // A lost answer is being made up for already; whoever asks now waits no longer
                // than the first one did.
                State::Proposing { in_flight: false, .. }
                | State::Closing { in_flight: false, .. }
                | State::Settling { .. } => Some(step.now + step.config.unknown_bound),
                State::Active
                | State::Preparing
                | State::OnePhase { .. }
                | State::Proposing { .. }
                | State::Closing { .. }
                | State::Over(_)
                | State::Dropped => None,
            };
        }
    }

    /// An inquiry about a branch that is prepared somewhere.
    pub(in crate::coordinator) fn inquire(
        &mut self,
        request: RequestId,
        branch: &Branch,
        evidence: Evidence,
        step: &mut Step<'_>,
    ) {
        if step.config.plays(Mutant::AbortToInquiryWhileVoting) && matches!(self.state, State::Preparing) {
            step.reply(request, Answer::Inquiry(InquiryAnswer::Abort));
            return;
        }
        match self.state {
            // It is told at once that it must wait for a person, and as a branch of its own what is
            // decided after that.
            State::Closing { doubt: Doubt::Held, .. } => {
                self.add_voter(branch.clone(), Vote::Commit(evidence));
                step.reply(request, Answer::Inquiry(InquiryAnswer::Quarantine));
            }
            State::Closing { doubt: Doubt::None, .. } => {
                // Who asks again has no use for an answer to the first question. Kept, these would
                // pile up for as long as the log is away.
                let again = |asked: &Inquirer| asked.branch == branch.id && asked.evidence == evidence;
                if let Some(place) = self.inquirers.iter().position(again) {
                    let earlier = self.inquirers.swap_remove(place);
                    let wait = InquiryAnswer::Wait { owner: self.id.incarnation };
                    step.reply(earlier.request, Answer::Inquiry(wait));
                }
                // It is also told the decision as a branch of its own, so that how it ends is heard.
                self.add_voter(branch.clone(), Vote::Commit(evidence.clone()));
                self.inquirers.push(Inquirer { request, branch: branch.id, evidence });
            }
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Over(_)
            | State::Dropped => {
                let answer = self.inquiry_answer(branch.id, &evidence);
                step.reply(request, Answer::Inquiry(answer));
            }
        }
    }

    fn inquiry_answer(&self, branch: BranchId, evidence: &Evidence) -> InquiryAnswer {
        match &self.state {
            State::Committing => match self.branches.get(branch) {
                Some(state) => match state.evidence() {
                    Some(decided) if decided.same_execution(evidence) => InquiryAnswer::Commit(decided.clone()),
                    // Another execution than the decided one is rolled back, but only once the
                    // decided one is known committed (law 1, H3).
                    Some(_) if state.outcome.is_none() => InquiryAnswer::Wait { owner: self.id.incarnation },
                    Some(_) | None => InquiryAnswer::Abort,
                },
                None => InquiryAnswer::Abort,
            },
            State::Aborting { .. } | State::Over(Ending::Aborted { .. }) => InquiryAnswer::Abort,
            State::Over(Ending::Forgotten) | State::Closing { doubt: Doubt::Held, .. } => InquiryAnswer::Quarantine,
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { doubt: Doubt::None, .. }
            | State::Dropped
            // Committed and finished: only the record can tell which execution was decided.
            | State::Over(Ending::Committed { .. }) => InquiryAnswer::Wait { owner: self.id.incarnation },
        }
    }

    pub(super) fn answer_inquirers(&mut self, step: &mut Step<'_>) {
        for inquirer in std::mem::take(&mut self.inquirers) {
            let answer = self.inquiry_answer(inquirer.branch, &inquirer.evidence);
            step.reply(inquirer.request, Answer::Inquiry(answer));
        }
    }

    // ---- views -----------------------------------------------------------------------------

    /// Its phase, as it is shown.
    pub(in crate::coordinator) fn phase(&self) -> Phase {
        match &self.state {
            State::Active => Phase::Active,
            State::Preparing => Phase::Preparing,
            State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. } => Phase::Deciding,
            State::Committing | State::Over(Ending::Committed { .. }) => Phase::Committing,
            State::Aborting { .. }
            | State::Over(Ending::Aborted { .. } | Ending::Forgotten)
            | State::Dropped => Phase::Aborting,
        }
    }

    /// The resource of each branch that has not ended.
    pub(in crate::coordinator) fn unfinished_resources(&self) -> impl Iterator<Item = &ResourceName> {
        self.branches.iter().filter(|state| state.outcome.is_none()).map(|state| &state.branch.resource)
    }

    /// What it looks like from outside.
    pub(in crate::coordinator) fn view(&self, now: Timestamp) -> TransactionView {
        let (reason, log_unknown) = match &self.state {
            State::Proposing { in_flight, .. } => (None, !in_flight),
            State::Closing { reason, in_flight, .. } => (Some(reason.clone()), !in_flight && !self.is_held()),
            State::Aborting { reason } => (Some(reason.clone()), false),
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Committing
            | State::Over(_)
            | State::Dropped => (None, false),
        };
        TransactionView {
            id: self.id,
            phase: self.phase(),
            details: Arc::clone(&self.details),
            age: now.since(self.began),
            reason,
            branches: self
                .branches
                .iter()
                .map(|state| BranchView {
                    branch: state.branch.clone(),
                    vote: state.vote().cloned(),
                    outcome: state.outcome.clone(),
                    attempts: state.attempts,
                    last_error: state.last_error.clone(),
                })
                .collect(),
            next_attempt_in: self.retry_at.map(|at| at.since(now)),
            log_unknown,
            held: self.is_held().then_some(TransactionView::HELD_BY_DOUBT),
            own_register: matches!(self.state, State::OnePhase { .. } | State::Settling { .. }),
            time_left: self.acts_at_deadline().then(|| self.time_left(now)),
        }
    }

    /// Requests have waited long enough: they are told what is known.
    pub(super) fn bound_passed(&mut self, step: &mut Step<'_>) {
        let answer = match self.state {
            State::Committing | State::Aborting { .. } => self.outcome(),
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Over(_)
            | State::Dropped => TransactionOutcome::Unknown,
        };
        for waiter in std::mem::take(&mut self.waiters) {
            step.reply(waiter.request, Answer::Outcome(answer.clone()));
        }
        match &self.state {
            // An abort is presumed: whoever still holds a branch will inquire (law 3).
            State::Aborting { reason } => {
                let reason = reason.clone();
                self.end_aborted(reason, step);
            }
            State::Settling { asked_only: true, .. } => self.state = State::Dropped,
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Over(_)
            | State::Dropped => {}
        }
    }
}
