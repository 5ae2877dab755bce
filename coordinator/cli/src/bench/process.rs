//! A child, as `pactum bench` sees it: started, told, heard, stopped.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::wire::{Orders, Report};
use crate::exit::Exit;
use crate::failure::Failure;

/// A child that was asked to stop and has not by then is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    stdin: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
    pid: u32,
    public: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Process {
    /// Starts a child, and waits until it is ready.
    pub(super) async fn start(name: impl Into<String>, orders: &Orders) -> Result<Self, Failure> {
        let name = name.into();
        let failed = |error: &std::io::Error| {
            Failure::new(Exit::Failed, format!("{name} could not be started")).because(error)
        };
        let mut command = Command::new(std::env::current_exe().map_err(|error| failed(&error))?);
        command
            .arg("bench-child")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // An interrupt from the terminal is for the parent, whose end ends its children.
            .process_group(0);
        if ["PACTUM_LOG_LEVEL", "RUST_LOG"].into_iter().all(|name| std::env::var_os(name).is_none()) {
            command.env("PACTUM_LOG_LEVEL", "error");
        }
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let missing = || Failure::new(Exit::Failed, "a pipe to a child is missing");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let pid = child.id().ok_or_else(missing)?;
        let reports = BufReader::new(stdout).lines();
        let mut process = Self { name, child, stdin, reports, pid, public: None, admin: None };
        process.tell(orders).await?;
        let said = process.hear().await?;
        let Report::Ready { public, admin } = said else { return Err(process.unexpected(&said)) };
        (process.public, process.admin) = (public, admin);
        Ok(process)
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Where a coordinator serves applications and participants.
    pub(super) fn url(&self) -> Result<String, Failure> {
        let address = self.public.ok_or_else(|| self.silent("where it serves"))?;
        Ok(format!("http://{address}"))
    }

    /// Where a coordinator serves operators.
    pub(super) fn admin_url(&self) -> Result<String, Failure> {
        let address = self.admin.ok_or_else(|| self.silent("where it serves operators"))?;
        Ok(format!("http://{address}"))
    }

    fn silent(&self, what: &str) -> Failure {
        Failure::new(Exit::Failed, format!("{} did not say {what}", self.name))
    }

    /// Sends a line.
    pub(super) async fn tell(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(line).map_err(|error| {
            Failure::new(Exit::Failed, format!("{} cannot be told that", self.name)).because(&error)
        })?;
        text.push(b'\n');
        self.stdin
            .write_all(&text)
            .await
            .map_err(|error| Failure::new(Exit::Failed, format!("{} has ended", self.name)).because(&error))
    }

    /// Waits for its next report. One that says that it failed is a failure.
    pub(super) async fn hear(&mut self) -> Result<Report, Failure> {
        let ended = || Failure::new(Exit::Failed, format!("{} has ended", self.name));
        let line = self.reports.next_line().await.map_err(|error| ended().because(&error))?;
        let report = serde_json::from_str(&line.ok_or_else(ended)?);
        let report = report.map_err(|error| ended().because(&error))?;
        if let Report::Failed { error } = report {
            return Err(Failure::new(Exit::Failed, format!("{} cannot go on", self.name)).cause(error));
        }
        Ok(report)
    }

    /// A report that has no place here.
    pub(super) fn unexpected(&self, report: &Report) -> Failure {
        Failure::new(Exit::Failed, format!("{} said something out of turn: {report:?}", self.name))
    }

    /// Stops it in order, and waits until it has ended.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        let Self { name, mut child, stdin, .. } = self;
        drop(stdin);
        let failed = |error: &std::io::Error| {
            Failure::new(Exit::Failed, format!("{name} did not stop")).because(error)
        };
        match tokio::time::timeout(STOP_WITHIN, child.wait()).await {
            Ok(ended) => ended.map(drop).map_err(|error| failed(&error)),
            Err(_elapsed) => child.kill().await.map_err(|error| failed(&error)),
        }
    }

    /// Has it stand still, or go on. It hears nothing of either.
    pub(super) fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| self.silent("its process id"))?;
        rustix::process::kill_process(pid, signal).map_err(|error| {
            Failure::new(Exit::Failed, format!("{} could not be signalled", self.name)).because(&error)
        })
    }

    /// Kills it where it stands.
    pub(super) async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| {
            Failure::new(Exit::Failed, format!("{} could not be killed", self.name)).because(&error)
        })
    }
}
