//! What a resource says when an operator asks: what it holds of a branch, what that holds up, and
//! what became of a branch that is gone.
//!
//! Nothing here decides anything, and nobody concludes an outcome from it (laws 1 and 8): the
//! answers are shown to people. *Unknown* is an answer like any other, and never to be read as
//! gone (law 5).

use std::time::Duration;

use pactum_core::id::PreparedName;
use pactum_core::vote::Evidence;

/// Sessions that a finding may name.
pub const BLOCKED_SESSIONS_MAX: usize = 16;

/// A branch that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BranchQuestion {
    /// Its name: also what it is called inside a database.
    pub name: PreparedName,
    /// Whether it was enlisted with a marker, so that its resource may itself be the register of its
    /// transaction's outcome.
    pub marker: bool,
    /// The execution that voted; `None` if the asker does not know it.
    pub evidence: Option<Evidence>,
}

impl BranchQuestion {
    /// A question about the branch of that name, without a marker.
    pub fn new(name: PreparedName, evidence: Option<Evidence>) -> Self {
        Self { name, marker: false, evidence }
    }

    /// The same about a branch with a marker, or one without.
    #[must_use]
    pub fn with_marker(self, marker: bool) -> Self {
        Self { marker, ..self }
    }
}

/// What became of a branch at its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BranchPresence {
    /// Open: its local work is not prepared.
    Open,
    /// Prepared.
    Prepared,
    /// Gone, and there is evidence that it was committed.
    Committed,
    /// Gone, and there is evidence that it was aborted, or that it never was prepared.
    Aborted,
    /// Gone or not, it cannot be told which.
    Unknown,
}

/// What a resource finds of one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BranchFinding {
    /// Its name.
    pub name: PreparedName,
    /// What became of it.
    pub presence: BranchPresence,
    /// The execution that was found prepared: it need not be the one that was asked for. `None`
    /// unless one is prepared.
    pub evidence: Option<Evidence>,
    /// Since it was prepared, by the resource's own clock; `None` if that is not known.
    pub prepared_for: Option<Duration>,
    /// Locks that it holds there, as far as the resource lists them.
    pub locks: u32,
    /// Sessions that wait for a lock of it, the longest waiting first; the first
    /// [`BLOCKED_SESSIONS_MAX`] are told.
    pub blocked: Vec<BlockedSession>,
    /// How many transactions old it is: what keeps the database from cleaning up behind it.
    pub pinned_transactions: u64,
    /// What else there is to know, for people. The first 512 bytes are told.
    pub note: String,
}

impl BranchFinding {
    /// A finding without any detail.
    pub fn new(name: PreparedName, presence: BranchPresence) -> Self {
        Self {
            name,
            presence,
            evidence: None,
            prepared_for: None,
            locks: 0,
            blocked: Vec::new(),
            pinned_transactions: 0,
            note: String::new(),
        }
    }

    /// The branch is prepared: this execution of it.
    pub fn prepared(name: PreparedName, evidence: Evidence) -> Self {
        Self { evidence: Some(evidence), ..Self::new(name, BranchPresence::Prepared) }
    }

    /// Adds a sentence for people.
    #[must_use]
    pub fn with_note(mut self, note: impl AsRef<str>) -> Self {
        if !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(note.as_ref());
        self
    }
}

/// A session that waits for a lock of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockedSession {
    /// Its process id in the database.
    pub pid: i32,
    /// The database's user; empty if that may not be seen.
    pub user: String,
    /// What its application calls itself; empty if that may not be seen.
    pub application: String,
    /// Since it waits.
    pub waits: Duration,
}

impl BlockedSession {
    /// A session of that process id that has waited for so long.
    pub fn new(pid: i32, user: impl Into<String>, application: impl Into<String>, waits: Duration) -> Self {
        Self { pid, user: user.into(), application: application.into(), waits }
    }
}

/// Everything that a resource holds prepared of one cluster, or the first part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreparedFindings {
    /// One for each branch, the oldest first.
    pub findings: Vec<BranchFinding>,
    /// There are more than were asked for.
    pub more: bool,
}

impl PreparedFindings {
    /// The first `limit` of these.
    pub fn first(limit: usize, findings: impl IntoIterator<Item = BranchFinding>) -> Self {
        let mut all = findings.into_iter();
        let findings = all.by_ref().take(limit).collect();
        Self { findings, more: all.next().is_some() }
    }
}
