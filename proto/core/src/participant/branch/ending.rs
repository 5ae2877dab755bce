//! Phase 2 at one branch: its decision is carried out, until its end is durable.
//!
//! What was decided stays decided, and what was ended is not undone (C8, E8).

use std::sync::Arc;

use super::{End, HeldBranch, State, Step};
use crate::coordinator::RegisterAnswer;
use crate::outcome::BranchOutcome;
use crate::participant::config::Mutant;
use crate::participant::{Command, IllegalEvent, SessionId};
use crate::vote::{AbortKind, AbortReason, Evidence, Vote};

impl HeldBranch {
    /// The decision is commit, and durable.
    pub(in crate::participant) fn commit(
        &mut self,
        from: Option<SessionId>,
        decided: Evidence,
        step: &mut Step<'_>,
    ) {
        if self.decided.as_ref().is_some_and(|known| !known.same_execution(&decided)) {
            self.violation("commit came for two executions of one branch", step);
            self.send_failed(from, "another execution of the branch was decided before", step);
            return;
        }
        match &self.state {
            State::Prepared { evidence, sure, .. } => {
                let prepared = sure.then(|| evidence.clone());
                self.run_commit(from, decided, prepared, step);
            }
            // No memory of it: the resource finds out what it was (C10, law 8).
            State::Unknown => self.run_commit(from, decided, None, step),
            State::Committing { decided: known, .. } if known.same_execution(&decided) => {
                self.end_asked.extend(from);
            }
            State::Ended(End::Outcome { outcome, evidence })
                if evidence.as_ref().is_some_and(|evidence| evidence.same_execution(&decided)) =>
            {
                let outcome = outcome.clone();
                self.send_finished(from, outcome, step);
            }
            // Ended here without this execution, or as another one: the resource alone can tell what
            // became of the decided one (H3).
            State::Ended(End::Outcome { .. } | End::Refused(_) | End::ReadOnly) => {
                self.run_commit(from, decided, None, step);
            }
            // Another execution than the decided one, begun by a late Prepare (H3): to be asked again when
            // its hook has ended.
            State::Preparing { .. } => {
                self.send_failed(from, "another execution of the branch is being prepared", step);
            }
            // Likewise, and being rolled back.
            State::Aborting { prepared: Some(other) } | State::AbortFailed { prepared: Some(other), .. }
                if !other.same_execution(&decided) =>
            {
                self.send_failed(from, "another execution of the branch is being rolled back", step);
            }
            State::Open { .. }
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Committing { .. }
            | State::Aborting { .. }
            | State::AbortFailed { .. }
            | State::Ended(End::Register(_)) => {
                // Never prepared here (E7), or ended otherwise (E8): no acknowledgement.
                self.violation("commit came for a branch that is not prepared here", step);
                self.send_failed(from, "the branch is not prepared here", step);
            }
        }
    }

    fn run_commit(
        &mut self,
        from: Option<SessionId>,
        decided: Evidence,
        prepared: Option<Evidence>,
        step: &mut Step<'_>,
    ) {
        if step.config.plays(Mutant::AcknowledgesEarly) {
            self.send_finished(from, BranchOutcome::Committed, step);
        }
        self.end_asked.extend(from);
        self.decided = Some(decided.clone());
        let (id, branch) = (self.id, self.branch.clone());
        self.state = State::Committing { decided: decided.clone(), prepared: prepared.clone() };
        step.order(Command::RunCommit { id, branch, decided, prepared });
    }

    /// The decision is abort.
    pub(in crate::participant) fn abort(&mut self, from: Option<SessionId>, step: &mut Step<'_>) {
        if self.decided.is_some() && !self.is_ended() && !self.is_another_execution() {
            // Also where the commit hook has failed so far: a decision never turns (C8, E8).
            self.violation("abort came for a branch whose commit was decided", step);
            self.send_failed(from, "the branch's commit was decided before", step);
            return;
        }
        match &mut self.state {
            // Also where a scan or a failed hook is all that is known of it: that it was prepared is certain,
            // and by its evidence alone is found out whether a person has committed it meanwhile (D8).
            State::Prepared { evidence, .. } => {
                let prepared = Some(evidence.clone());
                self.end_asked.extend(from);
                self.run_abort(prepared, step);
            }
            State::AbortFailed { prepared, .. } => {
                let prepared = prepared.clone();
                self.end_asked.extend(from);
                self.run_abort(prepared, step);
            }
            // Without memory it may be prepared all the same, and a late Prepare must find that it is
            // too late (E3, E4).
            State::Open { .. } | State::Unknown => {
                self.end_asked.extend(from);
                self.run_abort(None, step);
            }
            State::Preparing { then_abort } => {
                *then_abort = true;
                self.end_asked.extend(from);
            }
            State::Aborting { .. } => self.end_asked.extend(from),
            // Let go at its vote, or by its register (H5).
            State::Ended(End::Refused(_) | End::ReadOnly | End::Register(RegisterAnswer::Aborted(_))) => {
                self.send_finished(from, BranchOutcome::Aborted, step);
            }
            State::Ended(End::Outcome { outcome, .. }) => {
                let outcome = outcome.clone();
                if outcome == BranchOutcome::Committed {
                    self.violation("abort came for a branch that is committed", step);
                }
                self.send_finished(from, outcome, step);
            }
            State::Ended(End::Register(RegisterAnswer::Committed)) => {
                self.violation("abort came for a branch that its register holds committed", step);
                self.send_finished(from, BranchOutcome::Committed, step);
            }
            // Its register decides it, and may be asked; a commit that is decided was met above.
            State::OnePhase { .. }
            | State::Settling { .. }
            | State::Committing { .. }
            | State::Ended(End::Register(RegisterAnswer::Unknown | RegisterAnswer::Forgotten)) => {
                self.send_failed(from, "the branch has its own register", step);
            }
        }
    }

