//! One process and whoever looks after it: started, killed or stopped when ordered, and started
//! again at once.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pactum::Incarnation;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::link::Link;
use super::status::Status;
use super::tally::{Death, Tally};

/// How long a trap may wait for its step.
const TRAP_MAX: Duration = Duration::from_secs(6);
/// After an order to end, for everything that is at work to come to its end.
const END_MAX: Duration = Duration::from_secs(45);

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Coordinator,
    Bank,
    Application,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Bank => "participant",
            Self::Application => "application",
        }
    }

    /// How a place to be killed at is counted.
    pub(crate) fn point(self, step: &str) -> String {
        format!("{}@{step}", self.name())
    }
}

/// What can be done to a process.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// SIGKILL now.
    Kill,
    /// SIGKILL now, and its next life dies at that step of its start.
    KillTwice(&'static str),
    /// It kills itself at its next such step.
    KillAt(&'static str),
    /// SIGSTOP now, and SIGCONT after that time.
    Pause(Duration),
    /// It stops itself at its next such step, and is continued after that time.
    PauseAt(&'static str, Duration),
    /// It finishes what it is at and ends; it is not started again.
    End,
}

/// A deed, and who wants to know when it is over; true: it was done.
type Order = (Deed, oneshot::Sender<bool>);

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It does not serve yet, or it is stopped.
    Away,
    /// It serves.
    Up,
    /// It has ended, as it was told to.
    Ended,
}

/// What is needed to start it.
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// For its files.
    pub(crate) directory: PathBuf,
    /// What the program is told, but for the directory; asked at each start.
    pub(crate) arguments: Box<dyn Fn(u64) -> Vec<String> + Send + Sync>,
    /// Led to wherever it serves.
    pub(crate) front: Option<Arc<Link>>,
}

/// A process that is looked after.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    health: watch::Receiver<Health>,
    orders: mpsc::Sender<Order>,
    keeper: JoinHandle<()>,
}

impl Child {
    pub(crate) fn start(plan: Plan, tally: Arc<Tally>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&plan.directory).context("a process needs a directory")?;
        let (orders, queue) = mpsc::channel(16);
        let (health_told, health) = watch::channel(Health::Away);
        let (kind, name, directory) = (plan.kind, plan.name.clone(), plan.directory.clone());
        let keeper = Keeper { plan, tally, health: health_told, queue, lives: 0 };
        let keeper = tokio::spawn(keeper.run());
        Ok(Self { kind, name, directory, health, orders, keeper })
    }

    pub(crate) fn health(&self) -> Health {
        *self.health.borrow()
    }

    pub(crate) fn status(&self) -> Status {
        Status::read(&self.directory)
    }

    /// Has it done; returns when it is over, and whether it came to it. Deeds queue up.
    pub(crate) async fn order(&self, deed: Deed) -> bool {
        let (done, over) = oneshot::channel();
        // Errors say that it has ended: then nothing more is done to it.
        self.orders.send((deed, done)).await.is_ok() && over.await.unwrap_or(false)
    }

    /// Waits until it serves.
    pub(crate) async fn up(&self) {
        drop(self.health.clone().wait_for(|health| *health == Health::Up).await);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The process is killed with the task that holds it.
        self.keeper.abort();
    }
}

/// Looks after one process.
struct Keeper {
    plan: Plan,
    tally: Arc<Tally>,
    health: watch::Sender<Health>,
    queue: mpsc::Receiver<Order>,
    lives: u64,
}

/// One life of the process.
struct Life {
    process: tokio::process::Child,
    pid: Pid,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    incarnations: Vec<Incarnation>,
    /// The step at which it told that it springs.
    sprung: Option<String>,
}

impl Keeper {
    async fn run(mut self) {
        let mut trap = None;
        loop {
            match self.live(trap.take()).await {
                Ok(Next::Again(next)) => trap = next,
                Ok(Next::Over) => break,
                Err(error) => {
                    self.tally.violation(format!("{} cannot be looked after: {error:#}", self.plan.name));
                    break;
                }
            }
        }
        self.lead_to(None);
        self.health.send_replace(Health::Ended);
    }

