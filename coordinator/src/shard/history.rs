//! What happened of late to the transactions of one shard, for people.
//!
//! A ring of fixed size: a step costs the copying of a few words and forgets the oldest one. Nothing is
//! kept by transaction, so that a million of them cost no more than one; who asks for the steps of one
//! has the ring read through, which is a millisecond of nobody's hot path.
//!
//! It has no say in anything, and it is gone with the process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pactum_core::id::{BranchId, Gid, ResourceName};
use pactum_core::time::Timestamp;

/// Steps that are kept, all shards together: 4 MiB. At a thousand transactions a second, those of the
/// last few seconds; of what is stuck, longer, since a step that repeats is kept ever more rarely.
pub(crate) const STEPS_MAX: usize = 65_536;

/// Steps of one transaction that are shown: its first ones and its last ones.
const SHOWN_FIRST: usize = 16;
const SHOWN_LAST: usize = 48;

/// What kind of step it is; see `TransactionStep` in `admin.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Begun,
    Enlisted,
    PrepareSent,
    Voted,
    Deciding,
    Decided,
    Sent,
    Failed,
    Finished,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Enlisted => "enlisted",
            Self::PrepareSent => "prepare-sent",
            Self::Voted => "voted",
            Self::Deciding => "deciding",
            Self::Decided => "decided",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Finished => "finished",
        }
    }
}

/// What else there is to say. Formatted only when somebody looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Plain(&'static str),
    /// Shared with whoever made it; at most 512 bytes, as all such texts.
    Text(Arc<str>),
    Resource(ResourceName),
    /// What was sent, and the which time it was. One word for the text, not two: a step is to fit a cache
    /// line.
    Attempt(&'static &'static str, u16),
}

impl Detail {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Plain(text) => (*text).to_owned(),
            Self::Text(text) => text.to_string(),
            Self::Resource(resource) => resource.to_string(),
            Self::Attempt(what, attempt) => match (**what, attempt) {
                (what, 1) => what.to_owned(),
                ("", attempt) => format!("attempt {attempt}"),
                (what, attempt) => format!("{what}, attempt {attempt}"),
            },
        }
    }
}

/// One step.
#[derive(Clone, Debug)]
struct Entry {
    gid: Gid,
    /// Microseconds since the shards' origin.
    at: u64,
    kind: Kind,
    /// 0 if it is of the whole transaction.
    branch: u64,
    detail: Detail,
}

/// One step, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastStep {
    /// Since the transaction's first step that is known.
    pub(crate) at: Duration,
    /// The step's stable name.
    pub(crate) step: &'static str,
    /// The branch's number; 0 if it is of the whole transaction.
    pub(crate) branch: u64,
    /// What else there is to say; may be empty.
    pub(crate) detail: String,
}

/// The ring.
#[derive(Debug)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    max: usize,
}

impl History {
    /// One that keeps so many steps.
    pub(super) fn new(max: usize) -> Self {
        Self { entries: VecDeque::new(), max: max.max(1) }
    }

    /// Notes a step; `branch` is none if it is of the whole transaction.
    pub(super) fn note(
        &mut self,
        gid: Gid,
        kind: Kind,
        branch: Option<BranchId>,
        detail: Detail,
        now: Timestamp,
    ) {
        let branch = branch.map_or(0, BranchId::number);
        self.push(Entry { gid, at: micros(now), kind, branch, detail });
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() >= self.max {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// The steps of one transaction, oldest first; `opened` is when it began, if it is open.
    pub(super) fn of(&self, gid: Gid, opened: Option<Timestamp>) -> Vec<PastStep> {
        let all: Vec<&Entry> = self.entries.iter().filter(|entry| entry.gid == gid).collect();
        let Some(first) = all.first() else { return Vec::new() };
        let began = opened.map_or(first.at, micros);
        let left_out = SHOWN_FIRST..all.len().saturating_sub(SHOWN_LAST).max(SHOWN_FIRST);
        let shown = all.iter().enumerate().filter(|(place, _)| !left_out.contains(place));
        shown
            .map(|(_, entry)| PastStep {
                at: Duration::from_micros(entry.at.saturating_sub(began)),
                step: entry.kind.name(),
                branch: entry.branch,
                detail: entry.detail.text(),
            })
            .collect()
    }
}

fn micros(at: Timestamp) -> u64 {
    u64::try_from(at.since_origin().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn gid(number: u128) -> Gid {
        Gid::from_uuid(Uuid::from_u128(number))
    }

    fn entry(of: u128, second: u64, kind: Kind, detail: Detail) -> Entry {
        Entry { gid: gid(of), at: second * 1_000_000, kind, branch: 0, detail }
    }

    #[test]
    fn the_oldest_step_makes_room_for_the_newest() {
        let mut history = History::new(3);
        for second in 0..5 {
            history.push(entry(u128::from(second % 2), second, Kind::Sent, Detail::Attempt(&"commit", 2)));
        }
        assert_eq!(history.entries.len(), 3);
        let steps = history.of(gid(0), None);
        assert_eq!(steps.iter().map(|step| step.at.as_secs()).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((steps[0].step, steps[0].detail.as_str()), ("sent", "commit, attempt 2"));
    }

    #[test]
    fn of_a_long_course_the_first_and_the_last_steps_are_shown() {
        let mut history = History::new(1000);
        for second in 0..200 {
            history.push(entry(7, second, Kind::Failed, Detail::Text("no".into())));
        }
        let steps = history.of(gid(7), Some(Timestamp::ORIGIN));
        let seconds: Vec<u64> = steps.iter().map(|step| step.at.as_secs()).collect();
        assert_eq!(seconds.len(), SHOWN_FIRST + SHOWN_LAST);
        assert_eq!((seconds[15], seconds[16], seconds[63]), (15, 152, 199));
    }

    #[test]
    fn a_step_fits_a_cache_line() {
        assert!(size_of::<Entry>() <= 64, "{}", size_of::<Entry>());
    }
}
