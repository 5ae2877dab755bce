//! One resource of one attached process.

use std::collections::BTreeMap;

use pactum_core::id::InstanceId;
use pactum_proto::v1;
use serde::Serialize;

use super::millis;

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
    /// Whether it takes no new branches.
    pub(crate) draining: bool,
    /// What it told of its database, by name.
    pub(crate) settings: BTreeMap<String, String>,
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
            draining: from.draining,
            settings: from.settings.into_iter().collect(),
        }
    }
}
