//! The embedded migrations of both databases, and what they say of a log that is found.
//!
//! The rules are in `migrations/README.md`. Running them is sqlx's; what stands here is which
//! ones there are, and telling "not migrated yet" and "newer than we are" from other errors.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{AppliedMigration, MigrateError, Migration, MigrationType, Migrator};

use super::DecisionLogError;

/// Where PostgreSQL keeps which migrations were applied.
pub(super) const POSTGRES_TABLE: &str = "pactum.migrations";
/// Where SQLite does.
pub(super) const SQLITE_TABLE: &str = "migrations";

/// What a migration run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Steps applied by this run, in order; empty if the log was up to date.
    pub applied: Vec<i64>,
    /// The version that the log has now.
    pub version: i64,
}

/// The steps of the PostgreSQL log.
pub(super) fn postgres() -> Migrator {
    let log = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres/0001_log.sql"));
    let doubt = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres/0002_doubt.sql"));
    let audit = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres/0003_audit.sql"));
    let steps = vec![step(1, "log", log), step(2, "doubt", doubt), step(3, "audit", audit)];
    let mut migrator = Migrator::with_migrations(steps);
    migrator.dangerous_set_table_name(POSTGRES_TABLE);
    migrator.create_schema("pactum");
    migrator
}

/// The steps of the SQLite log.
pub(super) fn sqlite() -> Migrator {
    let log = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/0001_log.sql"));
    let doubt = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/0002_doubt.sql"));
    let audit = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/0003_audit.sql"));
    let steps = vec![step(1, "log", log), step(2, "doubt", doubt), step(3, "audit", audit)];
    let mut migrator = Migrator::with_migrations(steps);
    migrator.dangerous_set_table_name(SQLITE_TABLE);
    migrator
}

/// The version that this program brings a log to, and serves from.
pub fn schema_version() -> i64 {
    postgres().iter().map(|step| step.version).max().unwrap_or_default()
}

fn step(version: i64, name: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

/// Which steps are missing, in order.
///
/// # Errors
/// The log has a step that we do not know, or one with another text.
pub(super) fn missing(
    migrator: &Migrator,
    applied: &[AppliedMigration],
) -> Result<Vec<i64>, DecisionLogError> {
    let not_ready = |problem: String| DecisionLogError::SchemaNotReady { problem };
    for found in applied {
        let Some(ours) = migrator.iter().find(|ours| ours.version == found.version) else {
            let version = found.version;
            return Err(not_ready(format!("it has version {version}, which is newer than this program")));
        };
        if ours.checksum != found.checksum {
            return Err(not_ready(format!("its step {} was made by another text", found.version)));
        }
    }
    let is_applied = |version: i64| applied.iter().any(|found| found.version == version);
    Ok(migrator.iter().map(|step| step.version).filter(|version| !is_applied(*version)).collect())
}

/// What a run that ended well did.
pub(super) fn done(migrator: &Migrator, missing: Vec<i64>) -> Migrated {
    let version = migrator.iter().map(|step| step.version).max().unwrap_or_default();
    Migrated { applied: missing, version }
}

/// An error of the runner as ours. `denied` says whether the database refused for want of a right.
pub(super) fn failed(error: MigrateError, denied: impl Fn(&sqlx::Error) -> bool) -> DecisionLogError {
    let is_denied = if let MigrateError::Execute(inner) | MigrateError::ExecuteMigration(inner, _) = &error {
        denied(inner)
    } else {
        false
    };
    if is_denied {
        return DecisionLogError::SchemaNotReady { problem: format!("this role may not make it ({error})") };
    }
    DecisionLogError::Database(Box::new(error))
}
