//! Reading what ended incarnations left unfinished, page by page: first to list it, then to drive it.
//!
//! **Listed before it is driven.** One coordinator, that the ended incarnation falls to, lists all that
//! is unfinished as stragglers and then marks the incarnation as recovered. Independently of that each
//! living coordinator lists and drives its share: those commits whose gid falls to it. Whoever lists hands
//! its share over from the same pages, as long as what it handed over before goes on; listing
//! does not wait for a resource that hangs.
//!
//! **No commit falls between two.** Shares follow from the set of living coordinators, and whenever
//! ours changes everything is read again. Two who see different sets may for a while both drive a
//! commit (harmless), or neither; but the sets change until they agree, since whoever does not live
//! lapses, and the reading that follows the last change covers, over all of them, every commit. A
//! coordinator that drains still does its share, until it has ended in the log. What is left over by
//! a race (listed again after it had finished, by whoever had read it before) is found by looking
//! again, at a pace that costs little.
//!
//! Commits come before aborts, and the oldest first (F5): an abort is presumed, and is written only
//! when somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pactum_core::id::{Gid, Incarnation, TransactionId};
use pactum_core::rendezvous;
use tokio::time::Instant;

use super::Membership;
use super::pace::Pace;
use super::takeover::Takeover;
use crate::decision_log::{DecisionLogError, FinishUpdate, NumberedCommit};
use crate::journal::{Journal, chain};
use crate::lifecycle::Lifecycle;
use crate::observe::{Observer, Step};
use crate::registry::Registry;
use crate::shard::Shards;

/// Commits read at once. More makes the statement and its memory larger; this is a few
/// milliseconds of either.
const PAGE: u32 = 1000;

/// Between looks at whether the shards have room for a further page.
const ROOM_LOOK: Duration = Duration::from_millis(10);

/// Listing waits so long for room before it goes on without handing over. Longer delays the mark, and with it
/// the log's floor, by no more than this; shorter could read again what would have been handed over in a moment.
const ROOM_WAIT: Duration = Duration::from_millis(500);

/// Looking again takes at most one part in so many of the time.
const LOOK_PART: u32 = 20;

/// How far the unrecovered incarnations were read.
#[derive(Debug)]
pub(super) struct Scan {
    journal: Journal,
    shards: Arc<Shards>,
    registry: Arc<Registry>,
    lifecycle: Arc<Lifecycle>,
    observer: Observer,
    look_again: Duration,
    open_max: usize,
    /// Under which what follows was read.
    membership: Option<Membership>,
    /// Some incarnation's share was never read to the end.
    behind: bool,
    /// Holding a record that cannot be read. Not tried again by this process: a person must act.
    stuck: BTreeSet<Incarnation>,
    /// Marked as recovered: the log holds a list of what is unfinished.
    listed: BTreeSet<Incarnation>,
    /// Our share was read to the end.
    driven: BTreeSet<Incarnation>,
    /// Our share was read in part.
    driving: BTreeMap<Incarnation, Progress>,
    /// Those whose end was told.
    told: BTreeSet<Incarnation>,
    pace: Pace,
    /// Since when all is being read; none when that is done.
    look_began: Option<Instant>,
    look_again_at: Instant,
}

/// How far our share of one incarnation was read. All up to here is being driven.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    after: Option<u64>,
    commits: usize,
}

impl Scan {
    pub(super) fn new(takeover: &Takeover) -> Self {
        Self {
            journal: takeover.journal.clone(),
            shards: Arc::clone(&takeover.shards),
            registry: Arc::clone(&takeover.registry),
            lifecycle: Arc::clone(&takeover.lifecycle),
            observer: takeover.observer.clone(),
            look_again: takeover.look_again,
            open_max: takeover.open_max,
            membership: None,
            behind: false,
            stuck: BTreeSet::new(),
            listed: BTreeSet::new(),
            driven: BTreeSet::new(),
            driving: BTreeMap::new(),
            told: BTreeSet::new(),
            pace: Pace::default(),
            look_began: None,
            look_again_at: Instant::now(),
        }
    }

    /// How many incarnations' recovery was stopped by a record that cannot be read.
    pub(super) fn stuck(&self) -> usize {
        self.stuck.len()
    }

