//! `pactum demo transfer`, start to end: make a place, start everybody, move money, wait until
//! nothing is open, count, and take everything away again.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pactum::Pactum;
use pactum_core::id::{Gid, PreparedName};
use pactum_proto::v1;
use pactum_proto::v1::admin_service_client::AdminServiceClient;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::place::{BANKS, Place, Survey};
use super::process::{FREE, Life, Orders, Process};
use super::steps::{COORDINATOR, Steps};
use super::summary::{CrashSummary, Summary, Tally, round};
use super::wire::{BankOrders, CoordinatorOrders, KillAt, Reporting};
use super::workload::{ACCOUNTS_PER_WORKER, Application, Finished, Transfer};
use crate::command::demo::{Role, Transfer as Options};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::TransactionView;
use crate::output::{Output, transaction};

/// So many transfers are made one after the other first, and shown step by step: two that commit
/// and one that is refused.
const SHOWN: u32 = 3;

/// Without a crash only the first transactions' steps are told, so that telling does not slow what
/// is measured.
const TOLD: usize = 16;

/// With a crash all are, up to this many: nobody knows before which one it strikes.
const TOLD_WITH_CRASH: usize = 20_000;

/// A longest wait for everything that is open to end: several times what a restart and the
/// coordinator's longest pause between attempts take.
const QUIET_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks at what is open.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Runs it. Whatever happens, also an interrupt, everything that was started is stopped and
/// everything that was made is removed before this returns.
pub(crate) async fn run(options: Options, output: &Output) -> Result<Exit, Failure> {
    let accounts = options.in_flight * ACCOUNTS_PER_WORKER;
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    let making = async {
        match &options.postgres {
            None => Place::files(accounts).await,
            Some(url) => {
                // Each branch holds a connection until it is prepared, and phase 2 needs one again.
                Place::postgres(url, &BANKS, accounts, options.in_flight * 2 + 4).await
            }
        }
    };
    let place = tokio::select! {
        place = making => place?,
        () = &mut interrupted => return Ok(Exit::Interrupted),
    };
    let tasks = TaskTracker::new();
    let result = tokio::select! {
        result = system(&options, &place, &tasks, output) => result,
        () = &mut interrupted => Ok(Exit::Interrupted),
    };
    // All processes were dropped, which tells them to stop; their tasks end when they have.
    tasks.close();
    tasks.wait().await;
    let removed = place.remove().await;
    let exit = result?;
    removed.map(|()| exit)
}

