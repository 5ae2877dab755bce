//! What operators see of one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pactum_core::coordinator::{BranchView, Phase, TransactionOutcome, TransactionView};
use pactum_core::id::{Branch, BranchId, Incarnation};
use pactum_core::outcome::{BranchOutcome, Decision, Details, HeuristicOutcome, combine};
use pactum_core::vote::{AbortReason, Vote};
use pactum_proto::v1;
use pactum_proto::v1::TransactionState;

use super::find::Found;
use super::why::{self, Waits};
use crate::decision_log::{HeuristicRecord, StoredState, StoredTransaction};
use crate::lifecycle::Member;
use crate::registry::{Presence, Registry};

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

/// Whether a branch of it may be in doubt.
pub(super) fn is_in_doubt(found: &Found) -> bool {
    use TransactionState::{Aborting, Committing, Deciding, Undecided};
    matches!(state(found), Aborting | Committing | Deciding | Undecided)
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
    timeless(a) != timeless(b)
}

/// What is shown, without what changes by itself as time goes by.
fn timeless(shown: &v1::Transaction) -> v1::Transaction {
    let mut shown = v1::Transaction {
        age: None,
        next_attempt_in: None,
        time_left: None,
        waits_for: why::timeless(&shown.waits_for),
        ..shown.clone()
    };
    for branch in &mut shown.branches {
        branch.next_attempt_in = None;
    }
    shown
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
        time_left: None,
        driven_by: String::new(),
        ..last
    }
}

/// What is known around the transactions that are shown, at the moment of the look.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// Our own incarnation.
    pub(super) own: Option<Incarnation>,
    /// Every living coordinator.
    pub(super) members: Vec<Member>,
    /// Owners that have ended and are in doubt; `None` if the log did not say.
    pub(super) doubted: Option<BTreeSet<Incarnation>>,
    /// Why the log cannot be written now.
    pub(super) log_problem: Option<Arc<str>>,
    /// Who is attached.
    pub(super) registry: Arc<Registry>,
}

impl Surroundings {
    /// The living coordinator of that incarnation.
    pub(super) fn member(&self, incarnation: Incarnation) -> Option<&Member> {
        self.members.iter().find(|member| member.incarnation == incarnation)
    }

    /// Whether the absence of a record of that owner proves nothing; `None` if that is not known.
    pub(super) fn is_doubted(&self, owner: Incarnation) -> Option<bool> {
        self.doubted.as_ref().map(|doubted| doubted.contains(&owner))
    }

    /// Who is there for a branch.
    pub(super) fn presence(&self, branch: &Branch) -> Presence {
        self.registry.sessions().presence(branch)
    }
}

/// All that is shown of one transaction.
pub(super) fn transaction(found: &Found, around: &Surroundings) -> v1::Transaction {
    let (details, reason, branches) = parts(found, around);
    let decided_at = match &found.stored {
        Some(StoredTransaction { state: StoredState::Decided { decided_at, .. }, .. }) => {
            Some((*decided_at).into())
        }
        Some(_) | None => None,
    };
    let open = found.open.as_ref();
    v1::Transaction {
        id: Some(found.id().into()),
        state: state(found).into(),
        details: Some(details.into()),
        age: age(found).try_into().ok(),
        decided_at,
        reason: reason.map(Into::into),
        waits_for: Waits::of(found, &branches, around).to_string(),
        branches,
        next_attempt_in: open.and_then(|open| open.next_attempt_in?.try_into().ok()),
        heuristic: v1::BranchOutcome::from_heuristic(heuristic(found)).into(),
        driven_by: driven_by(found, around),
        time_left: open.and_then(|open| open.time_left?.try_into().ok()),
        ..v1::Transaction::default()
    }
}

/// Where the living coordinator is that drives it, if that is another one.
fn driven_by(found: &Found, around: &Surroundings) -> String {
    let owner = found.id().incarnation;
    let is_over = matches!(
        state(found),
        TransactionState::Committed | TransactionState::Aborted | TransactionState::Unspecified
    );
    if found.open.is_some() || is_over || around.own == Some(owner) {
        return String::new();
    }
    around.member(owner).map(|member| member.address.as_ref().to_owned()).unwrap_or_default()
}

