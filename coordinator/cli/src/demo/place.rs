//! Where the demo's log and money are: files in a directory of its own, or databases of its own on
//! a PostgreSQL server. Made at the start, gone at the end. Counts the money and what is held by
//! looking into the databases, behind the backs of those who are being watched.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use pactum_core::id::{Gid, PreparedName};
use pactum_postgres_server::PostgresServer;
use pactum_proto::error::ErrorCode;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tempfile::TempDir;

use super::bank::{create_store, survey_store};
use super::wire::Store;
use crate::exit::Exit;
use crate::failure::Failure;

/// The two banks.
pub(super) const BANKS: [&str; 2] = ["bank-a", "bank-b"];

/// The banks of the scene for operators.
pub(super) const OUTAGE_BANKS: [&str; 4] = ["bank-a", "bank-b", "bank-c", "bank-d"];

/// What is in each account at the start. Transfers move 1 to 100 each, so that an account lasts.
pub(super) const OPENING_BALANCE: i64 = 10_000;

/// The log's and the banks' databases.
#[derive(Debug)]
pub(super) enum Place {
    /// Files; the log is the embedded one.
    Files {
        /// Removed with everything in it when dropped.
        directory: TempDir,
    },
    /// Databases.
    Postgres(Box<Databases>),
}

/// Databases of the demo's own.
#[derive(Debug)]
pub(super) struct Databases {
    /// A database to create and drop others from.
    administration: PgConnectOptions,
    /// What the names of ours begin with.
    prefix: String,
    banks: &'static [&'static str],
    /// Size of each bank's pool.
    connections: u32,
    /// The throw-away server, if it is ours; stopped and removed when dropped.
    server: Option<PostgresServer>,
}

/// What is found in a bank's database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// All money of both banks.
    pub(super) sum: i64,
    /// Branches that are promised and not ended, in both banks.
    pub(super) held: Vec<PreparedName>,
}

