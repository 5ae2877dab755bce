//! One connection to the log's server, whose settings have been checked.
//!
//! What it keeps: no answer of a server that could lose an acknowledged commit is ever taken for
//! durable. Settings that make it so are refused with their name and the remedy; those that a
//! role or database may preset and that our statements rely on are set outright.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};

use super::notices::Notices;
use crate::decision_log::DecisionLogError;

/// The oldest server that is served: 14 is the first with `idle_session_timeout`, and the oldest
/// that its makers still mended when this was written.
const VERSION_MIN: i32 = 140_000;

/// Longest wait for a connection, its checks included.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

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
}

impl Session {
    pub(super) async fn connect(
        options: &PgConnectOptions,
        commits: Commits,
        limit: Duration,
    ) -> Result<Self, DecisionLogError> {
        let connecting = Self::connect_unlimited(options, commits, limit);
        match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(SessionError::TimedOut(CONNECT_LIMIT).into()),
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
        let mut session = Self { connection, notices: Notices::new(), limit };
        let strictest = session.check_server().await?;
        session.set_up(commits, strictest).await?;
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

    /// Refuses a server that could lose what it acknowledged; answers its `synchronous_commit`.
    async fn check_server(&mut self) -> Result<String, DecisionLogError> {
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
            return refused("pg_is_in_recovery", "true".into(), remedy);
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
        if commit == "local" && !text("standby_names")?.is_empty() {
            let remedy = "set it to on or remote_apply: there are synchronous standbys to wait for";
            return refused("synchronous_commit", commit, remedy);
        }
        Ok(commit)
    }

    async fn set_up(&mut self, commits: Commits, found: String) -> Result<(), DecisionLogError> {
        let synchronous_commit = match commits {
            Commits::Lazy => "off",
            Commits::Forced if found == "remote_apply" => "remote_apply",
            Commits::Forced => "on",
        };
        // Read committed: the fence and floor rows must be seen as they are *after* a wait for
        // them. Only our own names: nothing in another schema can stand in for a function here. A row
        // policy must fail a statement rather than hide a record. Keyed plans always: one cached
        // while a table was small must not scan it when it is large; and no just-in-time compiler,
        // which the price of a switched-off scan would call in. Our own limit ends first.
        let server_limit = (self.limit.as_millis() * 2 / 3).max(1);
        let lock_limit = (self.limit.as_millis() / 3).max(1);
        let sql = format!(
            "SET synchronous_commit = {synchronous_commit};
             SET default_transaction_isolation = 'read committed';
             SET default_transaction_read_only = off;
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
