//! What is known of one prepared branch's transaction, in a word and in a sentence with what to do.
//!
//! A verdict is what an inquiry about the branch would be answered (see `pactum_core::coordinator`), told
//! to a person instead, and without closing anything. Where that answer could not be known, the verdict is
//! *unknown* or *quarantined*, never *orphan*.

use pactum_core::coordinator::{Phase, TransactionView};
use pactum_core::id::{BranchId, ResourceName, TransactionId};
use pactum_core::outcome::{Decision, DecisionRecord};
use pactum_core::vote::{Evidence, Vote};
use pactum_proto::v1;
use pactum_proto::v1::BranchVerdict;

/// A branch that is prepared in a database.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) resource: ResourceName,
    pub(super) id: TransactionId,
    pub(super) branch: BranchId,
    /// Of the execution that is prepared; unset if its participant did not say.
    pub(super) evidence: Option<Evidence>,
    /// All that was found.
    pub(super) finding: v1::BranchFinding,
}

/// How the owner of a transaction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is this coordinator.
    Us,
    /// Another one, which lives.
    Alive { address: String },
    /// It has ended; `doubted`: that it left no record proves nothing.
    Ended { doubted: bool },
    /// The log did not say.
    Unknown { why: String },
}

/// What is known of a branch's transaction.
#[derive(Clone, Debug)]
pub(super) enum Facts<'a> {
    /// It is open here.
    Open(&'a TransactionView),
    /// This record stands; and how its owner stands, if that was found out.
    Decided(&'a DecisionRecord, Option<Owner>),
    /// The log has no record of it and would have one.
    NoRecord(Owner),
    /// It lies under the log's floor.
    Forgotten,
    /// The log did not answer, and why.
    Silent(Option<&'a str>),
}

/// Whether nobody will take care of a branch by himself.
pub(super) fn is_stuck(verdict: BranchVerdict) -> bool {
    matches!(verdict, BranchVerdict::Orphan | BranchVerdict::Quarantined)
}

impl Facts<'_> {
    /// The verdict, and the sentence that explains it.
    pub(super) fn judge(&self, prepared: &Prepared) -> (BranchVerdict, String) {
        let gid = prepared.id.gid.as_uuid().simple();
        let resource = &prepared.resource;
        let by_hand = || format!("`pactum tx overrule {gid} --resource {resource}` ends it");
        match self {
            Self::Open(open) => judge_open(open, prepared),
            Self::Decided(record, owner) => judge_decided(record, owner.as_ref(), prepared),
            Self::NoRecord(Owner::Us) => (
                BranchVerdict::Abort,
                "this coordinator has aborted its transaction: it is rolled back when its participant \
                 inquires, which it does by itself"
                    .to_owned(),
            ),
            Self::NoRecord(Owner::Alive { address }) => {
                (BranchVerdict::Owned, format!("{} is at work on its transaction", at(address)))
            }
            Self::NoRecord(Owner::Ended { doubted: false }) => (
                BranchVerdict::Orphan,
                format!(
                    "nothing is recorded and its coordinator has ended: the next inquiry closes it with \
                     abort, and so does `pactum tx resolve {gid}`"
                ),
            ),
            Self::NoRecord(Owner::Ended { doubted: true }) => (
                BranchVerdict::Quarantined,
                format!(
                    "the log went back in time and may have lost its commit: compare the databases; then \
                     `pactum quarantine release` lets it be aborted, or {}",
                    by_hand()
                ),
            ),
            Self::Forgotten => (
                BranchVerdict::Quarantined,
                format!(
                    "it is older than the log remembers, so that nothing is known: compare the databases; \
                     then {}",
                    by_hand()
                ),
            ),
            Self::NoRecord(Owner::Unknown { why }) => silent(why),
            Self::Silent(why) => silent(why.unwrap_or("its answer is missing")),
        }
    }
}

fn silent(why: &str) -> (BranchVerdict, String) {
    (BranchVerdict::Unknown, format!("the log did not answer, so that nothing is known: {why}; ask again"))
}

/// A coordinator by its address.
fn at(address: &str) -> String {
    if address.is_empty() {
        "another coordinator".to_owned()
    } else {
        format!("the coordinator at {address}")
    }
}

/// Whether the execution that is prepared is the decided one; `None` if its participant did not say which
/// one is prepared.
fn is_decided(prepared: &Prepared, decided: &Evidence) -> Option<bool> {
    prepared.evidence.as_ref().map(|evidence| evidence.same_execution(decided))
}

const OTHER_EXECUTION: &str =
    "commit is decided of another execution of it: this one is rolled back once that one is known committed";
const UNNAMED_EXECUTION: &str =
    "commit is decided, but its participant does not say which execution is prepared: ask again";

fn judge_open(open: &TransactionView, prepared: &Prepared) -> (BranchVerdict, String) {
    let gid = prepared.id.gid.as_uuid().simple();
    let view = open.branches.iter().find(|view| view.branch.id == prepared.branch);
    match open.phase {
        _ if open.held.is_some() => (
            BranchVerdict::Quarantined,
            "the log went back in time and may have lost its commit: compare the databases; then `pactum \
             quarantine release` lets it be aborted"
                .to_owned(),
        ),
        Phase::Active | Phase::Preparing => {
            (BranchVerdict::Owned, format!("its votes are coming in here: `pactum tx show {gid}`"))
        }
        Phase::Deciding => {
            (BranchVerdict::Owned, format!("it is being decided here: `pactum tx show {gid}`"))
        }
        Phase::Committing => match view.and_then(|view| view.vote.as_ref()) {
            Some(Vote::Commit(decided)) => match is_decided(prepared, decided) {
                Some(true) => (
                    BranchVerdict::Commit,
                    format!(
                        "commit is decided and driven from here: `pactum tx show {gid}` says what it waits for"
                    ),
                ),
                Some(false) => (BranchVerdict::Abort, OTHER_EXECUTION.to_owned()),
                None => (BranchVerdict::Unknown, UNNAMED_EXECUTION.to_owned()),
            },
            Some(Vote::ReadOnly | Vote::Abort(_)) | None => (
                BranchVerdict::Abort,
                "commit is decided without it: it is rolled back when its participant inquires".to_owned(),
            ),
        },
        Phase::Aborting => {
            (BranchVerdict::Abort, format!("abort is decided and driven from here: `pactum tx show {gid}`"))
        }
    }
}

fn judge_decided(
    record: &DecisionRecord,
    owner: Option<&Owner>,
    prepared: &Prepared,
) -> (BranchVerdict, String) {
    let by = match owner {
        Some(Owner::Alive { address }) => format!("{} drives it", at(address)),
        Some(Owner::Us | Owner::Ended { .. } | Owner::Unknown { .. }) | None => {
            "it is ended so when its participant inquires, which it does by itself".to_owned()
        }
    };
    let decided = match record.decision {
        Decision::Abort => return (BranchVerdict::Abort, format!("abort is decided: {by}")),
        Decision::Commit if record.id != prepared.id => None,
        Decision::Commit => record.branch(prepared.branch),
    };
    match decided.map(|decided| is_decided(prepared, &decided.evidence)) {
        Some(Some(true)) => (BranchVerdict::Commit, format!("commit is decided: {by}")),
        Some(Some(false)) => (BranchVerdict::Abort, OTHER_EXECUTION.to_owned()),
        Some(None) => (BranchVerdict::Unknown, UNNAMED_EXECUTION.to_owned()),
        None => (
            BranchVerdict::Abort,
            "commit is decided without it: it is rolled back when its participant inquires".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
