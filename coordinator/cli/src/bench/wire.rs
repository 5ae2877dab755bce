//! What `pactum bench` and its children say to each other: orders, then commands, on stdin; reports
//! on stdout; each one line of JSON. Orders may hold passwords, which is why they are not arguments.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a child is to be; its first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Orders {
    /// A coordinator as `pactum serve` runs it, with these settings other than by default.
    Coordinator(CoordinatorOrders),
    /// A participant that votes at once and does nothing.
    Idle(IdleOrders),
    /// A participant with accounts in PostgreSQL.
    Bank(BankOrders),
    /// A participant that speaks for a PostgreSQL database.
    Keeper(KeeperOrders),
    /// Makes load, as it is commanded.
    Load,
    /// Makes load without a pause, and is told when something happens to those whom it needs.
    Phased(PhasedOrders),
    /// Opens transactions and leaves them open.
    Opener(OpenerOrders),
    /// Makes load of which it is told how much, by a schedule or by answers.
    Flood(FloodOrders),
}

/// What a coordinator is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CoordinatorOrders {
    /// The URL of its log.
    pub(super) log: String,
    /// Where it serves applications and participants; port 0 for any free one.
    pub(super) listen: SocketAddr,
    /// Another than the default age at which undecided transactions are recorded for operators.
    pub(super) prepare_record_after: Option<Duration>,
}

/// What a participant that does nothing is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct IdleOrders {
    /// Its resource.
    pub(super) resource: String,
    /// Where the coordinator serves it.
    pub(super) coordinator: String,
}

/// What a participant with accounts is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BankOrders {
    /// Its resource.
    pub(super) resource: String,
    /// Where the coordinator serves it.
    pub(super) coordinator: String,
    /// Its database.
    pub(super) url: String,
    /// Connections for work; the resource opens its own for ending branches.
    pub(super) connections: u32,
}

/// What a participant that speaks for a PostgreSQL database is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeeperOrders {
    /// Its resource.
    pub(super) resource: String,
    /// Where the coordinator serves it.
    pub(super) coordinator: String,
    /// The URL of its database.
    pub(super) database: String,
    /// Connections for ending branches.
    pub(super) connections: u32,
}

/// What a child that makes load is told to do next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    /// What to do, again and again.
    pub(super) work: Work,
    /// How many do it at once.
    pub(super) in_flight: usize,
    /// Before anything is measured.
    pub(super) warm_up: Duration,
    /// How long to measure.
    pub(super) measure: Duration,
}

/// Who opens transactions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OpenerOrders {
    /// The coordinator.
    pub(super) coordinator: String,
    /// A participant of its own for each, with a branch in every transaction.
    pub(super) resources: Vec<String>,
}

/// Opens so many more transactions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Open {
    /// How many.
    pub(super) transactions: u32,
}

/// What load of a known amount is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FloodOrders {
    /// The transactions.
    pub(super) work: SubmitWork,
    /// Streams that they are spread over, each on a connection of its own.
    pub(super) applications: usize,
}

/// So much load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Flood {
    /// How much.
    pub(super) amount: Amount,
    /// Before anything is measured.
    pub(super) warm_up: Duration,
    /// How long to measure.
    pub(super) measure: Duration,
}

/// What makes the next transaction begin.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Amount {
    /// An answer: so many are always in flight.
    InFlight(usize),
    /// The clock: so many in a second, whatever is answered.
    PerSecond(f64),
}

/// What load without a pause is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PhasedOrders {
    /// The transactions.
    pub(super) work: SubmitWork,
    /// How many at once.
    pub(super) in_flight: usize,
}

/// What such load is told while it runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Turn {
    /// What begins from now on belongs to this phase. The first is [`Phase::WarmUp`].
    Phase(Phase),
    /// Nothing more is begun; what was measured is reported when nothing is in flight.
    End,
}

/// Parts of such a run. A transaction belongs to the one in which it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Not of interest.
    WarmUp,
    /// Nothing has happened.
    Before,
    /// Somebody is away, or has just come back.
    During,
    /// It is over.
    After,
}

impl Phase {
    /// All, in order.
    pub(super) const ALL: [Self; 4] = [Self::WarmUp, Self::Before, Self::During, Self::After];
}

/// What is done again and again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// Transactions with a branch at each resource, by the SDK.
    Submit(SubmitWork),
    /// The same by unary calls.
    UnarySubmit(SubmitWork),
    /// Unary calls that do nothing: the health check at that address.
    Nothing {
        /// The coordinator.
        coordinator: String,
    },
    /// Rows of the decision log, written by statements of nothing else.
    Rows(RowsWork),
    /// Transfers between two banks, by the SDK.
    Transfer(TransferWork),
    /// The same by two-phase commit without a coordinator.
    HandWritten(HandWrittenWork),
    /// The same two updates in one local transaction.
    OneDatabase(OneDatabaseWork),
    /// Transactions of one branch that decides in its own database.
    OneBranch(OneBranchWork),
}

