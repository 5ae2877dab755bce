//! Which coordinators' streams are lost, and which coordinators are gone for good.
//!
//! Lost is a stream; what is prepared is asked about elsewhere once it has been lost for a grace.
//! Gone is an incarnation that the log has ended: coordinators had named it, and name it no longer.
//!
//! # How long a branch waits at most
//!
//! With default settings, after a coordinator is killed: the living see its heartbeat (1 s) stand still
//! for its lease (3 s), and end it at a look of their own (at most 1 s later): about 4 to 5 s. What was
//! decided they drive at once. What was not is asked for each second by its prepared branches, from
//! the grace (2 s) on, and the first inquiry after the end closes it: at most 1 s more, and the time
//! that the database takes. A participant that knows one address only, and loses that coordinator before
//! it was told of another, has to wait for that address.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pactum_core::id::Incarnation;
use tokio::time::Instant;

/// What is remembered of coordinators as owners.
#[derive(Debug)]
pub(super) struct Owners {
    grace: Duration,
    /// Streams that are lost, and when that is worth asking elsewhere.
    lost: BTreeMap<Incarnation, Instant>,
    /// Named at some time and not yet found gone.
    named: BTreeSet<Incarnation>,
}

impl Owners {
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, lost: BTreeMap::new(), named: BTreeSet::new() }
    }

    /// Its stream is open.
    pub(super) fn attached(&mut self, incarnation: Incarnation) {
        self.lost.remove(&incarnation);
    }

    /// Its last stream has ended.
    pub(super) fn detached(&mut self, incarnation: Incarnation, now: Instant) {
        self.lost.entry(incarnation).or_insert(now + self.grace);
    }

    /// Coordinators name those that live; answers those that lived and do not any more.
    /// Where nobody is named (older coordinators, or none with a view of the log) nothing is said.
    pub(super) fn named(&mut self, living: impl Iterator<Item = Incarnation>) -> Vec<Incarnation> {
        let living: BTreeSet<Incarnation> = living.collect();
        if living.is_empty() {
            return Vec::new();
        }
        let gone: Vec<Incarnation> = self.named.difference(&living).copied().collect();
        self.named = living;
        gone
    }

    /// When a lost stream is worth asking elsewhere.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lost.values().min().copied()
    }

    /// Whether that is so now. Each loss is told once.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let before = self.lost.len();
        self.lost.retain(|_, due| *due > now);
        self.lost.len() < before
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn incarnation(n: u128) -> Incarnation {
        Incarnation::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn a_stream_that_comes_back_within_the_grace_is_not_asked_about() {
        let (now, grace) = (Instant::now(), Duration::from_secs(2));
        let mut owners = Owners::new(grace);
        owners.detached(incarnation(1), now);
        owners.detached(incarnation(2), now);
        owners.attached(incarnation(1));
        assert!(!owners.take_due(now));
        assert_eq!(owners.next_due(), Some(now + grace));
        assert!(owners.take_due(now + grace), "the other one did not come back");
        assert!(!owners.take_due(now + grace), "told once");
        assert_eq!(owners.next_due(), None);
    }

    #[test]
    fn gone_is_who_was_named_and_is_named_no_longer() {
        let mut owners = Owners::new(Duration::ZERO);
        assert_eq!(owners.named([incarnation(1), incarnation(2)].into_iter()), []);
        assert_eq!(owners.named(std::iter::empty()), [], "nobody named is nothing said");
        assert_eq!(owners.named([incarnation(2), incarnation(3)].into_iter()), [incarnation(1)]);
        assert_eq!(owners.named([incarnation(3)].into_iter()), [incarnation(2)]);
        assert_eq!(owners.named([incarnation(3), incarnation(1)].into_iter()), []);
    }
}
