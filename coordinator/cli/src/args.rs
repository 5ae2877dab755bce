//! What can be typed: global options and subcommands. The options of a subcommand stand beside it.

#[cfg(test)]
mod reference;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::bench;
use crate::command;
use crate::exit::Exit;

/// All or nothing across databases: run a coordinator, see its transactions, resolve what waits.
#[derive(Debug, Parser)]
#[command(name = "pactum", version, propagate_version = true, after_help = Exit::HELP, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a coordinator for development: embedded log, loopback only, nothing to set up
    Dev(command::dev::Dev),
    /// Run a coordinator
    Serve(command::serve::Serve),
    /// See it work: complete systems that start, run and stop by themselves
    #[command(subcommand)]
    Demo(command::demo::Demo),
    /// Measure this machine: Pactum against the log's own group commit, and against hand-written two-phase commit
    #[command(subcommand)]
    Bench(bench::options::Bench),
    /// See a coordinator, who else is alive on its log, and the log itself
    Status(command::status::Status),
    /// See and settle transactions
    #[command(subcommand)]
    Tx(command::tx::Tx),
    /// See prepared branches that nobody takes care of, and release them
    #[command(subcommand)]
    Quarantine(command::quarantine::Quarantine),
    /// See branches that ended without the decision
    #[command(subcommand)]
    Heuristic(command::heuristic::Heuristic),
    /// See participants, and have them take no new branches
    #[command(subcommand)]
    Participant(command::participant::ParticipantCommand),
    /// See, export and verify what operators did
    #[command(subcommand)]
    Audit(command::audit::Audit),
    /// Make and revoke operators' tokens
    #[command(subcommand)]
    Token(command::token::Token),
    /// Prepare a decision log
    #[command(subcommand)]
    Log(command::log::Log),
    /// See and end a database's prepared branches by itself, where no coordinator runs
    #[command(subcommand)]
    Branch(command::branch::Branch),
    /// Say whether a coordinator is well, for monitoring: exits with 0 ok, 1 warning, 2 critical, 3 unknown
    Check(command::check::Check),
    /// Look for what is wrong or will be: coordinator, log, participants, certificates
    Doctor(command::doctor::Doctor),
    /// Gather what others need to help
    #[command(subcommand)]
    Debug(command::debug::Debug),
    /// See what a coordinator is or would be set to, and why
    #[command(subcommand)]
    Config(command::config::ConfigCommand),
    /// Say what an error code means and what to do
    Explain(command::explain::Explain),
    /// Print completions for a shell
    Completion(command::completion::Completion),
    /// A coordinator as a child of the demo; reads its orders from stdin
    #[command(hide = true)]
    DemoCoordinator,
    /// A bank as a child of the demo; reads its orders from stdin
    #[command(hide = true)]
    DemoBank,
    /// Whatever runs beside a measurement; reads its orders from stdin
    #[command(hide = true)]
    BenchChild,
}

/// Options that every subcommand takes. Each has a variable; what is typed wins.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Admin address of the coordinator to ask
    #[arg(
        long,
        global = true,
        env = "PACTUM_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7601"
    )]
    pub(crate) server: String,
    /// Form of what is printed on stdout
    #[arg(short, long, global = true, env = "PACTUM_OUTPUT", value_name = "FORM", default_value = "table")]
    pub(crate) output: Format,
    /// Give up on an answer after this
    #[arg(long, global = true, env = "PACTUM_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Give up on a connection after this
    #[arg(long, global = true, env = "PACTUM_CONNECT_TIMEOUT", value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(crate) connect_timeout: Duration,
    /// Colours
    #[arg(long, global = true, env = "PACTUM_COLOR", value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Certificates (PEM) that the other side must be signed by; needed for https. With `serve`:
    /// ask for client certificates signed by these
    #[arg(long, global = true, env = "PACTUM_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Our own certificate (PEM)
    #[arg(long, global = true, env = "PACTUM_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of our own certificate (PEM)
    #[arg(long, global = true, env = "PACTUM_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A file that holds the token to show to the coordinator; `pactum token create` makes one
    #[arg(long, global = true, env = "PACTUM_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// How times look in tables; without it ages are relative and moments are in ISO 8601
    #[arg(long, global = true, env = "PACTUM_TIME", value_name = "FORM")]
    pub(crate) time: Option<TimeForm>,
    /// Never ask: a command that would ask fails instead
    #[arg(long, global = true, env = "PACTUM_NO_INPUT")]
    pub(crate) no_input: bool,
    /// Only data and errors: no hints, no progress
    #[arg(short, long, global = true, env = "PACTUM_QUIET")]
    pub(crate) quiet: bool,
    /// Log more to stderr; twice for still more. `PACTUM_LOG_LEVEL` or `RUST_LOG` say it finely
    #[arg(short, long, global = true, env = "PACTUM_VERBOSE", action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Form of the log on stderr
    #[arg(long, global = true, env = "PACTUM_LOG_FORMAT", value_name = "FORM", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// The form of what is printed on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// How times look in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimeForm {
    /// 6m12s.
    Relative,
    /// 2026-01-31T02:41:18Z.
    Iso,
    /// Seconds since 1970.
    Unix,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads `5s`, `1m 30s`, `250ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 5s, 250ms or 1m30s"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_global_option_has_a_variable_that_begins_with_pactum() {
        let command = Cli::command();
        let globals: Vec<_> = command.get_arguments().filter(|arg| arg.is_global_set()).collect();
        assert!(globals.len() >= 10);
        for arg in globals {
            let variable = arg.get_env().unwrap_or_else(|| panic!("{} has none", arg.get_id()));
            assert!(variable.to_str().unwrap().starts_with("PACTUM_"));
        }
    }
}
