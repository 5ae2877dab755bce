//! What operators see of one transaction.

use std::time::{Duration, SystemTime};

use pactum_core::coordinator::{BranchView, Phase, TransactionOutcome, TransactionView};
use pactum_core::id::{Branch, BranchId};
use pactum_core::outcome::{BranchOutcome, Decision, Details, HeuristicOutcome, combine};
use pactum_core::vote::{AbortReason, Vote};
use pactum_proto::v1;
use pactum_proto::v1::TransactionState;

use super::find::Found;
use crate::decision_log::{HeuristicRecord, StoredState, StoredTransaction};

/// The state of a transaction.
pub(super) fn state(found: &Found) -> TransactionState {
    match (&found.open, &found.stored) {
        (Some(open), _) => match open.phase {
            Phase::Active => TransactionState::Active,
            Phase::Preparing => TransactionState::Preparing,
            Phase::Deciding => TransactionState::Deciding,
            Phase::Committing => TransactionState::Committing,
            Phase::Aborting => TransactionState::Aborting,
        },
        (None, Some(stored)) => match &stored.state {
            StoredState::Undecided { .. } => TransactionState::Undecided,
            StoredState::Decided { record, finished, .. } => match (record.decision, finished) {
                (Decision::Commit, true) => TransactionState::Committed,
                (Decision::Commit, false) => TransactionState::Committing,
                (Decision::Abort, _) => TransactionState::Aborted,
            },
        },
        (None, None) => TransactionState::Unspecified,
    }
}

/// How old it is; for a decision whose begin is not known any more, since the decision.
pub(super) fn age(found: &Found) -> Duration {
    match (&found.open, &found.stored) {
        (Some(open), _) => open.age,
        (None, Some(StoredTransaction { state: StoredState::Undecided { record }, .. })) => record.age,
        (None, Some(StoredTransaction { state: StoredState::Decided { decided_at, .. }, .. })) => {
            SystemTime::now().duration_since(*decided_at).unwrap_or_default()
        }
        (None, None) => Duration::ZERO,
    }
}

/// Whether nothing more will happen to it.
pub(super) fn has_ended(shown: &v1::Transaction) -> bool {
    matches!(shown.state(), TransactionState::Committed | TransactionState::Aborted)
}

/// Whether two looks differ in more than the time of the look.
pub(super) fn differs(a: &v1::Transaction, b: &v1::Transaction) -> bool {
    let timeless =
        |shown: &v1::Transaction| v1::Transaction { age: None, next_attempt_in: None, ..shown.clone() };
    timeless(a) != timeless(b)
}

/// A transaction that has ended without a record, as it was seen last and with how it ended.
pub(super) fn ended(last: v1::Transaction, outcome: TransactionOutcome) -> v1::Transaction {
    let outcome: v1::Outcome = outcome.into();
    let state = match outcome.state() {
        v1::OutcomeState::Committed => TransactionState::Committed,
        // Presumed abort: no record, and none that can still be written by an owner that has
        // forgotten it.
        v1::OutcomeState::Aborted | v1::OutcomeState::NoRecord | v1::OutcomeState::Forgotten => {
            TransactionState::Aborted
        }
        v1::OutcomeState::Unspecified | v1::OutcomeState::Pending | v1::OutcomeState::Unknown => last.state(),
    };
    v1::Transaction {
        state: state.into(),
        reason: outcome.reason.or(last.reason),
        heuristic: outcome.heuristic,
        waits_for: String::new(),
        next_attempt_in: None,
        ..last
    }
}

/// All that is shown of one transaction.
pub(super) fn transaction(found: &Found, is_attached: impl Fn(&Branch) -> bool) -> v1::Transaction {
    let (details, reason, branches) = parts(found, &is_attached);
    let (decided_at, decision) = match &found.stored {
        Some(StoredTransaction { state: StoredState::Decided { decided_at, record, .. }, .. }) => {
            (Some((*decided_at).into()), Some(record.decision))
        }
        Some(_) | None => (None, None),
    };
    let next_attempt_in = found.open.as_ref().and_then(|open| open.next_attempt_in);
    v1::Transaction {
        id: Some(found.id().into()),
        state: state(found).into(),
        details: Some(details.into()),
        age: age(found).try_into().ok(),
        decided_at,
        reason: reason.map(Into::into),
        waits_for: waits_for(found, &branches),
        branches,
        next_attempt_in: next_attempt_in.and_then(|length| length.try_into().ok()),
        heuristic: v1::BranchOutcome::from_heuristic(heuristic(found, decision)).into(),
    }
}

