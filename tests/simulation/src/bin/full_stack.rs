//! `pactum-full-stack --seed S` runs one seed in this process; `--seeds N` runs many, each in a
//! process of its own.
//!
//! The process that runs a seed is deterministic: its clock is the simulation's, its random numbers
//! come from the seed, also those that the standard library takes for its hashers. The same holds,
//! harmlessly, for the process that starts the others: its clock stands still, so it measures nothing.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]
#![allow(clippy::print_stderr, reason = "what it prints is what it is for")]

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use pactum_simulation::plan::{Flaw, Plan};
use pactum_simulation::run::{Summary, run};
use pactum_simulation::runner::{RESULT, Seeds, run as run_many};
use pactum_simulation::trace::{Detail, Trace};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Processor time of one seed, in seconds: a task that spins without letting the clock move is ended
/// by it. The kernel counts it, since no clock of ours does.
const PROCESSOR_SECONDS_MAX: u64 = 300;

/// The full stack in simulation.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Run this seed alone, in this process.
    #[arg(long, conflicts_with_all = ["seeds", "base", "jobs"])]
    seed: Option<u64>,
    /// Print what happens.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Take the bytes of every message into the digest of the trace.
    #[arg(long, requires = "seed")]
    bytes: bool,
    /// Break a promise of what surrounds Pactum, to see that it is noticed.
    #[arg(long)]
    flaw: Option<Flaw>,
    /// Run so many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    base: u64,
    /// Processes at a time. Default: the number of cores.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    }
}

fn one(seed: u64, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let limit = Rlimit { current: Some(PROCESSOR_SECONDS_MAX), maximum: Some(PROCESSOR_SECONDS_MAX) };
    setrlimit(Resource::Cpu, limit).context("the limit of processor time")?;
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let _clock = mad_turmoil::time::SimClocksGuard::init();
    let detail = if arguments.bytes { Detail::Bytes } else { Detail::Ordinary };
    let print = arguments.trace;
    let plan = Plan { flaw: arguments.flaw, ..Plan::draw(seed) };
    // A thread of its own: whatever a thread draws once is drawn after the seed was set.
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).spawn(move || {
        fastrand::seed(seed);
        let trace = Trace::install(detail, print);
        let ended = run(&plan, &trace);
        (ended, trace.digest())
    })?;
    let Ok((ended, (digest, lines))) = thread.join() else {
        return Ok(failed(seed, arguments, &[String::from("it panicked")]));
    };
    match ended {
        Ok(summary) => {
            println!("{RESULT} {} seed:{seed} lines:{lines} digest:{digest:016x}", counters(&summary));
            Ok(ExitCode::SUCCESS)
        }
        Err(broken) => Ok(failed(seed, arguments, &broken)),
    }
}

fn counters(summary: &Summary) -> String {
    let Summary { simulated, outcomes, faults, log, takeovers, inquiries, ended_after } = summary;
    format!(
        "seeds=1 transactions={} committed={} not_told={} crashes={} \
         crashes_while_deciding={} stops={} partitions={} pauses={} log_crashes={} \
         writes_lost={} answers_unknown={} takeovers={takeovers} inquiries={inquiries} simulated_ms={} \
         ended_after_ms={}",
        outcomes.transfers,
        outcomes.committed,
        outcomes.not_told,
        faults.crashes,
        faults.crashes_while_deciding,
        faults.stops,
        faults.partitions,
        faults.pauses,
        log.crashes,
        log.writes_lost,
        log.answers_unknown,
        simulated.as_millis(),
        ended_after.as_millis(),
    )
}

fn failed(seed: u64, arguments: &Arguments, broken: &[String]) -> ExitCode {
    for line in broken {
        eprintln!("seed {seed}: {line}");
    }
    let flaw = arguments.flaw.and_then(|flaw| flaw.to_possible_value());
    let flaw = flaw.map(|flaw| format!(" --flaw {}", flaw.get_name())).unwrap_or_default();
    eprintln!(
        "replay: cargo run -p pactum-simulation --bin pactum-full-stack -- --seed {seed}{flaw} --trace"
    );
    ExitCode::FAILURE
}

fn many(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let seeds = Seeds {
        program: std::env::current_exe().context("this program's own path")?,
        base: arguments.base,
        count: arguments.seeds,
        jobs: arguments.jobs.unwrap_or(cores),
        flaw: arguments.flaw,
        until_failed: false,
    };
    let totals = run_many(&seeds).context("a seed's process could not be started")?;
    for (name, sum) in &totals.sums {
        println!("{name} {sum}");
    }
    println!("replayed {}", totals.replayed);
    for (seed, why) in &totals.failed {
        eprintln!("seed {seed} FAILED: {why}");
    }
    Ok(if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
