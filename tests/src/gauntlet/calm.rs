//! Whether databases and links are whole: recovery is owed only from then on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Counts the outages that are going on, and remembers the end of the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calm(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    going_on: u32,
    last_end: Option<Instant>,
}

/// An outage, until this is dropped.
#[derive(Debug)]
pub(crate) struct Outage(Calm);

impl Calm {
    pub(crate) fn outage(&self) -> Outage {
        self.lock().going_on += 1;
        Outage(self.clone())
    }

    /// From when on recovery counts that is owed since `since`: that moment itself, or the end of
    /// the last outage after it, or not yet.
    pub(crate) fn counts_from(&self, since: Instant) -> Option<Instant> {
        let state = self.lock();
        if state.going_on > 0 {
            return None;
        }
        Some(state.last_end.map_or(since, |end| end.max(since)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.going_on -= 1;
        state.last_end = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_counts_from_the_end_of_the_last_outage() {
        let (calm, start) = (Calm::default(), Instant::now());
        assert_eq!(calm.counts_from(start), Some(start));
        let (one, two) = (calm.outage(), calm.outage());
        drop(one);
        assert_eq!(calm.counts_from(start), None);
        drop(two);
        assert!(calm.counts_from(start).unwrap() > start);
        let later = Instant::now();
        assert_eq!(calm.counts_from(later), Some(later));
    }
}
