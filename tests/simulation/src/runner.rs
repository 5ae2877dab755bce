//! Many seeds, each in a process of its own, as many at a time as there are cores.
//!
//! A process per seed, because what one run leaves behind (the state of a hasher, of a random number
//! generator) must not reach the next: a seed has to mean the same wherever it is run. A part of
//! them is run twice more, with the bytes of every message in their traces, and must agree.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum as _;

use crate::plan::Flaw;
use crate::world::lock;

/// The first word of the line that a seed's process prints when all is well.
pub const RESULT: &str = "full_stack";

/// One in so many seeds is replayed, and never fewer than the number below.
const REPLAY_ONE_IN: u64 = 100;

/// So few are always replayed.
const REPLAYED_MIN: u64 = 3;

/// Which seeds to run, and how.
#[derive(Clone, Debug)]
pub struct Seeds {
    /// The program: `pactum-full-stack`.
    pub program: PathBuf,
    /// The first seed.
    pub base: u64,
    /// How many.
    pub count: u64,
    /// Processes at a time.
    pub jobs: usize,
    /// What is wrong with all of them on purpose.
    pub flaw: Option<Flaw>,
    /// Whether to stop as soon as one has failed.
    pub until_failed: bool,
}

/// What they came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sums over all seeds, by the names that a seed's process prints.
    pub sums: BTreeMap<String, u64>,
    /// Seeds that were run twice more and agreed.
    pub replayed: u64,
    /// Seeds that failed, with what they printed.
    pub failed: Vec<(u64, String)>,
}

impl Totals {
    /// The sum of one counter.
    pub fn sum(&self, name: &str) -> u64 {
        self.sums.get(name).copied().unwrap_or(0)
    }
}

/// Runs them all.
///
/// # Errors
/// The program could not be started.
pub fn run(seeds: &Seeds) -> io::Result<Totals> {
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    let replays = (seeds.count / REPLAY_ONE_IN).max(REPLAYED_MIN).min(seeds.count);
    // Spread over all of them.
    let replay_every = seeds.count.div_ceil(replays.max(1)).max(1);
    let problem: Mutex<Option<io::Error>> = Mutex::default();
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let ended = lock(&problem).is_some() || seeds.until_failed && !lock(&totals).failed.is_empty();
            if place >= seeds.count || ended {
                return;
            }
            let seed = seeds.base + place;
            let ran = run_one(seeds, seed, false).and_then(|first| {
                let replay = first.is_ok() && place.is_multiple_of(replay_every);
                Ok((first, if replay { Some(replay_one(seeds, seed)?) } else { None }))
            });
            match ran {
                Ok((Ok(line), replayed)) => {
                    let mut totals = lock(&totals);
                    for (name, value) in read_counters(&line) {
                        *totals.sums.entry(name).or_default() += value;
                    }
                    match replayed {
                        Some(Ok(())) => totals.replayed += 1,
                        Some(Err(why)) => totals.failed.push((seed, why)),
                        None => {}
                    }
                }
                Ok((Err(why), _)) => lock(&totals).failed.push((seed, why)),
                Err(error) => *lock(&problem) = Some(error),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..seeds.jobs.max(1) {
            scope.spawn(work);
        }
    });
    match lock(&problem).take() {
        Some(error) => Err(error),
        None => Ok(totals.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
    }
}

/// The line of one seed: its counters and the digest of its trace. Or all that its process printed.
type Ran = Result<String, String>;

fn run_one(seeds: &Seeds, seed: u64, bytes: bool) -> io::Result<Ran> {
    let mut command = Command::new(&seeds.program);
    if let Some(flaw) = seeds.flaw.and_then(|flaw| flaw.to_possible_value()) {
        command.arg("--flaw").arg(flaw.get_name());
    }
    command.arg("--seed").arg(seed.to_string()).stdin(Stdio::null());
    if bytes {
        command.arg("--bytes");
    }
    let output = command.output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let counters = stdout.lines().find_map(|line| line.strip_prefix(RESULT)?.strip_prefix(' '));
    Ok(match counters {
        Some(counters) if output.status.success() => Ok(counters.to_owned()),
        _ => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(format!("{}; {}{}", output.status, stdout.trim(), stderr.trim()))
        }
    })
}

/// Runs a seed twice more: every counter and the digest of the whole trace must agree.
fn replay_one(seeds: &Seeds, seed: u64) -> io::Result<Result<(), String>> {
    let (first, second) = (run_one(seeds, seed, true)?, run_one(seeds, seed, true)?);
    Ok(match (first, second) {
        (Ok(first), Ok(second)) if first == second => Ok(()),
        (first, second) => Err(format!("two runs of it differ: {first:?} and {second:?}")),
    })
}

fn read_counters(line: &str) -> Vec<(String, u64)> {
    let words = line.split_whitespace();
    words
        .filter_map(|word| word.split_once('='))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_a_line() {
        let read = read_counters("seed=7 crashes=3 odd");
        assert_eq!(read, [(String::from("seed"), 7), (String::from("crashes"), 3)]);
    }
}
