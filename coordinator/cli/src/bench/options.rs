//! What can be typed after `bench`.

mod faults;
mod floors;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

pub(crate) use self::faults::{Absence, Blip, Open, Overload, Records, Recover, Repeated};
pub(crate) use self::floors::{Floors, Part};
use crate::args::duration;

/// Measure this machine: Pactum against the log's own group commit, and against hand-written two-phase commit
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Bench {
    /// Commits of branches that do nothing, against the best rate at which the log's rows can be written
    Commit(Commit),
    /// Transfers between two PostgreSQL databases, against hand-written two-phase commit and against one database alone
    Transfer(Transfer),
    /// How fast a restarted coordinator finishes what it finds decided and unfinished
    Recover(Recover),
    /// What transactions notice of a participant that is gone for a second
    Blip(Blip),
    /// How much memory a coordinator needs for each open transaction
    Open(Open),
    /// What is accepted and what is shed at twice the rate that can be sustained
    Overload(Overload),
    /// Everything that must hold, measured and judged; fails if a floor is missed
    Floors(Floors),
}

/// Options of every measurement.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Each force of the log takes this much longer, as on a slow disk (PostgreSQL's `commit_delay`; at most 100ms)
    #[arg(long, value_name = "TIME", value_parser = log_delay)]
    pub(crate) log_delay: Option<Duration>,
    /// Measure everything so often, in turn, and show the medians
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: Option<u32>,
    /// How long each measurement takes, after a warm-up of a quarter of that
    #[arg(long, value_name = "TIME", value_parser = measure)]
    pub(crate) measure: Option<Duration>,
    /// Draw the figures into this file as well, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
}

/// What can be typed after `bench commit`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Commit {
    /// How many participants, each a process of its own and with a branch in every transaction; several, with commas
    #[arg(long, value_delimiter = ',', default_value = "2", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) participants: Vec<u16>,
    /// How many transactions at once; several, with commas
    #[arg(long, value_delimiter = ',', default_value = "1,16,256,2048", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) in_flight: Vec<u32>,
    /// Where the decision log is
    #[arg(long, default_value = "postgres", value_name = "KIND")]
    pub(crate) log: LogKind,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What can be typed after `bench transfer`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Transfer {
    /// How many transfers at once; several, with commas
    #[arg(long, value_delimiter = ',', default_value = "64", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub(crate) in_flight: Vec<u32>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Kinds of decision logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogKind {
    /// A throw-away server of its own.
    Postgres,
    /// A file of its own.
    Sqlite,
    /// Nothing is durable: what is left is Pactum's own cost.
    Memory,
}

impl LogKind {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
            Self::Memory => "memory",
        }
    }
}

fn log_delay(text: &str) -> Result<Duration, String> {
    let delay = duration(text)?;
    // PostgreSQL's own bound.
    if delay <= Duration::from_millis(100) { Ok(delay) } else { Err("at most 100ms is possible".to_owned()) }
}

fn measure(text: &str) -> Result<Duration, String> {
    let measure = duration(text)?;
    let bounds = Duration::from_millis(100)..=Duration::from_mins(1);
    if bounds.contains(&measure) { Ok(measure) } else { Err("between 100ms and 1m is needed".to_owned()) }
}
