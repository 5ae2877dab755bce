//! The `pactum` command: runs coordinators, shows and resolves transactions, and demonstrates a
//! transfer across two databases.
//!
//! * [`args`]: what can be typed. [`command`]: one subcommand a file. [`server`]: runs a
//!   coordinator for `dev`, `serve` and the demo. [`admin`]: calls to a running one.
//! * [`act`]: plan, show, ask, do: the way of every act. [`ids`]: several things named at once.
//! * [`output`]: what is printed on stdout, as tables or JSON; everything else goes to stderr.
//! * [`failure`] and [`exit`]: what an error says, and the number that the process ends with.
//! * [`pages`]: what each error code means, for `explain`.
//! * [`config`]: defaults < file < environment < flags. [`logging`]: tracing on stderr.
//!   [`otlp`]: spans to a collector.
//! * [`demo`]: `pactum demo transfer` and the processes that it starts. [`bench`]: `pactum bench` likewise.
//!
//! This is the one crate that knows both the coordinator and the SDK.

mod act;
mod admin;
mod args;
mod bench;
mod command;
mod config;
mod demo;
mod exit;
mod failure;
mod ids;
mod logging;
mod otlp;
mod output;
mod pages;
mod server;

use std::process::ExitCode;

use clap::Parser;
use pactum_coordinator::Config;

use crate::args::{Cli, Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// A transaction is some dozens of small pieces of memory, most of them freed by another thread than the one
/// that took them: the system's allocator takes a third of a coordinator's time for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Nobody is left to be told if it cannot be printed.
            drop(told.print());
            // A monitor takes 2 for critical: what was typed wrong there says nothing of the coordinator.
            let of_check = std::env::args().nth(1).is_some_and(|first| first == "check");
            return match (told.use_stderr(), of_check) {
                (false, _) => Exit::Ok.into(),
                (true, true) => ExitCode::from(command::check::WRONG_USAGE),
                (true, false) => Exit::Usage.into(),
            };
        }
    };
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
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(worker_threads()?).enable_all();
        let runtime = runtime.build().map_err(|error| {
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

/// How many threads run the tasks. The variable is the runtime's own, which would panic if it cannot be read.
fn worker_threads() -> Result<usize, Failure> {
    const NAME: &str = "TOKIO_WORKER_THREADS";
    let Some(text) = std::env::var_os(NAME) else { return Ok(Config::worker_threads()) };
    let threads = text.to_str().and_then(|text| text.parse().ok()).filter(|threads| *threads > 0);
    let text = text.to_string_lossy();
    threads.ok_or_else(|| Failure::usage(format!("{NAME} is {text:?}, and must be a number of at least 1")))
}
