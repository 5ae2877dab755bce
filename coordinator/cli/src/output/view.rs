//! The shapes that `-o json` prints: stable names, lengths of time in milliseconds with the unit in
//! the name, ids as text. Made from the wire's messages; a value that this version does not know
//! is shown as `unknown`, never dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pactum_core::id::{BranchId, Gid, Incarnation, InstanceId};
use pactum_proto::v1;
use serde::Serialize;

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
}

/// Why something aborted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AbortView {
    /// `voted_no`, `deadline`, and so on.
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// One branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BranchView {
    pub(crate) branch: String,
    pub(crate) resource: String,
    pub(crate) instance: Option<String>,
    pub(crate) vote: Option<String>,
    pub(crate) evidence: Option<String>,
    /// `committed`, `aborted`, `heuristic_...`; null while it has not ended.
    pub(crate) outcome: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) last_error: Option<String>,
    pub(crate) attached: bool,
}

/// One resource of one attached process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ParticipantView {
    pub(crate) resource: String,
    pub(crate) instance: String,
    pub(crate) identity: String,
    pub(crate) marker: bool,
    pub(crate) peer: String,
    pub(crate) version: String,
    pub(crate) attached_ms: u64,
    pub(crate) branches_open: u64,
}

/// One coordinator, and what it sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StatusView {
    pub(crate) version: String,
    pub(crate) cluster: String,
    /// Null while it takes no new transactions for want of one.
    pub(crate) incarnation: Option<String>,
    pub(crate) uptime_ms: u64,
    pub(crate) transactions_open: u64,
    pub(crate) participants_attached: u64,
    pub(crate) log: LogStatusView,
    /// Every living one.
    pub(crate) coordinators: Vec<CoordinatorView>,
}

/// The log, as its coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LogStatusView {
    pub(crate) kind: String,
    pub(crate) available: bool,
    /// Why it cannot be written.
    pub(crate) problem: Option<String>,
    /// Incarnations whose commits may be missing.
    pub(crate) doubted: u64,
    pub(crate) replication: Option<ReplicationView>,
}

/// How a log's server is replicated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ReplicationView {
    pub(crate) configured: String,
    pub(crate) required: u32,
    pub(crate) confirmed: u32,
    pub(crate) visible: bool,
}

/// A living coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CoordinatorView {
    pub(crate) incarnation: String,
    /// Null where it is not told to others.
    pub(crate) address: Option<String>,
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
}

impl From<v1::Transaction> for TransactionView {
    fn from(from: v1::Transaction) -> Self {
        let state = v1::TransactionState::try_from(from.state);
        let id = from.id.unwrap_or_default();
        let details = from.details.unwrap_or_default();
        Self {
            gid: Gid::from_slice(&id.gid).unwrap_or(Gid::NIL).to_string(),
            incarnation: Incarnation::from_slice(&id.incarnation).unwrap_or(Incarnation::NIL).to_string(),
            state: state.map_or_else(unknown, |state| plain(state.as_str_name(), "TRANSACTION_STATE_")),
            name: details.name,
            labels: details.labels.into_iter().collect(),
            age_ms: millis(from.age).unwrap_or(0),
            decided_at: from.decided_at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()),
            abort: from.reason.map(Into::into),
            branches: from.branches.into_iter().map(Into::into).collect(),
            waits_for: text(from.waits_for),
            next_attempt_in_ms: millis(from.next_attempt_in),
            heuristic: branch_outcome(from.heuristic),
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

impl From<v1::BranchStatus> for BranchView {
    fn from(from: v1::BranchStatus) -> Self {
        let branch = from.branch.unwrap_or_default();
        Self {
            branch: BranchId::new(branch.id).to_string(),
            resource: branch.resource,
            instance: InstanceId::from_slice(&branch.instance).ok().map(|instance| instance.to_string()),
            vote: text(from.vote),
            evidence: from.evidence.and_then(|evidence| text(evidence.execution)),
            outcome: branch_outcome(from.outcome),
            attempts: from.attempts,
            last_error: text(from.last_error),
            attached: from.attached,
        }
    }
}

impl From<v1::Participant> for ParticipantView {
    fn from(from: v1::Participant) -> Self {
        Self {
            resource: from.resource,
            instance: InstanceId::from_slice(&from.instance).unwrap_or(InstanceId::NIL).to_string(),
            identity: from.identity,
            marker: from.marker,
            peer: from.peer,
            version: from.version,
            attached_ms: millis(from.attached_for).unwrap_or(0),
            branches_open: from.branches_open,
        }
    }
}

impl From<v1::GetServerInfoResponse> for StatusView {
    fn from(from: v1::GetServerInfoResponse) -> Self {
        Self {
            version: from.version,
            cluster: from.cluster,
            incarnation: incarnation(&from.incarnation),
            uptime_ms: millis(from.uptime).unwrap_or(0),
            transactions_open: from.transactions_open,
            participants_attached: from.participants_attached,
            log: LogStatusView {
                kind: from.log,
                available: from.log_available,
                problem: text(from.log_problem),
                doubted: from.log_doubted,
                replication: from.log_replication.map(|replication| ReplicationView {
                    configured: replication.configured,
                    required: replication.required,
                    confirmed: replication.confirmed,
                    visible: replication.visible,
                }),
            },
            coordinators: from
                .coordinators
                .into_iter()
                .map(|living| CoordinatorView {
                    incarnation: incarnation(&living.incarnation).unwrap_or_default(),
                    address: text(living.address),
                })
                .collect(),
        }
    }
}

fn incarnation(bytes: &[u8]) -> Option<String> {
    Incarnation::from_slice(bytes).ok().map(|incarnation| incarnation.to_string())
}

fn branch_outcome(outcome: i32) -> Option<String> {
    match v1::BranchOutcome::try_from(outcome) {
        Ok(v1::BranchOutcome::Unspecified) => None,
        Ok(outcome) => Some(plain(outcome.as_str_name(), "BRANCH_OUTCOME_")),
        Err(error) => Some(unknown(error)),
    }
}

fn plain(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn unknown(_: impl std::error::Error) -> String {
    "unknown".to_owned()
}

fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn millis(duration: Option<impl TryInto<Duration>>) -> Option<u64> {
    let duration: Duration = duration?.try_into().ok()?;
    u64::try_from(duration.as_millis()).ok()
}
