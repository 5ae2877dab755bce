//! One global transaction at a coordinator: its phases, its timers, and what it looks like.
//!
//! ```text
//!              all read-only ──────────────────────────────────────────▶ committed
//!  Active ─▶ Preparing ─┬─ all votes in ─▶ Proposing ─▶ (won, lost) ─▶ Committing ─▶ committed
//!    │          │       │                     │ fenced                      ▲
//!    │          │       └ one marker branch   ▼                    (lost)   │
//!    │          │         OnePhase         Closing ◀─ inquiry, resolve, foreign commit
//!    │          │            │ unknown        │ (won, lost)
//!    └──────────┴──▶ Aborting ◀─ Settling ────┘ ─▶ aborted
//! ```
//!
//! *Proposed* is `OnePhase`, `Proposing` and everything after: from there on only the register
//! says what the outcome is (law 4). A closing whose log went back in time is *held*: see [`Doubt`].
//! The transitions stand in [`voting`] (up to the proposal), [`deciding`] (register and answers from
//! it) and [`finishing`] (phase 2); what anybody is told meanwhile in [`answers`].

mod answers;
mod branches;
mod deciding;
mod finishing;
mod voting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::IllegalEvent;
use super::command::{Answer, Command};
use super::config::Config;
use super::event::{RequestId, Wait};
use super::memory::{Ended, Ending};
use crate::id::{BranchId, TransactionId};
use crate::outcome::{DecidedBranch, Details};
use crate::time::Timestamp;
use crate::vote::{AbortReason, Evidence};
use branches::{BranchState, Branches};
pub(super) use finishing::against;

/// What a transition may use: the queue of orders, the settings, and the time.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) commands: &'a mut VecDeque<Command>,
    pub(super) config: &'a Config,
    pub(super) now: Timestamp,
}

impl Step<'_> {
    pub(super) fn order(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    pub(super) fn reply(&mut self, request: RequestId, answer: Answer) {
        self.order(Command::Reply { request, answer });
    }
}

/// Where a transaction is. Facts about it that hold in one phase only stand inside that phase.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    /// Collecting branches.
    Active,
    /// Commit was asked; votes are awaited. Not proposed: may be aborted freely.
    Preparing,
    /// One-phase commit is, or was, with a session: proposed to the branch's own register.
    OnePhase {
        /// Prepares ordered, less those that the shell certified as not handed over. While it is
        /// zero nothing was proposed.
        handed_over: u32,
    },
    /// The register of the one branch is being asked, which closes it if it is open.
    Settling {
        /// Whether this is a question about a transaction that is not ours to finish: dropped
        /// when nobody waits for the answer any more.
        asked_only: bool,
        /// If its register says aborted, the log is closed with this too, and has the last word: it is
        /// not certain that the one branch known is the only one.
        then_close: Option<AbortReason>,
    },
    /// The commit record is with the log.
    Proposing {
        /// Those that the record names, each with its evidence; the same at each attempt.
        branches: Arc<[DecidedBranch]>,
        /// Whether the log owes an answer now; if not, the next attempt is due by the timer.
        in_flight: bool,
        /// Whether an attempt's answer was lost: then "forgotten" proves nothing.
        maybe_written: bool,
    },
    /// An abort record is with the log, to be written if none stands.
    Closing { reason: AbortReason, in_flight: bool, doubt: Doubt },
    /// Commit is decided and durable.
    Committing,
    /// Abort is decided, or needs no record.
    Aborting { reason: AbortReason },
    /// Over; to be moved into memory.
    Over(Ending),
    /// A mere question that nobody waits for any more; nothing was established.
    Dropped,
}

/// Whether the log may have lost a commit of the transaction that is being closed (B4, B5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Doubt {
    /// Not that it has said.
    None,
    /// It went back in time and the owner's incarnation is not vouched for. The closing is *held*: it
    /// is proposed again and again, and meanwhile inquiries are answered with quarantine and questions
    /// with unknown. Only an answer that settles it ends this; a lost answer does not.
    Held,
}

impl State {
    /// Nothing was proposed for closing so far.
    fn closing(reason: AbortReason) -> Self {
        Self::Closing { reason, in_flight: false, doubt: Doubt::None }
    }

    /// The register of our own transaction's one branch is to be asked.
    fn settling_own() -> Self {
        Self::Settling { asked_only: false, then_close: None }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Preparing => "preparing",
            Self::OnePhase { .. } => "one-phase",
            Self::Settling { .. } => "settling",
            Self::Proposing { .. } => "proposing",
            Self::Closing { doubt: Doubt::Held, .. } => "held",
            Self::Closing { .. } => "closing",
            Self::Committing => "committing",
            Self::Aborting { .. } => "aborting",
            Self::Over(_) => "over",
            Self::Dropped => "dropped",
        }
    }
}

/// A request for the outcome that is not answered yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Waiter {
    request: RequestId,
    wait: Wait,
}

/// An inquiry that waits for the register's answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Inquirer {
    request: RequestId,
    branch: BranchId,
    evidence: Evidence,
}

