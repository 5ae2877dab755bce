//! The plan of faults, drawn from the seed, and its carrying out.
//!
//! Time is cut into spells. Each draws how hard processes, servers and links are hit in it, so
//! that some spells kill processes only, and some let everything go wrong at once (as swarm testing
//! does: Groce et al., *Swarm testing*, ISSTA 2012). Crash points that met the fewest transactions so far
//! come first, which spreads kills over all of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::child::{Child, Deed, Health, Kind};
use super::dice::Dice;
use super::guard::Guard;
use super::link::{Link, Weather};
use super::stage::{Server, Stage};

/// Crash points of a running coordinator, by the name of the step that has just been done.
pub(crate) const COORDINATOR_POINTS: &[&str] = &[
    "prepare-sent",
    "vote-received",
    "decision-handed-over",
    "decision-durable",
    "client-answered",
    "decision-sent",
    "branch-finished",
    "end-recorded",
];
/// Those of its start and of a takeover.
pub(crate) const COORDINATOR_START_POINTS: &[&str] = &["incarnation-started", "recovery-scanned"];
/// Crash points of a running participant.
pub(crate) const PARTICIPANT_POINTS: &[&str] = &[
    "work-done",
    "prepare-received",
    "prepared",
    "vote-sent",
    "decision-received",
    "branch-ended",
    "ack-sent",
    "inquiry-sent",
];
/// That of its start.
pub(crate) const PARTICIPANT_START_POINTS: &[&str] = &["recovery-scanned"];

/// Longer than the lease of 3 s, heartbeat and look included, and seldom longer than a transaction.
const PAUSE_MILLISECONDS: std::ops::Range<u64> = 4_200..6_000;
/// How long a spell lasts.
const SPELL_MILLISECONDS: std::ops::Range<u64> = 7_000..12_000;
/// Traps that are set at once, and have not sprung.
const TRAPS_MAX: usize = 4;

/// How hard everything is hit: milliseconds from one fault to the next; `None`: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spell {
    kills: u64,
    pauses: Option<u64>,
    servers: Option<u64>,
    links: Option<u64>,
}

impl Spell {
    /// Of each six in a row two are spells of killed processes alone, in which nothing excuses a slow
    /// recovery.
    fn draw(kinds: &mut Vec<u64>, dice: &mut Dice) -> Self {
        if kinds.is_empty() {
            kinds.extend(0..6);
        }
        let kind = kinds.swap_remove(dice.place(kinds.len()));
        let mut some = |wanted: bool, from: u64, to: u64| wanted.then(|| from + dice.below(to - from));
        Self {
            pauses: some(kind != 0, 2_500, 5_000),
            servers: some(matches!(kind, 2 | 5), 1_500, 3_000),
            links: some(matches!(kind, 3..=5), 400, 1_000),
            kills: 350 + dice.below(500),
        }
    }
}

/// Attacks until told to stop, and returns when every fault is over and healed.
pub(crate) async fn run(stage: &Arc<Stage>, seed: u64, stop: watch::Receiver<bool>) {
    let dice = Dice::new(seed);
    let mut spells = dice.fork(1);
    let mut kinds = Vec::new();
    let spell = watch::Sender::new(Spell::draw(&mut kinds, &mut spells));
    let attack = Arc::new(Attack {
        stage: Arc::clone(stage),
        guard: Mutex::new(Guard::new(stage.coordinators.len())),
        spell: spell.subscribe(),
        stop,
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&attack).kills(dice.fork(2)));
    tasks.spawn(Arc::clone(&attack).pauses(dice.fork(3)));
    tasks.spawn(Arc::clone(&attack).servers(dice.fork(4)));
    tasks.spawn(Arc::clone(&attack).links(dice.fork(5)));
    while attack.rest(spells.time(SPELL_MILLISECONDS)).await {
        spell.send_replace(Spell::draw(&mut kinds, &mut spells));
    }
    while tasks.join_next().await.is_some() {}
}

#[derive(Debug)]
struct Attack {
    stage: Arc<Stage>,
    guard: Mutex<Guard>,
    spell: watch::Receiver<Spell>,
    stop: watch::Receiver<bool>,
}

