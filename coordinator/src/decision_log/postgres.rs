//! The decision log in PostgreSQL, which any number of coordinators share.
//!
//! * [`PostgresLog::open`] checks the server, brings the schema up to date if it may, and hands out
//!   writers ([`DecisionLog::open_writer`]); the statement that decides is in `writer.rs`.
//! * Every connection is checked when it is made (`session.rs`), and a WARNING beside an answer is
//!   no success (`notices.rs`).
//! * Forced and lazy statements have connections of their own: heartbeats, finish marks and
//!   prepare records run with `synchronous_commit = off`, so they delay nobody and cost no flush.
//! * Raising the floor and ending an incarnation take their table's EXCLUSIVE lock first. Row
//!   locks alone would be enough to be safe, yet two lanes whose batches overlap all the time would
//!   never let the UPDATE in; the table lock queues, and waits for the batches in flight only.
//!
//! It does not know votes, sessions or participants.

mod control;
mod notices;
mod rows;
mod session;
mod sql;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pactum_core::id::{Cluster, Gid, Incarnation};
use pactum_core::outcome::{DecisionRecord, LookUpResult};
use sqlx::migrate::Migrate as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use uuid::Uuid;

use self::control::Control;
use self::rows::get;
use self::session::{Commits, Session, SessionError};
use self::writer::PostgresWriter;
pub use super::schema::Migrated;
use super::{
    DecisionLog, DecisionLogError, DecisionWriter, FinishUpdate, HeuristicRecord, IncarnationView, ListPage,
    LogView, NumberedCommit, StoredTransaction, UndecidedRecord, codec, schema,
};

/// How to reach a log, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct PostgresLogOptions {
    connect: PgConnectOptions,
    answer_limit: Duration,
}

impl PostgresLogOptions {
    /// Longest wait for the answer to one statement, unless told otherwise.
    pub const ANSWER_LIMIT: Duration = Duration::from_secs(15);

    /// Reads a URL, for example `postgres://user:password@host:5432/database`. Nothing is connected.
    ///
    /// # Errors
    /// The URL is malformed.
    pub fn from_url(url: &str) -> Result<Self, DecisionLogError> {
        match url.parse::<PgConnectOptions>() {
            Ok(connect) => {
                Ok(Self { connect: connect.application_name("pactum log"), answer_limit: Self::ANSWER_LIMIT })
            }
            Err(error) => Err(SessionError::from(error).into()),
        }
    }

    /// What the connections are called in `pg_stat_activity`.
    #[must_use]
    pub fn with_application_name(self, name: &str) -> Self {
        Self { connect: self.connect.application_name(name), ..self }
    }

    /// Longest wait for the answer to one statement; after it the outcome is unknown and the
    /// connection is given up. The server's own limits are set to two thirds of it for a statement
    /// and a third for a lock. Shorter finds a hung server sooner; too short turns a slow disk or
    /// standby into unknown outcomes, which cost a second round each.
    #[must_use]
    pub fn with_answer_limit(self, answer_limit: Duration) -> Self {
        Self { answer_limit, ..self }
    }
}

/// The decision log in PostgreSQL.
#[derive(Debug)]
pub struct PostgresLog {
    options: PostgresLogOptions,
    cluster: Cluster,
    forced: Arc<Control>,
    lazy: Arc<Control>,
    /// For listings: they may take seconds, and no heartbeat is to wait for them.
    listings: Arc<Control>,
}

/// Brings the schema of the log at `url` up to date, as a role that may. Repeatable; two at once wait
/// for each other; each step is durable whole or not at all.
///
/// # Errors
/// The log cannot be reached or refuses, or it is newer than this program.
pub async fn migrate(url: &str) -> Result<Migrated, DecisionLogError> {
    let options = PostgresLogOptions::from_url(url)?;
    // For its checks: a schema that is made on a server with fsync off may be gone tomorrow.
    Session::connect(&options.connect, Commits::Forced, options.answer_limit).await?;
    run_migrations(options.connect).await
}

