//! The decision log of one embedded coordinator, in a SQLite file.
//!
//! * **One process.** The file is locked for the life of the [`SqliteLog`]: by an operating-system
//!   lock on `<file>.lock`, which also covers the moment in which the file is reopened, and by SQLite's
//!   own exclusive mode, which keeps out whoever does not know of ours. Either lock goes with the process.
//! * **Forced.** Write-ahead log with `synchronous = FULL`, set and read back: a commit returns after
//!   the disk has it.
//! * **An error on COMMIT is unknown.** The connection is dropped. The next use reopens the file, copies
//!   the write-ahead log into it and forces a write of our own (a *barrier*); only then is anything
//!   read, so that a record which a failed force left in the page cache alone is not taken for durable.
//! * **Not rewound unnoticed.** `generation.rs` notices a file that was put back from a copy; `doubt.rs`
//!   does what follows.
//!
//! All statements share one connection, which is SQLite's own limit for writers; each piece of work
//! runs to its end in a task of its own, so no caller can leave it half done by going away.
//! End records and prepare records are forced like everything else here: a few small writes a second.

mod audit;
mod doubt;
mod file;
mod generation;
mod heuristics;
mod listing;
mod rows;
mod sql;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures::future::BoxFuture;
use pactum_core::id::{Cluster, Gid, Incarnation};
use pactum_core::outcome::{DecisionRecord, LookUpResult};
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use self::file::{beside, connect, lock, run_migrations};
use self::rows::get;
use self::writer::SqliteWriter;
pub use super::schema::Migrated;
use super::{
    AuditDraft, AuditEntry, AuditPage, DecisionLog, DecisionLogError, DecisionWriter, FinishUpdate,
    HeuristicRecord, IncarnationView, ListPage, LogProbe, LogStatus, LogView, NumberedCommit, Release,
    StoredHeuristic, StoredTransaction, UNDECIDED_KEPT, UndecidedRecord, codec,
};

/// Between two advances of the generation while the log runs: a copy that is older than this and is
/// put back is noticed. Each advance forces two small files and one row.
const GENERATION_PERIOD: Duration = Duration::from_mins(1);

/// The decision log in a SQLite file.
#[derive(Debug)]
pub struct SqliteLog {
    cluster: Cluster,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// `None` after an error, until the next use opens it again.
    connection: tokio::sync::Mutex<Option<SqliteConnection>>,
    /// Heartbeats. Nobody else can watch this log, so they are not written.
    beats: Mutex<BTreeMap<Incarnation, u64>>,
    /// Started by us, on this very file.
    own: Mutex<BTreeSet<Incarnation>>,
    generation_advanced: Mutex<Instant>,
    /// Held, never read: the lock goes when it is closed.
    _lock: File,
}

/// Makes the log at `path` if there is none, and brings its schema up to date. Repeatable.
///
/// # Errors
/// As [`SqliteLog::open`].
pub async fn migrate(path: &Path) -> Result<Migrated, DecisionLogError> {
    let _lock = lock(path)?;
    let mut connection = connect(path).await?;
    let migrated = run_migrations(&mut connection).await?;
    connection.close().await.map_err(database)?;
    Ok(migrated)
}

impl SqliteLog {
    /// Opens the log, making the file (but not its directory) if there is none.
    ///
    /// # Errors
    /// Another process holds it ([`DecisionLogError::InUse`]); it does not keep `synchronous = FULL`, or
    /// is an empty file in the place of another log ([`DecisionLogError::Refused`]); it is newer than
    /// this program ([`DecisionLogError::SchemaNotReady`]); or the file cannot be used.
    pub async fn open(path: &Path) -> Result<Self, DecisionLogError> {
        let lock = lock(path)?;
        let mut connection = connect(path).await?;
        run_migrations(&mut connection).await?;
        generation::advance(&mut connection, path).await?;
        let cluster: String = sqlx::query_scalar("SELECT cluster FROM log_state")
            .fetch_one(&mut connection)
            .await
            .map_err(database)?;
        let cluster = Cluster::new(&cluster)
            .map_err(|error| DecisionLogError::SchemaNotReady { problem: error.to_string() })?;
        let inner = Inner {
            path: path.to_owned(),
            connection: tokio::sync::Mutex::new(Some(connection)),
            beats: Mutex::default(),
            own: Mutex::default(),
            generation_advanced: Mutex::new(Instant::now()),
            _lock: lock,
        };
        Ok(Self { cluster, inner: Arc::new(inner) })
    }
}

fn database(error: sqlx::Error) -> DecisionLogError {
    DecisionLogError::Database(Box::new(error))
}

