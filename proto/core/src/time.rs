//! Time as the core sees it: a length since an origin of the caller's choosing.
//!
//! Time chooses who works and when to give up on an undecided transaction. It has no say
//! in any outcome, fence or act of forgetting (law 6).

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A point in time: a length since the caller's origin. Monotonic by contract; a caller
/// whose clock jumps causes early or late aborts of undecided transactions, nothing worse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The caller's origin.
    pub const ORIGIN: Self = Self(Duration::ZERO);

    /// The point that lies `since_origin` after the origin.
    pub const fn from_origin(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// Length since the origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// Length from `earlier` to here; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T+{:?}", self.0)
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
    fn a_retry_delay_doubles_to_its_cap_and_jitters_in_its_upper_half() {
        let delay = RetryDelay { first: Duration::from_millis(100), cap: Duration::from_secs(3) };
        assert_eq!(delay.after(1, 255), Duration::from_millis(100));
        assert_eq!(delay.after(1, 0), Duration::from_millis(50));
        assert_eq!(delay.after(2, 255), Duration::from_millis(200));
        assert_eq!(delay.after(u32::MAX, 255), Duration::from_secs(3));
    }
}
