//! One connection to the log's server, whose settings have been checked.
//!
//! What it keeps: no answer of a server that could lose an acknowledged commit is ever taken for
//! durable. Settings that make it so are refused with their name and the remedy; those that a
//! role or database may preset and that our statements rely on are set outright. And none is used that
//! was replaced by a copy: every connection belongs to an era (`ledger.rs`), known before its first use.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};

use super::hosts::Hosts;
use super::ledger::{Era, Ledger};
use super::notices::Notices;
use crate::decision_log::{DecisionLogError, standbys_required};

/// The oldest server that is served: 14 is the first with `idle_session_timeout`, and the oldest
/// that its makers still mended when this was written.
const VERSION_MIN: i32 = 140_000;

/// Longest wait for a connection, its checks included: as for a statement, within these.
const CONNECT_LIMIT: std::ops::RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(10);

/// How a standby is refused.
pub(super) const STANDBY: &str = "pg_is_in_recovery";

/// What goes wrong between us and a server.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// It failed, or the connection did.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// No answer in time. The statement may still be carried out.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It answered success with a WARNING: perhaps durable here and not at its standby.
    #[error("the server warned beside its answer: {0}")]
    Warned(String),
    /// It answered, but not what was asked.
    #[error("the server's answer does not say which rows were written")]
    Incomplete,
    /// Another connection found that the log's history has changed.
    #[error("the log went on without this connection, which is given up")]
    Outdated,
}

impl SessionError {
    /// Whether the log is there and refuses writes, and will refuse those of other connections as well:
    /// no disk, memory or connections left, read-only, starting, or an error of its disk.
    pub(super) fn refuses_writes(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| {
            ["53", "58"].iter().any(|class| code.starts_with(class))
                || ["25006", "57P02", "57P03"].contains(&&*code)
        })
    }
}

impl From<SessionError> for DecisionLogError {
    fn from(error: SessionError) -> Self {
        Self::Database(Box::new(error))
    }
}

/// When a commit of this connection returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    /// When it is durable, at the synchronous standbys too if there are any.
    Forced,
    /// At once: for what has no say in safety.
    Lazy,
}

/// A checked connection. Whoever sees an error drops it: what became of its last statement is not
/// known, and a transaction may be open.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: PgConnection,
    pub(super) notices: Notices,
    /// Longest wait for the answer to one statement.
    pub(super) limit: Duration,
    /// Standbys that a commit here waits for.
    pub(super) required: u32,
    /// What `synchronous_commit` must be for a commit to be durable.
    pub(super) forced: &'static str,
    /// None until its history is known: then it is good for migrations only.
    pub(super) era: Option<Era>,
}

/// What all connections of one log share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) hosts: Hosts,
    /// Longest wait for the answer to one statement.
    pub(super) limit: Duration,
    pub(super) standbys_min: u32,
    pub(super) ledger: Ledger,
    /// Fewer standbys are configured than are asked for: no decision is written.
    pub(super) is_short: std::sync::atomic::AtomicBool,
}

impl Server {
    /// A connection to the primary, in the log's present era.
    pub(super) async fn session(self: &Arc<Self>, commits: Commits) -> Result<Session, DecisionLogError> {
        self.hosts
            .first(async |options| {
                let connecting = async {
                    let mut session = Session::connect(&options, commits, self.limit).await?;
                    session.identify(&self.ledger).await?;
                    Ok(session)
                };
                Session::within_limit(self.limit, connecting).await
            })
            .await
    }

    /// Refuses a server with fewer synchronous standbys than were asked for.
    pub(super) fn check_standbys(&self, session: &Session) -> Result<(), DecisionLogError> {
        if session.required >= self.standbys_min {
            return Ok(());
        }
        Err(DecisionLogError::Refused {
            setting: "synchronous_standby_names",
            found: format!("set for {} standbys of the {} asked for", session.required, self.standbys_min),
            remedy: "set it to a quorum, as ANY 1 (a, b), and reload; or ask for fewer by log_standbys_min",
        })
    }
}

