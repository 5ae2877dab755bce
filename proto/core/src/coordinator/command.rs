//! What the coordinator's core orders: plain data, with no channel or handle inside.

use std::sync::Arc;
use std::time::Duration;

use super::event::{Operation, RequestId};
use crate::id::{Branch, Gid, Incarnation, TransactionId};
use crate::outcome::{BranchOutcome, DecisionRecord, Details, HeuristicOutcome};
use crate::vote::{AbortReason, Evidence};

/// An order to the shell.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// Send Prepare to the branch's instance and to no other. If its session is not attached,
    /// report [`PrepareNotSent`](super::Event::PrepareNotSent).
    SendPrepare {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// The operation to execute first, for a one-shot transaction.
        operation: Option<Operation>,
        /// Commit at once through the marker.
        one_phase: bool,
        /// Until the deadline.
        time_left: Duration,
        /// What the application said; carries the trace context.
        details: Arc<Details>,
    },
    /// Send Commit to any instance of the branch's resource, best the one that enlisted.
    SendCommit {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// The execution that was decided.
        evidence: Evidence,
    },
    /// Send Abort to the instance that enlisted while it is attached, else to any of the resource.
    SendAbort {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
    },
    /// Send Settle to any instance of the resource: insert the abort marker if none stands, and
    /// tell what stands.
    SendSettle {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
    },
    /// Write this record if none stands. Answered exactly once, by
    /// [`ProposalAnswered`](super::Event::ProposalAnswered).
    Propose {
        /// The record.
        record: DecisionRecord,
    },
    /// Read what stands, without writing. Answered once, by [`LookedUp`](super::Event::LookedUp).
    LookUp {
        /// The transaction.
        id: TransactionId,
        /// Returned in the answer.
        request: RequestId,
    },
    /// Answer a request. Each request is answered exactly once.
    Reply {
        /// The request.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Keep a prepare record, lazily: this transaction is still undecided. No say in the outcome.
    RecordUndecided {
        /// The transaction.
        id: TransactionId,
        /// Its branches so far.
        branches: Vec<Branch>,
        /// What the application said.
        details: Arc<Details>,
        /// Since it began.
        age: Duration,
    },
    /// The prepare record is not needed any more.
    ForgetUndecided {
        /// The transaction.
        gid: Gid,
    },
    /// Every branch of a logged commit has finished: it need not be driven again.
    RecordFinished {
        /// The transaction.
        id: TransactionId,
    },
    /// A branch ended without the decision: keep that next to the decision until it is forgotten.
    RecordHeuristic {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// How it ended.
        outcome: HeuristicOutcome,
    },
    /// Something happened that only a broken contract explains; ERROR in the log, counted.
    ReportViolation {
        /// The transaction.
        id: TransactionId,
        /// What, in one sentence.
        what: String,
    },
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// Begin: the transaction is active.
    Begun,
    /// Enlist: the branch is part of the transaction.
    Enlisted,
    /// What is known of the outcome.
    Outcome(TransactionOutcome),
    /// Answers an inquiry.
    Inquiry(InquiryAnswer),
    /// Not done, and nothing happened.
    Refused(Refusal),
}

/// What is known of a transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TransactionOutcome {
    /// Undecided; its owner is at work on it.
    Pending,
    /// Committed; told only after the register acknowledged it (law 2).
    Committed {
        /// No branch had written anything.
        read_only: bool,
        /// Branches that had not finished yet.
        unfinished: Vec<Branch>,
        /// Branches that ended against the decision.
        heuristic: Option<HeuristicOutcome>,
    },
    /// Aborted.
    Aborted {
        /// Why.
        reason: AbortReason,
        /// Branches that had not ended yet.
        unfinished: Vec<Branch>,
        /// Branches that ended against the decision.
        heuristic: Option<HeuristicOutcome>,
    },
    /// A decision may or may not have been written.
    Unknown,
    /// Nothing is recorded: neither committed nor aborted.
    NoRecord,
    /// Under the floor.
    Forgotten,
}

/// The answer to an inquiry.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum InquiryAnswer {
    /// Commit this execution.
    Commit(Evidence),
    /// Abort.
    Abort,
    /// Undecided. Its owner (if it lives) is at work; ask again later.
    Wait {
        /// The owner.
        owner: Incarnation,
    },
    /// Nothing can be known: leave it prepared, for an operator.
    Quarantine,
}

/// Why a request was not carried out. Nothing happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Refusal {
    /// Under the log's floor (law 7).
    #[error("the gid is older than the log remembers")]
    Forgotten,
    /// Not known here, and at or under the start floor: it is not started any more (law 10).
    #[error("the gid is too old to be started; draw a new one")]
    TooOldToStart,
    /// Only the owner enlists and begins (law 9).
    #[error("the transaction belongs to another coordinator")]
    NotOwner,
    /// Enlist after commit was asked (E10).
    #[error("commit was asked already")]
    CommitAlreadyAsked,
    /// Enlist into, or Begin of, a transaction that has ended.
    #[error("the transaction has ended")]
    Ended,
    /// The branch's name stands for another branch of this transaction.
    #[error("the branch id is used by another branch of the transaction")]
    BranchDiffers,
    /// The gid was used with another body (I8).
    #[error("the gid was used with another request")]
    RequestDiffers,
    /// More branches than [`Config::branches_max`](super::Config::branches_max).
    #[error("the transaction has too many branches")]
    TooManyBranches,
    /// The log cannot be written now; repeat later.
    #[error("the decision log cannot be written now")]
    LogUnavailable,
    /// This coordinator has no live incarnation now; repeat later.
    #[error("the coordinator has no live incarnation now")]
    NoIncarnation,
}

/// What a transaction looks like from outside, for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionView {
    /// The transaction.
    pub id: TransactionId,
    /// Its phase.
    pub phase: Phase,
    /// What the application said.
    pub details: Arc<Details>,
    /// Since it began (or was recovered).
    pub age: Duration,
    /// Why it aborts.
    pub reason: Option<AbortReason>,
    /// Its branches.
    pub branches: Vec<BranchView>,
    /// Until the next attempt of anything.
    pub next_attempt_in: Option<Duration>,
    /// Whether a log write's answer is missing.
    pub log_unknown: bool,
    /// Why nothing is done about it until a person acts; `None` while something is.
    pub held: Option<&'static str>,
    /// Whether the decision is awaited from its one branch's own database, and not from the log.
    pub own_register: bool,
    /// Until it is aborted for want of an answer; `None` once that cannot happen any more.
    pub time_left: Option<Duration>,
}

impl TransactionView {
    /// Why a closing is held whose log went back in time (B4, B5).
    pub const HELD_BY_DOUBT: &'static str = "the log went back in time since its coordinator last vouched for what it \
         had written, so a commit of it may be lost: nobody is told abort until `pactum log release`";
}

/// One branch of a [`TransactionView`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BranchView {
    /// The branch.
    pub branch: Branch,
    /// Its vote.
    pub vote: Option<crate::vote::Vote>,
    /// How it ended.
    pub outcome: Option<BranchOutcome>,
    /// How often phase 2 was tried.
    pub attempts: u32,
    /// The last error.
    pub last_error: Option<Arc<str>>,
}

/// The phase of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// Begun; commit not asked.
    Active,
    /// Commit asked; votes are coming in.
    Preparing,
    /// The decision is on its way into the register, or its fate is unknown.
    Deciding,
    /// Commit is decided.
    Committing,
    /// Abort is decided.
    Aborting,
}
