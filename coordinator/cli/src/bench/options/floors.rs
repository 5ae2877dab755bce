//! What can be typed after `bench floors`.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// What can be typed after `bench floors`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Floors {
    /// Only these measurements; several, with commas
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub(crate) only: Vec<Part>,
    /// Measure everything so often, in turn, and judge the medians [default: each measurement's own]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: Option<u32>,
    /// How long each measurement takes, after a warm-up of a quarter of that [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = super::measure)]
    pub(crate) measure: Option<Duration>,
}

/// Measurements, each with floors of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Commits: rate, latency, forced writes, unary calls, more participants.
    Commit,
    /// Commits on a slow disk.
    LogDelay,
    /// Transactions that force nothing.
    Unforced,
    /// Transfers, against hand-written two-phase commit.
    Transfer,
    /// A restarted coordinator.
    Recover,
    /// A participant that is gone for a second.
    Blip,
    /// Memory of open transactions.
    Open,
    /// Twice the rate that can be sustained.
    Overload,
}

impl Part {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::LogDelay => "log-delay",
            Self::Unforced => "unforced",
            Self::Transfer => "transfer",
            Self::Recover => "recover",
            Self::Blip => "blip",
            Self::Open => "open",
            Self::Overload => "overload",
        }
    }
}
