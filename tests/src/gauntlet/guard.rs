//! Who may be disturbed now: never all coordinators for long.
//!
//! When a coordinator dies, another one has to see its heartbeat stand still for a whole lease.
//! Of those that were there at the death, at least one is left alone for that long; else nobody
//! could be blamed for a slow recovery.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Longer than a lease, two heartbeats and a look.
const WITNESSED_FOR: Duration = Duration::from_secs(6);

/// What is known of coordinators, by their place.
#[derive(Debug)]
pub(crate) struct Guard {
    count: usize,
    disturbed: BTreeSet<usize>,
    /// When somebody was disturbed, and who has watched undisturbed since.
    deaths: Vec<(Instant, BTreeSet<usize>)>,
    /// Each one's last disturbance, so that everybody has his turn.
    last: Vec<Option<Instant>>,
}

impl Guard {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, disturbed: BTreeSet::new(), deaths: Vec::new(), last: vec![None; count] }
    }

    /// The one that was left alone for longest, if it may be disturbed; it then is.
    pub(crate) fn disturb(&mut self, now: Instant) -> Option<usize> {
        self.deaths.retain(|(at, _)| now.duration_since(*at) < WITNESSED_FOR);
        let next = (0..self.count)
            .filter(|place| !self.disturbed.contains(place))
            .min_by_key(|place| self.last[*place])?;
        let others = |watching: &BTreeSet<usize>| watching.iter().any(|place| *place != next);
        let whole: BTreeSet<usize> =
            (0..self.count).filter(|place| !self.disturbed.contains(place)).collect();
        if !others(&whole) || !self.deaths.iter().all(|(_, watching)| others(watching)) {
            return None;
        }
        for (_, watching) in &mut self.deaths {
            watching.remove(&next);
        }
        self.disturbed.insert(next);
        self.last[next] = Some(now);
        Some(next)
    }

    /// Its disturbance is over; if it died of it, or was stopped, others have to notice.
    pub(crate) fn over(&mut self, place: usize, now: Instant) {
        let watching = (0..self.count).filter(|other| *other != place && !self.disturbed.contains(other));
        self.deaths.push((now, watching.collect()));
        self.disturbed.remove(&place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_has_always_watched_for_long_enough() {
        let (mut guard, start) = (Guard::new(3), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(guard.disturb(at(0)), Some(0));
        guard.over(0, at(0));
        assert_eq!(guard.disturb(at(1)), Some(1));
        guard.over(1, at(1));
        // Only the third has seen the first one's death all along.
        assert_eq!(guard.disturb(at(2)), None);
        assert_eq!(guard.disturb(at(5)), None);
        assert_eq!(guard.disturb(at(7)), Some(2), "everybody has his turn");
    }

    #[test]
    fn one_is_always_whole() {
        let (mut guard, start) = (Guard::new(3), Instant::now());
        assert!(guard.disturb(start).is_some());
        assert!(guard.disturb(start).is_some());
        assert_eq!(guard.disturb(start), None);
    }
}
