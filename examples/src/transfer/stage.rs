//! Everything that runs round the application: a throw-away PostgreSQL server, a coordinator, and
//! the two services as processes of their own. Where you work, these are there already.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use pactum_coordinator::{Config, Coordinator, Listeners, open_log};
use pactum_postgres_server::PostgresServer;
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::books::Books;
use crate::service::{COORDINATOR, DATABASE_URL, SERVING};
use crate::{inventory, ledger};

/// How long a service may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// All of it. Dropped, it takes everything down with it; [`Stage::stop`] does so in good order.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) coordinator: Coordinator,
    pub(crate) inventory: Service,
    pub(crate) ledger: Service,
    pub(crate) books: Books,
    server: PostgresServer,
}

/// A service's process.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) address: String,
    child: Child,
}

impl Stage {
    /// Starts everything.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        // The services need PREPARE TRANSACTION: max_prepared_transactions is above zero there.
        let server = tokio::task::spawn_blocking(PostgresServer::start).await??;
        let url = |name: &str| server.create_database(name);
        let (log, of_inventory, of_ledger) = (url("decisions")?, url("inventory")?, url("ledger")?);
        let books = Books {
            inventory: PgPool::connect(&of_inventory).await?,
            ledger: PgPool::connect(&of_ledger).await?,
        };
        inventory::create(&books.inventory).await?;
        ledger::create(&books.ledger).await?;

        let coordinator = start_coordinator(&log).await?;
        let at = coordinator.public_url();
        let inventory = Service::start(inventory::NAME, &of_inventory, &at).await?;
        let ledger = Service::start(ledger::NAME, &of_ledger, &at).await?;
        Ok(Self { coordinator, inventory, ledger, books, server })
    }

    /// Stops everything, in good order.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.inventory.stop().await?;
        self.ledger.stop().await?;
        self.coordinator.stop().await?;
        self.books.inventory.close().await;
        self.books.ledger.close().await;
        let server = self.server;
        tokio::task::spawn_blocking(move || server.stop()).await??;
        Ok(())
    }
}

/// A coordinator inside this process. `pactum serve --log postgres://…` is the same as a process.
async fn start_coordinator(log: &str) -> anyhow::Result<Coordinator> {
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        ..Config::default()
    };
    let listeners = Listeners::bind(&config).await?;
    let coordinator = Coordinator::start(listeners, open_log(log).await?, config)?;
    coordinator.ready().await;
    Ok(coordinator)
}

impl Service {
    /// Starts this program again in the role of a service, and waits until it serves.
    async fn start(role: &str, database: &str, coordinator: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .env(DATABASE_URL, database)
            .env(COORDINATOR, coordinator)
            // It ends when this pipe does, however we end.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("standard output was asked for")?;
        let mut lines = BufReader::new(stdout).lines();
        let line =
            timeout(PATIENCE, lines.next_line()).await.with_context(|| format!("{role} is slow"))??;
        match line.as_deref().and_then(|line| line.strip_prefix(SERVING)) {
            Some(address) => Ok(Self { address: address.to_owned(), child }),
            None => bail!("{role} has not started: {line:?}"),
        }
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = timeout(PATIENCE, self.child.wait()).await.context("a service does not stop")??;
        anyhow::ensure!(status.success(), "a service ended with {status}");
        Ok(())
    }
}
