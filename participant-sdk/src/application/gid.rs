//! Gids, made without a call: `UUIDv7`s above the coordinator's floor.
//!
//! A gid at or under the floor would be refused as one that may have ended already (laws 7 and
//! 10). The floor is another machine's word, so the clock here only *proposes*: if it lies
//! behind the floor, or behind an earlier gid, the next gid takes its time from those. Order
//! is all that the time is for (law 6).

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pactum_core::id::Gid;
use uuid::Uuid;

const MILLIS_MAX: u64 = (1 << 48) - 1;
const COUNTER_MAX: u16 = (1 << 12) - 1;

/// Makes the gids of one process, each greater than the one before.
#[derive(Debug, Default)]
pub(super) struct GidMaker {
    last: Mutex<(u64, u16)>,
}

impl GidMaker {
    /// A new gid above the floor; `None` if none is left above it.
    pub(super) fn make(&self, floor: Gid) -> Option<Gid> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX).min(MILLIS_MAX);
        self.make_at(now, floor, rand::random())
    }

    /// 48 bits of time, 12 of a counter that starts anew at a drawn number in each millisecond
    /// (RFC 9562, section 6.2, method 1), and 62 drawn ones.
    fn make_at(&self, now: u64, floor: Gid, random: u128) -> Option<Gid> {
        let floor_millis = u64::try_from(floor.as_uuid().as_u128() >> 80).ok()?;
        // Strictly later than the floor in its first 48 bits, so that the rest does not matter.
        let earliest = if floor.is_nil() { 0 } else { floor_millis + 1 };
        let now = now.max(earliest);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match *last {
            (millis, counter) if now <= millis && counter < COUNTER_MAX => (millis, counter + 1),
            // The upper half of the counter is left free to count.
            (millis, _) => (now.max(millis + 1), drawn_counter(random)),
        };
        let (millis, counter) = next;
        if millis > MILLIS_MAX {
            return None;
        }
        *last = next;
        let bits = (u128::from(millis) << 80)
            | (0x7 << 76)
            | (u128::from(counter) << 64)
            | (0b10 << 62)
            | (random & ((1 << 62) - 1));
        Some(Gid::from_uuid(Uuid::from_u128(bits)))
    }
}

fn drawn_counter(random: u128) -> u16 {
    u16::try_from((random >> 100) & 0x7ff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(millis: u64) -> Gid {
        Gid::from_uuid(Uuid::from_u128((u128::from(millis) << 80) | (u128::MAX >> 48)))
    }

    #[test]
    fn gids_are_uuids_of_version_7_and_grow() {
        let maker = GidMaker::default();
        let mut before = Gid::NIL;
        for _ in 0..20_000 {
            let gid = maker.make(Gid::NIL).unwrap();
            assert!(gid > before);
            assert_eq!(gid.as_uuid().get_version_num(), 7);
            assert_eq!(gid.as_uuid().get_variant(), uuid::Variant::RFC4122);
            before = gid;
        }
    }

    #[test]
    fn a_clock_behind_the_floor_or_set_back_does_not_matter() {
        let maker = GidMaker::default();
        let high = floor(5_000);
        let first = maker.make_at(10, high, u128::MAX).unwrap();
        assert!(first > high);
        let second = maker.make_at(9, high, 0).unwrap();
        assert!(second > first);
        let higher = floor(5_001);
        let third = maker.make_at(0, higher, 0).unwrap();
        assert!(third > higher && third > second);
        let fourth = maker.make_at(9_000, Gid::NIL, 0).unwrap();
        assert_eq!(fourth.as_uuid().as_u128() >> 80, 9_000);
    }

    #[test]
    fn above_the_highest_floor_there_is_no_gid() {
        let maker = GidMaker::default();
        assert_eq!(maker.make_at(0, floor(MILLIS_MAX), 0), None);
        assert!(maker.make_at(0, floor(MILLIS_MAX - 1), 0).is_some());
    }

    #[test]
    fn a_full_counter_moves_on_to_the_next_millisecond() {
        let maker = GidMaker::default();
        let mut before = Gid::NIL;
        for _ in 0..10_000 {
            let gid = maker.make_at(1, Gid::NIL, u128::MAX).unwrap();
            assert!(gid > before);
            before = gid;
        }
        assert!(before.as_uuid().as_u128() >> 80 > 1);
    }
}