    fn lead_to(&self, address: Option<SocketAddr>) {
        if let Some(front) = &self.plan.front {
            front.lead_to(address);
        }
    }

    fn spawn(&mut self, trap: Option<&str>) -> anyhow::Result<Life> {
        let log = OpenOptions::new().create(true).append(true).open(log_path(&self.plan.directory))?;
        let mut process = Command::new(std::env::current_exe()?)
            .args((self.plan.arguments)(self.lives))
            .arg("--directory")
            .arg(&self.plan.directory)
            .args(trap.into_iter().flat_map(|step| ["--trap", step]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for the harness, which then ends everything in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("this program cannot be started again")?;
        self.lives += 1;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let input = process.stdin.take().context("it is piped")?;
        let output = BufReader::new(process.stdout.take().context("it is piped")?).lines();
        let pid = pid.context("it has not been reaped")?;
        Ok(Life { process, pid, input, output, incarnations: Vec::new(), sprung: None })
    }

    /// From its start to its end.
    async fn live(&mut self, trap: Option<&'static str>) -> anyhow::Result<Next> {
        let mut life = self.spawn(trap)?;
        let mut armed = trap.map(|_| Armed::new(Deed::Kill, None));
        loop {
            let disarm_at = armed.as_ref().map(|armed| armed.until);
            tokio::select! {
                biased;
                told = life.output.next_line() => {
                    let Some(told) = told? else {
                        let died = life.process.wait().await?;
                        self.buried(&life, died);
                        if let Some(armed) = armed {
                            armed.over(life.sprung.is_some());
                        }
                        return Ok(Next::Again(None));
                    };
                    self.heard(&mut life, &told);
                    if let Some(time) = life.has_stopped(armed.as_ref()) {
                        self.sleep(&mut life, time, true).await?;
                        life.sprung = None;
                        if let Some(armed) = armed.take() {
                            armed.over(true);
                        }
                    }
                }
                () = passed(disarm_at), if disarm_at.is_some() => {
                    life.tell("disarm").await;
                    // It may have sprung just now: then that is counted when it is buried.
                    if let Some(armed) = armed.take() {
                        armed.over(false);
                    }
                }
                order = self.queue.recv(), if armed.is_none() => {
                    let Some((deed, done)) = order else { return Ok(Next::Over) };
                    if let Deed::KillAt(_) | Deed::PauseAt(..) = deed {
                        life.arm(&deed).await;
                        armed = Some(Armed::new(deed, Some(done)));
                        continue;
                    }
                    let next = self.carry_out(&mut life, deed).await?;
                    done.send(true).ok();
                    if let Some(next) = next {
                        return Ok(next);
                    }
                }
            }
        }
    }

    /// Does what needs no waiting for a step. Answers what comes next if that was its end.
    async fn carry_out(&self, life: &mut Life, deed: Deed) -> anyhow::Result<Option<Next>> {
        Ok(match deed {
            Deed::Kill => {
                self.kill(life).await?;
                Some(Next::Again(None))
            }
            Deed::KillTwice(step) => {
                self.kill(life).await?;
                Some(Next::Again(Some(step)))
            }
            Deed::Pause(time) => {
                kill_process(life.pid, Signal::STOP)?;
                self.sleep(life, time, false).await?;
                None
            }
            Deed::End => {
                self.end(life).await?;
                Some(Next::Over)
            }
            Deed::KillAt(_) | Deed::PauseAt(..) => None,
        })
    }

    fn heard(&self, life: &mut Life, told: &str) {
        match told.split_once(' ').unwrap_or((told, "")) {
            ("ready", address) => {
                self.lead_to(address.parse().ok());
                self.health.send_replace(Health::Up);
            }
            ("incarnation", id) => life.incarnations.extend(id.parse::<Incarnation>().ok()),
            ("sprung", step) => life.sprung = Some(step.to_owned()),
            _ => self.tally.violation(format!("{} says {told:?}", self.plan.name)),
        }
    }

    /// It is stopped, for that time.
    async fn sleep(&self, life: &mut Life, time: Duration, by_itself: bool) -> anyhow::Result<()> {
        self.health.send_replace(Health::Away);
        self.tally.lock().pauses += 1;
        let step = life.sprung.as_deref().unwrap_or("random");
        self.tally.list(&format!("{} is stopped at {step} for {time:?}", self.plan.name));
        tokio::time::sleep(time).await;
        kill_process(life.pid, Signal::CONT)?;
        if by_itself {
            life.tell("go").await;
        }
        self.health.send_replace(Health::Up);
        Ok(())
    }

    /// SIGKILL from outside, and everything that it said before.
    async fn kill(&self, life: &mut Life) -> anyhow::Result<()> {
        life.process.start_kill()?;
        while let Some(line) = life.output.next_line().await? {
            self.heard(life, &line);
        }
        life.process.wait().await?;
        self.dead(life);
        Ok(())
    }

    /// It has died without our SIGKILL: by its own, or it should not have.
    fn buried(&self, life: &Life, status: std::process::ExitStatus) {
        if life.sprung.is_none() {
            let tail = tail(&self.plan.directory, 20);
            self.tally.violation(format!("{} ended by itself ({status}):\n{tail}", self.plan.name));
        }
        self.dead(life);
    }

    fn dead(&self, life: &Life) {
        self.lead_to(None);
        self.health.send_replace(Health::Away);
        let at = Instant::now();
        let mid_commit = Status::read(&self.plan.directory).in_flight > 0;
        let step = life.sprung.as_deref().unwrap_or("random");
        self.tally.killed(&self.plan.name, &self.plan.kind.point(step), mid_commit);
        if self.plan.kind == Kind::Coordinator {
            let (coordinator, incarnations) = (self.plan.name.clone(), life.incarnations.clone());
            self.tally.lock().deaths.push(Death { coordinator, at, incarnations });
        }
    }

    async fn end(&self, life: &mut Life) -> anyhow::Result<()> {
        life.tell("end").await;
        let ended = tokio::time::timeout(END_MAX, async {
            while let Some(line) = life.output.next_line().await? {
                self.heard(life, &line);
            }
            anyhow::Ok(life.process.wait().await?)
        });
        match ended.await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => {}
            Ok(status) => self.tally.violation(format!("{} ended badly: {status:?}", self.plan.name)),
            Err(_late) => {
                self.tally.note(format!("{} did not end in {END_MAX:?}", self.plan.name));
                life.process.kill().await?;
            }
        }
        Ok(())
    }
}

enum Next {
    /// Start it again, with a trap at that step or none.
    Again(Option<&'static str>),
    /// It is done with.
    Over,
}

/// A trap that is set and has not sprung.
struct Armed {
    deed: Deed,
    /// Who waits for it; nobody, if it was set at the start.
    done: Option<oneshot::Sender<bool>>,
    until: Instant,
}

impl Armed {
    fn new(deed: Deed, done: Option<oneshot::Sender<bool>>) -> Self {
        Self { deed, done, until: Instant::now() + TRAP_MAX }
    }

    /// Says whether it has sprung.
    fn over(self, sprung: bool) {
        if let Some(done) = self.done {
            done.send(sprung).ok();
        }
    }
}

async fn passed(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment.into()).await;
    }
}

impl Life {
    /// Sets a trap inside the process.
    async fn arm(&mut self, deed: &Deed) {
        if let Deed::KillAt(step) = deed {
            self.tell(&format!("kill {step}")).await;
        } else if let Deed::PauseAt(step, _) = deed {
            self.tell(&format!("stop {step}")).await;
        }
    }

    /// How long it is to stay stopped, if it has just stopped itself.
    fn has_stopped(&self, armed: Option<&Armed>) -> Option<Duration> {
        match armed {
            Some(Armed { deed: Deed::PauseAt(_, time), .. }) if self.sprung.is_some() => Some(*time),
            _ => None,
        }
    }

    /// One that has just died is not told anything.
    async fn tell(&mut self, order: &str) {
        drop(self.input.write_all(format!("{order}\n").as_bytes()).await);
    }
}

/// Where a process writes its log, all lives into one file.
pub(crate) fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}

fn tail(directory: &Path, lines_max: usize) -> String {
    let log = std::fs::read_to_string(log_path(directory)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}
