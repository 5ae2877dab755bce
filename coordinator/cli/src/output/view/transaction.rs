//! One transaction.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pactum_core::id::{Gid, Incarnation};
use pactum_proto::v1;
use serde::Serialize;

use super::{BranchView, branch_outcome, gid, millis, moment, plain, text, unknown};

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TransactionView {
    pub(crate) gid: String,
    pub(crate) incarnation: String,
    /// `active`, `preparing`, `deciding`, `committing`, `aborting`, `committed`, `aborted` or `undecided`.
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) age_ms: u64,
    pub(crate) decided_at: Option<Timestamp>,
    pub(crate) abort: Option<AbortView>,
    pub(crate) branches: Vec<BranchView>,
    pub(crate) waits_for: Option<String>,
    pub(crate) next_attempt_in_ms: Option<u64>,
    pub(crate) heuristic: Option<String>,
    /// Oldest first.
    pub(crate) steps: Vec<StepView>,
    /// The coordinator that drives it; null if it is the one that was asked, or nobody.
    pub(crate) driven_by: Option<String>,
    pub(crate) time_left_ms: Option<u64>,
}

/// Why something aborted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AbortView {
    /// `voted_no`, `deadline`, and so on.
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// One step of a transaction's course.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StepView {
    /// Since it began, or was recovered.
    pub(crate) at_ms: u64,
    pub(crate) step: String,
    /// Null if it is of the whole transaction.
    pub(crate) branch: Option<String>,
    pub(crate) detail: Option<String>,
}

/// One transaction with what would help it: what `tx show` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PageView {
    #[serde(flatten)]
    pub(crate) transaction: TransactionView,
    pub(crate) next: Vec<NextView>,
}

/// A command that would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NextView {
    pub(crate) command: String,
    pub(crate) why: String,
}

impl TransactionView {
    /// The gid, if it is one.
    pub(crate) fn gid(&self) -> Gid {
        self.gid.parse().unwrap_or(Gid::NIL)
    }

    /// Whether a branch of it may be in doubt.
    pub(crate) fn may_be_in_doubt(&self) -> bool {
        matches!(self.state.as_str(), "deciding" | "committing" | "aborting" | "undecided")
    }

    /// Whether nothing of it is left to be done.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "committed" | "aborted")
    }
}

impl From<v1::Transaction> for TransactionView {
    fn from(from: v1::Transaction) -> Self {
        let state = v1::TransactionState::try_from(from.state);
        let gid = gid(from.id.as_ref());
        let incarnation = from.id.and_then(|id| Incarnation::from_slice(&id.incarnation).ok());
        let details = from.details.unwrap_or_default();
        Self {
            gid,
            incarnation: incarnation.unwrap_or(Incarnation::NIL).to_string(),
            state: state.map_or_else(unknown, |state| plain(state.as_str_name(), "TRANSACTION_STATE_")),
            name: details.name,
            labels: details.labels.into_iter().collect(),
            age_ms: millis(from.age).unwrap_or(0),
            decided_at: moment(from.decided_at),
            abort: from.reason.map(Into::into),
            branches: from.branches.into_iter().map(Into::into).collect(),
            waits_for: text(from.waits_for),
            next_attempt_in_ms: millis(from.next_attempt_in),
            heuristic: branch_outcome(from.heuristic),
            steps: from.steps.into_iter().map(Into::into).collect(),
            driven_by: text(from.driven_by),
            time_left_ms: millis(from.time_left),
        }
    }
}

impl From<v1::AbortReason> for AbortView {
    fn from(from: v1::AbortReason) -> Self {
        let kind = v1::AbortKind::try_from(from.kind);
        Self {
            kind: kind.map_or_else(unknown, |kind| plain(kind.as_str_name(), "ABORT_KIND_")),
            message: from.message,
        }
    }
}

impl From<v1::TransactionStep> for StepView {
    fn from(from: v1::TransactionStep) -> Self {
        Self {
            at_ms: millis(from.at).unwrap_or(0),
            step: from.step,
            branch: (from.branch != 0).then(|| super::branch::name(from.branch)),
            detail: text(from.detail),
        }
    }
}