impl Attack {
    /// Waits; false once it is time to stop.
    async fn rest(&self, time: Duration) -> bool {
        let mut stop = self.stop.clone();
        tokio::time::timeout(time, stop.wait_for(|stop| *stop)).await.is_err()
    }

    /// Waits for about as long as the spell has it; false once it is time to stop.
    async fn pace(&self, dice: &mut Dice, of: impl Fn(Spell) -> Option<u64>) -> bool {
        loop {
            let spell = *self.spell.borrow();
            if let Some(mean) = of(spell) {
                return self.rest(dice.time(mean / 2..mean * 3 / 2)).await;
            }
            if !self.rest(Duration::from_millis(200)).await {
                return false;
            }
        }
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SIGKILLs of processes, at crash points and at random.
    async fn kills(self: Arc<Self>, mut dice: Dice) {
        let mut going_on: JoinSet<()> = JoinSet::new();
        while self.pace(&mut dice, |spell| Some(spell.kills)).await {
            while going_on.try_join_next().is_some() {}
            if going_on.len() >= TRAPS_MAX {
                continue;
            }
            // A coordinator whenever one may be; else somebody of whom there are others.
            let coordinator = self.guard().disturb(Instant::now());
            if let Some(place) = coordinator {
                let deed = self.deed(Kind::Coordinator, &mut dice);
                let attack = Arc::clone(&self);
                going_on.spawn(async move { attack.coordinator(place, deed).await });
                continue;
            }
            let stage = &self.stage;
            let child =
                if dice.chance(10) { dice.pick(&stage.applications) } else { dice.pick(&stage.banks) };
            if child.health() == Health::Up {
                let (child, deed) = (Arc::clone(child), self.deed(child.kind, &mut dice));
                going_on.spawn(async move {
                    child.order(deed).await;
                });
            }
        }
        while going_on.join_next().await.is_some() {}
    }

    /// Does it to a coordinator, and lets the guard know when it is over.
    async fn coordinator(&self, place: usize, deed: Deed) {
        let child = &self.stage.coordinators[place];
        child.up().await;
        child.order(deed).await;
        self.guard().over(place, Instant::now());
    }

    /// Where to kill next: where the fewest transactions were met so far, or at random.
    fn deed(&self, kind: Kind, dice: &mut Dice) -> Deed {
        let (running, start): (&[&str], &[&str]) = match kind {
            Kind::Coordinator => (COORDINATOR_POINTS, COORDINATOR_START_POINTS),
            Kind::Bank => (PARTICIPANT_POINTS, PARTICIPANT_START_POINTS),
            Kind::Application => (&[], &[]),
        };
        if running.is_empty() || dice.chance(10) {
            return Deed::Kill;
        }
        // At a start there is nothing in flight yet, so what counts there is the kill.
        let counts = self.stage.tally.lock();
        let met = |step: &str| {
            let list = if start.contains(&step) { &counts.kills_at } else { &counts.kills_mid_commit };
            list.get(&kind.point(step)).copied().unwrap_or(0)
        };
        let all: Vec<&'static str> = running.iter().chain(start).copied().collect();
        let fewest = all.iter().map(|step| met(step)).min().unwrap_or(0);
        // Some slack, so that a point that is seldom passed does not hold up the others.
        let rare: Vec<&'static str> = all.iter().copied().filter(|step| met(step) <= fewest + 1).collect();
        let among = if dice.chance(70) { &rare } else { &all };
        let step = *dice.pick(among);
        if start.contains(&step) { Deed::KillTwice(step) } else { Deed::KillAt(step) }
    }

    /// SIGSTOPs that are longer than the lease.
    async fn pauses(self: Arc<Self>, mut dice: Dice) {
        while self.pace(&mut dice, |spell| spell.pauses).await {
            let time = dice.time(PAUSE_MILLISECONDS);
            let deed = |dice: &mut Dice, points: &'static [&'static str]| {
                if dice.chance(50) {
                    Deed::PauseAt(points[dice.place(points.len())], time)
                } else {
                    Deed::Pause(time)
                }
            };
            let coordinator = if dice.chance(60) { self.guard().disturb(Instant::now()) } else { None };
            if let Some(place) = coordinator {
                self.coordinator(place, deed(&mut dice, COORDINATOR_POINTS)).await;
                continue;
            }
            let bank = dice.chance(80);
            let child = if bank { dice.pick(&self.stage.banks) } else { dice.pick(&self.stage.applications) };
            let deed = if bank { deed(&mut dice, PARTICIPANT_POINTS) } else { Deed::Pause(time) };
            if child.health() == Health::Up {
                child.order(deed).await;
            }
        }
    }

