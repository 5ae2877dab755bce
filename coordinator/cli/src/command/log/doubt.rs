//! `pactum log doubt`.

use clap::Args;

use super::{Opened, URLS, Which, check_reason};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Which log went back.
#[derive(Debug, Args)]
#[command(after_help = URLS)]
pub(crate) struct Doubt {
    #[command(flatten)]
    which: Which,
    /// What happened; kept in the log
    #[arg(long, default_value = "put back from a copy, as an operator said")]
    reason: String,
}

impl Doubt {
    /// Does it.
    pub(super) async fn run(self, output: &Output) -> Result<Exit, Failure> {
        check_reason(&self.reason)?;
        let opened = Opened::open(self.which).await?;
        opened.log.doubt_all(&self.reason).await.map_err(|error| opened.not_known(&error))?;
        let doubts = opened.log.doubts().await.map_err(|error| opened.not_read(&error))?;
        if output.for_people() {
            output.text(format_args!("{} incarnations are in doubt", doubts.len()))?;
            output.hint("Next: pactum log status --log URL");
        } else {
            let doubted: Vec<String> = doubts.iter().map(|doubt| doubt.incarnation.to_string()).collect();
            output.document(&serde_json::json!({ "log": opened.url, "doubted": doubted }))?;
        }
        Ok(Exit::Ok)
    }
}
