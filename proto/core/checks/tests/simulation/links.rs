//! The network's trouble: links that are cut, and messages lost, repeated and held.

use super::seed::Simulation;
use super::world::Message;

/// A link between a participant and a coordinator that does not work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    participant: usize,
    /// The coordinator's run; all of them: the participant is cut off.
    run: Option<usize>,
    to_participant: bool,
    to_coordinator: bool,
    /// Whether messages wait for the link, or are lost.
    holds: bool,
}

impl Simulation {
    /// What the link between a message's ends does to it.
    fn cut(&self, message: &Message) -> Option<Cut> {
        let (participant, run, down) = match message {
            Message::ToParticipant { to, from, .. } => (*to, *from, true),
            Message::ToCoordinator { to, from, .. } => (*from, *to, false),
            Message::Commit { .. } | Message::Ask { .. } => return None,
        };
        let hits = |cut: &&Cut| {
            cut.participant == participant
                && cut.run.is_none_or(|cut| cut == run)
                && if down { cut.to_participant } else { cut.to_coordinator }
        };
        self.cuts.iter().find(hits).copied()
    }

    /// Links are cut, one way or both, some at once, and healed in any order.
    pub(crate) fn partition(&mut self) {
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

    pub(crate) fn deliver(&mut self) {
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
}
