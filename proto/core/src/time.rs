//! Time as the core sees it: a length since an origin of the caller's choosing.
//!
//! Time chooses who works and when to give up on an undecided transaction. It has no say
//! in any outcome, fence or act of forgetting (law 6).

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Add;
use std::time::Duration;

/// A point in time: a length since the caller's origin. Monotonic by contract; a caller
/// whose clock jumps causes early or late aborts of undecided transactions, nothing worse.
///
/// Exact to a nanosecond, and at most 584 years after the origin: what lies further away is that end.
/// Every open transaction holds several, so it is kept in eight bytes, also where there may be none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(
    /// Nanoseconds since the origin, and one more.
    NonZeroU64,
);

impl Timestamp {
    /// The caller's origin.
    pub const ORIGIN: Self = Self(NonZeroU64::MIN);

    /// The point that lies `since_origin` after the origin.
    pub const fn from_origin(since_origin: Duration) -> Self {
        Self(Self::ORIGIN.0.saturating_add(nanoseconds(since_origin)))
    }

    /// Length since the origin.
    pub const fn since_origin(self) -> Duration {
        self.since(Self::ORIGIN)
    }

    /// Length from `earlier` to here; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ORIGIN
    }
}

/// All of them, or as many as there can be.
const fn nanoseconds(length: Duration) -> u64 {
    match length.as_secs().checked_mul(1_000_000_000) {
        Some(nanoseconds) => nanoseconds.saturating_add(length.subsec_nanos() as u64),
        None => u64::MAX,
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(length)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T+{:?}", self.since_origin())
    }
}

/// How long to wait before the next attempt at something that may fail again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RetryDelay {
    /// Before the second attempt.
    pub first: Duration,
    /// Never longer than this.
    pub cap: Duration,
}

impl RetryDelay {
    /// The delay after attempt number `attempt` (from 1): doubled each time up to the cap,
    /// then scaled into its upper half by `fraction` (0 to 255, drawn by the caller or
    /// derived from a name), so that many waiters do not return in step.
    pub fn after(&self, attempt: u32, fraction: u8) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << attempt.saturating_sub(1).min(20));
        let whole = doubled.min(self.cap);
        whole / 2 + whole / 2 * u32::from(fraction) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_time_is_exact_until_the_end_of_time() {
        let length = Duration::new(3, 5);
        let point = Timestamp::from_origin(length);
        assert_eq!((point.since_origin(), point.since(Timestamp::ORIGIN + length)), (length, Duration::ZERO));
        assert_eq!(Timestamp::ORIGIN.since(point), Duration::ZERO);
        let end = Timestamp::from_origin(Duration::MAX);
        assert_eq!(point + Duration::MAX, end);
        assert!(end > point && end.since_origin() > Duration::from_hours(24 * 365 * 500));
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }

    #[test]
    fn a_retry_delay_doubles_to_its_cap_and_jitters_in_its_upper_half() {
        let delay = RetryDelay { first: Duration::from_millis(100), cap: Duration::from_secs(3) };
        assert_eq!(delay.after(1, 255), Duration::from_millis(100));
        assert_eq!(delay.after(1, 0), Duration::from_millis(50));
        assert_eq!(delay.after(2, 255), Duration::from_millis(200));
        assert_eq!(delay.after(u32::MAX, 255), Duration::from_secs(3));
    }
}
