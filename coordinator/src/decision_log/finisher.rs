//! End records: which commits need not be driven again, written lazily, off the critical path.
//!
//! Each commit proposal of an incarnation gets a number. The *finish mark* of an incarnation says
//! that all its commits numbered up to it are finished, but for a few *stragglers* listed apart. So a
//! committed transaction costs the log its one row and nothing else; thousands of ends cost
//! one small update.
//!
//! **They have no say in safety.** Lost or late end records mean that a finished transaction is
//! driven once more: its branches answer as before. What would do harm is an end record that comes
//! too soon, since a commit must stay readable and driven until every branch has acknowledged it
//! (I2). It cannot: a number counts as finished only when told so by [`Finisher::finished`], or by
//! [`Finisher::not_committed`] that no commit stands under it. A number whose fate is unknown counts
//! as unfinished. A mark and all stragglers that it passes are written in one transaction, whether or
//! not they were written before; and a
//! straggler is taken off only after it has finished.
//!
//! It does not know what finishing means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pactum_core::id::{Gid, Incarnation, TransactionId};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::{DecisionLog, DecisionLogError, FinishUpdate};

/// How the finisher paces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinisherConfig {
    /// Between two updates, if anything changed. Longer writes less and drives more finished
    /// transactions again after a crash.
    pub period: Duration,
    /// After so many periods an unfinished commit is listed as a straggler, so that the mark can pass
    /// it. Fewer lists transactions that would have finished in a moment.
    pub patience: u32,
    /// Stragglers of one incarnation at most. With more the mark stands still: then something is
    /// wrong with more than a few branches, and a restart reads from the mark on.
    pub stragglers_max: usize,
}

impl Default for FinisherConfig {
    fn default() -> Self {
        Self { period: Duration::from_millis(200), patience: 10, stragglers_max: 256 }
    }
}

/// Gives numbers to commits and keeps their end records. Clones share it; it ends with the last one.
#[derive(Clone)]
pub struct Finisher {
    shared: Arc<Shared>,
    /// Ends the task when the last handle goes.
    _alive: Arc<Alive>,
}

struct Shared {
    log: Arc<dyn DecisionLog>,
    config: FinisherConfig,
    books: Mutex<Books>,
    /// One update at a time: a mark that is overtaken by an older one with fewer stragglers listed
    /// would be wrong.
    writing: AsyncMutex<()>,
    stopped: Notify,
}

struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.stopped.notify_one();
    }
}

/// All that is known, without any writing.
#[derive(Debug, Default)]
struct Books {
    own: BTreeMap<Incarnation, Book>,
    /// Recovered commits of others (or of an earlier run) that stand in the log as stragglers.
    foreign: BTreeSet<Gid>,
    /// Foreign stragglers that have finished and are still listed in the log.
    foreign_done: BTreeSet<Gid>,
}

/// The commits of one incarnation that are not known finished.
#[derive(Debug, Default)]
struct Book {
    last_number: u64,
    numbers: BTreeMap<Gid, u64>,
    open: BTreeMap<u64, Open>,
    /// As written.
    mark: u64,
    listed: BTreeSet<Gid>,
}

#[derive(Debug)]
struct Open {
    gid: Gid,
    /// Periods that it has been seen open.
    periods: u32,
}

impl fmt::Debug for Finisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finisher").field("books", &*self.shared.books()).finish_non_exhaustive()
    }
}

impl Finisher {
    /// Starts the task that writes, on the current tokio runtime.
    pub fn start(log: Arc<dyn DecisionLog>, config: FinisherConfig) -> Self {
        let shared = Arc::new(Shared {
            log,
            config,
            books: Mutex::default(),
            writing: AsyncMutex::default(),
            stopped: Notify::new(),
        });
        tokio::spawn(run(Arc::clone(&shared)));
        Self { _alive: Arc::new(Alive(Arc::clone(&shared))), shared }
    }

    /// The number for a commit proposal of an own incarnation, from 1; while the transaction is not
    /// finished, the same for each attempt.
    pub fn number_for(&self, id: TransactionId) -> u64 {
        self.shared.books().own.entry(id.incarnation).or_default().number_for(id.gid)
    }

    /// The commit that was numbered is known not to stand: lost against an abort, fenced or forgotten.
    pub fn not_committed(&self, id: TransactionId) {
        self.finished(id);
    }

