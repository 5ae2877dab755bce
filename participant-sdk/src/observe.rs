//! The steps of a participant that a crash could split, told to an observer.
//!
//! A test, or `demo --crash`, passes an [`Observer`] that stops or kills the process at a step. It
//! is a value and not a feature, because cargo unifies features over a workspace build and a
//! shipped binary would then contain the switch. The default does nothing.
//!
//! An observer is called synchronously by the task that does the step, so that nothing after the
//! step has happened yet in that task.

use std::fmt;
use std::sync::Arc;

use pactum_core::id::{BranchId, Gid, ResourceName};
use pactum_core::outcome::Decision;

/// A step that has just been done.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Local work was done and handed over to be enlisted; no coordinator knows of it yet.
    WorkDone {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// Prepare came; no hook has run.
    PrepareReceived {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// The prepare hook promised, durably; the vote has not been sent.
    Prepared {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// The transport has taken the vote, or what the register holds. As with any message nobody can
    /// say whether it has left the machine.
    VoteSent {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// Commit or Abort came; no hook has run.
    DecisionReceived {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
        /// Which of the two.
        decision: Decision,
    },
    /// A commit or abort hook ended the branch; nobody has been told.
    BranchEnded {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// The transport has taken the acknowledgement.
    AckSent {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// The transport has taken an inquiry.
    InquirySent {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// A resource was asked what it holds prepared.
    RecoveryScanned {
        /// The resource.
        resource: ResourceName,
        /// How many branches it holds prepared for our cluster.
        found: usize,
    },
}

impl Step {
    /// The step's stable name, in kebab case.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::WorkDone { .. } => "work-done",
            Self::PrepareReceived { .. } => "prepare-received",
            Self::Prepared { .. } => "prepared",
            Self::VoteSent { .. } => "vote-sent",
            Self::DecisionReceived { .. } => "decision-received",
            Self::BranchEnded { .. } => "branch-ended",
            Self::AckSent { .. } => "ack-sent",
            Self::InquirySent { .. } => "inquiry-sent",
            Self::RecoveryScanned { .. } => "recovery-scanned",
        }
    }

    /// The transaction that it belongs to, if to one.
    pub const fn gid(&self) -> Option<Gid> {
        match self {
            Self::WorkDone { gid, .. }
            | Self::PrepareReceived { gid, .. }
            | Self::Prepared { gid, .. }
            | Self::VoteSent { gid, .. }
            | Self::DecisionReceived { gid, .. }
            | Self::BranchEnded { gid, .. }
            | Self::AckSent { gid, .. }
            | Self::InquirySent { gid, .. } => Some(*gid),
            Self::RecoveryScanned { .. } => None,
        }
    }
}

/// What an observer does with a step.
type Watch = dyn Fn(&Step) + Send + Sync;

/// Is called at every [`Step`]. The default does nothing and costs one comparison a step.
#[derive(Clone, Default)]
pub struct Observer {
    watch: Option<Arc<Watch>>,
}

impl Observer {
    /// Calls `watch` at every step, from many tasks at once. It must not block for long,
    /// for the participant stands still meanwhile, and must not panic.
    pub fn new(watch: impl Fn(&Step) + Send + Sync + 'static) -> Self {
        Self { watch: Some(Arc::new(watch)) }
    }

    /// Whether anybody looks, so that a step need not be made for nobody.
    pub(crate) fn looks(&self) -> bool {
        self.watch.is_some()
    }

    /// Tells of a step.
    pub(crate) fn see(&self, step: &Step) {
        if let Some(watch) = &self.watch {
            watch(step);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.looks() { "Observer(set)" } else { "Observer(none)" })
    }
}
