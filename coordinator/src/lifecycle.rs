//! Whether this coordinator serves, and under which names: what every handler asks first and what
//! every stream is told in a Welcome.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pactum_core::id::{Cluster, Gid, Incarnation};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::decision_log::{LogView, Replication};
use crate::error::ServiceError;
use crate::metrics::Recovery;

/// What streams are told, first of all and at each change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// All coordinators on one log.
    pub(crate) cluster: Cluster,
    /// The incarnation that new transactions belong to; `None` while there is none, and while
    /// draining.
    pub(crate) incarnation: Option<Incarnation>,
    /// New gids must be greater.
    pub(crate) floor: Gid,
    /// Every coordinator on the log that is alive, by incarnation; ourselves among them unless we
    /// start nothing new.
    pub(crate) coordinators: Vec<Member>,
}

/// A living coordinator, as the log shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) incarnation: Incarnation,
    /// `host:port`; empty if it does not say where others reach it.
    pub(crate) address: Arc<str>,
}

impl Member {
    /// Whoever lives by this view of the log.
    pub(crate) fn all(view: &LogView) -> Vec<Self> {
        let mut members: Vec<Self> = view
            .incarnations
            .iter()
            .map(|seen| Self { incarnation: seen.incarnation, address: seen.address.as_str().into() })
            .collect();
        // So that the same set looks the same at each look.
        members.sort_unstable_by_key(|member| member.incarnation);
        members
    }
}

/// What the log said of itself at our last heartbeat, for operators.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogFacts {
    /// Incarnations in doubt.
    pub(crate) doubted: u64,
    /// How it is replicated; none where it is one file.
    pub(crate) replication: Option<Replication>,
}

/// The coordinator's life from start to stop.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    standing: watch::Sender<Standing>,
    draining: AtomicBool,
    /// Whether there ever was an incarnation of ours: since then it is known who else lives.
    has_begun: AtomicBool,
    log_available: watch::Sender<bool>,
    recovery: watch::Sender<Recovery>,
    known: Mutex<Known>,
}

/// What is known and not told to everybody.
#[derive(Debug, Default)]
struct Known {
    /// The incarnation that is ours in the log, also while draining.
    own: Option<Incarnation>,
    members: Vec<Member>,
    facts: LogFacts,
    /// Why the log cannot be written, in its own words.
    problem: Option<Arc<str>>,
}

impl Lifecycle {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let standing = Standing { cluster, incarnation: None, floor: Gid::NIL, coordinators: Vec::new() };
        Self {
            standing: watch::Sender::new(standing),
            draining: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            log_available: watch::Sender::new(true),
            recovery: watch::Sender::new(Recovery::default()),
            known: Mutex::default(),
        }
    }

    /// Each statement on it leaves it valid, so a panic elsewhere does not spoil it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told now.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// What is told, and each change of it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Our incarnation began, beside these others (ours is among them).
    pub(crate) fn begun(&self, incarnation: Incarnation, members: Vec<Member>) {
        let mut known = self.known();
        known.own = Some(incarnation);
        known.members = members;
        self.has_begun.store(true, Ordering::Release);
        self.tell(&known);
    }

    /// Our incarnation was ended.
    pub(crate) fn ended(&self) {
        let mut known = self.known();
        if let Some(own) = known.own.take() {
            known.members.retain(|member| member.incarnation != own);
        }
        self.tell(&known);
    }

    /// A heartbeat showed who lives, and what the log says of itself.
    pub(crate) fn log_read(&self, members: Vec<Member>, facts: LogFacts) {
        let mut known = self.known();
        known.members = members;
        known.facts = facts;
        self.tell(&known);
    }

    /// The incarnation that is ours in the log, also while draining.
    pub(crate) fn own(&self) -> Option<Incarnation> {
        self.known().own
    }

    /// Every living coordinator, ourselves included, also while draining.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.known().members.clone()
    }

    /// What the log said of itself last.
    pub(crate) fn log_facts(&self) -> LogFacts {
        self.known().facts.clone()
    }

    /// Tells everybody what has changed, in one piece. Called with the lock held, so that what is
    /// told last is what is known last.
    fn tell(&self, known: &Known) {
        let incarnation = known.own.filter(|_| !self.is_draining());
        // Who starts nothing new is not to be found by whoever wants to start something.
        let told = |member: &&Member| incarnation.is_some() || Some(member.incarnation) != known.own;
        let coordinators: Vec<Member> = known.members.iter().filter(told).cloned().collect();
        self.standing.send_if_modified(|standing| {
            let changed = standing.incarnation != incarnation || standing.coordinators != coordinators;
            standing.incarnation = incarnation;
            standing.coordinators = coordinators;
            changed
        });
    }

    /// New gids must be greater than `floor`; it never falls.
    pub(crate) fn floor_raised(&self, floor: Gid) {
        self.standing.send_if_modified(|standing| {
            let raised = floor > standing.floor;
            standing.floor = standing.floor.max(floor);
            raised
        });
    }

    /// The log can be written, or cannot for the reason that it gave. Answers whether that it can,
    /// or cannot, is news.
    pub(crate) fn log_availability_changed(&self, problem: Option<&str>) -> bool {
        let available = problem.is_none();
        self.known().problem = problem.map(Arc::from);
        self.log_available.send_if_modified(|before| std::mem::replace(before, available) != available)
    }

    pub(crate) fn is_log_available(&self) -> bool {
        *self.log_available.borrow()
    }

    /// Whether the log can be written, and each change of it.
    pub(crate) fn log_availability(&self) -> watch::Receiver<bool> {
        self.log_available.subscribe()
    }

    /// Why the log cannot be written, in its own words; none if it can.
    pub(crate) fn log_problem(&self) -> Option<Arc<str>> {
        self.known().problem.clone()
    }

    /// How recovery stands now.
    pub(crate) fn recovery(&self) -> Recovery {
        *self.recovery.borrow()
    }

    /// How recovery stands, and each change of it.
    pub(crate) fn recovery_changes(&self) -> watch::Receiver<Recovery> {
        self.recovery.subscribe()
    }

    /// Recovery has caught up, or has not; since when is kept from the first time that it had not.
    pub(crate) fn recovery_stands(&self, is_behind: bool, stuck: usize) {
        self.recovery.send_if_modified(|before| {
            let since = before.behind_since.unwrap_or_else(Instant::now);
            let now = Recovery { behind_since: is_behind.then_some(since), stuck };
            std::mem::replace(before, now) != now
        });
    }

    /// From now on nothing new is started here.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.tell(&self.known());
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether calls are served. Once they were, they are to the end: also without an incarnation
    /// there are transactions in flight to be ended, and outcomes to be told.
    ///
    /// # Errors
    /// [`ServiceError::Starting`]; nothing happened.
    pub(crate) fn serves(&self) -> Result<(), ServiceError> {
        if self.has_begun.load(Ordering::Acquire) || self.is_draining() {
            Ok(())
        } else {
            Err(ServiceError::Starting)
        }
    }

    /// Whether new transactions may be started, and under which incarnation.
    ///
    /// # Errors
    /// [`ServiceError::Starting`] or [`ServiceError::Draining`]; nothing happened.
    pub(crate) fn may_start(&self) -> Result<Incarnation, ServiceError> {
        if self.is_draining() {
            return Err(ServiceError::Draining);
        }
        self.standing.borrow().incarnation.ok_or(ServiceError::Starting)
    }
}

/// How long a caller who was turned away should wait: about as long as it takes to start, or to
/// drain a burst.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(500);