impl Place {
    /// Files in a new directory.
    pub(super) async fn files(accounts: u32) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("pactum-demo-").tempdir().map_err(|error| {
            Failure::new(Exit::Failed, "no directory for the demo's files").because(&error)
        })?;
        for bank in BANKS {
            create_store(&directory.path().join(format!("{bank}.db")), accounts, OPENING_BALANCE)
                .await
                .map_err(|error| {
                    Failure::new(Exit::Failed, format!("{bank} cannot be made")).because(&error)
                })?;
        }
        Ok(Self::Files { directory })
    }

    /// Databases on the server named, or on a throw-away one if the URL is empty.
    pub(super) async fn postgres(
        url: &str,
        banks: &'static [&'static str],
        accounts: u32,
        connections: u32,
    ) -> Result<Self, Failure> {
        let count = u32::try_from(banks.len()).unwrap_or(u32::MAX);
        let (url, server) = if url.is_empty() {
            let server = tokio::task::spawn_blocking(move || start_server(connections.saturating_mul(count)));
            let server = server.await.map_err(|error| {
                Failure::new(Exit::Failed, "the throw-away PostgreSQL server could not be started")
                    .because(&error)
            })??;
            (server.superuser_url(), Some(server))
        } else {
            (url.to_owned(), None)
        };
        // The URL may hold a password: what is wrong with it is not shown.
        let administration = PgConnectOptions::from_str(&url).map_err(|_maybe_secret| {
            Failure::usage("--postgres is not the URL of a database")
                .next("write it like postgres://user@host/database")
        })?;
        let prefix = format!("pactum_demo_{:08x}", rand::random::<u32>());
        let databases = Databases { administration, prefix, banks, connections, server };
        if let Err(failure) = databases.create(accounts).await {
            drop(databases.drop_all().await);
            return Err(failure);
        }
        Ok(Self::Postgres(Box::new(databases)))
    }

    /// The coordinator's log.
    pub(super) fn log_url(&self) -> String {
        match self {
            Self::Files { directory } => format!("sqlite:{}", directory.path().join("log.db").display()),
            Self::Postgres(databases) => databases.url("log"),
        }
    }

    /// The URL of the log's or a bank's database as it is shown: with the password of a throw-away server,
    /// and without that of a server which is somebody's.
    pub(super) fn told_url(&self, what: &str) -> String {
        match self {
            Self::Files { directory } => directory.path().join(what).display().to_string(),
            Self::Postgres(databases) => {
                let url = databases.url(what);
                let url = url.split('?').next().unwrap_or_default();
                if databases.server.is_some() { url.to_owned() } else { without_password(url) }
            }
        }
    }

    /// Rolls the branch of a transaction back behind everybody's back, as somebody in psql would.
    pub(super) async fn roll_back_by_hand(&self, bank: &str, gid: Gid) -> Result<(), Failure> {
        let Self::Postgres(databases) = self else {
            return Err(Failure::usage("only a branch in PostgreSQL is rolled back by hand"));
        };
        let failed = |error: &(dyn Error + 'static)| {
            Failure::new(Exit::Failed, format!("{bank}'s branch cannot be rolled back by hand"))
                .because(error)
        };
        let (_, held) = databases.survey(bank).await.map_err(|error| failed(&error))?;
        for name in held {
            let parsed: PreparedName = name.parse().map_err(|error| cannot_count(bank, &error))?;
            if parsed.id.gid == gid {
                let mut connection = databases.connect(bank).await.map_err(|error| failed(&error))?;
                // A prepared name of ours: letters, digits, colons, hyphens.
                let roll_back = AssertSqlSafe(format!("ROLLBACK PREPARED '{name}'"));
                sqlx::raw_sql(roll_back).execute(&mut connection).await.map_err(|error| failed(&error))?;
                connection.close().await.map_err(|error| failed(&error))?;
                return Ok(());
            }
        }
        Err(Failure::new(Exit::Failed, format!("{bank} holds no branch of {gid}")))
    }

    /// A directory that is to be gone at the end, whoever lives to see it.
    pub(super) fn scratch(&self) -> Option<PathBuf> {
        match self {
            Self::Files { directory } => Some(directory.path().to_owned()),
            Self::Postgres(_) => None,
        }
    }

    /// A bank's database.
    pub(super) fn store(&self, bank: &str) -> Store {
        match self {
            Self::Files { directory } => Store::Sqlite(directory.path().join(format!("{bank}.db"))),
            Self::Postgres(databases) => {
                Store::Postgres { url: databases.url(bank), connections: databases.connections }
            }
        }
    }

    /// What it is, in a few words.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Files { .. } => "SQLite: the embedded log, and a file for each bank",
            Self::Postgres(databases) if databases.server.is_some() => {
                "PostgreSQL: a throw-away server with a database for the log and one for each bank"
            }
            Self::Postgres(_) => {
                "PostgreSQL: a database for the log and one for each bank, on the server given"
            }
        }
    }

    /// Counts.
    pub(super) async fn survey(&self) -> Result<Survey, Failure> {
        let mut all = Survey::default();
        for bank in BANKS {
            let counted = match self {
                Self::Files { directory } => {
                    let path: PathBuf = directory.path().join(format!("{bank}.db"));
                    survey_store(&path).await.map_err(|error| cannot_count(bank, &error))?
                }
                Self::Postgres(databases) => {
                    databases.survey(bank).await.map_err(|error| cannot_count(bank, &error))?
                }
            };
            all.sum += counted.0;
            for name in counted.1 {
                let name = name.parse().map_err(|error| cannot_count(bank, &error))?;
                all.held.push(name);
            }
        }
        Ok(all)
    }

    /// Removes everything.
    pub(super) async fn remove(self) -> Result<(), Failure> {
        match self {
            Self::Files { directory } => match directory.close() {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Failure::new(Exit::Failed, "the demo's files cannot be removed").because(&error))
                }
                // The coordinator was first.
                Ok(()) | Err(_) => Ok(()),
            },
            Self::Postgres(databases) => {
                let dropped = databases.drop_all().await;
                // Stopping a server blocks.
                drop(tokio::task::spawn_blocking(move || drop(databases)).await);
                dropped.map_err(|error| {
                    Failure::new(Exit::Failed, "the demo's databases cannot be dropped").because(&error)
                })
            }
        }
    }
}

/// The URL without what stands between the user's name and the host.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    match rest.rsplit_once('@') {
        Some((user, host)) => format!("{scheme}://{}@{host}", user.split(':').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}

