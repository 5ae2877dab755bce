//! Branches that are prepared in databases.

use pactum_core::id::Gid;
use pactum_proto::v1;
use serde::Serialize;

use super::{FindingView, gid, incarnation, plain, text, unknown};

/// What was found, and where not everything could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PreparedView {
    pub(crate) branches: Vec<PreparedBranchView>,
    /// Resources that did not answer, or not with all.
    pub(crate) problems: Vec<ProblemView>,
}

/// A branch that is prepared in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PreparedBranchView {
    pub(crate) resource: String,
    pub(crate) gid: String,
    pub(crate) incarnation: Option<String>,
    pub(crate) branch: String,
    /// `owned`, `commit`, `abort`, `orphan`, `quarantined` or `unknown`.
    pub(crate) verdict: String,
    pub(crate) explanation: Option<String>,
    pub(crate) finding: FindingView,
}

/// A resource whose branches are not all known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ProblemView {
    pub(crate) resource: String,
    pub(crate) problem: String,
}

impl PreparedBranchView {
    /// The gid, if it is one.
    pub(crate) fn gid(&self) -> Gid {
        self.gid.parse().unwrap_or(Gid::NIL)
    }
}

impl From<v1::ListBranchesResponse> for PreparedView {
    fn from(from: v1::ListBranchesResponse) -> Self {
        Self {
            branches: from.branches.into_iter().map(Into::into).collect(),
            problems: from
                .problems
                .into_iter()
                .map(|problem| ProblemView { resource: problem.resource, problem: problem.problem })
                .collect(),
        }
    }
}

impl From<v1::PreparedBranch> for PreparedBranchView {
    fn from(from: v1::PreparedBranch) -> Self {
        let verdict = v1::BranchVerdict::try_from(from.verdict);
        let finding = from.finding.unwrap_or_default();
        Self {
            resource: from.resource,
            gid: gid(finding.id.as_ref()),
            incarnation: finding.id.as_ref().and_then(|id| incarnation(&id.incarnation)),
            branch: super::branch::name(finding.branch),
            verdict: verdict.map_or_else(unknown, |verdict| plain(verdict.as_str_name(), "BRANCH_VERDICT_")),
            explanation: text(from.explanation),
            finding: finding.into(),
        }
    }
}
