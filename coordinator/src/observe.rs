//! The steps of the protocol that a crash could split, told to an observer.
//!
//! A test, or `demo --crash`, passes an [`Observer`] that stops or kills the process at a step. It
//! is a value and not a feature, because cargo unifies features over a workspace build and a
//! shipped binary would then contain the switch. The default does nothing.
//!
//! An observer is called synchronously by the task that does the step, so that nothing after the
//! step has happened yet in that task.

use std::fmt;
use std::sync::Arc;

use pactum_core::coordinator::Event;
use pactum_core::id::{BranchId, Gid, Incarnation};
use pactum_core::outcome::{Decision, ProposalResult};

/// A step that has just been done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Step {
    /// We have an incarnation in the log.
    IncarnationStarted {
        /// It.
        incarnation: Incarnation,
    },
    /// All unfinished commits of an ended incarnation were read, and are being driven.
    RecoveryScanned {
        /// The ended incarnation.
        incarnation: Incarnation,
        /// How many unfinished commits it had left.
        commits: usize,
    },
    /// Prepare was put into a session's outbox.
    PrepareSent {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// A vote was received, and the core does not know it yet.
    VoteReceived {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// A decision is about to be handed to the log writer.
    DecisionHandedOver {
        /// The transaction.
        gid: Gid,
        /// What is proposed.
        decision: Decision,
    },
    /// The log acknowledged our record; nobody has been told.
    DecisionDurable {
        /// The transaction.
        gid: Gid,
        /// What was decided.
        decision: Decision,
    },
    /// A request was answered.
    ClientAnswered {
        /// The transaction.
        gid: Gid,
    },
    /// Commit or Abort was put into a session's outbox.
    DecisionSent {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
        /// Which of the two.
        decision: Decision,
    },
    /// A branch's end was acknowledged, and the core does not know it yet.
    BranchFinished {
        /// The transaction.
        gid: Gid,
        /// The branch.
        branch: BranchId,
    },
    /// Every branch has finished; the lazy end record was handed over.
    EndRecorded {
        /// The transaction.
        gid: Gid,
    },
}

impl Step {
    /// The step that an event is the news of, if it is one: the core does not know it yet.
    pub(crate) fn told_by(event: &Event) -> Option<Self> {
        if let Event::ProposalAnswered { id, proposed, result: ProposalResult::Won } = event {
            Some(Self::DecisionDurable { gid: id.gid, decision: *proposed })
        } else if let Event::VoteReceived { id, branch, .. } = event {
            Some(Self::VoteReceived { gid: id.gid, branch: branch.id })
        } else if let Event::BranchFinished { id, branch, .. } = event {
            Some(Self::BranchFinished { gid: id.gid, branch: branch.id })
        } else {
            None
        }
    }

    /// The step's stable name, in kebab case.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::IncarnationStarted { .. } => "incarnation-started",
            Self::RecoveryScanned { .. } => "recovery-scanned",
            Self::PrepareSent { .. } => "prepare-sent",
            Self::VoteReceived { .. } => "vote-received",
            Self::DecisionHandedOver { .. } => "decision-handed-over",
            Self::DecisionDurable { .. } => "decision-durable",
            Self::ClientAnswered { .. } => "client-answered",
            Self::DecisionSent { .. } => "decision-sent",
            Self::BranchFinished { .. } => "branch-finished",
            Self::EndRecorded { .. } => "end-recorded",
        }
    }

    /// The transaction that the step belongs to, if it belongs to one.
    pub const fn gid(&self) -> Option<Gid> {
        match self {
            Self::IncarnationStarted { .. } | Self::RecoveryScanned { .. } => None,
            Self::PrepareSent { gid, .. }
            | Self::VoteReceived { gid, .. }
            | Self::DecisionHandedOver { gid, .. }
            | Self::DecisionDurable { gid, .. }
            | Self::ClientAnswered { gid }
            | Self::DecisionSent { gid, .. }
            | Self::BranchFinished { gid, .. }
            | Self::EndRecorded { gid } => Some(*gid),
        }
    }
}

/// Is told each [`Step`]; the default ignores them.
#[derive(Clone, Default)]
pub struct Observer(Option<See>);

/// What is called at each step.
type See = Arc<dyn Fn(&Step) + Send + Sync>;

impl Observer {
    /// An observer that calls `see` at each step. `see` must not block: it runs on the task that
    /// serves a share of all transactions.
    pub fn new(see: impl Fn(&Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(see)))
    }

    pub(crate) fn saw(&self, step: Step) {
        if let Some(see) = &self.0 {
            see(&step);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(..)" } else { "Observer(none)" })
    }
}
