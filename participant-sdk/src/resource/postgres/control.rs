//! Connections of our own, for ending branches.
//!
//! They are not the service's: if all of its connections hold branches that wait for a lock
//! which a prepared branch holds, the COMMIT PREPARED that would release it must not queue
//! behind them. And no setting of the service's may cut one short: a commit that is cancelled
//! while it waits for a standby answers success with a warning (`failure-matrix` H8, seen).

use std::future::Future;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool, Postgres};

use super::sql::describe;
use crate::resource::HookError;

/// Branches ended at the same moment by one process. Ending one is a single forced write, and
/// the server groups those; more connections buy little and count against `max_connections`.
pub(super) const CONNECTIONS_MAX: u32 = 8;

/// A statement that ends or looks up a branch waits for nothing but the disk and, with
/// synchronous replication, the standby. One that takes longer is given up as unknown.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(30);

/// To a connection of our own; the pool tries for so long where the server refuses to listen.
const ACQUIRE_TIME_MAX: Duration = Duration::from_secs(5);

/// The pool of connections for ending branches, like the service's in everything else.
pub(super) fn pool_like(pool: &PgPool) -> PgPool {
    let options: PgPoolOptions = pool.options().clone();
    let connect = (*pool.connect_options()).clone().options([
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
    ]);
    options
        .min_connections(0)
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIME_MAX)
        .test_before_acquire(false)
        .connect_lazy_with(connect)
}

/// A connection that goes back to its pool only if its last statement was answered.
#[derive(Debug)]
pub(super) struct Control {
    connection: Option<PoolConnection<Postgres>>,
    answered: bool,
}

impl Control {
    /// Takes one from the pool.
    pub(super) async fn acquire(pool: &PgPool) -> Result<Self, HookError> {
        match pool.acquire().await {
            Ok(connection) => Ok(Self { connection: Some(connection), answered: true }),
            Err(error) => Err(HookError::new(format!("no connection to the database: {}", describe(&error)))),
        }
    }

    /// The session, for statements run under [`bounded`](Self::bounded).
    pub(super) fn session(&mut self) -> &mut PgConnection {
        self.answered = false;
        self.connection.as_mut().expect("taken only when this is dropped")
    }

    /// Says that the server has answered everything sent: the session may be used again.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.as_mut()
            && !self.answered
        {
            connection.close_on_drop();
        }
    }
}

/// Gives a statement up as unanswered after a time that only a fault explains.
pub(super) async fn bounded<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(STATEMENT_TIME_MAX, statement).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the database did not answer in time",
        ))),
    }
}
