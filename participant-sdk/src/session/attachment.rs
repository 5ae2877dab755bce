//! One of the participant's addresses: a stream is kept open there for as long as it is wanted.
//!
//! What it keeps: a new stream is opened only when the old one's frames have been handed over or
//! dropped; resources are checked before each; all coordinators belong to one cluster.
//!
//! # Two addresses, one coordinator
//!
//! One live session per (instance, coordinator) is the rule, and the coordinator enforces it: a second
//! stream of ours ends the first. If two of the addresses given lead to one coordinator, the
//! incarnation in its Welcome shows it, and the one whose stream was ended waits in reserve until the
//! other's is lost. Else they would end each other for ever. A learned address is given up instead
//! (`members.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::BackoffBuilder as _;
use pactum_core::id::{Incarnation, ResourceName};
use pactum_core::participant::SessionId;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Shared;
use super::checks::{Checked, check_all};
use super::hooks::DynResource;
use super::stream::{End, Stream};
use super::wire::{self, Clock, Welcome};
use crate::application::endpoint::Target;
use crate::observe::Observer;
use crate::participant::{SessionState, SessionStatus};
use crate::resource::Registration;

/// Re-attaching waits at least and at most this long; jitter keeps a herd apart. A restarted
/// coordinator finds its participants again within the upper bound.
const REATTACH_DELAY_MIN: Duration = Duration::from_millis(50);
const REATTACH_DELAY_MAX: Duration = Duration::from_secs(2);

/// For so long after a stream was lost, re-attaching waits at most [`REATTACH_DELAY_EARLY`]: who is away
/// for a moment costs transactions that moment and little more.
const REATTACH_EARLY: Duration = Duration::from_secs(5);
const REATTACH_DELAY_EARLY: Duration = Duration::from_millis(250);

/// Keeps one stream open.
pub(super) struct Attachment {
    /// Its number among the participant's coordinators; never used again for another address.
    pub(super) place: usize,
    pub(super) address: String,
    /// Whether another coordinator named the address.
    pub(super) learned: bool,
    pub(super) target: Target,
    pub(super) connect_timeout: Duration,
    pub(super) resources: Arc<[Arc<dyn DynResource>]>,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) observer: Observer,
    /// Cancelled when this one shall end, alone or with the participant.
    pub(super) stop: CancellationToken,
}

/// How long to wait between attempts.
struct Delays {
    delays: backon::ExponentialBackoff,
    lost_at: Option<Instant>,
}

impl Delays {
    fn new() -> Self {
        Self { delays: reattach_delays(), lost_at: None }
    }

    /// A stream that was of use has ended, or an attempt has failed.
    fn next(&mut self) -> Duration {
        let delay = self.delays.next().unwrap_or(REATTACH_DELAY_MAX);
        let lost_at = *self.lost_at.get_or_insert_with(Instant::now);
        if lost_at.elapsed() < REATTACH_EARLY { delay.min(REATTACH_DELAY_EARLY) } else { delay }
    }
}

impl Attachment {
    /// Attaches, serves, and attaches again, until it is stopped.
    pub(super) async fn run(self) {
        let mut delays = Delays::new();
        let mut said = None;
        let mut led_to = None;
        let mut just_passed = BTreeMap::new();
        loop {
            let opened = tokio::select! {
                () = self.stop.cancelled() => return,
                opened = async {
                    self.wait_in_reserve(led_to).await;
                    self.open(std::mem::take(&mut just_passed)).await
                } => opened,
            };
            let end = match opened {
                Ok((stream, Checked { passed, left_out, .. })) => {
                    let since = Instant::now();
                    said = None;
                    let end = self.serve(stream, left_out, &mut led_to).await;
                    // Two streams that end each other must not do so in a tight loop, nor must one
                    // that is ended as soon as it is open.
                    if since.elapsed() >= REATTACH_DELAY_MAX && !matches!(end, End::Superseded(_)) {
                        delays = Delays::new();
                    }
                    if let End::Again(name, registration) = end {
                        info!(address = self.address, resource = %name, "attaching again, with a resource that was left out");
                        just_passed = passed;
                        just_passed.insert(name, registration);
                        continue;
                    }
                    end
                }
                Err(end) => end,
            };
            let (problem, superseded) = match end {
                End::Stopped | End::Again(..) => return,
                End::Broken(problem) => (problem, false),
                End::Superseded(problem) => (problem, true),
            };
            // Said once: a long outage is one piece of news.
            if said.as_ref() == Some(&problem) {
                debug!(address = self.address, problem, "still not attached to the coordinator");
            } else {
                warn!(address = self.address, problem, "not attached to the coordinator; trying again");
                said = Some(problem.clone());
            }
            self.note(SessionState::Detached { problem });
            let delay = delays.next();
            tokio::select! {
                () = self.stop.cancelled() => return,
                // The stream that took the place of ours is being opened: its Welcome says whose it is.
                () = self.holder_appears(led_to), if superseded => {}
                () = sleep(if superseded { REATTACH_DELAY_MAX } else { delay }) => {}
            }
        }
    }

