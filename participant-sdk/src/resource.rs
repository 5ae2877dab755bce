//! The hooks: what Pactum asks of something that takes part in global transactions.
//!
//! A [`Resource`] is one database, or anything else that can promise, keep and withdraw a
//! change. The SDK calls the hooks one at a time for each branch, may repeat any of them
//! (after a crash, a lost answer, a restart), answers repeated messages from memory, and
//! never asks a hook to undo a decision. A panic in a hook is a *no* at prepare and a failure
//! to be repeated at commit and abort.
//!
//! A hook may wait as long as it must, and delays no other by that. It must not keep its thread, as nothing
//! that is async may: hooks of one resource that are due at the same time begin in one task, one after the
//! other. Work that blocks, or computes for long, belongs into `tokio::task::spawn_blocking`.

mod examine;
pub mod postgres;

pub use self::examine::{
    BLOCKED_SESSIONS_MAX, BlockedSession, BranchFinding, BranchPresence, BranchQuestion, PreparedFindings,
};
pub use self::postgres::{
    BeginOptions, BranchError, NoVote, OperationFuture, PostgresBranch, PostgresResource,
};

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::Instant;

use pactum_core::id::{Cluster, ResourceName};
use pactum_core::vote::AbortReason;
// Whoever writes hooks of his own needs these, and depends on this crate alone.
pub use pactum_core::coordinator::{Operation, RegisterAnswer};
pub use pactum_core::id::PreparedName;
pub use pactum_core::outcome::BranchOutcome;
pub use pactum_core::vote::Evidence;

use crate::participant::Enlister;

