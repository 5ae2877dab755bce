//! `pactum doctor`: looks for what is wrong, or will be: at the coordinator, at the log itself if its URL is
//! given, at the participants' databases as they tell of them, and at certificates. Changes nothing.
//!
//! Each finding says what was found, what to do, and where to read on. Exit: 0 if nothing is bad (warnings
//! are told), 1 if something is, or with `--strict` also if there is a warning.

mod certificates;
mod coordinator;
mod finding;
mod log;
mod participants;

use std::path::PathBuf;

use clap::Args;
use pactum_coordinator::config::LogUrl;

use self::finding::{Finding, Level};
use crate::admin::Admin;
use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::aligned;

/// What can be typed after `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 nothing is bad, 1 something is (with --strict: or may become so).\n\
                        Without --log the log is seen through the coordinator only.")]
pub(crate) struct Doctor {
    /// Look at the decision log itself, too
    #[arg(long, env = "PACTUM_LOG", value_name = "URL", hide_env_values = true)]
    log: Option<String>,
    /// A file that holds the log's URL
    #[arg(long, env = "PACTUM_LOG_FILE", value_name = "FILE", conflicts_with = "log")]
    log_file: Option<PathBuf>,
    /// Do not ask a coordinator: none runs
    #[arg(long)]
    no_coordinator: bool,
    /// Exit with 1 for warnings, too
    #[arg(long)]
    strict: bool,
    /// Only what is not well
    #[arg(long)]
    problems: bool,
}

impl Doctor {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let url = match (self.log, self.log_file) {
            (Some(url), _) => Some(LogUrl::new(url)),
            (None, Some(path)) => Some(LogUrl::new(
                tokio::fs::read_to_string(&path)
                    .await
                    .map_err(|error| {
                        Failure::usage(format!(
                            "the file {} with the log's URL cannot be read",
                            path.display()
                        ))
                        .because(&error)
                    })?
                    .trim(),
            )),
            (None, None) => None,
        };
        if self.no_coordinator && url.is_none() {
            return Err(Failure::usage("there is nothing to look at")
                .next("give --log URL, or leave out --no-coordinator"));
        }
        let asked = if self.no_coordinator { Vec::new() } else { asked(global).await };
        let findings = beside(asked, global, url.as_ref()).await;
        let (bad, warned) = (count(&findings, Level::Bad), count(&findings, Level::Warn));
        let shown: Vec<&Finding> =
            findings.iter().filter(|finding| !self.problems || finding.level != Level::Ok).collect();
        match output.format {
            Format::Table => {
                output.text(page(&shown))?;
                output.hint(format_args!(
                    "{bad} bad, {warned} warnings, {} well",
                    findings.len() - bad - warned
                ));
            }
            Format::Json => output.document(&serde_json::json!({
                "bad": bad, "warnings": warned, "findings": shown,
            }))?,
            Format::Jsonl => shown.iter().try_for_each(|finding| output.line(finding))?,
        }
        Ok(if bad > 0 || self.strict && warned > 0 { Exit::Failed } else { Exit::Ok })
    }
}

/// Everything that can be looked at.
pub(crate) async fn all(global: &Global, log: Option<&LogUrl>) -> Vec<Finding> {
    beside(asked(global).await, global, log).await
}

/// What a coordinator told, and what can be seen without one; the worst first.
async fn beside(mut findings: Vec<Finding>, global: &Global, log: Option<&LogUrl>) -> Vec<Finding> {
    if let Some(url) = log {
        findings.extend(log::look(url, global.timeout).await);
    }
    findings.extend(certificates::look(global).await);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings
}

/// What a coordinator tells of itself, its log and its participants. One that cannot be asked is a finding.
async fn asked(global: &Global) -> Vec<Finding> {
    match Admin::connect(global).await {
        Ok(admin) => {
            let mut findings = coordinator::look(&admin).await;
            findings.extend(participants::look(&admin).await);
            findings
        }
        Err(failure) => vec![
            Finding::bad("coordinator", "answers", failure.sentence())
                .next("start it, or say where it is with --server; where none can run: pactum branch list --database URL --log URL")
                .more("pactum explain CANNOT_CONNECT"),
        ],
    }
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

/// The findings for people: what to do stands under each that is not well.
fn page(findings: &[&Finding]) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        rows.push(vec![
            finding.level.name().to_uppercase(),
            finding.about.clone(),
            finding.what.clone(),
            finding.found.clone(),
        ]);
        if finding.level != Level::Ok {
            let under = |text: String| vec![String::new(), String::new(), String::new(), text];
            rows.extend(finding.next.iter().map(|next| under(format!("-> {next}"))));
            rows.extend(finding.more.iter().map(|more| under(format!("   {more}"))));
        }
    }
    aligned(rows)
}
