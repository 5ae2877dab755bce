//! Where the log is: a throw-away PostgreSQL server of its own, a file, or memory.

use std::str::FromStr as _;
use std::time::Duration;

use pactum_postgres_server::PostgresServer;
use pactum_proto::error::ErrorCode;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::options::LogKind;
use crate::exit::Exit;
use crate::failure::Failure;

/// Between two looks at whether all connections have ended.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Sessions of processes that have ended, or of pools that were closed, are gone by then.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The log's place. Everything is gone when this is dropped.
#[derive(Debug)]
pub(super) enum Place {
    /// A server that holds the log and nothing else.
    Postgres(Box<PostgresServer>),
    /// A directory for files.
    Sqlite(TempDir),
    /// Nothing.
    Memory,
}

/// The texts of a commit's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SampleRow {
    /// Its branches.
    pub(super) branches: String,
    /// What the application said of it.
    pub(super) details: String,
}

impl Place {
    /// Makes one. With a delay, each force of a PostgreSQL log takes that much longer.
    pub(super) async fn make(kind: LogKind, delay: Option<Duration>) -> Result<Self, Failure> {
        match kind {
            LogKind::Postgres => Ok(Self::Postgres(Box::new(start_server(&settings(delay)).await?))),
            LogKind::Sqlite => tempfile::Builder::new()
                .prefix("pactum-bench-")
                .tempdir()
                .map(Self::Sqlite)
                .map_err(|error| Failure::new(Exit::Failed, "no directory for the log").because(&error)),
            LogKind::Memory => Ok(Self::Memory),
        }
    }

    /// The URL of the log.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Postgres(server) => server.superuser_url(),
            Self::Sqlite(directory) => format!("sqlite:{}", directory.path().join("log.db").display()),
            Self::Memory => "memory:".to_owned(),
        }
    }

    /// The process whose children serve the log.
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Postgres(server) => server.pid(),
            Self::Sqlite(_) | Self::Memory => None,
        }
    }

    /// Empties the log of decisions, so that each run finds it as the others did. Nobody may be using it.
    pub(super) async fn empty(&self) -> Result<(), Failure> {
        match self {
            Self::Postgres(server) => {
                let mut connection = connect(&server.superuser_url()).await?;
                let is_made = "SELECT to_regclass('pactum.decisions') IS NOT NULL";
                let made: bool = sqlx::query_scalar(is_made)
                    .fetch_one(&mut connection)
                    .await
                    .map_err(|error| failed(&error))?;
                if made {
                    let empty = "TRUNCATE pactum.decisions, pactum.stragglers, pactum.undecided";
                    sqlx::raw_sql(empty).execute(&mut connection).await.map_err(|error| failed(&error))?;
                }
                sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await.map_err(|error| failed(&error))?;
                connection.close().await.map_err(|error| failed(&error))
            }
            Self::Sqlite(directory) => {
                let entries = std::fs::read_dir(directory.path());
                let removed = entries.and_then(|mut entries| {
                    entries.try_for_each(|entry| std::fs::remove_file(entry?.path()))
                });
                removed.map_err(|error| {
                    Failure::new(Exit::Failed, "the log's file cannot be removed").because(&error)
                })
            }
            Self::Memory => Ok(()),
        }
    }

    /// How often the server has forced its write-ahead log since it was made. Exact, because a session
    /// reports at its end, and this waits until nobody else is connected. `None` without a server.
    pub(super) async fn forces(&self) -> Result<Option<i64>, Failure> {
        let Self::Postgres(server) = self else { return Ok(None) };
        let mut connection = connect(&server.superuser_url()).await?;
        let others = "SELECT count(*) FROM pg_stat_activity \
                      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let until = Instant::now() + GONE_WITHIN;
        loop {
            let count: i64 = sqlx::query_scalar(others)
                .fetch_one(&mut connection)
                .await
                .map_err(|error| failed(&error))?;
            if count == 0 {
                break;
            }
            if Instant::now() >= until {
                let left = format!("{count} sessions at the log's server have not ended");
                return Err(Failure::new(Exit::Failed, left));
            }
            sleep(LOOK_AGAIN_AFTER).await;
        }
        let version: String = sqlx::query_scalar("SELECT current_setting('server_version_num')")
            .fetch_one(&mut connection)
            .await
            .map_err(|error| failed(&error))?;
        // From 18 on the figure stands in another view.
        let forces = if version.parse::<u32>().is_ok_and(|version| version >= 180_000) {
            "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'"
        } else {
            "SELECT wal_sync FROM pg_stat_wal"
        };
        let forces =
            sqlx::query_scalar(forces).fetch_one(&mut connection).await.map_err(|error| failed(&error))?;
        connection.close().await.map_err(|error| failed(&error))?;
        Ok(Some(forces))
    }

    /// What a query that counts says of a PostgreSQL log; 0 of any other.
    pub(super) async fn count(&self, query: &'static str) -> Result<u64, Failure> {
        let Self::Postgres(server) = self else { return Ok(0) };
        let mut connection = connect(&server.superuser_url()).await?;
        let count = sqlx::query_scalar::<_, i64>(query).fetch_one(&mut connection).await;
        let count = count.map_err(|error| failed(&error))?;
        connection.close().await.map_err(|error| failed(&error))?;
        Ok(count.unsigned_abs())
    }

    /// The texts of some commit's row.
    pub(super) async fn sample(&self) -> Result<Option<SampleRow>, Failure> {
        let Self::Postgres(server) = self else { return Ok(None) };
        let mut connection = connect(&server.superuser_url()).await?;
        let row = sqlx::query("SELECT branches, details FROM pactum.decisions WHERE number > 0 LIMIT 1")
            .fetch_optional(&mut connection)
            .await
            .map_err(|error| failed(&error))?;
        connection.close().await.map_err(|error| failed(&error))?;
        let read = |row: &sqlx::postgres::PgRow| {
            Ok(SampleRow { branches: row.try_get("branches")?, details: row.try_get("details")? })
        };
        row.as_ref().map(read).transpose().map_err(|error: sqlx::Error| failed(&error))
    }

    /// Stops the server, which blocks, and removes everything.
    pub(super) async fn remove(self) {
        // A server that does not stop is stopped by its watchdog.
        drop(tokio::task::spawn_blocking(move || drop(self)).await);
    }
}

