//! The end of a seed: everything is healed, and everybody must finish (AC5, I4).

use std::time::Duration;

use pactum_core_checked::id::TransactionId;

use super::seed::Simulation;
use super::trouble::Trouble;
use super::world::participants::HookEnd;
use super::world::{self, Asks, Held, Message, Told};

impl Simulation {
    /// No trouble any more: everything is up, nothing is lost, dead incarnations are ended, and
    /// every application asks until it knows.
    pub(crate) fn heal(&mut self) -> Result<(), String> {
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
    pub(crate) fn is_open(&self, id: &TransactionId) -> bool {
        let held = |held: &Held| matches!(held, Held::Prepared(_) | Held::Open);
        let branches = self.world.participants.iter().flat_map(|node| &node.database.branches);
        let mut open = self.world.coordinators.iter().filter_map(|node| node.core.as_ref());
        branches.into_iter().any(|(key, state)| key.id == *id && held(state))
            || open.any(|core| core.transactions(self.now).any(|view| view.id == *id))
    }

    /// Whether a transaction waits for a person: its commit may be lost with the log's past, or its
    /// record was forgotten before a late statement of it landed (B8).
    fn is_held(&self, id: &TransactionId) -> bool {
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
        let asking =
            |ended: &&super::people::ByHand| self.is_asked_about(ended) && !self.is_held(&ended.key.id);
        if let Some(ended) = self.by_hand.iter().find(asking) {
            return Some(format!("I4: {:?} was ended by hand, and its process does not know it", ended.key));
        }
        for node in &self.world.coordinators {
            let mut open = node.core.iter().flat_map(|core| core.transactions(self.now));
            if let Some(view) = open.find(|view| !self.is_held(&view.id)) {
                return Some(format!("I4: {} is still {:?}", view.id, view.phase));
            }
        }
        None
    }

    pub(crate) fn demand_an_end(&mut self) -> Result<(), String> {
        if let Some(what) = self.unfinished() {
            return Err(what);
        }
        self.demand_reports()?;
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

    /// What people did against a decision is kept next to it and told with it; the decision itself has
    /// not changed (D8, law 11).
    fn demand_reports(&mut self) -> Result<(), String> {
        for index in 0..self.by_hand.len() {
            let ended = &self.by_hand[index];
            let key = ended.key;
            let number = self.world.transactions.iter().position(|transaction| transaction.id == key.id);
            let (Some(number), false) = (number, self.is_held(&key.id)) else { continue };
            let committed = self.world.logged_commit(number);
            let kept = self.world.log.heuristics.contains_key(&(key.id.gid, key.branch));
            let home = self.world.scope.home(world::place_of(key.branch));
            let database = &self.world.participants[home].database;
            let against = match database.branches.get(&key) {
                Some(Held::Aborted) => committed && !database.earlier.contains_key(&key),
                Some(Held::Committed(_)) => !committed && self.is_remembered(ended),
                Some(Held::Open | Held::Prepared(_)) | None => false,
            };
            // An abort is presumed, and need not wait for its branches: then the branch's own process knows
            // what was done, and says so to whoever asks it.
            let known = !committed && self.knows_better(key);
            if against && !kept && !known {
                return Err(format!(
                    "D8: {key:?} was ended by hand against the decision, and that is hidden"
                ));
            }
            self.counts.overruled += u64::from(against);
            if against && committed {
                self.demand_answer(number)?;
            }
        }
        Ok(())
    }

    /// Whoever asks for the outcome of an overruled commit hears of both, at every coordinator.
    fn demand_answer(&mut self, transaction: usize) -> Result<(), String> {
        for to in 0..self.world.coordinators.len() {
            self.world.transactions[transaction].heuristic = None;
            let what = Asks::Outcome { named: false };
            self.world.send(Message::Ask { to, transaction, what });
            self.settle_down()?;
            let asked = &self.world.transactions[transaction];
            if !asked.shown.contains(&Told::Committed) || asked.heuristic.is_none() {
                return Err(format!(
                    "D8: coordinator {to} does not tell that transaction {transaction} is mixed"
                ));
            }
        }
        Ok(())
    }
}
