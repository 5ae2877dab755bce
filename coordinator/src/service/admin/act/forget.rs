//! Forget: the heuristic outcomes of a transaction are dropped, once a person has seen them.
//!
//! What is kept of a transaction is all that tells an operator why two databases differ, so it goes only
//! when nothing of it can still be going on: every branch has ended, and its databases say so.

use pactum_core::id::TransactionId;
use pactum_core::outcome::HeuristicOutcome;
use pactum_proto::error::ErrorCode;

use super::super::Admin;
use super::gather::{Owner, Presence, Subject, Verdict, log_failed};
use super::plan::{Work, count, in_database, named};
use super::{End, Proposal, Refusal};

/// What a forget would do.
pub(super) fn propose(subject: &Subject) -> Proposal {
    let title = format!("Forget the heuristic outcomes of {}", subject.name());
    if subject.heuristics.is_empty() {
        return Proposal::refused(title, ErrorCode::NothingToDo, "no heuristic outcome of it is kept");
    }
    let refused = |message: String| Proposal::refused(title.clone(), ErrorCode::BranchMayBePrepared, message);
    // Of an undecided transaction that nobody has open, the databases alone say what is prepared.
    let going_on = subject.verdict == Verdict::Undecided && subject.owner != Owner::Ended;
    let unfinished =
        going_on || subject.found.open.is_some() || subject.verdict == Verdict::Committed { finished: false };
    if unfinished {
        return refused("it has not finished: a branch of it may be prepared".to_owned());
    }
    for seen in subject.branches.values() {
        // Its participant has told that it is gone and that nobody can tell how.
        let told = subject
            .heuristics
            .iter()
            .any(|record| record.branch.id == seen.branch.id && record.outcome == HeuristicOutcome::Hazard);
        let gone = match &seen.presence {
            Presence::Committed | Presence::Aborted => true,
            Presence::Unknown => told,
            Presence::Silent(_) | Presence::Open | Presence::Prepared(_) => false,
        };
        if !gone {
            return refused(format!("{} may be prepared: {}", named(seen), in_database(seen)));
        }
    }
    let kept = count(subject.heuristics.len(), "heuristic outcome", "heuristic outcomes");
    Proposal {
        title,
        steps: vec![format!("drop {kept} from the log; the audit keeps what they were")],
        risk: "afterwards only the audit tells that its databases may differ".to_owned(),
        heuristic: subject.heuristic(),
        work: Ok(Work::Forget { id: subject.id }),
    }
}

impl Admin {
    /// Drops them. Durable on return.
    pub(super) async fn forget(&self, id: TransactionId) -> End {
        match self.log.forget_heuristics(id.gid).await {
            Ok(dropped) => {
                let dropped = usize::try_from(dropped).unwrap_or(usize::MAX);
                let what = count(dropped, "heuristic outcome was", "heuristic outcomes were");
                End::Done(format!("{what} forgotten"))
            }
            Err(error) => {
                let why = log_failed(&error).to_string();
                End::Failed(Refusal::new(
                    ErrorCode::LogUnavailable,
                    format!("they may be forgotten or not: {why}"),
                ))
            }
        }
    }
}
