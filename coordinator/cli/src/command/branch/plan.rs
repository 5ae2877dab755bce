//! What is to be done with a prepared branch, by what the log says of it. Pure: laws 1, 4, 8 and 11 are here,
//! and nothing that touches a database.
//!
//! A branch that is prepared belongs to a transaction of two phases, whatever flags its name bore at Commit:
//! one-phase commit never prepares. So its register is the log, and closing it there is right. The one
//! exception is found by its marker: a branch that *has committed* in one phase, of which another execution
//! is prepared now. Its register is its own database; nothing is written of it in the log.

use pactum_core::outcome::HeuristicOutcome;
use pactum_proto::error::ErrorCode;

use super::database::Verb;
use super::evidence::Fate;
use super::word::{Owner, Word};

/// What is known of a branch when it is planned for.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// What the log says.
    pub(super) word: Word,
    /// Where it says commit: which execution that is.
    pub(super) execution: Option<Execution>,
    /// Whether a marker says that it committed in one phase before.
    pub(super) marked_committed: bool,
}

/// Which execution a commit in the log means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Execution {
    /// The one that is prepared.
    This,
    /// Another, of which this has become.
    Other(Fate),
    /// None of this branch: the commit does not name it.
    None,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// End it as is decided.
    AsDecided(Verb),
    /// Close the transaction in the log with abort; then end it as stands.
    Close,
    /// End it by hand: a heuristic outcome, if the log's decision is or will be another.
    ByHand {
        /// How.
        verb: Verb,
        /// What is kept of it next to the decision; `None`: it contradicts nothing.
        outcome: Option<HeuristicOutcome>,
    },
    /// Leave it alone.
    Leave(Refusal),
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    /// A sentence without a full stop.
    pub(super) why: String,
    /// What to do.
    pub(super) next: String,
}

fn leave(code: ErrorCode, why: impl Into<String>, next: impl Into<String>) -> Plan {
    Plan::Leave(Refusal { code, why: why.into(), next: next.into() })
}

impl Known {
    /// What `branch finish` does. `close_owned`: also close transactions whose coordinator lives.
    pub(super) fn finish(&self, close_owned: bool) -> Plan {
        match (&self.word, self.execution) {
            (Word::Commit { .. }, Some(Execution::This)) => Plan::AsDecided(Verb::Commit),
            // Not named by a commit: no decision can mean it any more. A second execution: its work is done.
            (Word::Commit { .. }, Some(Execution::None | Execution::Other(Fate::Committed)))
            | (Word::Abort { .. } | Word::TakenByAnother, _) => Plan::AsDecided(Verb::RollBack),
            (Word::Commit { .. }, Some(Execution::Other(fate))) => leave(
                ErrorCode::BranchNotPrepared,
                format!(
                    "commit is decided of another execution, {}: this one may be all that is left of its work",
                    told(fate)
                ),
                "compare the data by hand; then end it with --overrule commit or --overrule rollback",
            ),
            (Word::Commit { .. }, None) => leave(
                ErrorCode::BranchNotPrepared,
                "commit is decided, with evidence that this version does not read",
                "use the version of pactum that its participant uses",
            ),
            (Word::Nothing(_), _) if self.marked_committed => leave(
                ErrorCode::BranchNotPrepared,
                "its marker says that this branch has committed already, in one phase: what is prepared is a second execution",
                "compare the data by hand; then --overrule rollback ends it",
            ),
            (Word::Nothing(Owner::Alive { address }), _) if !close_owned => leave(
                ErrorCode::NotOwner,
                format!("nothing is decided yet, and its coordinator{} lives: it is at work", at(address)),
                "let it decide, or ask it: pactum tx list; --close-owned closes the transaction all the same",
            ),
            (Word::Nothing(_), _) => Plan::Close,
            (word, _) => Self::unknowable(word),
        }
    }