impl Session {
    /// Connects and checks, whatever the log's history is.
    pub(super) async fn connect(
        options: &PgConnectOptions,
        commits: Commits,
        limit: Duration,
    ) -> Result<Self, DecisionLogError> {
        let connecting = Self::connect_unlimited(options, commits, limit);
        Self::within_limit(limit, connecting).await
    }

    async fn within_limit<T>(
        limit: Duration,
        connecting: impl Future<Output = Result<T, DecisionLogError>>,
    ) -> Result<T, DecisionLogError> {
        let limit = limit.clamp(*CONNECT_LIMIT.start(), *CONNECT_LIMIT.end());
        match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(SessionError::TimedOut(limit).into()),
        }
    }

    async fn connect_unlimited(
        options: &PgConnectOptions,
        commits: Commits,
        limit: Duration,
    ) -> Result<Self, DecisionLogError> {
        // sqlx would write every statement to the log, at a cost per batch.
        let options = options.clone().disable_statement_logging();
        let connection = options.connect().await.map_err(SessionError::from)?;
        let notices = Notices::new();
        let mut session = Self { connection, notices, limit, required: 0, forced: "on", era: None };
        session.check_server().await?;
        session.set_up(commits).await?;
        session.prove_that_warnings_arrive().await?;
        Ok(session)
    }

    /// Runs statements that return nothing.
    pub(super) async fn execute(&mut self, sql: &'static str) -> Result<(), SessionError> {
        let statement = sqlx::raw_sql(sql).execute(&mut self.connection);
        self.notices.watch(self.limit, statement).await.map(drop)
    }

    /// A write made only to be forced: when it returns, everything that was visible before is as
    /// durable as our own commits are (B6). A message in the write-ahead log rather than an UPDATE: it
    /// leaves no dead row and no two barriers wait for each other.
    pub(super) async fn barrier(&mut self) -> Result<(), SessionError> {
        let sql = "SELECT pg_catalog.pg_logical_emit_message(true, 'pactum', 'barrier')::text";
        let statement = sqlx::query(sql).execute(&mut self.connection);
        self.notices.watch(self.limit, statement).await.map(drop)
    }

    /// Makes what was just read known durable (B6).
    ///
    /// A log that is full or read-only takes no barrier. Without standbys it needs none: a record is
    /// forced here before anybody sees it. With them nothing is known until it takes writes again.
    pub(super) async fn make_known_durable(&mut self) -> Result<(), SessionError> {
        match self.barrier().await {
            Err(error) if self.required == 0 && error.refuses_writes() => Ok(()),
            done => done,
        }
    }

    /// Refuses a server that could lose what it acknowledged.
    async fn check_server(&mut self) -> Result<(), DecisionLogError> {
        let sql = "SELECT current_setting('server_version_num')::int AS version, \
                   current_setting('server_version') AS version_text, \
                   pg_is_in_recovery() AS standby, current_setting('fsync') AS fsync, \
                   current_setting('full_page_writes') AS full_page_writes, \
                   current_setting('synchronous_commit') AS synchronous_commit, \
                   current_setting('synchronous_standby_names') AS standby_names";
        let row = sqlx::query(sql).fetch_one(&mut self.connection).await.map_err(SessionError::from)?;
        let text = |name: &str| row.try_get::<String, _>(name).map_err(SessionError::from);
        let refused =
            |setting, found: String, remedy| Err(DecisionLogError::Refused { setting, found, remedy });
        if row.try_get::<i32, _>("version").map_err(SessionError::from)? < VERSION_MIN {
            return refused("server_version", text("version_text")?, "use PostgreSQL 14 or newer");
        }
        if row.try_get::<bool, _>("standby").map_err(SessionError::from)? {
            let remedy = "connect to the primary (target_session_attrs or its own address)";
            return refused(STANDBY, "true".into(), remedy);
        }
        if text("fsync")? != "on" {
            return refused("fsync", text("fsync")?, "set it to on in postgresql.conf and reload");
        }
        if text("full_page_writes")? != "on" {
            let remedy = "set it to on in postgresql.conf and reload";
            return refused("full_page_writes", text("full_page_writes")?, remedy);
        }
        let commit = text("synchronous_commit")?;
        if commit == "off" {
            let remedy = "set it to on for the server, database and role that the log uses";
            return refused("synchronous_commit", commit, remedy);
        }
        self.required = standbys_required(&text("standby_names")?);
        if commit == "local" && self.required > 0 {
            let remedy = "set it to on or remote_apply: there are synchronous standbys to wait for";
            return refused("synchronous_commit", commit, remedy);
        }
        if commit == "remote_apply" {
            self.forced = "remote_apply";
        }
        Ok(())
    }

    async fn set_up(&mut self, commits: Commits) -> Result<(), DecisionLogError> {
        let synchronous_commit = match commits {
            Commits::Lazy => "off",
            Commits::Forced => self.forced,
        };
        // Read committed: the fence and floor rows must be seen as they are *after* a wait for
        // them. Read-only is left as it is: services that run out of disk preset it. Only our own names: nothing in another schema can stand in for a function here. A row
        // policy must fail a statement rather than hide a record. Keyed plans always: one cached
        // while a table was small must not scan it when it is large; and no just-in-time compiler,
        // which the price of a switched-off scan would call in. Our own limit ends first.
        let server_limit = (self.limit.as_millis() * 2 / 3).max(1);
        let lock_limit = (self.limit.as_millis() / 3).max(1);
        let sql = format!(
            "SET synchronous_commit = {synchronous_commit};
             SET default_transaction_isolation = 'read committed';
             SET search_path = pg_catalog;
             SET row_security = off;
             SET statement_timeout = {server_limit};
             SET lock_timeout = {lock_limit};
             SET idle_in_transaction_session_timeout = {server_limit};
             SET idle_session_timeout = 0;
             SET plan_cache_mode = force_generic_plan;
             SET enable_seqscan = off;
             SET jit = off;
             SET client_min_messages = notice"
        );
        let statement = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection);
        self.notices.watch(self.limit, statement).await?;
        // Whatever stands between may have kept it from this session.
        let sql = "SELECT current_setting('synchronous_commit')";
        let statement = sqlx::query_scalar::<_, String>(sql).fetch_one(&mut self.connection);
        let found = self.notices.watch(self.limit, statement).await?;
        if found != synchronous_commit {
            let remedy = "have SET reach the session that serves us: no pooler by statement or transaction";
            return Err(DecisionLogError::Refused { setting: "synchronous_commit", found, remedy });
        }
        Ok(())
    }

    /// Raises a notice and looks for it. A notice, because servers write warnings to their own log;
    /// where this build of `tracing` has no such level, a warning after all.
    async fn prove_that_warnings_arrive(&mut self) -> Result<(), DecisionLogError> {
        let sql = if STATIC_MAX_LEVEL >= LevelFilter::INFO {
            "DO $$ BEGIN RAISE NOTICE 'pactum checks that notices reach it'; END $$"
        } else {
            "DO $$ BEGIN RAISE WARNING 'pactum checks that warnings reach it'; END $$"
        };
        let connection = &mut self.connection;
        let statement = async move { sqlx::raw_sql(sql).execute(connection).await.map(drop) };
        if self.notices.hears(self.limit, statement).await? {
            return Ok(());
        }
        Err(DecisionLogError::Refused {
            setting: "client_min_messages",
            found: "without effect: the server's warnings do not reach this program".into(),
            remedy: "build without a static tracing level under warn, and put nothing that drops notices in between",
        })
    }
}
