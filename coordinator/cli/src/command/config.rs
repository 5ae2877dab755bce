//! `pactum config`: what a coordinator is or would be set to, and where each value comes from.

mod check;
mod show;

pub(crate) use show::running as running_settings;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::serve::Settings;
use crate::args::Global;
use crate::config::Sources;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What can be typed after `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting that `serve` would use here, with its origin; or a running coordinator's
    Show(show::Show),
    /// Say whether `serve` could be started with these settings
    Check(check::Check),
}

impl ConfigCommand {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        match self {
            Self::Show(show) => show.run(global, output).await,
            Self::Check(check) => check.run(global, output).await,
        }
    }
}

/// Where settings come from, as `serve` takes them.
#[derive(Debug, Args)]
pub(super) struct From {
    /// A TOML file with settings
    #[arg(long, env = "PACTUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl From {
    fn sources(self, global: &Global) -> Result<Sources, Failure> {
        self.settings.sources(self.config, global)
    }
}