    /// What `--overrule` does. `unreachable`: it was said, and is so, that the log cannot be reached.
    pub(super) fn overrule(&self, verb: Verb, unreachable: bool, close_owned: bool) -> Plan {
        use HeuristicOutcome::{Aborted, Committed, Hazard};
        match (&self.word, self.execution, verb) {
            (Word::Commit { .. }, Some(Execution::This), Verb::RollBack) => {
                Plan::ByHand { verb, outcome: Some(Aborted) }
            }
            (
                Word::Commit { .. },
                Some(Execution::Other(Fate::Committed) | Execution::None),
                Verb::Commit,
            ) => leave(
                ErrorCode::BranchNotPrepared,
                "commit was decided without this execution: committing it would do work that nobody decided on",
                "let it be rolled back: the same command without --overrule",
            ),
            // The decided one is lost; what is prepared may be the same work.
            (Word::Commit { .. }, Some(Execution::Other(_)) | None, Verb::Commit) => {
                Plan::ByHand { verb, outcome: Some(Hazard) }
            }
            (Word::Commit { .. }, Some(Execution::Other(fate)), Verb::RollBack)
                if fate != Fate::Committed =>
            {
                let outcome = if fate == Fate::Aborted { Aborted } else { Hazard };
                Plan::ByHand { verb, outcome: Some(outcome) }
            }
            (Word::Commit { .. }, None, Verb::RollBack) => Plan::ByHand { verb, outcome: Some(Hazard) },
            (Word::Abort { .. } | Word::TakenByAnother, _, Verb::Commit) => {
                Plan::ByHand { verb, outcome: Some(Committed) }
            }
            (Word::Nothing(_), _, Verb::RollBack) if self.marked_committed => {
                Plan::ByHand { verb, outcome: None }
            }
            (Word::Nothing(_), _, Verb::Commit) => leave(
                ErrorCode::CommitAheadOfDecision,
                "nothing is decided, and the log can be asked: a commit by hand could contradict what it will say",
                "without --overrule it is closed with abort and rolled back; only where the log cannot be reached is a commit made ahead of it",
            ),
            // Nobody can say: that is what overruling is for.
            (Word::Doubted | Word::Forgotten, _, _) => {
                let outcome = if verb == Verb::Commit { Committed } else { Aborted };
                Plan::ByHand { verb, outcome: Some(outcome) }
            }
            (Word::Unreachable { .. } | Word::NotAsked, _, _) if unreachable => {
                Plan::ByHand { verb, outcome: None }
            }
            (Word::Unreachable { problem }, _, _) => leave(
                ErrorCode::LogUnreachable,
                format!("the log did not answer ({problem}), and overruling asks it first"),
                "bring the log back; where that cannot be waited for, say --log-unreachable",
            ),
            // It agrees with what stands, or becomes a closing.
            _ => self.finish(close_owned),
        }
    }

    fn unknowable(word: &Word) -> Plan {
        match word {
            Word::Doubted => leave(
                ErrorCode::InQuarantine,
                "the log went back in time, and commits of its coordinator may be missing",
                "compare the databases by hand; then --overrule ends it, or `pactum log release` says that nothing is missing",
            ),
            Word::Forgotten => leave(
                ErrorCode::InQuarantine,
                "the log has forgotten transactions of that age",
                "compare the databases by hand; then --overrule ends it",
            ),
            Word::Unreadable => leave(
                ErrorCode::LogCorrupt,
                "the log's record of it cannot be read",
                "find out what wrote to the log's database; nothing is concluded from it",
            ),
            Word::OtherCluster(cluster) => leave(
                ErrorCode::TransactionNotFound,
                format!("that log is of cluster {cluster}, and decides nothing of this branch"),
                "give the log of the branch's own cluster",
            ),
            Word::Unreachable { problem } => leave(
                ErrorCode::LogUnreachable,
                format!("the log did not answer: {problem}"),
                "bring the log back: only it knows what was decided",
            ),
            Word::NotAsked
            | Word::Commit { .. }
            | Word::Abort { .. }
            | Word::TakenByAnother
            | Word::Nothing(_) => leave(
                ErrorCode::LogUnreachable,
                "what the log says is not known: no log was named",
                "give --log URL, --log-file FILE or --config FILE",
            ),
        }
    }
}

impl Plan {
    /// What it is called in JSON.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AsDecided(Verb::Commit) => "commit",
            Self::AsDecided(Verb::RollBack) => "roll-back",
            Self::Close => "close-then-roll-back",
            Self::ByHand { verb: Verb::Commit, .. } => "overrule-commit",
            Self::ByHand { verb: Verb::RollBack, .. } => "overrule-rollback",
            Self::Leave(_) => "leave",
        }
    }

    /// One sentence for people.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::AsDecided(Verb::Commit) => "commits it, as is decided".to_owned(),
            Self::AsDecided(Verb::RollBack) => "rolls it back, as is decided".to_owned(),
            Self::Close => "closes its transaction in the log with abort, then rolls it back".to_owned(),
            Self::ByHand { verb, outcome } => {
                let does = match verb {
                    Verb::Commit => "commits it by hand",
                    Verb::RollBack => "rolls it back by hand",
                };
                match outcome {
                    Some(outcome) => format!(
                        "{does}: a heuristic outcome ({}), kept until it is forgotten",
                        heuristic(*outcome)
                    ),
                    None => does.to_owned(),
                }
            }
            Self::Leave(refusal) => format!("leaves it: {}", refusal.why),
        }
    }
}

