//! `pactum log`: care for a decision log. Speaks to the log itself; no coordinator is needed.

mod doubt;
mod migrate;
mod release;
mod status;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use pactum_coordinator::config::LogUrl;
use pactum_coordinator::decision_log::{DecisionLog, DecisionLogError};
use pactum_coordinator::{Config, open_log_with};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::server;

/// What can be typed after `log`.
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Bring a log's schema up to this version, as a role that may; serving roles need not
    Migrate(migrate::Migrate),
    /// Show a log's identity, replication, coordinators, and whose commits are in doubt
    Status(status::Status),
    /// Lift doubts: what has no record may be aborted again
    ///
    /// A log that was restored, or failed over to a copy that had not received everything, may lack
    /// commits that were told. Until somebody who knows releases it, nothing that has no record is
    /// concluded to be aborted: its branches stay prepared. Before releasing, compare what the
    /// participants committed, and overrule what differs.
    Release(release::Release),
    /// Say that a log went back in time where it cannot notice by itself
    ///
    /// For a log that was put back from a copy of its files while every coordinator was stopped. Run
    /// it before they start. Coordinators that live take new names and vouch for their old ones.
    Doubt(doubt::Doubt),
}

/// Which log.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The log
    #[arg(
        long,
        env = "PACTUM_LOG",
        value_name = "URL",
        hide_env_values = true,
        required_unless_present = "log_file"
    )]
    log: Option<String>,
    /// A file that holds the log's URL
    #[arg(long, env = "PACTUM_LOG_FILE", value_name = "FILE", conflicts_with = "log")]
    log_file: Option<PathBuf>,
}

/// Said under each command's help.
pub(crate) const URLS: &str = "URLs: postgres://user@host/database, postgres://user@one,two/database (whichever is the primary), \
     sqlite:path/to/log.db\nA password is better kept in a file: --log-file.";

impl Which {
    async fn url(self) -> Result<LogUrl, Failure> {
        match (self.log, self.log_file) {
            (Some(url), _) => Ok(LogUrl::new(url)),
            (None, Some(path)) => {
                let url = tokio::fs::read_to_string(&path).await.map_err(|error| {
                    Failure::usage(format!("the file {} with the log's URL cannot be read", path.display()))
                        .because(&error)
                })?;
                Ok(LogUrl::new(url.trim()))
            }
            (None, None) => Err(Failure::usage("which log? give --log URL")),
        }
    }
}

/// A log that was opened, as whoever opens one: with its checks, and with doubt where it went back.
#[derive(Debug)]
pub(crate) struct Opened {
    url: LogUrl,
    log: Arc<dyn DecisionLog>,
}

impl Opened {
    async fn open(which: Which) -> Result<Self, Failure> {
        let url = which.url().await?;
        if url.reveal().starts_with("memory:") {
            return Err(Failure::usage("a log in memory is nobody else's")
                .next("write it like postgres://user@host/database or sqlite:path/to/log.db"));
        }
        let log = open_log_with(url.reveal(), &Config::default())
            .await
            .map_err(|error| server::open_failure(&url, &error))?;
        Ok(Self { url, log })
    }

    /// For `map_err`, where nothing was to be changed.
    fn not_read(&self, error: &DecisionLogError) -> Failure {
        server::log_failure(&self.url, error)
    }

    /// For `map_err`, where the answer to a change was lost.
    fn not_known(&self, error: &DecisionLogError) -> Failure {
        match error {
            DecisionLogError::Database(_) => Failure::new(
                Exit::Unknown,
                format!("it may or may not have been done in the log {}", self.url),
            )
            .because(error)
            .next("it does no harm to repeat it; pactum log status shows what stands"),
            DecisionLogError::Refused { .. }
            | DecisionLogError::SchemaNotReady { .. }
            | DecisionLogError::InUse { .. }
            | DecisionLogError::Corrupt { .. } => server::log_failure(&self.url, error),
        }
    }
}

impl Log {
    /// Does it.
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, Failure> {
        match self {
            Self::Migrate(migrate) => migrate.run(output).await,
            Self::Status(status) => status.run(output).await,
            Self::Release(release) => release.run(output).await,
            Self::Doubt(doubt) => doubt.run(output).await,
        }
    }
}

/// The longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 1024;

fn check_reason(reason: &str) -> Result<(), Failure> {
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(Failure::usage(format!("--reason must be 1 to {REASON_BYTES_MAX} bytes")));
    }
    Ok(())
}
