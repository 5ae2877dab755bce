//! What can be typed.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Kills, stops and cuts off everything that takes part in transfers between two banks, for a
/// while, and then proves that nothing was lost, done twice or left in doubt.
///
/// Three coordinators on one PostgreSQL log; two processes for each of two banks, on a PostgreSQL
/// server each; two applications. Needs PostgreSQL's server programs and nothing else. Exits 0
/// only if nothing is wrong and nothing is left in doubt.
#[derive(Debug, Parser)]
#[command(name = "gauntlet", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(subcommand)]
    pub(crate) mode: Option<Mode>,
}

/// How to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    /// How long there are faults; starting, healing and checking come on top.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) seconds: u64,
    /// Determines the plan of faults and the transfers (not the machine's scheduling). Without
    /// it one is drawn, and printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How the result is printed on standard output [default: table on a terminal, else json].
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    /// Keep the logs of all processes and servers, and the applications' journals, in this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// What else can be run.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Kills the three coordinators in turn under load, and nothing else.
    RollingKill {
        #[command(flatten)]
        run: Run,
    },
    /// Measures how fast unfinished commits are driven that no coordinator is there for, next to
    /// a bare loop of COMMIT PREPARED on the same databases.
    RecoveryRate {
        /// Transactions of two branches each.
        #[arg(long, default_value_t = 10_000)]
        transactions: u32,
        /// How the result is printed on standard output [default: table on a terminal, else json].
        #[arg(short, long, value_enum)]
        output: Option<Format>,
    },
    /// One of the processes; for this program's own use.
    #[command(hide = true)]
    Role {
        #[command(flatten)]
        role: RoleArguments,
    },
}

/// What a process is told. Not all of it means something to each.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct RoleArguments {
    /// `coordinator`, `bank` or `application`.
    pub(crate) role: String,
    /// Where its status and its journal lie.
    #[arg(long)]
    pub(crate) directory: PathBuf,
    /// The log's URL, or the bank's database.
    #[arg(long, default_value = "")]
    pub(crate) database: String,
    /// The bank's or the application's name.
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// The address that a coordinator tells others.
    #[arg(long, default_value = "")]
    pub(crate) advertise: String,
    /// URLs of the coordinators.
    #[arg(long, value_delimiter = ',')]
    pub(crate) coordinators: Vec<String>,
    /// Addresses of the first bank's processes, and then as many of the second's.
    #[arg(long, value_delimiter = ',')]
    pub(crate) banks: Vec<std::net::SocketAddr>,
    /// Transfers at once, but for those that wait for somebody who is gone.
    #[arg(long, default_value_t = 1)]
    pub(crate) at_once: usize,
    /// Of an application's transfers.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Die at this step of the start.
    #[arg(long)]
    pub(crate) trap: Option<String>,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One line.
    Json,
}

impl Format {
    /// What was asked for, or what suits where the output goes.
    pub(crate) fn or_default(asked: Option<Self>) -> Self {
        let usual = if std::io::stdout().is_terminal() { Self::Table } else { Self::Json };
        asked.unwrap_or(usual)
    }
}
