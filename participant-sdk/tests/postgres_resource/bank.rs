//! What the tests work on: a throw-away server, a database each, and a ledger in it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pactum::Cluster;
use pactum::resource::{BeginOptions, BranchContext, PostgresBranch, PostgresResource, Prepared, Resource};
use pactum::testing;
use pactum_core::vote::{AbortReason, Evidence};
use pactum_postgres_server::PostgresServer;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};

/// No condition here takes longer on a healthy machine, however busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The server that all tests share which neither stop it nor change its settings.
pub(crate) fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        PostgresServer::start_with(&[("max_connections", "300"), ("max_prepared_transactions", "200")])
            .unwrap()
    })
}

/// A database with an empty ledger, and a resource over it.
pub(crate) struct Bank {
    pub(crate) url: String,
    /// Not the resource's: what a stranger sees.
    pub(crate) outside: PgPool,
    pub(crate) resource: PostgresResource,
    pub(crate) cluster: Cluster,
}

impl Bank {
    pub(crate) async fn open() -> Self {
        Self::open_on(server()).await
    }

    pub(crate) async fn open_on(server: &PostgresServer) -> Self {
        let name = format!("bank_{:016x}", rand::random::<u64>());
        let url = server.create_database(&name).unwrap();
        let outside = pool(&url, 4);
        sqlx::raw_sql("CREATE TABLE ledger (key bigint PRIMARY KEY, amount bigint NOT NULL DEFAULT 1)")
            .execute(&outside)
            .await
            .unwrap();
        Self { resource: resource(&url), outside, url, cluster: Cluster::new("test").unwrap() }
    }

    /// With the marker tables.
    pub(crate) async fn open_with_marker() -> Self {
        let bank = Self::open().await;
        PostgresResource::install(&bank.outside).await.unwrap();
        bank
    }

    /// A resource without memory, as after a restart.
    pub(crate) fn restarted(&self) -> PostgresResource {
        resource(&self.url)
    }

    pub(crate) fn branch(&self) -> BranchContext {
        testing::branch_context(&self.cluster, PATIENCE)
    }

    /// Begins a branch.
    pub(crate) async fn begin(&self, branch: &BranchContext) -> PostgresBranch {
        testing::begin(&self.resource, branch, BeginOptions::new()).await.unwrap()
    }

    /// A branch that has written `key` and is held by the resource.
    pub(crate) async fn worked(&self, key: i64) -> BranchContext {
        let branch = self.branch();
        let mut work = self.begin(&branch).await;
        write(&mut work, key).await;
        work.enlist().await.unwrap();
        branch
    }

    /// A branch that has written `key` and is prepared.
    pub(crate) async fn prepared(&self, key: i64) -> (BranchContext, Evidence) {
        let branch = self.worked(key).await;
        let evidence = yes(self.resource.prepare(&branch, None).await);
        (branch, evidence)
    }

    pub(crate) async fn sees(&self, key: i64) -> bool {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM ledger WHERE key = $1)")
            .bind(key)
            .fetch_one(&self.outside)
            .await
            .unwrap()
    }

    pub(crate) async fn run(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.outside).await.unwrap();
    }

    /// How many branches are prepared in this database.
    pub(crate) async fn prepared_count(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")
            .fetch_one(&self.outside)
            .await
            .unwrap()
    }

    /// Ends a prepared branch by hand, as an operator would.
    pub(crate) async fn by_hand(&self, verb: &str, branch: &BranchContext) {
        let sql = format!("{verb} PREPARED '{}'", branch.name);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&self.outside).await.unwrap();
    }

    /// A deferred trigger that stands still, when a transaction ends, until the lock 42 is free.
    pub(crate) async fn install_turnstile(&self) {
        self.run(
            "CREATE FUNCTION turnstile() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END'; \
             CREATE CONSTRAINT TRIGGER turnstile AFTER INSERT ON ledger \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION turnstile()",
        )
        .await;
    }

    /// Holds the turnstile's lock until the connection is closed.
    pub(crate) async fn block_turnstile(&self) -> PgConnection {
        let mut session = <PgConnection as sqlx::Connection>::connect(&self.url).await.unwrap();
        sqlx::raw_sql("SELECT pg_advisory_lock(42)").execute(&mut session).await.unwrap();
        session
    }

    /// Waits until a backend of this database stands at the turnstile; its process id.
    pub(crate) async fn stuck_backend(&self) -> i32 {
        until("a backend waits at the turnstile", async || {
            sqlx::query_scalar(
                "SELECT pid FROM pg_stat_activity \
                  WHERE datname = current_database() AND wait_event = 'advisory'",
            )
            .fetch_optional(&self.outside)
            .await
            .unwrap()
        })
        .await
    }
}

pub(crate) fn pool(url: &str, connections: u32) -> PgPool {
    PgPoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE).connect_lazy(url).unwrap()
}

pub(crate) fn resource(url: &str) -> PostgresResource {
    PostgresResource::new("bank", pool(url, 4)).unwrap()
}

pub(crate) async fn write(session: &mut PgConnection, key: i64) {
    sqlx::query("INSERT INTO ledger (key) VALUES ($1)").bind(key).execute(session).await.unwrap();
}

pub(crate) fn yes(vote: Result<Prepared, AbortReason>) -> Evidence {
    match vote {
        Ok(Prepared::Yes(evidence)) => evidence,
        other => panic!("a yes was expected, not {other:?}"),
    }
}

/// Waits for a condition.
pub(crate) async fn until<T>(what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(met) = condition().await {
            return met;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::task::yield_now().await;
    }
}
