//! Everything that is set up for a run: servers, links, processes.
//!
//! ```text
//! application ×2 ──front──▶ coordinator ×3 ──link──▶ PostgreSQL: the log
//!      │                        ▲
//!      │                        │ front
//!      └────────front───▶ bank ×4 ──link──▶ PostgreSQL ×2: a bank each
//! ```
//!
//! Fronts keep their addresses while the processes behind them die; so the addresses that are
//! given to everybody, and those that coordinators advertise, lead through links that can be cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pactum_postgres_server::PostgresServer;
use tempfile::TempDir;

use super::calm::Calm;
use super::child::{Child, Kind, Plan, log_path};
use super::dice::Dice;
use super::ledger::{BANKS, Books};
use super::link::Link;
use super::tally::Tally;

const COORDINATORS: usize = 3;
const PROCESSES_PER_BANK: usize = 2;
const APPLICATIONS: u64 = 2;
/// Transfers at once in each application, but for those that wait for whoever is dead at the moment.
const AT_ONCE: usize = if cfg!(debug_assertions) { 6 } else { 12 };
/// For every process to serve, on a machine that is busy with other things.
const START_MAX: Duration = Duration::from_mins(1);

/// A server, shared with whoever kills it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) postgres: Arc<PostgresServer>,
}

impl Server {
    /// Starts several at once.
    async fn start(names: &[&'static str], settings: &[(&str, &str)]) -> anyhow::Result<Vec<Self>> {
        let settings: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let starting = names.iter().map(|name| {
            let (name, settings) = (*name, settings.clone());
            tokio::task::spawn_blocking(move || {
                let settings: Vec<(&str, &str)> =
                    settings.iter().map(|(name, value)| (&**name, &**value)).collect();
                let postgres = Arc::new(PostgresServer::start_with(&settings)?);
                anyhow::Ok(Self { name, postgres })
            })
        });
        let starting: Vec<_> = starting.collect();
        let mut servers = Vec::new();
        for server in starting {
            servers.push(server.await??);
        }
        Ok(servers)
    }

    async fn database(&self, name: &'static str) -> anyhow::Result<String> {
        let postgres = Arc::clone(&self.postgres);
        Ok(tokio::task::spawn_blocking(move || postgres.create_database(name)).await??)
    }

    /// Kills every process of it and starts it again. Another process may have its port for a
    /// moment: then that is tried again.
    pub(crate) async fn crash(&self, down: Duration) -> anyhow::Result<()> {
        let postgres = Arc::clone(&self.postgres);
        tokio::task::spawn_blocking(move || postgres.kill()).await??;
        tokio::time::sleep(down).await;
        self.revive().await
    }

    /// Starts it if it does not run.
    pub(crate) async fn revive(&self) -> anyhow::Result<()> {
        let mut tries = 0;
        loop {
            let postgres = Arc::clone(&self.postgres);
            let started = tokio::task::spawn_blocking(move || {
                if postgres.pid().is_some() { Ok(()) } else { postgres.restart() }
            });
            match started.await? {
                Ok(()) => return Ok(()),
                Err(error) if tries == 20 => return Err(error).context(self.name),
                Err(_busy) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The three servers with their databases.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The log's, and one for each bank.
    pub(crate) all: Vec<Server>,
    pub(crate) log_url: String,
    pub(crate) bank_urls: Vec<String>,
    pub(crate) books: Vec<Books>,
}

impl Servers {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let all = Server::start(&["the log", BANKS[0], BANKS[1]], settings).await?;
        let log_url = all[0].database("pactum_log").await?;
        let (mut bank_urls, mut books) = (Vec::new(), Vec::new());
        for server in &all[1..] {
            let url = server.database("bank").await?;
            let book = Books::open(&url);
            book.create().await?;
            bank_urls.push(url);
            books.push(book);
        }
        Ok(Self { all, log_url, bank_urls, books })
    }
}

/// What a server must bear here.
pub(crate) const SETTINGS: &[(&str, &str)] =
    &[("max_connections", "400"), ("max_prepared_transactions", "600"), ("shared_buffers", "32MB")];

/// Everything that runs. Dropping it ends it all, by pid.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) tally: Arc<Tally>,
    pub(crate) calm: Calm,
    pub(crate) coordinators: Vec<Arc<Child>>,
    /// The first bank's, then the second's.
    pub(crate) banks: Vec<Arc<Child>>,
    pub(crate) applications: Vec<Arc<Child>>,
    /// Between the SDK and coordinators, and between applications and banks.
    pub(crate) fronts: Vec<Arc<Link>>,
    /// Between processes and their databases.
    pub(crate) links: Vec<Arc<Link>>,
    pub(crate) servers: Servers,
    pub(crate) directory: PathBuf,
    /// Set if nothing is kept.
    _temporary: Option<TempDir>,
}

impl Stage {
    /// Starts everything, applications last, and waits until it all serves.
    pub(crate) async fn start(seed: u64, keep: Option<&Path>) -> anyhow::Result<Self> {
        let (directory, temporary) = directory(keep)?;
        let tally = Arc::new(Tally::listing(&directory.join("faults"))?);
        let servers = Servers::start(SETTINGS).await?;
        let (mut fronts, mut links) = (Vec::new(), Vec::new());
        let server_address = |place: usize| Some(([127, 0, 0, 1], servers.all[place].postgres.port()).into());

        let mut coordinator_plans = Vec::new();
        for number in 1..=COORDINATORS {
            let name = format!("coordinator-{number}");
            let front = Arc::new(Link::start(format!("everybody to {name}"), None).await?);
            let link = Arc::new(Link::start(format!("{name} to its log"), server_address(0)).await?);
            let (url, advertise) = (link.lead(&servers.log_url), front.address().to_string());
            let arguments = ["coordinator", "--database", &url, "--advertise", &advertise];
            coordinator_plans.push(plan(Kind::Coordinator, name, &directory, &arguments, &front));
            fronts.push(front);
            links.push(link);
        }
        let urls: Vec<String> = fronts.iter().map(|front| front.url()).collect();
        let urls = urls.join(",");

        let (mut bank_plans, mut bank_addresses) = (Vec::new(), Vec::new());
        for (place, bank) in BANKS.iter().enumerate() {
            for number in 1..=PROCESSES_PER_BANK {
                let name = format!("{bank}-{number}");
                let front = Arc::new(Link::start(format!("applications to {name}"), None).await?);
                let link = Link::start(format!("{name} to its database"), server_address(place + 1)).await?;
                let database = link.lead(&servers.bank_urls[place]);
                let arguments = ["bank", "--name", bank, "--database", &database, "--coordinators", &urls];
                bank_plans.push(plan(Kind::Bank, name, &directory, &arguments, &front));
                bank_addresses.push(front.address().to_string());
                fronts.push(front);
                links.push(Arc::new(link));
            }
        }

        let start = |plans: Vec<Plan>| -> anyhow::Result<Vec<Arc<Child>>> {
            plans.into_iter().map(|plan| Ok(Arc::new(Child::start(plan, Arc::clone(&tally))?))).collect()
        };
        let (coordinators, banks) = (start(coordinator_plans)?, start(bank_plans)?);
        let ready = futures::future::join_all(coordinators.iter().chain(&banks).map(|child| child.up()));
        tokio::time::timeout(START_MAX, ready).await.context("not everything serves in time")?;
        let applications = start(applications(seed, &directory, &urls, &bank_addresses.join(",")))?;
        Ok(Self {
            tally,
            calm: Calm::default(),
            coordinators,
            banks,
            applications,
            fronts,
            links,
            servers,
            directory,
            _temporary: temporary,
        })
    }

    /// All processes.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Arc<Child>> {
        self.coordinators.iter().chain(&self.banks).chain(&self.applications)
    }

    /// Copies the servers' logs to where everything else is kept.
    pub(crate) fn keep_server_logs(&self) {
        for server in &self.servers.all {
            let name = format!("postgres-{}.log", server.name.replace(' ', "-"));
            drop(std::fs::copy(server.postgres.log_path(), self.directory.join(name)));
        }
    }

    /// Lines of the processes' logs that hold a word, each with the process's name.
    pub(crate) fn log_lines(&self, word: &str) -> Vec<String> {
        let mut found = Vec::new();
        for child in self.children() {
            let log = std::fs::read_to_string(log_path(&child.directory)).unwrap_or_default();
            found.extend(
                log.lines().filter(|line| line.contains(word)).map(|line| format!("{}: {line}", child.name)),
            );
        }
        found
    }
}

/// Where everything is written, and what removes it in the end if nothing is kept.
fn directory(keep: Option<&Path>) -> anyhow::Result<(PathBuf, Option<TempDir>)> {
    let Some(directory) = keep else {
        let temporary = tempfile::Builder::new().prefix("pactum-gauntlet-").tempdir()?;
        return Ok((temporary.path().to_owned(), Some(temporary)));
    };
    std::fs::create_dir_all(directory).context("the directory to keep things in")?;
    // Journals of another run would be taken for this one's.
    let is_empty = std::fs::read_dir(directory)?.next().is_none();
    anyhow::ensure!(is_empty, "{} is not empty", directory.display());
    Ok((directory.canonicalize()?, None))
}

fn plan(kind: Kind, name: String, directory: &Path, arguments: &[&str], front: &Arc<Link>) -> Plan {
    let arguments: Vec<String> = arguments.iter().copied().map(Into::into).collect();
    let (directory, front) = (directory.join(&name), Some(Arc::clone(front)));
    Plan { kind, name, directory, arguments: Box::new(as_role(move |_| arguments.clone())), front }
}

/// Each life of an application has a seed of its own.
fn applications(seed: u64, directory: &Path, coordinators: &str, banks: &str) -> Vec<Plan> {
    let plan = |number| {
        let name = format!("application-{number}");
        let dice = Dice::new(seed).fork(1000 + number);
        let fixed = ["application", "--name", &name, "--coordinators", coordinators, "--banks", banks];
        let fixed: Vec<String> = fixed.map(String::from).into();
        let arguments = move |life: u64| {
            let seed = dice.fork(life).next();
            let more = ["--at-once".into(), AT_ONCE.to_string(), "--seed".into(), seed.to_string()];
            fixed.iter().cloned().chain(more).collect()
        };
        let (directory, arguments) = (directory.join(&name), Box::new(as_role(arguments)));
        Plan { kind: Kind::Application, directory, name, arguments, front: None }
    };
    (1..=APPLICATIONS).map(plan).collect()
}

/// What this program is told to be in that role.
fn as_role(
    arguments: impl Fn(u64) -> Vec<String> + Send + Sync,
) -> impl Fn(u64) -> Vec<String> + Send + Sync {
    move |life| std::iter::once("role".to_owned()).chain(arguments(life)).collect()
}
