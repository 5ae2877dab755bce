//! `pactum debug bundle`. What cannot be had is left out and said so, in the file and by the exit code: the
//! bundle is wanted most when something does not answer.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use pactum_coordinator::config::LogUrl;

use super::archive;
use super::gather::Gathered;
use super::scrub::Scrub;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Where to write it.
#[derive(Debug, Args)]
#[command(
    after_help = "The file is made anew, readable by its owner only, and never written over another one.\n\
                        Exit codes: 0 whole, 8 written, with parts left out (its README says which and why)."
)]
pub(crate) struct Bundle {
    /// The file to make [default: pactum-debug-TIME.tar.gz in the working directory]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Look at the decision log itself, too, as `pactum doctor --log`
    #[arg(long, env = "PACTUM_LOG", value_name = "URL", hide_env_values = true)]
    log: Option<String>,
    /// A file that holds the log's URL
    #[arg(long, env = "PACTUM_LOG_FILE", value_name = "FILE", conflicts_with = "log")]
    log_file: Option<PathBuf>,
    /// How many of the audit's newest entries to take
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
    audit: u32,
}

impl Bundle {
    /// Does it.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let cannot_read = |what: &str, error: &std::io::Error| {
            Failure::usage(format!("{what} cannot be read")).because(error)
        };
        let log = match (self.log, &self.log_file) {
            (Some(url), _) => Some(LogUrl::new(url)),
            (None, Some(path)) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|error| cannot_read("the file with the log's URL", &error))?;
                Some(LogUrl::new(text.trim()))
            }
            (None, None) => None,
        };
        let token = match &global.token_file {
            Some(path) => Some(
                tokio::fs::read_to_string(path)
                    .await
                    .map_err(|error| cannot_read("the token file", &error))?,
            ),
            None => None,
        };
        let now = Timestamp::now();
        let file = self
            .file
            .unwrap_or_else(|| format!("pactum-debug-{}.tar.gz", now.strftime("%Y%m%dT%H%M%SZ")).into());
        // First: a name that is taken is told before anybody is asked.
        let made = archive::create(&file)?;
        let mut scrub = Scrub::default();
        scrub.url(log.as_ref().map(LogUrl::reveal));
        scrub.secret(token.as_deref().map(str::trim));
        let gathered = Gathered::gather(global, log.as_ref(), self.audit).await;
        let parts = gathered.files(&now.to_string(), &scrub);
        let written = archive::write(made, &parts, now.as_second());
        if let Err(error) = written {
            // Half a file would be taken for a whole one.
            drop(std::fs::remove_file(&file));
            return Err(
                Failure::new(Exit::Failed, format!("{} cannot be written", file.display())).because(&error)
            );
        }
        let missing = gathered.missing_parts();
        if output.for_people() {
            output.text(format_args!("{}  {} parts", file.display(), parts.len()))?;
            for (part, why) in missing {
                output.note(scrub.apply(&format!("left out: {part}: {why}")));
            }
            output.hint("look through it before you hand it on: names, labels and reasons that people typed are in it");
        } else {
            let missing: Vec<_> = missing
                .iter()
                .map(|(part, why)| serde_json::json!({ "part": part, "why": scrub.apply(why) }))
                .collect();
            let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
            output.document(&serde_json::json!({ "file": file, "parts": names, "left_out": missing }))?;
        }
        Ok(if gathered.missing_parts().is_empty() { Exit::Ok } else { Exit::Partial })
    }
}
