//! Running the command, and processes of it that serve.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod samples;
pub(crate) mod scripted;
pub(crate) mod terminal;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// A deadline that no healthy run comes near.
pub(crate) const LONG: Duration = Duration::from_mins(2);

/// The command, with an environment of its own.
pub(crate) fn pactum(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pactum"));
    command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PACTUM_")) {
        if name != "PACTUM_POSTGRES_BIN" {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG");
    command
}

/// Runs the command to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    pactum(args).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The exit code, which must be there, with what was said if it is not the one expected.
#[track_caller]
pub(crate) fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout:\n{}\nstderr:\n{}", stdout(output), stderr(output));
}

/// A coordinator in a process of its own; stopped when dropped.
pub(crate) struct Coordinator {
    pub(crate) child: Child,
    pub(crate) public: String,
    pub(crate) admin: String,
}

impl Coordinator {
    /// `pactum dev` on free ports, its log in that directory.
    pub(crate) fn dev(directory: &Path) -> Self {
        let data = directory.join("data").display().to_string();
        Self::start(pactum(&["dev", "--random-ports", "--data", &data, "-o", "json"]))
    }

    /// A command that prints its addresses as JSON.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let addresses: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            drop(child.kill());
            panic!("{error}: {line:?}")
        });
        let address = |key: &str| addresses[key].as_str().unwrap().to_owned();
        Self { public: address("public"), admin: address("admin"), child }
    }

    /// The command, asking this coordinator.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        run(&[args, &["--server", &self.admin]].concat())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        send(&self.child, signal);
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn send(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits for the end of a process.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    until("the process has ended", || child.try_wait().unwrap())
}

/// Waits until something is there.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < limit, "waited in vain until {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
