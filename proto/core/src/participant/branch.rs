//! One branch at its participant: from open work to its end, one hook at a time.

mod askers;
mod ended;
mod ending;
mod inquiring;
mod register;

use std::collections::VecDeque;

use self::askers::Askers;
pub(super) use self::ended::EndedBranch;
use super::IllegalEvent;
use super::config::{Config, Mutant};
use super::event::{BranchKey, Command, SessionId};
use crate::coordinator::{Operation, RegisterAnswer};
use crate::id::{Branch, TransactionId};
use crate::outcome::BranchOutcome;
use crate::time::Timestamp;
use crate::vote::{AbortKind, AbortReason, Evidence, Vote};

/// What a transition may use: the queue of orders, the settings, and the time.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) commands: &'a mut VecDeque<Command>,
    pub(super) config: &'a Config,
    pub(super) now: Timestamp,
}

impl Step<'_> {
    fn order(&mut self, command: Command) {
        self.commands.push_back(command);
    }
}

/// Where a branch is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    /// Heard of only: nothing was done here, or this process does not remember.
    Unknown,
    /// A local transaction is open.
    Open { deadline: Timestamp },
    /// The prepare hook runs.
    Preparing {
        /// Abort came meanwhile: it is carried out as soon as the hook ends.
        then_abort: bool,
    },
    /// The branch commits itself, through its register.
    OnePhase {
        /// The register is to be asked as well, by whom nobody knows better than the hook.
        then_settle: bool,
    },
    /// The register is being asked.
    Settling {
        /// Local work that was never asked to commit may be open here, and is given up with it.
        open: bool,
    },
    /// In doubt.
    Prepared {
        evidence: Evidence,
        /// Whether the last hook that ran failed, so that nothing can be assumed of what it did.
        sure: bool,
        inquired_at: Option<Timestamp>,
        /// When it asks by itself what became of its transaction.
        ask_at: Option<Timestamp>,
        /// Whether it was answered that nothing can be known, and that was reported.
        quarantined: bool,
    },
    /// The commit hook runs.
    Committing { decided: Evidence, prepared: Option<Evidence> },
    /// The abort hook runs.
    Aborting { prepared: Option<Evidence> },
    /// The abort hook failed, and is run again then. What was aborted stays so.
    AbortFailed { prepared: Option<Evidence>, retry_at: Timestamp },
    /// Over; kept to answer what is repeated or late.
    Ended(End),
}

/// How a branch ended here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum End {
    /// Voted no, and let everything go.
    Refused(AbortReason),
    /// Voted read-only, and let everything go.
    ReadOnly,
    /// By a decision.
    Outcome { outcome: BranchOutcome, evidence: Option<Evidence> },
    /// Its register holds this.
    Register(RegisterAnswer),
}

/// One branch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct HeldBranch {
    id: TransactionId,
    branch: Branch,
    state: State,
    /// The execution that a commit was heard for. It stands, whatever a hook came to (C8, E8).
    decided: Option<Evidence>,
    /// When it ended, if it has.
    ended_at: Option<Timestamp>,
    /// Who asked for the vote that is not sent yet.
    prepare_asked: Askers,
    /// Who asked for the end that has not come yet.
    end_asked: Askers,
    /// Who asked for what the register holds.
    register_asked: Askers,
}

impl HeldBranch {
    pub(super) fn unknown(id: TransactionId, branch: Branch) -> Self {
        Self {
            id,
            branch,
            state: State::Unknown,
            decided: None,
            ended_at: None,
            prepare_asked: Askers::default(),
            end_asked: Askers::default(),
            register_asked: Askers::default(),
        }
    }

