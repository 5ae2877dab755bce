//! What goes wrong, and when it is over again: drawn from the seed, carried out on the simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use turmoil::Sim;

use crate::dice::Dice;
use crate::hosts::coordinator_name;
use crate::log::SimulatedLog;
use crate::plan::Every;
use crate::world::World;

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Kill,
    PowerOff,
    Stop,
    Hold,
    Cut,
    Pause,
    LogCrash,
    LogUnreachable,
}

const KINDS: [Kind; 8] = [
    Kind::Kill,
    Kind::PowerOff,
    Kind::Stop,
    Kind::Hold,
    Kind::Cut,
    Kind::Pause,
    Kind::LogCrash,
    Kind::LogUnreachable,
];

/// A crash of the log, or of a coordinator, waits this long for a decision that is being written, so
/// that it meets one more often than by chance.
const AIM: Duration = Duration::from_millis(1_500);

/// How a fault ends.
#[derive(Clone, Debug)]
enum End {
    Start(String),
    Release(Vec<(String, String)>),
    Repair(Vec<(String, String)>),
    LogBack,
    LogReachable(usize),
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Processes ended without warning.
    pub crashes: u64,
    /// Processes stopped in good order.
    pub stops: u64,
    /// Coordinators among them, while a decision of theirs was being written.
    pub crashes_while_deciding: u64,
    /// Episodes in which hosts could not talk to each other, or one could not to the log.
    pub partitions: u64,
    /// Episodes in which nothing reached or left a host, and all of it went on afterwards.
    pub pauses: u64,
}

/// Whether a host's process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Stopping,
    Down,
}

/// Carries the faults out.
#[derive(Debug)]
pub struct Faults {
    dice: Dice,
    every: Every,
    world: Arc<World>,
    log: SimulatedLog,
    hosts: BTreeMap<String, State>,
    coordinators: usize,
    next: BTreeMap<Kind, Duration>,
    /// Numbered, as two may be due at once.
    ends: BTreeMap<(Duration, u64), End>,
    ends_so_far: u64,
    counts: FaultCounts,
}