    /// Whether there are ended incarnations of which our share was never read to the end.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Reads what is unfinished of every ended incarnation. Stops when `changed` says that others
    /// live than `now`; the next call goes on from there.
    pub(super) async fn run(
        &mut self,
        now: &Membership,
        changed: &(impl Fn() -> bool + Sync),
    ) -> Result<(), DecisionLogError> {
        self.begin(now);
        let unrecovered = self.journal.log.unrecovered_incarnations().await?;
        self.forget_others(&unrecovered);
        self.note_behind(&unrecovered);
        self.read_marks(&unrecovered).await?;
        for incarnation in &unrecovered {
            if self.falls_to_us(Gid::from_uuid(*incarnation.as_uuid())) && !self.listed.contains(incarnation)
            {
                let listed = self.list(*incarnation, changed).await;
                self.unless_corrupt(*incarnation, listed)?;
            }
        }
        for incarnation in &unrecovered {
            if self.driven.contains(incarnation) || self.stuck.contains(incarnation) {
                continue;
            }
            let driven = self.drive(*incarnation, changed).await;
            self.unless_corrupt(*incarnation, driven)?;
            self.note_behind(&unrecovered);
            if changed() {
                return Ok(());
            }
        }
        if let Some(began) = self.look_began.take() {
            self.look_again_at = Instant::now() + self.look_again.max(began.elapsed() * LOOK_PART);
        }
        Ok(())
    }

    /// Forgets what was read if others live now, or if it is time to look again.
    fn begin(&mut self, now: &Membership) {
        if self.membership.as_ref() != Some(now) {
            self.membership = Some(now.clone());
        } else if self.look_began.is_some() || Instant::now() < self.look_again_at {
            return;
        }
        self.driving.clear();
        self.driven.clear();
        self.look_began = Some(Instant::now());
    }

    /// Notes whether our share of some of these was never read to the end. What is looked at again
    /// does not count, and what cannot be read is told apart.
    fn note_behind(&mut self, unrecovered: &[Incarnation]) {
        let is_left =
            |incarnation: &Incarnation| !self.told.contains(incarnation) && !self.stuck.contains(incarnation);
        self.behind = unrecovered.iter().any(is_left);
        self.lifecycle.recovery_stands(self.behind, self.stuck.len());
    }

    fn forget_others(&mut self, unrecovered: &[Incarnation]) {
        let is_left = |incarnation: &Incarnation| unrecovered.contains(incarnation);
        self.listed.retain(is_left);
        self.driven.retain(is_left);
        self.told.retain(is_left);
        self.driving.retain(|incarnation, _| is_left(incarnation));
    }

    /// Finds out who is marked as recovered, at each look: marks are lazy, and the log may have lost
    /// some. Whoever is not is listed anew.
    async fn read_marks(&mut self, unrecovered: &[Incarnation]) -> Result<(), DecisionLogError> {
        if unrecovered.is_empty() || self.look_began.is_none() {
            return Ok(());
        }
        let status = self.journal.log.status().await?;
        let open: BTreeSet<Incarnation> =
            status.incarnations.iter().filter(|seen| !seen.recovered).map(|seen| seen.incarnation).collect();
        self.listed.retain(|incarnation| !open.contains(incarnation));
        Ok(())
    }

    /// Whether we are the one, of those that live, that this falls to.
    fn falls_to_us(&self, gid: Gid) -> bool {
        let Some(Membership { own, live }) = &self.membership else { return false };
        rendezvous::winner(gid, live.iter().copied()) == Some(*own)
    }

    fn unless_corrupt(
        &mut self,
        incarnation: Incarnation,
        result: Result<(), DecisionLogError>,
    ) -> Result<(), DecisionLogError> {
        match result {
            Err(error @ DecisionLogError::Corrupt { .. }) => {
                if self.stuck.insert(incarnation) {
                    tracing::error!(
                        %incarnation, error = %chain(&error),
                        "recovery of an incarnation has stopped at a record that cannot be read"
                    );
                }
                Ok(())
            }
            result => result,
        }
    }