impl Inner {
    /// Runs `work` on the connection, to its end, also if the caller goes away. After an error the
    /// connection is dropped, whatever state it was in.
    async fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, DecisionLogError>
    where
        T: Send + 'static,
        W: for<'a> FnOnce(&'a mut SqliteConnection) -> BoxFuture<'a, Result<T, DecisionLogError>>
            + Send
            + 'static,
    {
        let this = Arc::clone(self);
        let task = tokio::spawn(async move {
            let mut slot = this.connection.lock().await;
            // Taken out for the time of the work: a panic, too, leaves it dropped.
            let mut connection = match slot.take() {
                Some(connection) => connection,
                None => this.reopen().await?,
            };
            let result = work(&mut connection).await;
            if result.is_ok() {
                *slot = Some(connection);
            } else if let Err(error) = connection.close().await {
                tracing::warn!(%error, "a connection to the decision log did not close well");
            }
            result
        });
        match task.await {
            Ok(result) => result,
            Err(panicked) => Err(DecisionLogError::Database(Box::new(panicked))),
        }
    }

    /// Opens the file again after an error, and forces a write before anything is read.
    async fn reopen(&self) -> Result<SqliteConnection, DecisionLogError> {
        let mut connection = connect(&self.path).await?;
        sqlx::query(sql::BARRIER).execute(&mut connection).await.map_err(database)?;
        Ok(connection)
    }
}

/// Milliseconds since 1970, for people and retention.
fn now() -> i64 {
    millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

/// Gids as a JSON array, for `json_each`.
fn gids_text<'a>(gids: impl IntoIterator<Item = &'a Gid>) -> String {
    let texts: Vec<String> = gids.into_iter().map(Gid::to_string).collect();
    json(&texts)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers always have a JSON form")
}

