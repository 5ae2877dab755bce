//! What the participant's core is told, and what it orders: plain data.

use std::sync::Arc;

use crate::coordinator::{InquiryAnswer, Operation, RegisterAnswer};
use crate::id::{Branch, BranchId, TransactionId};
use crate::outcome::BranchOutcome;
use crate::time::Timestamp;
use crate::vote::{Evidence, Vote};

/// One branch, by its full name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BranchKey {
    /// The transaction.
    pub id: TransactionId,
    /// The branch.
    pub branch: BranchId,
}

/// One stream to one coordinator, numbered by the shell in the order of opening. An answer
/// goes to the session that asked; if that is gone the coordinator asks again on the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// A fact that the participant's core is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// Local work was begun here and handed over at enlist: a local transaction is held open.
    Enlisted {
        /// The branch.
        branch: Branch,
        /// Its transaction.
        id: TransactionId,
        /// When the local transaction is given up if no Prepare has come.
        deadline: Timestamp,
    },
    /// The coordinator refused the enlistment, or it could not be had: the local transaction
    /// is to be ended.
    EnlistRefused {
        /// The branch.
        key: BranchKey,
    },
    /// Prepare came.
    PrepareReceived {
        /// On this session.
        from: SessionId,
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// To be executed first, for a one-shot transaction.
        operation: Option<Operation>,
        /// Commit at once through the marker.
        one_phase: bool,
        /// The transaction's deadline.
        deadline: Timestamp,
    },
    /// Commit came: the decision is commit and durable.
    CommitReceived {
        /// On this session.
        from: SessionId,
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// The execution that was decided.
        evidence: Evidence,
    },
    /// Abort came.
    AbortReceived {
        /// On this session.
        from: SessionId,
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
    },
    /// The coordinator asks the register of a one-branch transaction.
    SettleReceived {
        /// On this session.
        from: SessionId,
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
    },
    /// An inquiry was answered.
    InquiryAnswered {
        /// The branch.
        key: BranchKey,
        /// The answer.
        answer: InquiryAnswer,
    },
    /// A scan of a resource found this branch prepared.
    FoundPrepared {
        /// The transaction.
        id: TransactionId,
        /// The branch; its instance is nil if this process did not enlist it.
        branch: Branch,
        /// The execution that is prepared.
        evidence: Evidence,
    },
    /// [`RunPrepare`](Command::RunPrepare) ended: what was promised is durable.
    PrepareFinished {
        /// The branch.
        key: BranchKey,
        /// The vote.
        vote: Vote,
    },
    /// [`RunOnePhase`](Command::RunOnePhase) or [`RunSettle`](Command::RunSettle) ended.
    RegisterRead {
        /// The branch.
        key: BranchKey,
        /// What the register holds.
        answer: RegisterAnswer,
    },
    /// [`RunCommit`](Command::RunCommit) or [`RunAbort`](Command::RunAbort) ended the branch.
    BranchEnded {
        /// The branch.
        key: BranchKey,
        /// How.
        outcome: BranchOutcome,
    },
    /// [`RunCommit`](Command::RunCommit) or [`RunAbort`](Command::RunAbort) did not end the branch,
    /// or may not have.
    HookFailed {
        /// The branch.
        key: BranchKey,
        /// Why, for people.
        error: Arc<str>,
    },
}

/// An order to the participant's shell.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// Run the prepare hook; answer with [`PrepareFinished`](Event::PrepareFinished).
    RunPrepare {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// To be executed first, in a local transaction of its own.
        operation: Option<Operation>,
        /// The transaction's deadline.
        deadline: Timestamp,
    },
    /// Commit the local transaction at once with the marker (gid, committed); answer with
    /// [`RegisterRead`](Event::RegisterRead).
    RunOnePhase {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// To be executed first.
        operation: Option<Operation>,
        /// The transaction's deadline.
        deadline: Timestamp,
    },
    /// End the branch's local work if it is open here, insert the marker (gid, aborted) unless one
    /// stands, and read what stands; answer with [`RegisterRead`](Event::RegisterRead).
    RunSettle {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
    },
    /// Run the commit hook for the decided execution.
    RunCommit {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// The execution that was decided.
        decided: Evidence,
        /// The execution known to be prepared here; `None` if this process has no memory of it.
        prepared: Option<Evidence>,
    },
    /// Run the abort hook: end the local transaction if it is open, roll back if it is prepared.
    RunAbort {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// The execution known to be prepared here; `None` if this process has no memory of it.
        prepared: Option<Evidence>,
    },
    /// Send the vote.
    SendVote {
        /// To the session that asked.
        to: SessionId,
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// The vote.
        vote: Vote,
    },
    /// Send that the branch has ended.
    SendFinished {
        /// To the session that asked.
        to: SessionId,
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// How it ended.
        outcome: BranchOutcome,
    },
    /// Send that the branch has not ended yet.
    SendFailed {
        /// To the session that asked.
        to: SessionId,
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// Why, for people.
        error: Arc<str>,
    },
    /// Send what the register holds.
    SendRegisterAnswer {
        /// To the session that asked.
        to: SessionId,
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// What it holds.
        answer: RegisterAnswer,
    },
    /// Ask for the decision: the owner if attached, else any coordinator.
    SendInquiry {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// The execution that is prepared.
        evidence: Evidence,
    },
    /// The resource need not remember the branch any more.
    Forget {
        /// The branch.
        branch: Branch,
        /// Its transaction.
        id: TransactionId,
    },
    /// Nobody can know the branch's decision any more: it stays prepared, and holds its locks, until
    /// an operator ends it. Reported once; ERROR in the log.
    ReportQuarantine {
        /// The branch.
        key: BranchKey,
    },
    /// Something happened that only a broken contract explains; ERROR in the log, counted.
    ReportViolation {
        /// The branch.
        key: BranchKey,
        /// What, in one sentence.
        what: String,
    },
}
