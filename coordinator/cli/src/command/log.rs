//! `pactum log`: care for a decision log.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pactum_coordinator::config::LogUrl;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::server;

/// What can be typed after `log`.
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Bring a log's schema up to this version, as a role that may; serving roles need not
    Migrate(Migrate),
}

/// Which log to migrate.
#[derive(Debug, Args)]
#[command(
    after_help = "URLs: postgres://user@host/database, sqlite:path/to/log.db\nA password is better kept in a file: --log-file."
)]
pub(crate) struct Migrate {
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

impl Log {
    /// Does it.
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, Failure> {
        let Self::Migrate(migrate) = self;
        let url = match (migrate.log, migrate.log_file) {
            (Some(url), _) => LogUrl::new(url),
            (None, Some(path)) => {
                let url = tokio::fs::read_to_string(&path).await.map_err(|error| {
                    Failure::usage(format!("the file {} with the log's URL cannot be read", path.display()))
                        .because(&error)
                })?;
                LogUrl::new(url.trim())
            }
            (None, None) => return Err(Failure::usage("which log? give --log URL")),
        };
        server::migrate(&url).await?;
        if output.for_people() {
            output.text(format_args!("the log {url} is ready for this version"))?;
            output.hint("Next: pactum serve --log URL");
        } else {
            output.document(&serde_json::json!({ "log": url, "ready": true }))?;
        }
        Ok(Exit::Ok)
    }
}
