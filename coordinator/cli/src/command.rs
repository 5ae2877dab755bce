//! The subcommands, one a file.

pub(crate) mod completion;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod explain;
pub(crate) mod log;
pub(crate) mod participant;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tx;

use std::future::Future;

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
        Command::Tx(tx) => interruptible(tx.run(global, output)).await,
        Command::Participant(participant) => interruptible(participant.run(global, output)).await,
        Command::Status(status) => interruptible(status.run(global, output)).await,
        Command::Log(log) => interruptible(log.run(output)).await,
        Command::Explain(explain) => explain.run(output),
        Command::Completion(completion) => completion.run(output),
        Command::DemoCoordinator => crate::demo::child::coordinator().await,
        Command::DemoBank => crate::demo::child::bank().await,
    }
}

/// For commands that hold nothing that would need to be put away.
async fn interruptible(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    tokio::select! {
        result = command => result,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}
