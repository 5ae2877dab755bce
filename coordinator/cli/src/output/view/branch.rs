//! One branch: what its coordinator knows, and what its database says.

use pactum_core::id::{BranchId, InstanceId};
use pactum_proto::v1;
use serde::Serialize;

use super::{branch_outcome, millis, plain, text, unknown};

/// One branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BranchView {
    pub(crate) branch: String,
    pub(crate) resource: String,
    pub(crate) instance: Option<String>,
    pub(crate) vote: Option<String>,
    /// Which execution voted.
    pub(crate) evidence: Option<String>,
    /// What the resource needs to trust the evidence later.
    pub(crate) evidence_anchor: Option<String>,
    /// `committed`, `aborted`, `heuristic_...`; null while it has not ended.
    pub(crate) outcome: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) last_error: Option<String>,
    pub(crate) attached: bool,
    pub(crate) next_attempt_in_ms: Option<u64>,
    /// What its database says; null if it was not asked.
    pub(crate) report: Option<ReportView>,
}

/// What a participant said of a branch when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ReportView {
    /// If not, nothing is known: in particular not that the branch is gone.
    pub(crate) answered: bool,
    pub(crate) problem: Option<String>,
    pub(crate) finding: Option<FindingView>,
}

/// What a participant found in its database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FindingView {
    /// `open`, `prepared`, `committed`, `aborted` or `unknown`.
    pub(crate) presence: String,
    pub(crate) evidence: Option<String>,
    pub(crate) prepared_for_ms: Option<u64>,
    pub(crate) locks: u32,
    pub(crate) blocked: Vec<BlockedView>,
    pub(crate) pinned_transactions: u64,
    pub(crate) note: Option<String>,
}

/// A session that waits for a lock of a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BlockedView {
    pub(crate) pid: i32,
    pub(crate) user: String,
    pub(crate) application: String,
    pub(crate) waits_ms: u64,
}

/// A branch's id as it stands in names of prepared branches and is typed.
pub(super) fn name(id: u64) -> String {
    BranchId::new(id).to_string()
}

impl From<v1::BranchStatus> for BranchView {
    fn from(from: v1::BranchStatus) -> Self {
        let branch = from.branch.unwrap_or_default();
        let evidence = from.evidence.unwrap_or_default();
        Self {
            branch: name(branch.id),
            resource: branch.resource,
            instance: InstanceId::from_slice(&branch.instance).ok().map(|instance| instance.to_string()),
            vote: text(from.vote),
            evidence: text(evidence.execution),
            evidence_anchor: text(evidence.anchor),
            outcome: branch_outcome(from.outcome),
            attempts: from.attempts,
            last_error: text(from.last_error),
            attached: from.attached,
            next_attempt_in_ms: millis(from.next_attempt_in),
            report: from.report.map(Into::into),
        }
    }
}

impl From<v1::BranchReport> for ReportView {
    fn from(from: v1::BranchReport) -> Self {
        Self { answered: from.answered, problem: text(from.problem), finding: from.finding.map(Into::into) }
    }
}

impl From<v1::BranchFinding> for FindingView {
    fn from(from: v1::BranchFinding) -> Self {
        let presence = v1::BranchPresence::try_from(from.presence);
        Self {
            presence: presence.map_or_else(unknown, |found| plain(found.as_str_name(), "BRANCH_PRESENCE_")),
            evidence: from.evidence.and_then(|evidence| text(evidence.execution)),
            prepared_for_ms: millis(from.prepared_for),
            locks: from.locks,
            blocked: from.blocked.into_iter().map(Into::into).collect(),
            pinned_transactions: from.pinned_transactions,
            note: text(from.note),
        }
    }
}

impl From<v1::BlockedSession> for BlockedView {
    fn from(from: v1::BlockedSession) -> Self {
        Self {
            pid: from.pid,
            user: from.user,
            application: from.application,
            waits_ms: millis(from.waits).unwrap_or(0),
        }
    }
}
