//! A server for all tests that do not break theirs, a database for each, and ways to look inside.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pactum_coordinator::decision_log::postgres::{PostgresLog, PostgresLogOptions};
use pactum_coordinator::decision_log::{DecisionLog, DecisionWriter, LogView, Proposal};
use pactum_core::id::{Gid, Incarnation};
use pactum_core::outcome::{LookUpResult, ProposalResult};
use pactum_postgres_server::PostgresServer;
use sqlx::{Connection as _, PgConnection};

/// Longer than anything here takes, so that reaching it is a failure.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// One server for all tests that do not break theirs.
pub(crate) fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::start().unwrap())
}

pub(crate) fn new_database() -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let name = format!("log_{}", NAMES.fetch_add(1, Ordering::Relaxed));
    server().create_database(&name).unwrap()
}

pub(crate) async fn open(url: &str) -> PostgresLog {
    PostgresLog::open(PostgresLogOptions::from_url(url).unwrap()).await.unwrap()
}

pub(crate) struct Fixture {
    pub(crate) url: String,
    pub(crate) log: Arc<PostgresLog>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let url = new_database();
        let log = Arc::new(open(&url).await);
        Self { url, log }
    }

    pub(crate) fn log(&self) -> Arc<dyn DecisionLog> {
        self.log.clone()
    }

    pub(crate) async fn started(&self) -> (Incarnation, Box<dyn DecisionWriter>) {
        let incarnation = self.log.start_incarnation("here").await.unwrap();
        (incarnation, self.log.open_writer().await.unwrap())
    }

    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Waits until so many of the log's connections to this database wait for a lock.
    pub(crate) async fn until_waiting(&self, count: i64) {
        self.until("wait_event_type = 'Lock'", count).await;
    }

    pub(crate) async fn until(&self, condition: &str, count: i64) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name = 'pactum log' AND {condition}"
        );
        let mut watcher = self.connection().await;
        let reached = async {
            while sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql.clone()))
                .fetch_one(&mut watcher)
                .await
                .unwrap()
                < count
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap();
    }
}

pub(crate) async fn execute(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// Writes in a task, as a lane does.
pub(crate) fn write(
    mut writer: Box<dyn DecisionWriter>,
    by: Incarnation,
    batch: Vec<Proposal>,
) -> tokio::task::JoinHandle<(Box<dyn DecisionWriter>, Vec<ProposalResult>)> {
    tokio::spawn(async move {
        let results = writer.write(by, &batch).await;
        (writer, results)
    })
}

pub(crate) async fn results(
    task: tokio::task::JoinHandle<(Box<dyn DecisionWriter>, Vec<ProposalResult>)>,
) -> Vec<ProposalResult> {
    tokio::time::timeout(LIMIT, task).await.unwrap().unwrap().1
}

pub(crate) fn lost(proposal: &Proposal) -> ProposalResult {
    ProposalResult::Lost(Box::new(proposal.record.clone()))
}

/// An insert as another coordinator's, held open.
pub(crate) const HOLD_GID_1: &str = "BEGIN; INSERT INTO pactum.decisions (gid, incarnation, number, decision, reason_kind, \
    reason_message) VALUES ('0199c3d0-0000-7000-8000-000000000001', gen_random_uuid(), 0, 'abort', \
    'owner-ended', 'closed')";

/// Beats until the log answers: connections that a restart took along are found out one by one.
pub(crate) async fn beat(log: &PostgresLog, own: Incarnation) -> LogView {
    let beating = async {
        loop {
            match log.heartbeat(own).await {
                Ok(view) => return view,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(LIMIT, beating).await.unwrap()
}

/// Looks up until the log answers.
pub(crate) async fn look_up(log: &PostgresLog, gids: &[Gid]) -> Vec<LookUpResult> {
    let looking = async {
        loop {
            match log.look_up(gids).await {
                Ok(found) => return found,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(LIMIT, looking).await.unwrap()
}
