//! Branches that are prepared in PostgreSQL: made, and ended by nothing but COMMIT PREPARED.

use std::sync::Arc;
use std::time::Duration;

use pactum::Cluster;
use pactum_core::id::{BranchId, Gid, Incarnation, InstanceId, PreparedName, TransactionId};
use pactum_postgres_server::PostgresServer;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::failed;
use super::unfinished::{Commit, Voted, branches_text, gids};
use crate::bench::place::{connect, settings, start_server};
use crate::failure::Failure;

/// The two databases, as resources and as databases.
pub(super) const BANKS: [(&str, &str); 2] = [("bank-a", "bank_a"), ("bank-b", "bank_b")];

/// Where the server stands, as the vote of a branch says it: its system, timeline and position.
const ANCHOR: &str = "\
SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' ||
       substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '/' || pg_current_wal_flush_lsn()::text";

/// A server with two databases.
#[derive(Debug)]
pub(super) struct Banks {
    server: Arc<PostgresServer>,
    urls: Vec<String>,
    connections: usize,
}

/// Transactions whose branches are prepared in both databases.
#[derive(Debug)]
pub(super) struct Set {
    id: Incarnation,
    cluster: Cluster,
    gids: Vec<Gid>,
    /// Of each database, the xids in the order of the gids, and the anchor.
    evidence: Vec<(Vec<String>, String)>,
}

impl Banks {
    /// Starts one in which so many branches can be prepared at once, with so many connections to each.
    pub(super) async fn start(branches: u32, connections: u32) -> Result<Self, Failure> {
        let mut settings = settings(None);
        // Those of a service that goes on working beside them.
        settings.push(("max_prepared_transactions", (branches + 100).to_string()));
        settings.push(("max_connections", (connections * 4 + 50).to_string()));
        let server = Arc::new(start_server(&settings).await?);
        let mut urls = Vec::new();
        for (_, database) in BANKS {
            let server = Arc::clone(&server);
            let made = tokio::task::spawn_blocking(move || server.create_database(database)).await;
            let made = made.map_err(|error| failed("a database could not be made").because(&error))?;
            let url = made.map_err(|error| failed("a database could not be made").because(&error))?;
            let table = "CREATE TABLE entry (number bigint PRIMARY KEY, amount bigint NOT NULL)";
            run(&url, table).await?;
            urls.push(url);
        }
        Ok(Self { server, urls, connections: usize::try_from(connections).unwrap_or(usize::MAX) })
    }

    /// The databases' URLs, in the order of [`BANKS`].
    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Empties both, and writes all out.
    pub(super) async fn empty(&self) -> Result<(), Failure> {
        for url in &self.urls {
            run(url, "TRUNCATE entry; CHECKPOINT").await?;
        }
        Ok(())
    }

    /// Prepares a branch of each of so many transactions in each database.
    pub(super) async fn prepare(&self, cluster: &Cluster, transactions: u32) -> Result<Set, Failure> {
        let id = Incarnation::from_uuid(Uuid::now_v7());
        let mut set = Set { id, cluster: cluster.clone(), gids: gids(transactions), evidence: Vec::new() };
        for (place, url) in self.urls.iter().enumerate() {
            let texts = set.names(place).into_iter().enumerate().map(|(number, name)| {
                format!(
                    "BEGIN; INSERT INTO entry VALUES ({number}, 1); \
                     SELECT pg_current_xact_id()::text; PREPARE TRANSACTION '{name}'"
                )
            });
            let xids = run_all(url, self.connections, texts.collect()).await?;
            let mut connection = connect(url).await?;
            let anchor = sqlx::query_scalar(ANCHOR).fetch_one(&mut connection).await.map_err(refused)?;
            connection.close().await.map_err(refused)?;
            set.evidence.push((xids, anchor));
        }
        Ok(set)
    }

    /// Commits all of them by COMMIT PREPARED alone, over both databases at once; says how long it took,
    /// with the connecting: who recovers has to connect, too.
    pub(super) async fn bare_loop(&self, set: &Set) -> Result<Duration, Failure> {
        let mut all = Vec::new();
        for (place, url) in self.urls.iter().enumerate() {
            let texts = set.names(place).into_iter().map(|name| format!("COMMIT PREPARED '{name}'"));
            all.push((url.clone(), texts.collect::<Vec<_>>()));
        }
        let began = Instant::now();
        let mut databases = JoinSet::new();
        for (url, texts) in all {
            let connections = self.connections;
            databases.spawn(async move { run_all(&url, connections, texts).await });
        }
        while let Some(ended) = databases.join_next().await {
            ended.map_err(|error| failed("the bare loop broke off").because(&error))??;
        }
        Ok(began.elapsed())
    }

