//! `pactum log migrate`.

use clap::Args;

use super::{URLS, Which};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::server;

/// Which log to migrate.
#[derive(Debug, Args)]
#[command(after_help = URLS)]
pub(crate) struct Migrate {
    #[command(flatten)]
    which: Which,
}

impl Migrate {
    /// Does it.
    pub(super) async fn run(self, output: &Output) -> Result<Exit, Failure> {
        let url = self.which.url().await?;
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
