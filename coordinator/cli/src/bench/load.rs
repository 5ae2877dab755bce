//! Makes load: a number of workers that each do one thing after the other, and measure how long it took.

use std::future::Future;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::child::Parent;
use super::wire::{Measured, Report, Run, Work};
use super::{hand_written, one_branch, rows, submit};
use crate::exit::Exit;
use crate::failure::Failure;

/// Histograms that workers share: enough that they seldom meet, few enough to be small.
const HISTOGRAMS: usize = 16;
/// The longest time that is told apart: a minute, in microseconds.
const LONGEST_US: u64 = 60_000_000;

/// One thing after the other.
pub(super) trait Worker: Send + 'static {
    /// Does it once; answers how many units that was: transactions, calls, rows.
    fn once(&mut self) -> impl Future<Output = Result<u64, String>> + Send;
}

/// Carries out commands until stdin ends.
pub(super) async fn run(parent: &mut Parent) -> Result<(), Failure> {
    parent.report(&Report::Ready { public: None, admin: None }).await?;
    while let Some(run) = parent.next::<Run>().await? {
        let Run { work, in_flight, warm_up, measure } = run;
        let time = (warm_up, measure);
        let measured = match work {
            Work::Submit(work) => drive(submit::workers(&work, in_flight).await?, time, parent).await,
            Work::UnarySubmit(work) => drive(submit::unary(&work, in_flight).await?, time, parent).await,
            Work::Nothing { coordinator } => {
                drive(submit::nothing(&coordinator, in_flight).await?, time, parent).await
            }
            Work::Rows(work) => drive(rows::workers(&work, in_flight).await?, time, parent).await,
            Work::Transfer(work) => drive(submit::transfers(&work, in_flight).await?, time, parent).await,
            Work::HandWritten(work) => {
                let pools = hand_written::Pools::open(&work).await?;
                let measured = drive(pools.workers(in_flight), time, parent).await;
                pools.close().await;
                measured
            }
            Work::OneDatabase(work) => {
                drive(hand_written::in_one_database(&work, in_flight).await?, time, parent).await
            }
            Work::OneBranch(work) => {
                let (participant, workers) = one_branch::start(&work, in_flight).await?;
                let measured = drive(workers, time, parent).await;
                participant.shutdown().await;
                measured
            }
        }?;
        parent.report(&Report::Ended(measured)).await?;
    }
    Ok(())
}

/// What all workers of one run write to.
struct Tally {
    /// [`WARMING`], [`MEASURING`] or [`ENDING`].
    phase: AtomicU8,
    done: AtomicU64,
    done_in_all: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
    histograms: Vec<Mutex<Histogram<u64>>>,
}

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

async fn drive<W: Worker>(
    workers: Vec<W>,
    (warm_up, measure): (Duration, Duration),
    parent: &mut Parent,
) -> Result<Measured, Failure> {
    let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 3).map(Mutex::new);
    let histograms: Result<Vec<_>, _> = (0..HISTOGRAMS).map(|_| histogram()).collect();
    let tally = Arc::new(Tally {
        phase: AtomicU8::new(WARMING),
        done: AtomicU64::new(0),
        done_in_all: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        first_error: Mutex::default(),
        histograms: histograms
            .map_err(|error| Failure::new(Exit::Failed, "no histogram can be made").because(&error))?,
    });
    let mut tasks = JoinSet::new();
    for (place, worker) in workers.into_iter().enumerate() {
        tasks.spawn(work(worker, place % HISTOGRAMS, Arc::clone(&tally)));
    }
    sleep(warm_up).await;
    parent.report(&Report::Began).await?;
    let began = Instant::now();
    tally.phase.store(MEASURING, Ordering::SeqCst);
    sleep(measure).await;
    tally.phase.store(ENDING, Ordering::SeqCst);
    let seconds = began.elapsed().as_secs_f64();
    let done = tally.done.load(Ordering::SeqCst);
    while tasks.join_next().await.is_some() {}

    let mut all = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3)
        .map_err(|error| Failure::new(Exit::Failed, "no histogram can be made").because(&error))?;
    for part in &tally.histograms {
        let part = part.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(&*part).map_err(|error| {
            Failure::new(Exit::Failed, "histograms cannot be put together").because(&error)
        })?;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most a minute of microseconds")]
    let quantile = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1000.0;
    let first_error = tally.first_error.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(Measured {
        seconds,
        done,
        done_in_all: tally.done_in_all.load(Ordering::SeqCst),
        errors: tally.errors.load(Ordering::SeqCst),
        first_error,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        p999_ms: quantile(0.999),
    })
}

async fn work<W: Worker>(mut worker: W, place: usize, tally: Arc<Tally>) {
    while tally.phase.load(Ordering::Relaxed) != ENDING {
        let began = Instant::now();
        match worker.once().await {
            Ok(units) => {
                tally.done_in_all.fetch_add(units, Ordering::Relaxed);
                if tally.phase.load(Ordering::Relaxed) == MEASURING {
                    tally.done.fetch_add(units, Ordering::Relaxed);
                    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    let histogram = &tally.histograms[place];
                    histogram.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
                }
            }
            Err(error) => {
                tally.errors.fetch_add(1, Ordering::Relaxed);
                tally.first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                // An error that comes at once must not become a loop that starves everything else.
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}
