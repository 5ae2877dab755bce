//! Overrule: a person ends one prepared branch against or ahead of the decision (law 11).
//!
//! | The log says | rollback | commit |
//! |---|---|---|
//! | commit, of this execution | heuristic | agrees: refused |
//! | abort, or commit without it | agrees: refused | heuristic |
//! | nothing: undecided | becomes a resolve | refused: the log can be asked |
//! | nothing, which proves nothing | heuristic | heuristic |
//! | it does not answer | refused | refused |
//!
//! The last row is stricter than the law: an act without its beginning in the audit is none, and the
//! audit is in the log. While that is down, `pactum branch finish` ends a branch at its database.
//!
//! The branch must be prepared by its participant's own answer, and by the execution that is meant. What
//! the participant then answers is kept as a heuristic outcome before the act counts as done. A lost
//! answer is *unknown*; evidence tells what became of the branch when it is next asked for.

use std::time::Duration;

use pactum_core::id::{Branch, BranchId, ResourceName, TransactionId};
use pactum_core::outcome::{Decision, HeuristicOutcome};
use pactum_core::vote::Evidence;
use pactum_proto::error::ErrorCode;
use pactum_proto::v1::BranchPresence;

use super::super::Admin;
use super::gather::{Presence, Seen, Subject, Verdict};
use super::given::Act;
use super::plan::{Work, in_database, named};
use super::resolve;
use super::state::heuristic_name;
use super::{End, Proposal, Refusal};
use crate::decision_log::HeuristicRecord;
use crate::error::ServiceError;
use crate::examine::OverruleError;
use crate::journal::chain;

/// Between attempts to keep a heuristic outcome.
const KEEP_RETRY: Duration = Duration::from_millis(250);

/// The branch that is meant: the one of that number, or the only one at that resource. `None` if none is
/// known there.
pub(super) fn choose<'a>(
    subject: &'a Subject,
    resource: &ResourceName,
    branch: Option<BranchId>,
) -> Result<Option<&'a Seen>, ServiceError> {
    let mut there = subject
        .branches
        .values()
        .filter(|seen| seen.branch.resource == *resource && branch.is_none_or(|id| seen.branch.id == id));
    match (there.next(), there.next()) {
        (Some(_), Some(_)) => {
            let problem = format!("the transaction has several branches at {resource}: say which");
            Err(ServiceError::malformed("act.branch", problem))
        }
        (only, _) => Ok(only),
    }
}

/// Says what to do where the log cannot be asked.
pub(super) fn without_the_log(act: &Act, error: ServiceError) -> ServiceError {
    match (act, error) {
        (Act::Overrule { .. }, ServiceError::LogFailed { why }) => ServiceError::LogFailed {
            why: format!(
                "{why}; no act without its audit, which is in the log: while that stays away, `pactum branch \
                 finish` ends a branch at its database"
            ),
        },
        (_, error) => error,
    }
}

/// What an overrule would do.
pub(super) fn propose(
    subject: &Subject,
    resource: &ResourceName,
    seen: Option<&Seen>,
    commit: bool,
) -> Proposal {
    let verb = if commit { "Commit" } else { "Roll back" };
    let Some(seen) = seen else {
        let title = format!("{verb} the branch of {} at {resource} by hand", subject.name());
        return match &subject.silent {
            Some(why) => Proposal::refused(
                title,
                ErrorCode::ParticipantSilent,
                format!("nothing is known of {resource}: {why}"),
            ),
            None => Proposal::refused(
                title,
                ErrorCode::BranchNotPrepared,
                format!("no branch of it is prepared at {resource}"),
            ),
        };
    };
    let title = format!("{verb} {} of {} by hand", named(seen), subject.name());
    let decided = subject.record.as_ref().and_then(|record| record.branch(seen.branch.id));
    // A commit that does not name the branch is none of it: an inquiry of it is told abort.
    let decision = match (subject.verdict.decision(), decided) {
        (Some(Decision::Commit), None) if subject.record.is_some() => Some(Decision::Abort),
        (decision, _) => decision,
    };
    match (subject.verdict, decision, commit) {
        (_, Some(Decision::Commit), true) | (_, Some(Decision::Abort), false) => {
            let message = "the decision is just that, and is being carried out: it needs no overruling";
            return Proposal::refused(title, ErrorCode::AgreesWithDecision, message);
        }
        (Verdict::Undecided, _, true) => {
            let message = "it is undecided, and the log can be asked: a branch committed now could contradict the \
                           decision. `pactum tx resolve` has it decided, as abort";
            return Proposal::refused(title, ErrorCode::CommitAheadOfDecision, message);
        }
        (Verdict::Undecided, _, false) => {
            let title = format!("{title}: as it is undecided, by closing it with abort, through the log");
            return resolve::proposed(subject, title);
        }
        (_, Some(_), _)
        | (Verdict::Quarantined(_) | Verdict::Committed { .. } | Verdict::Aborted, None, _) => {}
    }
    let evidence = match (&seen.presence, decided) {
        (Presence::Silent(why), _) => {
            return Proposal::refused(title, ErrorCode::ParticipantSilent, why.clone());
        }
        (Presence::Prepared(found), Some(decided)) if !found.same_execution(&decided.evidence) => {
            let message = format!(
                "{} was decided, and {} is prepared: another execution, which is rolled back once the decided one is \
                 known committed",
                decided.evidence.execution, found.execution
            );
            return Proposal::refused(title, ErrorCode::BranchNotPrepared, message);
        }
        (Presence::Prepared(found), _) => found.clone(),
        (Presence::Open | Presence::Committed | Presence::Aborted | Presence::Unknown, _) => {
            return Proposal::refused(title, ErrorCode::BranchNotPrepared, in_database(seen));
        }
    };
    by_hand(subject, seen, title, decision, evidence, commit)
}