/// What the hooks of one resource do. See the module's text for how they are called.
pub trait Resource: Send + Sync + 'static {
    /// The resource's name: the same for every process that speaks for the same database.
    fn name(&self) -> &ResourceName;

    /// Checks that the resource can do what the hooks promise, and says what it is. Called at
    /// start and before each attach. Its future is dropped if it takes long: an attach does not wait for a
    /// resource that hangs, and takes it in when it has passed.
    ///
    /// # Errors
    /// A setting or a version that would break a promise, with what to do about it.
    fn check(&self) -> impl Future<Output = Result<Registration, HookError>> + Send;

    /// Hands over what a resource needs to enlist branches by itself. Called once, at start,
    /// before any other hook.
    fn bind(&self, enlister: Enlister) {
        drop(enlister);
    }

    /// Promises: after `Ok(Prepared::Yes)` the branch can be committed or aborted at any later
    /// time, also after a crash of this process and of the resource. That is durable on return.
    /// With an operation (one-shot), executes it first.
    ///
    /// # Errors
    /// The branch votes no and has ended here without effect.
    fn prepare(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> impl Future<Output = Result<Prepared, AbortReason>> + Send;

    /// Commits the execution `decided`, which some instance of this resource prepared.
    /// `prepared` is the execution that this process prepared itself; `None` if it has no memory
    /// of the branch: then nothing may be assumed of what is prepared under that name.
    /// The effect is durable on return. "Not found" is not success (law 8): tell committed
    /// before, aborted by hand, and never prepared apart, and answer a heuristic outcome for the
    /// latter two. If another execution is prepared, roll that one back once the decided one is
    /// known committed.
    ///
    /// # Errors
    /// It has not ended, or that is not known: the hook is called again.
    fn commit(
        &self,
        branch: &BranchContext,
        decided: &Evidence,
        prepared: Option<&Evidence>,
    ) -> impl Future<Output = Result<BranchOutcome, HookError>> + Send;

    /// Ends the branch without effect, whether it is still open, prepared, or unknown here.
    ///
    /// # Errors
    /// It has not ended, or that is not known: the hook is called again.
    fn abort(
        &self,
        branch: &BranchContext,
        prepared: Option<&Evidence>,
    ) -> impl Future<Output = Result<BranchOutcome, HookError>> + Send;

    /// Lists everything that this resource holds prepared for the cluster, whoever prepared it.
    ///
    /// # Errors
    /// The list could not be had; it is asked for again.
    fn recover(
        &self,
        cluster: &Cluster,
    ) -> impl Future<Output = Result<Vec<PreparedBranch>, HookError>> + Send;

    /// Says what is held here of each of these branches of one cluster, for an operator. Changes nothing.
    /// Runs beside the other hooks, also for a branch for which one of them runs at that moment, and its
    /// future is dropped if it takes longer than a few seconds: so it must not take what those need.
    /// One finding for each question, in any order; a branch without one counts as unknown.
    ///
    /// By default what [`recover`](Self::recover) lists is prepared, and of the rest nothing is known.
    ///
    /// # Errors
    /// Nothing could be found out, with why.
    fn examine(
        &self,
        questions: &[BranchQuestion],
    ) -> impl Future<Output = Result<Vec<BranchFinding>, HookError>> + Send {
        async move {
            let Some(first) = questions.first() else { return Ok(Vec::new()) };
            let listed = self.recover(&first.name.cluster).await?;
            let find =
                |question: &BranchQuestion| match listed.iter().find(|listed| listed.name == question.name) {
                    Some(found) => found.clone().into(),
                    None => BranchFinding::new(question.name.clone(), BranchPresence::Unknown)
                        .with_note("it is not listed as prepared, and this resource keeps no evidence"),
                };
            Ok(questions.iter().map(find).collect())
        }
    }

    /// Says of everything that is prepared here for the cluster what [`examine`](Self::examine) says, the
    /// oldest first, and at most `limit`. As that in all else.
    ///
    /// By default this is what [`recover`](Self::recover) lists.
    ///
    /// # Errors
    /// The list could not be had, with why.
    fn examine_all(
        &self,
        cluster: &Cluster,
        limit: usize,
    ) -> impl Future<Output = Result<PreparedFindings, HookError>> + Send {
        async move {
            let listed = self.recover(cluster).await?;
            Ok(PreparedFindings::first(limit, listed.into_iter().map(BranchFinding::from)))
        }
    }

    /// Ends the execution `prepared` of a branch as an operator says, with or without effect, whatever is
    /// decided, and says how the branch stands then. If that execution is not prepared, nothing is
    /// done: one that had ended before is told as it ended, by evidence. What is told as committed or
    /// aborted is durable; if an answer was lost on the way it is found out, or told as unknown. A
    /// later [`commit`](Self::commit) or [`abort`](Self::abort) of the branch must find it out too.
    ///
    /// Runs beside the other hooks. By default this is refused.
    ///
    /// # Errors
    /// Nothing was done, with why.
    fn overrule(
        &self,
        branch: &BranchContext,
        prepared: &Evidence,
        commit: bool,
    ) -> impl Future<Output = Result<BranchPresence, HookError>> + Send {
        let _ = (branch, prepared, commit);
        std::future::ready(Err(HookError::new(
            "this resource cannot be overruled by Pactum: end the branch with the resource's own tools",
        )))
    }

    /// The branch has ended and nothing about it need be kept. May never be called.
    fn forget(&self, branch: &BranchContext) -> impl Future<Output = ()> + Send {
        let _ = branch;
        std::future::ready(())
    }

    /// Commits a transaction of this one branch at once: the marker (gid, committed) goes in by
    /// plain insert as the last statement, then commit. Only called if [`Registration::marker`].
    /// [`RegisterAnswer::Committed`] is durable.
    fn commit_one_phase(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> impl Future<Output = RegisterAnswer> + Send {
        let _ = (branch, operation);
        std::future::ready(RegisterAnswer::Unknown)
    }

    /// Asks the register of a one-branch transaction: ends the branch's local work if it is open
    /// here, inserts the marker (gid, aborted) if none stands, then reads in a second statement what
    /// stands. Only called if
    /// [`Registration::marker`]. What is answered is durable.
    fn settle(&self, branch: &BranchContext) -> impl Future<Output = RegisterAnswer> + Send {
        let _ = branch;
        std::future::ready(RegisterAnswer::Unknown)
    }
}

/// What a resource is, as the coordinator is told at attach.
///
/// ```
/// use pactum::resource::Registration;
///
/// let registration = Registration::new("files:/srv/orders").with_setting("format", "2");
/// assert!(!registration.marker);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// Tells this resource from a copy: for PostgreSQL the system identifier and database.
    /// At most 256 bytes.
    pub identity: String,
    /// Whether it keeps a marker table, so that a transaction of one branch needs no log row.
    pub marker: bool,
    /// Settings and versions that an operator may want to see, for example `server_version`. The first
    /// 32 are told; keys are cut to 64 bytes and values to 256. Never put a secret here.
    pub settings: BTreeMap<String, String>,
}

impl Registration {
    /// A resource of that identity, without a marker table.
    pub fn new(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), ..Self::default() }
    }

    /// The same with a marker table, or without one.
    #[must_use]
    pub fn with_marker(self, marker: bool) -> Self {
        Self { marker, ..self }
    }

    /// The same with one more setting for people to see.
    #[must_use]
    pub fn with_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }
}

/// One branch, as the hooks get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchContext {
    /// Its name: also what it is called inside a database.
    pub name: PreparedName,
    /// The transaction's deadline. Bounds lock waits before the vote; has no meaning after it.
    pub deadline: Instant,
}

/// A vote other than no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Prepared; the evidence identifies this execution.
    Yes(Evidence),
    /// Nothing was changed, and everything has been let go.
    ReadOnly,
}

/// A branch found prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedBranch {
    /// Its name.
    pub name: PreparedName,
    /// The execution that is prepared.
    pub evidence: Evidence,
}

impl From<PreparedBranch> for BranchFinding {
    fn from(prepared: PreparedBranch) -> Self {
        Self::prepared(prepared.name, prepared.evidence)
    }
}

/// A hook that did not do what it was asked, or may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookError {
    message: String,
}

impl HookError {
    /// An error with its text for people: what happened, and what to do if a person must act.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HookError {}
