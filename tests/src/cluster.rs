//! A coordinator on a log of its own, inside this process, and what attaches to it.
//!
//! For everything that needs no killed process: [`process`](crate::process) has those.

use std::time::Duration;

use pactum::Pactum;
use pactum_coordinator::{Config, Coordinator, Listeners, open_log};
use pactum_postgres_server::PostgresServer;

use crate::bank::{Bank, Books};
use crate::faults::Proxy;
use crate::postgres;

/// A coordinator, and how it is reached.
#[derive(Debug)]
pub struct Cluster {
    /// The coordinator.
    pub coordinator: Coordinator,
    /// Its log.
    pub log_url: String,
}

/// The settings of tests: loopback, free ports, and the defaults for everything else.
pub fn config() -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        finished_bound: Duration::from_secs(30),
        // No lazy record of an undecided transaction gets in the way of a fault that waits for its gid.
        prepare_record_after: Duration::from_mins(10),
        ..Config::default()
    }
}

impl Cluster {
    /// A coordinator on a fresh log on the shared server.
    pub async fn start() -> Self {
        Self::start_on(&postgres::database(postgres::shared(), "log"), config()).await
    }

    /// A coordinator on the log of that URL.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_on(log_url: &str, config: Config) -> Self {
        let log = open_log(log_url).await.expect("the log opens");
        let listeners = Listeners::bind(&config).await.expect("loopback ports can be had");
        let coordinator = Coordinator::start(listeners, log, config).expect("the coordinator starts");
        coordinator.ready().await;
        Self { coordinator, log_url: log_url.to_owned() }
    }

    /// A bank of that name with a fresh database on the shared server.
    pub async fn bank(&self, name: &str) -> Bank {
        self.bank_on(postgres::shared(), name, false).await
    }

    /// A bank of that name whose participant reaches its database through the proxy it returns,
    /// while its books are read past it.
    pub async fn bank_behind_proxy(&self, name: &str, markers: bool) -> (Bank, Proxy) {
        let server = postgres::shared();
        let url = postgres::database(server, name);
        let books = Books::create(&url).await;
        let proxy = Proxy::start(server.port()).await;
        let coordinator = self.coordinator.public_url();
        let mut bank = Bank::start(name, &proxy.url(&url), &coordinator, markers).await;
        bank.books = books;
        (bank, proxy)
    }

    /// A bank of that name, which keeps markers.
    pub async fn bank_with_markers(&self, name: &str) -> Bank {
        self.bank_on(postgres::shared(), name, true).await
    }

    /// A bank of that name with a fresh database on that server.
    pub async fn bank_on(&self, server: &PostgresServer, name: &str, markers: bool) -> Bank {
        let url = postgres::database(server, name);
        Books::create(&url).await;
        Bank::start(name, &url, &self.coordinator.public_url(), markers).await
    }

    /// An application.
    ///
    /// # Panics
    /// It cannot connect.
    pub async fn application(&self) -> Pactum {
        Pactum::connect(self.coordinator.public_url()).await.expect("the application connects")
    }
}
