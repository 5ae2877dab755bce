//! One server: its directory, its process, its watchdog.

mod copy;
mod replication;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::account::Account;
use crate::binaries;
use crate::error::ServerError;
use crate::process::{children, gone, signal, stopped, wait_until};
use crate::settings::{RELOAD_MARK, Settings};
use crate::watchdog::Watchdog;

pub use copy::{DataCopy, Restored};

/// The superuser; there is no other role unless the caller makes one.
const SUPERUSER: &str = "postgres";
/// For a start, crash recovery included, and for a stop. Generous: a loaded machine is slow, and
/// a server that is broken ends by itself long before.
const BOUND: Duration = Duration::from_mins(2);
/// How many free ports are tried when another process is quicker to take them.
const PORTS_MAX: u32 = 20;

/// A running (or stopped) throw-away server. Dropping it stops the server and removes everything.
///
/// All calls take `&self`, so that a test binary can share one in a static. Concurrent calls of
/// [`kill`](Self::kill), [`stop`](Self::stop) and [`restart`](Self::restart) run one by one.
#[derive(Debug)]
pub struct PostgresServer {
    bin: PathBuf,
    account: Option<Account>,
    port: u16,
    password: String,
    inner: Mutex<Inner>,
    data: PathBuf,
    log: PathBuf,
}

/// What changes during a server's life. The order of the fields is the order of their drop: the
/// watchdog ends before the directory is removed by its owner.
#[derive(Debug)]
struct Inner {
    child: Option<Child>,
    settings: Settings,
    reloads: u64,
    watchdog: Watchdog,
    _directory: TempDir,
}

impl PostgresServer {
    /// Starts a server with settings fit for Pactum: 100 connections, 100 prepared transactions.
    ///
    /// # Errors
    /// No binaries, or the server does not start: the error says what to do. Nothing is left.
    pub fn start() -> Result<Self, ServerError> {
        Self::start_with(&[])
    }

