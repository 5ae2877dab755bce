//! What a world is made of: drawn up once, changed by no step.

use std::sync::Arc;

use pactum_core_checked::{coordinator, participant};

use super::{DatabaseMutant, LogMutant};

/// What a world is made of.
#[allow(clippy::struct_excessive_bools, reason = "they do not depend on each other")]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scope {
    pub coordinators: usize,
    pub participants: usize,
    /// For each transaction the participants of its branches.
    pub transactions: Vec<Vec<usize>>,
    /// Whether the resources keep marker tables.
    pub marker: bool,
    /// Whether transactions are submitted: executed at Prepare.
    pub one_shot: bool,
    /// For each participant the one whose resource it speaks for too: a second instance. Those that
    /// are not listed have a resource of their own.
    pub homes: Vec<usize>,
    /// Whether also what usually changes nothing is sent: enlistments, which Commit makes up for by its
    /// names, and answers to inquiries that say to wait.
    pub talkative: bool,
    /// Whether the log may go back in time: then it is noted what that may lose.
    pub goes_back: bool,
    /// A fault of the log's model.
    pub log_mutant: Option<LogMutant>,
    /// A fault of the databases' model.
    pub database_mutant: Option<DatabaseMutant>,
    pub coordinator: coordinator::Config,
    pub participant: participant::Config,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            coordinators: 1,
            participants: 2,
            transactions: vec![vec![0, 1]],
            marker: false,
            one_shot: false,
            homes: Vec::new(),
            talkative: false,
            goes_back: false,
            log_mutant: None,
            database_mutant: None,
            coordinator: coordinator::Config::default(),
            participant: participant::Config::default(),
        }
    }
}

impl Scope {
    /// The participant whose resource and database this one works with.
    pub fn home(&self, place: usize) -> usize {
        self.homes.get(place).copied().unwrap_or(place)
    }
}

/// The scope, which no step changes: it takes no part in comparing or hashing states.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Scope>);

impl Shared {
    pub fn new(scope: Scope) -> Self {
        Self(Arc::new(scope))
    }
}

impl std::ops::Deref for Shared {
    type Target = Scope;

    fn deref(&self) -> &Scope {
        &self.0
    }
}

impl PartialEq for Shared {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Shared {}

impl std::hash::Hash for Shared {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}
