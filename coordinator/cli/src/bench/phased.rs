//! Makes load without a pause while something happens to those whom it needs, and keeps apart what began
//! before, during and after that.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use pactum::{Outcome, Pactum};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::child::Parent;
use super::wire::{Phase, PhaseMeasured, PhasedOrders, Report, SubmitWork, Turn};
use crate::exit::Exit;
use crate::failure::Failure;

/// The longest time that is told apart: a minute, in microseconds.
const LONGEST_US: u64 = 60_000_000;
/// In place of a phase: nothing more is begun.
const ENDING: usize = usize::MAX;
/// After an error, which may come at once.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Works from its start on, hears of phases, and reports at the end.
pub(super) async fn run(orders: PhasedOrders, parent: &mut Parent) -> Result<(), Failure> {
    let PhasedOrders { work, in_flight } = orders;
    let pactum = Pactum::connect(work.coordinator.clone()).await.map_err(|error| {
        Failure::new(Exit::CannotConnect, "no connection to the coordinator").because(&error)
    })?;
    let mut phases = Vec::new();
    for _ in Phase::ALL {
        phases.push(Mutex::new(Tally::new()?));
    }
    let shared = Arc::new(Shared { work, phase: AtomicUsize::new(0), phases });
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        workers.spawn(work_on(pactum.clone(), Arc::clone(&shared)));
    }
    parent.report(&Report::Ready { public: None, admin: None }).await?;
    let (mut present, mut since) = (0, Instant::now());
    loop {
        let turn = parent.next::<Turn>().await?;
        shared.tally(present).took += since.elapsed();
        since = Instant::now();
        match turn {
            Some(Turn::Phase(phase)) => {
                present = phase as usize;
                shared.phase.store(present, Ordering::SeqCst);
            }
            Some(Turn::End) => break,
            // The parent is gone, and nobody wants to know.
            None => return Ok(()),
        }
    }
    shared.phase.store(ENDING, Ordering::SeqCst);
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| Failure::new(Exit::Failed, "a worker broke off").because(&error))?;
    }
    let measured = Phase::ALL.iter().map(|phase| shared.tally(*phase as usize).measured()).collect();
    parent.report(&Report::Phases(measured)).await?;
    parent.gone().await;
    Ok(())
}

/// What all workers know.
struct Shared {
    work: SubmitWork,
    phase: AtomicUsize,
    phases: Vec<Mutex<Tally>>,
}

impl Shared {
    fn tally(&self, phase: usize) -> std::sync::MutexGuard<'_, Tally> {
        self.phases[phase].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of those that began in one phase.
struct Tally {
    took: Duration,
    committed: u64,
    aborted: BTreeMap<String, u64>,
    errors: u64,
    first_error: Option<String>,
    answers_us: Histogram<u64>,
    longest_commit: Duration,
    longest_abort: Duration,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 3);
        let failed = |error| Failure::new(Exit::Failed, "no histogram can be made").because(&error);
        Ok(Self {
            took: Duration::ZERO,
            committed: 0,
            aborted: BTreeMap::new(),
            errors: 0,
            first_error: None,
            answers_us: histogram.map_err(failed)?,
            longest_commit: Duration::ZERO,
            longest_abort: Duration::ZERO,
        })
    }

    fn add(&mut self, answer: Result<Outcome, pactum::CommitError>, took: Duration) {
        match answer {
            Ok(outcome) => {
                self.answers_us.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                match outcome.abort_reason() {
                    None => {
                        self.committed += 1;
                        self.longest_commit = self.longest_commit.max(took);
                    }
                    Some(reason) => {
                        *self.aborted.entry(format!("{:?}", reason.kind)).or_insert(0) += 1;
                        self.longest_abort = self.longest_abort.max(took);
                    }
                }
            }
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }

    fn measured(&self) -> PhaseMeasured {
        #[expect(clippy::cast_precision_loss, reason = "at most a minute of microseconds")]
        let quantile = |quantile: f64| self.answers_us.value_at_quantile(quantile) as f64 / 1000.0;
        PhaseMeasured {
            seconds: self.took.as_secs_f64(),
            committed: self.committed,
            aborted: self.aborted.clone(),
            errors: self.errors,
            first_error: self.first_error.clone(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            longest_commit_ms: self.longest_commit.as_secs_f64() * 1000.0,
            longest_abort_ms: self.longest_abort.as_secs_f64() * 1000.0,
        }
    }
}

async fn work_on(pactum: Pactum, shared: Arc<Shared>) {
    loop {
        let phase = shared.phase.load(Ordering::Relaxed);
        if phase == ENDING {
            return;
        }
        let began = Instant::now();
        let mut submit = pactum.submit();
        for resource in &shared.work.resources {
            submit = submit.operation(resource, &shared.work.operation, Vec::new());
        }
        let answer = submit.await;
        let is_error = answer.is_err();
        shared.tally(phase).add(answer, began.elapsed());
        if is_error {
            sleep(ERROR_PAUSE).await;
        }
    }
}
