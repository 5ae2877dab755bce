//! What can be typed after the measurements of what goes wrong: recovery, absence, overload, and how
//! much a coordinator can hold.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::log_delay;
use crate::args::duration;

/// Options of those that measure everything several times.
#[derive(Clone, Debug, Args)]
pub(crate) struct Repeated {
    /// Measure everything so often, in turn, and show the medians
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
    /// Each force of the log takes this much longer, as on a slow disk (PostgreSQL's `commit_delay`; at most 100ms)
    #[arg(long, value_name = "TIME", value_parser = log_delay)]
    pub(crate) log_delay: Option<Duration>,
}

/// What can be typed after `bench recover`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Recover {
    /// Unfinished commits in the log, each with a branch at two participants that do nothing
    #[arg(long, default_value_t = 100_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) commits: u32,
    /// Branches prepared in PostgreSQL, half of them in each of two databases; an even number
    #[arg(long, default_value_t = 10_000, value_name = "COUNT", value_parser = branches)]
    pub(crate) prepared: u32,
    /// Only the commits in the log
    #[arg(long)]
    pub(crate) log_only: bool,
    /// Only the branches prepared in PostgreSQL
    #[arg(long, conflicts_with = "log_only")]
    pub(crate) prepared_only: bool,
    /// Connections to each database, for the participant and for the bare loop alike
    #[arg(long, default_value_t = 16, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) connections: u32,
    #[command(flatten)]
    pub(crate) repeated: Repeated,
}

/// What can be typed after `bench blip`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Blip {
    /// How the participant is gone: its process stands still, or is killed and started again; both, with a comma
    #[arg(long, value_delimiter = ',', default_value = "pause,restart", value_name = "KIND")]
    pub(crate) absence: Vec<Absence>,
    /// For how long
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = absence)]
    pub(crate) gone: Duration,
    /// Transactions at once, of those that touch it and of those that do not alike
    #[arg(long, default_value_t = 64, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) in_flight: u32,
    /// How long it is measured before that, and after
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = super::measure)]
    pub(crate) measure: Duration,
    #[command(flatten)]
    pub(crate) repeated: Repeated,
}

/// How a participant can be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Absence {
    /// Its process stands still and then goes on: a network that was gone, a machine that hung.
    Pause,
    /// Its process is killed, and after that time another is started.
    Restart,
}

impl Absence {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Restart => "restart",
        }
    }
}

/// More is an outage, and not a blip.
fn absence(text: &str) -> Result<Duration, String> {
    let absence = duration(text)?;
    let bounds = Duration::from_millis(10)..=Duration::from_secs(10);
    if bounds.contains(&absence) { Ok(absence) } else { Err("between 10ms and 10s is needed".to_owned()) }
}

/// What can be typed after `bench open`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Open {
    /// Open transactions, each with two branches and one label; at most as many as a coordinator takes by default
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) transactions: u32,
    /// Whether the log is told of them as undecided, for operators; both, with a comma
    #[arg(long, value_delimiter = ',', default_value = "without,with", value_name = "KIND")]
    pub(crate) records: Vec<Records>,
}

/// Whether open transactions have a record in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Records {
    /// The log is told nothing of them.
    Without,
    /// Each is recorded after a second, as by default.
    With,
}

impl Records {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::With => "with",
        }
    }
}

/// What can be typed after `bench overload`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Overload {
    /// Transactions at once, of which the fewest that nearly reach the best rate say what can be sustained; several, with commas
    #[arg(long, value_delimiter = ',', default_value = "256,512,1024,2048", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) in_flight: Vec<u32>,
    /// What is offered, as a multiple of that rate
    #[arg(long, default_value_t = 2.0, value_name = "FACTOR", value_parser = factor)]
    pub(crate) factor: f64,
    /// Applications, each with a connection of its own
    #[arg(long, default_value_t = 4, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) applications: u32,
    /// How long each measurement takes, after a warm-up of a quarter of that
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = super::measure)]
    pub(crate) measure: Duration,
    #[command(flatten)]
    pub(crate) repeated: Repeated,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.1..=10.0).contains(&factor) { Ok(factor) } else { Err("between 0.1 and 10 is needed".to_owned()) }
}

/// Branches in two databases. PostgreSQL sets aside shared memory for each that may be prepared at once.
fn branches(text: &str) -> Result<u32, String> {
    let count = text.parse::<u32>().map_err(|error| error.to_string())?;
    match count {
        2..=200_000 if count % 2 == 0 => Ok(count),
        2..=200_000 => Err("half of them go to each of two databases: an even number is needed".to_owned()),
        _ => Err("between 2 and 200000 are possible".to_owned()),
    }
}
