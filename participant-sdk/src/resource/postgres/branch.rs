//! A branch in a service's hands, from begin to enlist.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use pactum_core::vote::AbortReason;
use sqlx::PgConnection;

use super::begin::LocalTransaction;
use super::prepare::{Probe, probe};
use super::{Inner, PostgresResource};
use crate::context::Context;
use crate::participant::{EnlistError, Enlister};

/// The open local transaction of one branch. Derefs to [`PgConnection`]: do the branch's work on
/// it, then [`enlist`](Self::enlist) it. Dropped before that, it is rolled back.
///
/// Do not end the transaction by hand with `COMMIT` or `ROLLBACK`: the branch then votes no, and
/// what was committed stays. A transaction begun on it (`branch.begin()`) is a savepoint. If the
/// future of such a nested begin is dropped half-way, sqlx 0.9 rolls back the whole transaction;
/// drop the branch then: later statements would run outside of any transaction, and the branch
/// votes no.
#[must_use = "a branch that is not enlisted is rolled back"]
pub struct PostgresBranch {
    local: LocalTransaction,
    resource: PostgresResource,
    /// `None` for a branch begun without a coordinator, by a contract test.
    global: Option<(Context, Enlister)>,
}

impl PostgresBranch {
    pub(super) fn new(
        local: LocalTransaction,
        resource: PostgresResource,
        global: Option<(Context, Enlister)>,
    ) -> Self {
        Self { local, resource, global }
    }

    /// Makes the work so far a branch of the global transaction: from here on the transaction's
    /// decision ends it. Nothing is durable yet. On return the coordinator knows the branch and
    /// the context names it, so that the application's Commit does.
    ///
    /// May be dropped at any await: the branch is then enlisted or rolled back all the same, and
    /// an application that does not hear of it cannot commit it.
    ///
    /// # Errors
    /// The local transaction had failed or was ended by hand, or the coordinator did not take the
    /// branch. The work has been rolled back.
    pub async fn enlist(self) -> Result<(), BranchError> {
        // A task, so that a caller who hangs up leaves neither a branch that the coordinator
        // does not know nor a session in the middle of a message.
        match tokio::spawn(self.enlist_uncancelled()).await {
            Ok(result) => result,
            Err(_) => Err(BranchError::NoConnection { message: Arc::from("the runtime is shutting down") }),
        }
    }

    async fn enlist_uncancelled(self) -> Result<(), BranchError> {
        let Some((context, enlister)) = self.global.clone() else {
            return self.hold().await;
        };
        let name = self.local.name.clone();
        let inner = Arc::clone(&self.resource.inner);
        // Held before the coordinator hears of it: a Prepare or an Abort may come at once.
        self.hold().await?;
        match enlister.enlist(&context, &inner.name, name.branch).await {
            Ok(_branch) => Ok(()),
            Err(error) => {
                if let Some(open) = inner.take_open(&name) {
                    open.local.roll_back().await;
                }
                Err(BranchError::NotEnlisted(error))
            }
        }
    }

    /// Hands the work to the resource, which from here on alone ends it.
    pub(crate) async fn hold(mut self) -> Result<(), BranchError> {
        let inner: Arc<Inner> = Arc::clone(&self.resource.inner);
        match probe(&mut self.local).await {
            Ok(probe) => {
                inner.hold_open(self.local, probe);
                Ok(())
            }
            Err(reason) => {
                self.local.roll_back().await;
                Err(BranchError::Ended(reason))
            }
        }
    }

    /// Hands the work over without looking at it, as one does who enlists first and works later.
    pub(crate) fn hold_unseen(self, xid: Option<u64>) {
        let inner: Arc<Inner> = Arc::clone(&self.resource.inner);
        // Some server's: a guard that let this branch through would be seen to.
        let server = Some((String::from("1"), String::from("00000001")));
        inner.hold_open(self.local, Probe { xid, pid: 0, server });
    }
}

impl Deref for PostgresBranch {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.local.connection_ref()
    }
}

impl DerefMut for PostgresBranch {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.local.connection()
    }
}

impl fmt::Debug for PostgresBranch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBranch").field("name", &self.local.name).finish_non_exhaustive()
    }
}

/// A branch that could not be begun or enlisted. Nothing of it is left, or will be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BranchError {
    /// The resource has not been given to a started participant, so nobody could prepare it.
    #[error("the resource does not belong to a started participant")]
    NotStarted,
    /// The transaction's deadline has passed.
    #[error("the transaction's deadline has passed")]
    DeadlinePassed,
    /// No connection to the database could be had.
    #[error("no connection to the database: {message}")]
    NoConnection {
        /// What the pool said.
        message: Arc<str>,
    },
    /// The database did not begin the local transaction.
    #[error("the database did not begin the local transaction: {message}")]
    NotBegun {
        /// What it said.
        message: Arc<str>,
    },
    /// The local transaction could not be prepared any more: a statement of it had failed, or it
    /// was ended by hand.
    #[error("the branch cannot take part any more: {0}")]
    Ended(AbortReason),
    /// The coordinator did not take the branch.
    #[error("the branch was not enlisted")]
    NotEnlisted(#[source] EnlistError),
}