/// One global transaction that is not over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Transaction {
    id: TransactionId,
    details: Arc<Details>,
    began: Timestamp,
    deadline: Timestamp,
    state: State,
    branches: Branches,
    /// One is the rule.
    waiters: SmallVec<[Waiter; 1]>,
    inquirers: Vec<Inquirer>,
    /// Attempts in the present phase, for the retry delay.
    attempts: u32,
    retry_at: Option<Timestamp>,
    /// When waiting requests are answered with what is known then.
    answer_by: Option<Timestamp>,
    /// Whether a prepare record was ordered.
    recorded_undecided: bool,
    /// The wake-up that the coordinator has noted for it.
    pub(super) noted_wake: Option<Timestamp>,
}

impl Transaction {
    fn new(
        id: TransactionId,
        details: Arc<Details>,
        deadline: Timestamp,
        state: State,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            details,
            began: now,
            deadline,
            state,
            branches: Branches::default(),
            waiters: SmallVec::new(),
            inquirers: Vec::new(),
            attempts: 0,
            retry_at: None,
            answer_by: None,
            recorded_undecided: false,
            noted_wake: None,
        }
    }

    pub(super) fn id(&self) -> TransactionId {
        self.id
    }

    /// How often the present phase was attempted so far.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The name of its state, for the checkers.
    #[cfg(pactum_mutants)]
    pub(super) fn state_name(&self) -> &'static str {
        self.state.name()
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_) | State::Dropped)
    }

    /// What memory keeps of it; `None` if it is not over, or if nothing was established.
    pub(super) fn into_ended(self) -> Option<Ended> {
        match self.state {
            State::Over(ending) => Some(Ended { id: self.id, ending, digest: self.details.digest }),
            State::Active
            | State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Dropped => None,
        }
    }

    /// Whether commit was not asked yet.
    pub(super) fn is_active(&self) -> bool {
        self.state == State::Active
    }

    /// Whether its register is being asked, so that an answer is on its way.
    pub(super) fn is_question(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Settling { .. })
    }

    /// The log can be written again: what waits for that is not kept waiting for its timer.
    pub(super) fn log_available(&mut self, step: &mut Step<'_>) {
        if self.retry_at.is_some() && matches!(self.state, State::Proposing { .. } | State::Closing { .. }) {
            self.retry_at = None;
            self.propose(step);
        }
    }

    pub(super) fn digest(&self) -> Option<[u8; 16]> {
        self.details.digest
    }

    fn illegal(&self, event: &'static str) -> IllegalEvent {
        IllegalEvent { id: self.id, event, state: self.state.name() }
    }

    /// Whether nothing has been decided and nothing was proposed.
    fn is_undecided(&self) -> bool {
        !matches!(self.state, State::Committing | State::Aborting { .. } | State::Over(_) | State::Dropped)
    }

    /// The next attempt of the present phase is due after a delay that grows.
    fn schedule_retry(&mut self, step: &Step<'_>) {
        self.attempts = self.attempts.saturating_add(1);
        self.retry_at = Some(step.now + step.config.retry.after(self.attempts, self.fraction()));
    }

    /// The low byte of a gid is random: transactions do not retry in step.
    fn fraction(&self) -> u8 {
        self.id.gid.as_uuid().as_bytes()[15]
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.attempts = 0;
        self.retry_at = None;
    }

    // ---- time ------------------------------------------------------------------------------

    /// When this transaction next has something to do by itself.
    pub(super) fn wake(&self, config: &Config) -> Option<Timestamp> {
        let deadline = self.acts_at_deadline().then_some(self.deadline);
        let record = (self.is_undecided() && !self.recorded_undecided)
            .then(|| self.began + config.undecided_record_after);
        [deadline, record, self.retry_at, self.answer_by].into_iter().flatten().min()
    }

    /// Whether something happens to it at its deadline.
    fn acts_at_deadline(&self) -> bool {
        matches!(self.state, State::Active | State::Preparing | State::OnePhase { .. })
    }

    /// Acts on every deadline of its own that is due.
    pub(super) fn handle_timeout(&mut self, step: &mut Step<'_>) {
        if self.is_undecided()
            && !self.recorded_undecided
            && self.began + step.config.undecided_record_after <= step.now
        {
            self.recorded_undecided = true;
            step.order(Command::RecordUndecided {
                id: self.id,
                branches: self.branches.iter().map(|state| state.branch.clone()).collect(),
                details: Arc::clone(&self.details),
                age: step.now.since(self.began),
            });
        }
        if self.deadline <= step.now {
            self.deadline_passed(step);
        }
        if self.retry_at.is_some_and(|at| at <= step.now) {
            self.retry_at = None;
            self.retry(step);
        }
        if self.answer_by.is_some_and(|at| at <= step.now) {
            self.answer_by = None;
            self.bound_passed(step);
        }
    }

    /// Does again what the present phase is waiting for.
    pub(super) fn retry(&mut self, step: &mut Step<'_>) {
        match self.state {
            State::Preparing | State::OnePhase { .. } => self.send_prepares(step),
            State::Settling { .. } => self.send_settle(step),
            State::Proposing { .. } | State::Closing { .. } => self.propose(step),
            State::Committing | State::Aborting { .. } => self.send_decisions(step),
            State::Active | State::Over(_) | State::Dropped => {}
        }
    }

    fn time_left(&self, now: Timestamp) -> Duration {
        self.deadline.since(now)
    }
}
