//! Reading what ended incarnations left unfinished, page by page, into the shards.

use std::collections::BTreeSet;
use std::sync::Arc;

use pactum_core::coordinator::Event;
use pactum_core::id::{Incarnation, TransactionId};

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
}

impl Scan {
    pub(super) fn new(journal: Journal, shards: Arc<Shards>, observer: Observer) -> Self {
        Self { journal, shards, observer, stuck: BTreeSet::new(), done: BTreeSet::new() }
    }

    /// Whether some incarnation's recovery was stopped by a record that cannot be read.
    pub(super) fn is_stuck(&self) -> bool {
        !self.stuck.is_empty()
    }

    /// Reads every ended incarnation that was not recovered yet. Those that fail are read again
    /// at the next call, from the start: what is driven already is not driven twice.
    pub(super) async fn run(&mut self) -> Result<(), DecisionLogError> {
        let unrecovered = self.journal.log.unrecovered_incarnations().await?;
        self.done.retain(|incarnation| unrecovered.contains(incarnation));
        for incarnation in unrecovered {
            if self.stuck.contains(&incarnation) || self.done.contains(&incarnation) {
                continue;
            }
            match self.read(incarnation).await {
                Ok(commits) => {
                    tracing::info!(%incarnation, commits, "unfinished commits are being driven");
                    self.observer.saw(Step::RecoveryScanned { incarnation, commits });
                    self.journal.log.mark_recovered(incarnation).await?;
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

    async fn read(&self, incarnation: Incarnation) -> Result<usize, DecisionLogError> {
        let (mut after, mut commits) = (None, 0);
        loop {
            let page = self.journal.log.unfinished_commits(incarnation, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(commits);
            };
            after = Some(last.number);
            commits += page.len();
            let ids: Vec<TransactionId> = page.iter().map(|commit| commit.record.id).collect();
            // Listed as stragglers before they are driven: a finish then takes them off the list.
            self.journal.finisher.recovered(&ids).await?;
            for commit in page {
                let gid = commit.record.id.gid;
                self.shards.tell(gid, Event::CommitRecovered { record: commit.record });
            }
        }
    }
}
