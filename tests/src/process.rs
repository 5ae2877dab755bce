//! Coordinators and banks as processes of their own, to be killed and stopped at a chosen step.
//!
//! The program is this package's own binary over the libraries (cargo gives a test no other
//! package's binary); [`role`](crate::role) is its inside. A child ends when its standard input
//! does, so that none outlives the test.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{MutexGuard, PoisonError};

use http::{HeaderMap, HeaderValue};
use pactum::context::{Context, ENLISTED_HEADER};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::bank::{Books, Entry, Teller};
use crate::postgres;
use crate::role::GO_ON;
use crate::wait::{SOON, eventually};

/// What happens to a process at the nth time that it passes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// It kills itself with SIGKILL.
    Kill(&'static str, u32),
    /// It stops itself with SIGSTOP, until [`Role::resume`].
    Pause(&'static str, u32),
}

impl At {
    fn arguments(self) -> [String; 2] {
        match self {
            Self::Kill(step, nth) => ["--kill-at".into(), format!("{step}:{nth}")],
            Self::Pause(step, nth) => ["--pause-at".into(), format!("{step}:{nth}")],
        }
    }
}

/// A child process in a role.
#[derive(Debug)]
pub struct Role {
    arguments: Vec<String>,
    address: SocketAddr,
    child: Mutex<Child>,
    /// Its standard input, apart from the child, since waiting for a child closes what it holds:
    /// the process ends when the pipe does.
    pipe: std::sync::Mutex<File>,
    pid: AtomicU32,
    directory: TempDir,
}

impl Role {
    async fn start(arguments: Vec<String>, at: Option<At>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let (child, pipe, address) = launch(&arguments, "127.0.0.1:0", at, &directory).await;
        let address = address.expect("it says so");
        let pid = AtomicU32::new(child.id().expect("it has not been reaped"));
        Self { arguments, address, child: Mutex::new(child), pipe: pipe.into(), pid, directory }
    }

    /// Where it serves; the same over restarts.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as coordinators are named.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Kills it with SIGKILL, unless it is dead, and reaps it.
    ///
    /// # Panics
    /// The operating system refuses.
    pub async fn kill(&self) {
        self.child.lock().await.kill().await.expect("a child can be killed");
    }

    /// Waits until it has died by SIGKILL.
    ///
    /// # Panics
    /// It does not, or ends in another way: a crash that nobody planned.
    pub async fn died(&self) {
        let mut child = self.child.lock().await;
        let status = tokio::time::timeout(SOON, child.wait()).await.expect("it dies in time");
        let signal = std::os::unix::process::ExitStatusExt::signal(&status.expect("a child can be awaited"));
        assert_eq!(signal, Some(9), "it ended by itself:\n{}", self.log());
    }

    /// Waits until it has stopped itself.
    ///
    /// # Panics
    /// It has not in time.
    pub async fn paused(&self) {
        let pid = self.pid();
        eventually("a process stopping itself", || async {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ").filter(|(_, rest)| rest.starts_with('T')).map(drop)
        })
        .await;
    }

    /// Lets a stopped one go on, from the step where it stopped itself.
    ///
    /// # Panics
    /// It has ended.
    pub fn resume(&self) {
        self.pipe().write_all(&[GO_ON]).expect("a stopped process still holds its end");
        let pid =
            i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id is a positive i32");
        kill_process(pid, Signal::CONT).expect("a stopped process can be continued");
    }

    /// Kills it if it lives and starts it again at the same address. It may then die before it is
    /// ready, if that is what it is to do.
    ///
    /// # Panics
    /// It does not start.
    pub async fn restart(&self, at: Option<At>) {
        let mut running = self.child.lock().await;
        running.kill().await.expect("a child can be killed");
        let listen = self.address.to_string();
        let (child, pipe, _) = launch(&self.arguments, &listen, at, &self.directory).await;
        *self.pipe() = pipe;
        self.pid.store(child.id().unwrap_or(0), Ordering::SeqCst);
        *running = child;
    }

    /// What all its lives have written to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        self.pid.load(Ordering::SeqCst)
    }

    fn pipe(&self) -> MutexGuard<'_, File> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            #[expect(clippy::print_stderr, reason = "shown with the test that failed")]
            {
                eprintln!("--- the end of the log of {:?}:\n{tail}", self.arguments);
            }
        }
    }
}

