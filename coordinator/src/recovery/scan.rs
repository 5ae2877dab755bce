//! Reading what ended incarnations left unfinished, page by page, into the shards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pactum_core::coordinator::Event;
use pactum_core::id::{Incarnation, TransactionId};
use tokio::time::Instant;

use crate::decision_log::DecisionLogError;
use crate::journal::{Journal, chain};
use crate::observe::{Observer, Step};
use crate::shard::Shards;

/// Commits read at once. More makes the statement and its memory larger; this is a few
/// milliseconds of either.
const PAGE: u32 = 1000;

/// How far the unrecovered incarnations were read.
#[derive(Debug)]
pub(super) struct Scan {
    journal: Journal,
    shards: Arc<Shards>,
    observer: Observer,
    /// Holding a record that cannot be read. Not tried again by this process: a person must act.
    stuck: BTreeSet<Incarnation>,
    /// Read to the end by us. The log lists an incarnation for as long as it has stragglers, so
    /// that whoever starts later drives them too.
    done: BTreeSet<Incarnation>,
    /// Read in part so far.
    begun: BTreeMap<Incarnation, Progress>,
}

/// How far one incarnation was read. All up to here is being driven.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    after: Option<u64>,
    commits: usize,
    at_end: bool,
}

impl Scan {
    pub(super) fn new(journal: Journal, shards: Arc<Shards>, observer: Observer) -> Self {
        Self {
            journal,
            shards,
            observer,
            stuck: BTreeSet::new(),
            done: BTreeSet::new(),
            begun: BTreeMap::new(),
        }
    }

    /// Whether some incarnation's recovery was stopped by a record that cannot be read.
    pub(super) fn is_stuck(&self) -> bool {
        !self.stuck.is_empty()
    }

    /// Reads every ended incarnation that was not recovered yet, but stops after the page that
    /// ends past `until`. The next call goes on from there, also after an error.
    pub(super) async fn run(&mut self, until: Instant) -> Result<(), DecisionLogError> {
        let unrecovered = self.journal.log.unrecovered_incarnations().await?;
        self.done.retain(|incarnation| unrecovered.contains(incarnation));
        self.begun.retain(|incarnation, _| unrecovered.contains(incarnation));
        for incarnation in unrecovered {
            if self.stuck.contains(&incarnation) || self.done.contains(&incarnation) {
                continue;
            }
            match self.read(incarnation, until).await {
                Ok(Progress { at_end: false, .. }) => return Ok(()),
                Ok(Progress { commits, .. }) => {
                    tracing::info!(%incarnation, commits, "unfinished commits are being driven");
                    self.observer.saw(Step::RecoveryScanned { incarnation, commits });
                    self.journal.log.mark_recovered(incarnation).await?;
                    self.begun.remove(&incarnation);
                    self.done.insert(incarnation);
                }
                Err(error @ DecisionLogError::Corrupt { .. }) => {
                    tracing::error!(
                        %incarnation, error = %chain(&error),
                        "recovery of an incarnation has stopped at a record that cannot be read"
                    );
                    self.stuck.insert(incarnation);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read(&mut self, incarnation: Incarnation, until: Instant) -> Result<Progress, DecisionLogError> {
        let progress = self.begun.entry(incarnation).or_default();
        loop {
            let page = self.journal.log.unfinished_commits(incarnation, progress.after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(Progress { at_end: true, ..*progress });
            };
            let ids: Vec<TransactionId> = page.iter().map(|commit| commit.record.id).collect();
            // Listed as stragglers before they are driven: a finish then takes them off the list.
            self.journal.finisher.recovered(&ids).await?;
            progress.after = Some(last.number);
            progress.commits += page.len();
            for commit in page {
                let gid = commit.record.id.gid;
                self.shards.tell(gid, Event::CommitRecovered { record: commit.record });
            }
            if Instant::now() >= until {
                return Ok(*progress);
            }
        }
    }
}