/// Details, reason and branches, from whichever knows them.
fn parts(found: &Found, around: &Surroundings) -> (Details, Option<AbortReason>, Vec<v1::BranchStatus>) {
    let heuristics = found.stored.as_ref().map_or(&[][..], |stored| &stored.heuristics);
    match (&found.open, &found.stored) {
        (Some(open), _) => {
            let branches = open.branches.iter().map(|view| live_branch(open, view, heuristics, around));
            (Details::clone(&open.details), open.reason.clone(), branches.collect())
        }
        (None, Some(stored)) => match &stored.state {
            StoredState::Decided { record, finished, .. } => {
                let committed = *finished && record.decision == Decision::Commit;
                let branches = record.branches.iter().map(|decided| v1::BranchStatus {
                    vote: "commit".to_owned(),
                    evidence: Some(decided.evidence.clone().into()),
                    outcome: stored_outcome(decided.branch.id, committed, heuristics).into(),
                    ..bare_branch(&decided.branch, around)
                });
                (Details::clone(&record.details), record.reason.clone(), branches.collect())
            }
            StoredState::Undecided { record } => {
                let branches = record.branches.iter().map(|branch| bare_branch(branch, around));
                (record.details.clone(), None, branches.collect())
            }
        },
        (None, None) => (Details::default(), None, Vec::new()),
    }
}

fn bare_branch(branch: &Branch, around: &Surroundings) -> v1::BranchStatus {
    v1::BranchStatus {
        attached: around.presence(branch).is_attached(),
        branch: Some(branch.clone().into()),
        ..v1::BranchStatus::default()
    }
}

fn live_branch(
    open: &TransactionView,
    view: &BranchView,
    heuristics: &[HeuristicRecord],
    around: &Surroundings,
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
    // What is tried again is tried at every branch that is missing, at the same time.
    let is_missing = match open.phase {
        Phase::Active => false,
        Phase::Preparing => view.vote.is_none(),
        Phase::Deciding => open.own_register,
        Phase::Committing | Phase::Aborting => view.outcome.is_none(),
    };
    let next_attempt_in = open.next_attempt_in.filter(|_| is_missing);
    v1::BranchStatus {
        next_attempt_in: next_attempt_in.and_then(|length| length.try_into().ok()),
        vote: vote.to_owned(),
        evidence,
        outcome: outcome.into(),
        attempts: view.attempts,
        last_error: view.last_error.as_deref().unwrap_or_default().to_owned(),
        ..bare_branch(&view.branch, around)
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
pub(super) fn heuristic(found: &Found) -> Option<HeuristicOutcome> {
    let stored = found.stored.as_ref().and_then(|stored| match &stored.state {
        StoredState::Decided { record, .. } => Some(record.decision),
        StoredState::Undecided { .. } => None,
    });
    let decision = stored.or_else(|| match found.open.as_ref()?.phase {
        Phase::Committing => Some(Decision::Commit),
        Phase::Aborting => Some(Decision::Abort),
        Phase::Active | Phase::Preparing | Phase::Deciding => None,
    })?;
    let open = found.open.iter().flat_map(|open| &open.branches).filter_map(|view| view.outcome.clone());
    let kept = || found.stored.iter().flat_map(|stored| &stored.heuristics);
    // What is not kept as heuristic ended, or will end, as decided.
    let decided = found.stored.iter().flat_map(|stored| match &stored.state {
        StoredState::Decided { record, .. } => &record.branches[..],
        StoredState::Undecided { .. } => &[],
    });
    let as_decided = decided
        .filter(|decided| kept().all(|record| record.branch.id != decided.branch.id))
        .filter(|decided| {
            let mut open = found.open.iter().flat_map(|open| &open.branches);
            open.all(|view| view.branch.id != decided.branch.id || view.outcome.is_none())
        })
        .map(|_| BranchOutcome::Committed);
    let outcomes: Vec<BranchOutcome> =
        open.chain(kept().map(|record| BranchOutcome::Heuristic(record.outcome))).chain(as_decided).collect();
    combine(decision, &outcomes)
}
