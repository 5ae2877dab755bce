//! One coordinator, and what it sees.

use pactum_proto::v1;
use serde::Serialize;

use super::{incarnation, millis, text};

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
