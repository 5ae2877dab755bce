//! What travels between processes.

use pactum_core_checked::id::{Branch, TransactionId};
use pactum_core_checked::outcome::{BranchOutcome, HeuristicOutcome};
use pactum_core_checked::participant::BranchKey;
use pactum_core_checked::vote::Evidence;

/// What travels between processes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Message {
    /// To participant `to`, from the coordinator run `from`.
    ToParticipant { to: usize, from: usize, body: ToParticipant },
    /// To the coordinator run `to`.
    ToCoordinator { to: usize, from: usize, body: ToCoordinator },
    /// From the application, to the coordinator with this place in the list.
    Commit { to: usize, transaction: usize },
    /// From whoever asks something else about it, to the coordinator with this place in the list.
    Ask { to: usize, transaction: usize, what: Asks },
}

/// What is asked of a coordinator besides to commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Asks {
    /// The application aborts.
    Abort { named: bool },
    /// Somebody wants to know the outcome; a definite one, where the branches are named.
    Outcome { named: bool },
    /// An operator has it decided.
    Resolve { named: bool },
}

/// What a coordinator sends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ToParticipant {
    EnlistRefused { key: BranchKey },
    Prepare { id: TransactionId, branch: Branch, execute: bool, one_phase: bool },
    Commit { id: TransactionId, branch: Branch, evidence: Evidence },
    Abort { id: TransactionId, branch: Branch },
    Settle { id: TransactionId, branch: Branch },
    InquiryAnswer { key: BranchKey, commit: Option<Evidence>, abort: bool, quarantine: bool },
}

/// What a participant sends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ToCoordinator {
    Enlist { id: TransactionId, branch: Branch },
    Yes { id: TransactionId, branch: Branch, evidence: Evidence },
    ReadOnly { id: TransactionId, branch: Branch },
    No { id: TransactionId, branch: Branch },
    Finished { id: TransactionId, branch: Branch, outcome: Ended },
    Failed { id: TransactionId, branch: Branch },
    Register { id: TransactionId, branch: Branch, committed: Option<bool> },
    Inquiry { id: TransactionId, branch: Branch, evidence: Evidence },
}

/// A branch outcome with an order, so that messages can stand in a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ended {
    Committed,
    Aborted,
    Heuristic(HeuristicOutcome),
}

impl From<BranchOutcome> for Ended {
    fn from(outcome: BranchOutcome) -> Self {
        match outcome {
            BranchOutcome::Committed => Self::Committed,
            BranchOutcome::Aborted => Self::Aborted,
            BranchOutcome::Heuristic(heuristic) => Self::Heuristic(heuristic),
        }
    }
}

impl From<Ended> for BranchOutcome {
    fn from(outcome: Ended) -> Self {
        match outcome {
            Ended::Committed => Self::Committed,
            Ended::Aborted => Self::Aborted,
            Ended::Heuristic(heuristic) => Self::Heuristic(heuristic),
        }
    }
}