impl PostgresLog {
    /// Opens the log: connects, checks the server, and brings the schema up to date if this role may.
    ///
    /// # Errors
    /// No connection; settings under which an acknowledged commit could be lost
    /// ([`DecisionLogError::Refused`]); a schema that is missing, old or newer than this program
    /// ([`DecisionLogError::SchemaNotReady`]).
    pub async fn open(options: PostgresLogOptions) -> Result<Self, DecisionLogError> {
        let PostgresLogOptions { connect, answer_limit } = options.clone();
        let mut session = Session::connect(&connect, Commits::Forced, answer_limit).await?;
        let missing = match applied(&mut session.connection).await {
            Ok(applied) => schema::missing(&schema::postgres(), &applied)?,
            Err(error) => return Err(not_ready_if_denied(error)),
        };
        if !missing.is_empty() {
            run_migrations(connect.clone()).await?;
        }
        let cluster: Option<String> = sqlx::query_scalar("SELECT cluster FROM pactum.log_state")
            .fetch_optional(&mut session.connection)
            .await
            .map_err(not_ready_if_denied)?;
        let cluster = Cluster::new(&cluster.ok_or_else(rows::no_state)?)
            .map_err(|error| DecisionLogError::SchemaNotReady { problem: error.to_string() })?;
        Ok(Self {
            forced: Control::new(connect.clone(), Commits::Forced, answer_limit),
            lazy: Control::new(connect.clone(), Commits::Lazy, answer_limit),
            listings: Control::new(connect, Commits::Lazy, answer_limit),
            options,
            cluster,
        })
    }
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

fn not_ready_if_denied(error: sqlx::Error) -> DecisionLogError {
    if is_denied(&error) {
        return DecisionLogError::SchemaNotReady { problem: error.to_string() };
    }
    SessionError::from(error).into()
}

/// Gids as the database takes them.
fn uuids<'a>(gids: impl IntoIterator<Item = &'a Gid>) -> Vec<Uuid> {
    gids.into_iter().map(|gid| *gid.as_uuid()).collect()
}

