//! Following the coordinators of a cluster: attaching to those that are named, letting those go that
//! nobody names any more.
//!
//! One live session per (instance, coordinator) is the rule, and the coordinator enforces it: a second
//! stream of ours ends the first. So where a given and a learned address lead to one coordinator,
//! the learned one has to go, also if it holds the stream at the moment. (Of two given ones, one waits
//! in reserve: `attachment.rs`.)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pactum_core::id::Incarnation;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::Shared;
use super::attachment::Attachment;
use super::hooks::DynResource;
use super::wire::Clock;
use crate::application::endpoint::Target;
use crate::members::{DIAL_AFTER, Dialer, LET_GO_AFTER, MEMBERS_MAX, Member};
use crate::observe::Observer;
use crate::participant::SessionStatus;

/// Nothing changes by itself but that learned coordinators grow old.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What every session of a participant is started with.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) connect_timeout: Duration,
    pub(crate) resources: Arc<[Arc<dyn DynResource>]>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Clock,
    pub(crate) observer: Observer,
    pub(crate) tasks: TaskTracker,
}

impl Sessions {
    /// Keeps a stream open to an address that was given.
    pub(crate) fn start(&self, place: usize, address: String, target: Target) {
        self.attach(place, address, target, false, self.shared.stop.clone());
    }

    /// Keeps a stream open to an address, until `stop`.
    fn attach(&self, place: usize, address: String, target: Target, learned: bool, stop: CancellationToken) {
        let attachment = Attachment {
            place,
            address,
            learned,
            target,
            connect_timeout: self.connect_timeout,
            resources: Arc::clone(&self.resources),
            shared: Arc::clone(&self.shared),
            clock: self.clock,
            observer: self.observer.clone(),
            stop,
        };
        self.tasks.spawn(attachment.run());
    }
}

/// What is remembered between looks.
pub(crate) struct Follower {
    sessions: Sessions,
    dialer: Dialer,
    next_place: usize,
    learned: BTreeMap<usize, Learned>,
    /// Named, not attached to, and since when.
    unreached: BTreeMap<Incarnation, Instant>,
}

/// A coordinator that another one named.
struct Learned {
    address: String,
    stop: CancellationToken,
    /// When it was named last.
    named_at: Instant,
    /// Whom it led to when it was attached last.
    led_to: Option<Incarnation>,
}

impl Follower {
    /// Numbers its sessions from `next_place` on.
    pub(crate) fn new(sessions: Sessions, dialer: Dialer, next_place: usize) -> Self {
        Self { sessions, dialer, next_place, learned: BTreeMap::new(), unreached: BTreeMap::new() }
    }

    /// Follows until the participant stops.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.sessions.shared);
        let (mut told, mut statuses) = (shared.told.subscribe(), shared.sessions.subscribe());
        loop {
            told.borrow_and_update();
            statuses.borrow_and_update();
            let look_again = self.look();
            // The senders live in what we hold ourselves.
            tokio::select! {
                () = shared.stop.cancelled() => return,
                _ = told.changed() => {}
                _ = statuses.changed() => {}
                () = sleep(look_again) => {}
            }
        }
    }

    /// Looks once; answers when to look again at the latest.
    fn look(&mut self) -> Duration {
        let now = Instant::now();
        let told: BTreeMap<Incarnation, Member> = {
            let told = self.sessions.shared.told.borrow();
            told.values().flatten().map(|member| (member.incarnation, member.clone())).collect()
        };
        let statuses = self.sessions.shared.sessions.borrow().clone();
        self.let_go(&told, &statuses, now);
        self.unreached.retain(|incarnation, _| told.contains_key(incarnation));
        let mut look_again = LOOK_AGAIN;
        for (incarnation, member) in told {
            let address = self.dialer.address(&member);
            let attached = |status: &SessionStatus| {
                status.address == address || status.incarnation() == Some(incarnation)
            };
            if statuses.values().any(attached) {
                self.unreached.remove(&incarnation);
                continue;
            }
            let since = *self.unreached.entry(incarnation).or_insert(now);
            let waited = now.duration_since(since);
            if waited < DIAL_AFTER {
                look_again = look_again.min(DIAL_AFTER.saturating_sub(waited));
            } else if statuses.len() < MEMBERS_MAX {
                self.unreached.remove(&incarnation);
                self.dial(incarnation, address, now);
            }
        }
        look_again
    }

    /// Ends learned sessions that are not needed: another one leads to the same coordinator, or nobody
    /// has named it for long and it is not attached to.
    fn let_go(
        &mut self,
        told: &BTreeMap<Incarnation, Member>,
        statuses: &BTreeMap<usize, SessionStatus>,
        now: Instant,
    ) {
        let named: Vec<String> = told.values().map(|member| self.dialer.address(member)).collect();
        for (place, learned) in &mut self.learned {
            let status = statuses.get(place);
            learned.led_to = status.and_then(SessionStatus::incarnation).or(learned.led_to);
            let attached = status.is_some_and(SessionStatus::is_attached);
            if attached || named.contains(&learned.address) {
                learned.named_at = now;
            }
        }
        let earlier_leads_there = |place: usize, learned: &Learned| {
            let mut earlier = statuses.range(..place);
            learned.led_to.is_some() && earlier.any(|(_, status)| status.incarnation() == learned.led_to)
        };
        let shared = &self.sessions.shared;
        self.learned.retain(|place, learned| {
            let double = earlier_leads_there(*place, learned);
            let keep = !double && now.duration_since(learned.named_at) < LET_GO_AFTER;
            if !keep {
                info!(address = learned.address, double, "a coordinator that was named is let go");
                learned.stop.cancel();
                shared.sessions.send_modify(|sessions| drop(sessions.remove(place)));
            }
            keep
        });
    }

    fn dial(&mut self, incarnation: Incarnation, address: String, now: Instant) {
        let Some(target) = self.dialer.learned(&address) else { return };
        info!(address, %incarnation, "attaching to a coordinator that another one named");
        let place = self.next_place;
        self.next_place += 1;
        let stop = self.sessions.shared.stop.child_token();
        self.sessions.shared.sessions.send_modify(|sessions| {
            sessions.insert(place, SessionStatus::new(address.clone(), true));
        });
        self.sessions.attach(place, address.clone(), target, true, stop.clone());
        self.learned.insert(place, Learned { address, stop, named_at: now, led_to: None });
    }
}
