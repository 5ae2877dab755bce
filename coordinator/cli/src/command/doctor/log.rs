//! The decision log's own server, asked directly. Nothing is changed, adopted or migrated: the one thing
//! written is a message in the write-ahead log, to see how long a force takes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pactum_coordinator::config::LogUrl;
use pactum_coordinator::decision_log::{schema_version, standbys_required};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use super::finding::Finding;

const ABOUT: &str = "log";

/// Forces that are measured; the middle one is told.
const FORCES: usize = 5;

/// A commit takes as long as this at least, and so does every transaction.
const LATENCY_WARN: Duration = Duration::from_millis(20);
const LATENCY_BAD: Duration = Duration::from_millis(200);

/// Clocks decide nothing; people compare times across machines.
const CLOCK_WARN_SECONDS: f64 = 1.0;

/// Rows that are kept longer than this: forgetting does not come along. The longest usual retention.
const KEPT_WARN_DAYS: f64 = 60.0;

/// Of the 2^31 transactions after which PostgreSQL stops taking new ones.
const XID_AGE_WARN: i64 = 1_000_000_000;

const GIB: i64 = 1 << 30;

/// Looks.
pub(super) async fn look(url: &LogUrl, limit: Duration) -> Vec<Finding> {
    if let Some(path) = url.reveal().strip_prefix("sqlite:") {
        return file(path.strip_prefix("//").unwrap_or(path)).await;
    }
    let Ok(options) = url.reveal().parse::<PgConnectOptions>() else {
        return vec![
            Finding::bad(ABOUT, "URL", format!("{url} cannot be read as the URL of one server"))
                .next("give one host: doctor looks at one server at a time"),
        ];
    };
    let options = options.application_name("pactum doctor").disable_statement_logging();
    match tokio::time::timeout(limit, ask(&options)).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![unanswered(&error.to_string())],
        Err(_elapsed) => vec![unanswered(&format!("no answer within {}", humantime::format_duration(limit)))],
    }
}

fn unanswered(why: &str) -> Finding {
    Finding::bad(ABOUT, "answers", why)
        .next("check the URL, that the server runs, and that the role may connect and read the schema pactum")
        .more("pactum explain LOG_UNREACHABLE")
}

async fn ask(options: &PgConnectOptions) -> Result<Vec<Finding>, sqlx::Error> {
    let mut connection = options.connect().await?;
    let mut findings = settings(&mut connection).await?;
    let in_recovery: bool =
        sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await?;
    findings.push(
        Finding::bad(ABOUT, "in recovery", in_recovery.to_string())
            .next("this is a standby: give the primary's address")
            .unless(!in_recovery),
    );
    findings.extend(clock_of(&mut connection).await?);
    if !in_recovery {
        findings.push(latency("write latency, from here", force(&mut connection).await?));
    }
    findings.extend(schema(&mut connection).await?);
    connection.close().await?;
    Ok(findings)
}

/// What could lose an acknowledged commit, and what slows one down.
async fn settings(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
                current_setting('fsync'), current_setting('full_page_writes'), \
                current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), \
                (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))::int, \
                pg_has_role(current_user, 'pg_monitor', 'USAGE') OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), \
                current_setting('autovacuum'), \
                (SELECT age(datfrozenxid)::int8 FROM pg_database WHERE datname = current_database()), \
                pg_database_size(current_database()), \
                (SELECT count(*) FROM pg_stat_activity)::int, current_setting('max_connections')::int",
    )
    .fetch_one(connection)
    .await?;
    let text = |place: usize| row.try_get::<String, _>(place);
    let (version, commit) = (row.try_get::<i32, _>(0)?, text(4)?);
    let required = standbys_required(&text(5)?);
    let confirmed = u32::try_from(row.try_get::<i32, _>(6)?).unwrap_or_default();
    let visible: bool = row.try_get(7)?;
    let (age, bytes): (i64, i64) = (row.try_get(9)?, row.try_get(10)?);
    let (used, room): (i32, i32) = (row.try_get(11)?, row.try_get(12)?);
    Ok(vec![
        Finding::bad(ABOUT, "server version", text(1)?).next("use PostgreSQL 14 or newer").unless(version >= 140_000),
        must_be_on("fsync", &text(2)?),
        must_be_on("full_page_writes", &text(3)?),
        synchronous_commit(&commit, required),
        standbys(required, visible.then_some(confirmed)),
        Finding::warn(ABOUT, "autovacuum", text(8)?)
            .next("turn it on: finished transactions leave dead rows")
            .more("PostgreSQL manual, Routine Vacuuming")
            .unless(text(8)? == "on"),
        Finding::warn(ABOUT, "transaction ids", format!("{age} since the last freeze"))
            .next("find what holds vacuum back: old sessions, replication slots, prepared transactions")
            .more("PostgreSQL manual, Preventing Transaction ID Wraparound Failures")
            .unless(age < XID_AGE_WARN),
        Finding::warn(ABOUT, "size", size(bytes))
            .next("see what is in that database; the log alone needs about 1 KiB for each transaction of the retention")
            .unless(bytes < 100 * GIB),
        Finding::warn(ABOUT, "connections", format!("{used} of {room}"))
            .next("raise max_connections, or find who holds them: a coordinator that finds none cannot write")
            .unless(used * 10 < room * 9),
    ])
}

