//! How the course of a transaction begins, and how it ends.

use std::sync::Arc;

use pactum_core::coordinator::{Coordinator, TransactionOutcome};
use pactum_core::id::{Gid, Incarnation, TransactionId};
use pactum_core::time::Timestamp;

use super::traced::Traced;
use super::{Course, Courses, Stage};
use crate::metrics::{Ended, Phase};
use crate::shard::history::{Detail, Kind};

impl Courses {
    /// Remembers who acts by a deadline now: the core does not say.
    pub(in crate::shard) fn before_timeout(&mut self, core: &Coordinator, now: Timestamp) {
        self.due.clear();
        self.due.extend(core.due(now));
    }

    /// Whoever was due has acted.
    pub(in crate::shard) fn after_timeout(&mut self, core: &Coordinator, now: Timestamp) {
        let due = std::mem::take(&mut self.due);
        for gid in &due {
            if !core.is_open(*gid) {
                self.ended(*gid, core, now);
            }
        }
        self.due = due;
    }

    /// The core was told a fact, `before` which so many transactions were open; `of` whom the fact was.
    pub(in crate::shard) fn compare(
        &mut self,
        of: Option<TransactionId>,
        own: Option<Incarnation>,
        before: usize,
        core: &Coordinator,
        now: Timestamp,
    ) {
        let after = core.len();
        if after <= before {
            self.recovering = None;
        }
        match of {
            Some(id) if after > before => {
                let own = Some(id.incarnation) == own;
                let mut course = Course::new(own, now);
                let original = self.recovering.take();
                course.traced = original.map(|original| Box::new(Traced::recovered(original, now)));
                self.open.insert(id.gid, Box::new(course));
                let detail = if own { "" } else { "taken up here: its coordinator was another" };
                self.note(id.gid, Kind::Begun, None, Detail::Plain(detail), now);
            }
            Some(id) if after < before => self.ended(id.gid, core, now),
            None if after < before => {
                let over: Vec<Gid> = self.open.keys().filter(|gid| !core.is_open(**gid)).copied().collect();
                for gid in over {
                    self.ended(gid, core, now);
                }
            }
            Some(_) | None => {}
        }
    }

    fn ended(&mut self, gid: Gid, core: &Coordinator, now: Timestamp) {
        let Some(mut course) = self.open.remove(&gid) else { return };
        if let Some(second) = course.in_doubt {
            self.doubts.leave(second);
        }
        self.voting -= usize::from(course.stage == Stage::Preparing);
        if course.stage == Stage::Committing {
            self.meter.took(Phase::Finish, now.since(course.since));
        }
        // Counted when it was decided: nothing need be asked of the core's memory.
        let ending = if course.counted { None } else { core.ending(gid) };
        let detail = match &ending {
            None if course.counted => Detail::Plain("committed"),
            Some(TransactionOutcome::Aborted { reason, .. }) => {
                if course.own {
                    self.meter.aborted(reason.kind);
                }
                Detail::Text(Arc::clone(&reason.message))
            }
            Some(TransactionOutcome::Committed { read_only, .. }) => {
                if course.own {
                    self.meter.ended(if *read_only { Ended::ReadOnly } else { Ended::Committed });
                    if course.stage == Stage::Preparing && !read_only {
                        self.meter.took(Phase::Commit, now.since(course.prepared));
                    }
                }
                Detail::Plain(if *read_only { "committed, read-only" } else { "committed" })
            }
            Some(TransactionOutcome::Forgotten) => {
                if course.own {
                    self.meter.ended(Ended::Forgotten);
                }
                Detail::Plain("forgotten")
            }
            // A mere question, that nobody waits for any more, or an end that is not known.
            None
            | Some(
                TransactionOutcome::Pending | TransactionOutcome::Unknown | TransactionOutcome::NoRecord,
            ) => return,
        };
        if !course.own {
            self.meter.recovered();
        }
        if let Some(traced) = course.traced.take() {
            let error = matches!(ending, Some(TransactionOutcome::Forgotten)).then_some("forgotten");
            traced.over(gid, &detail.text(), error, &self.spans, now);
        }
        self.note(gid, Kind::Finished, None, detail, now);
    }
}
