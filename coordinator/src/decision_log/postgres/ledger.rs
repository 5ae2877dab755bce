//! What this process knows of the log's history, which the log itself cannot tell: what a server
//! showed before it was replaced by a copy, and what was acknowledged to us.
//!
//! The log's history falls into *eras*: one run of one server (system identifier, timeline), from one
//! time that it was found to have gone back (`switches`) to the next. Every connection belongs to
//! one. When we learn of a newer one, the older connections are worth nothing any more: an answer that
//! arrives by them counts as lost. So whatever was acknowledged to this process in an era is known here
//! by the time that it looks for it in the next.
//!
//! ```text
//!  era 1 ── Won, Lost: witnesses ──┐ era 2 entered: era 1 is closed
//!                                  └─▶ vouch: does each witness of era 1 stand? ─▶ doubt lifted, or not
//! ```
//!
//! **Few witnesses do.** What is left of a history is its beginning, so a record that stands proves all
//! that was written before it. Of two writes of which the second began after the first was
//! acknowledged, the second alone is kept: as many stay as writes run side by side.
//!
//! **Writes without an answer.** Nobody here was told of them. Another coordinator may have been: it
//! read the record, and after a barrier told a participant. With synchronous standbys the barrier
//! shows that the record was safe. Without them such a write counts as acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pactum_core::id::{Gid, Incarnation};

use crate::decision_log::{DecisionLogError, ServerIdentity};

/// Servers that were left behind and are remembered, to be refused if they come back.
const LEFT_MAX: usize = 64;

/// One stretch of a log's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Era {
    pub(super) server: ServerIdentity,
    pub(super) switches: u64,
}

/// What a connection shows.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    pub(super) server: ServerIdentity,
    /// How far its write-ahead log is forced.
    pub(super) position: u64,
    /// The server that the log says it is on.
    pub(super) stored: Option<ServerIdentity>,
    pub(super) switches: u64,
}

/// What an observation means.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is the log as we know it, or newer. The connection belongs to this era.
    Fits(Era),
    /// The log is used here for the first time.
    Introduce,
    /// The log has gone back, or may have. Why, for people; and the least number of switches that
    /// it must count from now on.
    WentBack { why: String, switches: u64 },
    /// A server that was left behind.
    LeftBehind(DecisionLogError),
}

/// A write under way. If it is never ended, it stays without an answer.
#[derive(Debug)]
#[must_use]
pub(super) struct Ticket {
    era: Era,
    id: u64,
}

/// What became of a write.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// One of the records that it wrote.
    pub(super) won: Option<Gid>,
    /// Records that it found.
    pub(super) found: Vec<Gid>,
    /// Commits whose fate is not known.
    pub(super) unknown: Vec<Gid>,
    /// All gids, if any of them may have been without an answer before.
    pub(super) settled: Vec<Gid>,
}

/// The memory of one process.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Era>,
    /// The farthest that the current era's log was seen.
    position: u64,
    left: Vec<ServerIdentity>,
    /// The latest timeline seen anywhere, also on a host that was not used.
    latest: Option<ServerIdentity>,
    /// Counts beginnings and ends of writes.
    clock: u64,
    /// Those of which somebody may still have to vouch, the current one last.
    chapters: Vec<Chapter>,
    own: BTreeMap<Incarnation, Own>,
}

/// What is remembered of an era.
#[derive(Debug)]
struct Chapter {
    era: Era,
    /// Each commit waited for a standby, all the time.
    synchronous: bool,
    /// When it was acknowledged, and one record of it.
    witnesses: BTreeMap<u64, Gid>,
    /// Writes under way: when they began, and their commits.
    running: BTreeMap<u64, Vec<Gid>>,
    unknown: BTreeSet<Gid>,
}

/// An incarnation that this process started.
#[derive(Debug)]
struct Own {
    since: Era,
    /// It was found that records of it are lost.
    lost: bool,
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the log was seen so far. To be taken before a connection is asked where it is.
    pub(super) fn position(&self) -> Option<(Era, u64)> {
        let state = self.state();
        state.current.map(|era| (era, state.position))
    }

