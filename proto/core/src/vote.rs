//! A branch's answer to Prepare.

use std::fmt;
use std::sync::Arc;

/// A branch's answer to Prepare. A `Commit` vote is a promise: what it stands for is
/// durable at the resource before it is sent (AC3).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Vote {
    /// Prepared: can be committed or aborted at any later time, also after a crash.
    Commit(Evidence),
    /// Nothing was changed here and nothing is held any more; phase 2 does not concern it.
    ReadOnly,
    /// Already ended here without effect.
    Abort(AbortReason),
}

/// What identifies one *execution* of a branch at its resource, so that a later "not found"
/// can be told apart: committed, aborted by hand, or never prepared (law 8).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Evidence {
    /// Names the execution; equal if and only if the same prepared work is meant. For
    /// PostgreSQL the branch's 64-bit xid. The core compares it and nothing else (H3).
    pub execution: Arc<str>,
    /// What the resource needs to know that `execution` still means the same thing: for
    /// PostgreSQL the system identifier, timeline and WAL position (H6).
    pub anchor: Arc<str>,
}

impl Evidence {
    /// Longest allowed for each half, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Wraps the two halves.
    pub fn new(execution: impl Into<Arc<str>>, anchor: impl Into<Arc<str>>) -> Self {
        Self { execution: execution.into(), anchor: anchor.into() }
    }

    /// Whether both speak of the same execution.
    pub fn same_execution(&self, other: &Self) -> bool {
        self.execution == other.execution
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.execution, self.anchor)
    }
}

/// Why a transaction or a branch aborted: a kind for programs, a text for people.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AbortReason {
    /// What kind of thing happened.
    pub kind: AbortKind,
    /// One sentence for people; may name a branch or carry a database's message.
    pub message: Arc<str>,
}

impl AbortReason {
    /// Longest message kept, in bytes; a longer one is cut at a character boundary.
    pub const MESSAGE_BYTES_MAX: usize = 512;

    /// A reason with its text, cut to [`Self::MESSAGE_BYTES_MAX`].
    pub fn new(kind: AbortKind, message: &str) -> Self {
        let mut end = message.len().min(Self::MESSAGE_BYTES_MAX);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        Self { kind, message: message[..end].into() }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The kinds of abort.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AbortKind {
    /// The application asked for it.
    Requested,
    /// A branch voted no: the service refused, a constraint failed, a hook panicked.
    VotedNo,
    /// The local transaction had failed or was ended by its user before Prepare.
    LocalFailure,
    /// A lock was not had in time; across databases the usual face of a deadlock (H12).
    LockTimeout,
    /// Not every vote arrived before the deadline.
    Deadline,
    /// No instance that could prepare a branch was attached.
    NotAttached,
    /// The branches named at Commit are not the branches enlisted (law 9).
    BranchSetDiffers,
    /// An operator resolved it.
    Resolved,
    /// Its coordinator ended before deciding; closed by an inquiry or a takeover.
    OwnerEnded,
    /// The decision record could not be written and the transaction was closed instead.
    LogRefused,
}
