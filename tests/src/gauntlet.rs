//! The gauntlet: everything that takes part in transfers is killed, stopped and cut off for a
//! while, in real processes on real PostgreSQL, and then every promise is checked.
//!
//! ```text
//! cargo run -p pactum-tests --bin gauntlet -- --seconds 60 --seed 7 -o json
//! ```
//!
//! `stage` says what runs; `attack` what befalls it, drawn from a seed; `audit` and
//! `checker` what must hold when everything has healed; `recovery` how long the
//! transactions of killed coordinators took. The program runs its `roles` by starting itself again
//! (`child`). Everything that it starts ends with it: the processes because the kernel kills them with
//! their parent, the servers by their own watchdogs.
//!
//! The seed determines the plan of faults and the transfers, not the scheduling of the machine: a
//! second run with it is alike, not the same.

mod arguments;
mod attack;
mod audit;
mod calm;
mod checker;
mod child;
mod dice;
mod guard;
mod journal;
mod ledger;
mod link;
mod rate;
mod recovery;
mod report;
mod roles;
mod rolling;
mod stage;
mod status;
mod tally;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::arguments::{Arguments, Format, Mode, Run};
use self::recovery::{Clock, Recoveries};
use self::report::{Report, say};
use self::stage::Stage;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Violations that are told in full; there is no end to what one broken thing breaks.
const VIOLATIONS_TOLD_MAX: usize = 20;

/// The program. Exits 0 only if nothing was wrong and nothing is left in doubt.
pub fn main() -> ExitCode {
    let Arguments { run, mode } = Arguments::parse();
    if let Some(Mode::Role { role }) = mode {
        return done(roles::run(role).map(|()| true));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return done(Err(error.into())),
    };
    let result = runtime.block_on(async {
        let work = async {
            match mode {
                None => gauntlet(&run).await,
                Some(Mode::RollingKill { run }) => rolling::run(&run).await,
                Some(Mode::RecoveryRate { transactions, output }) => rate::run(transactions, output).await,
                Some(Mode::Role { .. }) => Ok(true),
            }
        };
        // Dropping the work ends everything that it has started.
        tokio::select! {
            result = work => result,
            () = interrupted() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // Tasks hold processes too.
    drop(runtime);
    done(result)
}

fn done(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("gauntlet: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, or a polite kill.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// A seed that nobody chose.
fn draw_seed() -> u64 {
    // Small enough to be typed, and to survive readers that know only floating point.
    u64::from(uuid::Uuid::new_v4().as_fields().0)
}

/// A run with all faults.
async fn gauntlet(run: &Run) -> anyhow::Result<bool> {
    let running = Running::start("gauntlet", run).await?;
    let (stop, stopped) = watch::channel(false);
    let attack = attack::run(&running.stage, running.seed, stopped);
    let enough = async {
        tokio::time::sleep(Duration::from_secs(run.seconds)).await;
        stop.send_replace(true);
    };
    tokio::join!(attack, enough);
    running.finish(run).await
}

/// A stage with load on it, and who watches it.
struct Running {
    mode: &'static str,
    seed: u64,
    stage: Arc<Stage>,
    progress: JoinHandle<()>,
    clock: JoinHandle<Recoveries>,
    stop_clock: watch::Sender<bool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // They hold the stage.
        self.progress.abort();
        self.clock.abort();
    }
}

impl Running {
    async fn start(mode: &'static str, run: &Run) -> anyhow::Result<Self> {
        let seed = run.seed.unwrap_or_else(draw_seed);
        say(&format!("gauntlet: seed {seed}; repeat with: gauntlet --seconds {} --seed {seed}", run.seconds));
        let stage = Arc::new(Stage::start(seed, run.keep.as_deref()).await?);
        let progress = tokio::spawn(tell_progress(Arc::clone(&stage)));
        let (stop_clock, stopped) = watch::channel(false);
        let clock = tokio::spawn(Clock::new(Arc::clone(&stage)).run(stopped));
        Ok(Self { mode, seed, stage, progress, clock, stop_clock })
    }

    /// Heals, stops the load, checks and tells.
    async fn finish(mut self, run: &Run) -> anyhow::Result<bool> {
        let report = self.conclude(run).await;
        self.stage.keep_server_logs();
        let report = report?;
        report.tell_evidence()?;
        report.print(Format::or_default(run.output))?;
        Ok(report.is_good())
    }

    async fn conclude(&mut self, run: &Run) -> anyhow::Result<Report> {
        let stage = Arc::clone(&self.stage);
        attack::heal(&stage).await?;
        say("gauntlet: everything is healed; the applications end");
        let left = audit::quiet(&stage).await;
        self.stop_clock.send_replace(true);
        let recoveries = (&mut self.clock).await?;
        self.progress.abort();
        let audit = audit::audit(&stage, left).await?;
        let counts = stage.tally.lock().clone();
        let errors = stage.log_lines(" ERROR ");
        let report =
            Report::new(self.mode, (self.seed, run.seconds), &audit, &counts, &recoveries, errors.len());
        for violation in audit.violations.iter().take(VIOLATIONS_TOLD_MAX) {
            say(&format!("VIOLATION: {violation}"));
        }
        for note in &counts.notes {
            say(&format!("note: {note}"));
        }
        for line in errors.iter().take(VIOLATIONS_TOLD_MAX) {
            say(&format!("an error was logged by {line}"));
        }
        if recoveries.measured > 0 {
            say(&format!("the slowest recovery took {:?}: {}", recoveries.worst, recoveries.worst_was));
        }
        if run.keep.is_some() {
            say(&format!("logs and journals are in {}", stage.directory.display()));
        }
        Ok(report)
    }
}

async fn tell_progress(stage: Arc<Stage>) {
    let (start, mut before) = (Instant::now(), 0);
    let mut every = tokio::time::interval(PROGRESS);
    every.tick().await;
    // A killed application counts anew.
    let mut last: Vec<u64> = vec![0; stage.applications.len()];
    let mut answered = 0;
    loop {
        every.tick().await;
        for (known, application) in last.iter_mut().zip(&stage.applications) {
            let now = application.status().answered;
            answered += now.checked_sub(*known).unwrap_or(now);
            *known = now;
        }
        let rate = (answered - before) / PROGRESS.as_secs();
        before = answered;
        let counts = stage.tally.lock().clone();
        let met: u64 = counts.kills_mid_commit.values().sum();
        say(&format!(
            "{:>5} s: {answered} answers ({rate}/s), {} kills ({met} mid-commit), {} of PostgreSQL, {} pauses, {} network faults, {} violations",
            start.elapsed().as_secs(),
            counts.kills,
            counts.postgres_kills,
            counts.pauses,
            counts.network_faults,
            counts.violations.len(),
        ));
    }
}