/// Starts the program and waits for its line `ready ADDRESS`, which may not come if it is to die.
async fn launch(
    arguments: &[String],
    listen: &str,
    at: Option<At>,
    directory: &TempDir,
) -> (Child, File, Option<SocketAddr>) {
    let log = File::options().create(true).append(true).open(directory.path().join("log"));
    let mut child = Command::new(program())
        .args(arguments)
        .args(["--listen", listen])
        .args(at.map(At::arguments).into_iter().flatten())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log.expect("a log file can be made"))
        .kill_on_drop(true)
        .spawn()
        .expect("the role's program is built beside the tests");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("it is ready in time");
    let line = line.expect("its output can be read");
    let address = line.as_deref().and_then(|line| line.strip_prefix("ready ")?.parse().ok());
    if address.is_none() && !matches!(at, Some(At::Kill(..))) {
        let log = std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("{arguments:?} is not ready but says {line:?}:\n{log}");
    }
    let pipe = child.stdin.take().expect("it is piped").into_owned_fd().expect("it is a file");
    (child, pipe.into(), address)
}

/// `target/debug/deps/TEST-HASH` → `target/debug/pactum-tests-role`.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let directory = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps");
    directory.join("pactum-tests-role")
}

/// A coordinator in a process of its own, on the log of that URL.
pub async fn coordinator(log_url: &str, at: Option<At>) -> Role {
    Role::start(vec!["coordinator".into(), "--log".into(), log_url.into()], at).await
}

/// A bank in a process of its own.
#[derive(Debug)]
pub struct BankProcess {
    /// The process.
    pub role: Role,
    /// Its books, read past it.
    pub books: Books,
    /// The database, without any proxy.
    pub database_url: String,
}

impl BankProcess {
    /// A bank with a fresh database on the shared server.
    pub async fn start(name: &str, coordinator: &Role, at: Option<At>) -> Self {
        let url = postgres::database(postgres::shared(), name);
        Books::create(&url).await;
        Self::start_on(name, &url, &url, &coordinator.url(), false, at).await
    }

    /// A bank whose database has the schema; the process reaches it by `reached_by`.
    pub async fn start_on(
        name: &str,
        database_url: &str,
        reached_by: &str,
        coordinator: &str,
        markers: bool,
        at: Option<At>,
    ) -> Self {
        let mut arguments: Vec<String> =
            ["bank", "--name", name, "--database", reached_by, "--coordinator", coordinator]
                .map(Into::into)
                .into();
        if markers {
            arguments.push("--markers".into());
        }
        let role = Role::start(arguments, at).await;
        Self { role, books: Books::open(database_url), database_url: database_url.to_owned() }
    }
}

impl Teller for BankProcess {
    async fn apply(&self, context: &Context, entry: &Entry) -> Result<(), String> {
        let request = format!("{} {} {}", entry.key, entry.account, entry.amount);
        ask_bank(self.role.address(), context, &request).await
    }

    fn books(&self) -> &Books {
        &self.books
    }
}

/// Has a bank's process do work in the transaction: one request, as [`role`](crate::role) answers
/// it. The context learns what enlisted, also where the answer is an error.
pub(crate) async fn ask_bank(bank: SocketAddr, context: &Context, work: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the bank cannot be reached: {error}");
    let mut socket = TcpStream::connect(bank).await.map_err(failed)?;
    let request = format!("{} {work}\n", context.header_value());
    socket.write_all(request.as_bytes()).await.map_err(failed)?;
    let line = BufReader::new(socket).lines().next_line().await.map_err(failed)?;
    let line = line.ok_or("the bank hung up")?;
    let (enlisted, answer) = line.split_once(' ').ok_or("the bank's answer is malformed")?;
    let mut headers = HeaderMap::new();
    if enlisted != "-" {
        let value = HeaderValue::from_str(enlisted).map_err(|error| error.to_string())?;
        headers.insert(ENLISTED_HEADER, value);
    }
    context.record_response(&headers);
    if answer == "ok" { Ok(()) } else { Err(answer.to_owned()) }
}
