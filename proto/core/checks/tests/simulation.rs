//! Long random runs of the real core: several coordinators and participants, many transactions,
//! virtual time, a network that loses and repeats, crashes of everything. Each seed first draws its
//! own ranges of trouble; faults come first, then everything is healed and everybody must finish
//! (AC5, I4).
//!
//! A failing seed is printed as one line that replays it:
//! `PACTUM_SEED=n cargo test -p pactum-core-checks --test simulation replay -- --nocapture`.
//! `PACTUM_SEEDS=n` sets how many seeds a run takes.

#![allow(
    clippy::print_stdout,
    reason = "what was executed is printed: a run that did nothing proves nothing"
)]
#![allow(clippy::disallowed_methods, reason = "the simulator itself may use threads")]
#![allow(clippy::unwrap_used, reason = "a broken model shall stop the simulator")]

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use pactum_core_checked::coordinator::{self, Mutant};
use pactum_core_checked::participant;
use pactum_core_checked::time::Timestamp;
use world::participants::HookEnd;
use world::{Held, Message, Scope, Told, World, invariants};

/// splitmix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// True in `per_mille` of a thousand cases.
    fn chance(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }
}

/// How much trouble a seed has, per mille of the steps of its kind. Drawn per seed, so that some
/// seeds lose nothing and crash much, and others the other way round.
#[derive(Debug)]
struct Trouble {
    lost: u64,
    repeated: u64,
    coordinator_crash: u64,
    participant_crash: u64,
    suspicion: u64,
    answer_lost: u64,
    log_silent: u64,
    refusal: u64,
    read_only: u64,
    hook_fails: u64,
    retry: u64,
    pause: u64,
}

impl Trouble {
    fn draw(random: &mut Random) -> Self {
        let mut range = |most: u64| if random.chance(400) { 0 } else { random.next() % (most + 1) };
        Self {
            lost: range(150),
            repeated: range(150),
            coordinator_crash: range(8),
            participant_crash: range(12),
            suspicion: range(4),
            answer_lost: range(200),
            log_silent: range(150),
            refusal: range(120),
            read_only: range(100),
            hook_fails: range(200),
            retry: range(20),
            pause: range(6),
        }
    }

    /// Nothing goes wrong any more.
    fn none() -> Self {
        Self {
            lost: 0,
            repeated: 0,
            coordinator_crash: 0,
            participant_crash: 0,
            suspicion: 0,
            answer_lost: 0,
            log_silent: 0,
            refusal: 0,
            read_only: 0,
            hook_fails: 0,
            retry: 0,
            pause: 0,
        }
    }
}

/// What was executed: a run that did nothing proves nothing.
#[derive(Clone, Debug, Default)]
struct Counts {
    transactions: u64,
    committed: u64,
    aborted: u64,
    steps: u64,
    delivered: u64,
    lost: u64,
    repeated: u64,
    coordinator_crashes: u64,
    participant_crashes: u64,
    incarnations_ended: u64,
    log_answers_lost: u64,
    pauses: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.transactions += other.transactions;
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.steps += other.steps;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.coordinator_crashes += other.coordinator_crashes;
        self.participant_crashes += other.participant_crashes;
        self.incarnations_ended += other.incarnations_ended;
        self.log_answers_lost += other.log_answers_lost;
        self.pauses += other.pauses;
    }
}

struct Simulation {
    random: Random,
    world: World,
    now: Timestamp,
    trouble: Trouble,
    counts: Counts,
    trace: bool,
}

impl Simulation {
    fn new(seed: u64, coordinator: coordinator::Config, participant: participant::Config) -> Self {
        let mut random = Random(seed);
        let trouble = Trouble::draw(&mut random);
        let participants = 2 + random.below(3);
        let transactions = (0..4 + random.below(12))
            .map(|_| {
                let first = random.below(participants);
                let branches = 1 + random.below(participants.min(3));
                (0..branches).map(|step| (first + step) % participants).collect()
            })
            .collect();
        let scope = Scope {
            coordinators: 1 + random.below(3),
            participants,
            transactions,
            marker: random.chance(500),
            coordinator,
            participant,
            ..Scope::default()
        };
        Self {
            world: World::new(scope),
            random,
            now: Timestamp::ORIGIN,
            trouble,
            counts: Counts::default(),
            trace: false,
        }
    }