/// Starts a throw-away server.
pub(super) async fn start_server(settings: &[(&'static str, String)]) -> Result<PostgresServer, Failure> {
    let settings = settings.to_vec();
    let failed = || Failure::new(Exit::Failed, "the throw-away PostgreSQL server could not be started");
    let started = tokio::task::spawn_blocking(move || {
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        PostgresServer::start_with(&settings)
    });
    let server = started.await.map_err(|error| failed().because(&error))?;
    server.map_err(|error| failed().because(&error).code(ErrorCode::PostgresMissing))
}

/// Of every server here: room for what a run writes, so that no checkpoint falls into one.
pub(super) fn settings(delay: Option<Duration>) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("max_wal_size", "8GB".to_owned()),
        ("checkpoint_timeout", "30min".to_owned()),
        ("shared_buffers", "512MB".to_owned()),
        ("track_wal_io_timing", "off".to_owned()),
    ];
    if let Some(delay) = delay {
        // The backend that forces waits so long before it does; with no siblings asked for, always.
        settings.push(("commit_delay", delay.as_micros().to_string()));
        settings.push(("commit_siblings", "0".to_owned()));
    }
    settings
}

/// A connection for looking around.
pub(super) async fn connect(url: &str) -> Result<PgConnection, Failure> {
    let options = PgConnectOptions::from_str(url).map_err(|error| failed(&error))?;
    options.connect().await.map_err(|error| failed(&error))
}

fn failed(error: &sqlx::Error) -> Failure {
    Failure::new(Exit::Failed, "the throw-away PostgreSQL server does not answer as it should").because(error)
}
