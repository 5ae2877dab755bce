//! `pactum branch`: the worst day, when no coordinator runs. Looks into a participant's PostgreSQL by itself,
//! asks the decision log by itself, and ends what is prepared as the log says.
//!
//! ```text
//!  database ─▶ scan: what is prepared, what it holds up ─┐
//!                                                        ├─▶ plan (pure) ─▶ close in the log ─▶ end ─▶ evidence
//!  log ──────▶ word: decided? nobody? forgotten? ────────┘        └─ written down in the audit before and after
//! ```
//!
//! Nothing here is needed while a coordinator lives: it does the same by itself. It does no harm then either:
//! what stands in the log is obeyed, and whoever comes second finds the branch ended as decided.

mod act;
mod database;
mod evidence;
mod finish;
mod list;
mod plan;
mod record;
mod scan;
mod select;
mod view;
mod word;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pactum_coordinator::config::LogUrl;
use pactum_core::id::Cluster;
use pactum_proto::error::ErrorCode;

use self::database::Database;
use self::evidence::Fate;
use self::plan::{Execution, Known};
use self::scan::Prepared;
use self::word::{Log, Word};
use crate::args::Global;
use crate::config::Sources;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What can be typed after `branch`.
#[derive(Debug, Subcommand)]
pub(crate) enum Branch {
    /// List a database's prepared branches, what they hold up, and what the log says of each
    #[command(visible_alias = "ls")]
    List(list::List),
    /// End prepared branches as the log says; where it says nothing, it is made to say abort first
    Finish(finish::Finish),
}

impl Branch {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        match self {
            Self::List(list) => list.run(global, output).await,
            Self::Finish(finish) => finish.run(global, output).await,
        }
    }
}

/// Which database, and which log.
#[derive(Debug, Args)]
pub(super) struct Places {
    /// The participant's PostgreSQL database
    #[arg(
        long,
        env = "PACTUM_DATABASE",
        value_name = "URL",
        hide_env_values = true,
        required_unless_present = "database_file"
    )]
    database: Option<String>,
    /// A file that holds the database's URL
    #[arg(long, env = "PACTUM_DATABASE_FILE", value_name = "FILE", conflicts_with = "database")]
    database_file: Option<PathBuf>,
    /// The decision log
    #[arg(long, env = "PACTUM_LOG", value_name = "URL", hide_env_values = true)]
    log: Option<String>,
    /// A file that holds the log's URL
    #[arg(long, env = "PACTUM_LOG_FILE", value_name = "FILE", conflicts_with = "log")]
    log_file: Option<PathBuf>,
    /// A coordinator's configuration file; its log is meant, if no other is named
    #[arg(long, env = "PACTUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only branches of this cluster [default: the log's; every cluster's where no log can be asked]
    #[arg(long, value_name = "NAME")]
    cluster: Option<Cluster>,
}

/// Said under each command's help.
pub(super) const PLACES: &str = "A password is better kept in a file: --database-file, --log-file.\n\
     Give the log of the branch's own cluster: another log's silence means nothing, and is refused.";

/// A database and a log, opened.
#[derive(Debug)]
pub(super) struct Site {
    database: Database,
    log: Log,
    log_url: Option<LogUrl>,
    cluster: Option<Cluster>,
}

impl Places {
    async fn open(self, global: &Global) -> Result<Site, Failure> {
        let url = match (self.database, self.database_file) {
            (Some(url), _) => LogUrl::new(url),
            (None, Some(path)) => from_file(path, "the database's URL").await?,
            (None, None) => return Err(Failure::usage("which database? give --database URL")),
        };
        let log_url = match (self.log, self.log_file, self.config) {
            (Some(url), _, _) => Some(LogUrl::new(url)),
            (None, Some(path), _) => Some(from_file(path, "the log's URL").await?),
            (None, None, Some(file)) => Sources { file: Some(file), ..Sources::default() }.load()?.log,
            (None, None, None) => None,
        };
        let database = Database::connect(&url, global.timeout).await?;
        let log = Log::open(log_url.clone()).await?;
        let cluster = self.cluster.or_else(|| log.cluster().cloned());
        Ok(Site { database, log, log_url, cluster })
    }
}

async fn from_file(path: PathBuf, what: &str) -> Result<LogUrl, Failure> {
    let text = tokio::fs::read_to_string(&path).await.map_err(|error| {
        Failure::usage(format!("the file {} with {what} cannot be read", path.display())).because(&error)
    })?;
    Ok(LogUrl::new(text.trim()))
}

impl Site {
    /// The branches that are prepared, each with what is known of it.
    async fn look(&mut self) -> Result<Vec<(Prepared, Known)>, Failure> {
        let found = scan::scan(&mut self.database, self.cluster.as_ref())
            .await
            .map_err(|trouble| self.database.unreachable(&trouble))?;
        let names: Vec<_> = found.iter().map(|branch| branch.name.clone()).collect();
        let words = self.log.words(&names).await;
        let mut looked = Vec::with_capacity(found.len());
        for (branch, word) in found.into_iter().zip(words) {
            let facts = self.known(&branch, word).await?;
            looked.push((branch, facts));
        }
        Ok(looked)
    }

    /// Adds to the log's word what the database says of the execution that it means.
    async fn known(&mut self, branch: &Prepared, word: Word) -> Result<Known, Failure> {
        let execution = match &word {
            Word::Commit { decided: None } => Some(Execution::None),
            Word::Commit { decided: Some(decided) } => match evidence::read(decided) {
                // Still prepared: it is the one that voted, whatever has happened to its server since.
                Some((xid, _)) if xid == branch.xid => Some(Execution::This),
                Some((xid, anchor)) => Some(Execution::Other(self.fate(xid, &anchor).await?)),
                None => None,
            },
            Word::NotAsked
            | Word::Unreachable { .. }
            | Word::OtherCluster(_)
            | Word::Abort { .. }
            | Word::TakenByAnother
            | Word::Nothing(_)
            | Word::Doubted
            | Word::Forgotten
            | Word::Unreadable => None,
        };
        Ok(Known { word, execution, marked_committed: branch.marker == Some(true) })
    }

    async fn fate(&mut self, xid: u64, anchor: &evidence::Anchor) -> Result<Fate, Failure> {
        self.database.fate(xid, anchor).await.map_err(|trouble| self.database.unreachable(&trouble))
    }

    /// Something that needs the log, without one.
    fn no_log(&self) -> Failure {
        self.log.failure().unwrap_or_else(|| {
            Failure::new(Exit::CannotConnect, "the log did not answer").code(ErrorCode::LogUnreachable)
        })
    }
}
