//! Who acts from outside: applications that ask again or give up, operators, whoever ends a branch by hand.

use pactum_core_checked::participant::BranchKey;

use super::seed::Simulation;
use super::world::{self, Asks, Held, Message};

/// A prepared branch that a person ended, and the processes that knew it as prepared.
#[derive(Debug)]
pub(crate) struct ByHand {
    pub(crate) key: BranchKey,
    /// Participant and life: as long as one of them lives, it asks what became of the branch.
    knew: Vec<(usize, usize)>,
}

impl Simulation {
    /// A living coordinator looks after incarnations, applications ask again, participants scan.
    pub(crate) fn ask(&mut self) {
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
                let transaction = self.some_transaction();
                self.say(|| format!("retry commit of {transaction} at {by}"));
                self.world.deliver(&Message::Commit { to: by, transaction }, true, self.now);
            }
        }
        self.ask_otherwise();
        let place = self.random.below(self.world.participants.len());
        if self.random.chance(200) {
            self.world.scan(place, self.now);
        }
    }

    /// Rather one that began just now, or that the log has forgotten.
    fn some_transaction(&mut self) -> usize {
        let count = self.world.transactions.len();
        let forgotten = (0..count).take_while(|number| world::gid(*number) <= self.world.log.floor).count();
        match self.random.below(10) {
            0..=5 => count - 1 - self.random.below(count.min(3)),
            6..=7 if forgotten > 0 => self.random.below(forgotten),
            _ => self.random.below(count),
        }
    }

    /// Somebody else asks: who wants to know an outcome, an application that gives up, an operator.
    fn ask_otherwise(&mut self) {
        let count = self.world.transactions.len();
        if count == 0 {
            return;
        }
        let chances = [self.trouble.question, self.trouble.cancel, self.trouble.resolve];
        for (kind, chance) in chances.into_iter().enumerate() {
            if !self.random.chance(chance * 10) {
                continue;
            }
            let transaction = self.some_transaction();
            let to = self.random.below(self.world.coordinators.len());
            let named = self.random.chance(500);
            let what = match kind {
                0 => Asks::Outcome { named },
                1 => Asks::Abort { named },
                _ => Asks::Resolve { named },
            };
            self.counts.cancels += u64::from(kind == 1);
            self.counts.resolves += u64::from(kind == 2);
            self.say(|| format!("{what:?} of {transaction} goes to {to}"));
            self.world.send(Message::Ask { to, transaction, what });
        }
    }

    /// A person ends a prepared branch in its database, along with its decision, against it, or ahead.
    pub(crate) fn end_by_hand(&mut self) {
        if !self.random.chance(self.trouble.by_hand * 10) {
            return;
        }
        let place = self.random.below(self.world.participants.len());
        let prepared = |(key, held): (&BranchKey, &Held)| matches!(held, Held::Prepared(_)).then_some(*key);
        let branches = &self.world.participants[place].database.branches;
        let found: Vec<BranchKey> = branches.iter().filter_map(prepared).collect();
        if found.is_empty() {
            return;
        }
        let key = found[self.random.below(found.len())];
        let commit = self.random.chance(500);
        let knew = self.who_knows(key);
        self.counts.ended_by_hand += 1;
        self.say(|| format!("a person ends {key:?} (commit {commit})"));
        self.world.end_by_hand(place, key, commit);
        self.by_hand.push(ByHand { key, knew });
    }

    /// The processes that know a branch as prepared.
    fn who_knows(&self, key: BranchKey) -> Vec<(usize, usize)> {
        let knows = |node: &&world::ParticipantNode| {
            node.core.as_ref().is_some_and(|core| matches!(core.state_of(key), "prepared" | "in quarantine"))
        };
        self.world.participants.iter().filter(knows).map(|node| (node.place, node.life)).collect()
    }

    /// Whether some process that knew the branch as prepared has lived on: it asks, and so what was done
    /// is heard of. Of a branch that nobody remembers, and that no scan finds, nobody can hear.
    pub(crate) fn is_remembered(&self, ended: &ByHand) -> bool {
        ended.knew.iter().any(|(place, life)| self.world.participants[*place].life == *life)
    }

    /// Whether somebody still asks what became of a branch that a person ended.
    pub(crate) fn is_asked_about(&self, ended: &ByHand) -> bool {
        !self.who_knows(ended.key).is_empty()
    }

    /// Whether a process has found out that the branch ended without its decision.
    pub(crate) fn knows_better(&self, key: BranchKey) -> bool {
        let state = |node: &world::ParticipantNode| node.core.as_ref().map(|core| core.state_of(key));
        self.world.participants.iter().any(|node| state(node) == Some("ended without the decision"))
    }
}
