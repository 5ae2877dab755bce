//! The file: locked, opened under the settings that keep a promise, brought up to date.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::ConnectOptions as _;
use sqlx::migrate::Migrate as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};

use super::database;
use crate::decision_log::DecisionLogError;
use crate::decision_log::schema::{self, Migrated};

/// `path` with something added to its last part.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

pub(super) fn lock(path: &Path) -> Result<File, DecisionLogError> {
    let lock_path = beside(path, ".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let file = file.map_err(|error| DecisionLogError::Database(Box::new(error)))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DecisionLogError::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(DecisionLogError::Database(Box::new(error))),
    }
}

/// A dropped connection is closed by a thread of its own: how long to wait for one of ours.
const LINGER: Duration = Duration::from_secs(2);

/// A checked connection. The caller holds the lock file, so a file that is in use is in the hands of a
/// connection of ours that is still closing, or of somebody who does not know of the lock file.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, DecisionLogError> {
    let until = Instant::now() + LINGER;
    loop {
        match connect_once(path).await {
            Err(DecisionLogError::InUse { .. }) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            done => return done,
        }
    }
}

async fn connect_once(path: &Path) -> Result<SqliteConnection, DecisionLogError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // On systems where fsync does not reach the disk; elsewhere without effect.
        .pragma("fullfsync", "1")
        .pragma("checkpoint_fullfsync", "1")
        .busy_timeout(Duration::ZERO)
        .disable_statement_logging();
    let in_use =
        |error: sqlx::Error| match error.as_database_error().and_then(sqlx::error::DatabaseError::code) {
            // SQLITE_BUSY: somebody who does not know of our lock file, as the SQLite shell.
            Some(code) if code == "5" => DecisionLogError::InUse { path: path.display().to_string() },
            _ => database(error),
        };
    let mut connection = options.connect().await.map_err(in_use)?;
    let synchronous: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.map_err(in_use)?;
    if synchronous < 2 {
        let remedy = "use a SQLite that was built without a default against it";
        return Err(DecisionLogError::Refused {
            setting: "synchronous",
            found: synchronous.to_string(),
            remedy,
        });
    }
    let journal: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.map_err(in_use)?;
    if journal != "wal" {
        let remedy = "put the log on a local file system, where SQLite can keep a write-ahead log";
        return Err(DecisionLogError::Refused { setting: "journal_mode", found: journal, remedy });
    }
    // The log's content goes into the file anew, and is forced there.
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.map_err(in_use)?;
    Ok(connection)
}

pub(super) async fn run_migrations(connection: &mut SqliteConnection) -> Result<Migrated, DecisionLogError> {
    let migrator = schema::sqlite();
    let failed = |error| schema::failed(error, |_| false);
    connection.ensure_migrations_table(schema::SQLITE_TABLE).await.map_err(failed)?;
    let applied = connection.list_applied_migrations(schema::SQLITE_TABLE).await.map_err(failed)?;
    let missing = schema::missing(&migrator, &applied)?;
    if !missing.is_empty() {
        migrator.run_direct(None, connection, false).await.map_err(failed)?;
    }
    Ok(schema::done(&migrator, missing))
}
