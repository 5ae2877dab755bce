//! A branch whose own database holds the outcome: one-phase commit, and questions to its register (H5).
//!
//! The register alone knows. What it answered is repeated from memory; what it could not answer is
//! asked again, and a question closes it if it is open, so that nothing commits behind an answer.

use super::{End, HeldBranch, State, Step};
use crate::coordinator::{Operation, RegisterAnswer};
use crate::participant::{Command, IllegalEvent, SessionId};
use crate::time::Timestamp;

impl HeldBranch {
    /// One-phase commit came.
    pub(in crate::participant) fn commit_one_phase(
        &mut self,
        from: SessionId,
        operation: Option<Operation>,
        deadline: Timestamp,
        step: &mut Step<'_>,
    ) {
        let executes =
            matches!((&self.state, &operation), (State::Open { .. }, _) | (State::Unknown, Some(_)));
        if !executes {
            self.ask_register(from, step);
            return;
        }
        self.register_asked.insert(from);
        self.state = State::OnePhase { then_settle: false };
        let (id, branch) = (self.id, self.branch.clone());
        step.order(Command::RunOnePhase { id, branch, operation, deadline });
    }

    /// Somebody asks the register, which closes it if it is open.
    pub(in crate::participant) fn settle(&mut self, from: SessionId, step: &mut Step<'_>) {
        if let State::OnePhase { then_settle } = &mut self.state {
            *then_settle = true;
        }
        self.ask_register(from, step);
    }

    fn ask_register(&mut self, from: SessionId, step: &mut Step<'_>) {
        match &self.state {
            State::OnePhase { .. } | State::Settling { .. } => {
                self.register_asked.insert(from);
            }
            State::Ended(End::Register(answer)) => {
                let answer = answer.clone();
                self.send_register(from, &answer, step);
            }
            // Without memory only the register can tell, and asking closes it. Open work that was
            // never asked to commit is kept from ever committing, and goes with it.
            State::Unknown
            | State::Open { .. }
            | State::AbortFailed { prepared: None, .. }
            | State::Ended(_) => {
                self.register_asked.insert(from);
                let open = matches!(self.state, State::Open { .. } | State::AbortFailed { .. });
                self.run_settle(open, step);
            }
            // Its local work is being given up: to be asked again.
            State::Aborting { prepared: None } => self.send_register(from, &RegisterAnswer::Unknown, step),
            State::Preparing { .. }
            | State::Prepared { .. }
            | State::Committing { .. }
            | State::Aborting { prepared: Some(_) }
            | State::AbortFailed { prepared: Some(_), .. } => {
                self.violation("the register was asked for a branch in two-phase commit", step);
                self.send_register(from, &RegisterAnswer::Unknown, step);
            }
        }
    }

    fn run_settle(&mut self, open: bool, step: &mut Step<'_>) {
        let (id, branch) = (self.id, self.branch.clone());
        self.state = State::Settling { open };
        step.order(Command::RunSettle { id, branch });
    }

    /// The register was read, or what it holds could not be established.
    pub(in crate::participant) fn register_read(
        &mut self,
        answer: &RegisterAnswer,
        step: &mut Step<'_>,
    ) -> Result<(), IllegalEvent> {
        let (State::OnePhase { .. } | State::Settling { .. }) = self.state else {
            return Err(self.illegal("answer of the register"));
        };
        let then_settle = self.state == State::OnePhase { then_settle: true };
        if *answer == RegisterAnswer::Unknown && then_settle {
            self.run_settle(false, step);
            return Ok(());
        }
        self.state = match answer {
            RegisterAnswer::Committed | RegisterAnswer::Aborted(_) | RegisterAnswer::Forgotten => {
                State::Ended(End::Register(answer.clone()))
            }
            // To be asked again: the next question goes to the register. Whoever asked may never do so,
            // and then nobody but us gives up the local work, and its locks.
            RegisterAnswer::Unknown if self.state == State::Settling { open: true } => {
                State::AbortFailed { prepared: None, retry_at: step.now + step.config.inquiry_interval }
            }
            RegisterAnswer::Unknown => State::Unknown,
        };
        for to in std::mem::take(&mut self.register_asked) {
            self.send_register(to, answer, step);
        }
        Ok(())
    }

    fn send_register(&self, to: SessionId, answer: &RegisterAnswer, step: &mut Step<'_>) {
        let (id, branch) = (self.id, self.branch.clone());
        step.order(Command::SendRegisterAnswer { to, id, branch, answer: answer.clone() });
    }
}
