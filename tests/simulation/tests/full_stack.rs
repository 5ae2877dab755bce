//! Runs seeds of the full stack in simulation, and counts what they executed:
//!
//! `cargo test -p pactum-simulation --test full_stack -- --nocapture`.
//!
//! `PACTUM_SCALE=full` takes the full run, `PACTUM_SEEDS=n` another number, and `PACTUM_SEED_BASE=n`
//! begins elsewhere. A seed that fails prints the line that replays it; one that found something is
//! kept below.
//!
//! Rows of the failure matrix that these runs meet, in all combinations: A1 to A9 and A12 (a coordinator
//! ends at any moment), A10 (it is only cut off from everybody, and ended by another), B1, B2, B7 and B9
//! (the log is away, slow, or its answer is lost), C1 to C5, C8 and C10 (a participant ends, its hooks
//! fail), E1, E4, E9, E11, E14 and E15 (messages late or lost), F2 and F3, F6, H4, H9 and H10.

#![allow(clippy::print_stdout, reason = "what was executed belongs into the log of the tests")]

use std::io::Write as _;
use std::time::Instant;

use pactum_simulation::plan::Flaw;
use pactum_simulation::runner::{Seeds, Totals, run};

/// Seeds of past failures, and of what is rare: run first, always.
const KEPT: [u64; 0] = [];

/// Seeds of an ordinary run of the tests, and of a full one, which is to be built with `--release`.
const ORDINARY: u64 = 80;
const FULL: u64 = 2_000;

/// Seeds in which each flaw must be noticed.
const SEEDS_OF_A_FLAW: u64 = 200;

/// What is told of a run, by the names that a seed's process gives it.
const COUNTERS: [&str; 16] = [
    "seeds",
    "transactions",
    "committed",
    "not_told",
    "crashes",
    "crashes_while_deciding",
    "stops",
    "partitions",
    "pauses",
    "log_crashes",
    "writes_lost",
    "answers_unknown",
    "takeovers",
    "inquiries",
    "simulated_ms",
    "ended_after_ms",
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn seeds(base: u64, count: u64) -> Seeds {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let program = env!("CARGO_BIN_EXE_pactum-full-stack").into();
    Seeds { program, base, count, jobs, flaw: None, until_failed: false }
}

/// Prints a counter, and appends it to the file that collects them.
fn tell(counter: &str, value: u64) {
    println!("full_stack {counter} {value}");
    if let Some(path) = std::env::var_os("PACTUM_EVIDENCE") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        let told = file.and_then(|mut file| writeln!(file, "full_stack {counter} {value}"));
        told.expect("the counters' file can be written");
    }
}

fn must_be_well(totals: &Totals) {
    for (seed, why) in &totals.failed {
        println!("seed {seed}: {why}");
    }
    assert!(totals.failed.is_empty(), "{} seeds failed; they are above", totals.failed.len());
}

#[test]
fn every_seed_keeps_every_promise() {
    let full = std::env::var("PACTUM_SCALE").is_ok_and(|scale| scale == "full");
    for seed in KEPT {
        must_be_well(&run(&seeds(seed, 1)).expect("the program can be started"));
    }
    let begun = Instant::now();
    let count = setting("PACTUM_SEEDS", if full { FULL } else { ORDINARY });
    let totals = run(&seeds(setting("PACTUM_SEED_BASE", 1), count)).expect("the program can be started");
    must_be_well(&totals);
    tell("replayed", totals.replayed);
    for counter in COUNTERS {
        tell(counter, totals.sum(counter));
    }
    println!("{:.1} seeds a second", Seconds(begun).rate(totals.sum("seeds")));
    assert_eq!(totals.sum("seeds"), count);
    assert!(totals.replayed >= (count / 100).max(3).min(count));
    // What did not happen was not tested. A few seeds on demand need not have everything.
    if count >= ORDINARY {
        for counter in COUNTERS {
            assert!(totals.sum(counter) * 40 >= count, "too few: {counter} {}", totals.sum(counter));
        }
        let share = totals.sum("committed") * 100 / totals.sum("transactions").max(1);
        assert!((30..=90).contains(&share), "commit ratio {share} % is outside 30 to 90 %");
        assert!(totals.sum("not_told") * 10 < totals.sum("transactions"), "too many were told nothing");
    }
}

/// For the log of the tests only: nothing depends on it.
struct Seconds(Instant);

impl Seconds {
    fn rate(&self, count: u64) -> f64 {
        let millis = u32::try_from(self.0.elapsed().as_millis()).unwrap_or(u32::MAX).max(1);
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) * 1000.0 / f64::from(millis)
    }
}

/// A check that cannot fail proves nothing: what surrounds Pactum breaks its own promise, and some seed
/// has to complain of just that.
#[test]
fn flaws_are_noticed() {
    const LEGS: &str = "not every leg took effect exactly once";
    let flaws: [(Flaw, &[&str]); 4] = [
        // What was committed is asked for later, and closed; or nobody asks, and the record is missing.
        (Flaw::LogAnswersTooSoon, &["the log has no record of it", "answered Decided(Aborted"]),
        // Or it is closed before any branch has heard, and then they all agree: on the contrary of what was told.
        (
            Flaw::LogDeniesLosing,
            &[
                "the log says Abort",
                "the log has no record of it",
                "told committed, and nothing happened",
                LEGS,
            ],
        ),
        (Flaw::BankForgetsPrepared, &[LEGS]),
        (Flaw::BankCommitsTwice, &[LEGS]),
    ];
    for (flaw, complaints) in flaws {
        let wanted = Seeds { flaw: Some(flaw), until_failed: true, ..seeds(10_000, SEEDS_OF_A_FLAW) };
        let totals = run(&wanted).expect("the program can be started");
        let (seed, why) = totals.failed.first().unwrap_or_else(|| panic!("nobody noticed {flaw:?}"));
        println!("{flaw:?} was noticed in seed {seed}");
        assert!(complaints.iter().any(|complaint| why.contains(complaint)), "{flaw:?}, seed {seed}: {why}");
    }
    tell("flaws_noticed", 4);
}
