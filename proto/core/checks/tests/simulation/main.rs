//! Long random runs of the real core: several coordinators and participants, many transactions,
//! virtual time, a log that loses what it had not synced, a network that loses, repeats, holds and
//! cuts, crashes of everything. Each seed first draws its own ranges of trouble; faults come first,
//! then everything is healed and everybody must finish (AC5, I4).
//!
//! A failing seed is printed as one line that replays it:
//! `PACTUM_SEED=n PACTUM_SIMULATOR=digest cargo test -p pactum-core-checks --test simulation replay -- --nocapture`.
//! What a seed found is kept in `regressions.rs` as a plan of its own, since a seed means another run as soon
//! as the simulator draws otherwise. `PACTUM_SCALE=full` takes the full run, `PACTUM_SEEDS=n` another number,
//! and `PACTUM_SEED_BASE=n` begins elsewhere.
//!
//! What met whom is counted too: every message, in every state of its receiver that it can meet (`pairs.rs`).
//!
//! Rows of the failure matrix: A1 to A13, B1, B2, B4, B5, B7 to B9, C1 to C3, C5, C7, C8, C10, D1 to D3, D8,
//! E1 to E11, E13 to E15, F2 to F4, F6, G1 to G3, H1 to H5, H9 to H11.

#![allow(
    clippy::print_stdout,
    reason = "what was executed is printed: a run that did nothing proves nothing"
)]
#![allow(clippy::disallowed_methods, reason = "the simulator itself may use threads, and reads settings")]
#![allow(clippy::unwrap_used, reason = "a broken model shall stop the simulator")]

mod counts;
mod disk;
mod ending;
mod links;
mod pairs;
mod pairs_at_coordinators;
mod pairs_at_participants;
mod people;
mod random;
mod regressions;
mod seed;
mod trouble;
#[path = "../world/mod.rs"]
mod world;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use counts::Counts;
use pactum_core_checked::coordinator::Mutant;
use pactum_core_checked::participant;
use pairs::Pairs;
use seed::Simulation;
use world::{DatabaseMutant, LogMutant};

/// Seeds of an ordinary and of a full run.
const SEEDS: u64 = 40_000;
const SEEDS_FULL: u64 = 500_000;

/// How often each pair of message and receiver's state must be met in a full run; in a smaller one by its
/// share of the seeds.
const MET_IN_FULL: u64 = 100;

const THREADS: u64 = 2;

/// Which simulator this is: a digest of its sources. A seed means the same only to the same one.
const SIMULATOR: &str = env!("PACTUM_SIMULATOR");

/// Which faulty variant is played, if any.
#[derive(Clone, Debug, Default)]
struct Faults {
    coordinator: Option<Mutant>,
    participant: Option<participant::Mutant>,
    log: Option<LogMutant>,
    database: Option<DatabaseMutant>,
}

fn run_seed(seed: u64, faults: &Faults, trace: bool) -> (Result<(), String>, Counts, Pairs) {
    let mut simulation = Simulation::new(seed, faults);
    simulation.trace = trace;
    let result = simulation.run();
    let pairs = Pairs(simulation.world.encounters.take().unwrap_or_default());
    (result, simulation.counts, pairs)
}

