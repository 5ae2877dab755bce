//! The participant's side of its streams: what its parts are, and what they share.
//!
//! ```text
//!  driver (owns the core) ──outbox──▶ stream ──AttachRequest: everything that waits──▶ coordinator
//!     ▲  ▲                              │  ◀── AttachResponse: batches ──
//!     │  └────────── inputs ────────────┘  each attachment attaches again, each stream a new session
//!     └── hooks, scans, enlistments
//! ```
//!
//! One attachment for each address (`attachment.rs`) keeps one stream open (`stream.rs`); the driver
//! takes in what comes on all of them. It does not know what the messages are for.

mod attachment;
mod batch;
mod checks;
pub(crate) mod driver;
mod enlists;
pub(crate) mod hooks;
mod inquiries;
pub(crate) mod members;
mod operators;
mod owners;
mod peers;
pub(crate) mod scan;
mod stream;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pactum_core::id::{BranchId, Cluster, InstanceId, ResourceName, TransactionId};
use pactum_core::participant::{BranchKey, Event, SessionId};
use pactum_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::batch::Outgoing;
pub(crate) use self::checks::check;
use self::enlists::Reply;
use self::wire::{Incoming, Welcome};
use crate::members::Member;
use crate::participant::{Quarantined, SessionStatus};
use crate::resource::Registration;

/// What the driver takes in.
#[derive(Debug)]
pub(crate) enum Input {
    /// A stream was opened.
    Attached {
        session: SessionId,
        /// Which of the participant's addresses it leads to.
        place: usize,
        welcome: Welcome,
        outbox: mpsc::Sender<Outgoing>,
    },
    /// Messages came on a stream.
    Came { session: SessionId, messages: Vec<Incoming> },
    /// A stream has ended; nothing comes from it any more.
    Detached { session: SessionId },
    /// Hooks ended.
    HooksEnded(Vec<Event>),
    /// A scan found branches.
    Found(Vec<Event>),
    /// What an operator asked is answered.
    Answered { to: SessionId, message: v1::ParticipantMessage },
    /// Local work is to be enlisted.
    Enlist { id: TransactionId, resource: ResourceName, branch: BranchId, deadline: Instant, reply: Reply },
    /// Take nothing new, end what is open, and say when no hook runs any more.
    Stop { idle: oneshot::Sender<()> },
}

/// What all parts of one participant share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) instance: InstanceId,
    pub(crate) inputs: mpsc::Sender<Input>,
    /// The cluster, once a coordinator has named it; never another one after that.
    pub(crate) cluster: watch::Sender<Option<Cluster>>,
    /// Counted up for each stream that was opened, and for whatever else is a reason to scan at once.
    pub(crate) attached: watch::Sender<u64>,
    pub(crate) violations: AtomicU64,
    pub(crate) registrations: Mutex<BTreeMap<ResourceName, Registration>>,
    /// Branches whose decision nobody can know, as far as this participant was told.
    pub(crate) quarantined: Mutex<BTreeMap<BranchKey, Quarantined>>,
    /// Every coordinator that is attached to, or tried, by its place.
    pub(crate) sessions: watch::Sender<BTreeMap<usize, SessionStatus>>,
    /// Whom each attached coordinator names.
    pub(crate) told: watch::Sender<BTreeMap<usize, Vec<Member>>>,
    /// Whether no new branches are taken.
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) last_session: AtomicU64,
    /// Cancelled when everything shall end.
    pub(crate) stop: CancellationToken,
}

impl Shared {
    pub(crate) fn cluster(&self) -> Option<Cluster> {
        self.cluster.borrow().clone()
    }

    pub(crate) fn set_draining(&self, draining: bool) {
        self.draining.send_if_modified(|now| std::mem::replace(now, draining) != draining);
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// What the resource said of itself at its last check.
    pub(crate) fn registration(&self, resource: &ResourceName) -> Option<Registration> {
        self.lock_registrations().get(resource).cloned()
    }

    pub(crate) fn lock_registrations(&self) -> MutexGuard<'_, BTreeMap<ResourceName, Registration>> {
        // The map is whole between statements.
        self.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_quarantined(&self) -> MutexGuard<'_, BTreeMap<BranchKey, Quarantined>> {
        // Likewise.
        self.quarantined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
