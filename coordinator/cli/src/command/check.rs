//! `pactum check`: one question to one coordinator, answered with a number, for monitoring and health probes.
//!
//! This command alone ends with 0 ok, 1 warning, 2 critical, 3 unknown, whatever happens; nothing is printed
//! on stderr but what went wrong with the command itself.

mod facts;
mod form;
mod items;

use std::time::Duration;

use clap::{Args, ValueEnum};

use self::facts::Facts;
use self::items::{Level, judge};
use crate::admin::Admin;
use crate::args::{Format, Global, duration};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What can be typed after `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes of this command alone:\n  0  ok    1  warning    2  critical    3  unknown (not allowed, no such answer, wrong usage)\n\
                  A coordinator that does not answer is critical."
)]
pub(crate) struct Check {
    /// How the answer is written [default: text, or json with -o json]
    #[arg(long, env = "PACTUM_CHECK_FORMAT", value_name = "FORM")]
    format: Option<Form>,
    #[command(flatten)]
    thresholds: Thresholds,
}

/// What is too much.
#[derive(Clone, Debug, Args)]
pub(super) struct Thresholds {
    /// Warning: a transaction in doubt for this long
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration)]
    pub(super) warn_age: Duration,
    /// Critical: a transaction in doubt for this long
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(super) max_age: Duration,
    /// Warning: more transactions in doubt than this; 0: any number [default: any number]
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub(super) warn_in_doubt: u64,
    /// Critical: more transactions in doubt than this; 0: any number [default: any number]
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub(super) max_in_doubt: u64,
    /// Critical: no participant of this resource is attached; may be repeated
    #[arg(long, value_name = "RESOURCE")]
    pub(super) expect: Vec<String>,
    /// Critical: fewer living coordinators on the log than this
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(super) min_coordinators: usize,
    /// Warning: a log in PostgreSQL that waits for fewer synchronous standbys than this
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(super) min_standbys: u32,
    /// Heuristic outcomes that nobody has forgotten are critical, and not only a warning
    #[arg(long)]
    pub(super) heuristics_critical: bool,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A line for each item.
    Text,
    /// One document.
    Json,
    /// Gauges in Prometheus's text format, for a textfile collector.
    Prometheus,
    /// One line with performance data, as Nagios and its kin read it.
    Nagios,
}

/// What the process ends with if what was typed after `check` is wrong: unknown.
pub(crate) const WRONG_USAGE: u8 = 3;

impl Check {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let form = self.format.unwrap_or(match output.format {
            Format::Table => Form::Text,
            Format::Json | Format::Jsonl => Form::Json,
        });
        let asked = async {
            let admin = Admin::connect(global).await?;
            Facts::ask(&admin, &self.thresholds).await
        };
        let items = match asked.await {
            Ok(facts) => judge(&facts, &self.thresholds),
            Err(failure) => vec![items::unanswered(&failure)],
        };
        form::print(form, &items, output)?;
        Ok(exit(Level::worst(&items)))
    }
}

/// The number for it: this command has its own, which others read without knowing ours.
fn exit(level: Level) -> Exit {
    match level {
        Level::Ok => Exit::Ok,
        Level::Warning => Exit::Failed,
        Level::Critical => Exit::Usage,
        Level::Unknown => Exit::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_that_monitors_know() {
        let levels = [Level::Ok, Level::Warning, Level::Critical, Level::Unknown];
        assert_eq!(levels.map(|level| exit(level) as u8), [0, 1, 2, 3]);
    }
}
