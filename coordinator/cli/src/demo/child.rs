//! What a child of the demo does: reads its orders, serves, tells its steps, dies where it was told
//! to, and ends when its stdin ends.

use std::collections::HashSet;
use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pactum_coordinator::Config;
use pactum_coordinator::config::LogUrl;
use pactum_core::id::{BranchId, Gid};
use rustix::process::{Signal, getpid, kill_process};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::bank;
use super::wire::{BankOrders, CoordinatorOrders, Gid16, KillAt, Report, Reporting, StepReport, micros};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::server::Running;

/// After stdin has ended, a child that has not stopped in order by then ends at once.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The coordinator of the demo.
pub(crate) async fn coordinator() -> Result<Exit, Failure> {
    let (orders, parent_gone) = orders::<CoordinatorOrders>().await?;
    let reporter = Reporter::new(orders.reporting);
    let steps = reporter.clone();
    let usual = Config::default();
    let config = Config {
        participant_grace: orders.participant_grace.unwrap_or(usual.participant_grace),
        log: Some(LogUrl::new(orders.log)),
        listen: orders.listen,
        admin_listen: orders.admin_listen,
        // There is one coordinator and it is started again at once: a killed predecessor need not be
        // given long. Too short would end nobody but it.
        heartbeat: Duration::from_millis(200),
        lease: Duration::from_millis(600),
        drain: Duration::from_secs(1),
        stop_within: Duration::from_secs(2),
        observer: pactum_coordinator::observe::Observer::new(move |step| {
            steps.step(step.name(), step.gid(), coordinator_branch(step));
        }),
        ..usual
    };
    let running = Running::start(config).await.inspect_err(|failure| reporter.failed(failure))?;
    reporter.ready(&running.addresses().public, Some(&running.addresses().admin))?;
    parent_gone.cancelled().await;
    running.stop().await?;
    if let Some(scratch) = orders.scratch {
        // The parent does it too, if it lives, and whoever comes second finds nothing.
        drop(tokio::fs::remove_dir_all(scratch).await);
    }
    Ok(Exit::Ok)
}

/// A bank of the demo.
pub(crate) async fn bank() -> Result<Exit, Failure> {
    let (orders, parent_gone) = orders::<BankOrders>().await?;
    let reporter = Reporter::new(orders.reporting.clone());
    let serving = bank::Serving::start(orders, reporter.clone())
        .await
        .inspect_err(|failure| reporter.failed(failure))?;
    reporter.ready(&format!("http://{}", serving.address()), None)?;
    parent_gone.cancelled().await;
    serving.stop().await;
    Ok(Exit::Ok)
}

fn coordinator_branch(step: &pactum_coordinator::observe::Step) -> Option<BranchId> {
    use pactum_coordinator::observe::Step;
    match step {
        Step::PrepareSent { branch, .. }
        | Step::VoteReceived { branch, .. }
        | Step::DecisionSent { branch, .. }
        | Step::BranchFinished { branch, .. } => Some(*branch),
        // A step that is added later has no branch that we know of.
        Step::IncarnationStarted { .. }
        | Step::RecoveryScanned { .. }
        | Step::DecisionHandedOver { .. }
        | Step::DecisionDurable { .. }
        | Step::ClientAnswered { .. }
        | Step::EndRecorded { .. }
        | _ => None,
    }
}

/// Reads the orders, and watches stdin from then on: the token is cancelled when it ends, which it
/// does when the parent stops us and also when the parent is killed.
async fn orders<T: DeserializeOwned + Send + 'static>() -> Result<(T, CancellationToken), Failure> {
    let parent_gone = CancellationToken::new();
    let token = parent_gone.clone();
    let (sender, orders) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut line = String::new();
        let read = stdin.read_line(&mut line);
        drop(sender.send(read.map(|_bytes| line)));
        drop(io::copy(&mut stdin, &mut io::sink()));
        token.cancel();
        std::thread::sleep(STOP_WITHIN);
        std::process::exit(Exit::Failed as i32);
    });
    let nobody = || Failure::usage("this command is a part of `pactum demo` and gets its orders from it");
    let line = match orders.await {
        Ok(Ok(line)) => line,
        Ok(Err(error)) => return Err(nobody().because(&error)),
        Err(error) => return Err(nobody().because(&error)),
    };
    // The orders are not shown: they may hold a password.
    let orders = serde_json::from_str(&line).map_err(|_maybe_secret| nobody())?;
    Ok((orders, parent_gone))
}

