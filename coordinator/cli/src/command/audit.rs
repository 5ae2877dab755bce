//! `pactum audit`: what operators did, who, and why; out of the log, and proof that nothing was changed
//! in it.

mod chain;
mod export;
mod list;
mod source;
mod verify;

use clap::Subcommand;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What can be typed after `audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List entries, newest first
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Write every entry, oldest first, one JSON object a line
    ///
    /// The chain of hashes is checked on the way, and the last number and hash are told at the end: keep
    /// them elsewhere, and `audit verify --expect` finds out if the end was cut off.
    Export(export::Export),
    /// Compute the chain of hashes anew, and say whether it is whole
    ///
    /// Finds an entry that was changed, removed or put in. An end that was cut off shows only against a
    /// number and hash that were kept elsewhere: --expect.
    Verify(verify::Verify),
}

impl Audit {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        match self {
            Self::List(list) => list.run(global, output).await,
            Self::Export(export) => export.run(global, output).await,
            Self::Verify(verify) => verify.run(global, output).await,
        }
    }
}
