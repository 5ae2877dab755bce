//! Opens the local transaction of a branch.
//!
//! A `Pool::begin()` that is dropped half-way leaves its session inside a transaction; the pool
//! hands it on, and the next plain INSERT is acknowledged and never visible (sqlx 0.9, seen).
//! A service's handler is dropped whenever its caller hangs up, so a session is closed unless its
//! begin has been answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pactum_core::id::PreparedName;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgTransactionManager;
use sqlx::{PgConnection, PgPool, Postgres, SqlSafeStr as _};
use sqlx_core::transaction::TransactionManager as _;

use super::branch::BranchError;
use super::sql::{Sql, describe};

/// How long an abandoned session may outlive its deadline before the database itself ends it.
/// Long enough for an Abort that is on its way to arrive first.
const GRACE: Duration = Duration::from_secs(5);

/// How long the ordinary rollback of an open transaction may take before its session is closed
/// instead. The server then rolls back by itself.
const ROLLBACK_TIME_MAX: Duration = Duration::from_secs(5);

/// How a branch's local transaction begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeginOptions {
    read_only: bool,
    isolation: Option<Isolation>,
    lock_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isolation {
    RepeatableRead,
    Serializable,
}

impl BeginOptions {
    /// The database's own isolation level, for reading and writing, with lock waits bounded by
    /// the transaction's deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// `READ ONLY`: the branch votes read-only, costs no PREPARE, and ends at its vote. Anything
    /// that it holds is let go there, before the other branches have ended.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// `ISOLATION LEVEL REPEATABLE READ`.
    #[must_use]
    pub fn repeatable_read(mut self) -> Self {
        self.isolation = Some(Isolation::RepeatableRead);
        self
    }

    /// `ISOLATION LEVEL SERIALIZABLE`: serializable within this database, not across databases.
    #[must_use]
    pub fn serializable(mut self) -> Self {
        self.isolation = Some(Isolation::Serializable);
        self
    }

    /// Waits for any one lock no longer than this. Nine tenths of the time left until the
    /// transaction's deadline bound it in any case: no database sees a deadlock that spans two of them.
    /// Below one millisecond counts as one.
    #[must_use]
    pub fn lock_timeout(mut self, longest: Duration) -> Self {
        self.lock_timeout = Some(longest);
        self
    }

    /// Whether the branch begins `READ ONLY`.
    pub(super) fn is_read_only(self) -> bool {
        self.read_only
    }

    fn statement(self, name: &PreparedName, left: Duration) -> Sql {
        // Shorter than the whole: a lock wait is then told as such, not as a statement that was
        // slow, and the vote arrives before the deadline.
        let lock = left.saturating_sub(left / 10);
        let lock = self.lock_timeout.map_or(lock, |longest| longest.min(lock));
        Sql::default()
            .text("BEGIN")
            .text(match self.isolation {
                None => "",
                Some(Isolation::RepeatableRead) => " ISOLATION LEVEL REPEATABLE READ",
                Some(Isolation::Serializable) => " ISOLATION LEVEL SERIALIZABLE",
            })
            .text(if self.read_only { " READ ONLY" } else { "" })
            .text("; SET LOCAL pactum.branch = '")
            .splice(name)
            .text("'; SET LOCAL lock_timeout = ")
            .splice(&milliseconds(lock))
            .text("; SET LOCAL statement_timeout = ")
            .splice(&milliseconds(left))
            // If this process is paused or cut off, nobody else can end an open transaction.
            .text("; SET LOCAL idle_in_transaction_session_timeout = ")
            .splice(&milliseconds(left.saturating_add(GRACE)))
    }
}

/// A length for PostgreSQL's time settings: zero would mean unlimited, and they are 31 bits wide.
pub(super) fn milliseconds(length: Duration) -> u32 {
    let longest = i32::MAX.unsigned_abs();
    u32::try_from(length.as_millis()).map_or(longest, |length| length.clamp(1, longest))
}

/// An open local transaction. Dropped, it is rolled back.
#[derive(Debug)]
pub(super) struct LocalTransaction {
    /// `None` once it has been ended.
    connection: Option<PoolConnection<Postgres>>,
    /// The branch that it belongs to.
    pub(super) name: PreparedName,
    /// How it began.
    pub(super) options: BeginOptions,
}