/// The proposal to end it by hand.
fn by_hand(
    subject: &Subject,
    seen: &Seen,
    title: String,
    decision: Option<Decision>,
    evidence: Evidence,
    commit: bool,
) -> Proposal {
    let outcome = if commit { HeuristicOutcome::Committed } else { HeuristicOutcome::Aborted };
    // Without a decision, as if it were the contrary: the worst that may turn out.
    let against = if commit { Decision::Abort } else { Decision::Commit };
    let heuristic = subject.combined(decision.unwrap_or(against), Some((seen.branch.id, outcome)));
    let verb = if commit { "commit" } else { "roll back" };
    let decided = match decision {
        Some(Decision::Commit) => "commit is decided",
        Some(Decision::Abort) => "abort is decided",
        None => "what was decided is not known",
    };
    let steps = vec![
        format!("have its participant {verb} {} (execution {})", named(seen), evidence.execution),
        format!(
            "keep beside the decision that it ended without it ({}), until somebody forgets that",
            heuristic_name(outcome)
        ),
    ];
    let risk = format!(
        "{decided}: with this branch ended otherwise the transaction's databases can differ for good, and nobody \
         mends that by himself"
    );
    let work = Ok(Work::Overrule {
        id: subject.id,
        branch: seen.branch.clone(),
        evidence,
        commit,
        // Whoever drives it tells the log's readers when its participant answers.
        driven: subject.found.open.is_some() || subject.verdict == (Verdict::Committed { finished: false }),
    });
    Proposal { title, steps, risk, heuristic, work }
}

impl Admin {
    /// Has the participant end it, and keeps what came of it.
    pub(super) async fn overrule(
        &self,
        id: TransactionId,
        branch: &Branch,
        evidence: &Evidence,
        commit: bool,
        driven: bool,
    ) -> End {
        let refused = |code, why: String| End::Refused(Refusal::new(code, why));
        let unknown = |why: String| End::Failed(Refusal::new(ErrorCode::OutcomeUnknown, why));
        let outcome = if commit { HeuristicOutcome::Committed } else { HeuristicOutcome::Aborted };
        let answer = self.examiner.overrule(id, branch, evidence, commit).await;
        match (answer, commit) {
            (Ok(BranchPresence::Committed), true) | (Ok(BranchPresence::Aborted), false) => {}
            (Ok(BranchPresence::Committed | BranchPresence::Aborted), _) => {
                let why = "it had ended the other way before".to_owned();
                return refused(ErrorCode::BranchNotPrepared, why);
            }
            (
                Ok(
                    BranchPresence::Prepared
                    | BranchPresence::Open
                    | BranchPresence::Unknown
                    | BranchPresence::Unspecified,
                ),
                _,
            ) => return unknown("its participant cannot tell how it stands now".to_owned()),
            (Err(OverruleError::NotSent(silent)), _) => {
                return refused(ErrorCode::ParticipantSilent, silent.to_string());
            }
            (Err(OverruleError::Refused(why)), _) => return refused(ErrorCode::BranchNotPrepared, why),
            (Err(OverruleError::Unknown(why)), _) => {
                return unknown(format!("{why}: it may have ended; its database's evidence will tell"));
            }
        }
        let Branch { id: number, resource, .. } = branch;
        let word = heuristic_name(outcome);
        if !driven {
            // Nobody else will say so: it needs a person's eye until it is forgotten.
            let gid = id.gid;
            tracing::error!(%gid, branch = %number, %resource, outcome = word, "a branch ended without the decision");
        }
        self.keep_heuristic(HeuristicRecord { id, branch: branch.clone(), outcome }).await;
        // Whoever drives it here need not wait to hear of this.
        self.shards.tell(id.gid, pactum_core::coordinator::Event::RetryRequested { gid: id.gid });
        End::Done(format!("branch {number} at {resource} ended by hand: {word}"))
    }

    /// Keeps a heuristic outcome, however often the log must be asked: it has happened.
    pub(super) async fn keep_heuristic(&self, record: HeuristicRecord) {
        while let Err(error) = self.log.record_heuristics(std::slice::from_ref(&record)).await {
            tracing::warn!(gid = %record.id.gid, error = %chain(&error), "a heuristic outcome could not be kept yet");
            tokio::time::sleep(KEEP_RETRY).await;
        }
    }
}