    /// Every branch of this commit has finished, or it never needs to be driven. Unknown ids are
    /// ignored, so telling twice does no harm.
    pub fn finished(&self, id: TransactionId) {
        let mut books = self.shared.books();
        if let Some(book) = books.own.get_mut(&id.incarnation) {
            book.finished(id.gid);
        }
        if books.foreign.remove(&id.gid) {
            books.foreign_done.insert(id.gid);
        }
    }

    /// Takes over unfinished commits that recovery found: on return they are listed as stragglers in
    /// the log (lazily, but before whatever is written later), so that their incarnation may be
    /// marked recovered. Repeatable. Each is taken off when it [finishes](Self::finished).
    ///
    /// # Errors
    /// The log did not answer: do not mark the incarnation, and call again.
    pub async fn recovered(&self, found: &[TransactionId]) -> Result<(), DecisionLogError> {
        let _writing = self.shared.writing.lock().await;
        let update = FinishUpdate { add_stragglers: found.to_vec(), ..FinishUpdate::default() };
        self.shared.log.record_finished(&update).await?;
        let mut books = self.shared.books();
        books.foreign.extend(found.iter().map(|id| id.gid));
        Ok(())
    }

    /// Writes what has changed now. For the end of a run; what it cannot write is only driven again.
    ///
    /// # Errors
    /// The log did not answer.
    pub async fn flush(&self) -> Result<(), DecisionLogError> {
        self.shared.write().await
    }

    /// Writes what has changed, and stops writing.
    ///
    /// # Errors
    /// The log did not answer.
    pub async fn shut_down(&self) -> Result<(), DecisionLogError> {
        self.shared.stopped.notify_one();
        self.flush().await
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one update an incarnation that has changes. What fails is found again the next time.
    async fn write(&self) -> Result<(), DecisionLogError> {
        let _writing = self.writing.lock().await;
        let own: Vec<Incarnation> = self.books().own.keys().copied().collect();
        for incarnation in own {
            let update = match self.books().own.get_mut(&incarnation) {
                Some(book) => book.update(incarnation, &self.config),
                None => None,
            };
            if let Some(update) = update {
                self.log.record_finished(&update).await?;
                if let Some(book) = self.books().own.get_mut(&incarnation) {
                    book.written(&update);
                }
            }
        }
        let done: Vec<Gid> = self.books().foreign_done.iter().copied().collect();
        if !done.is_empty() {
            let update = FinishUpdate { remove_stragglers: done, ..FinishUpdate::default() };
            self.log.record_finished(&update).await?;
            let mut books = self.books();
            for gid in &update.remove_stragglers {
                books.foreign_done.remove(gid);
            }
        }
        Ok(())
    }
}

async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.config.period) => {}
            () = shared.stopped.notified() => return,
        }
        if let Err(error) = shared.write().await {
            tracing::debug!(%error, "end records were not written; the next period tries again");
        }
    }
}

impl Book {
    fn number_for(&mut self, gid: Gid) -> u64 {
        if let Some(number) = self.numbers.get(&gid) {
            return *number;
        }
        self.last_number += 1;
        self.numbers.insert(gid, self.last_number);
        self.open.insert(self.last_number, Open { gid, periods: 0 });
        self.last_number
    }

    fn finished(&mut self, gid: Gid) {
        if let Some(number) = self.numbers.remove(&gid) {
            self.open.remove(&number);
        }
    }

    /// What a further period has to write, if anything: the mark as far as it gets, past those that
    /// are open for long and are listed with it.
    fn update(&mut self, incarnation: Incarnation, config: &FinisherConfig) -> Option<FinishUpdate> {
        let mut mark = self.last_number;
        let mut stragglers = BTreeSet::new();
        for (number, open) in &mut self.open {
            open.periods = open.periods.saturating_add(1);
            if mark < *number {
                continue; // behind the one that stops the mark: only grows older
            }
            if open.periods > config.patience && stragglers.len() < config.stragglers_max {
                stragglers.insert(open.gid);
            } else {
                mark = number - 1;
            }
        }
        let is_longer = !stragglers.is_subset(&self.listed);
        let remove: Vec<Gid> =
            self.listed.iter().filter(|gid| !self.numbers.contains_key(gid)).copied().collect();
        // A listed one stays listed until it finishes: the written mark may have passed it. With each mark
        // goes all that it passes: a crash of the log may have lost what was listed before, which was lazy.
        (mark > self.mark || is_longer || !remove.is_empty()).then(|| FinishUpdate {
            mark: Some((incarnation, mark.max(self.mark))),
            add_stragglers: stragglers.into_iter().map(|gid| TransactionId { incarnation, gid }).collect(),
            remove_stragglers: remove,
        })
    }

