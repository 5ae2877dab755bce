//! How fast recovery goes: a storm of unfinished commits must not starve new work, and those of a
//! resource that is away must not hold up the others' (F5, F6).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Recovered commits that the shards hold and that may still finish soon. More keeps the databases no
/// busier: at this number thousands wait at each of them, and those that wait for longer than the first retry
/// delay are told their decision again. Fewer would let them idle between pages, and a resource that hangs
/// would hold up the others for longer.
const IN_FLIGHT_MAX: usize = 4_000;

/// A commit that has not finished after this waits for a resource in trouble, and takes nobody's turn
/// any more. Longer delays what stands behind such ones; shorter lets more of them pile up at a
/// resource that is only slow.
const MOVING: Duration = Duration::from_secs(3);

/// What was handed to the shards of late.
#[derive(Debug, Default)]
pub(super) struct Pace {
    told: VecDeque<(Instant, usize)>,
}

impl Pace {
    /// So many were handed over now.
    pub(super) fn told(&mut self, count: usize, now: Instant) {
        self.told.push_back((now, count));
    }

    /// Whether a further page may follow. `unfinished`: recovered commits that the shards hold.
    pub(super) fn has_room(&mut self, unfinished: usize, now: Instant) -> bool {
        while self.told.front().is_some_and(|(at, _)| now.duration_since(*at) >= MOVING) {
            self.told.pop_front();
        }
        let lately: usize = self.told.iter().map(|(_, count)| count).sum();
        unfinished.min(lately) < IN_FLIGHT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f5_what_has_not_finished_holds_up_what_follows() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert!(pace.has_room(0, now));
        pace.told(IN_FLIGHT_MAX, now);
        assert!(!pace.has_room(IN_FLIGHT_MAX, now));
        assert!(pace.has_room(IN_FLIGHT_MAX - 1, now), "one has finished");
    }

    #[test]
    fn f6_what_is_stuck_holds_up_nobody_for_long() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.told(IN_FLIGHT_MAX, now);
        assert!(!pace.has_room(IN_FLIGHT_MAX, now + MOVING / 2));
        assert!(pace.has_room(IN_FLIGHT_MAX, now + MOVING), "all of them are stuck");
    }
}