    /// SIGKILLs of whole servers.
    async fn servers(self: Arc<Self>, mut dice: Dice) {
        while self.pace(&mut dice, |spell| spell.servers).await {
            let server = dice.pick(&self.stage.servers.all).clone();
            let down = if dice.chance(70) { Duration::ZERO } else { dice.time(100..2_000) };
            self.crash(&server, down).await;
        }
    }

    async fn crash(&self, server: &Server, down: Duration) {
        let outage = self.stage.calm.outage();
        self.stage.tally.lock().postgres_kills += 1;
        self.stage.tally.list(&format!("PostgreSQL of {} is killed, and down for {down:?}", server.name));
        if let Err(error) = server.crash(down).await {
            self.stage
                .tally
                .violation(format!("PostgreSQL of {} does not come back: {error:#}", server.name));
        }
        drop(outage);
    }

    /// Delays, losses and cuts.
    async fn links(self: Arc<Self>, mut dice: Dice) {
        let mut going_on: JoinSet<()> = JoinSet::new();
        while self.pace(&mut dice, |spell| spell.links).await {
            while going_on.try_join_next().is_some() {}
            // Fronts of coordinators, and coordinators' links to the log, are the first three each.
            let (stage, coordinators) = (&self.stage, self.stage.coordinators.len());
            let link = match dice.below(100) {
                0..45 => dice.pick(&stage.fronts[..coordinators]),
                45..75 => dice.pick(&stage.links[..coordinators]),
                75..90 => dice.pick(&stage.links[coordinators..]),
                _ => dice.pick(&stage.fronts[coordinators..]),
            };
            let attack = Arc::clone(&self);
            let (link, fault) = (Arc::clone(link), Fault::draw(&mut dice));
            going_on.spawn(async move { attack.link(&link, fault).await });
        }
        while going_on.join_next().await.is_some() {}
    }

    async fn link(&self, link: &Link, fault: Fault) {
        self.stage.tally.lock().network_faults += 1;
        self.stage.tally.list(&format!("{}: {fault:?}", link.name));
        // A delay is no outage: nobody is excused by it.
        let outage = (!matches!(fault.weather, Weather::Delay(_))).then(|| self.stage.calm.outage());
        link.set(fault.weather, fault.percent);
        self.rest(fault.time).await;
        link.heal(fault.cut);
        drop(outage);
    }
}

/// What befalls a link.
#[derive(Clone, Copy, Debug)]
struct Fault {
    weather: Weather,
    percent: u64,
    time: Duration,
    /// Whether its connections end with the fault, or go on.
    cut: bool,
}

impl Fault {
    fn draw(dice: &mut Dice) -> Self {
        let weather = match dice.below(6) {
            0 => Weather::Delay(dice.time(5..120)),
            1 => Weather::LostUp,
            2 => Weather::LostDown,
            3 => Weather::Lost,
            4 => Weather::HalfOpen,
            _ => Weather::Clear, // no more than a cut
        };
        let cut = weather == Weather::Clear || dice.chance(40);
        let time = if weather == Weather::Clear { Duration::ZERO } else { dice.time(200..3_500) };
        let percent = if dice.chance(50) { 100 } else { 30 + dice.below(50) };
        Self { weather, percent, time, cut }
    }
}

/// Ends every fault that may be left, and waits until everything serves again.
pub(crate) async fn heal(stage: &Stage) -> anyhow::Result<()> {
    for link in stage.fronts.iter().chain(&stage.links) {
        link.heal(false);
    }
    for server in &stage.servers.all {
        server.revive().await?;
    }
    let up = async {
        for child in stage.coordinators.iter().chain(&stage.banks) {
            Child::up(child).await;
        }
    };
    if tokio::time::timeout(Duration::from_mins(1), up).await.is_err() {
        stage.tally.violation("not everything serves again within a minute of the last fault");
    }
    Ok(())
}
