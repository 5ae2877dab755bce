//! Decisions and outcomes: what is decided once, what in fact happened at each branch, and
//! how the branches' outcomes combine.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::id::{Branch, BranchId, TransactionId};
pub use crate::labels::Labels;
use crate::vote::{AbortReason, Evidence};

/// The write-once value of a global transaction's register (law 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Decision {
    /// All branches commit.
    Commit,
    /// All branches abort.
    Abort,
}

/// What in fact happened at one branch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum BranchOutcome {
    /// Committed, as decided.
    Committed,
    /// Ended without effect, as decided.
    Aborted,
    /// Ended without the decision.
    Heuristic(HeuristicOutcome),
}

/// A branch that ended without the decision (X/Open XA specification, section 2.3.3,
/// *Heuristic branch completion*).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HeuristicOutcome {
    /// Committed although the decision was abort, or ahead of it.
    Committed,
    /// Aborted although the decision was commit.
    Aborted,
    /// Parts of it committed and parts aborted.
    Mixed,
    /// Nobody can tell any more.
    Hazard,
}

/// How the outcomes of several branches combine with the decision.
///
/// `None` where every branch followed the decision.
pub fn combine<'a>(
    decision: Decision,
    outcomes: impl IntoIterator<Item = &'a BranchOutcome>,
) -> Option<HeuristicOutcome> {
    let (mut committed, mut aborted, mut mixed, mut hazard) = (false, false, false, false);
    for outcome in outcomes {
        match outcome {
            BranchOutcome::Committed | BranchOutcome::Heuristic(HeuristicOutcome::Committed) => {
                committed = true;
            }
            BranchOutcome::Aborted | BranchOutcome::Heuristic(HeuristicOutcome::Aborted) => {
                aborted = true;
            }
            BranchOutcome::Heuristic(HeuristicOutcome::Mixed) => mixed = true,
            BranchOutcome::Heuristic(HeuristicOutcome::Hazard) => hazard = true,
        }
    }
    match (decision, committed, aborted) {
        _ if mixed || (committed && aborted) => Some(HeuristicOutcome::Mixed),
        _ if hazard => Some(HeuristicOutcome::Hazard),
        (Decision::Commit, _, true) => Some(HeuristicOutcome::Aborted),
        (Decision::Abort, true, _) => Some(HeuristicOutcome::Committed),
        _ => None,
    }
}

/// What an application says about its transaction; kept for people, no say in anything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Details {
    /// Short name of the kind of transaction, for example `transfer`.
    pub name: SmolStr,
    /// Labels, for example `order=4711`.
    pub labels: Labels,
    /// W3C `traceparent` at begin; empty if none.
    pub traceparent: SmolStr,
    /// Digest of a one-shot request, so that the same gid with another body is refused (I8).
    pub digest: Option<[u8; 16]>,
}

/// A branch inside a decision record, with the evidence of its vote.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DecidedBranch {
    /// The branch.
    pub branch: Branch,
    /// The execution that voted. A commit applies to this execution only (law 1).
    pub evidence: Evidence,
}

/// One row of the decision log.
///
/// A commit names the branches that voted commit, each with its evidence; a branch that
/// voted read-only is not among them. An abort names none.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DecisionRecord {
    /// The transaction.
    pub id: TransactionId,
    /// The decision.
    pub decision: Decision,
    /// Why it aborted; `None` for a commit.
    pub reason: Option<AbortReason>,
    /// The branches to commit; empty for an abort.
    pub branches: Arc<[DecidedBranch]>,
    /// What the application said about it.
    pub details: Arc<Details>,
}

impl DecisionRecord {
    /// An abort record, as whoever closes a transaction writes it.
    pub fn abort(id: TransactionId, reason: AbortReason) -> Self {
        Self {
            id,
            decision: Decision::Abort,
            reason: Some(reason),
            branches: Arc::new([]),
            details: Arc::default(),
        }
    }

    /// The decided branch of that id, if the record names it.
    pub fn branch(&self, id: BranchId) -> Option<&DecidedBranch> {
        self.branches.iter().find(|decided| decided.branch.id == id)
    }
}

/// What the log answered to a proposal (law 5: unknown is a value).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ProposalResult {
    /// Our record is durable and stands.
    Won,
    /// This record stood already (our own, from an attempt whose answer was lost, or another's)
    /// and is known durable. Obey it.
    Lost(Box<DecisionRecord>),
    /// Nothing was written and nothing stands: our incarnation has been ended. Commit
    /// proposals only; whoever gets this closes the transaction.
    Fenced,
    /// The gid lies under the floor: nothing was written, nothing can be known (law 7).
    Forgotten,
    /// Nothing was written, and no record stands that can be seen; but the log went back in time
    /// (restored, or failed over to a copy that had not received everything) since this
    /// transaction's owner last vouched for it, so a commit may have stood and be lost. Abort
    /// proposals only: nobody concludes abort until an operator releases the owner's incarnation
    /// (B4, B5). Ask again later.
    Doubted,
    /// May have been written, now or later. Neither success nor failure: ask again.
    Unknown,
}

/// What the log answered to a look-up without writing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LookUpResult {
    /// This record stands.
    Stands(Box<DecisionRecord>),
    /// No row. Not "aborted": a commit may still be written (law 5).
    NoRecord,
    /// The gid lies under the floor.
    Forgotten,
    /// The log did not answer.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_combine_against_the_decision() {
        use BranchOutcome::{Aborted, Committed, Heuristic};
        use HeuristicOutcome as H;
        let cases: [(Decision, &[BranchOutcome], Option<H>); 8] = [
            (Decision::Commit, &[Committed, Committed], None),
            (Decision::Abort, &[Aborted, Aborted], None),
            (Decision::Commit, &[], None),
            (Decision::Commit, &[Committed, Heuristic(H::Aborted)], Some(H::Mixed)),
            (Decision::Commit, &[Heuristic(H::Aborted)], Some(H::Aborted)),
            (Decision::Abort, &[Heuristic(H::Committed), Heuristic(H::Committed)], Some(H::Committed)),
            (Decision::Commit, &[Committed, Heuristic(H::Hazard)], Some(H::Hazard)),
            (Decision::Commit, &[Heuristic(H::Mixed), Heuristic(H::Hazard)], Some(H::Mixed)),
        ];
        for (decision, outcomes, expected) in cases {
            assert_eq!(combine(decision, outcomes), expected, "{decision:?} {outcomes:?}");
        }
    }
}
