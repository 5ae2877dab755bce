//! For tests: the contract of [`Resource`], to be run against any implementation, and ways to
//! open branches where no coordinator runs.
//!
//! Implement [`Fixture`] for your resource and call [`contract`] in a test. It returns what was
//! checked, or the first rule that is broken and how. It never panics.
//!
//! ```no_run
//! # use pactum::testing::{Fixture, contract};
//! # async fn example(fixture: impl Fixture) {
//! let checked = contract(&fixture).await.unwrap();
//! assert!(checked.len() > 8);
//! # }
//! ```

mod contract;

use std::future::Future;
use std::time::{Duration, Instant};

use pactum_core::coordinator::Operation;
use pactum_core::id::{BranchId, Cluster, Gid, Incarnation, PreparedName, TransactionId};
use uuid::Uuid;

pub use self::contract::{ContractBroken, contract};
use crate::resource::{BeginOptions, BranchContext, BranchError, PostgresBranch, PostgresResource, Resource};

/// What the contract suite needs to know about a resource: how to change something there, and
/// how to see it.
pub trait Fixture: Sync {
    /// The resource under test.
    type Resource: Resource;

    /// A new value over the same store as all earlier ones, with no memory of its own: what a
    /// restarted process would make.
    fn restart(&self) -> impl Future<Output = Self::Resource> + Send;

    /// Does, as the branch's open work, the change that `key` stands for, and hands it to the
    /// resource as enlist would. Keys are drawn at random and never reused.
    ///
    /// # Errors
    /// The work could not be done; the text ends the suite.
    fn work(
        &self,
        resource: &Self::Resource,
        branch: &BranchContext,
        key: u64,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// How often the change of `key` is visible to a stranger: 0 or 1 unless something is wrong.
    ///
    /// # Errors
    /// It could not be looked at; the text ends the suite.
    fn count(&self, key: u64) -> impl Future<Output = Result<u64, String>> + Send;

    /// The one-shot operation that makes the change of `key`; `None` if the resource has none.
    fn operation(&self, key: u64) -> Option<Operation> {
        let _ = key;
        None
    }

    /// A one-shot operation that the resource knows and refuses; `None` if it has none.
    fn refused_operation(&self) -> Option<Operation> {
        None
    }
}

/// A branch of a transaction that nobody coordinates, with a fresh name in the cluster.
pub fn branch_context(cluster: &Cluster, time_left: Duration) -> BranchContext {
    BranchContext {
        name: PreparedName {
            cluster: cluster.clone(),
            id: TransactionId {
                incarnation: Incarnation::from_uuid(Uuid::new_v4()),
                gid: Gid::from_uuid(Uuid::now_v7()),
            },
            branch: BranchId::new(rand::random()),
        },
        deadline: Instant::now() + time_left,
    }
}

/// Begins a PostgreSQL branch that no coordinator knows. Its `enlist` only hands it to the
/// resource, whose hooks then end it.
///
/// # Errors
/// As [`PostgresResource::begin_with`].
pub async fn begin(
    resource: &PostgresResource,
    branch: &BranchContext,
    options: BeginOptions,
) -> Result<PostgresBranch, BranchError> {
    resource.open(branch, options, None).await
}

/// Hands a PostgreSQL branch to its resource without the look that `enlist` takes at it, as if
/// it had failed or been ended right after; `xid` is what that look would have found.
pub fn hold_unseen(branch: PostgresBranch, xid: u64) {
    branch.hold_unseen(Some(xid));
}