    /// Faults first, then heal, and everybody must finish.
    fn run(&mut self) -> Result<(), String> {
        let steps = 300 + self.random.below(700);
        for _ in 0..steps {
            self.step()?;
        }
        self.heal()?;
        self.demand_an_end()
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:?} {}", self.now, what());
        }
    }

    fn check(&self) -> Result<(), String> {
        invariants::broken(&self.world).map_or(Ok(()), Err)
    }

    fn step(&mut self) -> Result<(), String> {
        self.counts.steps += 1;
        self.now = self.now + Duration::from_millis(self.random.next() % 20);
        if self.world.transactions.len() < self.world.scope.transactions.len() && self.random.chance(60) {
            let place = self.random.below(self.world.coordinators.len());
            if self.world.coordinators[place].core.is_some()
                && self.world.participants.iter().all(world::ParticipantNode::up)
            {
                self.world.begin(place, self.now);
                self.counts.transactions += 1;
                self.say(|| format!("begin at {place}"));
            }
        }
        match self.random.below(10) {
            0..=3 => self.deliver(),
            4..=5 => self.hook(),
            6 => self.log(),
            7 => self.clock(),
            8 => self.crash(),
            _ => self.ask(),
        }
        self.check()
    }

    fn deliver(&mut self) {
        let count = self.world.network.len();
        if count == 0 {
            return;
        }
        let message = self.world.network.keys().nth(self.random.below(count)).unwrap().clone();
        if self.random.chance(self.trouble.lost) {
            self.say(|| format!("lose {message:?}"));
            self.counts.lost += 1;
            self.world.lose(&message);
            return;
        }
        let keep = self.random.chance(self.trouble.repeated);
        self.counts.delivered += 1;
        self.counts.repeated += u64::from(keep);
        self.say(|| format!("deliver (keep {keep}) {message:?}"));
        self.world.deliver(&message, keep, self.now);
    }

    fn hook(&mut self) {
        let place = self.random.below(self.world.participants.len());
        let count = self.world.participants[place].hooks.len();
        if count == 0 {
            return;
        }
        let index = self.random.below(count);
        let command = &self.world.participants[place].hooks[index].command;
        let prepares = matches!(command, participant::Command::RunPrepare { .. });
        let end = if prepares && self.random.chance(self.trouble.refusal) {
            HookEnd::Fails
        } else if prepares && self.random.chance(self.trouble.read_only) {
            HookEnd::ReadOnly
        } else if !prepares && self.random.chance(self.trouble.hook_fails) {
            HookEnd::Fails
        } else {
            HookEnd::Done
        };
        self.say(|| format!("hook at {place} ends {end:?}"));
        self.world.finish_hook(place, index, end, self.now);
    }

    fn log(&mut self) {
        let count = self.world.log.writes.len();
        if count == 0 {
            return;
        }
        let index = self.random.below(count);
        let waited_for = self.world.log.writes[index].run.is_some();
        if waited_for && self.random.chance(self.trouble.log_silent) {
            self.counts.log_answers_lost += 1;
            self.say(|| "log is silent".into());
            self.world.log_silent(index, self.now);
        } else {
            let answered = !self.random.chance(self.trouble.answer_lost);
            self.counts.log_answers_lost += u64::from(!answered && waited_for);
            self.say(|| format!("log applies (answered {answered})"));
            self.world.log_applies(index, answered, self.now);
        }
    }

    fn clock(&mut self) {
        for place in 0..self.world.coordinators.len() {
            self.world.coordinator_timeout(place, self.now);
        }
        for place in 0..self.world.participants.len() {
            self.world.participant_timeout(place, self.now);
        }
        // Now and then a long time passes in which nothing happens.
        if self.random.chance(50) {
            self.now = self.now + Duration::from_secs(self.random.next() % 5);
        }
    }

    fn crash(&mut self) {
        let place = self.random.below(self.world.coordinators.len());
        let up = self.world.coordinators[place].core.is_some();
        if up && self.random.chance(self.trouble.coordinator_crash * 10) {
            self.counts.coordinator_crashes += 1;
            self.say(|| format!("crash coordinator {place}"));
            self.world.crash_coordinator(place);
        } else if !up && self.random.chance(300) {
            self.say(|| format!("start coordinator {place}"));
            self.world.start_coordinator(place, self.now);
        } else if up && self.random.chance(self.trouble.pause * 10) {
            self.counts.pauses += 1;
            self.say(|| format!("stop coordinator {place} by a signal"));
            self.world.coordinators[place].paused = true;
        } else if up && self.world.coordinators[place].paused && self.random.chance(300) {
            self.wake(place);
        }
        let place = self.random.below(self.world.participants.len());
        let up = self.world.participants[place].up();
        if up && self.random.chance(self.trouble.participant_crash * 10) {
            self.counts.participant_crashes += 1;
            self.say(|| format!("crash participant {place}"));
            self.world.crash_participant(place);
        } else if !up && self.random.chance(300) {
            self.say(|| format!("start participant {place}"));
            self.world.start_participant(place, self.now);
        }
    }

    fn wake(&mut self, place: usize) {
        self.say(|| format!("wake coordinator {place}"));
        self.world.coordinators[place].paused = false;
        self.world.read_live(place, self.now);
    }

    /// A living coordinator looks after incarnations, applications ask again, participants scan.
    fn ask(&mut self) {
        let by = self.random.below(self.world.coordinators.len());
        let node = &self.world.coordinators[by];
        if node.core.is_some() && !node.paused {
            let own = node.run;
            let run = self.random.below(self.world.runs);
            let dead = !self.world.coordinators.iter().any(|node| node.core.is_some() && node.run == run);
            let live = self.world.log.live.contains(&world::incarnation(run));
            let chance = if dead { 300 } else { self.trouble.suspicion * 10 };
            if live && run != own && self.random.chance(chance) {
                self.counts.incarnations_ended += 1;
                self.say(|| format!("coordinator {by} ends incarnation {run}"));
                self.world.end_incarnation(run, by, self.now);
            }
            if !self.world.transactions.is_empty() && self.random.chance(self.trouble.retry * 10) {
                let transaction = self.random.below(self.world.transactions.len());
                self.say(|| format!("retry commit of {transaction} at {by}"));
                self.world.deliver(&Message::Commit { to: by, transaction }, true, self.now);
            }
        }
        let place = self.random.below(self.world.participants.len());
        if self.random.chance(200) {
            self.world.scan(place, self.now);
        }
    }

    /// No trouble any more: everything is up, nothing is lost, dead incarnations are ended, and
    /// every application asks until it knows.
    fn heal(&mut self) -> Result<(), String> {
        self.trouble = Trouble::none();
        self.say(|| "heal".into());
        for place in 0..self.world.participants.len() {
            while let Some(hook) = self.world.participants[place].hooks.first() {
                if hook.life == self.world.participants[place].life && self.world.participants[place].up() {
                    break;
                }
                self.world.finish_hook(place, 0, HookEnd::Done, self.now);
            }
            if !self.world.participants[place].up() {
                self.world.start_participant(place, self.now);
            }
        }
        for place in 0..self.world.coordinators.len() {
            if self.world.coordinators[place].core.is_none() {
                self.world.start_coordinator(place, self.now);
            }
            self.wake(place);
            // One that lost its incarnation starts anew, as its shell would.
            let run = self.world.coordinators[place].run;
            if !self.world.log.live.contains(&world::incarnation(run)) {
                self.world.crash_coordinator(place);
                self.world.start_coordinator(place, self.now);
            }
        }
        for run in 0..self.world.runs {
            let dead = !self.world.coordinators.iter().any(|node| node.run == run);
            if dead && self.world.log.live.contains(&world::incarnation(run)) {
                self.counts.incarnations_ended += 1;
                self.world.end_incarnation(run, 0, self.now);
            }
        }
        self.world.recover(0, self.now);
        for round in 0..40 {
            for transaction in 0..self.world.transactions.len() {
                if self.world.transactions[transaction].told.is_empty() {
                    let to = round % self.world.coordinators.len();
                    self.world.send(Message::Commit { to, transaction });
                }
            }
            self.settle_down()?;
            self.now = self.now + Duration::from_secs(5);
            for place in 0..self.world.participants.len() {
                self.world.scan(place, self.now);
            }
            for place in 0..self.world.coordinators.len() {
                self.world.coordinator_timeout(place, self.now);
            }
            for place in 0..self.world.participants.len() {
                self.world.participant_timeout(place, self.now);
            }
            self.settle_down()?;
            if self.unfinished().is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Until no message, statement or write is under way.
    fn settle_down(&mut self) -> Result<(), String> {
        for _ in 0..200_000 {
            let busy = !self.world.network.is_empty()
                || !self.world.log.writes.is_empty()
                || self.world.participants.iter().any(|node| !node.hooks.is_empty());
            if !busy {
                return Ok(());
            }
            match self.random.below(4) {
                0..=1 => self.deliver(),
                2 => self.hook(),
                _ => self.log(),
            }
            self.check()?;
        }
        Err("I10: messages never come to an end".into())
    }

    /// What is still not finished, in words.
    fn unfinished(&self) -> Option<String> {
        for (number, transaction) in self.world.transactions.iter().enumerate() {
            if transaction.told.is_empty() {
                return Some(format!("AC5: the application of transaction {number} has no answer"));
            }
        }
        for node in &self.world.participants {
            for (key, held) in &node.database.branches {
                if matches!(held, Held::Prepared(_) | Held::Open) {
                    return Some(format!("I4: {key:?} is still {held:?}"));
                }
            }
        }
        for node in &self.world.coordinators {
            if let Some(view) = node.core.as_ref().and_then(|core| core.transactions(self.now).next()) {
                return Some(format!("I4: {} is still {:?}", view.id, view.phase));
            }
        }
        None
    }

    fn demand_an_end(&mut self) -> Result<(), String> {
        if let Some(what) = self.unfinished() {
            return Err(what);
        }
        for transaction in &self.world.transactions {
            match transaction.told.first() {
                Some(Told::Committed | Told::ReadOnly) => self.counts.committed += 1,
                Some(Told::Aborted) => self.counts.aborted += 1,
                None => {}
            }
        }
        self.check()
    }
}

fn run_seed(
    seed: u64,
    coordinator: coordinator::Config,
    participant: participant::Config,
    trace: bool,
) -> (Result<(), String>, Counts) {
    let mut simulation = Simulation::new(seed, coordinator, participant);
    simulation.trace = trace;
    let result = simulation.run();
    (result, simulation.counts)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn seeds() {
    let seeds = setting("PACTUM_SEEDS", 30_000);
    let threads = 2;
    let handles: Vec<_> = (0..threads)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut total = Counts::default();
                for seed in (thread..seeds).step_by(usize::try_from(threads).unwrap()) {
                    let (result, counts) = run_seed(
                        seed,
                        coordinator::Config::default(),
                        participant::Config::default(),
                        false,
                    );
                    if let Err(what) = result {
                        panic!(
                            "{what}\nPACTUM_SEED={seed} cargo test -p pactum-core-checks --test simulation replay -- --nocapture"
                        );
                    }
                    total.add(&counts);
                }
                total
            })
        })
        .collect();
    let mut total = Counts::default();
    for handle in handles {
        total.add(&handle.join().unwrap());
    }
    println!("{seeds} seeds: {total:?}");
    let share = total.committed * 100 / total.transactions.max(1);
    assert!((30..=80).contains(&share), "commit ratio {share} % is outside 30 to 80 %");
    assert_eq!(total.committed + total.aborted, total.transactions);
    // Nothing that the run is there for may be missing.
    let counted: BTreeMap<&str, u64> = [
        ("lost", total.lost),
        ("repeated", total.repeated),
        ("coordinator crashes", total.coordinator_crashes),
        ("participant crashes", total.participant_crashes),
        ("incarnations ended", total.incarnations_ended),
        ("log answers lost", total.log_answers_lost),
        ("pauses", total.pauses),
    ]
    .into();
    for (what, count) in counted {
        assert!(count >= seeds / 10, "too few: {what} {count}");
    }
}