    /// Judges what a connection shows, and enters its era if it fits.
    pub(super) fn judge(&self, seen: &Observation, before: Option<(Era, u64)>) -> Verdict {
        let mut state = self.state();
        if let Some(refused) = state.left_behind(seen.server) {
            return Verdict::LeftBehind(refused);
        }
        let went_back = |why: String| {
            let known = state.current.map_or(0, |era| era.switches);
            Verdict::WentBack { why, switches: seen.switches.max(known) + 1 }
        };
        let Some(stored) = seen.stored else { return Verdict::Introduce };
        if stored != seen.server {
            let ServerIdentity { system, timeline } = stored;
            let now = seen.server;
            return went_back(format!(
                "it was last used on timeline {timeline} of system {system}, and is on timeline {} of system {} now",
                now.timeline, now.system
            ));
        }
        let era = Era { server: seen.server, switches: seen.switches };
        if let Some(known) = state.current.filter(|known| known.server == era.server) {
            if era.switches < known.switches {
                return went_back(format!(
                    "it counts {} switches, and had {} before",
                    era.switches, known.switches
                ));
            }
            if let Some((before, position)) = before
                && before == era
                && seen.position < position
            {
                return went_back(format!(
                    "its write-ahead log ends at {:X}, and had reached {position:X} before",
                    seen.position
                ));
            }
        }
        state.enter(era, seen.position);
        Verdict::Fits(era)
    }

    /// A primary is there; it need not be used. An older one of the same system is refused from now on.
    pub(super) fn saw(&self, server: ServerIdentity) {
        let mut state = self.state();
        let latest = *state.latest.get_or_insert(server);
        if server.system == latest.system && server.timeline > latest.timeline {
            state.latest = Some(server);
        }
    }

    /// Refuses a server that was left behind.
    ///
    /// # Errors
    /// It was.
    pub(super) fn check(&self, server: ServerIdentity) -> Result<(), DecisionLogError> {
        self.state().left_behind(server).map_or(Ok(()), Err)
    }

    /// The log was seen to reach so far.
    pub(super) fn reached(&self, era: Era, position: u64) {
        let mut state = self.state();
        if state.current == Some(era) {
            state.position = state.position.max(position);
        }
    }

    /// Whether connections of this era are still worth something.
    pub(super) fn is_current(&self, era: Era) -> bool {
        self.state().current == Some(era)
    }

    /// Whether a commit waits for a standby, as seen in this era just now.
    pub(super) fn saw_standbys(&self, era: Era, required: u32) {
        if let Some(chapter) = self.state().chapter(era) {
            chapter.synchronous &= required > 0;
        }
    }

    /// An incarnation of ours began. Answers whether it may be used: its row is in the log as we know it.
    pub(super) fn started(&self, incarnation: Incarnation, since: Era) -> bool {
        let mut state = self.state();
        state.own.insert(incarnation, Own { since, lost: false });
        state.current == Some(since)
    }

    /// A write begins. `None`: its connection is of an older era, and must not be used.
    pub(super) fn begin(&self, era: Era, commits: Vec<Gid>) -> Option<Ticket> {
        let mut state = self.state();
        if state.current != Some(era) {
            return None;
        }
        state.clock += 1;
        let id = state.clock;
        state.chapter(era)?.running.insert(id, commits);
        Some(Ticket { era, id })
    }

    /// A write has ended. If this answers false, its answers must count as lost: a newer era began.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a write ends once")]
    pub(super) fn end(&self, ticket: Ticket, written: Written) -> bool {
        let mut state = self.state();
        let is_current = state.current == Some(ticket.era);
        state.clock += 1;
        let now = state.clock;
        let Some(chapter) = state.chapter(ticket.era) else { return is_current };
        let running = chapter.running.remove(&ticket.id);
        if !is_current {
            chapter.unknown.extend(running.into_iter().flatten());
            return false;
        }
        chapter.unknown.extend(written.unknown);
        if let Some(won) = written.won {
            // What was acknowledged before this one began lies before it.
            chapter.witnesses = chapter.witnesses.split_off(&ticket.id);
            chapter.witnesses.insert(now, won);
        }
        for found in written.found {
            state.clock += 1;
            let now = state.clock;
            state.witness(ticket.era, now, found);
        }
        for chapter in &mut state.chapters {
            if !chapter.unknown.is_empty() {
                for gid in &written.settled {
                    chapter.unknown.remove(gid);
                }
            }
        }
        true
    }

