//! `pactum config check`: reads all sources as `serve` does, and the files that they name. Opens no log and
//! binds no port.

use std::path::Path;

use clap::Args;

use super::From;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Which settings to check.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    from: From,
}

impl Check {
    /// Does it.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let config = self.from.sources(global)?.load()?;
        let Some(log) = &config.log else {
            return Err(Failure::usage("there is no decision log to serve from").next(
                "set log: --log postgres://user@host/database, PACTUM_LOG or log = \"…\" in the file",
            ));
        };
        for path in config.tls.iter().flat_map(|tls| {
            [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref()].into_iter().flatten()
        }) {
            readable(path).await?;
        }
        let set = config.origins.len();
        if output.for_people() {
            output.text(format_args!("these settings can be served with; {set} of them are not defaults"))?;
            output.hint("Next: pactum doctor --log URL looks at the log itself");
        } else {
            output.document(&serde_json::json!({ "ok": true, "log": log, "set": set }))?;
        }
        Ok(Exit::Ok)
    }
}

async fn readable(path: &Path) -> Result<(), Failure> {
    tokio::fs::read(path).await.map(drop).map_err(|error| {
        Failure::usage(format!("the file {} cannot be read", path.display())).because(&error)
    })
}
