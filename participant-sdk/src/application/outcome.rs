//! What became of a transaction, as an application is told.

use pactum_core::coordinator::TransactionOutcome;
use pactum_core::id::Branch;
use pactum_core::outcome::HeuristicOutcome;
use pactum_core::vote::AbortReason;

/// How a transaction was decided. It will never be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed: the decision is durable, and every branch commits or has.
    Committed {
        /// No branch had written anything; a later question may then be answered *no record* or
        /// *aborted*, and no data differ.
        read_only: bool,
        /// Branches that had not finished when the answer was given. They are driven to the end;
        /// until then a read at their resources may not see the transaction's writes.
        unfinished: Vec<Branch>,
        /// Set where branches ended against the decision, by an operator's hand: data differ.
        heuristic: Option<HeuristicOutcome>,
    },
    /// Aborted: no branch has an effect.
    Aborted {
        /// Why.
        reason: AbortReason,
        /// Branches that had not ended when the answer was given; they may still hold locks.
        unfinished: Vec<Branch>,
        /// Set where branches ended against the decision, by an operator's hand: data differ.
        heuristic: Option<HeuristicOutcome>,
    },
}

impl Outcome {
    /// Whether the decision was commit.
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Committed { .. })
    }

    /// Why it aborted; `None` if it committed.
    pub fn abort_reason(&self) -> Option<&AbortReason> {
        match self {
            Self::Aborted { reason, .. } => Some(reason),
            Self::Committed { .. } => None,
        }
    }

    /// How branches ended against the decision, if any did.
    pub fn heuristic(&self) -> Option<HeuristicOutcome> {
        match self {
            Self::Committed { heuristic, .. } | Self::Aborted { heuristic, .. } => *heuristic,
        }
    }

    /// Committed without any branch, hence without any call.
    pub(super) fn nothing_to_commit() -> Self {
        Self::Committed { read_only: true, unfinished: Vec::new(), heuristic: None }
    }

    /// Aborted by this application alone, which never asked to commit.
    pub(super) fn aborted(reason: AbortReason) -> Self {
        Self::Aborted { reason, unfinished: Vec::new(), heuristic: None }
    }
}

/// What is known of a transaction, as [`Pactum::outcome`](crate::Pactum::outcome) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Decided.
    Decided(Outcome),
    /// Undecided, and its owner is at work on it. Ask again later.
    Pending,
    /// A decision may or may not have been written. Ask again.
    Unknown,
    /// Nothing is recorded: neither committed nor aborted. Ask with the branches to have a
    /// definite answer.
    NoRecord,
    /// Older than the log remembers: nothing can be said any more.
    Forgotten,
}

impl From<TransactionOutcome> for Standing {
    fn from(outcome: TransactionOutcome) -> Self {
        match outcome {
            TransactionOutcome::Pending => Self::Pending,
            TransactionOutcome::Committed { read_only, unfinished, heuristic } => {
                Self::Decided(Outcome::Committed { read_only, unfinished, heuristic })
            }
            TransactionOutcome::Aborted { reason, unfinished, heuristic } => {
                Self::Decided(Outcome::Aborted { reason, unfinished, heuristic })
            }
            TransactionOutcome::Unknown => Self::Unknown,
            TransactionOutcome::NoRecord => Self::NoRecord,
            TransactionOutcome::Forgotten => Self::Forgotten,
        }
    }
}
