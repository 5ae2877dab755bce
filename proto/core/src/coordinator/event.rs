//! What the coordinator's core is told: facts, in the past tense, as plain data.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use crate::outcome::{
    BranchOutcome, Decision, DecisionRecord, Details, HeuristicOutcome, LookUpResult, ProposalResult,
};
use crate::vote::{AbortReason, Evidence, Vote};

/// A request that waits for an [`Answer`](super::Answer). Drawn by the shell, unique while unanswered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// When Commit and Submit are answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Wait {
    /// When every branch has finished or [`Config::finished_bound`](super::Config::finished_bound)
    /// after the decision has passed.
    #[default]
    Finished,
    /// As soon as the decision is durable.
    Decision,
}

/// An operation of a one-shot transaction, executed by the participant at Prepare.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Operation {
    /// The handler's name.
    pub name: Arc<str>,
    /// What it gets.
    pub payload: Arc<[u8]>,
}

/// One branch of a one-shot transaction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubmittedBranch {
    /// The branch. Its instance is [`InstanceId::NIL`] if none was attached; the first one to
    /// attach is then asked, and from then on no other (H3).
    pub branch: Branch,
    /// What to execute.
    pub operation: Operation,
}

/// What the register of a one-branch transaction holds: its branch's own database.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RegisterAnswer {
    /// Committed, durably.
    Committed,
    /// Aborted: it cannot commit any more.
    Aborted(AbortReason),
    /// Not established. Neither success nor failure (law 5).
    Unknown,
    /// Under the marker table's floor.
    Forgotten,
}

/// A fact that the core is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// Unary Begin.
    BeginRequested {
        /// The transaction; the shell made the gid.
        id: TransactionId,
        /// What people shall see.
        details: Arc<Details>,
        /// Until the deadline.
        timeout: Duration,
        /// Who asks.
        request: RequestId,
    },
    /// A participant adds a branch.
    EnlistRequested {
        /// The transaction.
        id: TransactionId,
        /// The branch; its instance is the one that asks.
        branch: Branch,
        /// Until the deadline, as the context said.
        time_left: Duration,
        /// Who asks.
        request: RequestId,
    },
    /// The application commits.
    CommitRequested {
        /// The transaction.
        id: TransactionId,
        /// The set that the application knows of (law 9).
        branches: BTreeSet<Branch>,
        /// What people shall see, if it was not begun by a call.
        details: Arc<Details>,
        /// Until the deadline, if it was not begun by a call.
        timeout: Duration,
        /// When to answer.
        wait: Wait,
        /// Who asks.
        request: RequestId,
    },
    /// The application submits a one-shot transaction. Its digest is in `details`.
    SubmitRequested {
        /// The transaction; the caller made the gid.
        id: TransactionId,
        /// Its branches.
        branches: Vec<SubmittedBranch>,
        /// What people shall see, with the digest of the request.
        details: Arc<Details>,
        /// Until the deadline.
        timeout: Duration,
        /// When to answer.
        wait: Wait,
        /// Who asks.
        request: RequestId,
    },
    /// The application aborts.
    AbortRequested {
        /// The transaction.
        id: TransactionId,
        /// The set that the application knows of, if it said.
        branches: Option<BTreeSet<Branch>>,
        /// Why.
        reason: AbortReason,
        /// Who asks.
        request: RequestId,
    },
    /// Somebody asks for the outcome; with the branch set, for a definite one.
    OutcomeRequested {
        /// The transaction.
        id: TransactionId,
        /// The branch set, if the asker knows it.
        branches: Option<BTreeSet<Branch>>,
        /// Who asks.
        request: RequestId,
    },
    /// An operator resolves an undecided transaction: it is to be closed with abort (law 11).
    ResolveRequested {
        /// The transaction.
        id: TransactionId,
        /// The branches of its prepare record, if one was found.
        branches: Option<BTreeSet<Branch>>,
        /// The operator's reason.
        reason: AbortReason,
        /// Who asks.
        request: RequestId,
    },
    /// An operator wants unfinished branches driven now.
    RetryRequested {
        /// The transaction.
        gid: Gid,
    },
    /// A vote came.
    VoteReceived {
        /// The transaction.
        id: TransactionId,
        /// The branch; its instance is the one that votes.
        branch: Branch,
        /// The vote.
        vote: Vote,
    },
    /// The register of a one-branch transaction answered to one-phase Prepare or to Settle.
    RegisterAnswered {
        /// The transaction.
        id: TransactionId,
        /// The branch, as its participant names it; any instance of its resource may speak for it.
        branch: Branch,
        /// What it holds.
        answer: RegisterAnswer,
    },
    /// A branch has ended.
    BranchFinished {
        /// The transaction.
        id: TransactionId,
        /// The branch, as its participant names it; any instance of its resource may speak for it.
        branch: Branch,
        /// How.
        outcome: BranchOutcome,
    },
    /// A branch could not be ended yet.
    BranchFailed {
        /// The transaction.
        id: TransactionId,
        /// The branch, as its participant names it; any instance of its resource may speak for it.
        branch: Branch,
        /// Why, for people.
        error: Arc<str>,
    },
    /// The shell certifies that a Prepare was *not* handed to any session.
    PrepareNotSent {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: BranchId,
    },
    /// A participant asks for the decision of a branch that it finds prepared.
    InquiryReceived {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// The execution that is prepared.
        evidence: Evidence,
        /// Who asks.
        request: RequestId,
    },
    /// The log answered a [`Propose`](super::Command::Propose).
    ProposalAnswered {
        /// The transaction.
        id: TransactionId,
        /// What had been proposed.
        proposed: Decision,
        /// The answer.
        result: ProposalResult,
    },
    /// The log answered a [`LookUp`](super::Command::LookUp).
    LookedUp {
        /// The transaction.
        id: TransactionId,
        /// The request of the look-up.
        request: RequestId,
        /// The answer.
        result: LookUpResult,
        /// The branches of it that are kept as ended without the decision.
        heuristics: Vec<(BranchId, HeuristicOutcome)>,
    },
    /// An unfinished commit of an ended incarnation was read from the log, and is known durable.
    CommitRecovered {
        /// The record.
        record: DecisionRecord,
    },
    /// An instance attached and speaks for a resource.
    InstanceAttached {
        /// The resource.
        resource: ResourceName,
        /// The instance.
        instance: InstanceId,
    },
    /// An instance has been gone for longer than it is waited for, and did not come back.
    InstanceLost {
        /// The resource that it spoke for.
        resource: ResourceName,
        /// The instance.
        instance: InstanceId,
    },
    /// Whether new commits may be started: false while the log is known to be unwritable.
    LogAvailabilityChanged {
        /// Whether it can be written.
        available: bool,
    },
    /// The incarnations that the log shows as live; any other counts as ended.
    LiveIncarnationsRead {
        /// All of them, our own included.
        live: BTreeSet<Incarnation>,
    },
    /// Our incarnation was ended by another coordinator, or its row is gone (H10).
    IncarnationEnded,
    /// We have a new incarnation.
    IncarnationStarted {
        /// It.
        incarnation: Incarnation,
    },
    /// The log's floor was raised.
    FloorRaised {
        /// Gids up to this are forgotten.
        floor: Gid,
    },
}