    /// Records that were read and will be acted on, of incarnations of our own among others.
    pub(super) fn read(&self, era: Era, found: impl IntoIterator<Item = (Incarnation, Gid)>) {
        let mut state = self.state();
        for (owner, gid) in found {
            if state.own.contains_key(&owner) {
                state.clock += 1;
                let now = state.clock;
                state.witness(era, now, gid);
            }
        }
    }

    /// What must stand if nothing of `incarnation` was lost before `now`. `None` if that is not for us
    /// to say: it is not ours, or is known to miss something.
    pub(super) fn witnesses(&self, incarnation: Incarnation, now: Era) -> Option<BTreeSet<Gid>> {
        let state = self.state();
        let own = state.own.get(&incarnation).filter(|own| !own.lost)?;
        let first = state.chapters.iter().position(|chapter| chapter.era == own.since)?;
        let before = state.chapters[first..].iter().take_while(|chapter| chapter.era != now);
        let mut witnesses = BTreeSet::new();
        for chapter in before {
            witnesses.extend(chapter.witnesses.values().copied());
            if !chapter.synchronous {
                witnesses.extend(chapter.running.values().flatten().copied());
                witnesses.extend(chapter.unknown.iter().copied());
            }
        }
        Some(witnesses)
    }

    /// Records of this incarnation are lost. Answers whether that is news.
    pub(super) fn lost(&self, incarnation: Incarnation) -> bool {
        let mut state = self.state();
        state.own.get_mut(&incarnation).is_some_and(|own| !std::mem::replace(&mut own.lost, true))
    }

    /// This incarnation is seen to: it has ended, and nobody has to vouch for it again.
    pub(super) fn done(&self, incarnation: Incarnation) {
        let mut state = self.state();
        state.own.remove(&incarnation);
        let needed = |state: &State, era: Era| {
            state.current == Some(era) || state.own.values().any(|own| !own.lost && own.since == era)
        };
        let first = state.chapters.iter().position(|chapter| needed(&state, chapter.era));
        state.chapters.drain(..first.unwrap_or(0));
    }
}

impl State {
    fn chapter(&mut self, era: Era) -> Option<&mut Chapter> {
        self.chapters.iter_mut().rev().find(|chapter| chapter.era == era)
    }

    fn witness(&mut self, era: Era, now: u64, gid: Gid) {
        if let Some(chapter) = self.chapter(era) {
            chapter.witnesses.insert(now, gid);
        }
    }

    fn left_behind(&self, server: ServerIdentity) -> Option<DecisionLogError> {
        let current = self.current.map(|era| era.server);
        let is_newer =
            |known: &ServerIdentity| server.system == known.system && server.timeline < known.timeline;
        let newer = [current, self.latest].into_iter().flatten().find(is_newer);
        let replaced = current.filter(|known| server != *known && self.left.contains(&server));
        let known = newer.or(replaced)?;
        Some(DecisionLogError::Refused {
            setting: "timeline",
            found: format!(
                "{} of system {}, and this log went on on timeline {} of system {}",
                server.timeline, server.system, known.timeline, known.system
            ),
            remedy: "stop this old primary; if it is to be the log again, restart every coordinator",
        })
    }

    fn enter(&mut self, era: Era, position: u64) {
        if self.current == Some(era) {
            self.position = self.position.max(position);
            return;
        }
        if let Some(old) = self.current.filter(|old| old.server != era.server) {
            self.left.push(old.server);
            let excess = self.left.len().saturating_sub(LEFT_MAX);
            self.left.drain(..excess);
        }
        (self.current, self.position) = (Some(era), position);
        let (witnesses, running) = (BTreeMap::new(), BTreeMap::new());
        self.chapters.push(Chapter { era, synchronous: true, witnesses, running, unknown: BTreeSet::new() });
    }
}

#[cfg(test)]
mod tests;
