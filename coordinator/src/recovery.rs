//! Incarnations: ours begins, beats and ends; others' ends are noticed, and what they left
//! undone is driven.
//!
//! ```text
//!  start ─▶ beat ─▶ beat ─▶ …          our row in the log; every beat reads all others
//!            │ another's beat stands still for a lease, by our clock ─▶ end it
//!            │ who lives ─▶ shards, streams, and the takeover: its share of what others left
//!            │ ours was ended ─▶ tell the shards, begin anew (H10)
//!            └ floor ─▶ shards
//! ```
//!
//! No clock has a say in safety (law 6): a lease chooses who is ended, and ending is the log's
//! fence, which is safe at any moment and only unkind. While the log cannot be reached we do not
//! know whether we were ended: nothing new is started then, and for what was proposed the fence
//! holds. A record that cannot be read stops the recovery of its incarnation and is told as an
//! error; it is never skipped (B10).

mod audits;
mod forgetting;
mod pace;
mod scan;
mod takeover;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pactum_core::coordinator::Event;
use pactum_core::id::{Gid, Incarnation};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

pub(crate) use audits::complete_for_ever;
pub(crate) use forgetting::forget_for_ever;
pub(crate) use takeover::Takeover;
use watch::Watch;

use crate::decision_log::{DecisionLogError, LogView};
use crate::journal::{Journal, chain};
use crate::lifecycle::{Lifecycle, LogFacts, Member};
use crate::metrics::Metrics;
use crate::observe::{Observer, Step};
use crate::shard::Shards;

/// Keeps our incarnation in the log, and ends those that have lapsed.
pub(crate) struct Keeper {
    pub(crate) journal: Journal,
    pub(crate) shards: Arc<Shards>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) observer: Observer,
    pub(crate) metrics: Metrics,
    /// Where we serve, for others to read; empty if they cannot reach us.
    pub(crate) address: String,
    pub(crate) heartbeat: Duration,
    pub(crate) lease: Duration,
    /// Told to the takeover.
    pub(crate) membership: tokio::sync::watch::Sender<Option<Membership>>,
}

/// Who shares the work, as we see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Ours.
    pub(crate) own: Incarnation,
    /// All that live, ours included.
    pub(crate) live: BTreeSet<Incarnation>,
}

/// After a beat that failed, the next one comes after this part of the usual time: so service resumes
/// soon, and a lease holds several attempts.
const RETRY_PART: u32 = 4;

impl Keeper {
    /// Runs for the coordinator's life.
    pub(crate) async fn run(self) {
        let mut watch = Watch::new(self.lease, self.heartbeat);
        loop {
            let incarnation = self.begin().await;
            self.keep(incarnation, &mut watch).await;
            if self.lifecycle.is_draining() {
                return;
            }
        }
    }