impl Word {
    /// What it is called in JSON.
    pub(super) fn name(&self, execution: Option<Execution>) -> &'static str {
        match self {
            Self::NotAsked => "not-asked",
            Self::Unreachable { .. } => "unreachable",
            Self::OtherCluster(_) => "other-cluster",
            Self::Commit { .. } if execution == Some(Execution::This) => "commit",
            Self::Commit { .. } => "commit-of-another-execution",
            Self::Abort { .. } => "abort",
            Self::TakenByAnother => "taken-by-another",
            Self::Nothing(Owner::Alive { .. }) => "nothing-owner-alive",
            Self::Nothing(Owner::Silent | Owner::Ended) => "nothing",
            Self::Doubted => "in-doubt",
            Self::Forgotten => "forgotten",
            Self::Unreadable => "unreadable",
        }
    }

    /// One sentence for people.
    pub(super) fn sentence(&self, execution: Option<Execution>) -> String {
        match self {
            Self::NotAsked => "no log was named".to_owned(),
            Self::Unreachable { problem } => format!("the log did not answer: {problem}"),
            Self::OtherCluster(cluster) => format!("that log is of cluster {cluster}"),
            Self::Commit { .. } => match execution {
                Some(Execution::This) => "commit is decided, of this execution".to_owned(),
                Some(Execution::Other(fate)) => {
                    format!("commit is decided, of another execution, {}", told(fate))
                }
                Some(Execution::None) => "commit is decided, and does not name this branch".to_owned(),
                None => "commit is decided, with evidence that this version does not read".to_owned(),
            },
            Self::Abort { reason } if reason.is_empty() => "abort is decided".to_owned(),
            Self::Abort { reason } => format!("abort is decided: {reason}"),
            Self::TakenByAnother => {
                "another coordinator's transaction has its gid, so that this one has aborted".to_owned()
            }
            Self::Nothing(Owner::Alive { address }) => {
                format!("nothing yet; its coordinator{} lives and is at work", at(address))
            }
            Self::Nothing(Owner::Silent) => {
                "nothing; its coordinator has not ended, and its heartbeat stands still".to_owned()
            }
            Self::Nothing(Owner::Ended) => "nothing; its coordinator has ended".to_owned(),
            Self::Doubted => {
                "nothing, which proves nothing: the log went back in time, and its coordinator is in doubt"
                    .to_owned()
            }
            Self::Forgotten => "it has forgotten transactions of that age".to_owned(),
            Self::Unreadable => "its record cannot be read".to_owned(),
        }
    }
}

/// What a heuristic outcome is called.
pub(super) fn heuristic(outcome: HeuristicOutcome) -> &'static str {
    match outcome {
        HeuristicOutcome::Committed => "committed",
        HeuristicOutcome::Aborted => "aborted",
        HeuristicOutcome::Mixed => "mixed",
        HeuristicOutcome::Hazard => "hazard",
    }
}

fn told(fate: Fate) -> &'static str {
    match fate {
        Fate::Committed => "which has committed",
        Fate::Aborted => "which was rolled back",
        Fate::InProgress => "which is still ending, or prepared in another database",
        Fate::Unprovable => "of which this database can prove nothing any more",
    }
}

fn at(address: &str) -> String {
    if address.is_empty() { String::new() } else { format!(" ({address})") }
}

#[cfg(test)]
mod tests {
    use pactum_core::id::Cluster;
    use pactum_core::vote::Evidence;

    use super::*;

    fn known(word: Word, execution: Option<Execution>) -> Known {
        Known { word, execution, marked_committed: false }
    }

    fn commit() -> Word {
        Word::Commit { decided: Some(Evidence::new("7", "1/1/0/0")) }
    }

    fn refused(plan: &Plan) -> Option<ErrorCode> {
        match plan {
            Plan::Leave(refusal) => Some(refusal.code),
            Plan::AsDecided(_) | Plan::Close | Plan::ByHand { .. } => None,
        }
    }