/// Replays `PACTUM_SEED` with its trace; without one it replays seed 0 twice and compares.
#[test]
fn replay() {
    let run =
        |seed, trace| run_seed(seed, coordinator::Config::default(), participant::Config::default(), trace);
    if let Ok(seed) = std::env::var("PACTUM_SEED") {
        let (result, counts) = run(seed.parse().unwrap(), true);
        println!("{counts:?}");
        result.unwrap();
        return;
    }
    for seed in 0..20 {
        let (first, second) = (run(seed, false), run(seed, false));
        assert_eq!(format!("{first:?}"), format!("{second:?}"), "seed {seed} does not replay");
    }
}

/// Whether some seed catches the fault.
fn caught(coordinator: &coordinator::Config, participant: &participant::Config) -> Option<(u64, String)> {
    (0..setting("PACTUM_SEEDS", 30_000)).find_map(|seed| {
        let (result, _) = run_seed(seed, coordinator.clone(), participant.clone(), false);
        result.err().map(|what| (seed, what))
    })
}

#[test]
fn mutants_are_caught() {
    let mutants = [
        Mutant::CommitBeforeRecorded,
        Mutant::FinishedBeforeLastAck,
        Mutant::AbortToInquiryWhileVoting,
        Mutant::DeadlineAfterProposed,
        Mutant::UnknownTakenForAborted,
        Mutant::StartsTwice,
        Mutant::FreeAbortAfterOnePhase,
        Mutant::ForeignCommitRuns,
    ];
    for mutant in mutants {
        let config = coordinator::Config { mutant: Some(mutant), ..coordinator::Config::default() };
        let (seed, what) = caught(&config, &participant::Config::default())
            .unwrap_or_else(|| panic!("mutant {mutant:?} was not caught"));
        println!("mutant {mutant:?}: caught at seed {seed}: {what}");
    }
    let mutants = [
        participant::Mutant::AbortsAloneInDoubt,
        participant::Mutant::VotesBeforeDurable,
        participant::Mutant::AcknowledgesEarly,
    ];
    for mutant in mutants {
        let config = participant::Config { mutant: Some(mutant), ..participant::Config::default() };
        let (seed, what) = caught(&coordinator::Config::default(), &config)
            .unwrap_or_else(|| panic!("mutant {mutant:?} was not caught"));
        println!("mutant {mutant:?}: caught at seed {seed}: {what}");
    }
}