fn must_be_on(name: &str, value: &str) -> Finding {
    Finding::bad(ABOUT, name, value)
        .next("set it to on in postgresql.conf and reload: without it a crash can lose decisions; coordinators refuse such a log")
        .more("pactum explain LOG_SETTING_REFUSED")
        .unless(value == "on")
}

fn synchronous_commit(value: &str, required: u32) -> Finding {
    let loses = value == "off" || value == "local" && required > 0;
    Finding::bad(ABOUT, "synchronous_commit", value)
        .next("set it to on for the server, database and role that the log uses")
        .more("pactum explain LOG_SETTING_REFUSED")
        .unless(!loses)
}

/// How a failover would go. `confirmed`: unset if they may not be seen.
pub(super) fn standbys(required: u32, confirmed: Option<u32>) -> Finding {
    const WHAT: &str = "synchronous standbys";
    match confirmed {
        _ if required == 0 => {
            Finding::warn(ABOUT, WHAT, "a commit waits for none: a failover may lose decisions")
                .next("set synchronous_standby_names to a quorum: ANY 1 (a, b)")
                .more("PostgreSQL manual, Synchronous Replication")
        }
        None => {
            Finding::warn(ABOUT, WHAT, format!("a commit waits for {required}; which stream may not be seen"))
                .next("GRANT pg_monitor to the role")
        }
        Some(confirmed) if confirmed < required => Finding::bad(
            ABOUT,
            WHAT,
            format!("a commit waits for {required}, and {confirmed} stream: every commit waits"),
        )
        .next("bring a standby back, or take one out of synchronous_standby_names"),
        Some(confirmed) if confirmed == required => Finding::warn(
            ABOUT,
            WHAT,
            format!("a commit waits for {required}, and no more than these stream"),
        )
        .next("add a standby: the loss of one stops all commits"),
        Some(confirmed) => Finding::ok(ABOUT, WHAT, format!("a commit waits for {required} of {confirmed}")),
    }
}

/// How long the smallest commit takes.
pub(super) fn latency(what: &str, took: Duration) -> Finding {
    let told = humantime::format_duration(Duration::from_micros(
        u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    ));
    let next = "every commit takes at least this: look at the log's disk, its distance, and its standbys";
    if took >= LATENCY_BAD {
        Finding::bad(ABOUT, what, told.to_string()).next(next)
    } else {
        Finding::warn(ABOUT, what, told.to_string()).next(next).unless(took < LATENCY_WARN)
    }
}

/// How clocks differ; they decide nothing.
pub(super) fn clock(what: &str, seconds: f64) -> Finding {
    Finding::warn(ABOUT, what, format!("{seconds:+.3} s"))
        .next("run a time service on both: no outcome depends on it, but people compare times in logs")
        .unless(seconds.abs() < CLOCK_WARN_SECONDS)
}

async fn clock_of(connection: &mut PgConnection) -> Result<Option<Finding>, sqlx::Error> {
    let since_1970 = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let before = since_1970();
    let theirs: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
        .fetch_one(connection)
        .await?;
    let middle = f64::midpoint(before, since_1970());
    Ok(Some(clock("clock, against ours", theirs - middle)))
}