impl Faults {
    /// For these hosts; coordinators are the first so many of them, by their order in the simulation.
    pub fn new(world: &Arc<World>, log: &SimulatedLog, hosts: impl IntoIterator<Item = String>) -> Self {
        let plan = &world.plan;
        Self {
            dice: Dice::new(plan.seed, 3),
            every: plan.every.clone(),
            world: Arc::clone(world),
            log: log.clone(),
            hosts: hosts.into_iter().map(|host| (host, State::Up)).collect(),
            coordinators: plan.coordinators,
            next: BTreeMap::new(),
            ends: BTreeMap::new(),
            ends_so_far: 0,
            counts: FaultCounts::default(),
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> FaultCounts {
        self.counts
    }

    fn mean(&self, kind: Kind) -> Option<Duration> {
        match kind {
            Kind::Kill => self.every.kill,
            Kind::PowerOff => self.every.power_off,
            Kind::Stop => self.every.stop,
            Kind::Hold => self.every.hold,
            Kind::Cut => self.every.cut,
            Kind::Pause => self.every.pause,
            Kind::LogCrash => self.every.log_crash,
            Kind::LogUnreachable => self.every.log_unreachable,
        }
    }

    /// Does what is due at this time.
    pub fn step(&mut self, sim: &mut Sim<'_>, now: Duration) {
        self.end_due(sim, now);
        self.restart_stopped(sim, now);
        for kind in KINDS {
            let Some(mean) = self.mean(kind) else { continue };
            let due = match self.next.get(&kind) {
                Some(due) => *due,
                None => self.draw_next(kind, mean, now),
            };
            let waits = matches!(kind, Kind::LogCrash | Kind::Kill | Kind::PowerOff);
            let is_aimed = waits && now < due + AIM && self.log.writes_for().is_none();
            if due <= now && !is_aimed {
                self.strike(kind, sim, now);
                self.draw_next(kind, mean, now);
            }
        }
    }

    fn draw_next(&mut self, kind: Kind, mean: Duration, now: Duration) -> Duration {
        let due = now + self.dice.time(Duration::from_millis(10), mean * 2);
        self.next.insert(kind, due);
        due
    }

    /// Ends everything that is wrong: from now on nothing is.
    pub fn heal(&mut self, sim: &mut Sim<'_>) {
        self.every = Every::default();
        for (_, end) in std::mem::take(&mut self.ends) {
            self.end(end, sim);
        }
        let pairs = self.pairs(|_, _| true);
        for (one, other) in &pairs {
            sim.release(one.as_str(), other.as_str());
            sim.repair(one.as_str(), other.as_str());
        }
        self.log.heal();
    }

    /// Starts what has stopped in good order. A process that ended by itself is an error of the run's.
    ///
    /// Whether all of them run.
    pub fn restart_stopped(&mut self, sim: &mut Sim<'_>, now: Duration) -> bool {
        let hosts: Vec<String> = self.hosts.keys().cloned().collect();
        for host in hosts {
            if self.hosts[&host] == State::Stopping && !sim.is_host_running(host.as_str()) {
                self.world.gone(&host);
                self.hosts.insert(host.clone(), State::Down);
                let pause = self.dice.time(Duration::ZERO, Duration::from_secs(2));
                self.ends_at(now + pause, End::Start(host));
            }
        }
        self.hosts.values().all(|state| *state == State::Up)
    }

    /// The process that ended without being told to, if one did.
    pub fn ended_by_itself(&self, sim: &mut Sim<'_>) -> Option<&str> {
        let mut up = self.hosts.iter().filter(|(_, state)| **state == State::Up);
        up.find(|(host, _)| !sim.is_host_running(host.as_str())).map(|(host, _)| host.as_str())
    }

    /// Ends what is due; also after the heal, for what was being stopped then.
    pub fn end_due(&mut self, sim: &mut Sim<'_>, now: Duration) {
        while let Some(entry) = self.ends.first_entry()
            && entry.key().0 <= now
        {
            let end = entry.remove();
            self.end(end, sim);
        }
    }

    fn ends_at(&mut self, at: Duration, end: End) {
        self.ends_so_far += 1;
        self.ends.insert((at, self.ends_so_far), end);
    }

    fn end(&mut self, end: End, sim: &mut Sim<'_>) {
        tracing::debug!(?end, "a fault ends");
        match end {
            End::Start(host) => {
                sim.bounce(host.as_str());
                self.hosts.insert(host, State::Up);
            }
            End::Release(pairs) => {
                for (a, b) in &pairs {
                    sim.release(a.as_str(), b.as_str());
                }
            }
            End::Repair(pairs) => {
                for (a, b) in &pairs {
                    sim.repair(a.as_str(), b.as_str());
                }
            }
            End::LogBack => self.log.come_back(),
            End::LogReachable(place) => self.log.set_reachable(place, true),
        }
    }

    fn strike(&mut self, kind: Kind, sim: &mut Sim<'_>, now: Duration) {
        match kind {
            Kind::Kill | Kind::PowerOff | Kind::Stop => self.end_process(kind, sim, now),
            Kind::Hold | Kind::Cut => self.part(kind, sim, now),
            Kind::Pause => self.pause(sim, now),
            Kind::LogCrash => {
                self.log.crash(now);
                let away = self.dice.time(Duration::from_millis(50), Duration::from_secs(6));
                tracing::debug!(?away, "the log crashes");
                self.ends_at(now + away, End::LogBack);
            }
            Kind::LogUnreachable => {
                let place = self.dice.place(self.coordinators);
                let away = self.dice.time(Duration::from_millis(200), Duration::from_secs(7));
                self.counts.partitions += 1;
                self.cut_off(place, now + away);
            }
        }
    }

    fn cut_off(&mut self, place: usize, until: Duration) {
        tracing::debug!(place, ?until, "the log cannot be reached by one coordinator");
        self.log.set_reachable(place, false);
        self.ends_at(until, End::LogReachable(place));
    }

    /// To the others the host has stopped, for longer or shorter than the lease; then all that it sent
    /// and was sent arrives late. Its own clock goes on.
    fn pause(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        let Some(host) = self.dice.pick(&names) else { return };
        let until = now + self.dice.time(Duration::from_millis(500), Duration::from_secs(9));
        tracing::debug!(host, ?until, "a host stands still");
        self.counts.pauses += 1;
        let pairs = self.pairs(|a, b| a == host || b == host);
        for (a, b) in &pairs {
            sim.hold(a.as_str(), b.as_str());
        }
        self.ends_at(until, End::Release(pairs));
        let mut places = 0..self.coordinators;
        if let Some(place) = places.find(|place| coordinator_name(*place) == *host) {
            self.cut_off(place, until);
        }
    }

    fn end_process(&mut self, kind: Kind, sim: &mut Sim<'_>, now: Duration) {
        let up: Vec<String> = self
            .hosts
            .iter()
            .filter(|(_, state)| **state == State::Up)
            .map(|(host, _)| host.clone())
            .collect();
        let Some(mut host) = self.dice.pick(&up).cloned() else { return };
        let deciding = self.log.writes_for().map(coordinator_name).filter(|name| up.contains(name));
        if kind == Kind::Stop {
            // Applications have nothing to stop: theirs is to be killed.
            if !host.starts_with("application") {
                tracing::debug!(host, "told to stop");
                self.world.tell_to_stop(&host);
                self.hosts.insert(host, State::Stopping);
                self.counts.stops += 1;
            }
            return;
        }
        if let Some(deciding) = deciding
            && (host == deciding || self.dice.chance(400))
        {
            self.counts.crashes_while_deciding += 1;
            host = deciding;
        }
        let away = self.dice.time(Duration::from_millis(20), Duration::from_secs(5));
        tracing::debug!(host, ?kind, ?away, "the process ends");
        if kind == Kind::PowerOff {
            // Nobody hears of it: what it sent last is lost, and so is the end of its connections.
            let pairs = self.pairs(|one, other| one == host || other == host);
            for (a, b) in &pairs {
                sim.partition(a.as_str(), b.as_str());
            }
            self.ends_at(now + away, End::Repair(pairs));
        }
        sim.crash(host.as_str());
        self.world.gone(&host);
        self.counts.crashes += 1;
        self.hosts.insert(host.clone(), State::Down);
        self.ends_at(now + away, End::Start(host));
    }

    /// Parts two hosts, or one from all others.
    fn part(&mut self, kind: Kind, sim: &mut Sim<'_>, now: Duration) {
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        let Some(one) = self.dice.pick(&names).cloned() else { return };
        let other = self.dice.pick(&names).cloned().filter(|other| *other != one);
        let pairs = match other {
            Some(other) => vec![(one, other)],
            // It was drawn twice, or the dice say so: all others.
            None => self.pairs(|a, b| a == one || b == one),
        };
        let lasts = self.dice.time(Duration::from_millis(100), Duration::from_secs(8));
        let both_ways = self.dice.chance(600);
        tracing::debug!(?kind, ?pairs, ?lasts, both_ways, "hosts are parted");
        self.counts.partitions += 1;
        if kind == Kind::Hold {
            for (a, b) in &pairs {
                sim.hold(a.as_str(), b.as_str());
            }
            self.ends_at(now + lasts, End::Release(pairs));
            return;
        }
        for (a, b) in &pairs {
            if both_ways {
                sim.partition(a.as_str(), b.as_str());
            } else {
                sim.partition_oneway(a.as_str(), b.as_str());
            }
        }
        self.ends_at(now + lasts, End::Repair(pairs));
    }

    /// All pairs of different hosts that are meant, each once.
    fn pairs(&self, is_meant: impl Fn(&str, &str) -> bool) -> Vec<(String, String)> {
        let names: BTreeSet<&String> = self.hosts.keys().collect();
        let all = names
            .iter()
            .flat_map(|one| names.range::<String, _>((*one).clone()..).map(move |other| (*one, *other)));
        let meant = all.filter(|(one, other)| one != other && is_meant(one, other));
        meant.map(|(one, other)| (one.clone(), other.clone())).collect()
    }
}