    #[test]
    fn a_branch_is_finished_as_the_log_says_and_left_where_it_cannot_say() {
        let abort = || Word::Abort { reason: String::new() };
        let cases = [
            (commit(), Some(Execution::This), Plan::AsDecided(Verb::Commit)),
            (commit(), Some(Execution::None), Plan::AsDecided(Verb::RollBack)),
            (commit(), Some(Execution::Other(Fate::Committed)), Plan::AsDecided(Verb::RollBack)),
            (abort(), None, Plan::AsDecided(Verb::RollBack)),
            (Word::TakenByAnother, None, Plan::AsDecided(Verb::RollBack)),
            (Word::Nothing(Owner::Ended), None, Plan::Close),
            (Word::Nothing(Owner::Silent), None, Plan::Close),
        ];
        for (word, execution, plan) in cases {
            assert_eq!(known(word.clone(), execution).finish(false), plan, "{word:?} {execution:?}");
        }
        let left = [
            (commit(), Some(Execution::Other(Fate::Aborted)), ErrorCode::BranchNotPrepared),
            (commit(), Some(Execution::Other(Fate::InProgress)), ErrorCode::BranchNotPrepared),
            (commit(), Some(Execution::Other(Fate::Unprovable)), ErrorCode::BranchNotPrepared),
            (commit(), None, ErrorCode::BranchNotPrepared),
            (Word::Doubted, None, ErrorCode::InQuarantine),
            (Word::Forgotten, None, ErrorCode::InQuarantine),
            (Word::Unreadable, None, ErrorCode::LogCorrupt),
            (Word::NotAsked, None, ErrorCode::LogUnreachable),
            (Word::Unreachable { problem: String::new() }, None, ErrorCode::LogUnreachable),
            (Word::OtherCluster(Cluster::new("c").unwrap()), None, ErrorCode::TransactionNotFound),
            (Word::Nothing(Owner::Alive { address: String::new() }), None, ErrorCode::NotOwner),
        ];
        for (word, execution, code) in left {
            let plan = known(word.clone(), execution).finish(false);
            assert_eq!(refused(&plan), Some(code), "{word:?} {execution:?}");
        }
        let owned = known(Word::Nothing(Owner::Alive { address: String::new() }), None);
        assert_eq!(owned.finish(true), Plan::Close);
    }

    #[test]
    fn a_branch_whose_marker_says_committed_is_never_closed_in_the_log() {
        let marked = Known { word: Word::Nothing(Owner::Ended), execution: None, marked_committed: true };
        assert_eq!(refused(&marked.finish(true)), Some(ErrorCode::BranchNotPrepared));
        let by_hand = Plan::ByHand { verb: Verb::RollBack, outcome: None };
        assert_eq!(marked.overrule(Verb::RollBack, false, true), by_hand);
    }

    /// Law 11.
    #[test]
    fn overruling_asks_the_log_first() {
        use HeuristicOutcome::{Aborted, Committed, Hazard};
        use Verb::{Commit, RollBack};
        let by_hand = |verb, outcome| Plan::ByHand { verb, outcome };
        let abort = || Word::Abort { reason: String::new() };
        let this = Some(Execution::This);
        let lost = Some(Execution::Other(Fate::Unprovable));
        let cases = [
            (commit(), this, Commit, Plan::AsDecided(Commit)),
            (commit(), this, RollBack, by_hand(RollBack, Some(Aborted))),
            (commit(), lost, Commit, by_hand(Commit, Some(Hazard))),
            (commit(), lost, RollBack, by_hand(RollBack, Some(Hazard))),
            (commit(), Some(Execution::Other(Fate::Aborted)), RollBack, by_hand(RollBack, Some(Aborted))),
            (commit(), Some(Execution::Other(Fate::Committed)), RollBack, Plan::AsDecided(RollBack)),
            (abort(), None, RollBack, Plan::AsDecided(RollBack)),
            (abort(), None, Commit, by_hand(Commit, Some(Committed))),
            (Word::Nothing(Owner::Ended), None, RollBack, Plan::Close),
            (Word::Doubted, None, RollBack, by_hand(RollBack, Some(Aborted))),
            (Word::Forgotten, None, Commit, by_hand(Commit, Some(Committed))),
        ];
        for (word, execution, verb, plan) in cases {
            let known = known(word.clone(), execution);
            assert_eq!(known.overrule(verb, false, false), plan, "{word:?} {execution:?} {verb:?}");
        }
        let undecided = known(Word::Nothing(Owner::Ended), None);
        for unreachable in [false, true] {
            let plan = undecided.overrule(Commit, unreachable, true);
            assert_eq!(refused(&plan), Some(ErrorCode::CommitAheadOfDecision));
        }
        let silent = known(Word::Unreachable { problem: String::new() }, None);
        for verb in [Commit, RollBack] {
            assert_eq!(refused(&silent.overrule(verb, false, false)), Some(ErrorCode::LogUnreachable));
            assert_eq!(silent.overrule(verb, true, false), by_hand(verb, None));
        }
        let second = known(commit(), Some(Execution::Other(Fate::Committed)));
        assert_eq!(refused(&second.overrule(Commit, true, true)), Some(ErrorCode::BranchNotPrepared));
        let unreadable = known(Word::Unreadable, None);
        assert_eq!(refused(&unreadable.overrule(Commit, true, true)), Some(ErrorCode::LogCorrupt));
    }
}