    fn written(&mut self, update: &FinishUpdate) {
        if let Some((_, mark)) = update.mark {
            self.mark = mark;
        }
        self.listed.extend(update.add_stragglers.iter().map(|id| id.gid));
        for gid in &update.remove_stragglers {
            self.listed.remove(gid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(number: u128) -> Gid {
        Gid::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn step(book: &mut Book, config: &FinisherConfig) -> Option<FinishUpdate> {
        let update = book.update(Incarnation::NIL, config);
        if let Some(update) = &update {
            book.written(update);
        }
        update
    }

    fn mark(update: Option<FinishUpdate>) -> Option<u64> {
        update.and_then(|update| update.mark).map(|(_, mark)| mark)
    }

    #[test]
    fn a_gid_keeps_its_number_until_it_is_finished() {
        let mut book = Book::default();
        assert_eq!(book.number_for(gid(1)), 1);
        assert_eq!(book.number_for(gid(2)), 2);
        assert_eq!(book.number_for(gid(1)), 1);
    }

    #[test]
    fn the_mark_stops_before_the_first_that_is_not_finished() {
        let (mut book, config) = (Book::default(), FinisherConfig::default());
        for number in 1..=4 {
            book.number_for(gid(number));
        }
        book.finished(gid(1));
        book.finished(gid(3));
        assert_eq!(mark(step(&mut book, &config)), Some(1));
        assert_eq!(step(&mut book, &config), None, "nothing changed, nothing is written");
        book.finished(gid(2));
        assert_eq!(mark(step(&mut book, &config)), Some(3));
        book.finished(gid(4));
        assert_eq!(mark(step(&mut book, &config)), Some(4));
    }

    #[test]
    fn a_straggler_is_listed_together_with_the_mark_that_passes_it_and_removed_when_it_finishes() {
        let (mut book, config) = (Book::default(), FinisherConfig { patience: 1, ..Default::default() });
        book.number_for(gid(1));
        book.number_for(gid(2));
        book.finished(gid(2));
        assert_eq!(step(&mut book, &config), None);
        let update = step(&mut book, &config).unwrap();
        assert_eq!(update.mark, Some((Incarnation::NIL, 2)));
        assert_eq!(update.add_stragglers.iter().map(|id| id.gid).collect::<Vec<_>>(), [gid(1)]);
        book.finished(gid(1));
        let update = step(&mut book, &config).unwrap();
        assert_eq!(update.remove_stragglers, [gid(1)]);
        assert_eq!(step(&mut book, &config), None);
    }

    #[test]
    fn a_mark_stands_by_itself_if_the_log_lost_the_one_before() {
        let (mut book, config) = (Book::default(), FinisherConfig { patience: 0, ..Default::default() });
        book.number_for(gid(1));
        let _lost_in_a_crash_of_the_log = step(&mut book, &config).unwrap();
        book.number_for(gid(2));
        book.finished(gid(2));
        let update = step(&mut book, &config).unwrap();
        assert_eq!(update.mark, Some((Incarnation::NIL, 2)));
        assert_eq!(update.add_stragglers.iter().map(|id| id.gid).collect::<Vec<_>>(), [gid(1)]);
        assert_eq!(step(&mut book, &config), None, "nothing changed, nothing is written");
    }

    #[test]
    fn with_too_many_stragglers_the_mark_stands_still() {
        let config = FinisherConfig { patience: 0, stragglers_max: 2, ..Default::default() };
        let mut book = Book::default();
        for number in 1..=4 {
            book.number_for(gid(number));
        }
        let update = step(&mut book, &config).unwrap();
        assert_eq!((update.mark, update.add_stragglers.len()), (Some((Incarnation::NIL, 2)), 2));
        book.finished(gid(1));
        let update = step(&mut book, &config).unwrap();
        assert_eq!((update.mark, update.remove_stragglers), (Some((Incarnation::NIL, 3)), vec![gid(1)]));
    }
}
