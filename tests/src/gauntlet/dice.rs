//! Numbers from a seed: `SplitMix64` (Steele, Lea, Flood, *Fast splittable pseudorandom number
//! generators*, 2014), so that a plan of faults can be drawn again without a crate's consent.

use std::ops::Range;
use std::time::Duration;

/// A stream of numbers that its seed determines.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An independent stream; the same number gives the same one.
    pub(crate) fn fork(&self, number: u64) -> Self {
        Self(Self(self.0 ^ number.wrapping_mul(0xd134_2543_de82_ef95)).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..bound`; the bias is of no matter for bounds this small.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// One of the places of a list of that length.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("it is below a usize")
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.place(list.len())]
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A length of time, by the millisecond.
    pub(crate) fn time(&mut self, milliseconds: Range<u64>) -> Duration {
        let length = milliseconds.end.saturating_sub(milliseconds.start);
        Duration::from_millis(milliseconds.start + self.below(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_stream_and_its_forks() {
        let draw = |mut dice: Dice| (0..5).map(|_| dice.next()).collect::<Vec<_>>();
        // The reference sequence of the algorithm for seed 0 begins so.
        assert_eq!(Dice::new(0).next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(draw(Dice::new(7)), draw(Dice::new(7)));
        assert_eq!(draw(Dice::new(7).fork(1)), draw(Dice::new(7).fork(1)));
        assert_ne!(draw(Dice::new(7).fork(1)), draw(Dice::new(7).fork(2)));
    }

    #[test]
    fn times_stay_in_their_range() {
        let mut dice = Dice::new(3);
        assert!((0..1000).map(|_| dice.time(5..9)).all(|time| (5..9).contains(&time.as_millis())));
    }
}
