//! The `pactum` command: runs coordinators, shows and resolves transactions, and demonstrates a
//! transfer across two databases.
//!
//! * [`args`]: what can be typed. [`command`]: one subcommand a file. [`server`]: runs a
//!   coordinator for `dev`, `serve` and the demo. [`admin`]: calls to a running one.
//! * [`output`]: what is printed on stdout, as tables or JSON; everything else goes to stderr.
//! * [`failure`] and [`exit`]: what an error says, and the number that the process ends with.
//! * [`config`]: defaults < file < environment < flags. [`logging`]: tracing on stderr.
//! * [`demo`]: `pactum demo transfer` and the processes that it starts.
//!
//! This is the one crate that knows both the coordinator and the SDK.

mod admin;
mod args;
mod command;
mod config;
mod demo;
mod exit;
mod failure;
mod logging;
mod output;
mod server;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    // Ends the process with Exit::Usage, or Exit::Ok for --help, by itself.
    let cli = Cli::parse();
    let output = Output::new(&cli.global);
    // Several crates below speak TLS; without one provider chosen here rustls panics when two are
    // linked. An error means that one is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let unasked = if matches!(cli.command, Command::Demo(_)) {
        logging::DEMO
    } else if matches!(cli.command, Command::Serve(_) | Command::Dev(_)) {
        logging::SERVING
    } else {
        logging::USUAL
    };
    let result = logging::start(&cli.global, unasked).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
            Failure::new(Exit::Failed, "the asynchronous runtime could not be started").because(&error)
        })?;
        let result = runtime.block_on(command::run(cli, &output));
        // Blocking reads of stdin cannot be cancelled: do not wait for them.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit().into()
        }
    }
}