    /// Which other given address is attached to this incarnation.
    fn holder(
        &self,
        sessions: &BTreeMap<usize, SessionStatus>,
        incarnation: Option<Incarnation>,
    ) -> Option<(usize, String)> {
        if self.learned || incarnation.is_none() {
            return None;
        }
        let holds = |(place, status): &(&usize, &SessionStatus)| {
            **place != self.place && !status.learned && status.incarnation() == incarnation
        };
        sessions.iter().find(holds).map(|(place, status)| (*place, status.address.clone()))
    }

    async fn holder_appears(&self, incarnation: Option<Incarnation>) {
        let mut sessions = self.shared.sessions.subscribe();
        if sessions.wait_for(|sessions| self.holder(sessions, incarnation).is_some()).await.is_err() {
            // The sender lives in what we hold ourselves.
            std::future::pending::<()>().await;
        }
    }

    /// Waits while another given address is attached to the coordinator that this one led to last.
    async fn wait_in_reserve(&self, led_to: Option<Incarnation>) {
        let mut sessions = self.shared.sessions.subscribe();
        loop {
            let holder = self.holder(&sessions.borrow_and_update(), led_to);
            let Some((place, of)) = holder else { return };
            info!(
                address = self.address,
                of, "the address leads to a coordinator that is attached to by another"
            );
            self.note(SessionState::InReserve { of });
            let lost = |sessions: &BTreeMap<usize, SessionStatus>| {
                !sessions.get(&place).is_some_and(SessionStatus::is_attached)
            };
            if sessions.wait_for(lost).await.is_err() {
                // The sender lives in what we hold ourselves.
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn note(&self, state: SessionState) {
        self.shared.sessions.send_modify(|sessions| {
            if let Some(status) = sessions.get_mut(&self.place) {
                status.state = state;
            }
        });
    }

    /// Keeps whom the coordinator names.
    pub(super) fn told(&self, welcome: &Welcome) {
        self.shared.told.send_if_modified(|told| {
            let before = told.insert(self.place, welcome.members.clone());
            before.as_ref() != Some(&welcome.members)
        });
    }

    async fn open(
        &self,
        just_passed: BTreeMap<ResourceName, Registration>,
    ) -> Result<(Stream, Checked), End> {
        let checked = check_all(&self.resources, just_passed).await;
        if checked.passed.is_empty() {
            return Err(End::Broken(checked.problem));
        }
        self.shared.lock_registrations().extend(checked.passed.clone());
        let hello = wire::hello(self.shared.instance, &checked.passed);
        let session = SessionId(self.shared.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let opening = Stream::open(&self.target, hello, session, self.clock);
        let stream = match timeout(self.connect_timeout, opening).await {
            Ok(opened) => opened?,
            Err(_elapsed) => return Err(End::Broken(String::from("no answer within the connect timeout"))),
        };
        self.agree(&stream.welcome).map_err(End::Broken)?;
        Ok((stream, checked))
    }

    /// All coordinators of one participant belong to one cluster: else a branch's name, which holds
    /// the cluster, would be another one for each of them.
    pub(super) fn agree(&self, welcome: &Welcome) -> Result<(), String> {
        let mut other = None;
        self.shared.cluster.send_if_modified(|cluster| {
            let first = cluster.is_none();
            let known = cluster.get_or_insert_with(|| welcome.cluster.clone());
            other = (*known != welcome.cluster).then(|| known.clone());
            first
        });
        match other {
            Some(known) => {
                Err(format!("it belongs to cluster {}, and another coordinator to {known}", welcome.cluster))
            }
            None => Ok(()),
        }
    }
}

fn reattach_delays() -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(REATTACH_DELAY_MIN)
        .with_max_delay(REATTACH_DELAY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}
