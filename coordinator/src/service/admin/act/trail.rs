//! The audit's entries around an act: a beginning that is durable before anything is done, and an end
//! that is written in the end, however long the log is away.
//!
//! What a lost answer of the log may leave behind is cleared up: a beginning that stands although it was
//! taken for lost gets its end (*refused: nothing was done*), and before an end is written again it is
//! looked for. Two ends of one act can remain where a coordinator was taken for dead while it was at it:
//! each is true of the moment when it was written, and the first one counts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::decision_log::{AuditDraft, AuditEntry, AuditKind, AuditPage, DecisionLog, DecisionLogError};
use crate::journal::chain;
use crate::tasks::Tasks;

/// Between attempts to write an end.
const RETRY: Duration = Duration::from_millis(250);

/// How long a caller waits for the end of his act to be written.
const END_WAIT: Duration = Duration::from_secs(5);

/// Looks for a beginning whose answer was lost, after the log answers again: a statement that the log
/// still runs for us ends within its own limits.
const LOOKS: u32 = 40;

/// Entries looked through at once.
const PAGE: u32 = 1000;

/// Writes the audit of one coordinator's acts.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    log: Arc<dyn DecisionLog>,
    tasks: Tasks,
    /// Beginnings of acts that this process is at: nobody else's to complete, whatever became of the
    /// incarnation under which they were begun.
    under_way: Arc<Mutex<BTreeSet<u64>>>,
}

/// An act that has begun, until its end is written.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) entry: AuditEntry,
    /// The newest entry before it was planned.
    pub(super) head: u64,
}

impl Trail {
    pub(crate) fn new(log: Arc<dyn DecisionLog>, tasks: Tasks) -> Self {
        Self { log, tasks, under_way: Arc::default() }
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process is at the act that begins there.
    pub(super) fn is_under_way(&self, number: u64) -> bool {
        self.under_way().contains(&number)
    }

    /// The number of the newest entry.
    pub(super) async fn head(&self) -> Result<u64, DecisionLogError> {
        let newest = self.log.audit(AuditPage::Before(None), 1).await?;
        Ok(newest.first().map_or(0, |entry| entry.number))
    }

    /// Writes a beginning. Durable on return; on an error nothing is to be done.
    pub(super) async fn begin(&self, draft: AuditDraft, head: u64) -> Result<Begun, DecisionLogError> {
        match self.log.append_audit(&draft).await {
            Ok(entry) => {
                self.under_way().insert(entry.number);
                Ok(Begun { entry, head })
            }
            Err(error) => {
                // It may stand all the same.
                self.tasks.spawn(self.clone().end_if_begun(draft, head));
                Err(error)
            }
        }
    }

    /// Writes the end of an act; answers its number, or none if it could not be written yet: then it is
    /// written as soon as the log takes it, unless this process ends before.
    pub(super) async fn end(&self, begun: &Begun, draft: AuditDraft) -> Option<u64> {
        let number = begun.entry.number;
        let this = self.clone();
        let written = self.tasks.spawn(async move {
            let entry = this.write_end(number, draft).await;
            this.under_way().remove(&number);
            entry
        });
        match tokio::time::timeout(END_WAIT, written).await {
            Ok(Ok(Some(number))) => Some(number),
            Ok(Ok(None) | Err(_)) | Err(_) => None,
        }
    }

    async fn write_end(&self, begun: u64, draft: AuditDraft) -> u64 {
        let mut again = false;
        loop {
            // It may stand already, only after an answer was lost.
            let stands = if again { self.end_of(begun).await } else { Ok(None) };
            let written = match stands {
                Ok(Some(entry)) => Ok(entry),
                Ok(None) => self.log.append_audit(&draft).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(entry) => return entry.number,
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(target: "pactum::audit", begun, error, "the end of an act could not be written yet");
                }
            }
            again = true;
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The end that stands of an act.
    async fn end_of(&self, begun: u64) -> Result<Option<AuditEntry>, DecisionLogError> {
        let mut after = begun;
        loop {
            let page = self.log.audit(AuditPage::After(after), PAGE).await?;
            let Some(last) = page.last() else { return Ok(None) };
            after = last.number;
            if let Some(end) = page.into_iter().find(|entry| entry.draft.begun == Some(begun)) {
                return Ok(Some(end));
            }
        }
    }

    /// The answer to a beginning was lost, so that nothing is done. If it stands, it gets its end.
    async fn end_if_begun(self, draft: AuditDraft, head: u64) {
        let mut looks = 0;
        while looks < LOOKS {
            tokio::time::sleep(RETRY).await;
            match self.begun_since(&draft, head).await {
                Ok(Some(number)) => {
                    let result = "nothing was done: the log did not answer when this was written".to_owned();
                    let end = AuditDraft {
                        kind: AuditKind::Refused,
                        begun: Some(number),
                        after: draft.before.clone(),
                        result,
                        ..draft
                    };
                    self.write_end(number, end).await;
                    return;
                }
                Ok(None) => looks += 1,
                Err(_) => {}
            }
        }
    }

    /// A beginning of ours that is like this one and that nobody is at.
    async fn begun_since(&self, draft: &AuditDraft, head: u64) -> Result<Option<u64>, DecisionLogError> {
        let mut after = head;
        loop {
            let page = self.log.audit(AuditPage::After(after), PAGE).await?;
            let Some(last) = page.last() else { return Ok(None) };
            after = last.number;
            for entry in page.iter().filter(|entry| entry.draft == *draft) {
                if !self.is_under_way(entry.number) && self.end_of(entry.number).await?.is_none() {
                    return Ok(Some(entry.number));
                }
            }
        }
    }

    /// Entries before this one, newest first.
    pub(super) async fn before(&self, number: u64, limit: u32) -> Result<Vec<AuditEntry>, DecisionLogError> {
        self.log.audit(AuditPage::Before(Some(number)), limit).await
    }

    /// Writes what was found of an act whose coordinator died.
    pub(super) async fn found(&self, draft: &AuditDraft) -> Result<(), DecisionLogError> {
        let begun = draft.begun.unwrap_or_default();
        // Whoever else is at it may have been faster.
        if self.end_of(begun).await?.is_none() {
            self.log.append_audit(draft).await?;
        }
        Ok(())
    }
}
