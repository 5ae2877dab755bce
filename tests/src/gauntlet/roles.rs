//! The inside of the processes: what they share.
//!
//! A process reads orders from its standard input, a line each, and ends when that does:
//!
//! * `kill STEP`, `stop STEP`: kill or stop yourself at the next such step;
//! * `disarm`: do not;
//! * `go`: you were stopped; go on;
//! * `end`: finish what you are at, and end well.
//!
//! It tells on standard output, a line each: `ready ADDRESS`, `incarnation ID`, `sprung STEP`.
//! What it was at when it died stands in its [status](super::status).

mod application;
mod bank;
mod coordinator;

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::process::{Signal, getpid, kill_process};
use tokio_util::sync::CancellationToken;

use super::arguments::RoleArguments;
use super::status::Reporter;

/// A trap waits this long for a moment with a transaction in flight, and then takes any.
const PATIENCE: Duration = Duration::from_secs(2);

/// What every part of a process sees.
#[derive(Debug)]
struct Shared {
    reporter: Reporter,
    trap: Mutex<Option<Trap>>,
    /// Whether whoever stopped us has said that we go on.
    resumed: (Mutex<bool>, Condvar),
    end: CancellationToken,
}

/// The step to die or stop at.
#[derive(Debug)]
struct Trap {
    step: String,
    signal: Signal,
    /// From when on it takes a moment without a transaction in flight.
    takes_any: Instant,
}

impl Shared {
    fn arm(&self, step: &str, signal: Signal, patience: Duration) {
        let trap = Trap { step: step.to_owned(), signal, takes_any: Instant::now() + patience };
        *self.trap.lock().unwrap_or_else(PoisonError::into_inner) = Some(trap);
    }

    fn disarm(&self) {
        *self.trap.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// To be called at each step, after the reporter was told of it. Does not return if the
    /// process is to die here.
    fn passed(&self, step: &str) {
        let signal = {
            let mut trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner);
            let due = trap.as_ref().is_some_and(|trap| {
                trap.step == step && (self.reporter.in_flight() > 0 || Instant::now() >= trap.takes_any)
            });
            if !due {
                return;
            }
            let Some(trap) = trap.take() else { return };
            trap.signal
        };
        *self.resumed.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        tell(&format!("sprung {step}"));
        kill_process(getpid(), signal).expect("a process may signal itself");
        // The signal may reach another thread first, and this one must not go on meanwhile:
        // after a kill never, after a stop not until we are told.
        let mut resumed = self.resumed.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*resumed {
            resumed = self.resumed.1.wait(resumed).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`passed`](Self::passed), where a scan has just found unfinished transactions. A scan that
    /// finds none is not the moment that is meant.
    fn passed_having_found(&self, count: u64, step: &str) {
        self.reporter.found(count);
        self.passed(step);
        self.reporter.found(0);
    }

    fn obey(&self, order: &str) {
        match order.split_once(' ').unwrap_or((order, "")) {
            ("kill", step) => self.arm(step, Signal::KILL, PATIENCE),
            ("stop", step) => self.arm(step, Signal::STOP, PATIENCE),
            ("disarm", _) => self.disarm(),
            ("go", _) => {
                *self.resumed.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                self.resumed.1.notify_all();
            }
            ("end", _) => self.end.cancel(),
            _ => tracing::error!(order, "an order that is not understood"),
        }
    }
}

/// Tells the parent. Standard output carries nothing else. Nobody listens to a process whose
/// parent is gone, and it is about to end.
fn tell(line: &str) {
    drop(std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()));
}

fn ready(address: SocketAddr) {
    tell(&format!("ready {address}"));
}

/// Runs the role until standard input ends, or it is told to end.
///
/// # Errors
/// The arguments, or the role cannot go on.
pub(super) fn run(arguments: RoleArguments) -> anyhow::Result<()> {
    die_with_the_parent();
    let filter = tracing_subscriber::EnvFilter::new("info,sqlx=warn");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let shared = Arc::new(Shared {
        reporter: Reporter::create(Path::new(&arguments.directory))?,
        trap: Mutex::default(),
        resumed: (Mutex::new(false), Condvar::new()),
        end: CancellationToken::new(),
    });
    if let Some(step) = &arguments.trap {
        // At the start there is nothing in flight yet.
        shared.arm(step, Signal::KILL, Duration::ZERO);
    }
    let obedient = Arc::clone(&shared);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            obedient.obey(&line);
        }
        std::process::exit(0); // whoever started this is gone
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match arguments.role.as_str() {
            "coordinator" => coordinator::run(arguments, shared).await,
            "bank" => bank::run(arguments, shared).await,
            "application" => application::run(arguments, shared).await,
            other => bail!("there is no role {other:?}"),
        }
    })
}

/// A stopped process does not see its standard input end; the kernel's word reaches it.
fn die_with_the_parent() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::warn!(%error, "this process may outlive a killed parent");
    }
}
