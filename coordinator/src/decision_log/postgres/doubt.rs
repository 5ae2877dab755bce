//! Lifting doubts: a living coordinator vouches for its own incarnation, an operator releases others.
//! And what the log says of itself.

use std::time::{Duration, Instant, SystemTime};

use pactum_core::id::{Cluster, Gid, Incarnation};
use uuid::Uuid;

use super::ledger::Ledger;
use super::rows::{self, get};
use super::session::{Session, SessionError};
use super::{sql, uuids};
use crate::decision_log::status::EVENTS_MAX;
use crate::decision_log::{
    DecisionLogError, IncarnationStatus, LogEvent, LogEventKind, LogProbe, LogStatus, Release, Replication,
    codec, standbys_required,
};

/// Gids named in one line of the program's log at most.
const NAMED_MAX: usize = 20;

impl Session {
    /// Keeps an event for people. Inside a transaction, or by itself.
    pub(super) async fn note(
        &mut self,
        kind: LogEventKind,
        incarnation: Option<Incarnation>,
        detail: &str,
    ) -> Result<(), SessionError> {
        let statement = sqlx::query(sql::NOTE)
            .bind(kind.name())
            .bind(incarnation.map(|incarnation| *incarnation.as_uuid()))
            .bind(detail.replace('\0', ""))
            .execute(&mut self.connection);
        self.notices.watch(self.limit, statement).await.map(drop)
    }

    /// Lifts the doubt of an incarnation of this process, if all that was acknowledged to the process still
    /// stands. Durable on return.
    ///
    /// That nothing more arrives from before is the ledger's doing: connections of older eras are void since
    /// this one was entered.
    pub(super) async fn vouch(
        &mut self,
        ledger: &Ledger,
        incarnation: Incarnation,
    ) -> Result<(), DecisionLogError> {
        let era = self.era.ok_or(SessionError::Outdated)?;
        let Some(witnesses) = ledger.witnesses(incarnation, era) else { return Ok(()) };
        let statement = sqlx::query_scalar::<_, Uuid>(sql::MISSING).bind(uuids(&witnesses));
        let statement = statement.fetch_all(&mut self.connection);
        let missing = self.notices.watch(self.limit, statement).await?;
        if !missing.is_empty() {
            let named: Vec<String> =
                missing.iter().take(NAMED_MAX).map(|gid| Gid::from_uuid(*gid).to_string()).collect();
            let (count, named) = (missing.len(), named.join(" "));
            let detail = format!(
                "{count} decisions of this coordinator are gone from the log, the latest of each connection among them: {named}"
            );
            self.note(LogEventKind::Lost, Some(incarnation), &detail).await?;
            if ledger.lost(incarnation) {
                tracing::error!(%incarnation, count, named, "decisions were lost with the log's past: an operator must settle what is in doubt, and release it");
            }
            return Ok(());
        }
        self.begin_forced().await?;
        self.execute(sql::LOCK_INCARNATIONS).await?;
        let statement = sqlx::query(sql::VOUCH).bind(*incarnation.as_uuid()).execute(&mut self.connection);
        let vouched = self.notices.watch(self.limit, statement).await?.rows_affected();
        if vouched > 0 {
            let count = witnesses.len();
            let detail = format!("{count} witnesses of all that was acknowledged stand");
            self.note(LogEventKind::Vouched, Some(incarnation), &detail).await?;
        }
        self.execute("COMMIT").await?;
        if vouched > 0 {
            tracing::info!(%incarnation, witnesses = witnesses.len(), "nothing that was acknowledged is missing: no longer in doubt");
        }
        Ok(())
    }

    /// An operator's word; see [`DecisionLog::release`](crate::decision_log::DecisionLog::release).
    pub(super) async fn release(&mut self, which: Release, reason: &str) -> Result<u64, DecisionLogError> {
        self.begin_forced().await?;
        self.execute(sql::LOCK_HISTORY).await?;
        let (statement, of) = match which {
            Release::One(incarnation) => {
                (sqlx::query(sql::RELEASE_ONE).bind(*incarnation.as_uuid()), Some(incarnation))
            }
            Release::All => {
                self.execute(sql::RELEASE_ABSENT).await?;
                (sqlx::query(sql::RELEASE_ALL), None)
            }
        };
        let statement = statement.execute(&mut self.connection);
        let released = self.notices.watch(self.limit, statement).await?.rows_affected();
        self.note(LogEventKind::Released, of, reason).await?;
        self.execute("COMMIT").await?;
        tracing::warn!(released, reason, "an operator lifted doubts");
        Ok(released)
    }

