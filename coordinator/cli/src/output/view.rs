//! The shapes that `-o json` prints: stable names, lengths of time in milliseconds with the unit in
//! the name, moments in ISO 8601, ids as text, hashes in hexadecimal digits. Made from the wire's
//! messages; a value that this version does not know is shown as `unknown`, never dropped. A field
//! may be added; none is renamed or removed (`tests/shapes.rs` holds them all).

mod act;
mod audit;
mod branch;
mod heuristic;
mod participant;
mod prepared;
mod status;
mod transaction;

use std::time::Duration;

use jiff::Timestamp;
use pactum_core::id::{Gid, Incarnation};
use pactum_proto::v1;

pub(crate) use act::{ActView, PlanView};
pub(crate) use audit::AuditEntryView;
#[cfg(test)]
pub(crate) use branch::ReportView;
pub(crate) use branch::{BranchView, FindingView};
pub(crate) use heuristic::HeuristicView;
pub(crate) use participant::ParticipantView;
pub(crate) use prepared::{PreparedBranchView, PreparedView};
#[cfg(test)]
pub(crate) use status::{CoordinatorView, ReplicationView};
pub(crate) use status::{LogStatusView, StatusView};
pub(crate) use transaction::{NextView, PageView, TransactionView};

fn gid(id: Option<&v1::TransactionId>) -> String {
    id.and_then(|id| Gid::from_slice(&id.gid).ok()).unwrap_or(Gid::NIL).to_string()
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

fn moment(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
}
