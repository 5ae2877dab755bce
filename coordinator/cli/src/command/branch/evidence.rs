//! What proves how a prepared branch ended: its xid, and whether that still means the same.
//!
//! Reads the evidence that the SDK's PostgreSQL resource puts into votes: the 64-bit xid, and the anchor
//! `system identifier/timeline/high/low` of a position in the write-ahead log. An xid is used again after a
//! restore or a failover that lost transactions; where the anchor does not hold, it proves nothing.

use pactum_core::vote::Evidence;

/// Where a server stands, or stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    /// Tells one server's files from another's; copies share it.
    pub(super) system: String,
    /// Grows with each promotion and each restore to a point in time.
    timeline: u32,
    /// A position in bytes.
    position: u64,
}

impl Anchor {
    /// From the columns that a server answers; `None` if it answered something else.
    pub(super) fn from_columns(system: &str, timeline: &str, position: &str) -> Option<Self> {
        let (high, low) = position.split_once('/')?;
        let (high, low) = (u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?);
        Some(Self {
            system: system.to_owned(),
            timeline: u32::from_str_radix(timeline, 16).ok()?,
            position: u64::from(high) << 32 | u64::from(low),
        })
    }

    /// Whether an xid that was told at `self` means the same on the server that stands at `now`.
    pub(super) fn still_holds(&self, now: &Self) -> bool {
        self.system == now.system && self.timeline == now.timeline && self.position <= now.position
    }
}

/// The xid and the anchor; `None` if another kind of resource, or a later version, wrote it.
pub(super) fn read(evidence: &Evidence) -> Option<(u64, Anchor)> {
    let mut parts = evidence.anchor.splitn(3, '/');
    let anchor = Anchor::from_columns(parts.next()?, parts.next()?, parts.next()?)?;
    Some((evidence.execution.parse().ok()?, anchor))
}

/// The 64-bit xid of a prepared transaction, from its low half and a recent snapshot's xmax: a live xid lies
/// within 2^31 of that, on either side (PostgreSQL manual, *Preventing Transaction ID Wraparound Failures*).
pub(super) fn full_xid(next: u64, low: u32) -> u64 {
    let next_low = u32::try_from(next & 0xffff_ffff).expect("masked to 32 bits");
    next.wrapping_add_signed(i64::from(low.wrapping_sub(next_low).cast_signed()))
}

/// What became of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It committed.
    Committed,
    /// It ended without effect.
    Aborted,
    /// It is prepared, or still ending.
    InProgress,
    /// Too long ago, or the database's history is not the one that it was told in.
    Unprovable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_xid_is_rebuilt_across_the_epoch_on_both_sides() {
        let epoch = 1_u64 << 32;
        assert_eq!(full_xid(1000, 990), 990);
        assert_eq!(full_xid(epoch * 7 + 5, u32::MAX), epoch * 7 - 1);
        assert_eq!(full_xid(epoch * 7 - 2, 4), epoch * 7 + 4);
    }

    /// The text is the one that the SDK writes.
    #[test]
    fn the_evidence_of_a_vote_is_read() {
        let vote = Evidence::new("1099511627776", "7431/0000001A/2F/A0");
        let anchor = Anchor::from_columns("7431", "0000001A", "2F/A0").unwrap();
        assert_eq!(read(&vote), Some((1 << 40, anchor)));
        assert_eq!(read(&Evidence::new("x", "y")), None);
        assert_eq!(read(&Evidence::new("7", "7431/0000001A")), None);
    }

    #[test]
    fn an_anchor_holds_only_on_the_same_history_and_not_behind_it() {
        let then = Anchor::from_columns("1", "00000002", "1/0").unwrap();
        for (system, timeline, position, holds) in [
            ("1", "00000002", "1/0", true),
            ("1", "00000002", "2/0", true),
            ("1", "00000002", "0/FFFFFFFF", false),
            ("1", "00000003", "2/0", false),
            ("9", "00000002", "2/0", false),
        ] {
            let now = Anchor::from_columns(system, timeline, position).unwrap();
            assert_eq!(then.still_holds(&now), holds, "{now:?}");
        }
    }
}
