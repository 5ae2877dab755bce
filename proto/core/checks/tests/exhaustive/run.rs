//! Exploring a scope, and saying what was explored.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::explorer::{Explorer, PROMISES};
use crate::world::invariants;

/// Two cores are what a run is made for.
const THREADS: usize = 2;

/// One scope at a time: memory is what limits an exploration.
static TURN: Mutex<()> = Mutex::new(());

pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this is a full run.
pub fn full() -> bool {
    std::env::var("PACTUM_SCALE").is_ok_and(|scale| scale == "full")
}

/// Says how much was executed, to people and to whoever adds it up.
pub fn count(counter: &str, value: usize) {
    let line = format!("exhaustive {counter} {value}\n");
    print!("{line}");
    if let Ok(path) = std::env::var("PACTUM_EVIDENCE") {
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// The most memory that this process has held, in MiB, where the system tells.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

impl Explorer {
    /// Explores all of it. Panics with the path if an invariant breaks or a situation that the
    /// scope was made for is not reached.
    pub fn explore(self, name: &str) {
        let _turn = turn();
        let began = Instant::now();
        let checker = self.checker().threads(THREADS).spawn_dfs().join();
        let unique = checker.unique_state_count();
        println!(
            "scope {name}: {unique} unique states, {} generated, depth {}, {:.1} s, peak {} MiB so far",
            checker.state_count(),
            checker.max_depth(),
            began.elapsed().as_secs_f64(),
            memory_peak()
        );
        if let Some(path) = checker.discovery(PROMISES) {
            println!("broken: {}", invariants::broken(&path.last_state().world).unwrap());
            for action in path.into_actions() {
                println!("  {action:?}");
            }
            panic!("scope {name} breaks a promise");
        }
        checker.assert_properties();
        assert!(checker.is_done(), "the scope was not explored to its end");
        count("scopes", 1);
        count("unique_states", unique);
    }

    /// The invariant that a faulty world breaks, found.
    pub fn catches(self, name: &str) {
        let checker =
            self.checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let path = checker.discovery(PROMISES).unwrap_or_else(|| {
            panic!("mutant {name} was not caught in {} states", checker.unique_state_count())
        });
        let broken = invariants::broken(&path.last_state().world).unwrap();
        println!("mutant {name}: caught after {} states: {broken}", checker.unique_state_count());
        count("mutants_caught", 1);
    }
}
