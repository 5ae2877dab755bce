//! Which of several coordinators a gid falls to: rendezvous hashing (Thaler and Ravishankar,
//! *Using Name-Based Mappings to Increase Hit Rates*, 1998: highest random weight).
//!
//! Each incarnation gets a weight for each gid, and the heaviest wins. Whoever knows the same set
//! finds the same winner, and when one leaves only its own gids move. Two who know different
//! sets may both think that a gid is theirs: that costs repeated work and nothing else, since the
//! register decides (law 1).

use crate::id::{Gid, Incarnation};

/// The incarnation that `gid` falls to; `None` of none.
pub fn winner(gid: Gid, incarnations: impl IntoIterator<Item = Incarnation>) -> Option<Incarnation> {
    incarnations.into_iter().max_by_key(|incarnation| (weight(gid, *incarnation), *incarnation))
}

/// How heavy an incarnation weighs for a gid. The same in every version: coordinators and
/// applications of different ones share the work.
fn weight(gid: Gid, incarnation: Incarnation) -> u64 {
    let (gid, incarnation) = (gid.as_uuid().as_u128(), incarnation.as_uuid().as_u128());
    let words = [gid >> 64, gid, incarnation >> 64, incarnation];
    words.iter().fold(0, |state: u64, word| {
        let bytes = word.to_be_bytes();
        let low = u64::from_be_bytes(std::array::from_fn(|place| bytes[place + 8]));
        mix(state ^ low)
    })
}

/// The finalizer of splitmix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number
/// Generators*, 2014): each bit of the input changes about half of the output's.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn incarnation(n: u128) -> Incarnation {
        Incarnation::from_uuid(Uuid::from_u128(n))
    }

    fn gid(n: u128) -> Gid {
        Gid::from_uuid(Uuid::from_u128(n << 64 | n))
    }

    #[test]
    fn of_none_there_is_no_winner() {
        assert_eq!(winner(gid(1), []), None);
    }

    #[test]
    fn the_order_in_which_they_are_known_does_not_matter() {
        for n in 0..1000 {
            let forward = winner(gid(n), (1..6).map(incarnation));
            assert_eq!(forward, winner(gid(n), (1..6).rev().map(incarnation)));
        }
    }

    #[test]
    fn each_gets_about_its_share() {
        let mut shares = [0_u32; 4];
        for n in 0..40_000 {
            let won = winner(gid(n), (0..4).map(incarnation)).unwrap();
            shares[usize::try_from(won.as_uuid().as_u128()).unwrap()] += 1;
        }
        assert!(shares.iter().all(|share| (9_500..10_500).contains(share)), "{shares:?}");
    }

    #[test]
    fn when_one_leaves_only_its_own_move() {
        for n in 0..1000 {
            let before = winner(gid(n), (1..6).map(incarnation)).unwrap();
            let after = winner(gid(n), (1..5).map(incarnation)).unwrap();
            assert!(before == after || before == incarnation(5));
        }
    }

    /// The numbers are a promise to other versions.
    #[test]
    fn weights_do_not_change() {
        assert_eq!(weight(gid(1), incarnation(2)), 5_706_694_046_452_267_557);
    }
}