/// Tells steps on stdout, and kills this process at one of them.
#[derive(Clone, Debug)]
pub(super) struct Reporter(Arc<Mutex<ReporterState>>);

#[derive(Debug)]
struct ReporterState {
    /// Transactions whose steps are told; full when it has as many as were ordered.
    told: HashSet<Gid>,
    transactions: usize,
    kill_at: Option<KillAt>,
    /// Transactions that came to the step at which to die.
    came: HashSet<Gid>,
}

impl Reporter {
    fn new(reporting: Reporting) -> Self {
        Self(Arc::new(Mutex::new(ReporterState {
            told: HashSet::new(),
            transactions: reporting.transactions,
            kill_at: reporting.kill_at,
            came: HashSet::new(),
        })))
    }

    /// A step was just done. Called on the task that did it, so that whatever follows the step has
    /// not happened if the process dies here.
    pub(super) fn step(&self, step: &str, gid: Option<Gid>, branch: Option<BranchId>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fatal = state.is_fatal(step, gid);
        if fatal || state.is_told(gid) {
            let branch = branch.map(BranchId::number);
            report(&Report::Step(StepReport {
                at_us: micros(),
                step: step.to_owned(),
                gid: gid.map(Gid16),
                branch,
                fatal,
            }));
        }
        if fatal {
            // SIGKILL: no destructor, no flush, no farewell. The lock is held, so that nobody else
            // reports anything between the line and the end.
            if kill_process(getpid(), Signal::KILL).is_err() {
                std::process::abort();
            }
            // The signal may take a moment; nothing more is to be done meanwhile.
            loop {
                std::thread::park();
            }
        }
    }

    fn ready(&self, public: &str, admin: Option<&str>) -> Result<(), Failure> {
        let _one_line_at_a_time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = |url: &str| {
            url.rsplit('/').next().unwrap_or(url).parse().map_err(|error| {
                Failure::new(Exit::Failed, format!("{url} does not end with an address")).because(&error)
            })
        };
        report(&Report::Ready { public: address(public)?, admin: admin.map(address).transpose()? });
        Ok(())
    }

    fn failed(&self, failure: &Failure) {
        let _one_line_at_a_time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        report(&Report::Failed { error: failure.to_string() });
    }
}

impl ReporterState {
    fn is_told(&mut self, gid: Option<Gid>) -> bool {
        let Some(gid) = gid else { return true };
        if self.told.len() < self.transactions {
            self.told.insert(gid);
            return true;
        }
        self.told.contains(&gid)
    }

    fn is_fatal(&mut self, step: &str, gid: Option<Gid>) -> bool {
        let (Some(kill_at), Some(gid)) = (&self.kill_at, gid) else { return false };
        if kill_at.step != step {
            return false;
        }
        self.came.insert(gid);
        u32::try_from(self.came.len()).is_ok_and(|came| came >= kill_at.nth)
    }
}

/// Writes one line. The parent always reads; if it is gone, so is everybody who wanted to know.
fn report(report: &Report) {
    if let Ok(line) = serde_json::to_string(report) {
        let mut stdout = io::stdout().lock();
        drop(writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn gid(n: u128) -> Gid {
        Gid::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn the_fatal_step_is_counted_by_transactions() {
        let mut state = ReporterState {
            told: HashSet::new(),
            transactions: 1,
            kill_at: Some(KillAt { step: "vote-received".into(), nth: 2 }),
            came: HashSet::new(),
        };
        assert!(!state.is_fatal("vote-received", Some(gid(1))));
        assert!(!state.is_fatal("vote-received", Some(gid(1))));
        assert!(!state.is_fatal("prepare-sent", Some(gid(2))));
        assert!(state.is_fatal("vote-received", Some(gid(2))));
        assert!(state.is_told(Some(gid(1))) && state.is_told(None) && !state.is_told(Some(gid(2))));
    }
}