#[async_trait]
impl DecisionLog for PostgresLog {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    async fn start_incarnation(&self, address: &str) -> Result<Incarnation, DecisionLogError> {
        let incarnation = Uuid::now_v7();
        let address = address.replace('\0', "");
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    let Session { connection, notices, limit } = session;
                    let statement = sqlx::query(sql::START).bind(incarnation).bind(address);
                    notices.watch(*limit, statement.execute(connection)).await?;
                    Ok(Incarnation::from_uuid(incarnation))
                })
            })
            .await
    }

    async fn heartbeat(&self, incarnation: Incarnation) -> Result<LogView, DecisionLogError> {
        self.lazy
            .run(move |session| {
                Box::pin(async move {
                    let Session { connection, notices, limit } = session;
                    let statement = sqlx::query(sql::HEARTBEAT).bind(*incarnation.as_uuid());
                    let found = notices.watch(*limit, statement.fetch_all(connection)).await?;
                    let first = found.first().ok_or_else(rows::no_state)?;
                    let floor = Gid::from_uuid(get(first, "floor")?);
                    let mut incarnations = Vec::new();
                    for row in &found {
                        let Some(id) = get::<Option<Uuid>>(row, "id")? else { continue };
                        incarnations.push(IncarnationView {
                            incarnation: Incarnation::from_uuid(id),
                            beats: get::<i64>(row, "beats")?.unsigned_abs(),
                            address: get(row, "address")?,
                        });
                    }
                    let live = incarnations.iter().any(|view| view.incarnation == incarnation);
                    Ok(LogView { live, incarnations, floor })
                })
            })
            .await
    }

    async fn end_incarnation(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    session.execute("BEGIN; LOCK TABLE pactum.incarnations IN EXCLUSIVE MODE").await?;
                    let statement = sqlx::query(sql::END).bind(*incarnation.as_uuid());
                    let statement = statement.execute(&mut session.connection);
                    session.notices.watch(session.limit, statement).await?;
                    // If somebody had ended it before: make sure that his write is durable.
                    session.barrier().await?;
                    session.execute("COMMIT").await?;
                    Ok(())
                })
            })
            .await
    }

    async fn open_writer(&self) -> Result<Box<dyn DecisionWriter>, DecisionLogError> {
        let PostgresLogOptions { connect, answer_limit } = &self.options;
        let session = Session::connect(connect, Commits::Forced, *answer_limit).await?;
        Ok(Box::new(PostgresWriter::new(session)))
    }

    async fn look_up(&self, gids: &[Gid]) -> Result<Vec<LookUpResult>, DecisionLogError> {
        let asked = gids.to_vec();
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::LOOK_UP).bind(uuids(&asked));
                    let statement = statement.fetch_all(&mut session.connection);
                    let found = session.notices.watch(session.limit, statement).await?;
                    let floor = Gid::from_uuid(get(found.first().ok_or_else(rows::no_state)?, "floor")?);
                    let mut records: BTreeMap<Gid, DecisionRecord> = BTreeMap::new();
                    for row in &found {
                        if let Some(gid) = get::<Option<Uuid>>(row, "gid")? {
                            records.insert(Gid::from_uuid(gid), rows::decision(row)?);
                        }
                    }
                    let result = |gid: &Gid| match records.get(gid) {
                        _ if *gid <= floor => LookUpResult::Forgotten,
                        Some(record) => LookUpResult::Stands(Box::new(record.clone())),
                        None => LookUpResult::NoRecord,
                    };
                    let results: Vec<LookUpResult> = asked.iter().map(result).collect();
                    // Absence promises nothing, so it need not be made durable.
                    if results.iter().any(|result| *result != LookUpResult::NoRecord) {
                        session.barrier().await?;
                    }
                    Ok(results)
                })
            })
            .await
    }

    async fn unrecovered_incarnations(&self) -> Result<Vec<Incarnation>, DecisionLogError> {
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    let statement = sqlx::query_scalar::<_, Uuid>(sql::UNRECOVERED);
                    let statement = statement.fetch_all(&mut session.connection);
                    let found = session.notices.watch(session.limit, statement).await?;
                    Ok(found.into_iter().map(Incarnation::from_uuid).collect())
                })
            })
            .await
    }

    async fn unfinished_commits(
        &self,
        incarnation: Incarnation,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<NumberedCommit>, DecisionLogError> {
        // Numbers that the column cannot hold lie after all that it holds.
        let after = i64::try_from(after.unwrap_or(0)).unwrap_or(i64::MAX);
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::UNFINISHED)
                        .bind(*incarnation.as_uuid())
                        .bind(after)
                        .bind(i64::from(limit))
                        .fetch_all(&mut session.connection);
                    let found = session.notices.watch(session.limit, statement).await?;
                    let commits = found.iter().map(rows::commit).collect::<Result<Vec<_>, _>>()?;
                    if !commits.is_empty() {
                        session.barrier().await?;
                    }
                    Ok(commits)
                })
            })
            .await
    }

    async fn mark_recovered(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        self.lazy
            .run(move |session| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::MARK_RECOVERED).bind(*incarnation.as_uuid());
                    let statement = statement.execute(&mut session.connection);
                    session.notices.watch(session.limit, statement).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn record_finished(&self, update: &FinishUpdate) -> Result<(), DecisionLogError> {
        let (marked, mark) = update.mark.map_or((Incarnation::NIL, 0), |mark| mark);
        let mark = i64::try_from(mark).unwrap_or(i64::MAX);
        // One that is removed in the same update has finished meanwhile.
        let removed: BTreeSet<Gid> = update.remove_stragglers.iter().copied().collect();
        let added: BTreeSet<_> =
            update.add_stragglers.iter().filter(|id| !removed.contains(&id.gid)).collect();
        let added_gids = uuids(added.iter().map(|id| &id.gid));
        let owners: Vec<Uuid> = added.iter().map(|id| *id.incarnation.as_uuid()).collect();
        self.lazy
            .run(move |session| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::RECORD_FINISHED)
                        .bind(*marked.as_uuid())
                        .bind(mark)
                        .bind(added_gids)
                        .bind(owners)
                        .bind(uuids(&removed))
                        .execute(&mut session.connection);
                    session.notices.watch(session.limit, statement).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn record_undecided(
        &self,
        add: &[UndecidedRecord],
        remove: &[Gid],
    ) -> Result<(), DecisionLogError> {
        let removed: BTreeSet<Gid> = remove.iter().copied().collect();
        // By gid, the last of each: one statement may not touch a row twice.
        let added = add.iter().filter(|record| !removed.contains(&record.id.gid));
        let added: BTreeMap<Gid, &UndecidedRecord> = added.map(|record| (record.id.gid, record)).collect();
        let gids = uuids(added.keys());
        let owners: Vec<Uuid> = added.values().map(|record| *record.id.incarnation.as_uuid()).collect();
        let branches: Vec<String> =
            added.values().map(|record| codec::undecided_branches_text(&record.branches)).collect();
        let details: Vec<String> =
            added.values().map(|record| codec::details_text(&record.details)).collect();
        let ages: Vec<f64> = added.values().map(|record| record.age.as_secs_f64()).collect();
        self.lazy
            .run(move |session| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::RECORD_UNDECIDED)
                        .bind(gids)
                        .bind(owners)
                        .bind(branches)
                        .bind(details)
                        .bind(ages)
                        .bind(codec::FORMAT)
                        .bind(uuids(&removed))
                        .execute(&mut session.connection);
                    session.notices.watch(session.limit, statement).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn heuristics(&self, gids: &[Gid]) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        let gids = uuids(gids);
        self.lazy.run(move |session| Box::pin(heuristics_of(session, gids))).await
    }

    async fn record_heuristics(&self, heuristics: &[HeuristicRecord]) -> Result<(), DecisionLogError> {
        let by_branch: BTreeMap<_, _> =
            heuristics.iter().map(|record| ((record.id.gid, record.branch.id), record.clone())).collect();
        let records: Vec<HeuristicRecord> = by_branch.into_values().collect();
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    let of = || records.iter();
                    let statement = sqlx::query(sql::RECORD_HEURISTICS)
                        .bind(uuids(of().map(|r| &r.id.gid)))
                        .bind(of().map(|r| codec::branch_number(r.branch.id)).collect::<Vec<i64>>())
                        .bind(of().map(|r| *r.id.incarnation.as_uuid()).collect::<Vec<Uuid>>())
                        .bind(of().map(|r| r.branch.resource.to_string()).collect::<Vec<String>>())
                        .bind(of().map(|r| *r.branch.instance.as_uuid()).collect::<Vec<Uuid>>())
                        .bind(of().map(|r| r.branch.marker).collect::<Vec<bool>>())
                        .bind(of().map(|r| codec::outcome_text(r.outcome)).collect::<Vec<&str>>())
                        .execute(&mut session.connection);
                    session.notices.watch(session.limit, statement).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn raise_floor(&self, to: Gid) -> Result<Gid, DecisionLogError> {
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    // Commits without an incarnation row are looked for before the lock, since that
                    // scans what is passed over; without a row there is no fence, so none is added.
                    let statement =
                        sqlx::query_scalar::<_, bool>(sql::HAS_UNOWNED_COMMIT).bind(*to.as_uuid());
                    let statement = statement.fetch_one(&mut session.connection);
                    let barred = session.notices.watch(session.limit, statement).await?;
                    session.execute("BEGIN; LOCK TABLE pactum.log_state IN EXCLUSIVE MODE").await?;
                    let statement = sqlx::query(sql::RAISE_FLOOR).bind(*to.as_uuid()).bind(barred);
                    let statement = statement.execute(&mut session.connection);
                    session.notices.watch(session.limit, statement).await?;
                    let statement = sqlx::query_scalar::<_, Uuid>("SELECT floor FROM pactum.log_state");
                    let statement = statement.fetch_optional(&mut session.connection);
                    let floor = session.notices.watch(session.limit, statement).await?;
                    // If somebody had raised it before: make sure that his write is durable.
                    session.barrier().await?;
                    session.execute("COMMIT").await?;
                    Ok(Gid::from_uuid(floor.ok_or_else(rows::no_state)?))
                })
            })
            .await
    }

    async fn delete_below_floor(&self, limit: u32) -> Result<u64, DecisionLogError> {
        self.lazy
            .run(move |session| {
                Box::pin(async move {
                    let statement =
                        sqlx::query_scalar::<_, i64>(sql::DELETE_BELOW_FLOOR).bind(i64::from(limit));
                    let statement = statement.fetch_one(&mut session.connection);
                    let deleted = session.notices.watch(session.limit, statement).await?;
                    Ok(deleted.unsigned_abs())
                })
            })
            .await
    }

    async fn newest_older_than(&self, age: Duration) -> Result<Option<Gid>, DecisionLogError> {
        self.lazy
            .run(move |session| {
                Box::pin(async move {
                    let statement = sqlx::query_scalar::<_, Uuid>(sql::NEWEST_OLDER_THAN);
                    let statement = statement.bind(age.as_secs_f64()).fetch_optional(&mut session.connection);
                    let found = session.notices.watch(session.limit, statement).await?;
                    Ok(found.map(Gid::from_uuid))
                })
            })
            .await
    }

    async fn list(&self, page: &ListPage) -> Result<Vec<StoredTransaction>, DecisionLogError> {
        let page = page.clone();
        self.listings.run(move |session| Box::pin(list(session, page))).await
    }
}

