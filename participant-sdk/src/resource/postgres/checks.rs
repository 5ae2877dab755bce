//! Whether a database can keep the promises of the hooks, and what it is.

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::Inner;
use super::control::bounded;
use super::operation::unsettled;
use crate::resource::{HookError, Registration};

/// `pg_current_xact_id`, `xid8` and fast access to all that the hooks ask came with 13; 13 itself
/// is no longer maintained.
const VERSION_MIN: i32 = 140_000;

/// Everything asked in one statement. The marker tables are looked for in the catalogue: naming
/// them would be an error where they are missing, or their schema may not be used.
const FACTS: &str = "SELECT \
     current_setting('server_version_num')::int AS version, \
     current_setting('max_prepared_transactions')::int AS room, \
     pg_is_in_recovery() AS standby, \
     current_setting('default_transaction_read_only')::bool AS read_only, \
     current_setting('fsync')::bool AS fsync, \
     current_setting('synchronous_commit') AS synchronous_commit, \
     current_database()::text AS database, \
     quote_ident(current_user) AS role, \
     (SELECT system_identifier::text FROM pg_control_system()) AS system, \
     (SELECT count(*) FROM pg_catalog.pg_prepared_xacts) AS prepared, \
     (SELECT string_agg(srvname, ', ' ORDER BY srvname) FROM pg_catalog.pg_foreign_server) AS foreign_servers, \
     (SELECT count(*) = 2 \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
       WHERE n.nspname = 'pactum_participant' AND c.relname IN ('marker', 'marker_floor')) AS marker, \
     (SELECT coalesce(bool_and(has_schema_privilege(n.oid, 'USAGE') \
               AND has_table_privilege(c.oid, 'SELECT') \
               AND has_table_privilege(c.oid, CASE c.relname WHEN 'marker' THEN 'INSERT' ELSE 'UPDATE' END)), false) \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
       WHERE n.nspname = 'pactum_participant' AND c.relname IN ('marker', 'marker_floor')) AS marker_rights";

/// The check hook.
pub(super) async fn check(inner: &Inner) -> Result<Registration, HookError> {
    let mut control = inner.control().await?;
    let asked = bounded(ask(inner, control.session())).await;
    match asked {
        Ok(registration) => {
            control.answered();
            registration
        }
        Err(error) => Err(unsettled(&format!("checking the database of resource {}", inner.name), &error)),
    }
}

async fn ask(
    inner: &Inner,
    session: &mut PgConnection,
) -> Result<Result<Registration, HookError>, sqlx::Error> {
    // The version first: an old server would not even parse the rest.
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut *session)
        .await?;
    if version < VERSION_MIN {
        return Ok(Err(HookError::new(format!(
            "PostgreSQL {}.{} is too old for resource {}: 14 or later is needed",
            version / 10_000,
            version % 10_000,
            inner.name
        ))));
    }
    let facts = sqlx::query(FACTS).fetch_one(&mut *session).await?;
    if let Err(error) = judge(inner, &facts)? {
        return Ok(Err(error));
    }
    let marker = facts.try_get::<bool, _>("marker")?;
    if marker
        && !sqlx::query_scalar("SELECT EXISTS (SELECT FROM pactum_participant.marker_floor)")
            .fetch_one(&mut *session)
            .await?
    {
        return Ok(Err(HookError::new(
            "pactum_participant.marker_floor has lost its row: what was forgotten is not known any \
             more. Restore the row with a floor no lower than it was",
        )));
    }
    if !marker && inner.keeps_witness() {
        return Ok(Err(HookError::new(format!(
            "resource {} keeps witness rows, and its marker tables are missing: run \
             PostgresResource::install, or the statements of install_sql",
            inner.name
        ))));
    }
    let (system, database): (String, String) = (facts.try_get("system")?, facts.try_get("database")?);
    let settings = settings(session, &facts).await?;
    let mut registration = Registration::new(format!("postgresql:{system}/{database}")).with_marker(marker);
    registration.settings = settings;
    registration
        .settings
        .insert("pool_connections".to_owned(), inner.pool.options().get_max_connections().to_string());
    Ok(Ok(registration))
}