    /// Lists all that is unfinished as stragglers, and marks the incarnation as recovered; hands over our
    /// share on the way while there is room. After an error it begins anew: the list is written lazily, and
    /// what came before the error may be lost.
    async fn list(
        &mut self,
        incarnation: Incarnation,
        changed: &(impl Fn() -> bool + Sync),
    ) -> Result<(), DecisionLogError> {
        if self.stuck.contains(&incarnation) {
            return Ok(());
        }
        let log = Arc::clone(&self.journal.log);
        let history = async || log.status().await.map(|status| (status.server, status.switches));
        let begun_in = history().await?;
        let mut after = None;
        // What was handed over before is not handed over again.
        let mut hands_over =
            self.progress(incarnation).after.is_none() && !self.driven.contains(&incarnation);
        loop {
            let page = log.unfinished_commits(incarnation, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.number);
            hands_over = hands_over && self.wait_for_room(changed, Some(ROOM_WAIT)).await;
            let (share, others): (Vec<_>, Vec<_>) =
                page.into_iter().partition(|commit| hands_over && self.falls_to_us(commit.record.id.gid));
            if !others.is_empty() {
                let add_stragglers = others.iter().map(|commit| commit.record.id).collect();
                log.record_finished(&FinishUpdate { add_stragglers, ..FinishUpdate::default() }).await?;
            }
            if hands_over {
                self.hand_over(incarnation, share, after).await?;
            }
        }
        // A log that failed over meanwhile, unseen between two of these calls, may have lost pages.
        if history().await? != begun_in {
            return Ok(());
        }
        log.mark_recovered(incarnation).await?;
        self.listed.insert(incarnation);
        if hands_over {
            self.reached_the_end(incarnation);
        }
        Ok(())
    }

    /// Hands our share to the shards, as fast as they finish it.
    async fn drive(
        &mut self,
        incarnation: Incarnation,
        changed: &(impl Fn() -> bool + Sync),
    ) -> Result<(), DecisionLogError> {
        loop {
            if !self.wait_for_room(changed, None).await {
                return Ok(());
            }
            let after = self.progress(incarnation).after;
            let page = self.journal.log.unfinished_commits(incarnation, after, PAGE).await?;
            let Some(last) = page.last() else {
                self.reached_the_end(incarnation);
                return Ok(());
            };
            let after = Some(last.number);
            let share = page.into_iter().filter(|commit| self.falls_to_us(commit.record.id.gid)).collect();
            self.hand_over(incarnation, share, after).await?;
            if changed() {
                return Ok(());
            }
        }
    }

    fn progress(&self, incarnation: Incarnation) -> Progress {
        self.driving.get(&incarnation).copied().unwrap_or_default()
    }

    /// Hands over our share of a page that ends with the number `after`.
    async fn hand_over(
        &mut self,
        incarnation: Incarnation,
        share: Vec<NumberedCommit>,
        after: Option<u64>,
    ) -> Result<(), DecisionLogError> {
        if !share.is_empty() {
            let ids: Vec<TransactionId> = share.iter().map(|commit| commit.record.id).collect();
            // Listed before they are driven: a finish then takes them off the list.
            self.journal.finisher.recovered(&ids).await?;
        }
        let commits = self.progress(incarnation).commits + share.len();
        self.driving.insert(incarnation, Progress { after, commits });
        self.pace.told(self.moving(&share), Instant::now());
        for commit in share {
            self.shards.recover(commit.record);
        }
        Ok(())
    }

    /// Waits until the shards have room for a further page. Answers whether they have: not if others live
    /// now, nor after the longest wait, if there is one.
    async fn wait_for_room(
        &mut self,
        changed: &(impl Fn() -> bool + Sync),
        longest: Option<Duration>,
    ) -> bool {
        let until = longest.map(|longest| Instant::now() + longest);
        while !self.has_room() {
            if changed() || until.is_some_and(|until| until <= Instant::now()) {
                return false;
            }
            tokio::time::sleep(ROOM_LOOK).await;
        }
        true
    }

    /// How many of these have a branch at a resource that somebody attached speaks for: the others
    /// wait for that, and take nobody's turn (F6).
    fn moving(&self, share: &[NumberedCommit]) -> usize {
        let sessions = self.registry.sessions();
        let moves = |commit: &&NumberedCommit| {
            commit.record.branches.iter().any(|decided| sessions.is_attached(&decided.branch.resource))
        };
        share.iter().filter(moves).count()
    }

    fn has_room(&mut self) -> bool {
        // Half is left to new transactions, whatever happens.
        self.shards.open() < self.open_max.div_ceil(2)
            && self.pace.has_room(self.shards.recovering(), Instant::now())
    }

    fn reached_the_end(&mut self, incarnation: Incarnation) {
        let commits = self.progress(incarnation).commits;
        if self.told.insert(incarnation) {
            tracing::info!(%incarnation, commits, "our share of its unfinished commits is being driven");
            self.observer.saw(Step::RecoveryScanned { incarnation, commits });
        } else {
            tracing::debug!(%incarnation, commits, "its unfinished commits were looked at again");
        }
        self.driving.remove(&incarnation);
        self.driven.insert(incarnation);
    }
}
