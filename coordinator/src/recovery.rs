//! Incarnations: ours begins, beats and ends; others' ends are noticed, and what they left
//! undone is driven.
//!
//! ```text
//!  start ─▶ beat ─▶ beat ─▶ …          our row in the log; every beat reads all others
//!            │ another's beat stands still for a lease, by our clock ─▶ end it
//!            │ ended and unrecovered ─▶ its unfinished commits ─▶ shards
//!            │ ours was ended ─▶ tell the shards, begin anew (H10)
//!            └ floor, live incarnations ─▶ shards
//! ```
//!
//! No clock has a say in safety (law 6): a lease chooses who is ended, and ending is the log's
//! fence, which is safe at any moment and only unkind. A record that cannot be read stops the
//! recovery of its incarnation and is told as an error; it is never skipped (B10).

mod forgetting;
mod scan;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pactum_core::coordinator::Event;
use pactum_core::id::{Gid, Incarnation};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

pub(crate) use forgetting::forget_for_ever;
use scan::Scan;
use watch::Watch;

use crate::decision_log::{DecisionLogError, LogView};
use crate::journal::{Journal, chain};
use crate::lifecycle::Lifecycle;
use crate::observe::{Observer, Step};
use crate::shard::Shards;

/// Keeps our incarnation in the log, and takes over from those that have ended.
pub(crate) struct Keeper {
    pub(crate) journal: Journal,
    pub(crate) shards: Arc<Shards>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) health: tonic_health::server::HealthReporter,
    pub(crate) observer: Observer,
    /// Where we serve, for others to read.
    pub(crate) address: String,
    pub(crate) heartbeat: Duration,
    pub(crate) lease: Duration,
}

/// The health service's name for recovery: not serving while a record cannot be read.
pub(crate) const RECOVERY_HEALTH: &str = "pactum.recovery";

impl Keeper {
    /// Runs for the coordinator's life.
    pub(crate) async fn run(self) {
        let mut scan = Scan::new(self.journal.clone(), Arc::clone(&self.shards), self.observer.clone());
        let mut watch = Watch::new(self.lease, self.heartbeat);
        loop {
            let incarnation = self.begin().await;
            self.keep(incarnation, &mut watch, &mut scan).await;
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
                    // Known before anybody may ask: whom the shards do not know as live, they close.
                    let live = view.incarnations.iter().map(|seen| seen.incarnation).collect();
                    self.shards.tell_all(&Event::FloorRaised { floor: view.floor });
                    self.shards.tell_all(&Event::LiveIncarnationsRead { live });
                    self.observer.saw(Step::IncarnationStarted { incarnation });
                    self.shards.tell_all(&Event::IncarnationStarted { incarnation });
                    self.lifecycle.incarnation_changed(Some(incarnation));
                    return incarnation;
                }
                Err(error) => self.log_failed(&error),
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
    async fn keep(&self, own: Incarnation, watch: &mut Watch, scan: &mut Scan) {
        let mut beats = interval(self.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut floor = Gid::NIL;
        let mut live = None;
        loop {
            beats.tick().await;
            // A beat that takes longer than a lease is as good as none.
            let view = match timeout(self.lease, self.journal.log.heartbeat(own)).await {
                Ok(Ok(view)) => view,
                Ok(Err(error)) => {
                    self.log_failed(&error);
                    continue;
                }
                Err(_elapsed) => {
                    tracing::warn!("the log did not take our heartbeat in time");
                    self.log_availability(false);
                    continue;
                }
            };
            self.log_availability(true);
            if !view.live {
                tracing::warn!(incarnation = %own, "our incarnation was ended by another coordinator");
                self.lifecycle.incarnation_changed(None);
                self.shards.tell_all(&Event::IncarnationEnded);
                return;
            }
            if view.floor > floor {
                floor = view.floor;
                self.shards.tell_all(&Event::FloorRaised { floor });
            }
            self.lifecycle.floor_raised(floor.max(self.shards.start_floor()));
            let others = self.end_lapsed(own, &view, watch).await;
            if live.as_ref() != Some(&others) {
                self.shards.tell_all(&Event::LiveIncarnationsRead { live: others.clone() });
                live = Some(others);
            }
            self.recover(scan).await;
        }
    }

    /// Ends those whose beat has stood still for a lease; answers who is live after that.
    async fn end_lapsed(&self, own: Incarnation, view: &LogView, watch: &mut Watch) -> BTreeSet<Incarnation> {
        let mut live: BTreeSet<Incarnation> = view.incarnations.iter().map(|seen| seen.incarnation).collect();
        live.insert(own);
        let lapsed = match self.journal.log.kind() {
            "postgres" => watch.observe(own, view, Instant::now()),
            // An embedded log has one process, which is us: all others are gone.
            _ => live.iter().copied().filter(|other| *other != own).collect(),
        };
        for incarnation in lapsed {
            match self.journal.log.end_incarnation(incarnation).await {
                Ok(()) => {
                    tracing::info!(%incarnation, "incarnation ended: its heartbeat had stopped");
                    live.remove(&incarnation);
                }
                Err(error) => self.log_failed(&error),
            }
        }
        live
    }

    async fn recover(&self, scan: &mut Scan) {
        // Beats come first: a long recovery must not cost us our own incarnation.
        if let Err(error) = scan.run(Instant::now() + self.heartbeat / 2).await {
            self.log_failed(&error);
        }
        let name = RECOVERY_HEALTH;
        if scan.is_stuck() {
            self.health.set_service_status(name, tonic_health::ServingStatus::NotServing).await;
        } else {
            self.health.set_service_status(name, tonic_health::ServingStatus::Serving).await;
        }
    }

    fn log_failed(&self, error: &DecisionLogError) {
        tracing::warn!(error = %chain(error), "the log did not answer");
        self.log_availability(false);
    }

    fn log_availability(&self, beat: bool) {
        let available = beat && *self.journal.writer.available().borrow();
        if self.lifecycle.log_availability_changed(available) {
            if available {
                tracing::info!("the log can be written");
            } else {
                let why = self.journal.writer.last_error().unwrap_or_default();
                tracing::warn!(why, "the log cannot be written: new commits are refused");
            }
            self.shards.tell_all(&Event::LogAvailabilityChanged { available });
        }
    }
}