async fn force(connection: &mut PgConnection) -> Result<Duration, sqlx::Error> {
    let mut took = Vec::with_capacity(FORCES);
    for _ in 0..FORCES {
        let begun = Instant::now();
        sqlx::query("SELECT pg_logical_emit_message(true, 'pactum', 'doctor')::text")
            .execute(&mut *connection)
            .await?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    Ok(took[FORCES / 2])
}

/// The log's own tables.
async fn schema(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let missing = |found: &str| {
        Finding::bad(ABOUT, "schema", found)
            .next("pactum log migrate --log URL, as its owner; and check that this is the log's database")
            .more("pactum explain SCHEMA_NOT_READY")
    };
    let there: bool = sqlx::query_scalar("SELECT to_regclass('pactum.migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(vec![missing("there is none")]);
    }
    let (version, ours): (i64, i64) = (
        sqlx::query_scalar("SELECT coalesce(max(version), 0)::int8 FROM pactum.migrations")
            .fetch_one(&mut *connection)
            .await?,
        schema_version(),
    );
    let mut findings =
        vec![missing(&format!("version {version}; this program serves {ours}")).unless(version == ours)];
    // By the primary key: the gid orders by time.
    let row = sqlx::query(
        "SELECT (SELECT extract(epoch FROM now() - decided_at)::float8 / 86400 FROM pactum.decisions ORDER BY gid LIMIT 1), \
                (SELECT count(*)::int8 FROM pactum.heuristics), (SELECT count(*)::int8 FROM pactum.stragglers), \
                (SELECT coalesce(sum(n_dead_tup), 0)::int8 FROM pg_stat_user_tables WHERE schemaname = 'pactum'), \
                (SELECT coalesce(sum(n_live_tup), 0)::int8 FROM pg_stat_user_tables WHERE schemaname = 'pactum'), \
                (SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::int8 FROM pg_stat_user_tables WHERE schemaname = 'pactum')",
    )
    .fetch_one(connection)
    .await?;
    let days = row.try_get::<Option<f64>, _>(0)?.unwrap_or_default();
    let (heuristics, stragglers): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    let (dead, live): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
    findings.extend([
        Finding::warn(ABOUT, "oldest decision", format!("{days:.1} days old"))
            .next("forgetting does not come along: heuristic outcomes and unfinished commits are kept; pactum tx list")
            .unless(days < KEPT_WARN_DAYS),
        Finding::bad(ABOUT, "heuristic outcomes", format!("{heuristics} kept"))
            .next("pactum heuristic list; then settle, and forget")
            .unless(heuristics == 0),
        Finding::warn(ABOUT, "unfinished commits", format!("{stragglers} left behind"))
            .next("a participant is away: pactum tx list --in-doubt")
            .unless(stragglers == 0),
        Finding::warn(ABOUT, "dead rows", format!("{dead}, with {live} alive"))
            .next("vacuum does not come along: look for old sessions and prepared transactions on that server")
            .unless(dead < 1_000_000 || dead < live),
        Finding::ok(ABOUT, "tables", size(row.try_get(5)?)),
    ]);
    Ok(findings)
}

/// A log in a file. It is not opened: its coordinator has it.
async fn file(path: &str) -> Vec<Finding> {
    const WHAT: &str = "file";
    let size_of = async |path: &str| tokio::fs::metadata(path).await.map(|found| found.len());
    let bytes = match size_of(path).await {
        Ok(bytes) => bytes,
        Err(error) => {
            return vec![
                Finding::bad(ABOUT, WHAT, format!("{path}: {error}"))
                    .next("check the path: it is made at the first start"),
            ];
        }
    };
    let ahead = size_of(&format!("{path}-wal")).await.unwrap_or_default();
    let as_size = |bytes: u64| size(i64::try_from(bytes).unwrap_or(i64::MAX));
    vec![
        Finding::ok(ABOUT, WHAT, format!("{path}, {}", as_size(bytes))),
        Finding::warn(ABOUT, "write-ahead file", as_size(ahead))
            .next("it is not checkpointed: look at the coordinator's log and at the disk")
            .unless(ahead < 1 << 30),
        Finding::warn(ABOUT, "kind", "a file: one coordinator, and no copy of its decisions")
            .next("for production use PostgreSQL, with a quorum of synchronous standbys"),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn replication_is_well_only_with_one_to_spare() {
        for (required, confirmed, level) in [
            (0, Some(0), Level::Warn),
            (1, None, Level::Warn),
            (1, Some(0), Level::Bad),
            (1, Some(1), Level::Warn),
            (1, Some(2), Level::Ok),
        ] {
            assert_eq!(standbys(required, confirmed).level, level, "{required} {confirmed:?}");
        }
    }

    #[test]
    fn what_could_lose_a_decision_is_bad() {
        assert_eq!(must_be_on("fsync", "off").level, Level::Bad);
        assert_eq!(must_be_on("fsync", "on").level, Level::Ok);
        for (value, required, level) in
            [("off", 0, Level::Bad), ("local", 1, Level::Bad), ("local", 0, Level::Ok), ("on", 1, Level::Ok)]
        {
            assert_eq!(synchronous_commit(value, required).level, level, "{value} {required}");
        }
    }

    #[test]
    fn slow_writes_and_other_clocks_are_told() {
        let of = |ms| latency("write", Duration::from_millis(ms)).level;
        assert_eq!([of(1), of(20), of(200)], [Level::Ok, Level::Warn, Level::Bad]);
        assert_eq!(clock("clock", -0.2).level, Level::Ok);
        assert_eq!(clock("clock", -2.0).level, Level::Warn);
        assert_eq!(size(512), "512 B");
        assert_eq!(size(3 << 20), "3.0 MiB");
    }
}