    /// Starts a server with more settings, as pairs of name and value, which win over the
    /// defaults of this crate.
    ///
    /// # Errors
    /// As [`start`](Self::start), and for a name or value that has no place in a settings file.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self, ServerError> {
        let mut server = Self::prepare(Settings::with(settings)?, random_password()?)?;
        server.initialise()?;
        server.start_on_a_free_port()?;
        Ok(server)
    }

    /// Everything but data and process: a directory of its own, and the watchdog that removes it.
    fn prepare(settings: Settings, password: String) -> Result<Self, ServerError> {
        let bin = binaries::find()?;
        let account = Account::needed()?;
        let directory = temporary_directory(account.as_ref())?;
        let watchdog = Watchdog::start(directory.path())?;
        let (data, log) = (directory.path().join("data"), directory.path().join("server.log"));
        let inner = Inner { child: None, settings, reloads: 0, watchdog, _directory: directory };
        Ok(Self { bin, account, port: 0, password, inner: Mutex::new(inner), data, log })
    }

    /// The address of a database for the superuser:
    /// `postgres://postgres:PASSWORD@127.0.0.1:PORT/DATABASE`. Does not look whether it exists.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The address of the database `postgres`, which is always there.
    pub fn superuser_url(&self) -> String {
        self.url("postgres")
    }

    /// The loopback port; the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the postmaster, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.lock().child.as_ref().map(Child::id)
    }

    /// The server's log file.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Where the server's programs were found.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Creates a database and returns its address.
    ///
    /// # Errors
    /// The name is not `a-z`, `0-9` and `_`, `psql` is missing, or the server refuses.
    pub fn create_database(&self, name: &str) -> Result<String, ServerError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            return Err(ServerError::Invalid {
                given: name.into(),
                rule: "a database name is 1 to 63 of a-z, 0-9 and _",
            });
        }
        self.psql("postgres", &format!("create database \"{name}\""))?;
        Ok(self.url(name))
    }

    /// Runs SQL through `psql` and returns what it prints, unaligned and without headings.
    ///
    /// # Errors
    /// `psql` is missing, or the first error that the server reported.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, ServerError> {
        let mut command = self.client("psql")?;
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).args(["-d", database, "-c", sql]);
        run("psql", &mut command)
    }

    /// A client program that reaches this server as the superuser and never asks for a password.
    fn client(&self, program: &'static str) -> Result<Command, ServerError> {
        let mut command = command(&binaries::client(&self.bin, program)?);
        command
            .args(["-w", "-h", "127.0.0.1", "-U", SUPERUSER, "-p", &self.port.to_string()])
            .env("PGPASSWORD", &self.password);
        Ok(command)
    }

    /// Changes a setting and has the server read it again. On return every new connection sees
    /// it; one that is in the middle of a command sees it at its next. Settings that only a start
    /// can change take effect at the next [`restart`](Self::restart).
    ///
    /// # Errors
    /// The server does not run, or does not take the setting.
    pub fn set(&self, name: &str, value: &str) -> Result<(), ServerError> {
        let mut inner = self.lock();
        let pid = inner.child.as_ref().map(Child::id).ok_or(ServerError::NotRunning)?;
        let before = inner.settings.clone();
        inner.settings.set(name, value)?;
        if let Err(error) = self.reload(pid, &mut inner) {
            inner.settings = before; // or every later reload would stumble over it
            return Err(error);
        }
        Ok(())
    }

    /// Stops the server in good order (fast shutdown): open transactions are rolled back,
    /// connections end, everything is on disk. Does nothing if it is stopped already.
    ///
    /// # Errors
    /// It does not stop within two minutes.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.stop_locked(&mut self.lock())
    }

    /// Kills the postmaster and all of its processes with SIGKILL, as a power cut would end them
    /// (less what the operating system has not written yet). Does nothing if it is stopped.
    /// On return every one of them is gone.
    ///
    /// # Errors
    /// The operating system refuses, or a process does not go within two minutes.
    pub fn kill(&self) -> Result<(), ServerError> {
        self.kill_locked(&mut self.lock())
    }

    /// Starts the server again on the same port and data, stopping it first if it runs. After
    /// [`kill`](Self::kill) this is a crash recovery. On return it accepts connections.
    ///
    /// # Errors
    /// It does not start: for example because another process has taken the port meanwhile.
    pub fn restart(&self) -> Result<(), ServerError> {
        let mut inner = self.lock();
        self.stop_locked(&mut inner)?;
        self.start_locked(&mut inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the fields whole: each is assigned in one step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop_locked(&self, inner: &mut Inner) -> Result<(), ServerError> {
        let Some(child) = &mut inner.child else { return Ok(()) };
        signal(child.id(), Signal::INT).map_err(ServerError::io("cannot signal the server"))?;
        if !wait_until(BOUND, || matches!(child.try_wait(), Ok(Some(_)))) {
            return Err(self.failure("did not stop"));
        }
        inner.child = None;
        inner.watchdog.watch(None)
    }

    fn kill_locked(&self, inner: &mut Inner) -> Result<(), ServerError> {
        let Some(mut child) = inner.child.take() else { return Ok(()) };
        let postmaster = child.id();
        // Stopped first, so that it neither starts another process nor reports the dead ones.
        signal(postmaster, Signal::STOP).map_err(ServerError::io("cannot stop the postmaster"))?;
        // The signal is sent, not obeyed yet: a process that is still being started would be left behind,
        // and waits for ever for a lock that a dead one holds, with the shared memory in its hands.
        if !wait_until(BOUND, || stopped(postmaster)) {
            return Err(self.failure("does not obey SIGSTOP"));
        }
        let family = children(postmaster);
        for pid in &family {
            drop(signal(*pid, Signal::KILL)); // one that has just ended by itself is fine
        }
        child.kill().map_err(ServerError::io("cannot kill the postmaster"))?;
        child.wait().map_err(ServerError::io("cannot reap the postmaster"))?;
        inner.watchdog.watch(None)?;
        if wait_until(BOUND, || family.iter().all(|pid| gone(*pid))) {
            return Ok(());
        }
        Err(self.failure("left processes behind after SIGKILL"))
    }

    fn start_locked(&self, inner: &mut Inner) -> Result<(), ServerError> {
        self.write_settings(inner)?;
        match self.launch(inner)? {
            Launch::Ready => Ok(()),
            Launch::Ended(status) => Err(self.failure(&format!("ended at its start ({status})"))),
        }
    }

    /// `initdb`, with the password handed over in a file that only the server's user may read.
    fn initialise(&self) -> Result<(), ServerError> {
        let password_file = self.data.with_file_name("password");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&password_file);
        let written =
            file.and_then(|mut file| std::io::Write::write_all(&mut file, self.password.as_bytes()));
        written.map_err(ServerError::io("cannot write the password file"))?;
        if let Some(account) = &self.account {
            account.own(&password_file)?;
        }
        let mut command = command(&self.bin.join("initdb"));
        command
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync"])
            .args(["--username", SUPERUSER])
            .arg("--pgdata")
            .arg(&self.data)
            .arg("--pwfile")
            .arg(&password_file);
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        run("initdb", &mut command)?;
        fs::remove_file(&password_file).map_err(ServerError::io("cannot remove the password file"))?;
        let mut configuration = OpenOptions::new()
            .append(true)
            .open(self.data.join("postgresql.conf"))
            .map_err(ServerError::io("cannot open postgresql.conf"))?;
        std::io::Write::write_all(&mut configuration, b"\ninclude = 'pactum.conf'\n")
            .map_err(ServerError::io("cannot write postgresql.conf"))
    }

    /// Finds a port by binding it, and lets go of it for the server: somebody may be quicker, so
    /// this is tried again.
    fn start_on_a_free_port(&mut self) -> Result<(), ServerError> {
        for _ in 0..PORTS_MAX {
            let probe =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(ServerError::io("cannot bind a port"))?;
            self.port = probe.local_addr().map_err(ServerError::io("cannot read the port"))?.port();
            drop(probe);
            let mut inner = self.lock();
            self.write_settings(&mut inner)?;
            match self.launch(&mut inner)? {
                Launch::Ready => return Ok(()),
                Launch::Ended(_) if self.log_tail().contains("could not bind") => {}
                Launch::Ended(status) => return Err(self.failure(&format!("ended at its start ({status})"))),
            }
        }
        Err(self.failure("found every port taken"))
    }

    fn write_settings(&self, inner: &mut Inner) -> Result<(), ServerError> {
        inner.reloads += 1;
        let path = self.data.join("pactum.conf");
        fs::write(&path, inner.settings.file(self.port, inner.reloads))
            .map_err(ServerError::io("cannot write pactum.conf"))?;
        self.account.as_ref().map_or(Ok(()), |account| account.own(&path))
    }

    /// Has the server read its settings again, and waits until its log says that it has. It tells
    /// of bad settings before it applies the good ones, of which the mark is the last.
    fn reload(&self, pid: u32, inner: &mut Inner) -> Result<(), ServerError> {
        let read_log = || fs::read_to_string(&self.log).unwrap_or_default();
        let old = read_log().len();
        self.write_settings(inner)?;
        signal(pid, Signal::HUP).map_err(ServerError::io("cannot signal the server"))?;
        let mark = format!("parameter \"{RELOAD_MARK}\" changed to \"{}\"", inner.reloads);
        let mut news = String::new();
        let in_time = wait_until(BOUND, || {
            news = read_log().split_off(old);
            news.contains(&mark)
        });
        let refused =
            news.contains("invalid value for parameter") || news.contains("unrecognized configuration");
        if in_time && !refused { Ok(()) } else { Err(self.failure("did not take the setting")) }
    }

    /// Starts the postmaster and waits until it is ready or has ended.
    fn launch(&self, inner: &mut Inner) -> Result<Launch, ServerError> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(ServerError::io("cannot open the server's log"))?;
        let mut command = command(&self.bin.join("postgres"));
        command.arg("-D").arg(&self.data).stdout(Stdio::null()).stderr(log).process_group(0);
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        let mut child = command.spawn().map_err(ServerError::io("cannot start postgres"))?;
        inner.watchdog.watch(Some(child.id()))?;
        let mut ended = None;
        let pid = child.id();
        let in_time = wait_until(BOUND, || {
            ended = child.try_wait().ok().flatten();
            ended.is_some() || self.is_ready(pid)
        });
        if let Some(status) = ended {
            inner.watchdog.watch(None)?;
            return Ok(Launch::Ended(status));
        }
        inner.child = Some(child); // stopped on drop, also if it never became ready
        if in_time { Ok(Launch::Ready) } else { Err(self.failure("was not ready in time")) }
    }

    /// The postmaster writes its state into the eighth line of its pid file; `pg_ctl` reads the same.
    fn is_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        lines.next().is_some_and(|line| line.trim() == pid.to_string())
            && lines.nth(6).is_some_and(|line| line.trim() == "ready")
    }

    fn failure(&self, what: &str) -> ServerError {
        ServerError::Server { what: what.to_owned(), log_tail: self.log_tail() }
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Whatever fails here, the watchdog does it again and removes the directory.
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = inner.child.take() {
            // Immediate shutdown: nobody will read the data again.
            drop(signal(child.id(), Signal::QUIT));
            if !wait_until(Duration::from_secs(10), || matches!(child.try_wait(), Ok(Some(_)))) {
                drop(child.kill());
                drop(child.wait());
            }
            drop(inner.watchdog.watch(None));
        }
    }
}

/// A directory that only the server's user may enter.
fn temporary_directory(account: Option<&Account>) -> Result<TempDir, ServerError> {
    let parent = account.map_or_else(|| Ok(std::env::temp_dir()), Account::temporary_directory)?;
    let directory = tempfile::Builder::new()
        .prefix("pactum-postgres-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(ServerError::io("cannot make a temporary directory"))?;
    account.map_or(Ok(()), |account| account.own(directory.path()))?;
    Ok(directory)
}

/// How a start went.
enum Launch {
    Ready,
    Ended(ExitStatus),
}

/// A command that no setting of the caller's environment reaches.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).current_dir("/");
    command
}

/// Runs a program to its end and returns what it printed.
fn run(program: &'static str, command: &mut Command) -> Result<String, ServerError> {
    let output = command.output().map_err(ServerError::io(format!("cannot run {program}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(ServerError::ProgramFailed {
        program,
        output: format!("{}\n{}", text(&output.stdout), text(&output.stderr)),
    })
}

/// 128 random bits, in digits that need no quoting in a URL.
fn random_password() -> Result<String, ServerError> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(ServerError::io("cannot read /dev/urandom"))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