    fn key(&self) -> BranchKey {
        BranchKey { id: self.id, branch: self.branch.id }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// Whether there is nothing to remember, so that the next message may meet no memory at all.
    pub(super) fn is_blank(&self) -> bool {
        self.state == State::Unknown && self.decided.is_none()
    }

    /// Notes when it ended.
    pub(super) fn ended(&mut self, at: Timestamp) {
        self.ended_at = Some(at);
    }

    /// When the local transaction is given up, the abort hook is run again, or it inquires.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            State::Open { deadline } | State::AbortFailed { retry_at: deadline, .. } => Some(deadline),
            State::Prepared { ask_at, .. } => ask_at,
            State::Unknown
            | State::Preparing { .. }
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Committing { .. }
            | State::Aborting { .. }
            | State::Ended(_) => None,
        }
    }

    fn illegal(&self, event: &'static str) -> IllegalEvent {
        let state = match self.state {
            State::Unknown => "unknown",
            State::Open { .. } => "open",
            State::Preparing { .. } => "preparing",
            State::OnePhase { .. } => "one-phase",
            State::Settling { .. } => "settling",
            State::Prepared { .. } => "prepared",
            State::Committing { .. } => "committing",
            State::Aborting { .. } => "aborting",
            State::AbortFailed { .. } => "abort failed",
            State::Ended(_) => "ended",
        };
        IllegalEvent { key: self.key(), event, state }
    }

    /// The name of its state, for the checkers: finer than that of an illegal event.
    #[cfg(pactum_mutants)]
    pub(super) fn state_name(&self) -> &'static str {
        match &self.state {
            State::Unknown => "commit failed",
            State::Open { .. } => "open",
            State::Preparing { then_abort: false } => "preparing",
            State::Preparing { then_abort: true } => "preparing, then abort",
            State::OnePhase { .. } => "one-phase",
            State::Settling { .. } => "settling",
            State::Prepared { quarantined: false, .. } => "prepared",
            State::Prepared { quarantined: true, .. } => "in quarantine",
            State::Committing { .. } => "committing",
            State::Aborting { .. } => "aborting",
            State::AbortFailed { .. } => "abort failed",
            State::Ended(End::Refused(_)) => "refused",
            State::Ended(End::ReadOnly) => "read-only",
            State::Ended(End::Outcome { outcome: BranchOutcome::Committed, .. }) => "committed",
            State::Ended(End::Outcome { outcome: BranchOutcome::Aborted, .. }) => "aborted",
            State::Ended(End::Outcome { outcome: BranchOutcome::Heuristic(_), .. }) => {
                "ended without the decision"
            }
            State::Ended(End::Register(RegisterAnswer::Committed)) => "register committed",
            State::Ended(End::Register(_)) => "register aborted",
        }
    }

    fn violation(&self, what: &str, step: &mut Step<'_>) {
        step.order(Command::ReportViolation { key: self.key(), what: what.into() });
    }

    /// Local work was begun here and handed over.
    pub(super) fn enlisted(&mut self, deadline: Timestamp, step: &mut Step<'_>) {
        match self.state {
            State::Unknown => self.state = State::Open { deadline },
            // Its end came before it did: the work is let go again.
            State::Ended(_) => self.run_abort(None, step),
            // Repeated after the answer was lost (E11): the first stands.
            State::Open { .. }
            | State::Preparing { .. }
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Prepared { .. }
            | State::Committing { .. }
            | State::Aborting { .. }
            | State::AbortFailed { .. } => {}
        }
    }

    // ---- phase 1 -------------------------------------------------------------------------------

    /// Prepare came.
    pub(super) fn prepare(
        &mut self,
        from: SessionId,
        operation: Option<Operation>,
        deadline: Timestamp,
        step: &mut Step<'_>,
    ) {
        let aborted =
            matches!(&self.state, State::Ended(End::Outcome { outcome: BranchOutcome::Aborted, .. }));
        let again = step.config.plays(Mutant::PreparesAfterAbort) && aborted;
        // Not again once commit was decided here, also where its hook has only failed so far: a second
        // execution could take the name of the first.
        let executes = match (&self.state, &operation) {
            (State::Open { .. }, _) => true,
            (State::Unknown, Some(_)) => self.decided.is_none(),
            _ => false,
        };
        if executes || again {
            if step.config.plays(Mutant::VotesBeforeDurable) {
                let early = Vote::Commit(Evidence::new("x1", ""));
                self.send_vote(from, early, step);
            }
            self.prepare_asked.insert(from);
            self.state = State::Preparing { then_abort: false };
            let (id, branch) = (self.id, self.branch.clone());
            step.order(Command::RunPrepare { id, branch, operation, deadline });
            return;
        }
        match &self.state {
            // The hook's vote answers this one too (E2).
            State::Preparing { .. } => {
                self.prepare_asked.insert(from);
            }
            State::Prepared { evidence, .. } => {
                let vote = Vote::Commit(evidence.clone());
                self.send_vote(from, vote, step);
            }
            State::Ended(End::ReadOnly) => self.send_vote(from, Vote::ReadOnly, step),
            State::Ended(End::Refused(reason)) => {
                let vote = Vote::Abort(reason.clone());
                self.send_vote(from, vote, step);
            }
            // Nothing is open here: the local transaction is lost, or never was. Remembered, so that
            // the answer stays the same.
            State::Unknown if self.decided.is_none() => {
                let reason = AbortReason::new(AbortKind::LocalFailure, "no open work of this branch is here");
                self.send_vote(from, Vote::Abort(reason.clone()), step);
                self.state = State::Ended(End::Refused(reason));
            }
            // After Abort: no (E3).
            State::Aborting { .. }
            | State::AbortFailed { .. }
            | State::Ended(End::Outcome { outcome: BranchOutcome::Aborted, .. }) => {
                let reason = AbortReason::new(AbortKind::LocalFailure, "the branch was aborted before");
                self.send_vote(from, Vote::Abort(reason), step);
            }
            // Late: its decision is here already, and says everything.
            State::Unknown
            | State::Open { .. }
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Committing { .. }
            | State::Ended(End::Outcome { .. } | End::Register(_)) => {}
        }
    }

    fn send_vote(&self, to: SessionId, vote: Vote, step: &mut Step<'_>) {
        step.order(Command::SendVote { to, id: self.id, branch: self.branch.clone(), vote });
    }

    /// The prepare hook ended.
    pub(super) fn prepare_finished(&mut self, vote: &Vote, step: &mut Step<'_>) -> Result<(), IllegalEvent> {
        let State::Preparing { then_abort } = self.state else {
            return Err(self.illegal("end of the prepare hook"));
        };
        let asked = std::mem::take(&mut self.prepare_asked);
        match vote {
            Vote::Commit(evidence) if then_abort => self.run_abort(Some(evidence.clone()), step),
            Vote::Commit(evidence) => {
                let evidence = evidence.clone();
                self.state = State::Prepared {
                    evidence,
                    sure: true,
                    inquired_at: Some(step.now),
                    ask_at: Some(step.now + step.config.patience),
                    quarantined: false,
                };
            }
            Vote::ReadOnly => self.state = State::Ended(End::ReadOnly),
            Vote::Abort(reason) => self.state = State::Ended(End::Refused(reason.clone())),
        }
        if !matches!(self.state, State::Aborting { .. }) {
            for to in asked {
                self.send_vote(to, vote.clone(), step);
            }
            // It is over without an abort hook: whoever asked for the end has it.
            self.answer_end(&BranchOutcome::Aborted, step);
        }
        Ok(())
    }

    /// The enlistment was refused: the local work is given up.
    pub(super) fn give_up(&mut self, step: &mut Step<'_>) -> Result<(), IllegalEvent> {
        if !matches!(self.state, State::Open { .. }) {
            return Err(self.illegal("giving up"));
        }
        self.run_abort(None, step);
        Ok(())
    }

    /// What it waits for by itself is due.
    pub(super) fn due(&mut self, step: &mut Step<'_>) {
        match &mut self.state {
            State::Open { .. } => self.run_abort(None, step),
            State::AbortFailed { prepared, .. } => {
                let prepared = prepared.clone();
                self.run_abort(prepared, step);
            }
            // From memory too: what was ended by hand is found by no scan (D8).
            State::Prepared { evidence, .. } => {
                let evidence = evidence.clone();
                self.ask(evidence, step);
            }
            State::Unknown
            | State::Preparing { .. }
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Committing { .. }
            | State::Aborting { .. }
            | State::Ended(_) => {}
        }
    }
}