    /// Checks that nothing is prepared any more and that every branch of so many transactions had its effect.
    pub(super) async fn check(&self, transactions: u32) -> Result<(), Failure> {
        for url in &self.urls {
            let mut connection = connect(url).await?;
            let counts = "SELECT (SELECT count(*) FROM pg_prepared_xacts), (SELECT count(*) FROM entry)";
            let row = sqlx::query(counts).fetch_one(&mut connection).await.map_err(refused)?;
            let counts: (i64, i64) = (row.try_get(0).map_err(refused)?, row.try_get(1).map_err(refused)?);
            connection.close().await.map_err(refused)?;
            if counts != (0, i64::from(transactions)) {
                let (prepared, effects) = counts;
                let sentence = format!(
                    "{prepared} branches are still prepared and {effects} of {transactions} have their effect"
                );
                return Err(failed(&sentence));
            }
        }
        Ok(())
    }

    /// Stops the server, which blocks, and removes everything.
    pub(super) async fn remove(self) {
        // A server that does not stop is stopped by its watchdog.
        drop(tokio::task::spawn_blocking(move || drop(self.server)).await);
    }
}

impl Set {
    /// The incarnation that they are named by.
    pub(super) fn incarnation(&self) -> Incarnation {
        self.id
    }

    /// The commits that stand for them in the log.
    pub(super) fn commits(&self) -> Result<Vec<Commit>, Failure> {
        let instance = InstanceId::from_uuid(Uuid::new_v4());
        let commit = |(place, gid): (usize, &Gid)| {
            let voted =
                BANKS.iter().zip(&self.evidence).zip(1..).map(|(((resource, _), evidence), branch)| {
                    let (xids, anchor) = evidence;
                    Voted { branch: BranchId::new(branch), resource, execution: &xids[place], anchor }
                });
            let branches = branches_text(&voted.collect::<Vec<_>>(), instance)?;
            Ok(Commit { gid: *gid, branches })
        };
        self.gids.iter().enumerate().map(commit).collect()
    }

    /// The names of the branches in one of the databases.
    fn names(&self, place: usize) -> Vec<PreparedName> {
        let branch = BranchId::new(place as u64 + 1);
        let name = |gid: &Gid| PreparedName {
            cluster: self.cluster.clone(),
            id: TransactionId { incarnation: self.id, gid: *gid },
            branch,
        };
        self.gids.iter().map(name).collect()
    }
}

/// Runs the texts over so many connections, each by whichever one's turn it is; answers what each one's first
/// row says, empty without a row.
async fn run_all(url: &str, connections: usize, texts: Vec<String>) -> Result<Vec<String>, Failure> {
    let texts: Arc<[String]> = texts.into();
    let mut tasks = JoinSet::new();
    for first in 0..connections {
        let (url, texts) = (url.to_owned(), Arc::clone(&texts));
        tasks.spawn(async move {
            let mut connection = connect(&url).await?;
            let mut answers = Vec::new();
            for (place, text) in texts.iter().enumerate().skip(first).step_by(connections) {
                let rows = sqlx::raw_sql(AssertSqlSafe(text.as_str())).fetch_all(&mut connection).await;
                let rows = rows.map_err(refused)?;
                let said = rows.first().map(|row| row.try_get::<String, _>(0)).transpose();
                answers.push((place, said.map_err(refused)?.unwrap_or_default()));
            }
            connection.close().await.map_err(refused)?;
            Ok::<_, Failure>(answers)
        });
    }
    let mut all = vec![String::new(); texts.len()];
    while let Some(ended) = tasks.join_next().await {
        let answers = ended.map_err(|error| failed("a connection broke off").because(&error))?;
        for (place, said) in answers? {
            all[place] = said;
        }
    }
    Ok(all)
}

async fn run(url: &str, text: &'static str) -> Result<(), Failure> {
    let mut connection = connect(url).await?;
    sqlx::raw_sql(text).execute(&mut connection).await.map_err(refused)?;
    connection.close().await.map_err(refused)
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err wants it")]
fn refused(error: sqlx::Error) -> Failure {
    failed("the databases do not answer as they should").because(&error)
}