/// Resolves at SIGINT or SIGTERM.
pub(super) fn interrupted() -> Result<impl Future<Output = ()>, Failure> {
    let failed =
        |error: io::Error| Failure::new(Exit::Failed, "signals cannot be waited for").because(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// What one run gathers.
struct Gathered {
    tally: Tally,
    /// The first few, and with a crash all.
    finished: Vec<Finished>,
    per_second: f64,
}

async fn system(
    options: &Options,
    place: &Place,
    tasks: &TaskTracker,
    output: &Output,
) -> Result<Exit, Failure> {
    let (seen, mut all_seen) = mpsc::unbounded_channel();
    let (coordinator, public, admin) = start_coordinator(options, place, &seen, tasks).await?;
    let mut banks = Vec::new();
    for bank in BANKS {
        banks.push(Process::start(
            bank,
            bank_orders(options, place, bank, public),
            Life::AtOnce,
            &seen,
            tasks,
        ));
    }
    let mut addresses = Vec::new();
    for bank in &banks {
        addresses.push(format!("http://{}", bank.up().await?.0));
    }
    let addresses: [String; 2] = addresses.try_into().expect("there are two banks");
    drop(seen);
    if output.for_people() && !output.quiet {
        output.note(place.describe());
        output.note(format_args!(
            "{COORDINATOR} {public}, {} {}, {} {}\n",
            BANKS[0], addresses[0], BANKS[1], addresses[1]
        ));
    }
    let pactum = Pactum::connect(format!("http://{public}")).await.map_err(|error| {
        Failure::new(Exit::CannotConnect, "no connection to the demo's coordinator").because(&error)
    })?;
    let states = banks.iter().chain([&coordinator]).map(Process::state).collect();
    let application = Application::new(pactum, addresses, states);

    let before = place.survey().await?;
    let gathered = make_transfers(options, &application, output).await;
    let open = until_quiet(place, admin).await?;
    let after = place.survey().await?;
    drop((coordinator, banks));

    let mut steps = Steps::default();
    while let Ok(one) = all_seen.try_recv() {
        steps.saw(one);
    }
    let summary = summarize(options, place, &before, &after, &open, &gathered, &steps);
    show(&summary, &gathered, &steps, output)?;
    for name in &open.held {
        output.note(format_args!("held to the end: {name}"));
    }
    for transaction in &open.at_coordinator {
        output.note(format_args!("open to the end: {}", transaction::watch_line(transaction)));
    }
    summary.verdict()
}

async fn start_coordinator(
    options: &Options,
    place: &Place,
    seen: &mpsc::UnboundedSender<super::process::Seen>,
    tasks: &TaskTracker,
) -> Result<(Process, SocketAddr, SocketAddr), Failure> {
    let orders = Orders::Coordinator(CoordinatorOrders {
        log: place.log_url(),
        listen: FREE,
        admin_listen: FREE,
        scratch: place.scratch(),
        participant_grace: None,
        reporting: reporting(options, Role::Coordinator),
    });
    let coordinator = Process::start(COORDINATOR, orders, Life::AtOnce, seen, tasks);
    match coordinator.up().await? {
        (public, Some(admin)) => Ok((coordinator, public, admin)),
        (_, None) => Err(Failure::new(Exit::Failed, "the coordinator did not say where it serves operators")),
    }
}

fn bank_orders(options: &Options, place: &Place, bank: &str, public: SocketAddr) -> Orders {
    // Of two banks, the second one crashes.
    let role = if bank == BANKS[1] { Some(Role::Participant) } else { None };
    let mut reporting = reporting(options, Role::Participant);
    if role.is_none() {
        reporting.kill_at = None;
    }
    Orders::Bank(BankOrders {
        name: bank.to_owned(),
        coordinator: format!("http://{public}"),
        listen: FREE,
        store: place.store(bank),
        reporting,
    })
}

/// Half way, counted in transactions that come to the step: of those that commit, at least.
fn reporting(options: &Options, role: Role) -> Reporting {
    let crash = options.crash.as_ref();
    let nth = (u64::from(options.transfers) * 9 / 20).max(1);
    Reporting {
        transactions: if crash.is_some() { TOLD_WITH_CRASH } else { TOLD },
        kill_at: crash
            .filter(|crash| crash.who == role)
            .map(|crash| KillAt { step: crash.step.clone(), nth: u32::try_from(nth).unwrap_or(u32::MAX) }),
    }
}

/// Makes all transfers.
async fn make_transfers(options: &Options, application: &Application, output: &Output) -> Gathered {
    let total = options.transfers;
    let bar = progress(total, output);
    let mut tally = Tally::new();
    let mut finished = Vec::new();
    let one_by_one = SHOWN.min(total);
    let keep_all = options.crash.is_some();
    let started = Instant::now();
    let mut first = application.clone();
    for index in 0..one_by_one {
        let one = first.make(Transfer::planned(index, 0)).await;
        // These count only where there is nothing else: connections are warm after them.
        tally.count(&one, total <= SHOWN);
        finished.push(one);
        bar.inc(1);
    }
    let at_once = Instant::now();
    let next = Arc::new(AtomicU32::new(one_by_one));
    let (done, mut all_done) = mpsc::channel::<Finished>(1024);
    let mut workers = JoinSet::new();
    for worker in 0..options.in_flight {
        let (mut application, next, done) = (application.clone(), Arc::clone(&next), done.clone());
        workers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= total {
                    return;
                }
                let one = application.make(Transfer::planned(index, worker)).await;
                if done.send(one).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(done);
    while let Some(one) = all_done.recv().await {
        tally.count(&one, true);
        if keep_all && finished.len() < TOLD_WITH_CRASH {
            finished.push(one);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (count, since) = if total > SHOWN { (total - one_by_one, at_once) } else { (total, started) };
    let per_second = round(f64::from(count) / since.elapsed().as_secs_f64().max(f64::MIN_POSITIVE));
    Gathered { tally, finished, per_second }
}

fn progress(total: u32, output: &Output) -> ProgressBar {
    if !output.for_people() || output.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} transfers, {per_sec}, {eta} left")
        .unwrap_or_else(|_bad_template| ProgressStyle::default_bar());
    ProgressBar::new(u64::from(total)).with_style(style)
}

/// Waits until nobody holds anything and the coordinator knows of nothing open. Answers what is
/// open when the wait has ended: empty, or it was too long.
async fn until_quiet(place: &Place, admin: SocketAddr) -> Result<Open, Failure> {
    let until = Instant::now() + QUIET_WITHIN;
    loop {
        let held = place.survey().await?.held;
        let at_coordinator = open_at(admin).await;
        let quiet = held.is_empty() && matches!(&at_coordinator, Ok(open) if open.is_empty());
        if quiet || Instant::now() >= until {
            let at_coordinator = at_coordinator.map_err(|status| {
                Failure::new(Exit::Failed, "the coordinator does not say what is open").because(&status)
            })?;
            return Ok(Open { held, at_coordinator });
        }
        tracing::debug!(?held, ?at_coordinator, "something is open");
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// What the coordinator knows of and that is not finished.
async fn open_at(admin: SocketAddr) -> Result<Vec<TransactionView>, tonic::Status> {
    let unreachable = |error: tonic::transport::Error| tonic::Status::from_error(Box::new(error));
    let mut client = AdminServiceClient::connect(format!("http://{admin}")).await.map_err(unreachable)?;
    let request = v1::ListTransactionsRequest { page_size: 1000, ..v1::ListTransactionsRequest::default() };
    let transactions = client.list_transactions(request).await?.into_inner().transactions;
    Ok(transactions.into_iter().map(TransactionView::from).collect())
}

/// What is left open.
#[derive(Debug)]
struct Open {
    /// In the banks' databases.
    held: Vec<PreparedName>,
    /// As the coordinator says.
    at_coordinator: Vec<TransactionView>,
}

impl Open {
    fn gids(&self) -> impl Iterator<Item = Gid> {
        let held = self.held.iter().map(|name| name.id.gid);
        held.chain(self.at_coordinator.iter().map(TransactionView::gid))
    }
}

fn summarize(
    options: &Options,
    place: &Place,
    before: &Survey,
    after: &Survey,
    open: &Open,
    gathered: &Gathered,
    steps: &Steps,
) -> Summary {
    let tally = &gathered.tally;
    let unknown = tally.unknown.iter().filter_map(|finished| Some(finished.id?.gid));
    let in_doubt: BTreeSet<Gid> = open.gids().chain(unknown).collect();
    let struck = struck(gathered, steps);
    let mut summary = Summary {
        demo: "transfer",
        database: match place {
            Place::Files { .. } => "sqlite",
            Place::Postgres(_) => "postgres",
        },
        transfers: options.transfers,
        in_flight: options.in_flight,
        committed: tally.committed,
        aborted: tally.refused + tally.aborted,
        refused: tally.refused,
        in_doubt: in_doubt.len(),
        sum_before: before.sum,
        sum_after: after.sum,
        transfers_per_second: gathered.per_second,
        p50_ms: tally.quantile_ms(0.5),
        p99_ms: tally.quantile_ms(0.99),
        crash: options
            .crash
            .as_ref()
            .map(|crash| CrashSummary::new(crash.to_string(), steps.crash(), struck)),
        ok: false,
    };
    summary.ok = summary.faults().is_empty();
    summary
}

/// The transfer that the crash struck.
fn struck<'a>(gathered: &'a Gathered, steps: &Steps) -> Option<&'a Finished> {
    let gid = steps.crash()?.gid?;
    gathered.finished.iter().find(|finished| finished.id.is_some_and(|id| id.gid == gid))
}

fn show(summary: &Summary, gathered: &Gathered, steps: &Steps, output: &Output) -> Result<(), Failure> {
    if !output.for_people() {
        return output.line(summary);
    }
    for finished in gathered.finished.iter().take(usize::try_from(SHOWN).unwrap_or_default()) {
        output.text(format_args!("{}\n", steps.table(finished)))?;
    }
    if let Some(finished) = struck(gathered, steps) {
        output.text(format_args!("The transfer that the crash struck:\n{}\n", steps.timeline(finished)))?;
    }
    output.text(summary.page())?;
    for why in &gathered.tally.why_aborted {
        output.note(format_args!("aborted otherwise: {why}"));
    }
    for finished in &gathered.tally.unknown {
        output.note(format_args!("unknown to the end: {:?}", finished.ending));
    }
    output.hint(if summary.crash.is_some() {
        "Next: pactum demo transfer --postgres, or run a coordinator of your own: pactum dev"
    } else {
        "Next: pactum demo transfer --crash coordinator@decided, or run a coordinator of your own: pactum dev"
    });
    Ok(())
}
