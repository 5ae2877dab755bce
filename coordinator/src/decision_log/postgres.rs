//! The decision log in PostgreSQL, which any number of coordinators share.
//!
//! * [`PostgresLog::open`] checks the server, brings the schema up to date if it may, and hands out
//!   writers ([`DecisionLog::open_writer`]); the statement that decides is in `writer.rs`.
//! * Every connection is checked when it is made (`session.rs`), and a WARNING beside an answer is
//!   no success (`notices.rs`).
//! * A log that went back in time is noticed before it is used (`adoption.rs`, `ledger.rs`), and what is in
//!   doubt is vouched for or released (`doubt.rs`).
//! * The log may move between several hosts (`hosts.rs`).
//! * Forced and lazy statements have connections of their own: heartbeats, finish marks and
//!   prepare records run with `synchronous_commit = off`, so they delay nobody and cost no flush.
//! * Raising the floor and ending an incarnation take their table's EXCLUSIVE lock first. Row
//!   locks alone would be enough to be safe, yet two lanes whose batches overlap all the time would
//!   never let the UPDATE in; the table lock queues, and waits for the batches in flight only.
//!
//! It does not know votes, sessions or participants.

mod adoption;
mod audit;
mod control;
mod doubt;
mod heartbeat;
mod heuristics;
mod hosts;
mod ledger;
mod listing;
mod migration;
mod notices;
mod options;
mod rows;
mod session;
mod sql;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use pactum_core::id::{Cluster, Gid, Incarnation};
use pactum_core::outcome::{DecisionRecord, LookUpResult};
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use self::control::Control;
use self::ledger::Ledger;
pub use self::migration::migrate;
use self::migration::not_ready_if_denied;
pub use self::options::PostgresLogOptions;
use self::rows::get;
use self::session::{Commits, Server, Session, SessionError};
use self::writer::PostgresWriter;
pub use super::schema::Migrated;
use super::{
    AuditDraft, AuditEntry, AuditPage, DecisionLog, DecisionLogError, DecisionWriter, FinishUpdate,
    HeuristicRecord, ListPage, LogProbe, LogStatus, LogView, NumberedCommit, Release, StoredHeuristic,
    StoredTransaction, UNDECIDED_KEPT, UndecidedRecord, codec,
};

/// Commits that are looked through for a page of unfinished ones, in pages: where less than one in so many is
/// unfinished, all that are listed are read instead. More reads more finished ones on the way.
const NEAR_PAGES: i64 = 4;

/// The decision log in PostgreSQL.
#[derive(Debug)]
pub struct PostgresLog {
    server: Arc<Server>,
    cluster: Cluster,
    forced: Arc<Control>,
    lazy: Arc<Control>,
    /// For listings: they may take seconds, and no heartbeat is to wait for them.
    listings: Arc<Control>,
}

