//! What the demo and its children say to each other: orders on stdin, one line of JSON; reports on
//! stdout, one JSON object a line. Orders may hold passwords, which is why they are not arguments.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pactum_core::id::Gid;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What a coordinator is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CoordinatorOrders {
    pub(super) log: String,
    pub(super) listen: SocketAddr,
    pub(super) admin_listen: SocketAddr,
    /// Removed at the end with all that is in it: a parent that was killed cannot.
    pub(super) scratch: Option<PathBuf>,
    /// Another one than the default.
    pub(super) participant_grace: Option<Duration>,
    pub(super) reporting: Reporting,
}

/// What a bank is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BankOrders {
    /// Its name: of the resource, and of the bank.
    pub(super) name: String,
    /// Where the coordinator serves.
    pub(super) coordinator: String,
    pub(super) listen: SocketAddr,
    pub(super) store: Store,
    pub(super) reporting: Reporting,
}

/// Where a bank keeps its money.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Store {
    /// A file of its own.
    Sqlite(PathBuf),
    /// A database of its own.
    Postgres {
        /// With the password.
        url: String,
        /// Size of its pool.
        connections: u32,
    },
}

/// Which steps to tell, and at which to die.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Reporting {
    /// Steps of this many transactions are told, the first ones seen; a pipe full of steps would slow
    /// what it measures.
    pub(super) transactions: usize,
    /// Where to die, once.
    pub(super) kill_at: Option<KillAt>,
}

/// Where to die.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KillAt {
    /// The step.
    pub(super) step: String,
    /// After so many transactions have come to it.
    pub(super) nth: u32,
}

/// What a child reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(super) enum Report {
    /// It serves.
    Ready {
        /// For applications.
        public: SocketAddr,
        /// For operators; a bank has none.
        admin: Option<SocketAddr>,
    },
    /// Something was done.
    Step(StepReport),
    /// It cannot go on, in words.
    Failed {
        /// What is wrong and what to do.
        error: String,
    },
}

/// Something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepReport {
    /// By [`micros`].
    pub(super) at_us: u64,
    /// The step's name.
    pub(super) step: String,
    /// The transaction, if it belongs to one.
    pub(super) gid: Option<Gid16>,
    /// The branch, if it belongs to one.
    pub(super) branch: Option<u64>,
    /// Whether the child dies now.
    pub(super) fatal: bool,
}

/// A gid as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Gid16(pub(super) Gid);

impl TryFrom<String> for Gid16 {
    type Error = pactum_core::id::NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Gid16> for String {
    fn from(gid: Gid16) -> Self {
        gid.0.to_string()
    }
}

/// Microseconds on a clock that all processes of this machine share and that nobody sets. Used for
/// showing only.
pub(super) fn micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}
