//! The state that an act was planned for: what goes into a plan's hash and, as JSON, into the audit.
//!
//! Nothing here depends on the time or on which coordinator looks: no ages, no counts of attempts, and of
//! the course of a transaction only what the log and the databases show. So the same state has the same
//! hash everywhere, but for branches that only its owner has heard of so far.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use pactum_core::outcome::{Decision, HeuristicOutcome};
use pactum_core::vote::Evidence;

use super::gather::{Presence, Seen, Subject, Verdict};

/// The state that matters. Its JSON is stored in the audit: keys are added, and never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum State {
    Transaction(TransactionState),
    Doubt(DoubtState),
    Participants(ParticipantsState),
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct TransactionState {
    /// Its owner: with its gid, its whole name.
    pub(super) incarnation: String,
    /// undecided, committing, committed, aborted or quarantined.
    pub(super) state: &'static str,
    /// commit, abort, or null.
    pub(super) decision: Option<&'static str>,
    /// Why nothing can be known; empty if something can.
    pub(super) quarantine: &'static str,
    /// By number.
    pub(super) branches: Vec<BranchState>,
}

/// A branch of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct BranchState {
    pub(super) branch: String,
    pub(super) resource: String,
    /// What its database says: prepared, committed, aborted, open, unknown, or silent.
    pub(super) presence: &'static str,
    /// The execution that is prepared; empty if none is.
    pub(super) prepared: String,
    /// What its database needs to trust that later. It may be another one at each look, and is not hashed.
    pub(super) anchor: String,
    /// The execution that is decided; empty if none is.
    pub(super) decided: String,
    /// How it ended without the decision, as it is kept; empty if it did not.
    pub(super) heuristic: &'static str,
}

/// Whose commits may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct DoubtState {
    /// Incarnations, sorted.
    pub(super) doubted: Vec<String>,
    /// Whether owners without a row are in doubt too.
    pub(super) absent_doubted: bool,
}

/// Participants of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct ParticipantsState {
    /// By instance.
    pub(super) participants: Vec<ParticipantState>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct ParticipantState {
    pub(super) instance: String,
    pub(super) draining: bool,
}

impl State {
    /// As JSON on one line.
    pub(super) fn json(&self) -> String {
        // Strings, booleans and lists of them always can be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn timeless(&self) -> Self {
        let mut state = self.clone();
        if let Self::Transaction(transaction) = &mut state {
            transaction.branches.iter_mut().for_each(|branch| branch.anchor.clear());
        }
        state
    }

    /// The hash of an act on this state: 64 hexadecimal digits. Each part with its length before it.
    pub(super) fn hash(&self, act: &str, target: &str) -> String {
        use std::fmt::Write as _;
        let mut hash = Sha256::new();
        for part in ["pactum plan 1", act, target, &self.timeless().json()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            let _written = write!(text, "{byte:02x}");
            text
        })
    }
}

impl From<&Subject> for TransactionState {
    fn from(subject: &Subject) -> Self {
        let (state, quarantine) = match subject.verdict {
            Verdict::Committed { finished: true } => ("committed", ""),
            Verdict::Committed { finished: false } => ("committing", ""),
            Verdict::Aborted => ("aborted", ""),
            Verdict::Undecided => ("undecided", ""),
            Verdict::Quarantined(why) => ("quarantined", why),
        };
        let decision = subject.verdict.decision().map(|decision| match decision {
            Decision::Commit => "commit",
            Decision::Abort => "abort",
        });
        let branches = subject.branches.values().map(|seen| branch(subject, seen)).collect();
        let incarnation = subject.id.incarnation.to_string();
        Self { incarnation, state, decision, quarantine, branches }
    }
}

fn branch(subject: &Subject, seen: &Seen) -> BranchState {
    let decided = subject.record.as_ref().and_then(|record| record.branch(seen.branch.id));
    let kept = subject.heuristics.iter().find(|record| record.branch.id == seen.branch.id);
    let prepared = if let Presence::Prepared(evidence) = &seen.presence {
        evidence.clone()
    } else {
        Evidence::default()
    };
    BranchState {
        branch: seen.branch.id.to_string(),
        resource: seen.branch.resource.to_string(),
        presence: seen.presence.name(),
        prepared: prepared.execution.as_ref().to_owned(),
        anchor: prepared.anchor.as_ref().to_owned(),
        decided: decided.map(|decided| decided.evidence.execution.as_ref().to_owned()).unwrap_or_default(),
        heuristic: kept.map(|record| heuristic_name(record.outcome)).unwrap_or_default(),
    }
}

/// A heuristic outcome's name.
pub(super) fn heuristic_name(outcome: HeuristicOutcome) -> &'static str {
    match outcome {
        HeuristicOutcome::Committed => "committed",
        HeuristicOutcome::Aborted => "aborted",
        HeuristicOutcome::Mixed => "mixed",
        HeuristicOutcome::Hazard => "hazard",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(presence: &'static str) -> State {
        let branch = BranchState {
            branch: "00000000000000ab".to_owned(),
            resource: "bank-a".to_owned(),
            presence,
            prepared: "7".to_owned(),
            anchor: "here".to_owned(),
            decided: "7".to_owned(),
            heuristic: "",
        };
        State::Transaction(TransactionState {
            incarnation: "0199c3d0-0000-7000-8000-000000000001".to_owned(),
            state: "committing",
            decision: Some("commit"),
            quarantine: "",
            branches: vec![branch],
        })
    }

    /// Stored in audits and compared between coordinators of different versions.
    #[test]
    fn the_json_of_a_transaction_keeps_its_keys() {
        assert_eq!(
            state("prepared").json(),
            r#"{"incarnation":"0199c3d0-0000-7000-8000-000000000001","state":"committing","decision":"commit","quarantine":"","branches":[{"branch":"00000000000000ab","resource":"bank-a","presence":"prepared","prepared":"7","anchor":"here","decided":"7","heuristic":""}]}"#
        );
    }

    #[test]
    fn an_anchor_that_moves_on_changes_no_hash() {
        let (before, mut after) = (state("prepared"), state("prepared"));
        if let State::Transaction(transaction) = &mut after {
            transaction.branches[0].anchor = "further on".to_owned();
        }
        assert_eq!(before.hash("retry", "a"), after.hash("retry", "a"));
        assert_ne!(before.json(), after.json());
    }

    #[test]
    fn a_hash_names_the_act_its_target_and_the_state() {
        let hash = state("prepared").hash("retry", "a");
        assert_eq!(hash.len(), 64);
        assert_eq!(hash, state("prepared").hash("retry", "a"));
        for other in [
            state("prepared").hash("resolve", "a"),
            state("prepared").hash("retry", "b"),
            state("prepared").hash("retrya", ""),
            state("committed").hash("retry", "a"),
        ] {
            assert_ne!(hash, other);
        }
    }
}