impl PostgresLog {
    /// Opens the log: connects, checks the server, and brings the schema up to date if this role may.
    ///
    /// # Errors
    /// No connection; settings under which an acknowledged commit could be lost
    /// ([`DecisionLogError::Refused`]); a schema that is missing, old or newer than this program
    /// ([`DecisionLogError::SchemaNotReady`]).
    pub async fn open(options: PostgresLogOptions) -> Result<Self, DecisionLogError> {
        let PostgresLogOptions { hosts, answer_limit, standbys_min } = options;
        let (ledger, is_short) = (Ledger::default(), AtomicBool::new(false));
        if hosts.are_several() {
            // Of two that take themselves for the primary, the one that was promoted last is.
            let primary = async |options: PgConnectOptions| {
                let mut session = Session::connect(&options, Commits::Forced, answer_limit).await.ok()?;
                session.server().await.ok()
            };
            for found in hosts.each(primary).await {
                ledger.saw(found);
            }
        }
        let known = &ledger;
        let connect = async |options: PgConnectOptions| {
            let mut session = Session::connect(&options, Commits::Forced, answer_limit).await?;
            known.check(session.server().await?)?;
            Ok((session, options))
        };
        let (mut session, primary) = hosts.first(connect).await?;
        let server = Arc::new(Server { hosts, limit: answer_limit, standbys_min, ledger, is_short });
        server.check_standbys(&session)?;
        migration::prepare(&mut session, primary).await?;
        session.identify(&server.ledger).await?;
        if session.required == 0 {
            tracing::warn!(
                "commits of the decision log wait for no standby: a failover may lose some, which is noticed and then needs an operator; set synchronous_standby_names to a quorum, as ANY 1 (a, b)"
            );
        }
        let cluster: Option<String> = sqlx::query_scalar("SELECT cluster FROM pactum.log_state")
            .fetch_optional(&mut session.connection)
            .await
            .map_err(not_ready_if_denied)?;
        let cluster = Cluster::new(&cluster.ok_or_else(rows::no_state)?)
            .map_err(|error| DecisionLogError::SchemaNotReady { problem: error.to_string() })?;
        Ok(Self {
            forced: Control::new(&server, Commits::Forced),
            lazy: Control::new(&server, Commits::Lazy),
            listings: Control::new(&server, Commits::Lazy),
            server,
            cluster,
        })
    }
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
        let server = Arc::clone(&self.server);
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    let era = session.era.ok_or(SessionError::Outdated)?;
                    let statement = sqlx::query(sql::START).bind(incarnation).bind(address);
                    let statement = statement.execute(&mut session.connection);
                    session.notices.watch(session.limit, statement).await?;
                    let incarnation = Incarnation::from_uuid(incarnation);
                    if !server.ledger.started(incarnation, era) {
                        return Err(SessionError::Outdated.into());
                    }
                    Ok(incarnation)
                })
            })
            .await
    }

    async fn heartbeat(&self, incarnation: Incarnation) -> Result<LogView, DecisionLogError> {
        let server = Arc::clone(&self.server);
        self.lazy.run(move |session| Box::pin(heartbeat::beat(session, server, incarnation))).await
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
        Ok(Box::new(PostgresWriter::open(Arc::clone(&self.server)).await?))
    }

    async fn look_up(&self, gids: &[Gid]) -> Result<Vec<LookUpResult>, DecisionLogError> {
        let asked = gids.to_vec();
        let server = Arc::clone(&self.server);
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    let statement = sqlx::query(sql::LOOK_UP).bind(uuids(&asked));
                    let statement = statement.fetch_all(&mut session.connection);
                    let found = session.notices.watch(session.limit, statement).await?;
                    let floor = Gid::from_uuid(get(found.first().ok_or_else(rows::no_state)?, "floor")?);
                    let mut records: BTreeMap<Gid, Option<DecisionRecord>> = BTreeMap::new();
                    for row in &found {
                        if let Some(gid) = get::<Option<Uuid>>(row, "gid")? {
                            let gid = Gid::from_uuid(gid);
                            records.insert(gid, codec::or_unknown(gid, rows::decision(row)));
                        }
                    }
                    let result = |gid: &Gid| match records.get(gid) {
                        _ if *gid <= floor => LookUpResult::Forgotten,
                        Some(Some(record)) => LookUpResult::Stands(Box::new(record.clone())),
                        Some(None) => LookUpResult::Unknown,
                        None => LookUpResult::NoRecord,
                    };
                    let results: Vec<LookUpResult> = asked.iter().map(result).collect();
                    // Absence promises nothing, so it need not be made durable.
                    if results.iter().any(|result| *result != LookUpResult::NoRecord) {
                        session.make_known_durable().await?;
                    }
                    if let Some(era) = session.era {
                        let stand =
                            records.values().flatten().map(|record| (record.id.incarnation, record.id.gid));
                        server.ledger.read(era, stand);
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
                    let limit = i64::from(limit);
                    let statement = sqlx::query(sql::UNFINISHED_NEAR)
                        .bind(*incarnation.as_uuid())
                        .bind(after)
                        .bind(limit)
                        .bind(limit.saturating_mul(NEAR_PAGES))
                        .fetch_all(&mut session.connection);
                    let mut found = session.notices.watch(session.limit, statement).await?;
                    if found.is_empty() {
                        let statement = sqlx::query(sql::UNFINISHED_FAR)
                            .bind(*incarnation.as_uuid())
                            .bind(after)
                            .bind(limit)
                            .fetch_all(&mut session.connection);
                        found = session.notices.watch(session.limit, statement).await?;
                    }
                    let commits = found.iter().map(rows::commit).collect::<Result<Vec<_>, _>>()?;
                    if !commits.is_empty() {
                        session.make_known_durable().await?;
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
                    delete_of_the_dead(session).await
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
        // A list without a mark is what a recovery found: its incarnation is marked by a later write, and a
        // crash of the server in between, which another connection may notice, must not lose the list.
        let control = if update.mark.is_none() && !added.is_empty() { &self.forced } else { &self.lazy };
        control
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
        self.lazy.run(move |session| Box::pin(session.heuristics_of(gids))).await
    }

    async fn record_heuristics(&self, heuristics: &[HeuristicRecord]) -> Result<(), DecisionLogError> {
        let by_branch: BTreeMap<_, _> =
            heuristics.iter().map(|record| ((record.id.gid, record.branch.id), record.clone())).collect();
        let records: Vec<HeuristicRecord> = by_branch.into_values().collect();
        self.forced
            .run(move |session| Box::pin(async move { session.record_heuristics(&records).await }))
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
                    delete_of_the_dead(session).await?;
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
        self.listings.run(move |session| Box::pin(listing::list(session, page))).await
    }

    async fn status(&self) -> Result<LogStatus, DecisionLogError> {
        let cluster = self.cluster.clone();
        self.listings.run(move |session| Box::pin(session.status(cluster))).await
    }

    async fn probe(&self) -> Result<LogProbe, DecisionLogError> {
        self.forced.run(|session| Box::pin(session.probe())).await
    }

    async fn release(&self, which: Release, reason: &str) -> Result<u64, DecisionLogError> {
        let reason = reason.to_owned();
        self.forced.run(move |session| Box::pin(async move { session.release(which, &reason).await })).await
    }

    async fn doubt_all(&self, reason: &str) -> Result<(), DecisionLogError> {
        let (server, reason) = (Arc::clone(&self.server), reason.to_owned());
        self.forced
            .run(move |session| Box::pin(async move { session.doubt_all(&server.ledger, &reason).await }))
            .await
    }

    async fn doubted_of(
        &self,
        incarnations: &[Incarnation],
    ) -> Result<BTreeSet<Incarnation>, DecisionLogError> {
        let asked: Vec<Uuid> = incarnations.iter().map(|incarnation| *incarnation.as_uuid()).collect();
        self.forced
            .run(move |session| {
                Box::pin(async move {
                    let statement = sqlx::query_scalar::<_, Uuid>(sql::DOUBTED_OF).bind(asked);
                    let statement = statement.fetch_all(&mut session.connection);
                    let found = session.notices.watch(session.limit, statement).await?;
                    Ok(found.into_iter().map(Incarnation::from_uuid).collect())
                })
            })
            .await
    }

    async fn list_heuristics(
        &self,
        before: Option<Gid>,
        limit: u32,
    ) -> Result<Vec<StoredHeuristic>, DecisionLogError> {
        self.listings.run(move |session| Box::pin(session.list_heuristics(before, limit))).await
    }

    async fn forget_heuristics(&self, gid: Gid) -> Result<u64, DecisionLogError> {
        self.forced.run(move |session| Box::pin(session.forget_heuristics(gid))).await
    }

    async fn clear_agreeing_heuristics(&self) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        self.forced.run(|session| Box::pin(session.clear_agreeing_heuristics())).await
    }

    async fn append_audit(&self, draft: &AuditDraft) -> Result<AuditEntry, DecisionLogError> {
        let draft = draft.storable()?;
        self.forced.run(move |session| Box::pin(session.append_audit(draft))).await
    }

    async fn audit(&self, page: AuditPage, limit: u32) -> Result<Vec<AuditEntry>, DecisionLogError> {
        self.listings.run(move |session| Box::pin(session.audit(page, limit))).await
    }

    async fn unended_audits(&self) -> Result<Vec<AuditEntry>, DecisionLogError> {
        self.forced.run(|session| Box::pin(session.unended_audits())).await
    }
}

/// Drops prepare records of coordinators that are gone.
async fn delete_of_the_dead(session: &mut Session) -> Result<(), DecisionLogError> {
    let statement = sqlx::query(sql::DELETE_UNDECIDED_OF_THE_DEAD).bind(UNDECIDED_KEPT.as_secs_f64());
    let statement = statement.execute(&mut session.connection);
    session.notices.watch(session.limit, statement).await?;
    Ok(())
}