    /// An operator's word; see [`DecisionLog::doubt_all`](crate::decision_log::DecisionLog::doubt_all).
    pub(super) async fn doubt_all(&mut self, ledger: &Ledger, reason: &str) -> Result<(), DecisionLogError> {
        self.begin_forced().await?;
        self.execute(sql::LOCK_HISTORY).await?;
        let doubted = self.doubt(None, 0, reason).await?;
        self.execute("COMMIT").await?;
        tracing::warn!(doubted, reason, "an operator put the log's past in doubt");
        self.identify(ledger).await?;
        Ok(())
    }

    /// Forces a write, and asks for the time in between.
    pub(super) async fn probe(&mut self) -> Result<LogProbe, DecisionLogError> {
        // Connections, plans and caches are warm at the second one.
        self.barrier().await?;
        let begun = Instant::now();
        self.barrier().await?;
        let write = Some(begun.elapsed());
        let (before, asked) = (SystemTime::now(), Instant::now());
        let statement = sqlx::query(sql::CLOCK).fetch_one(&mut self.connection);
        let row = self.notices.watch(self.limit, statement).await?;
        let here = before + asked.elapsed() / 2;
        let here = here.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let there: i64 = get(&row, "micros")?;
        let here = i64::try_from(here).unwrap_or(i64::MAX);
        Ok(LogProbe { write, clock_difference_microseconds: there.saturating_sub(here) })
    }

    pub(super) async fn status(&mut self, cluster: Cluster) -> Result<LogStatus, DecisionLogError> {
        let statement = sqlx::query(sql::STATUS).fetch_all(&mut self.connection);
        let found = self.notices.watch(self.limit, statement).await?;
        let first = found.first().ok_or_else(rows::no_state)?;
        let mut status = LogStatus {
            kind: "postgres",
            cluster,
            floor: Gid::from_uuid(get(first, "floor")?),
            server: self.era.map(|era| era.server),
            switches: get::<i64>(first, "switches")?.unsigned_abs(),
            absent_doubted: get(first, "absent_doubted")?,
            replication: Some(replication(first)?),
            incarnations: Vec::new(),
            events: Vec::new(),
        };
        for row in &found {
            let Some(id) = get::<Option<Uuid>>(row, "id")? else { continue };
            status.incarnations.push(IncarnationStatus {
                incarnation: Incarnation::from_uuid(id),
                address: get(row, "address")?,
                started_at: at(get(row, "started_micros")?),
                ended_at: get::<Option<i64>>(row, "ended_micros")?.map(at),
                live: get(row, "live")?,
                recovered: get(row, "recovered")?,
                doubted: get(row, "doubted")?,
            });
        }
        let statement = sqlx::query(sql::EVENTS).bind(i64::from(EVENTS_MAX)).fetch_all(&mut self.connection);
        for row in &self.notices.watch(self.limit, statement).await? {
            status.events.push(LogEvent {
                at: at(get(row, "micros")?),
                kind: codec::read_event_kind(&get::<String>(row, "kind")?)?,
                incarnation: get::<Option<Uuid>>(row, "incarnation")?.map(Incarnation::from_uuid),
                who: get(row, "who")?,
                detail: get(row, "detail")?,
            });
        }
        Ok(status)
    }
}

/// Reads the columns of [`sql::replication_columns`].
pub(super) fn replication(row: &sqlx::postgres::PgRow) -> Result<Replication, DecisionLogError> {
    let configured: String = get(row, "standby_names")?;
    Ok(Replication {
        required: standbys_required(&configured),
        configured,
        confirmed: u32::try_from(get::<i64>(row, "standbys_confirmed")?).unwrap_or(u32::MAX),
        visible: get::<i64>(row, "standbys_hidden")? == 0,
    })
}

/// A time as it is asked for.
fn at(micros: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs())
}