    /// Takes a new incarnation, however often the log must be asked.
    async fn begin(&self) -> Incarnation {
        let mut pause = interval(self.heartbeat);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pause.tick().await;
            match self.start().await {
                Ok((incarnation, view)) => {
                    tracing::info!(%incarnation, "incarnation started");
                    self.metrics.incarnation_started();
                    // Known before anybody may ask: whom the shards do not know as live, they close.
                    let live = view.incarnations.iter().map(|seen| seen.incarnation).collect();
                    self.shards.tell_all(&Event::FloorRaised { floor: view.floor });
                    self.shards.tell_all(&Event::LiveIncarnationsRead { live });
                    self.observer.saw(Step::IncarnationStarted { incarnation });
                    self.shards.tell_all(&Event::IncarnationStarted { incarnation });
                    self.lifecycle.floor_raised(view.floor);
                    self.lifecycle.begun(incarnation, Member::all(&view));
                    return incarnation;
                }
                Err(error) => self.log_availability(Some(&chain(&error))),
            }
        }
    }

    /// Begins one in the log, and reads who else is there. If only that fails, it lapses unused.
    async fn start(&self) -> Result<(Incarnation, LogView), DecisionLogError> {
        let incarnation = self.journal.log.start_incarnation(&self.address).await?;
        let view = self.journal.log.heartbeat(incarnation).await?;
        Ok((incarnation, view))
    }

    /// Beats until our incarnation has ended.
    async fn keep(&self, own: Incarnation, watch: &mut Watch) {
        let mut beats = interval(self.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut writer = self.journal.writer.available();
        let (mut floor, mut problem) = (Gid::NIL, None);
        loop {
            self.next_beat(&mut beats, &mut writer, problem.as_deref()).await;
            let view = match self.beat(own).await {
                Ok(view) => view,
                Err(why) => {
                    self.log_availability(Some(&why));
                    problem = Some(why);
                    beats.reset_after(self.heartbeat / RETRY_PART);
                    continue;
                }
            };
            problem = None;
            self.log_availability(None);
            if !view.live {
                tracing::warn!(incarnation = %own, "our incarnation was ended by another coordinator");
                self.membership.send_replace(None);
                self.lifecycle.ended();
                self.shards.tell_all(&Event::IncarnationEnded);
                return;
            }
            if view.floor > floor {
                floor = view.floor;
                self.shards.tell_all(&Event::FloorRaised { floor });
            }
            self.lifecycle.floor_raised(floor.max(self.shards.start_floor()));
            let live = self.end_lapsed(own, &view, watch).await;
            self.members_read(own, &view, live);
        }
    }

    /// Waits for the next beat. What the writer finds out about the log meanwhile is told at once.
    async fn next_beat(
        &self,
        beats: &mut Interval,
        writer: &mut tokio::sync::watch::Receiver<bool>,
        problem: Option<&str>,
    ) {
        loop {
            tokio::select! {
                _ = beats.tick() => return,
                Ok(()) = writer.changed() => self.log_availability(problem),
            }
        }
    }

    /// One beat, or why it failed. One that takes longer than a lease is as good as none.
    async fn beat(&self, own: Incarnation) -> Result<LogView, String> {
        match timeout(self.lease, self.journal.log.heartbeat(own)).await {
            Ok(Ok(view)) => Ok(view),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_elapsed) => Err("it did not take our heartbeat in time".to_owned()),
        }
    }

    /// Tells everybody who lives now.
    fn members_read(&self, own: Incarnation, view: &LogView, live: BTreeSet<Incarnation>) {
        let mut members = Member::all(view);
        members.retain(|member| live.contains(&member.incarnation));
        let facts = LogFacts { doubted: view.doubted, replication: view.replication.clone() };
        self.lifecycle.log_read(members, facts);
        let now = Some(Membership { own, live });
        self.membership.send_if_modified(|before| {
            if *before == now {
                return false;
            }
            // The shards first: whoever is driven by us must not count as live there.
            if let Some(Membership { live, .. }) = &now {
                self.shards.tell_all(&Event::LiveIncarnationsRead { live: live.clone() });
            }
            *before = now;
            true
        });
    }

    /// Ends those whose beat has stood still for a lease; answers who is live after that.
    async fn end_lapsed(&self, own: Incarnation, view: &LogView, watch: &mut Watch) -> BTreeSet<Incarnation> {
        let mut live: BTreeSet<Incarnation> = view.incarnations.iter().map(|seen| seen.incarnation).collect();
        live.insert(own);
        let lapsed = match self.journal.log.kind() {
            // One process holds the file, which is us: all others are gone.
            "sqlite" => live.iter().copied().filter(|other| *other != own).collect(),
            _ => watch.observe(own, view, Instant::now()),
        };
        for incarnation in lapsed {
            match self.journal.log.end_incarnation(incarnation).await {
                Ok(()) => {
                    tracing::info!(%incarnation, "incarnation ended: its heartbeat had stopped");
                    self.metrics.took_over();
                    live.remove(&incarnation);
                }
                Err(error) => {
                    tracing::warn!(%incarnation, error = %chain(&error), "it could not be ended yet");
                }
            }
        }
        live
    }

    /// The log answered our beat, or did not for that reason. It can be written only if the writer
    /// says so too.
    fn log_availability(&self, problem: Option<&str>) {
        // One that is only starting, or was shut down by us, has nothing to say of the log.
        let writer = &self.journal.writer;
        let of_writer = || {
            let is_in_trouble = !*writer.available().borrow() && !writer.is_closed();
            is_in_trouble.then(|| writer.last_error()).flatten()
        };
        let problem = problem.map(str::to_owned).or_else(of_writer);
        if !self.lifecycle.log_availability_changed(problem.as_deref()) {
            return;
        }
        match &problem {
            None => tracing::info!("the log can be written"),
            Some(why) => tracing::warn!(why, "the log cannot be written: new commits are refused"),
        }
        self.shards.tell_all(&Event::LogAvailabilityChanged { available: problem.is_none() });
    }
}
