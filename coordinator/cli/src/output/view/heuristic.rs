//! A branch that ended without the decision.

use jiff::Timestamp;
use pactum_core::id::Gid;
use pactum_proto::v1;
use serde::Serialize;

use super::{branch_outcome, gid, moment};

/// A branch that ended without the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HeuristicView {
    pub(crate) gid: String,
    pub(crate) resource: String,
    pub(crate) branch: String,
    /// `heuristic_committed`, `heuristic_aborted`, `heuristic_mixed` or `heuristic_hazard`.
    pub(crate) outcome: Option<String>,
    /// `committed` or `aborted`; null if none stands.
    pub(crate) decision: Option<String>,
    pub(crate) recorded_at: Option<Timestamp>,
}

impl HeuristicView {
    /// The gid, if it is one.
    pub(crate) fn gid(&self) -> Gid {
        self.gid.parse().unwrap_or(Gid::NIL)
    }
}

impl From<v1::Heuristic> for HeuristicView {
    fn from(from: v1::Heuristic) -> Self {
        let branch = from.branch.unwrap_or_default();
        Self {
            gid: gid(from.id.as_ref()),
            resource: branch.resource,
            branch: super::branch::name(branch.id),
            outcome: branch_outcome(from.outcome),
            decision: branch_outcome(from.decision),
            recorded_at: moment(from.recorded_at),
        }
    }
}