/// Details, reason and branches, from whichever knows them.
fn parts(
    found: &Found,
    is_attached: &impl Fn(&Branch) -> bool,
) -> (Details, Option<AbortReason>, Vec<v1::BranchStatus>) {
    let heuristics = found.stored.as_ref().map_or(&[][..], |stored| &stored.heuristics);
    match (&found.open, &found.stored) {
        (Some(open), _) => {
            let branches = open.branches.iter().map(|view| live_branch(view, heuristics, is_attached));
            (Details::clone(&open.details), open.reason.clone(), branches.collect())
        }
        (None, Some(stored)) => match &stored.state {
            StoredState::Decided { record, finished, .. } => {
                let committed = *finished && record.decision == Decision::Commit;
                let branches = record.branches.iter().map(|decided| v1::BranchStatus {
                    vote: "commit".to_owned(),
                    evidence: Some(decided.evidence.clone().into()),
                    outcome: stored_outcome(decided.branch.id, committed, heuristics).into(),
                    ..bare_branch(&decided.branch, is_attached)
                });
                (Details::clone(&record.details), record.reason.clone(), branches.collect())
            }
            StoredState::Undecided { record } => {
                let branches = record.branches.iter().map(|branch| bare_branch(branch, is_attached));
                (record.details.clone(), None, branches.collect())
            }
        },
        (None, None) => (Details::default(), None, Vec::new()),
    }
}

fn bare_branch(branch: &Branch, is_attached: &impl Fn(&Branch) -> bool) -> v1::BranchStatus {
    v1::BranchStatus {
        attached: is_attached(branch),
        branch: Some(branch.clone().into()),
        ..v1::BranchStatus::default()
    }
}

fn live_branch(
    view: &BranchView,
    heuristics: &[HeuristicRecord],
    is_attached: &impl Fn(&Branch) -> bool,
) -> v1::BranchStatus {
    let (vote, evidence) = match &view.vote {
        Some(Vote::Commit(evidence)) => ("commit", Some(evidence.clone().into())),
        Some(Vote::ReadOnly) => ("read-only", None),
        Some(Vote::Abort(_)) => ("abort", None),
        None => ("", None),
    };
    let outcome = match &view.outcome {
        Some(outcome) => outcome.clone().into(),
        None => stored_outcome(view.branch.id, false, heuristics),
    };
    v1::BranchStatus {
        vote: vote.to_owned(),
        evidence,
        outcome: outcome.into(),
        attempts: view.attempts,
        last_error: view.last_error.as_deref().unwrap_or_default().to_owned(),
        ..bare_branch(&view.branch, is_attached)
    }
}

fn stored_outcome(branch: BranchId, committed: bool, heuristics: &[HeuristicRecord]) -> v1::BranchOutcome {
    let heuristic = heuristics.iter().find(|record| record.branch.id == branch);
    match heuristic {
        Some(record) => BranchOutcome::Heuristic(record.outcome).into(),
        None if committed => v1::BranchOutcome::Committed,
        None => v1::BranchOutcome::Unspecified,
    }
}

/// How the branches that ended without the decision combine with it.
fn heuristic(found: &Found, decision: Option<Decision>) -> Option<HeuristicOutcome> {
    let decision = decision.or_else(|| match found.open.as_ref()?.phase {
        Phase::Committing => Some(Decision::Commit),
        Phase::Aborting => Some(Decision::Abort),
        Phase::Active | Phase::Preparing | Phase::Deciding => None,
    })?;
    let open = found.open.iter().flat_map(|open| &open.branches).filter_map(|view| view.outcome.clone());
    let stored = found.stored.iter().flat_map(|stored| &stored.heuristics);
    let outcomes: Vec<BranchOutcome> =
        open.chain(stored.map(|record| BranchOutcome::Heuristic(record.outcome))).collect();
    combine(decision, &outcomes)
}

/// One sentence for people: what it waits for.
fn waits_for(found: &Found, branches: &[v1::BranchStatus]) -> String {
    let Some(open) = &found.open else {
        let state = state(found);
        return if state == TransactionState::Undecided {
            "its coordinator has ended: an inquiry of a participant, or resolve, closes it".to_owned()
        } else if state == TransactionState::Committing {
            "a coordinator to drive its unfinished branches".to_owned()
        } else {
            String::new()
        };
    };
    if let Some(why) = open.held {
        return format!("a person: {why}");
    }
    match open.phase {
        Phase::Active => "the application to commit or abort".to_owned(),
        Phase::Preparing => format!("votes of {}", named(open, branches, |view| view.vote.is_none())),
        Phase::Deciding if open.log_unknown => {
            "the answer of the log to a write that may have happened".to_owned()
        }
        Phase::Deciding => "the decision to become durable".to_owned(),
        Phase::Committing | Phase::Aborting => {
            format!("{} to finish", named(open, branches, |view| view.outcome.is_none()))
        }
    }
}

/// The resources of some branches, and which of them nobody attached speaks for.
fn named(open: &TransactionView, shown: &[v1::BranchStatus], wanted: impl Fn(&BranchView) -> bool) -> String {
    let missing = open.branches.iter().zip(shown).filter(|(view, _)| wanted(view));
    let names: Vec<String> = missing
        .map(|(view, shown)| {
            let resource = &view.branch.resource;
            if shown.attached { resource.to_string() } else { format!("{resource} (not attached)") }
        })
        .collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
