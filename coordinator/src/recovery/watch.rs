//! Watching other coordinators' heartbeats stand still, by our own clock.

use std::collections::HashMap;
use std::time::Duration;

use pactum_core::id::Incarnation;
use tokio::time::Instant;

use crate::decision_log::LogView;

/// What we have seen of others' beats.
#[derive(Debug)]
pub(super) struct Watch {
    /// A little less than a lease: looks come a heartbeat apart, give or take, and a moment that is
    /// missing to a lease must not cost a whole further one.
    still_max: Duration,
    /// The most that one look may count. If we were paused, the time until our next look says
    /// nothing about the others: they may have been paused with us.
    look_max: Duration,
    last_look: Option<Instant>,
    seen: HashMap<Incarnation, Seen>,
}

#[derive(Debug)]
struct Seen {
    beats: u64,
    still_for: Duration,
}

impl Watch {
    pub(super) fn new(lease: Duration, heartbeat: Duration) -> Self {
        let still_max = lease.saturating_sub(heartbeat / 2);
        Self { still_max, look_max: heartbeat * 2, last_look: None, seen: HashMap::new() }
    }

    /// Takes in one look; answers whose beat has stood still for a lease.
    pub(super) fn observe(&mut self, own: Incarnation, view: &LogView, now: Instant) -> Vec<Incarnation> {
        let since = self.last_look.map_or(Duration::ZERO, |last| now.duration_since(last)).min(self.look_max);
        self.last_look = Some(now);
        let mut seen = HashMap::new();
        for other in view.incarnations.iter().filter(|other| other.incarnation != own) {
            let still_for = match self.seen.get(&other.incarnation) {
                Some(before) if before.beats == other.beats => before.still_for + since,
                Some(_) | None => Duration::ZERO,
            };
            seen.insert(other.incarnation, Seen { beats: other.beats, still_for });
        }
        self.seen = seen;
        let lapsed = self.seen.iter().filter(|(_, seen)| seen.still_for >= self.still_max);
        lapsed.map(|(incarnation, _)| *incarnation).collect()
    }
}

#[cfg(test)]
mod tests {
    use pactum_core::id::Gid;
    use uuid::Uuid;

    use super::*;
    use crate::decision_log::IncarnationView;

    fn incarnation(number: u128) -> Incarnation {
        Incarnation::from_uuid(Uuid::from_u128(number))
    }

    fn view(beats: u64) -> LogView {
        let incarnations = [(1, 0), (2, beats)].map(|(number, beats)| IncarnationView {
            incarnation: incarnation(number),
            beats,
            address: String::new(),
        });
        LogView {
            live: true,
            incarnations: incarnations.into(),
            floor: Gid::NIL,
            doubted: 0,
            replication: None,
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_beat_that_stands_still_for_a_lease_has_lapsed() {
        let (mut watch, start) = (Watch::new(3 * SECOND, SECOND), Instant::now());
        for second in 0..3 {
            assert!(watch.observe(incarnation(1), &view(7), start + second * SECOND).is_empty(), "{second}");
        }
        assert_eq!(watch.observe(incarnation(1), &view(7), start + 3 * SECOND), [incarnation(2)]);
    }

    #[test]
    fn a_look_that_comes_a_moment_early_does_not_cost_a_further_heartbeat() {
        let (mut watch, start) = (Watch::new(3 * SECOND, SECOND), Instant::now());
        for look in 0..3 {
            assert!(watch.observe(incarnation(1), &view(7), start + look * SECOND).is_empty(), "{look}");
        }
        let early = start + 3 * SECOND - Duration::from_millis(1);
        assert_eq!(watch.observe(incarnation(1), &view(7), early), [incarnation(2)]);
    }

    #[test]
    fn a_beat_that_moves_keeps_its_incarnation() {
        let (mut watch, start) = (Watch::new(3 * SECOND, SECOND), Instant::now());
        for second in 0..20 {
            let view = view(u64::from(second / 2));
            assert!(watch.observe(incarnation(1), &view, start + second * SECOND).is_empty());
        }
    }

    #[test]
    fn our_own_pause_counts_for_little() {
        let (mut watch, start) = (Watch::new(3 * SECOND, SECOND), Instant::now());
        assert!(watch.observe(incarnation(1), &view(7), start).is_empty());
        assert!(watch.observe(incarnation(1), &view(7), start + 3600 * SECOND).is_empty());
    }
}
