//! One seed: a workload and its trouble, then everything is healed and everybody must finish.

use std::time::Duration;

use pactum_core_checked::coordinator::{self, Event};
use pactum_core_checked::participant;
use pactum_core_checked::time::Timestamp;

use super::Faults;
use super::trouble::{Counts, Random, Trouble};
use super::world::participants::HookEnd;
use super::world::{self, Held, Message, Scope, Told, World, invariants};

/// A link between a participant and a coordinator that does not work.
#[derive(Clone, Copy, Debug)]
struct Cut {
    participant: usize,
    /// The coordinator's run; all of them: the participant is cut off.
    run: Option<usize>,
    to_participant: bool,
    to_coordinator: bool,
    /// Whether messages wait for the link, or are lost.
    holds: bool,
}

pub(crate) struct Simulation {
    random: Random,
    world: World,
    now: Timestamp,
    trouble: Trouble,
    /// Whether the seed has no trouble at all.
    calm: bool,
    cuts: Vec<Cut>,
    /// While the log cannot be reached, until then.
    log_away: Option<Timestamp>,
    pub(crate) counts: Counts,
    pub(crate) trace: bool,
}

impl Simulation {
    pub(crate) fn new(seed: u64, faults: &Faults) -> Self {
        let mut random = Random(seed);
        let trouble = Trouble::draw(&mut random);
        let participants = 2 + random.below(3);
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
            goes_back: trouble.goes_back > 0,
            log_mutant: faults.log,
            database_mutant: faults.database,
            coordinator: coordinator::Config { mutant: faults.coordinator, ..Default::default() },
            participant: participant::Config { mutant: faults.participant, ..Default::default() },
            ..Scope::default()
        };
        Self {
            world: World::new(scope),
            random,
            now: Timestamp::ORIGIN,
            calm: trouble.is_none(),
            trouble,
            cuts: Vec::new(),
            log_away: None,
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

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:?} {}", self.now, what());
        }
    }

    fn check(&self) -> Result<(), String> {
        invariants::broken(&self.world).map_or(Ok(()), Err)
    }

    /// Looks at everything at every sixteenth step: what is broken stays so, and looking costs more
    /// than stepping.
    fn check_now_and_then(&self) -> Result<(), String> {
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
            if self.world.coordinators[place].core.is_some()
                && self.world.participants.iter().all(world::ParticipantNode::up)
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

    /// What the link between a message's ends does to it.
    fn cut(&self, message: &Message) -> Option<Cut> {
        let (participant, run, down) = match message {
            Message::ToParticipant { to, from, .. } => (*to, *from, true),
            Message::ToCoordinator { to, from, .. } => (*from, *to, false),
            Message::Commit { .. } => return None,
        };
        let hits = |cut: &&Cut| {
            cut.participant == participant
                && cut.run.is_none_or(|cut| cut == run)
                && if down { cut.to_participant } else { cut.to_coordinator }
        };
        self.cuts.iter().find(hits).copied()
    }

    /// Links are cut, one way or both, some at once, and healed in any order.
    fn partition(&mut self) {
        if self.random.chance(self.trouble.cut * 10) {
            for _ in 0..=self.random.below(3) {
                let place = self.random.below(self.world.coordinators.len());
                let run = self.random.chance(600).then(|| self.world.coordinators[place].run);
                let way = self.random.below(3);
                let cut = Cut {
                    participant: self.random.below(self.world.participants.len()),
                    run,
                    to_participant: way != 0,
                    to_coordinator: way != 1,
                    holds: self.random.chance(500),
                };
                self.counts.partitions += 1;
                self.say(|| format!("cut {cut:?}"));
                self.cuts.push(cut);
            }
        }
        if !self.cuts.is_empty() && self.random.chance(250) {
            let healed = self.cuts.swap_remove(self.random.below(self.cuts.len()));
            self.say(|| format!("heal {healed:?}"));
        }
        if self.random.chance(self.trouble.instance_lost * 10) {
            let place = self.random.below(self.world.participants.len());
            let coordinator = self.random.below(self.world.coordinators.len());
            if self.world.coordinators[coordinator].core.is_some() {
                self.counts.instances_lost += 1;
                self.say(|| format!("coordinator {coordinator} has not heard of {place} for long"));
                self.world.lose_instance(place, coordinator, self.now);
            }
        }
    }

    fn deliver(&mut self) {
        let count = self.world.network.len();
        if count == 0 {
            return;
        }
        let message = self.world.network.keys().nth(self.random.below(count)).unwrap().clone();
        let cut = self.cut(&message);
        if cut.is_some_and(|cut| cut.holds) {
            self.counts.messages_held += 1;
            return;
        }
        if cut.is_some() || self.random.chance(self.trouble.lost) {
            self.say(|| format!("lose {message:?}"));
            self.counts.messages_lost += 1;
            self.world.lose(&message);
            return;
        }
        let keep = self.random.chance(self.trouble.repeated);
        self.counts.messages_delivered += 1;
        self.counts.messages_repeated += u64::from(keep);
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
        self.say(|| {
            format!("hook at {place} ends {end:?}: {:?}", self.world.participants[place].hooks[index].command)
        });
        let node = &self.world.participants[place];
        if end == HookEnd::Fails && node.hooks[index].life != node.life {
            // Of a process that is gone: its connection is gone with it, and its work rolled back.
            self.world.drop_hook(place, index);
        } else {
            self.world.finish_hook(place, index, end, self.now);
        }
    }

    fn log(&mut self) {
        self.log_trouble();
        let count = self.world.log.writes.len();
        if count == 0 || self.log_away.is_some() {
            return;
        }
        let index = self.random.below(count);
        let waited_for = self.world.log.writes[index].run.is_some();
        if waited_for && self.random.chance(self.trouble.log_silent) {
            self.counts.lost_writes += 1;
            self.say(|| "log is silent".into());
            self.world.log_silent(index, self.now);
        } else {
            let answered = !self.random.chance(self.trouble.answer_lost);
            self.counts.lost_writes += u64::from(!answered && waited_for);
            self.say(|| format!("log applies (answered {answered})"));
            self.world.log_applies(index, answered, self.now);
        }
    }

    /// The log's own server has trouble.
    fn log_trouble(&mut self) {
        if self.random.chance(self.trouble.log_crash * 10) && !self.world.log.writes.is_empty() {
            // It had synced some of what was handed to it; of the rest nothing is left. Nobody
            // is told which.
            let synced = self.random.below(self.world.log.writes.len() + 1);
            self.counts.log_crashes += 1;
            self.say(|| format!("log crashes, {synced} writes were synced"));
            for _ in 0..synced {
                self.counts.lost_writes += u64::from(self.world.log.writes[0].run.is_some());
                self.world.log_applies(0, false, self.now);
            }
            while let Some(write) = self.world.log.writes.first() {
                if write.run.is_some() {
                    self.counts.lost_writes += 1;
                    self.world.log_silent(0, self.now);
                    // Its orphan went to the end of the queue, or stands here; either way it is gone.
                }
                self.world.log.writes.retain(|write| write.run.is_some());
            }
        }
        match self.log_away {
            None if self.random.chance(self.trouble.log_outage * 10) => {
                self.counts.log_outages += 1;
                self.log_away = Some(self.now + Duration::from_secs(1 + self.random.next() % 180));
                self.say(|| "log is away".into());
                self.tell_log_available(false);
            }
            Some(until) if until <= self.now => self.log_back(),
            Some(_) if self.random.chance(100) => {
                self.now = self.now + Duration::from_secs(self.random.next() % 60);
            }
            None | Some(_) => {}
        }
        if self.random.chance(self.trouble.goes_back * 10) {
            self.counts.goes_back += 1;
            self.say(|| "log goes back in time".into());
            self.world.log.go_back();
        }
    }

    fn log_back(&mut self) {
        if self.log_away.take().is_some() {
            self.say(|| "log is back".into());
            self.tell_log_available(true);
        }
    }

    fn tell_log_available(&mut self, available: bool) {
        for place in 0..self.world.coordinators.len() {
            self.world.tell_coordinator(place, Event::LogAvailabilityChanged { available }, self.now);
        }
    }

    /// Coordinators vouch for their incarnations, a person releases what was not lost, and the floor
    /// passes what is finished.
    fn keep_log(&mut self) {
        if !self.world.log.doubted.is_empty() {
            for place in 0..self.world.coordinators.len() {
                let node = &self.world.coordinators[place];
                let own = world::incarnation(node.run);
                if node.core.is_some() && !node.paused && self.world.log.doubted.contains(&own) {
                    self.world.vouch(place, self.now);
                }
            }
            let released: Vec<_> = {
                let log = &self.world.log;
                let dead = log.doubted.iter().filter(|doubted| !log.live.contains(doubted));
                dead.filter(|doubted| log.may_release(**doubted)).copied().collect()
            };
            for released in released {
                self.world.release(released);
            }
        }
        if self.random.chance(self.trouble.floor * 10) && !self.world.transactions.is_empty() {
            let oldest = self.random.below(self.world.transactions.len().div_ceil(2));
            let settled = self.world.transactions[..=oldest]
                .iter()
                .all(|transaction| !transaction.told.is_empty() && !self.is_open(&transaction.id));
            if settled && self.world.log.may_forget(world::gid(oldest)) {
                self.counts.floor_raises += 1;
                self.say(|| format!("the floor passes transaction {oldest}"));
                self.world.raise_floor(world::gid(oldest), true, self.now);
            }
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
        let available = self.log_away.is_none();
        self.world.tell_coordinator(place, Event::LogAvailabilityChanged { available }, self.now);
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
                self.counts.takeovers += 1;
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
        self.trouble = Trouble::default();
        self.cuts.clear();
        self.log_back();
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
                self.counts.takeovers += 1;
                self.world.end_incarnation(run, 0, self.now);
            }
        }
        self.keep_log();
        self.world.recover(0, self.now);
        for round in 0..40 {
            self.keep_log();
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
            self.counts.steps += 1;
            self.check_now_and_then()?;
        }
        Err("I10: messages never come to an end".into())
    }

    /// Whether somebody is still at work on a transaction.
    fn is_open(&self, id: &pactum_core_checked::id::TransactionId) -> bool {
        let held = |held: &Held| matches!(held, Held::Prepared(_) | Held::Open);
        let branches = self.world.participants.iter().flat_map(|node| &node.database.branches);
        let mut open = self.world.coordinators.iter().filter_map(|node| node.core.as_ref());
        branches.into_iter().any(|(key, state)| key.id == *id && held(state))
            || open.any(|core| core.transactions(self.now).any(|view| view.id == *id))
    }

    /// Whether a transaction waits for a person: its commit may be lost with the log's past, or its
    /// record was forgotten before a late statement of it landed (B8).
    fn is_held(&self, id: &pactum_core_checked::id::TransactionId) -> bool {
        self.world.log.doubted.contains(&id.incarnation) || id.gid <= self.world.log.floor
    }

    /// What is still not finished, in words.
    fn unfinished(&self) -> Option<String> {
        for (number, transaction) in self.world.transactions.iter().enumerate() {
            if transaction.told.is_empty() && !self.is_held(&transaction.id) {
                return Some(format!("AC5: the application of transaction {number} has no answer"));
            }
        }
        for node in &self.world.participants {
            for (key, held) in &node.database.branches {
                if matches!(held, Held::Prepared(_) | Held::Open) && !self.is_held(&key.id) {
                    return Some(format!("I4: {key:?} is still {held:?}"));
                }
            }
        }
        for node in &self.world.coordinators {
            let mut open = node.core.iter().flat_map(|core| core.transactions(self.now));
            if let Some(view) = open.find(|view| !self.is_held(&view.id)) {
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
                None => self.counts.in_quarantine += 1,
            }
        }
        if self.calm && self.counts.aborted > 0 {
            return Err(format!("AC4: {} aborts, and nothing went wrong", self.counts.aborted));
        }
        self.check()
    }
}
