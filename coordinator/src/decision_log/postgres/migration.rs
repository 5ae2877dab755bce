//! Bringing the schema of a log in PostgreSQL up to date.

use sqlx::migrate::Migrate as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::PostgresLogOptions;
use super::session::{Commits, Session, SessionError};
use crate::decision_log::DecisionLogError;
use crate::decision_log::schema::{self, Migrated};

/// Brings the schema of the log at `url` up to date, as a role that may. Repeatable; two at once wait
/// for each other; each step is durable whole or not at all.
///
/// # Errors
/// The log cannot be reached or refuses, or it is newer than this program.
pub async fn migrate(url: &str) -> Result<Migrated, DecisionLogError> {
    let PostgresLogOptions { hosts, answer_limit, .. } = PostgresLogOptions::from_url(url)?;
    // For its checks: a schema that is made on a server with fsync off may be gone tomorrow.
    let connect = async |options: PgConnectOptions| {
        Session::connect(&options, Commits::Forced, answer_limit).await?;
        Ok(options)
    };
    run_migrations(hosts.first(connect).await?).await
}

/// Checks the schema on a connection, and makes or migrates it on that server if this role may.
pub(super) async fn prepare(
    session: &mut Session,
    options: PgConnectOptions,
) -> Result<(), DecisionLogError> {
    let missing = match applied(&mut session.connection).await {
        Ok(applied) => schema::missing(&schema::postgres(), &applied)?,
        Err(error) => return Err(not_ready_if_denied(error)),
    };
    if !missing.is_empty() {
        run_migrations(options).await?;
    }
    Ok(())
}

/// The steps that the log has; none if it has no table of them.
async fn applied(connection: &mut PgConnection) -> Result<Vec<sqlx::migrate::AppliedMigration>, sqlx::Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
               ON n.oid = c.relnamespace WHERE n.nspname = 'pactum' AND c.relname = 'migrations')";
    if !sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut *connection).await? {
        return Ok(Vec::new());
    }
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM pactum.migrations ORDER BY version")
            .fetch_all(connection)
            .await?;
    let step = |(version, checksum): (i64, Vec<u8>)| sqlx::migrate::AppliedMigration {
        version,
        checksum: checksum.into(),
    };
    Ok(rows.into_iter().map(step).collect())
}

/// Runs in a task of its own: a caller that goes away must not leave half a run holding its lock.
async fn run_migrations(options: PgConnectOptions) -> Result<Migrated, DecisionLogError> {
    let run = async move {
        let failed = |error| schema::failed(error, is_denied);
        let migrator = schema::postgres();
        // Without the limits of a session: a step may take long, and says nothing of hung servers.
        let mut connection =
            options.disable_statement_logging().connect().await.map_err(SessionError::from)?;
        // Locked before reading, so that what this run reports is what it did.
        connection.lock().await.map_err(failed)?;
        let found = applied(&mut connection).await.map_err(not_ready_if_denied)?;
        let missing = schema::missing(&migrator, &found)?;
        if !missing.is_empty() {
            migrator.run_direct(None, &mut connection, false).await.map_err(failed)?;
        }
        connection.close().await.map_err(SessionError::from)?;
        Ok(schema::done(&migrator, missing))
    };
    match tokio::spawn(run).await {
        Ok(result) => result,
        Err(panicked) => Err(DecisionLogError::Database(Box::new(panicked))),
    }
}

fn is_denied(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "42501")
}

pub(super) fn not_ready_if_denied(error: sqlx::Error) -> DecisionLogError {
    if is_denied(&error) {
        return DecisionLogError::SchemaNotReady { problem: error.to_string() };
    }
    SessionError::from(error).into()
}
