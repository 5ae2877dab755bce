//! What is prepared in a participant's database: our names only, each with what it holds up.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pactum_core::id::{Cluster, PreparedName};
use sqlx::{PgConnection, Row as _};

use super::database::{Database, Trouble, xid_of};
use super::evidence::Anchor;

/// A prepared branch.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "`prepared_at` is the server's own word")]
pub(super) struct Prepared {
    pub(super) name: PreparedName,
    /// Its execution.
    pub(super) xid: u64,
    /// Transactions begun since: what it keeps from being vacuumed.
    pub(super) xid_age: i64,
    /// The role that may end it.
    pub(super) owner: String,
    pub(super) prepared_at: Option<Timestamp>,
    pub(super) age: Duration,
    /// Where the server stood when this was read.
    pub(super) anchor: Anchor,
    /// What it has locked; rows are not listed by the server.
    pub(super) locks: Vec<Lock>,
    /// Who waits for it.
    pub(super) blocks: Vec<Waiter>,
    /// The marker that stands for this very branch, where markers are kept and may be read: `true` says that
    /// it has committed in one phase, before.
    pub(super) marker: Option<bool>,
}

/// A lock that a branch holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    /// The table or index, or the kind of lock where it is no relation.
    pub(super) relation: String,
    pub(super) mode: String,
}

/// A session that waits. What it runs is not told: statements hold data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) pid: i32,
    pub(super) user: String,
    pub(super) application: String,
    /// As the server calls it, for example `Lock: transactionid`.
    pub(super) waits_for: String,
    pub(super) waiting: Option<Duration>,
    /// Waits for the branch itself, and not only for others that do.
    pub(super) directly: bool,
}

const PREPARED: &str = "\
SELECT p.gid, p.transaction::text, (SELECT pg_snapshot_xmax(pg_current_snapshot())::text),
       age(p.transaction)::int8, p.owner::text, extract(epoch FROM p.prepared)::float8,
       extract(epoch FROM clock_timestamp() - p.prepared)::float8,
       (SELECT system_identifier::text FROM pg_control_system()),
       substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_current_wal_flush_lsn()::text
  FROM pg_prepared_xacts p
 WHERE p.database = current_database() AND starts_with(p.gid, $1)
 ORDER BY p.prepared, p.gid";

/// `$1`: low halves of xids. A prepared transaction has no process; all of its locks share the virtual
/// transaction of the lock on its own xid.
const LOCKS: &str = "\
WITH holder AS (
    SELECT transactionid::text AS xid, virtualtransaction AS vt FROM pg_locks
     WHERE locktype = 'transactionid' AND granted AND pid IS NULL AND transactionid::text = ANY ($1)
)
SELECT DISTINCT h.xid, coalesce(
           CASE WHEN l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                THEN l.relation::regclass::text END, l.locktype), l.mode
  FROM holder h JOIN pg_locks l ON l.virtualtransaction = h.vt AND l.pid IS NULL AND l.granted
 WHERE l.locktype NOT IN ('transactionid', 'virtualxid')
 ORDER BY 1, 2, 3";

/// `$1` as above. Sessions that wait for a lock that one of them holds, and those that wait behind these.
const WAITERS: &str = "\
WITH RECURSIVE holder AS (
    SELECT transactionid::text AS xid, virtualtransaction AS vt FROM pg_locks
     WHERE locktype = 'transactionid' AND granted AND pid IS NULL AND transactionid::text = ANY ($1)
), waiting AS MATERIALIZED (
    SELECT w.*, pg_blocking_pids(w.pid) AS behind FROM pg_locks w WHERE NOT w.granted AND w.pid IS NOT NULL
), direct AS (
    SELECT DISTINCT h.xid, w.pid
      FROM holder h
      JOIN pg_locks l ON l.virtualtransaction = h.vt AND l.pid IS NULL AND l.granted
      JOIN waiting w ON 0 = ANY (w.behind)
       AND (w.locktype, w.database, w.relation, w.page, w.tuple, w.virtualxid, w.transactionid, w.classid, w.objid, w.objsubid)
           IS NOT DISTINCT FROM
           (l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid)
), blocked AS (
    SELECT xid, pid FROM direct
    UNION
    SELECT b.xid, w.pid FROM blocked b JOIN waiting w ON b.pid = ANY (w.behind)
)
SELECT b.xid, b.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''),
       coalesce(a.wait_event_type || ': ' || a.wait_event, ''),
       (SELECT extract(epoch FROM clock_timestamp() - min(w.waitstart))::float8 FROM waiting w WHERE w.pid = b.pid),
       (b.xid, b.pid) IN (SELECT d.xid, d.pid FROM direct d)
  FROM blocked b LEFT JOIN pg_stat_activity a ON a.pid = b.pid
 ORDER BY b.xid, 6 DESC NULLS LAST, b.pid
 LIMIT 1000";

/// `$1` gids, `$2` incarnations, `$3` branches; in step.
const MARKERS: &str = "\
SELECT m.gid, m.incarnation, m.branch, m.committed
  FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS n (gid, incarnation, branch)
  JOIN pactum_participant.marker m USING (gid, incarnation, branch)";

const MARKERS_MAY_BE_READ: &str = "\
SELECT coalesce(bool_or(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')), false)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'pactum_participant' AND c.relname = 'marker'";

