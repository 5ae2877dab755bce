//! `pactum debug`: gathering what others need to help.

mod archive;
mod bundle;
mod gather;
mod scrub;

use clap::Subcommand;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What can be typed after `debug`.
#[derive(Debug, Subcommand)]
pub(crate) enum Debug {
    /// Write one file with what a coordinator tells of itself, its log and its participants; no secrets
    Bundle(bundle::Bundle),
}

impl Debug {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let Self::Bundle(bundle) = self;
        bundle.run(global, output).await
    }
}
