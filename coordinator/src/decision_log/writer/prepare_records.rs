//! Prepare records: what is known of transactions that stay undecided, written lazily.
//!
//! They are for people, who want to see after a crash what was going on; they have no say in any
//! outcome. So they yield: at most a tenth of the rows that decisions take, and none while
//! decisions wait, unless their delay was configured as 0. Whatever cannot be kept in memory is
//! left out.
//!
//! A record that is forgotten before it was written costs the log nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pactum_core::id::Gid;
use tokio::sync::Notify;

use super::Shared;
use crate::decision_log::UndecidedRecord;

/// Between two rounds, for records to gather, and for those that are decided meanwhile to go.
const ROUND: Duration = Duration::from_millis(100);

/// Decisions per prepare record while decisions are written: a tenth of the rows.
const SHARE: u64 = 10;

/// Rows in a round in which no decision was written, and in any round at most.
const IDLE_ROWS: u64 = 256;

/// Those that wait, and the names of those that were written.
pub(crate) struct PrepareRecords {
    state: Mutex<State>,
    changed: Notify,
    closed: AtomicBool,
    capacity: usize,
    always: bool,
}

#[derive(Default)]
struct State {
    add: BTreeMap<Gid, UndecidedRecord>,
    remove: BTreeSet<Gid>,
    /// Perhaps in the log: to be removed from there when forgotten.
    written: BTreeSet<Gid>,
}

impl PrepareRecords {
    pub(super) fn new(capacity: usize, always: bool) -> Self {
        let (state, changed) = (Mutex::default(), Notify::new());
        Self { state, changed, closed: AtomicBool::new(false), capacity, always }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, record: UndecidedRecord) {
        let mut state = self.state();
        if state.written.len() + state.add.len() < self.capacity {
            state.remove.remove(&record.id.gid);
            state.add.insert(record.id.gid, record);
            drop(state);
            self.changed.notify_one();
        }
    }

    pub(super) fn forget(&self, gid: Gid) {
        let mut state = self.state();
        state.add.remove(&gid);
        if state.written.remove(&gid) {
            state.remove.insert(gid);
            drop(state);
            self.changed.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Takes up to `rows` out, removals first since they shorten what is kept.
    fn take(&self, rows: usize) -> (Vec<UndecidedRecord>, Vec<Gid>) {
        let mut state = self.state();
        let remove: Vec<Gid> = state.remove.iter().take(rows).copied().collect();
        for gid in &remove {
            state.remove.remove(gid);
        }
        let mut add = Vec::new();
        while add.len() + remove.len() < rows {
            let Some((gid, record)) = state.add.pop_first() else { break };
            state.written.insert(gid);
            add.push(record);
        }
        (add, remove)
    }

    /// Puts back what could not be written. What was forgotten meanwhile stays forgotten.
    fn put_back(&self, add: Vec<UndecidedRecord>, remove: Vec<Gid>) {
        let mut state = self.state();
        state.remove.extend(remove);
        for record in add {
            if state.written.contains(&record.id.gid) {
                state.add.entry(record.id.gid).or_insert(record);
            }
        }
    }

    fn has_work(&self) -> bool {
        let state = self.state();
        !(state.add.is_empty() && state.remove.is_empty())
    }
}

/// Writes them until the writer is closed. The last round clears what is known to be decided.
pub(super) async fn run(shared: Arc<Shared>) {
    let records = &shared.prepare_records;
    let mut credit = Credit::default();
    loop {
        let is_closed = records.closed.load(Ordering::Acquire);
        if !records.has_work() && !is_closed {
            records.changed.notified().await;
        }
        if !records.always && !is_closed {
            tokio::time::sleep(ROUND).await;
        }
        let decided = shared.rows.load(Ordering::Relaxed);
        let has_share = records.always || is_closed;
        let rows = if has_share { IDLE_ROWS } else { credit.rows(decided, shared.queue.len()) };
        let (add, remove) = records.take(usize::try_from(rows).unwrap_or(usize::MAX));
        if !(add.is_empty() && remove.is_empty()) {
            credit.spend(add.len() + remove.len());
            if let Err(error) = shared.log.record_undecided(&add, &remove).await {
                tracing::debug!(%error, "prepare records were not written");
                records.put_back(add, remove);
                if !is_closed {
                    tokio::time::sleep(ROUND).await;
                }
            }
        }
        if is_closed {
            return;
        }
    }
}

/// The share that prepare records have earned: a tenth of the decisions' rows; in a round without
/// decisions, a fixed number.
#[derive(Debug, Default)]
struct Credit {
    seen: u64,
    tenths: u64,
}

impl Credit {
    /// How many rows may be written now, when so many decisions have been written and so many wait.
    fn rows(&mut self, decided: u64, waiting: usize) -> u64 {
        let new = decided.saturating_sub(self.seen);
        self.seen = decided;
        let earned = if new == 0 { IDLE_ROWS * SHARE } else { new };
        self.tenths = (self.tenths + earned).min(IDLE_ROWS * SHARE);
        if waiting > 0 { 0 } else { self.tenths / SHARE }
    }

    fn spend(&mut self, rows: usize) {
        let tenths = u64::try_from(rows).unwrap_or(u64::MAX).saturating_mul(SHARE);
        self.tenths = self.tenths.saturating_sub(tenths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_rows_goes_to_prepare_records_while_decisions_are_written() {
        let mut credit = Credit::default();
        assert_eq!(credit.rows(1000, 0), 100);
        credit.spend(100);
        assert_eq!(credit.rows(1009, 0), 0, "nine decisions have not earned a row");
        assert_eq!(credit.rows(1010, 0), 1, "ten have");
        credit.spend(1);
        assert_eq!(credit.rows(1010, 0), IDLE_ROWS, "an idle log has room for them");
    }

    #[test]
    fn none_is_written_while_decisions_wait() {
        let mut credit = Credit::default();
        assert_eq!(credit.rows(1000, 1), 0);
        assert_eq!(credit.rows(1000, 0), IDLE_ROWS);
    }
}