fn cannot_count(bank: &str, error: &(dyn Error + 'static)) -> Failure {
    Failure::new(Exit::Failed, format!("the money of {bank} cannot be counted")).because(error)
}

fn start_server(connections: u32) -> Result<PostgresServer, Failure> {
    // The banks', the log's own connections, ours.
    let most = connections.saturating_add(40).max(100).to_string();
    PostgresServer::start_with(&[("max_connections", &most), ("max_prepared_transactions", &most)]).map_err(
        |error| {
            Failure::new(Exit::Failed, "the throw-away PostgreSQL server could not be started")
                .because(&error)
                .code(ErrorCode::PostgresMissing)
        },
    )
}

impl Databases {
    fn name(&self, what: &str) -> String {
        format!("{}_{}", self.prefix, what.replace('-', "_"))
    }

    fn url(&self, what: &str) -> String {
        self.administration.clone().database(&self.name(what)).to_url_lossy().to_string()
    }

    async fn connect(&self, what: &str) -> Result<PgConnection, sqlx::Error> {
        self.administration.clone().database(&self.name(what)).connect().await
    }

    async fn create(&self, accounts: u32) -> Result<(), Failure> {
        let failed = |error: &(dyn Error + 'static)| {
            Failure::new(Exit::CannotConnect, "the demo's databases cannot be made on that server")
                .because(error)
        };
        let mut connection = self.administration.connect().await.map_err(|error| failed(&error))?;
        let prepared: String = sqlx::query_scalar("SELECT current_setting('max_prepared_transactions')")
            .fetch_one(&mut connection)
            .await
            .map_err(|error| failed(&error))?;
        if prepared == "0" {
            return Err(Failure::new(Exit::Failed, "max_prepared_transactions is 0 on that server")
                .next("set it to 100 or so in postgresql.conf and restart the server"));
        }
        for what in self.banks.iter().copied().chain(["log"]) {
            // The name is ours: letters, digits and underscores.
            let create = AssertSqlSafe(format!("CREATE DATABASE {}", self.name(what)));
            sqlx::raw_sql(create).execute(&mut connection).await.map_err(|error| failed(&error))?;
        }
        drop(connection.close().await);
        for bank in self.banks {
            let filled = async {
                let mut connection = self.connect(bank).await?;
                sqlx::raw_sql(
                    "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0))",
                )
                .execute(&mut connection)
                .await?;
                sqlx::query("INSERT INTO accounts SELECT id, $2 FROM generate_series(0, $1 - 1) AS id")
                    .bind(i64::from(accounts))
                    .bind(OPENING_BALANCE)
                    .execute(&mut connection)
                    .await?;
                connection.close().await
            };
            filled.await.map_err(|error: sqlx::Error| failed(&error))?;
        }
        Ok(())
    }

    async fn survey(&self, bank: &str) -> Result<(i64, Vec<String>), sqlx::Error> {
        let mut connection = self.connect(bank).await?;
        let sum = sqlx::query_scalar("SELECT coalesce(sum(balance), 0)::bigint FROM accounts")
            .fetch_one(&mut connection)
            .await?;
        let held =
            sqlx::query_scalar("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
                .fetch_all(&mut connection)
                .await?;
        connection.close().await?;
        Ok((sum, held))
    }

    /// Ends whatever a bank holds prepared: its database could not be dropped.
    async fn roll_all_back(&self, bank: &str) -> Result<(), sqlx::Error> {
        // One that was not made, since making it failed, holds nothing.
        let Ok((_, held)) = self.survey(bank).await else { return Ok(()) };
        let mut connection = self.connect(bank).await?;
        for name in held {
            let roll_back = AssertSqlSafe(format!("ROLLBACK PREPARED '{}'", name.replace('\'', "''")));
            sqlx::raw_sql(roll_back).execute(&mut connection).await?;
        }
        connection.close().await
    }

    async fn drop_all(&self) -> Result<(), sqlx::Error> {
        for bank in self.banks {
            self.roll_all_back(bank).await?;
        }
        let mut connection = self.administration.connect().await?;
        for what in self.banks.iter().copied().chain(["log"]) {
            // FORCE ends connections that a killed child has left behind on the server.
            let drop = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name(what)));
            sqlx::raw_sql(drop).execute(&mut connection).await?;
        }
        connection.close().await
    }
}
