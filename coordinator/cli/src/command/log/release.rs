//! `pactum log release`.

use clap::Args;
use pactum_coordinator::decision_log;
use pactum_core::id::Incarnation;

use super::{Opened, URLS, Which, check_reason};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Whose doubt to lift, and why.
#[derive(Debug, Args)]
#[command(after_help = URLS)]
#[group(id = "whose", required = true, multiple = false, args = ["incarnation", "all"])]
pub(crate) struct Release {
    #[command(flatten)]
    which: Which,
    /// One incarnation, as `pactum log status` shows it or as it stands in the name of a prepared branch
    #[arg(long, value_name = "ID")]
    incarnation: Option<String>,
    /// Every incarnation in doubt, those included that the log does not know
    #[arg(long)]
    all: bool,
    /// What was compared, and how it was settled; kept in the log
    #[arg(long)]
    reason: String,
}

impl Release {
    /// Does it.
    pub(super) async fn run(self, output: &Output) -> Result<Exit, Failure> {
        check_reason(&self.reason)?;
        let whose = match &self.incarnation {
            Some(id) => decision_log::Release::One(id.parse::<Incarnation>().map_err(|error| {
                Failure::usage("--incarnation must be a whole id, as pactum log status shows it")
                    .because(&error)
            })?),
            None => decision_log::Release::All,
        };
        let opened = Opened::open(self.which).await?;
        let released =
            opened.log.release(whose, &self.reason).await.map_err(|error| opened.not_known(&error))?;
        if output.for_people() {
            output.text(match released {
                0 => "nothing was in doubt".to_owned(),
                1 => "1 incarnation released, durably".to_owned(),
                count => format!("{count} incarnations released, durably"),
            })?;
            output.hint("Next: pactum tx list shows what is still unfinished");
        } else {
            output.document(&serde_json::json!({ "log": opened.url, "released": released }))?;
        }
        Ok(Exit::Ok)
    }
}