/// The branches that are prepared in this database, oldest first; only those of a cluster, if one is given.
///
/// # Errors
/// Nothing is known.
pub(super) async fn scan(
    database: &mut Database,
    cluster: Option<&Cluster>,
) -> Result<Vec<Prepared>, Trouble> {
    let prefix = cluster.map_or_else(|| PreparedName::PREFIX.to_owned(), PreparedName::prefix_of);
    let mut found =
        database.run(async |connection: &mut PgConnection| prepared(connection, &prefix).await).await?;
    if found.is_empty() {
        return Ok(found);
    }
    let markers =
        database.run(async |connection: &mut PgConnection| markers(connection, &found).await).await?;
    for (place, committed) in markers {
        found[place].marker = Some(committed);
    }
    Ok(found)
}

/// Adds what each branch has locked and who waits for it.
///
/// # Errors
/// Nothing was added, or the locks only.
pub(super) async fn examine(database: &mut Database, found: &mut [Prepared]) -> Result<(), Trouble> {
    // By the low half, which alone is in pg_locks; live xids differ in it.
    let places: BTreeMap<String, usize> = found
        .iter()
        .enumerate()
        .map(|(place, branch)| ((branch.xid & 0xffff_ffff).to_string(), place))
        .collect();
    let xids: Vec<String> = places.keys().cloned().collect();
    let (locks, waiters) = database
        .run(async |connection: &mut PgConnection| {
            let locks = sqlx::query(LOCKS).bind(&xids).fetch_all(&mut *connection).await?;
            Ok((locks, sqlx::query(WAITERS).bind(&xids).fetch_all(connection).await?))
        })
        .await?;
    let read = |error: sqlx::Error| Trouble::Refused { code: String::new(), text: error.to_string() };
    for row in locks {
        if let Some(place) = places.get(row.try_get::<&str, _>(0).map_err(read)?) {
            let (relation, mode) = (row.try_get(1).map_err(read)?, row.try_get(2).map_err(read)?);
            found[*place].locks.push(Lock { relation, mode });
        }
    }
    for row in waiters {
        if let Some(place) = places.get(row.try_get::<&str, _>(0).map_err(read)?) {
            let waiting = row.try_get::<Option<f64>, _>(5).map_err(read)?;
            found[*place].blocks.push(Waiter {
                pid: row.try_get(1).map_err(read)?,
                user: row.try_get(2).map_err(read)?,
                application: row.try_get(3).map_err(read)?,
                waits_for: row.try_get(4).map_err(read)?,
                waiting: waiting.map(seconds),
                directly: row.try_get(6).map_err(read)?,
            });
        }
    }
    Ok(())
}

async fn prepared(connection: &mut PgConnection, prefix: &str) -> Result<Vec<Prepared>, sqlx::Error> {
    let rows = sqlx::query(PREPARED).bind(prefix).fetch_all(&mut *connection).await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    // The second look: see `Database::prepared_xid`.
    let still: Vec<String> = sqlx::query_scalar("SELECT gid FROM pg_prepared_xacts WHERE gid = ANY ($1)")
        .bind(names)
        .fetch_all(connection)
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let text: String = row.try_get(0)?;
        // In another spelling than ours it is not ours, whatever it begins with.
        let Ok(name) = text.parse() else { continue };
        if !still.contains(&text) {
            continue;
        }
        let columns: [String; 3] = [row.try_get(7)?, row.try_get(8)?, row.try_get(9)?];
        let anchor = Anchor::from_columns(&columns[0], &columns[1], &columns[2])
            .ok_or_else(|| sqlx::Error::Protocol(format!("the server names itself {columns:?}")))?;
        found.push(Prepared {
            name,
            xid: xid_of(&row.try_get::<String, _>(1)?, &row.try_get::<String, _>(2)?)?,
            xid_age: row.try_get(3)?,
            owner: row.try_get(4)?,
            prepared_at: timestamp(row.try_get(5)?),
            age: seconds(row.try_get(6)?),
            anchor,
            locks: Vec::new(),
            blocks: Vec::new(),
            marker: None,
        });
    }
    Ok(found)
}

/// The places of those for which a marker stands, and what it says.
async fn markers(
    connection: &mut PgConnection,
    found: &[Prepared],
) -> Result<Vec<(usize, bool)>, sqlx::Error> {
    let readable: bool = sqlx::query_scalar(MARKERS_MAY_BE_READ).fetch_one(&mut *connection).await?;
    if !readable {
        return Ok(Vec::new());
    }
    let gids: Vec<uuid::Uuid> = found.iter().map(|branch| *branch.name.id.gid.as_uuid()).collect();
    let owners: Vec<uuid::Uuid> = found.iter().map(|branch| *branch.name.id.incarnation.as_uuid()).collect();
    let branches: Vec<String> = found.iter().map(|branch| branch.name.branch.to_string()).collect();
    let rows = sqlx::query(MARKERS).bind(gids).bind(owners).bind(branches).fetch_all(connection).await?;
    let mut markers = Vec::new();
    for row in rows {
        let (gid, owner): (uuid::Uuid, uuid::Uuid) = (row.try_get(0)?, row.try_get(1)?);
        let (branch, committed): (String, bool) = (row.try_get(2)?, row.try_get(3)?);
        let place = found.iter().position(|prepared| {
            let PreparedName { id, branch: its, .. } = &prepared.name;
            *id.gid.as_uuid() == gid && *id.incarnation.as_uuid() == owner && its.to_string() == branch
        });
        markers.extend(place.map(|place| (place, committed)));
    }
    Ok(markers)
}

/// A length of time as a server tells it; clocks that were set back show nothing less than none.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}

fn timestamp(epoch: f64) -> Option<Timestamp> {
    let since = Duration::try_from_secs_f64(epoch).ok()?;
    Timestamp::new(i64::try_from(since.as_secs()).ok()?, since.subsec_nanos().cast_signed()).ok()
}
