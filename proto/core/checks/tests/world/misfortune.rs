//! What seldom happens: an instance that is lost, a branch ended by hand, a branch that is back after
//! its end, a floor that is raised, a log that goes back in time.

use pactum_core_checked::coordinator::Event;
use pactum_core_checked::id::{Gid, Incarnation};
use pactum_core_checked::participant::BranchKey;
use pactum_core_checked::time::Timestamp;

use super::{Held, Message, World, incarnation, instance};

impl World {
    /// A coordinator has not heard of an instance for longer than it waits: the stream between them,
    /// with all that is in it, is gone, whether or not the instance still lives.
    pub fn lose_instance(&mut self, place: usize, coordinator: usize, now: Timestamp) {
        let run = self.coordinators[coordinator].run;
        self.network.retain(|message, _| match message {
            Message::ToParticipant { to, from, .. } => *to != place || *from != run,
            Message::ToCoordinator { to, from, .. } => *from != place || *to != run,
            Message::Commit { .. } | Message::Ask { .. } => true,
        });
        let node = &self.participants[place];
        let life = if node.up() { node.life } else { node.life - 1 };
        let event =
            Event::InstanceLost { resource: node.resource().clone(), instance: instance(place, life) };
        self.tell_coordinator(coordinator, event, now);
    }

    /// A person ends a prepared branch in its database (D8, G2).
    pub fn end_by_hand(&mut self, place: usize, key: BranchKey, commit: bool) {
        let database = &mut self.participants[place].database;
        let Some(held) = database.branches.get_mut(&key) else { return };
        let Held::Prepared(evidence) = held.clone() else { return };
        *held = if commit { Held::Committed(evidence) } else { Held::Aborted };
        database.by_hand.insert(key);
    }

    /// The database fails over and loses the end of a branch: it is prepared again (D5, D6).
    pub fn reappear(&mut self, place: usize, key: BranchKey) {
        let database = &mut self.participants[place].database;
        let Some(held) = database.branches.get_mut(&key) else { return };
        let Held::Committed(evidence) = held.clone() else { return };
        *held = Held::Prepared(evidence);
        database.reappeared.insert(key);
    }

    /// The floor is raised; `told`: the living coordinators hear of it at once, else not at all.
    pub fn raise_floor(&mut self, gid: Gid, told: bool, now: Timestamp) {
        self.log.raise_floor(gid);
        if told {
            for place in 0..self.coordinators.len() {
                self.tell_coordinator(place, Event::FloorRaised { floor: gid }, now);
            }
        }
    }

    /// The coordinator in this place finds its incarnation doubted: it vouches, or has it ended.
    pub fn vouch(&mut self, place: usize, now: Timestamp) {
        let own = incarnation(self.coordinators[place].run);
        if self.log.may_vouch(own) {
            self.log.doubted.remove(&own);
        } else {
            self.end_incarnation(self.coordinators[place].run, place, now);
        }
    }

    /// A person has looked, and takes the incarnation out of doubt.
    pub fn release(&mut self, released: Incarnation) {
        self.log.doubted.remove(&released);
    }
}
