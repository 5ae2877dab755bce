//! One seed: a workload and its trouble, then everything is healed and everybody must finish.

use std::time::Duration;

use pactum_core_checked::coordinator;
use pactum_core_checked::coordinator::Event;
use pactum_core_checked::participant;
use pactum_core_checked::time::Timestamp;

use super::Faults;
use super::counts::Counts;
use super::disk::Disk;
use super::links::Cut;
use super::people::ByHand;
use super::random::Random;
use super::trouble::Trouble;
use super::world::participants::HookEnd;
use super::world::{self, Scope, World, invariants};

pub(crate) struct Simulation {
    pub(crate) random: Random,
    pub(crate) world: World,
    pub(crate) now: Timestamp,
    pub(crate) trouble: Trouble,
    /// Whether the seed has no trouble at all.
    pub(crate) calm: bool,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) disk: Disk,
    pub(crate) by_hand: Vec<ByHand>,
    pub(crate) counts: Counts,
    pub(crate) trace: bool,
}

impl Simulation {
    pub(crate) fn new(seed: u64, faults: &Faults) -> Self {
        let mut random = Random(seed);
        let trouble = Trouble::draw(&mut random);
        let resources = 2 + random.below(3);
        // Some resources have a second process, which finds and ends what the first one left.
        let mut homes: Vec<usize> = (0..resources).collect();
        if random.chance(300) {
            let seconds = 1 + random.below(2);
            homes.extend((0..seconds).map(|_| random.below(resources)));
        }
        let participants = homes.len();
        let transactions = (0..16 + random.below(16))
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
            one_shot: random.chance(200),
            homes,
            talkative: true,
            goes_back: trouble.goes_back > 0,
            log_mutant: faults.log,
            database_mutant: faults.database,
            coordinator: coordinator::Config { mutant: faults.coordinator, ..Default::default() },
            participant: participant::Config { mutant: faults.participant, ..Default::default() },
        };
        let mut world = World::new(scope);
        world.encounters.keep();
        Self {
            world,
            random,
            now: Timestamp::ORIGIN,
            calm: trouble.is_none(),
            trouble,
            cuts: Vec::new(),
            disk: Disk::default(),
            by_hand: Vec::new(),
            counts: Counts::default(),
            trace: false,
        }
    }

    /// Faults first, then heal, and everybody must finish.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let steps = 700 + self.random.below(800);
        for _ in 0..steps {
            self.step()?;
        }
        self.heal()?;
        self.demand_an_end()
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:?} {}", self.now, what());
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        invariants::broken(&self.world).map_or(Ok(()), Err)
    }

    /// Looks at everything at every sixteenth step: what is broken stays so, and looking costs more
    /// than stepping.
    pub(crate) fn check_now_and_then(&self) -> Result<(), String> {
        if self.counts.steps.is_multiple_of(16) || self.trace {
            return self.check();
        }
        self.world.broken.clone().map_or(Ok(()), Err)
    }

    fn step(&mut self) -> Result<(), String> {
        self.counts.steps += 1;
        // Where nothing goes wrong nothing takes long either.
        let most = if self.calm { 2 } else { 20 };
        self.now = self.now + Duration::from_millis(self.random.next() % most);
        if self.world.transactions.len() < self.world.scope.transactions.len() && self.random.chance(60) {
            let place = self.random.below(self.world.coordinators.len());
            let next = &self.world.scope.transactions[self.world.transactions.len()];
            if self.world.coordinators[place].core.is_some()
                && next.iter().all(|place| self.world.participants[*place].up())
            {
                self.world.begin(place, self.now);
                self.counts.transactions += 1;
                self.say(|| format!("begin at {place}"));
            }
        }
        match self.random.below(11) {
            0..=4 => self.deliver(),
            5..=6 => self.hook(),
            7 => self.log(),
            8 => self.clock(),
            9 => self.crash(),
            _ => self.ask(),
        }
        self.check_now_and_then()
    }

    pub(crate) fn hook(&mut self) {
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
        self.say(|| {
            format!("hook at {place} ends {end:?}: {:?}", self.world.participants[place].hooks[index].command)
        });
        let node = &self.world.participants[place];
        let hook = &node.hooks[index];
        if end == HookEnd::Done
            && hook.life == node.life
            && let participant::Command::RunCommit { branch, .. }
            | participant::Command::RunAbort { branch, .. } = &hook.command
            && world::place_of(branch.id) != place
        {
            self.counts.ended_by_another_instance += 1;
        }
        if end == HookEnd::Fails && node.hooks[index].life != node.life {
            // Of a process that is gone: its connection is gone with it, and its work rolled back.
            self.world.drop_hook(place, index);
        } else {
            self.world.finish_hook(place, index, end, self.now);
        }
    }

    fn clock(&mut self) {
        self.keep_log();
        for place in 0..self.world.coordinators.len() {
            self.world.coordinator_timeout(place, self.now);
        }
        for place in 0..self.world.participants.len() {
            self.world.participant_timeout(place, self.now);
        }
        // Now and then a long time passes in which nothing happens.
        if !self.calm && self.random.chance(50) {
            self.now = self.now + Duration::from_secs(self.random.next() % 5);
        }
    }

    fn crash(&mut self) {
        self.partition();
        self.end_by_hand();
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
        } else if up && self.has_lost_its_incarnation(place) && self.random.chance(150) {
            self.say(|| format!("coordinator {place} takes a new incarnation"));
            self.world.crash_coordinator(place);
            self.world.start_coordinator(place, self.now);
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

    /// Whether a coordinator at work knows that its incarnation was ended.
    fn has_lost_its_incarnation(&self, place: usize) -> bool {
        let node = &self.world.coordinators[place];
        !node.paused && !self.world.log.live.contains(&world::incarnation(node.run))
    }

    pub(crate) fn wake(&mut self, place: usize) {
        self.say(|| format!("wake coordinator {place}"));
        self.world.coordinators[place].paused = false;
        let available = self.disk.away.is_none();
        self.world.tell_coordinator(place, Event::LogAvailabilityChanged { available }, self.now);
        self.world.read_live(place, self.now);
    }
}
