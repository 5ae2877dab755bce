//! Whether this coordinator serves, and under which names: what every handler asks first and what
//! every stream is told in a Welcome.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pactum_core::id::{Cluster, Gid, Incarnation};
use tokio::sync::watch;

use crate::error::ServiceError;

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
}

/// The coordinator's life from start to stop.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    standing: watch::Sender<Standing>,
    draining: AtomicBool,
    log_available: AtomicBool,
    /// The incarnation that is ours in the log, also while draining.
    own: Mutex<Option<Incarnation>>,
}

impl Lifecycle {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let standing = Standing { cluster, incarnation: None, floor: Gid::NIL };
        Self {
            standing: watch::Sender::new(standing),
            draining: AtomicBool::new(false),
            log_available: AtomicBool::new(true),
            own: Mutex::new(None),
        }
    }

    /// What is told now.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// What is told, and each change of it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Our incarnation began or ended.
    pub(crate) fn incarnation_changed(&self, incarnation: Option<Incarnation>) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = incarnation;
        self.tell(incarnation.filter(|_| !self.is_draining()));
    }

    /// The incarnation that is ours in the log, also while draining.
    pub(crate) fn own(&self) -> Option<Incarnation> {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, incarnation: Option<Incarnation>) {
        self.standing.send_if_modified(|standing| {
            std::mem::replace(&mut standing.incarnation, incarnation) != incarnation
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

    /// The log was, or was not, written just now. Answers whether that is news.
    pub(crate) fn log_availability_changed(&self, available: bool) -> bool {
        self.log_available.swap(available, Ordering::Relaxed) != available
    }

    pub(crate) fn is_log_available(&self) -> bool {
        self.log_available.load(Ordering::Relaxed)
    }

    /// From now on nothing new is started here.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.tell(None);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether calls are served: an incarnation exists, or transactions in flight are being ended.
    ///
    /// # Errors
    /// [`ServiceError::Starting`]; nothing happened.
    pub(crate) fn serves(&self) -> Result<(), ServiceError> {
        if self.standing.borrow().incarnation.is_some() || self.is_draining() {
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
