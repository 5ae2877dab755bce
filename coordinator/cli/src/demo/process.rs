//! Children of the demo, as their parent sees them: started, heard, started again once if they were
//! told to die, stopped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::wire::{BankOrders, CoordinatorOrders, Report, StepReport, micros};
use crate::exit::Exit;
use crate::failure::Failure;

/// Any free port of this machine.
pub(super) const FREE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A child that was asked to stop and has not by then is killed. More than a child gives itself.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What a child is to be.
#[derive(Clone, Debug)]
pub(super) enum Orders {
    /// The coordinator.
    Coordinator(CoordinatorOrders),
    /// A bank.
    Bank(BankOrders),
}

/// Where a child is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not serving: not yet, or not any more.
    Down,
    /// Serving.
    Up {
        /// For applications.
        public: SocketAddr,
        /// For operators.
        admin: Option<SocketAddr>,
    },
    /// Ended although nobody had asked for it.
    Failed(String),
}

/// When a child that killed itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// At once.
    AtOnce,
    /// When it is told to: by [`Process::again`].
    WhenTold,
}

/// Something that the demo saw.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Who.
    pub(super) who: String,
    /// What.
    pub(super) event: Event,
}

/// What there is to see.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A child did something.
    Step(StepReport),
    /// A child was started again, and serves.
    Back {
        /// By [`micros`].
        at_us: u64,
    },
}

/// A child, kept running until this is dropped. Its end is the end of its task.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    state: watch::Receiver<State>,
    again: Arc<Notify>,
    stop: CancellationToken,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Process {
    /// Starts a child; [`Self::up`] says when it serves.
    pub(super) fn start(
        name: &str,
        orders: Orders,
        life: Life,
        seen: &mpsc::UnboundedSender<Seen>,
        tasks: &TaskTracker,
    ) -> Self {
        let (sender, state) = watch::channel(State::Down);
        let (stop, again) = (CancellationToken::new(), Arc::new(Notify::new()));
        let keeper = Keeper {
            name: name.to_owned(),
            orders,
            life,
            seen: seen.clone(),
            state: sender,
            again: Arc::clone(&again),
            stop: stop.clone(),
        };
        tasks.spawn(keeper.keep());
        Self { name: name.to_owned(), state, again, stop }
    }

    /// Waits until it serves, and answers where.
    pub(super) async fn up(&self) -> Result<(SocketAddr, Option<SocketAddr>), Failure> {
        let mut state = self.state.clone();
        let ended = || Failure::new(Exit::Failed, format!("{} has ended", self.name));
        let found = state.wait_for(|state| *state != State::Down).await.map_err(|_closed| ended())?;
        match &*found {
            State::Up { public, admin } => Ok((*public, *admin)),
            State::Failed(error) => Err(ended().cause(error)),
            State::Down => Err(ended()),
        }
    }

    /// Waits until it is down: it has killed itself, or failed.
    pub(super) async fn down(&self) {
        let is_up = |state: &State| matches!(state, State::Up { .. });
        drop(self.state.clone().wait_for(|state| !is_up(state)).await);
    }

    /// Starts it again if it waits for that.
    pub(super) fn again(&self) {
        self.again.notify_one();
    }

    /// Follows its state.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

/// The task that keeps one child.
struct Keeper {
    name: String,
    orders: Orders,
    life: Life,
    seen: mpsc::UnboundedSender<Seen>,
    state: watch::Sender<State>,
    again: Arc<Notify>,
    stop: CancellationToken,
}

impl Keeper {
    async fn keep(mut self) {
        loop {
            match self.once().await {
                Ok(Ended::Asked) => return,
                Ok(Ended::KilledItself) => {
                    self.state.send_replace(State::Down);
                    self.orders.without_crash();
                    if self.life == Life::WhenTold {
                        tokio::select! {
                            () = self.again.notified() => {}
                            () = self.stop.cancelled() => return,
                        }
                    }
                }
                Err(error) => {
                    self.state.send_replace(State::Failed(error));
                    return;
                }
            }
        }
    }

    /// One life of the child.
    async fn once(&mut self) -> Result<Ended, String> {
        let (mut child, mut stdin, stdout) = self.orders.spawn().map_err(|error| error.to_string())?;
        let mut orders = self.orders.text().map_err(|error| error.to_string())?;
        orders.push(b'\n');
        stdin.write_all(&orders).await.map_err(|error| error.to_string())?;
        let mut lines = BufReader::new(stdout).lines();
        let (mut killed, mut problem) = (false, None);
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line,
                () = self.stop.cancelled() => break,
            };
            // The end of its stdout is the end of the child.
            let Ok(Some(line)) = line else { break };
            match serde_json::from_str(&line) {
                Ok(Report::Ready { public, admin }) => self.ready(public, admin),
                Ok(Report::Step(step)) => {
                    killed |= step.fatal;
                    self.tell(Event::Step(step));
                }
                Ok(Report::Failed { error }) => problem = Some(error),
                Err(error) => problem = Some(format!("it said something else than a report: {error}")),
            }
        }
        if self.stop.is_cancelled() {
            drop(stdin);
            if tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_err() {
                child.kill().await.map_err(|error| error.to_string())?;
            }
            return Ok(Ended::Asked);
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if killed { Ok(Ended::KilledItself) } else { Err(problem.unwrap_or_else(|| status.to_string())) }
    }

    fn ready(&mut self, public: SocketAddr, admin: Option<SocketAddr>) {
        if self.orders.keep_addresses(public, admin) {
            self.tell(Event::Back { at_us: micros() });
        }
        self.state.send_replace(State::Up { public, admin });
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more: the demo is over.
        drop(self.seen.send(Seen { who: self.name.clone(), event }));
    }
}

enum Ended {
    Asked,
    KilledItself,
}

impl Orders {
    fn spawn(&self) -> std::io::Result<(Child, ChildStdin, ChildStdout)> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(match self {
                Self::Coordinator(_) => "demo-coordinator",
                Self::Bank(_) => "demo-bank",
            })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // An interrupt from the terminal is for the parent, which stops its children in order.
            .process_group(0);
        if ["PACTUM_LOG_LEVEL", "RUST_LOG"].into_iter().all(|name| std::env::var_os(name).is_none()) {
            // Warnings about the other child that was just killed on purpose help nobody.
            command.env("PACTUM_LOG_LEVEL", "error");
        }
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let missing = || std::io::Error::other("a pipe to the child is missing");
        Ok((child, stdin.ok_or_else(missing)?, stdout.ok_or_else(missing)?))
    }

    fn text(&self) -> serde_json::Result<Vec<u8>> {
        fn text(orders: &impl Serialize) -> serde_json::Result<Vec<u8>> {
            serde_json::to_vec(orders)
        }
        match self {
            Self::Coordinator(orders) => text(orders),
            Self::Bank(orders) => text(orders),
        }
    }

    /// The next life is not to end early, and all of it is of interest.
    fn without_crash(&mut self) {
        let reporting = match self {
            Self::Coordinator(orders) => &mut orders.reporting,
            Self::Bank(orders) => &mut orders.reporting,
        };
        reporting.kill_at = None;
    }

    /// The next life is to be found where this one was. Answers whether this is such a next life.
    fn keep_addresses(&mut self, public: SocketAddr, admin: Option<SocketAddr>) -> bool {
        match self {
            Self::Coordinator(orders) => {
                let again = orders.listen == public;
                orders.listen = public;
                orders.admin_listen = admin.unwrap_or(orders.admin_listen);
                again
            }
            Self::Bank(orders) => std::mem::replace(&mut orders.listen, public) == public,
        }
    }
}
