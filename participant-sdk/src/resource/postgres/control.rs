//! Connections of our own, for ending branches.
//!
//! They are not the service's: if all of its connections hold branches that wait for a lock
//! which a prepared branch holds, the COMMIT PREPARED that would release it must not queue
//! behind them. And no setting of the service's may cut one short: a commit that is cancelled
//! while it waits for a standby answers success with a warning (`failure-matrix` H8, seen).

use std::future::Future;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::Semaphore;

use super::at_hand::AtHand;
use super::sql::describe;
use crate::resource::HookError;

/// Fewest and most connections for ending branches, unless told otherwise. Ending one is a single
/// forced write, and the server groups those of one moment; beyond some dozens more buy little.
const CONNECTIONS_DEFAULT_MIN: u32 = 8;
const CONNECTIONS_DEFAULT_MAX: u32 = 32;

/// A statement that ends or looks up a branch waits for nothing but the disk and, with
/// synchronous replication, the standby. One that takes longer is given up as unknown.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(30);

/// To a connection of our own; the pool tries for so long where the server refuses to listen.
const ACQUIRE_TIME_MAX: Duration = Duration::from_secs(5);

/// How many connections for ending branches go with a service's pool: half as many as it may have itself,
/// since a branch holds one of those for its whole work and one of ours for one statement.
pub(super) fn connections_for(pool: &PgPool) -> u32 {
    (pool.options().get_max_connections() / 2).clamp(CONNECTIONS_DEFAULT_MIN, CONNECTIONS_DEFAULT_MAX)
}

/// The connections for ending branches, and whose turn it is to use one.
#[derive(Debug)]
pub(super) struct Ending {
    /// Like the service's pool in everything else.
    pool: PgPool,
    at_hand: AtHand,
    /// As many as there are connections. More wait here, in order and for as long as it takes: the pool
    /// gives up on who waits for long, and he would have to come again.
    pub(super) turns: Semaphore,
}

impl Ending {
    /// At most so many connections, made with the options of the service's pool. Connects to nothing yet.
    pub(super) fn like(pool: &PgPool, connections_max: u32) -> Self {
        let options: PgPoolOptions = pool.options().clone();
        let connect = (*pool.connect_options()).clone().options([
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
        ]);
        let connections_max = connections_max.max(1);
        let pool = options
            .min_connections(0)
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIME_MAX)
            .test_before_acquire(false)
            .connect_lazy_with(connect);
        Self { pool, at_hand: AtHand::default(), turns: Semaphore::new(connections_max as usize) }
    }

    /// Takes a connection, if it can be the one that was used last.
    pub(super) async fn acquire(&self) -> Result<Control, HookError> {
        match self.at_hand.take(&self.pool).await {
            Ok((connection, away_since)) => {
                let home = Some((self.at_hand.clone(), away_since));
                Ok(Control { connection: Some(connection), answered: true, home })
            }
            Err(error) => Err(no_connection(&error)),
        }
    }
}

/// Connections for what operators ask: so many at once, each let go of soon after.
const LOOKING_CONNECTIONS_MAX: u32 = 2;
const LOOKING_IDLE_MAX: Duration = Duration::from_secs(10);

/// A statement that only looks, for a person, is given up by the server after so many milliseconds.
pub(super) const LOOKING_STATEMENT_MILLIS: &str = "2000";

/// To a connection for looking. A question is answered within seconds or not at all.
const LOOKING_ACQUIRE_TIME_MAX: Duration = Duration::from_secs(3);

/// Connections that only look, like the service's in all but their time limits. Connects to nothing yet.
pub(super) fn for_looking(pool: &PgPool) -> PgPool {
    let options: PgPoolOptions = pool.options().clone();
    let connect = (*pool.connect_options()).clone().options([
        ("statement_timeout", LOOKING_STATEMENT_MILLIS),
        ("lock_timeout", LOOKING_STATEMENT_MILLIS),
        ("idle_in_transaction_session_timeout", "0"),
        ("default_transaction_read_only", "on"),
    ]);
    options
        .min_connections(0)
        .max_connections(LOOKING_CONNECTIONS_MAX)
        .acquire_timeout(LOOKING_ACQUIRE_TIME_MAX)
        .idle_timeout(LOOKING_IDLE_MAX)
        .test_before_acquire(false)
        .connect_lazy_with(connect)
}

/// A connection that goes back to its pool only if its last statement was answered.
#[derive(Debug)]
pub(super) struct Control {
    connection: Option<PoolConnection<Postgres>>,
    answered: bool,
    /// Where it is kept, and since when it has been away from its pool; `None` if it goes back there.
    home: Option<(AtHand, Instant)>,
}

impl Control {
    /// Takes one from the pool.
    pub(super) async fn acquire(pool: &PgPool) -> Result<Self, HookError> {
        match pool.acquire().await {
            Ok(connection) => Ok(Self { connection: Some(connection), answered: true, home: None }),
            Err(error) => Err(no_connection(&error)),
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
        let Some(mut connection) = self.connection.take() else { return };
        match (self.answered, self.home.take()) {
            (true, None) => {}
            (true, Some((at_hand, away_since))) => at_hand.keep(connection, away_since),
            (false, home) => {
                connection.close_on_drop();
                if let Some((at_hand, _)) = home {
                    // What happened to this one may have happened to all.
                    at_hand.let_go();
                }
            }
        }
    }
}

fn no_connection(error: &sqlx::Error) -> HookError {
    HookError::new(format!("no connection to the database: {}", describe(error)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_for_ending_follow_the_size_of_the_services_pool() {
        let ending = |max| {
            let options = PgPoolOptions::new().max_connections(max);
            connections_for(&options.connect_lazy("postgres://127.0.0.1:1/none").unwrap())
        };
        assert_eq!([1, 10, 16, 30, 64, 100, 1000].map(ending), [8, 8, 8, 15, 32, 32, 32]);
    }
}
