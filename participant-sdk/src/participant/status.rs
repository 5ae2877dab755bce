//! What a participant says of itself: its coordinators, and what it cannot end.

use std::time::SystemTime;

use pactum_core::id::{Gid, Incarnation, PreparedName, ResourceName};
use pactum_core::vote::Evidence;

/// One coordinator, as a participant sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Its address, as given or as another coordinator named it.
    pub address: String,
    /// Whether another coordinator named it.
    pub learned: bool,
    /// Whether it is attached to.
    pub state: SessionState,
}

impl SessionStatus {
    pub(crate) fn new(address: String, learned: bool) -> Self {
        let state = SessionState::Detached { problem: String::from("not attached yet") };
        Self { address, learned, state }
    }

    /// The incarnation that it owns new transactions with, if it is attached to.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        match self.state {
            SessionState::Attached { incarnation } => incarnation,
            SessionState::InReserve { .. } | SessionState::Detached { .. } => None,
        }
    }

    /// Whether it is attached to.
    pub fn is_attached(&self) -> bool {
        matches!(self.state, SessionState::Attached { .. })
    }
}

/// Whether a coordinator is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionState {
    /// A stream is open.
    Attached {
        /// The incarnation that it owns new transactions with; `None` while it takes none.
        incarnation: Option<Incarnation>,
    },
    /// No stream is open, since this given address leads to a coordinator that is attached to by another
    /// given one. It is used when that one is lost.
    InReserve {
        /// The other address.
        of: String,
    },
    /// No stream is open; another attempt follows within seconds.
    Detached {
        /// What the last attempt met, for people.
        problem: String,
    },
}

/// A branch in quarantine: prepared, and nobody can know whether its transaction committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// What it is called inside its database.
    pub name: PreparedName,
    /// The resource that holds it.
    pub resource: ResourceName,
    /// The execution that is prepared.
    pub evidence: Evidence,
    /// Since when this process knows, by the machine's clock.
    pub since: SystemTime,
    /// Why, as far as a coordinator said, for people.
    pub why: String,
}

impl Quarantined {
    /// Its transaction.
    pub fn gid(&self) -> Gid {
        self.name.id.gid
    }
}
