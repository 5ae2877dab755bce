//! How a resource adds a branch to a global transaction.

use std::sync::Arc;
use std::time::Duration;

use pactum_core::id::{Branch, BranchId, Cluster, PreparedName, ResourceName, TransactionId};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::context::Context;
use crate::error::Refusal;
use crate::session::{Input, Shared};

/// Adds branches to global transactions, for a resource that has been given to a participant
/// (see [`Resource::bind`](crate::resource::Resource::bind)). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Enlister {
    shared: Arc<Shared>,
}

impl Enlister {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Adds a branch, whose id the caller has drawn at random, to the context's transaction.
    ///
    /// Call it when the branch's local work can be prepared: from here on a Prepare or an Abort may
    /// come at once, and even before this returns. On success the branch is recorded in the context,
    /// so that commit names it; nothing is durable. Waits for a stream to the transaction's
    /// owner, and repeats what got no answer, until the transaction's time is over.
    ///
    /// If the returned future is dropped, the branch may or may not be part of the transaction, which
    /// then aborts because commit does not name it.
    ///
    /// # Errors
    /// The branch is not part of the transaction, or its transaction cannot commit any more. In
    /// each case its abort hook is run.
    pub async fn enlist(
        &self,
        context: &Context,
        resource: &ResourceName,
        branch: BranchId,
    ) -> Result<Branch, EnlistError> {
        if self.is_draining() {
            return Err(EnlistError::Draining);
        }
        let deadline = context.deadline();
        // Branches have no name without the cluster's, so no hook could end one.
        let cluster = timeout_at(Instant::from_std(deadline), self.wait_for_cluster()).await;
        if cluster.is_err() {
            return Err(EnlistError::NotAttached);
        }
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::from_std(deadline);
        let enlist = Input::Enlist { id: context.id(), resource: resource.clone(), branch, deadline, reply };
        if self.shared.inputs.send(enlist).await.is_err() {
            return Err(EnlistError::Stopping);
        }
        match answer.await {
            Ok(Ok(branch)) => {
                context.record_enlisted(branch.clone());
                Ok(branch)
            }
            Ok(Err(error)) => Err(error),
            Err(_stopped) => Err(EnlistError::Stopping),
        }
    }

    /// Whether the participant takes no new branches: then begin none.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// The cluster, once a coordinator has named it. It never changes after that.
    pub fn cluster(&self) -> Option<Cluster> {
        self.shared.cluster()
    }

    /// The cluster, as soon as the first coordinator is attached to. Waits for ever if there is none:
    /// bound it by the context's time left.
    pub async fn wait_for_cluster(&self) -> Cluster {
        let mut known = self.shared.cluster.subscribe();
        loop {
            let cluster = known.borrow_and_update().clone();
            if let Some(cluster) = cluster {
                return cluster;
            }
            if known.changed().await.is_err() {
                // The sender lives in what we hold ourselves.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What a branch is called inside a database; `None` until the cluster is known.
    pub fn prepared_name(&self, id: TransactionId, branch: BranchId) -> Option<PreparedName> {
        Some(PreparedName { cluster: self.cluster()?, id, branch })
    }
}

/// A branch could not be enlisted: it has no effect, and its abort hook is run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnlistError {
    /// No stream to the coordinator that owns the transaction was to be had in its time, or that
    /// coordinator is gone. No coordinator knows of the branch.
    #[error("not attached to the coordinator that owns the transaction")]
    NotAttached,
    /// The owner was asked and did not answer in the transaction's time, or is gone. It may know of
    /// the branch, which will vote no.
    #[error("the coordinator that owns the transaction did not answer")]
    Unanswered,
    /// The owner refused: commit was asked already, the transaction has ended, or the gid is
    /// forgotten.
    #[error("the coordinator refused the branch: {0}")]
    Refused(Refusal),
    /// The resource does not belong to this participant.
    #[error("resource {resource} does not belong to this participant")]
    UnknownResource {
        /// The resource.
        resource: ResourceName,
    },
    /// A branch of that id is being enlisted already.
    #[error("a branch of that id is being enlisted already")]
    BranchInUse,
    /// The participant takes no new branches: an operator, or the service itself, has it drain.
    /// The whole transaction may be done again elsewhere.
    #[error(
        "the participant is draining, and takes no new branches: do the transaction again at another one"
    )]
    Draining,
    /// The participant is shutting down.
    #[error("the participant is shutting down")]
    Stopping,
}

impl EnlistError {
    /// How long to wait before doing the whole transaction again, if the coordinator said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after(),
            Self::NotAttached
            | Self::Unanswered
            | Self::UnknownResource { .. }
            | Self::BranchInUse
            | Self::Draining
            | Self::Stopping => None,
        }
    }
}
