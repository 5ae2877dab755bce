//! `pactum demo`: complete systems that start, run and stop by themselves.

use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};

use crate::demo;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What can be typed after `demo`.
#[derive(Debug, Subcommand)]
pub(crate) enum Demo {
    /// Move money between two banks that have a database each: all or nothing, also in a crash
    Transfer(Transfer),
    /// Practise for the night: a coordinator and four banks with three transactions in trouble
    Outage(Outage),
}

/// What can be typed after `demo outage`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Sets up an outage with real processes and databases and leaves it to you: one bank was killed after its vote, \
                  one before, and one branch was rolled back by hand. Tells what happened and what to try, with every command. \
                  Type `start bank-b` to start a bank again. Ends at Ctrl-C and removes everything.\n\n\
                  With -o json one document is printed when the scene is set; then the scene stays until the process is interrupted."
)]
pub(crate) struct Outage {
    /// The PostgreSQL server to use (as a role that may create databases), with `max_prepared_transactions`
    /// above 10; without it, a throw-away server is started
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
}

/// What can be typed after `demo transfer`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Starts a coordinator and two banks as processes of their own, moves money back and forth over real gRPC, \
                  and counts it before and after. Every tenth transfer asks for more than there is, and is refused.\n\
                  Exits 0 only if no money was made or lost, nothing is in doubt, and there were commits and refusals.\n\n\
                  Examples:\n  pactum demo transfer --crash coordinator@decided\n  pactum demo transfer --crash participant@prepared\n  \
                  pactum demo transfer --postgres --transfers 2000 --in-flight 32"
)]
pub(crate) struct Transfer {
    /// How many transfers
    #[arg(long, default_value_t = 200, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) transfers: u32,
    /// How many at once
    #[arg(long, default_value_t = 8, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) in_flight: u32,
    /// Use PostgreSQL for the log and for both banks: a throw-away server, or the one named (as a
    /// role that may create databases)
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "", hide_default_value = true)]
    pub(crate) postgres: Option<String>,
    /// Kill a process there, once, half way, and start it again: coordinator@decided,
    /// participant@prepared, participant@promised (before its vote), or any step that they report, as
    /// in coordinator@vote-received
    #[arg(long, value_name = "WHO@STEP")]
    pub(crate) crash: Option<Crash>,
}

/// Who is to be killed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crash {
    /// Which process.
    pub(crate) who: Role,
    /// The name of the step after which it dies, as its observer is told.
    pub(crate) step: String,
}

/// What a process of the demo is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It decides.
    Coordinator,
    /// It does local work: a bank.
    Participant,
}

/// Steps that can be named, with the short names of two of them.
const COORDINATOR_STEPS: &[&str] = &[
    "prepare-sent",
    "vote-received",
    "decision-handed-over",
    "decision-durable",
    "client-answered",
    "decision-sent",
    "branch-finished",
    "end-recorded",
];
const PARTICIPANT_STEPS: &[&str] = &[
    "prepare-received",
    "work-done",
    "prepared",
    "vote-sent",
    "decision-received",
    "branch-ended",
    "ack-sent",
];

impl FromStr for Crash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (who, step) = text.split_once('@').ok_or("write it like coordinator@decided")?;
        let (who, known) = match who {
            "coordinator" => (Role::Coordinator, COORDINATOR_STEPS),
            "participant" => (Role::Participant, PARTICIPANT_STEPS),
            _ => return Err("only coordinator and participant can crash".to_owned()),
        };
        let step = match (who, step) {
            (Role::Coordinator, "decided") => "decision-durable",
            // The vote has left: the bank has promised and does not know what becomes of it.
            (Role::Participant, "prepared") => "vote-sent",
            // The promise is durable and the vote has not left.
            (Role::Participant, "promised") => "prepared",
            (_, step) => step,
        };
        if known.contains(&step) {
            Ok(Self { who, step: step.to_owned() })
        } else {
            Err(format!("the steps are {}", known.join(", ")))
        }
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.who {
            Role::Coordinator => "coordinator",
            Role::Participant => "participant",
        };
        write!(f, "{who}@{}", self.step)
    }
}

impl Demo {
    /// Does it.
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, Failure> {
        match self {
            Self::Transfer(transfer) => demo::run::run(transfer, output).await,
            Self::Outage(outage) => demo::outage::run(outage, output).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_who_and_where() {
        let crash: Crash = "coordinator@decided".parse().unwrap();
        assert_eq!(crash.to_string(), "coordinator@decision-durable");
        assert_eq!("participant@promised".parse::<Crash>().unwrap().step, "prepared");
        let crash: Crash = "participant@prepared".parse().unwrap();
        assert_eq!(crash.to_string(), "participant@vote-sent");
        for bad in ["coordinator", "coordinator@lunch", "bank@prepared", "participant@decision-durable"] {
            assert!(bad.parse::<Crash>().is_err(), "{bad}");
        }
    }
}
