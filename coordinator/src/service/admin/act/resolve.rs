//! Resolve: an undecided transaction is closed with abort, through the log (law 11).
//!
//! From any coordinator, whether its owner lives or not: closing is a write-once insert, and whatever
//! stands is obeyed by everybody, so it is safe at any moment and only unkind to an owner that was about
//! to commit (law 4). There is no resolving into a commit.

use pactum_core::coordinator::{Event, Phase, TransactionOutcome};
use pactum_core::id::{Branch, TransactionId};
use pactum_core::outcome::Decision;
use pactum_core::vote::{AbortKind, AbortReason};
use pactum_proto::error::ErrorCode;

use super::super::Admin;
use super::gather::{Owner, Subject, Verdict};
use super::plan::{Work, in_database, named};
use super::{End, Proposal, Refusal};
use crate::error::ServiceError;
use crate::service::wire;

/// Why commit is not reversed.
const COMMITTED: &str = "commit is decided and durable, and a decision is never reversed (its branches were promised \
                         that): let it finish, or try it now with `pactum tx retry`";

/// What a resolve would do.
pub(super) fn propose(subject: &Subject) -> Proposal {
    let title = format!("Resolve {}: close it with abort, through the log", subject.name());
    match subject.verdict {
        Verdict::Committed { .. } => Proposal::refused(title, ErrorCode::AlreadyCommitted, COMMITTED),
        Verdict::Aborted => Proposal::refused(title, ErrorCode::NothingToDo, "it is aborted already"),
        Verdict::Quarantined(why) => Proposal::refused(title, ErrorCode::InQuarantine, quarantined(why)),
        Verdict::Undecided => proposed(subject, title),
    }
}

/// The proposal for an undecided transaction.
pub(super) fn proposed(subject: &Subject, title: String) -> Proposal {
    let branches: Vec<Branch> = subject.branches.values().map(|seen| seen.branch.clone()).collect();
    let open_here = subject.found.open.as_ref();
    if open_here.is_none() && branches.is_empty() {
        let message = "no branch of it is known here, so that its register is not known either: resolve it at its \
                       coordinator, or once that has ended";
        return Proposal::refused(title, ErrorCode::NotOwner, message);
    }
    let first = if open_here.is_some_and(|open| open.phase == Phase::Deciding) {
        "wait for the register, which is being asked already: what it says is obeyed"
    } else {
        "write abort into the log, unless a decision stands by then: what stands is obeyed"
    };
    let mut steps = vec![first.to_owned()];
    steps.extend(
        subject.branches.values().map(|seen| {
            format!("{} rolls back as soon as it hears of it ({})", named(seen), in_database(seen))
        }),
    );
    let risk = match &subject.owner {
        Owner::Here | Owner::Elsewhere(_) => {
            "its coordinator is alive and may be about to commit it: the application would then be told aborted"
        }
        Owner::Ended => "",
    };
    Proposal {
        title,
        steps,
        risk: risk.to_owned(),
        heuristic: subject.combined(Decision::Abort, None),
        work: Ok(Work::Resolve { id: subject.id, branches }),
    }
}

/// Why nothing is concluded from what the log lacks.
pub(super) fn quarantined(why: &str) -> String {
    format!(
        "{why}, so that nobody concludes abort: compare the databases, then end its branches with `pactum tx \
         overrule`, or say with `pactum quarantine release` that no commit is missing"
    )
}

impl Admin {
    /// A branch that its database alone knows, with somebody who can be told: any instance ends what is
    /// prepared.
    fn with_instance(&self, mut branch: Branch) -> Branch {
        if branch.instance.is_nil()
            && let Some(session) = self.registry.sessions().any(&branch.resource, 0)
        {
            branch.instance = session.instance;
        }
        branch
    }

    /// Has it closed. Done means that its abort is durable.
    pub(super) async fn resolve(&self, id: TransactionId, branches: Vec<Branch>, reason: &str) -> End {
        let unknown = |why: &str| End::Failed(Refusal::new(ErrorCode::OutcomeUnknown, why));
        let refused = |code, why: &str| End::Refused(Refusal::new(code, why));
        let request = self.shards.draw_request();
        let event = Event::ResolveRequested {
            id,
            branches: Some(branches.into_iter().map(|branch| self.with_instance(branch)).collect()),
            reason: AbortReason::new(AbortKind::Resolved, reason),
            request,
        };
        let answer = self.shards.ask(request, id.gid, false, event).await.and_then(wire::known);
        match answer {
            Ok(TransactionOutcome::Aborted { .. }) => End::Done("it is closed with abort".to_owned()),
            Ok(TransactionOutcome::Committed { .. }) => refused(ErrorCode::AlreadyCommitted, COMMITTED),
            Ok(TransactionOutcome::Forgotten) => {
                refused(ErrorCode::InQuarantine, &quarantined(super::gather::FORGOTTEN))
            }
            Ok(TransactionOutcome::NoRecord) => refused(
                ErrorCode::TransactionNotFound,
                "the gid is used by a transaction of another coordinator",
            ),
            Ok(TransactionOutcome::Pending) => refused(
                ErrorCode::NotOwner,
                "its coordinator is at work on it, and its register is not known here: resolve it there",
            ),
            Ok(TransactionOutcome::Unknown) => match self.log.doubted_of(&[id.incarnation]).await {
                Ok(doubted) if doubted.contains(&id.incarnation) => {
                    refused(ErrorCode::InQuarantine, &quarantined(super::gather::DOUBTED))
                }
                Ok(_) | Err(_) => unknown("its register has not answered: it may be closed, or may be yet"),
            },
            Err(error @ ServiceError::Shed { .. }) => {
                End::Refused(Refusal::new(ErrorCode::Overloaded, error.to_string()))
            }
            Err(ServiceError::Refused(refusal)) => {
                End::Refused(Refusal::new(ErrorCode::LogUnavailable, refusal.to_string()))
            }
            Err(error) => unknown(&error.to_string()),
        }
    }
}