    /// Whether what is prepared here is not the execution that was decided: a late Prepare executed the
    /// branch again after it had ended and was forgotten (H3). That one is rolled back.
    fn is_another_execution(&self) -> bool {
        let (State::Prepared { evidence, .. } | State::Committing { prepared: Some(evidence), .. }) =
            &self.state
        else {
            return false;
        };
        self.decided.as_ref().is_some_and(|decided| !decided.same_execution(evidence))
    }

    pub(super) fn run_abort(&mut self, prepared: Option<Evidence>, step: &mut Step<'_>) {
        let (id, branch) = (self.id, self.branch.clone());
        self.state = State::Aborting { prepared: prepared.clone() };
        step.order(Command::RunAbort { id, branch, prepared });
    }

    /// The commit or the abort hook ended the branch.
    pub(in crate::participant) fn hook_ended(
        &mut self,
        outcome: &BranchOutcome,
        step: &mut Step<'_>,
    ) -> Result<(), IllegalEvent> {
        let evidence = match &self.state {
            State::Committing { decided, .. } => Some(decided.clone()),
            State::Aborting { prepared } => prepared.clone(),
            State::Unknown
            | State::Open { .. }
            | State::Preparing { .. }
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Prepared { .. }
            | State::AbortFailed { .. }
            | State::Ended(_) => return Err(self.illegal("end of a hook")),
        };
        self.state = State::Ended(End::Outcome { outcome: outcome.clone(), evidence });
        self.answer_end(outcome, step);
        let reason = AbortReason::new(AbortKind::LocalFailure, "the branch was aborted before");
        for to in std::mem::take(&mut self.prepare_asked) {
            self.send_vote(to, Vote::Abort(reason.clone()), step);
        }
        Ok(())
    }

    /// The commit or the abort hook did not end the branch, or may not have.
    pub(in crate::participant) fn hook_failed(
        &mut self,
        error: &Arc<str>,
        step: &mut Step<'_>,
    ) -> Result<(), IllegalEvent> {
        self.state = match &self.state {
            State::Committing { prepared: Some(evidence), .. } => State::Prepared {
                evidence: evidence.clone(),
                sure: false,
                inquired_at: None,
                ask_at: Some(step.now + step.config.patience),
                quarantined: false,
            },
            // Whoever asks again starts over; so does the next scan that finds it.
            State::Committing { prepared: None, .. } => State::Unknown,
            State::Aborting { prepared } => State::AbortFailed {
                prepared: prepared.clone(),
                retry_at: step.now + step.config.inquiry_interval,
            },
            State::Unknown
            | State::Open { .. }
            | State::Preparing { .. }
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Prepared { .. }
            | State::AbortFailed { .. }
            | State::Ended(_) => return Err(self.illegal("failure of a hook")),
        };
        for to in std::mem::take(&mut self.end_asked) {
            self.send_failed(Some(to), error, step);
        }
        Ok(())
    }

    pub(super) fn answer_end(&mut self, outcome: &BranchOutcome, step: &mut Step<'_>) {
        for to in std::mem::take(&mut self.end_asked) {
            self.send_finished(Some(to), outcome.clone(), step);
        }
    }

    pub(super) fn send_finished(&self, to: Option<SessionId>, outcome: BranchOutcome, step: &mut Step<'_>) {
        if let Some(to) = to {
            let (id, branch) = (self.id, self.branch.clone());
            step.order(Command::SendFinished { to, id, branch, outcome });
        }
    }

    pub(super) fn send_failed(&self, to: Option<SessionId>, error: &str, step: &mut Step<'_>) {
        if let Some(to) = to {
            let (id, branch) = (self.id, self.branch.clone());
            step.order(Command::SendFailed { to, id, branch, error: error.into() });
        }
    }
}