impl LocalTransaction {
    /// Begins one on a connection of the pool, for work that ends at `deadline`. May be dropped
    /// at any await without harm to the pool.
    pub(super) async fn begin(
        pool: &PgPool,
        name: PreparedName,
        deadline: Instant,
        options: BeginOptions,
    ) -> Result<Self, BranchError> {
        // Dropped while it waits, it has sent nothing yet. Apart, since it needs more room than all else here.
        match tokio::time::timeout_at(deadline.into(), Box::pin(pool.acquire())).await {
            Ok(Ok(connection)) => begin_on(connection, name, deadline, options).await,
            Ok(Err(error)) => Err(BranchError::NoConnection { message: describe(&error).into() }),
            Err(_) => Err(BranchError::DeadlinePassed),
        }
    }

    /// The session.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect(HELD)
    }

    /// For reading.
    pub(super) fn connection_ref(&self) -> &PgConnection {
        self.connection.as_ref().expect(HELD)
    }

    /// Rolls back what is open and gives the session back to the pool; closes it if that cannot
    /// be done cleanly. Either way nothing of the transaction can commit any more.
    pub(super) async fn roll_back(mut self) {
        if let Some(connection) = self.connection.take() {
            roll_back(connection).await;
        }
    }

    /// Gives the session back to the pool, which sends the rollback and does not take the session before
    /// that is answered. For a transaction that nothing has happened in.
    pub(super) fn let_go(mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        // As in `roll_back`: at any other depth something would stay open.
        if PgTransactionManager::get_transaction_depth(&connection) == 1 {
            PgTransactionManager::start_rollback(&mut connection);
        } else {
            connection.close_on_drop();
        }
    }

    /// Closes the session, for one whose state is not known.
    pub(super) fn close(mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.close_on_drop();
        }
    }
}

const HELD: &str = "the connection is taken only by the calls that consume the transaction";

impl Drop for LocalTransaction {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        // Without a runtime not even the pool can take the connection back.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(roll_back(connection));
            }
            Err(_) => connection.close_on_drop(),
        }
    }
}

async fn begin_on(
    connection: PoolConnection<Postgres>,
    name: PreparedName,
    deadline: Instant,
    options: BeginOptions,
) -> Result<LocalTransaction, BranchError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(BranchError::DeadlinePassed);
    }
    let mut beginning = Beginning(Some(connection));
    let statement = options.statement(&name, left).trusted().into_sql_str();
    let begun = tokio::time::timeout(
        left.saturating_add(GRACE),
        PgTransactionManager::begin(beginning.session(), Some(statement)),
    )
    .await;
    let message = match begun {
        Ok(Ok(())) => {
            return Ok(LocalTransaction { connection: beginning.answered(), name, options });
        }
        Ok(Err(error)) => describe(&error).into(),
        Err(_) => Arc::from("the database did not answer in time"),
    };
    Err(BranchError::NotBegun { message })
}

/// A session that may be inside a transaction that nobody knows of: dropped, it is closed.
struct Beginning(Option<PoolConnection<Postgres>>);

impl Beginning {
    fn session(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("taken only once it is answered")
    }

    /// The state of the session is known.
    fn answered(&mut self) -> Option<PoolConnection<Postgres>> {
        self.0.take()
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.close_on_drop();
        }
    }
}

/// Rolls back and gives the connection back. sqlx counts begins; only at a depth of one does
/// its rollback end the whole transaction, and at any other (a nested transaction was leaked)
/// the session would go back with a transaction open.
async fn roll_back(mut connection: PoolConnection<Postgres>) {
    let mut clean = false;
    if PgTransactionManager::get_transaction_depth(&connection) == 1 {
        let rollback = PgTransactionManager::rollback(&mut connection);
        clean = matches!(tokio::time::timeout(ROLLBACK_TIME_MAX, rollback).await, Ok(Ok(())));
    }
    if !clean {
        connection.close_on_drop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H12: no wait is unlimited, and none of zero length, which PostgreSQL takes for unlimited.
    #[test]
    fn a_time_setting_is_never_zero_and_never_too_wide() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_micros(10)), 1);
        assert_eq!(milliseconds(Duration::from_secs(2)), 2000);
        assert_eq!(milliseconds(Duration::MAX), i32::MAX.unsigned_abs());
    }
}
