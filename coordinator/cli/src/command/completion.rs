//! `pactum completion`: a script that completes our commands in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What can be typed after `completion`.
#[derive(Debug, Args)]
#[command(after_help = "Example: pactum completion bash > /etc/bash_completion.d/pactum")]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

impl Completion {
    /// Prints the script.
    pub(crate) fn run(&self, output: &Output) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "pactum", &mut script);
        output.text(String::from_utf8_lossy(&script))?;
        Ok(Exit::Ok)
    }
}