async fn list(session: &mut Session, page: ListPage) -> Result<Vec<StoredTransaction>, DecisionLogError> {
    let Some((before, part)) = super::page_filter(&page) else {
        return Ok(Vec::new());
    };
    let mut page_of = Vec::new();
    for (sql, read) in [
        (
            if page.unfinished_only { sql::LIST_UNFINISHED } else { sql::LIST_DECIDED },
            rows::stored as fn(&_) -> _,
        ),
        (sql::LIST_UNDECIDED, rows::undecided),
    ] {
        let statement = sqlx::query(sql)
            .bind(before)
            .bind(&part)
            .bind(i64::from(page.limit))
            .fetch_all(&mut session.connection);
        for row in session.notices.watch(session.limit, statement).await? {
            page_of.push(read(&row)?);
        }
    }
    page_of.sort_by_key(|stored: &StoredTransaction| std::cmp::Reverse(stored.id.gid));
    page_of.truncate(page.limit as usize);
    let gids = uuids(page_of.iter().map(|stored| &stored.id.gid));
    for heuristic in heuristics_of(session, gids).await? {
        for stored in page_of.iter_mut().filter(|stored| stored.id.gid == heuristic.id.gid) {
            stored.heuristics.push(heuristic.clone());
        }
    }
    Ok(page_of)
}

async fn heuristics_of(
    session: &mut Session,
    gids: Vec<Uuid>,
) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
    let statement = sqlx::query(sql::HEURISTICS_OF).bind(gids).fetch_all(&mut session.connection);
    session.notices.watch(session.limit, statement).await?.iter().map(rows::heuristic).collect()
}
