//! Random numbers whose meaning does not change: a seed stands for the same run in every version of
//! every dependency.

use std::time::Duration;

/// `SplitMix64` (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*).
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Dice of their own for one purpose of one seed.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut dice = Self { state: seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) };
        dice.draw();
        dice
    }

    /// 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, not including, `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias is below 2^-32 for every range used here.
        self.draw().checked_rem(end).unwrap_or(0)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// The same, to be used as a place in a list.
    pub fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True that many times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// From `low` to `high`, in microseconds.
    pub fn time(&mut self, low: Duration, high: Duration) -> Duration {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.between(micros(low), micros(high)))
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.place(from.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut dice = Dice::new(1, 2);
        let drawn: Vec<u64> = (0..3).map(|_| dice.draw()).collect();
        let mut again = Dice::new(1, 2);
        assert_eq!(drawn, (0..3).map(|_| again.draw()).collect::<Vec<_>>());
        assert_ne!(drawn[0], Dice::new(1, 3).draw());
        assert_ne!(drawn[0], Dice::new(2, 2).draw());
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let mut dice = Dice::new(7, 0);
        for _ in 0..1000 {
            assert!((3..=5).contains(&dice.between(3, 5)));
            assert!(dice.below(2) < 2);
        }
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.between(4, 4), 4);
        assert!(!dice.chance(0) && dice.chance(1000));
    }
}
