//! The subcommands, one a file.

pub(crate) mod audit;
pub(crate) mod branch;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod debug;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod heuristic;
pub(crate) mod log;
pub(crate) mod participant;
pub(crate) mod quarantine;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod tx;

use std::future::Future;

use pactum_proto::error::ErrorCode;

use crate::act;
use crate::args::{Cli, Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Does what was typed.
pub(crate) async fn run(cli: Cli, output: &Output) -> Result<Exit, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Dev(dev) => dev.run(global, output).await,
        Command::Serve(serve) => serve.run(global, output).await,
        Command::Demo(demo) => demo.run(output).await,
        Command::Bench(bench) => interruptible(output, Box::pin(crate::bench::run(bench, output))).await,
        Command::Tx(tx) => interruptible(output, Box::pin(tx.run(global, output))).await,
        Command::Quarantine(quarantine) => interruptible(output, quarantine.run(global, output)).await,
        Command::Heuristic(heuristic) => interruptible(output, heuristic.run(global, output)).await,
        Command::Participant(participant) => interruptible(output, participant.run(global, output)).await,
        Command::Audit(audit) => interruptible(output, audit.run(global, output)).await,
        Command::Token(token) => token.run(output),
        Command::Status(status) => interruptible(output, status.run(global, output)).await,
        Command::Log(log) => interruptible(output, log.run(output)).await,
        Command::Branch(branch) => interruptible(output, branch.run(global, output)).await,
        Command::Check(check) => interruptible(output, check.run(global, output)).await,
        Command::Doctor(doctor) => interruptible(output, doctor.run(global, output)).await,
        Command::Debug(debug) => interruptible(output, debug.run(global, output)).await,
        Command::Config(config) => interruptible(output, config.run(global, output)).await,
        Command::Explain(explain) => explain.run(output),
        Command::Completion(completion) => completion.run(output),
        Command::DemoCoordinator => crate::demo::child::coordinator().await,
        Command::DemoBank => crate::demo::child::bank().await,
        Command::BenchChild => crate::bench::child::run().await,
    }
}

/// For commands that hold nothing that would need to be put away.
async fn interruptible(
    output: &Output,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    tokio::select! {
        result = command => result,
        _ = tokio::signal::ctrl_c() => {
            if act::is_under_way() {
                return Err(Failure::new(Exit::Unknown, "interrupted: it may or may not have happened")
                    .code(ErrorCode::OutcomeUnknown)
                    .next("pactum audit list shows whether it was begun, and its end"));
            }
            output.hint("interrupted; what was answered before stands");
            Ok(Exit::Interrupted)
        }
    }
}