#[async_trait]
impl DecisionLog for SqliteLog {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    async fn start_incarnation(&self, address: &str) -> Result<Incarnation, DecisionLogError> {
        let incarnation = Incarnation::from_uuid(Uuid::now_v7());
        let address = address.replace('\0', "");
        self.inner.own.lock().unwrap_or_else(PoisonError::into_inner).insert(incarnation);
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let statement =
                        sqlx::query(sql::START).bind(incarnation.to_string()).bind(address).bind(now());
                    statement.execute(connection).await.map_err(database)?;
                    Ok(incarnation)
                })
            })
            .await
    }

    async fn heartbeat(&self, incarnation: Incarnation) -> Result<LogView, DecisionLogError> {
        let this = Arc::clone(&self.inner);
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let is_due = {
                        let mut advanced =
                            this.generation_advanced.lock().unwrap_or_else(PoisonError::into_inner);
                        let is_due = advanced.elapsed() >= GENERATION_PERIOD;
                        if is_due {
                            *advanced = Instant::now();
                        }
                        is_due
                    };
                    if is_due {
                        generation::advance(connection, &this.path).await?;
                    }
                    if this.own.lock().unwrap_or_else(PoisonError::into_inner).contains(&incarnation) {
                        doubt::vouch(connection, incarnation).await?;
                    }
                    let found = sqlx::query(sql::HEARTBEAT).fetch_all(connection).await.map_err(database)?;
                    let mut beats = this.beats.lock().unwrap_or_else(PoisonError::into_inner);
                    *beats.entry(incarnation).or_default() += 1;
                    let (live, incarnations, floor) = (false, Vec::new(), Gid::NIL);
                    let mut view = LogView { live, incarnations, floor, doubted: 0, replication: None };
                    for row in &found {
                        view.floor = rows::gid(row, "floor")?;
                        view.doubted = get::<i64>(row, "doubted")?.unsigned_abs();
                        let Some(id) = get::<Option<String>>(row, "id")? else { continue };
                        let id: Incarnation = id.parse().map_err(rows::unreadable)?;
                        view.live |= id == incarnation;
                        let (beats, address) = (beats.get(&id).copied().unwrap_or(0), get(row, "address")?);
                        view.incarnations.push(IncarnationView { incarnation: id, beats, address });
                    }
                    Ok(view)
                })
            })
            .await
    }

    async fn end_incarnation(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::END).bind(incarnation.to_string()).bind(now());
                    statement.execute(connection).await.map_err(database)?;
                    Ok(())
                })
            })
            .await
    }

    async fn open_writer(&self) -> Result<Box<dyn DecisionWriter>, DecisionLogError> {
        // Opens the file again if it was given up.
        self.inner.run(|_| Box::pin(async { Ok(()) })).await?;
        Ok(Box::new(SqliteWriter::new(Arc::clone(&self.inner))))
    }

    async fn look_up(&self, gids: &[Gid]) -> Result<Vec<LookUpResult>, DecisionLogError> {
        let asked = gids.to_vec();
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::READ).bind(gids_text(&asked)).bind("").bind("[]");
                    let found = statement.fetch_all(connection).await.map_err(database)?;
                    let floor = rows::gid(found.first().ok_or_else(rows::no_state)?, "floor")?;
                    let mut records: BTreeMap<Gid, Option<DecisionRecord>> = BTreeMap::new();
                    for row in &found {
                        if get::<Option<String>>(row, "gid")?.is_some() {
                            let gid = rows::gid(row, "gid")?;
                            records.insert(gid, codec::or_unknown(gid, rows::decision(row)));
                        }
                    }
                    let result = |gid: &Gid| match records.get(gid) {
                        _ if *gid <= floor => LookUpResult::Forgotten,
                        Some(Some(record)) => LookUpResult::Stands(Box::new(record.clone())),
                        Some(None) => LookUpResult::Unknown,
                        None => LookUpResult::NoRecord,
                    };
                    Ok(asked.iter().map(result).collect())
                })
            })
            .await
    }

    async fn unrecovered_incarnations(&self) -> Result<Vec<Incarnation>, DecisionLogError> {
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let statement = sqlx::query_scalar::<_, String>(sql::UNRECOVERED);
                    let found = statement.fetch_all(connection).await.map_err(database)?;
                    found.iter().map(|id| id.parse().map_err(rows::unreadable)).collect()
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
        let after = i64::try_from(after.unwrap_or(0)).unwrap_or(i64::MAX);
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::UNFINISHED)
                        .bind(incarnation.to_string())
                        .bind(after)
                        .bind(i64::from(limit));
                    let found = statement.fetch_all(connection).await.map_err(database)?;
                    found.iter().map(rows::commit).collect()
                })
            })
            .await
    }

    async fn mark_recovered(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let statement =
                        sqlx::query(sql::MARK_RECOVERED).bind(incarnation.to_string()).bind(now());
                    statement.execute(&mut *connection).await.map_err(database)?;
                    delete_of_the_dead(connection).await
                })
            })
            .await
    }

    async fn record_finished(&self, update: &FinishUpdate) -> Result<(), DecisionLogError> {
        let (marked, mark) = update.mark.map_or((Incarnation::NIL, 0), |mark| mark);
        let mark = i64::try_from(mark).unwrap_or(i64::MAX);
        let added: Vec<(String, String)> =
            update.add_stragglers.iter().map(|id| (id.gid.to_string(), id.incarnation.to_string())).collect();
        let (added, removed) = (json(&added), gids_text(&update.remove_stragglers));
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(database)?;
                    let statement = sqlx::query(sql::MARK).bind(marked.to_string()).bind(mark);
                    statement.execute(&mut *tx).await.map_err(database)?;
                    let statement = sqlx::query(sql::LIST_STRAGGLERS).bind(added);
                    statement.execute(&mut *tx).await.map_err(database)?;
                    let statement = sqlx::query(sql::UNLIST_STRAGGLERS).bind(removed);
                    statement.execute(&mut *tx).await.map_err(database)?;
                    tx.commit().await.map_err(database)
                })
            })
            .await
    }

    async fn record_undecided(
        &self,
        add: &[UndecidedRecord],
        remove: &[Gid],
    ) -> Result<(), DecisionLogError> {
        let row = |record: &UndecidedRecord| {
            (
                record.id.gid.to_string(),
                record.id.incarnation.to_string(),
                codec::undecided_branches_text(&record.branches),
                codec::details_text(&record.details),
                now().saturating_sub(millis(record.age)),
            )
        };
        let (added, removed) = (json(&add.iter().map(row).collect::<Vec<_>>()), gids_text(remove));
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(database)?;
                    let statement = sqlx::query(sql::KEEP_UNDECIDED).bind(added).bind(codec::FORMAT);
                    statement.execute(&mut *tx).await.map_err(database)?;
                    let statement = sqlx::query(sql::DROP_UNDECIDED).bind(removed);
                    statement.execute(&mut *tx).await.map_err(database)?;
                    tx.commit().await.map_err(database)
                })
            })
            .await
    }

    async fn heuristics(&self, gids: &[Gid]) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        let gids = gids_text(gids);
        self.inner.run(move |connection| Box::pin(heuristics::of(connection, gids))).await
    }

    async fn record_heuristics(&self, heuristics: &[HeuristicRecord]) -> Result<(), DecisionLogError> {
        let rows = heuristics::text(heuristics);
        self.inner.run(move |connection| Box::pin(heuristics::record(connection, rows))).await
    }

    async fn raise_floor(&self, to: Gid) -> Result<Gid, DecisionLogError> {
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::RAISE_FLOOR).bind(to.to_string());
                    statement.execute(&mut *connection).await.map_err(database)?;
                    let row = sqlx::query("SELECT floor FROM log_state").fetch_one(connection).await;
                    rows::gid(&row.map_err(database)?, "floor")
                })
            })
            .await
    }

    async fn delete_below_floor(&self, limit: u32) -> Result<u64, DecisionLogError> {
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::DELETE_UNDECIDED_BELOW_FLOOR).bind(i64::from(limit));
                    statement.execute(&mut *connection).await.map_err(database)?;
                    delete_of_the_dead(connection).await?;
                    let statement = sqlx::query(sql::DELETE_EMPTY_STRAGGLERS);
                    statement.execute(&mut *connection).await.map_err(database)?;
                    let statement = sqlx::query(sql::DELETE_BELOW_FLOOR).bind(i64::from(limit));
                    Ok(statement.execute(connection).await.map_err(database)?.rows_affected())
                })
            })
            .await
    }

    async fn newest_older_than(&self, age: Duration) -> Result<Option<Gid>, DecisionLogError> {
        self.inner
            .run(move |connection| {
                Box::pin(async move {
                    let statement =
                        sqlx::query(sql::NEWEST_OLDER_THAN).bind(now().saturating_sub(millis(age)));
                    let found = statement.fetch_optional(connection).await.map_err(database)?;
                    found.map(|row| rows::gid(&row, "gid")).transpose()
                })
            })
            .await
    }

    async fn list(&self, page: &ListPage) -> Result<Vec<StoredTransaction>, DecisionLogError> {
        let page = page.clone();
        self.inner.run(move |connection| Box::pin(listing::list(connection, page))).await
    }

    async fn status(&self) -> Result<LogStatus, DecisionLogError> {
        let cluster = self.cluster.clone();
        self.inner.run(move |connection| Box::pin(doubt::status(connection, cluster))).await
    }

    async fn probe(&self) -> Result<LogProbe, DecisionLogError> {
        self.inner
            .run(|connection| {
                Box::pin(async move {
                    let begun = Instant::now();
                    sqlx::query(sql::BARRIER).execute(connection).await.map_err(database)?;
                    // Written by this machine's clock.
                    Ok(LogProbe { write: Some(begun.elapsed()), clock_difference_microseconds: 0 })
                })
            })
            .await
    }

    async fn release(&self, which: Release, reason: &str) -> Result<u64, DecisionLogError> {
        let reason = reason.to_owned();
        self.inner.run(move |connection| Box::pin(doubt::release(connection, which, reason))).await
    }

    async fn doubt_all(&self, reason: &str) -> Result<(), DecisionLogError> {
        let reason = reason.to_owned();
        self.inner.run(move |connection| Box::pin(doubt::doubt_all(connection, reason))).await
    }

    async fn doubted_of(
        &self,
        incarnations: &[Incarnation],
    ) -> Result<BTreeSet<Incarnation>, DecisionLogError> {
        let asked: Vec<String> = incarnations.iter().map(Incarnation::to_string).collect();
        let asked = json(&asked);
        self.inner.run(move |connection| Box::pin(doubt::doubted_of(connection, asked))).await
    }

    async fn list_heuristics(
        &self,
        before: Option<Gid>,
        limit: u32,
    ) -> Result<Vec<StoredHeuristic>, DecisionLogError> {
        self.inner.run(move |connection| Box::pin(heuristics::list(connection, before, limit))).await
    }

    async fn forget_heuristics(&self, gid: Gid) -> Result<u64, DecisionLogError> {
        self.inner.run(move |connection| Box::pin(heuristics::forget(connection, gid))).await
    }

    async fn clear_agreeing_heuristics(&self) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        self.inner.run(|connection| Box::pin(heuristics::clear_agreeing(connection))).await
    }

    async fn append_audit(&self, draft: &AuditDraft) -> Result<AuditEntry, DecisionLogError> {
        let draft = draft.storable()?;
        self.inner.run(move |connection| Box::pin(audit::append(connection, draft))).await
    }

    async fn audit(&self, page: AuditPage, limit: u32) -> Result<Vec<AuditEntry>, DecisionLogError> {
        self.inner.run(move |connection| Box::pin(audit::page(connection, page, limit))).await
    }

    async fn unended_audits(&self) -> Result<Vec<AuditEntry>, DecisionLogError> {
        self.inner.run(|connection| Box::pin(audit::unended(connection))).await
    }
}

/// Drops prepare records of coordinators that are gone.
async fn delete_of_the_dead(connection: &mut SqliteConnection) -> Result<(), DecisionLogError> {
    let before = now().saturating_sub(millis(UNDECIDED_KEPT));
    let statement = sqlx::query(sql::DELETE_UNDECIDED_OF_THE_DEAD).bind(before);
    statement.execute(connection).await.map_err(database).map(drop)
}
