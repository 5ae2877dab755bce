//! A log in memory that loses its newest records, and what follows: doubt, vouching, release.
//!
//! The same rules as in the others (`decision_log.rs`): what is lost is an end of history, so an
//! incarnation whose end still stands has lost nothing.

use std::collections::BTreeSet;
use std::time::SystemTime;

use pactum_core::id::{Cluster, Gid, Incarnation};

use super::{MemoryLog, Run, State};
use crate::decision_log::status::EVENTS_MAX;
use crate::decision_log::{IncarnationStatus, LogEvent, LogEventKind, LogStatus, Release};

/// What a log knows of its own past.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Records and ends written so far.
    written: u64,
    /// The newest end among them.
    newest_end: u64,
    switches: u64,
    /// Whether an owner without a row is in doubt.
    pub(super) absent_doubted: bool,
    events: Vec<LogEvent>,
}

impl Past {
    pub(super) fn next(&mut self) -> u64 {
        self.written += 1;
        self.written
    }

    pub(super) fn ended(&mut self) {
        self.newest_end = self.next();
    }

    pub(super) fn note(&mut self, kind: LogEventKind, incarnation: Option<Incarnation>, detail: &str) {
        let (at, who) = (SystemTime::now(), String::from("memory"));
        self.events.push(LogEvent { at, kind, incarnation, who, detail: detail.to_owned() });
    }
}

impl MemoryLog {
    /// Takes the log back in time, as a restore from a copy that lacked its end: drops up to `records`
    /// of the newest records, but none that is older than the end of an incarnation; then ends every
    /// incarnation that had not ended and puts it in doubt. Answers what was dropped, newest first.
    ///
    /// A coordinator that lives vouches at its next heartbeat, unless a commit of its own is among
    /// them. Connections are not cut.
    pub fn go_back(&self, records: usize) -> Vec<Gid> {
        let mut state = self.shared.state();
        let newest_end = state.past.newest_end;
        let mut newest: Vec<(u64, Gid)> =
            state.decisions.iter().map(|(gid, row)| (row.written, *gid)).collect();
        newest.retain(|(written, _)| *written > newest_end);
        newest.sort_unstable_by(|a, b| b.cmp(a));
        newest.truncate(records);
        let dropped: Vec<Gid> = newest.into_iter().map(|(_, gid)| gid).collect();
        let rows: Vec<_> = dropped.iter().filter_map(|gid| state.decisions.remove(gid)).collect();
        state.doubt_all();
        for row in rows.iter().filter(|row| row.number > 0) {
            if let Some(run) = state.incarnations.get_mut(&row.record.id.incarnation) {
                run.lost = true;
            }
        }
        state.past.note(LogEventKind::Doubted, None, &format!("went back by {} records", dropped.len()));
        dropped
    }
}

impl State {
    pub(super) fn is_doubted(&self, owner: Incarnation) -> bool {
        self.incarnations.get(&owner).map_or(self.past.absent_doubted, |run| run.doubted)
    }

    /// Ends and doubts whatever has not ended.
    pub(super) fn doubt_all(&mut self) {
        self.past.switches += 1;
        self.past.absent_doubted = true;
        for run in self.incarnations.values_mut().filter(|run| !run.ended) {
            (run.ended, run.doubted) = (true, true);
            run.ended_at = Some(SystemTime::now());
        }
        self.past.ended();
    }

    /// Its coordinator lives: it knows that nothing of it is missing, or that something is.
    pub(super) fn vouch(&mut self, incarnation: Incarnation) {
        if let Some(run) = self.incarnations.get_mut(&incarnation)
            && run.doubted
            && !run.lost
        {
            run.doubted = false;
            self.past.note(LogEventKind::Vouched, Some(incarnation), "all that was acknowledged stands");
        }
    }

    pub(super) fn release(&mut self, which: Release, reason: &str) -> u64 {
        let mut released = BTreeSet::new();
        match which {
            Release::One(incarnation) => {
                let missing = || Run { ended: true, doubted: true, ..Run::default() };
                if self.past.absent_doubted {
                    self.incarnations.entry(incarnation).or_insert_with(missing);
                }
                if self.incarnations.get_mut(&incarnation).is_some_and(|run| std::mem::take(&mut run.doubted))
                {
                    released.insert(incarnation);
                }
            }
            Release::All => {
                self.past.absent_doubted = false;
                for (incarnation, run) in &mut self.incarnations {
                    if std::mem::take(&mut run.doubted) {
                        released.insert(*incarnation);
                    }
                }
            }
        }
        let of = match which {
            Release::One(incarnation) => Some(incarnation),
            Release::All => None,
        };
        self.past.note(LogEventKind::Released, of, reason);
        released.len() as u64
    }

    pub(super) fn status(&self, cluster: &Cluster) -> LogStatus {
        let incarnations = self.incarnations.iter().map(|(incarnation, run)| IncarnationStatus {
            incarnation: *incarnation,
            address: run.address.clone(),
            started_at: run.started_at.unwrap_or(SystemTime::UNIX_EPOCH),
            ended_at: run.ended_at,
            live: !run.ended,
            recovered: run.recovered,
            doubted: run.doubted,
        });
        LogStatus {
            kind: "memory",
            cluster: cluster.clone(),
            floor: self.floor.0,
            server: None,
            switches: self.past.switches,
            absent_doubted: self.past.absent_doubted,
            replication: None,
            incarnations: incarnations.filter(|seen| seen.live || seen.doubted || !seen.recovered).collect(),
            events: self.past.events.iter().rev().take(EVENTS_MAX as usize).cloned().collect(),
        }
    }
}
