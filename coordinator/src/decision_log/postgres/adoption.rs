//! Finding out where a connection has led to, and what follows if the log went back in time (B4, B5).
//!
//! A log keeps the identity of the server that it was last used on. Whoever connects compares: the
//! system identifier, which copies share; the timeline, which each promotion and each restore through
//! the archive moves on; and what this process saw before (`ledger.rs`), which shows a copy that kept
//! both. If they differ, the log is *adopted* before anything else is done on that connection: in one
//! forced transaction every incarnation that had not ended is ended and put in doubt, and the new
//! identity is written.
//!
//! **Why no statement slips through.** A session's server cannot change its timeline, and standbys are
//! refused when a session is made; so every session of a timeline was made after its promotion, and
//! each looks before its first use. The adoption takes both tables' EXCLUSIVE lock: two that come at
//! once adopt once, since the second looks again under the lock. Where sessions do run already (a
//! switch that an operator asks for), the same lock waits for every batch in flight, which all hold
//! `incarnations` and `log_state` in ROW SHARE mode until they have committed, and makes those that
//! follow wait; their locks on the rows then show them what was written here. Both sides take
//! `incarnations` before `log_state`, so they do not deadlock.
//!
//! The timeline is read from the name of the current WAL file: `pg_control_checkpoint` shows the one of the
//! last checkpoint, which a promotion leaves for later. Neither needs more than a plain role.

use sqlx::Row as _;

use super::ledger::{Era, Ledger, Observation, Verdict};
use super::rows::{self, get};
use super::session::{Session, SessionError};
use super::sql;
use crate::decision_log::{DecisionLogError, LogEventKind, ServerIdentity};

/// Looks at most, each but the last followed by an adoption: somebody else's may come between.
const LOOKS_MAX: usize = 4;

impl Session {
    /// Finds out which era this connection belongs to, adopting the log if it went back.
    ///
    /// # Errors
    /// It leads to a server that was left behind, or does not answer: it must not be used.
    pub(super) async fn identify(&mut self, ledger: &Ledger) -> Result<Era, DecisionLogError> {
        self.era = None;
        for _ in 0..LOOKS_MAX {
            let before = ledger.position();
            let seen = self.observe().await?;
            match ledger.judge(&seen, before) {
                Verdict::Fits(era) => {
                    ledger.saw_standbys(era, self.required);
                    self.era = Some(era);
                    return Ok(era);
                }
                Verdict::LeftBehind(refused) => return Err(refused),
                Verdict::Introduce | Verdict::WentBack { .. } => self.adopt(ledger).await?,
            }
        }
        Err(SessionError::Outdated.into())
    }

    /// The server's identity, on a log that need not have a schema.
    pub(super) async fn server(&mut self) -> Result<ServerIdentity, DecisionLogError> {
        let statement = sqlx::query(sql::SERVER).fetch_one(&mut self.connection);
        let row = self.notices.watch(self.limit, statement).await?;
        identity(get(&row, "system")?, get(&row, "timeline")?)
    }

    async fn observe(&mut self) -> Result<Observation, DecisionLogError> {
        let statement = sqlx::query(sql::OBSERVE).fetch_optional(&mut self.connection);
        let row = self.notices.watch(self.limit, statement).await?.ok_or_else(rows::no_state)?;
        let stored: Option<i64> = row.try_get("stored_system").map_err(SessionError::from)?;
        Ok(Observation {
            server: identity(get(&row, "system")?, get(&row, "timeline")?)?,
            position: get::<i64>(&row, "position")?.unsigned_abs(),
            stored: match stored {
                Some(system) => Some(identity(system, get(&row, "stored_timeline")?)?),
                None => None,
            },
            switches: get::<i64>(&row, "switches")?.unsigned_abs(),
        })
    }

    async fn adopt(&mut self, ledger: &Ledger) -> Result<(), DecisionLogError> {
        self.begin_forced().await?;
        self.execute(sql::LOCK_HISTORY).await?;
        let before = ledger.position();
        let seen = self.observe().await?;
        let (system, timeline) = (seen.server.system.cast_signed(), i64::from(seen.server.timeline));
        match ledger.judge(&seen, before) {
            // Somebody else was quicker.
            Verdict::Fits(_) => {}
            Verdict::LeftBehind(refused) => return Err(refused),
            Verdict::Introduce => {
                let statement = sqlx::query(sql::INTRODUCE).bind(system).bind(timeline);
                let statement = statement.execute(&mut self.connection);
                self.notices.watch(self.limit, statement).await?;
            }
            Verdict::WentBack { why, switches } => {
                let doubted = self.doubt(Some(seen.server), switches, &why).await?;
                tracing::error!(
                    incarnations = doubted,
                    switches,
                    why,
                    "the decision log went back in time: what has no record is in doubt until its coordinator or an operator vouches"
                );
            }
        }
        self.execute("COMMIT").await?;
        Ok(())
    }

    /// Begins a transaction that is durable when it is committed, whatever this connection is for.
    pub(super) async fn begin_forced(&mut self) -> Result<(), SessionError> {
        match self.forced {
            "remote_apply" => self.execute("BEGIN; SET LOCAL synchronous_commit = remote_apply").await,
            _ => self.execute("BEGIN; SET LOCAL synchronous_commit = on").await,
        }
    }

    /// Ends all that had not ended, and puts it in doubt. Inside a transaction that holds the lock.
    pub(super) async fn doubt(
        &mut self,
        server: Option<ServerIdentity>,
        switches_min: u64,
        why: &str,
    ) -> Result<u64, DecisionLogError> {
        let statement = sqlx::query(sql::SWITCH)
            .bind(server.map(|server| server.system.cast_signed()))
            .bind(server.map(|server| i64::from(server.timeline)))
            .bind(switches_min.cast_signed())
            .execute(&mut self.connection);
        self.notices.watch(self.limit, statement).await?;
        let statement = sqlx::query(sql::DOUBT).execute(&mut self.connection);
        let doubted = self.notices.watch(self.limit, statement).await?.rows_affected();
        let told = format!("{why}; {doubted} incarnations had not ended");
        self.note(LogEventKind::Doubted, None, &told).await?;
        Ok(doubted)
    }
}

fn identity(system: i64, timeline: i64) -> Result<ServerIdentity, DecisionLogError> {
    let timeline = u32::try_from(timeline).map_err(|error| DecisionLogError::Database(Box::new(error)))?;
    Ok(ServerIdentity { system: system.cast_unsigned(), timeline })
}