/// What replays a seed.
fn replay_line(seed: u64) -> String {
    format!(
        "PACTUM_SEED={seed} PACTUM_SIMULATOR={SIMULATOR} cargo test -p pactum-core-checks --test simulation \
         replay -- --nocapture"
    )
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Told to whoever reads the output, and to the gate.
fn tell(counter: &str, value: u64) {
    println!("simulation {counter} {value}");
    if let Some(path) = std::env::var_os("PACTUM_EVIDENCE") {
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(format!("simulation {counter} {value}\n").as_bytes()).unwrap();
    }
}

/// Every second seed, or the rest, until one fails here or in the other thread.
fn run_share(seeds: impl Iterator<Item = u64>, failed: &AtomicBool) -> Result<(Counts, Pairs), String> {
    let (mut total, mut met) = (Counts::default(), Pairs::default());
    for seed in seeds {
        if failed.load(Ordering::Relaxed) {
            break;
        }
        let (result, counts, pairs) = run_seed(seed, &Faults::default(), false);
        if let Err(what) = result {
            failed.store(true, Ordering::Relaxed);
            return Err(format!("{what}\n{}", replay_line(seed)));
        }
        total.add(&counts);
        met.add(&pairs);
    }
    Ok((total, met))
}

#[test]
fn seeds() {
    let full = std::env::var("PACTUM_SCALE").is_ok_and(|scale| scale == "full");
    let seeds = setting("PACTUM_SEEDS", if full { SEEDS_FULL } else { SEEDS });
    let base = setting("PACTUM_SEED_BASE", 0);
    println!("seeds {base} to {}, simulator {SIMULATOR}", base + seeds - 1);
    let failed = AtomicBool::new(false);
    let shares: Vec<Result<(Counts, Pairs), String>> = thread::scope(|scope| {
        let share = |first| (base + first..base + seeds).step_by(usize::try_from(THREADS).unwrap());
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                scope.spawn({
                    let failed = &failed;
                    move || run_share(share(first), failed)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (mut total, mut met) = (Counts::default(), Pairs::default());
    for share in shares {
        let (counts, pairs) = share.unwrap_or_else(|what| panic!("{what}"));
        total.add(&counts);
        met.add(&pairs);
    }
    tell("seeds", seeds);
    let (smallest, wrong) = met.judge((MET_IN_FULL * seeds / SEEDS_FULL).min(MET_IN_FULL));
    tell("message_states", Pairs::demanded());
    println!("each of them was met at least {smallest} times");
    assert!(wrong.is_empty(), "pairs of message and state: {wrong:#?}");
    for (counter, value) in total.named() {
        tell(counter, value);
        // Nothing that the run is there for may be missing.
        assert!(value >= seeds / 200, "too few: {counter} {value}");
    }
    let share = total.committed * 100 / total.transactions.max(1);
    assert!((30..=80).contains(&share), "commit ratio {share} % is outside 30 to 80 %");
    assert_eq!(total.committed + total.aborted + total.in_quarantine, total.transactions);
}

/// Replays `PACTUM_SEED` with its trace; without one it replays some seeds twice and compares.
#[test]
fn replay() {
    if let Ok(seed) = std::env::var("PACTUM_SEED") {
        if let Ok(other) = std::env::var("PACTUM_SIMULATOR")
            && other != SIMULATOR
        {
            println!("this is simulator {SIMULATOR}, not {other}: the seed is another run here");
        }
        let (result, counts, _) = run_seed(seed.parse().unwrap(), &Faults::default(), true);
        println!("{counts:?}");
        result.unwrap();
        return;
    }
    for seed in 0..20 {
        let run = || run_seed(seed, &Faults::default(), false);
        assert_eq!(format!("{:?}", run()), format!("{:?}", run()), "seed {seed} does not replay");
    }
}

/// Seeds in which each faulty variant must be caught.
const MUTANT_SEEDS: u64 = 40_000;

/// All but two, which the exhaustive check catches: `CollectedBeforeFinished`, since the simulator moves the
/// floor past what has ended only, and `CommitsAnyExecution`, since here no process forgets while it lives,
/// so that its memory compares executions before the database does.
#[test]
fn mutants_are_caught() {
    let coordinators = [
        Mutant::CommitBeforeRecorded,
        Mutant::FinishedBeforeLastAck,
        Mutant::AbortToInquiryWhileVoting,
        Mutant::DeadlineAfterProposed,
        Mutant::UnknownTakenForAborted,
        Mutant::StartsTwice,
        Mutant::FreeAbortAfterOnePhase,
        Mutant::ForeignCommitRuns,
        Mutant::DoubtTakenForAborted,
        Mutant::EndedAbortsProposed,
        Mutant::NothingFoundTakenForAborted,
        Mutant::LostInstanceAbortsProposed,
    ]
    .map(|mutant| Faults { coordinator: Some(mutant), ..Faults::default() });
    let participants = [
        participant::Mutant::AbortsAloneInDoubt,
        participant::Mutant::VotesBeforeDurable,
        participant::Mutant::AcknowledgesEarly,
        participant::Mutant::PreparesAfterAbort,
    ]
    .map(|mutant| Faults { participant: Some(mutant), ..Faults::default() });
    let logs = [
        LogMutant::FloorNotTested,
        LogMutant::FenceIgnored,
        LogMutant::VouchesUnsettled,
        LogMutant::EndClearsDoubt,
    ]
    .map(|mutant| Faults { log: Some(mutant), ..Faults::default() });
    let databases = [DatabaseMutant::MarkerUnchecked, DatabaseMutant::NotFoundIsSuccess]
        .map(|mutant| Faults { database: Some(mutant), ..Faults::default() });
    let mut survivors = Vec::new();
    for faults in coordinators.into_iter().chain(participants).chain(logs).chain(databases) {
        let caught = (0..MUTANT_SEEDS).find_map(|seed| {
            let (result, ..) = run_seed(seed, &faults, false);
            result.err().map(|what| (seed, what))
        });
        match caught {
            Some((seed, what)) => {
                println!("{faults:?}: caught at seed {seed}: {what}");
                tell("mutants_caught", 1);
            }
            None => survivors.push(faults),
        }
    }
    assert!(survivors.is_empty(), "survived: {survivors:#?}");
}
