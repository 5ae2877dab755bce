//! What a process says of itself, in a file that outlives it.
//!
//! Written with one `pwrite` at each change, so that whoever finds the process killed by SIGKILL
//! reads what was true at that moment: the page cache belongs to the system, not to the process.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pactum::Gid;

/// The file's name, inside the process's directory.
const NAME: &str = "status";
/// Four numbers of up to ten digits, and a blank or line end after each.
const WIDTH: usize = 44;
/// A transaction whose end was never seen is not counted as in flight for ever: counting too few
/// is honest, counting too many is not.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(15);
/// Between two searches for those, which look at all that are in flight.
const SWEEP: Duration = Duration::from_secs(1);

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Transactions between their first Prepare and their last acknowledgement here; for an
    /// application: between asking to commit and the answer.
    pub(crate) in_flight: u64,
    /// Transactions that a coordinator has not finished.
    pub(crate) open: u64,
    /// How often the protocol was seen broken.
    pub(crate) violations: u64,
    /// Answers that an application has had.
    pub(crate) answered: u64,
}

impl Status {
    /// What the process in that directory said last; nothing if it never did.
    pub(crate) fn read(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(NAME)).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self { in_flight: next(), open: next(), violations: next(), answered: next() }
    }
}

/// A process's own end of the file.
#[derive(Debug)]
pub(crate) struct Reporter {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    status: Status,
    in_flight: HashMap<Gid, InFlight>,
    /// When the too old were last left out.
    swept: Option<Instant>,
    /// Those that recovery has just found, and that no message was sent for yet.
    found: u64,
}

#[derive(Debug)]
struct InFlight {
    since: Instant,
    /// How many of its branches are not finished.
    branches: usize,
    /// A branch of it is prepared here.
    promised: bool,
}

impl Reporter {
    /// Begins anew: a fresh process has nothing in flight.
    pub(crate) fn create(directory: &Path) -> std::io::Result<Self> {
        let reporter = Self { file: File::create(directory.join(NAME))?, state: Mutex::default() };
        reporter.write(&Status::default());
        Ok(reporter)
    }

    /// Another branch of it is on its way, or it was found unfinished.
    pub(crate) fn began(&self, gid: Gid) {
        let mut state = self.lock();
        let new = || InFlight { since: Instant::now(), branches: 0, promised: false };
        state.in_flight.entry(gid).or_insert_with(new).branches += 1;
        self.told(&mut state);
    }

    /// One of its branches has ended.
    pub(crate) fn branch_ended(&self, gid: Gid) {
        let mut state = self.lock();
        if let Some(known) = state.in_flight.get_mut(&gid) {
            known.branches = known.branches.saturating_sub(1);
            if known.branches == 0 {
                state.in_flight.remove(&gid);
            }
        }
        self.told(&mut state);
    }

    /// A branch of it is prepared here.
    pub(crate) fn promised(&self, gid: Gid) {
        if let Some(known) = self.lock().in_flight.get_mut(&gid) {
            known.promised = true;
        }
    }

    /// It has voted: if that was no promise, this was its end.
    pub(crate) fn ended_unless_promised(&self, gid: Gid) {
        let promised = self.lock().in_flight.get(&gid).is_some_and(|known| known.promised);
        if !promised {
            self.ended(gid);
        }
    }

    /// So many were found unfinished, or are no longer only found.
    pub(crate) fn found(&self, count: u64) {
        let mut state = self.lock();
        state.found = count;
        self.told(&mut state);
    }

    /// It has ended as a whole.
    pub(crate) fn ended(&self, gid: Gid) {
        let mut state = self.lock();
        state.in_flight.remove(&gid);
        self.told(&mut state);
    }

    /// Changes what is said beside that.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut state = self.lock();
        change(&mut state.status);
        self.told(&mut state);
    }

    /// How many transactions are in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        let mut state = self.lock();
        self.told(&mut state);
        state.status.in_flight
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, state: &mut State) {
        let now = Instant::now();
        if state.swept.is_none_or(|swept| now.duration_since(swept) > SWEEP) {
            state.swept = Some(now);
            state.in_flight.retain(|_, known| now.duration_since(known.since) < IN_FLIGHT_MAX);
        }
        state.status.in_flight = state.in_flight.len() as u64 + state.found;
        self.write(&state.status);
    }

    fn write(&self, status: &Status) {
        let Status { in_flight, open, violations, answered } = status;
        let line = format!("{in_flight:>10} {open:>10} {violations:>10} {answered:>10}\n");
        debug_assert_eq!(line.len(), WIDTH);
        // Nobody can be told that the disk is full; the count is then that of a moment ago.
        drop(self.file.write_all_at(line.as_bytes(), 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(number: u128) -> Gid {
        Gid::from_uuid(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn what_is_in_flight_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let reporter = Reporter::create(directory.path()).unwrap();
        let read = || Status::read(directory.path());
        assert_eq!(read(), Status::default());
        reporter.began(gid(1));
        reporter.began(gid(1));
        reporter.began(gid(2));
        assert_eq!(read().in_flight, 2);
        reporter.branch_ended(gid(1));
        assert_eq!(read().in_flight, 2, "one branch of two");
        reporter.branch_ended(gid(1));
        reporter.ended(gid(2));
        reporter.update(|status| status.violations = 3);
        assert_eq!(read(), Status { violations: 3, ..Status::default() });
    }
}