/// Settings of the server that are told to operators: what decides whether promises are kept, how many
/// there may be. Time limits are not among them: our own sessions, which read these, have their own.
/// None is a secret.
const TOLD: [&str; 19] = [
    "server_version",
    "max_prepared_transactions",
    "max_connections",
    "superuser_reserved_connections",
    "max_locks_per_transaction",
    "wal_level",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
    "max_wal_senders",
    "data_checksums",
    "hot_standby_feedback",
    "autovacuum",
    "autovacuum_freeze_max_age",
    "default_transaction_isolation",
    "deadlock_timeout",
    "server_encoding",
    "TimeZone",
];

/// The settings, and what else an operator asks first.
async fn settings(
    session: &mut PgConnection,
    facts: &PgRow,
) -> Result<BTreeMap<String, String>, sqlx::Error> {
    let rows = sqlx::query("SELECT name, current_setting(name, true) FROM unnest($1::text[]) AS told (name)")
        .bind(TOLD.map(str::to_owned).to_vec())
        .fetch_all(&mut *session)
        .await?;
    let mut settings = BTreeMap::new();
    for row in rows {
        if let Some(value) = row.try_get::<Option<String>, _>(1)? {
            settings.insert(row.try_get(0)?, value);
        }
    }
    settings.insert("in_recovery".to_owned(), facts.try_get::<bool, _>("standby")?.to_string());
    settings.insert("role".to_owned(), facts.try_get("role")?);
    if let Some(servers) = facts.try_get::<Option<String>, _>("foreign_servers")? {
        settings.insert("foreign_servers".to_owned(), servers);
    }
    Ok(settings)
}

/// Refuses what would break a promise, and warns of what weakens one.
fn judge(inner: &Inner, facts: &PgRow) -> Result<Result<(), HookError>, sqlx::Error> {
    let name = &inner.name;
    let room: i32 = facts.try_get("room")?;
    let role: String = facts.try_get("role")?;
    let refusal = if facts.try_get("standby")? {
        Some(String::from("this server is a standby (pg_is_in_recovery): connect to the primary"))
    } else if room == 0 {
        Some(String::from(
            "max_prepared_transactions is 0: set it to at least max_connections in \
             postgresql.conf and restart the server",
        ))
    } else if !facts.try_get::<bool, _>("fsync")? {
        Some(String::from("fsync is off: a crash of the machine could lose what was promised. Turn it on"))
    } else if facts.try_get("read_only")? {
        Some(String::from("default_transaction_read_only is on: turn it off for this role or database"))
    } else if facts.try_get::<bool, _>("marker")? && !facts.try_get::<bool, _>("marker_rights")? {
        Some(format!(
            "role {role} may not use the marker tables: GRANT USAGE ON SCHEMA pactum_participant TO \
             {role}; GRANT SELECT, INSERT, DELETE ON pactum_participant.marker TO {role}; GRANT SELECT, \
             UPDATE ON pactum_participant.marker_floor TO {role}"
        ))
    } else {
        None
    };
    if let Some(refusal) = refusal {
        return Ok(Err(HookError::new(format!("resource {name}: {refusal}"))));
    }

    let prepared: i64 = facts.try_get("prepared")?;
    let pool = inner.pool.options().get_max_connections();
    if i64::from(room) - prepared < i64::from(pool) {
        tracing::warn!(
            resource = %name, max_prepared_transactions = room, prepared, pool_connections = pool,
            "max_prepared_transactions leaves less room than the pool has connections: \
             branches will vote no when it is full"
        );
    }
    let synchronous: String = facts.try_get("synchronous_commit")?;
    if matches!(synchronous.as_str(), "off" | "local") {
        tracing::warn!(
            resource = %name, synchronous_commit = synchronous,
            "COMMIT PREPARED does not wait for a standby: set synchronous_commit to on if one must take over"
        );
    }
    if let Some(servers) = facts.try_get::<Option<String>, _>("foreign_servers")? {
        tracing::info!(
            resource = %name, foreign_servers = servers,
            "the database has foreign servers: only branches begun READ ONLY vote read-only, and \
             work on foreign tables cannot be prepared"
        );
    }
    Ok(Ok(()))
}