/// Transactions of branches that do nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SubmitWork {
    /// The coordinator.
    pub(super) coordinator: String,
    /// A branch at each.
    pub(super) resources: Vec<String>,
    /// What the branches do.
    pub(super) operation: String,
}

/// Rows like one that a coordinator wrote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RowsWork {
    /// The database.
    pub(super) url: String,
    /// Rows in one statement.
    pub(super) batch: usize,
    /// The text of the column `branches`.
    pub(super) branches: String,
    /// The text of the column `details`.
    pub(super) details: String,
}

/// Transfers with a branch at each of two banks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TransferWork {
    /// The coordinator.
    pub(super) coordinator: String,
    /// The banks' resources.
    pub(super) banks: [String; 2],
}

/// Transfers between two databases without a coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HandWrittenWork {
    /// The banks' databases.
    pub(super) banks: [String; 2],
    /// The database with the decisions; `None` to keep none.
    pub(super) decisions: Option<String>,
    /// Connections to each.
    pub(super) connections: u32,
}

/// Transfers within one database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OneDatabaseWork {
    /// The database.
    pub(super) bank: String,
    /// Connections to it.
    pub(super) connections: u32,
}

/// Transactions with one branch, at a bank that has a marker table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OneBranchWork {
    /// The coordinator.
    pub(super) coordinator: String,
    /// The bank's database.
    pub(super) bank: String,
    /// Connections to it.
    pub(super) connections: u32,
}

/// What a child reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// It does what it is for.
    Ready {
        /// Where a coordinator serves applications and participants.
        public: Option<SocketAddr>,
        /// Where it serves operators.
        admin: Option<SocketAddr>,
    },
    /// The warm-up is over.
    Began,
    /// The load has ended, and nothing is in flight.
    Ended(Measured),
    /// The same of load in phases, in the order of [`Phase::ALL`].
    Phases(Vec<PhaseMeasured>),
    /// So many transactions were opened as it was told.
    Opened {
        /// What that took.
        seconds: f64,
    },
    /// The load has ended, and all that will be answered is.
    Flooded(FloodMeasured),
    /// It cannot go on, in words.
    Failed {
        /// What is wrong and what to do.
        error: String,
    },
}

/// What was measured between warm-up and end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// How long that was.
    pub(super) seconds: f64,
    /// Transactions that committed in that time, or rows, or calls.
    pub(super) done: u64,
    /// The same over the whole run, warm-up and end included.
    pub(super) done_in_all: u64,
    /// Anything else than a commit.
    pub(super) errors: u64,
    /// The first of them, in words.
    pub(super) first_error: Option<String>,
    /// Milliseconds that half of them took at most; of a statement for rows.
    pub(super) p50_ms: f64,
    /// Of 99 in a hundred.
    pub(super) p99_ms: f64,
    /// Of 999 in a thousand.
    pub(super) p999_ms: f64,
}

impl Measured {
    /// Done in one second.
    pub(super) fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let done = self.done as f64;
        done / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// What became of the transactions that began in one phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct PhaseMeasured {
    /// How long it was.
    pub(super) seconds: f64,
    /// Transactions that committed.
    pub(super) committed: u64,
    /// Those that were aborted: an outcome, told with its reason; here by its kind.
    pub(super) aborted: BTreeMap<String, u64>,
    /// Those without an outcome.
    pub(super) errors: u64,
    /// The first of them, in words.
    pub(super) first_error: Option<String>,
    /// Milliseconds until the answer, of half of them at most; commits and aborts alike.
    pub(super) p50_ms: f64,
    /// Of 99 in a hundred.
    pub(super) p99_ms: f64,
    /// Of the slowest that committed.
    pub(super) longest_commit_ms: f64,
    /// Of the slowest that was aborted.
    pub(super) longest_abort_ms: f64,
}

/// What became of load of a known amount.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct FloodMeasured {
    /// How long was measured.
    pub(super) seconds: f64,
    /// Calls that were due in that time.
    pub(super) offered: u64,
    /// Commits that were answered in that time.
    pub(super) committed: u64,
    /// Calls that were turned away in that time, with the promise that nothing happened and a time to wait.
    pub(super) shed: u64,
    /// Calls of the whole run, warm-up and end included.
    pub(super) offered_in_all: u64,
    /// Commits of the whole run.
    pub(super) committed_in_all: u64,
    /// Calls turned away in the whole run.
    pub(super) shed_in_all: u64,
    /// Calls of the whole run that were answered otherwise.
    pub(super) errors: u64,
    /// The first of them, in words.
    pub(super) first_error: Option<String>,
    /// Calls that nothing was heard of.
    pub(super) unanswered: u64,
    /// Milliseconds from when a call was due until its commit was answered, of half of them at most.
    pub(super) p50_ms: f64,
    /// Of 99 in a hundred.
    pub(super) p99_ms: f64,
    /// Of 99 in a hundred of those turned away.
    pub(super) shed_p99_ms: f64,
}
