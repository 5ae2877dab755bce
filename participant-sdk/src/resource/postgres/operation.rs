//! One-shot operations: handlers that a transaction runs by name.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt as _;
use pactum_core::coordinator::Operation;
use pactum_core::vote::{AbortKind, AbortReason};
use sqlx::PgConnection;

use super::begin::{BeginOptions, LocalTransaction};
use super::sql::{abort_reason, describe};
use super::{BranchError, Inner};
use crate::resource::BranchContext;

/// What an operation's handler returns.
pub type OperationFuture<'c> = Pin<Box<dyn Future<Output = Result<(), NoVote>> + Send + 'c>>;

/// A handler, with its type erased.
pub(super) type Handler =
    Arc<dyn for<'c> Fn(&'c mut PgConnection, Arc<[u8]>) -> OperationFuture<'c> + Send + Sync>;

/// A handler votes no: the whole transaction aborts, with this as its reason.
///
/// Made from any message, or by `?` from a database error. Not to be confused with a
/// [`Refusal`](crate::Refusal), by which a coordinator does not carry out a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoVote(AbortReason);

impl NoVote {
    /// A vote of no with its reason for people, for example `insufficient funds`.
    pub fn new(message: impl AsRef<str>) -> Self {
        Self(AbortReason::new(AbortKind::VotedNo, message.as_ref()))
    }

    /// Why, with the kind that the abort of a one-shot transaction will carry: an error of the
    /// database is told apart, for instance a lock that was not had in time.
    pub fn reason(&self) -> &AbortReason {
        &self.0
    }
}

impl fmt::Display for NoVote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NoVote {}

impl From<sqlx::Error> for NoVote {
    fn from(error: sqlx::Error) -> Self {
        Self(abort_reason("a statement failed", &error))
    }
}

/// Executes an operation in a local transaction of its own and leaves that open.
///
/// The handler may take until the deadline. A handler that panics, or does not come back, votes
/// no; its session is closed, since nobody knows what it was in the middle of.
pub(super) async fn execute(
    inner: &Inner,
    branch: &BranchContext,
    operation: &Operation,
) -> Result<LocalTransaction, AbortReason> {
    let name = &operation.name;
    let handler = inner.handler(name).ok_or_else(|| {
        let message = format!("resource {} has no operation {name:?}", inner.name);
        AbortReason::new(AbortKind::VotedNo, &message)
    })?;
    let mut local =
        LocalTransaction::begin(&inner.pool, branch.name.clone(), branch.deadline, BeginOptions::new())
            .await
            .map_err(|error| not_begun(&error))?;

    let payload = Arc::clone(&operation.payload);
    // Caught where the future is made as well as where it is polled.
    let work = AssertUnwindSafe(async { handler(local.connection(), payload).await }).catch_unwind();
    let reason = match tokio::time::timeout_at(branch.deadline.into(), work).await {
        Ok(Ok(Ok(()))) => return Ok(local),
        Ok(Ok(Err(NoVote(reason)))) => {
            local.roll_back().await;
            return Err(reason);
        }
        Ok(Err(panic)) => AbortReason::new(
            AbortKind::VotedNo,
            &format!("operation {name:?} panicked: {}", panic_text(&*panic)),
        ),
        Err(_) => AbortReason::new(
            AbortKind::Deadline,
            &format!("operation {name:?} had not ended at the deadline"),
        ),
    };
    local.close();
    Err(reason)
}

fn not_begun(error: &BranchError) -> AbortReason {
    let kind = match error {
        BranchError::DeadlinePassed => AbortKind::Deadline,
        BranchError::NotStarted
        | BranchError::NoConnection { .. }
        | BranchError::NotBegun { .. }
        | BranchError::Ended(_)
        | BranchError::NotEnlisted(_) => AbortKind::LocalFailure,
    };
    AbortReason::new(kind, &error.to_string())
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// What a control statement's error says to people, without claiming an outcome.
pub(super) fn unsettled(doing: &str, error: &sqlx::Error) -> crate::resource::HookError {
    crate::resource::HookError::new(format!("{doing}: {}", describe(error)))
}
