//! Runs the hooks of resources: erased, outside the driver's task (`hooks/round.rs`), panics caught.
//!
//! A panic at prepare is a vote of no; at commit and abort it is a failure to be repeated; at the
//! register it is an unknown (law 5). Nothing here knows when a hook is due: the core orders each.

mod round;

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pactum_core::coordinator::{Operation, RegisterAnswer};
use pactum_core::id::{Cluster, ResourceName};
use pactum_core::outcome::BranchOutcome;
use pactum_core::participant::{BranchKey, Event};
use pactum_core::vote::{AbortKind, AbortReason, Evidence, Vote};
use tracing::{debug, error, warn};

pub(crate) use self::round::{Due, Runner};
use crate::observe::{Observer, Step};
use crate::participant::Enlister;
use crate::resource::{
    BranchContext, BranchFinding, BranchPresence, BranchQuestion, HookError, Prepared, PreparedBranch,
    PreparedFindings, Registration, Resource,
};

/// [`Resource`], as a trait object.
pub(crate) trait DynResource: Send + Sync {
    fn name(&self) -> &ResourceName;
    fn bind(&self, enlister: Enlister);
    fn check(&self) -> BoxFuture<'_, Result<Registration, HookError>>;
    fn prepare<'a>(
        &'a self,
        branch: &'a BranchContext,
        operation: Option<&'a Operation>,
    ) -> BoxFuture<'a, Result<Prepared, AbortReason>>;
    fn commit<'a>(
        &'a self,
        branch: &'a BranchContext,
        decided: &'a Evidence,
        prepared: Option<&'a Evidence>,
    ) -> BoxFuture<'a, Result<BranchOutcome, HookError>>;
    fn abort<'a>(
        &'a self,
        branch: &'a BranchContext,
        prepared: Option<&'a Evidence>,
    ) -> BoxFuture<'a, Result<BranchOutcome, HookError>>;
    fn recover<'a>(&'a self, cluster: &'a Cluster) -> BoxFuture<'a, Result<Vec<PreparedBranch>, HookError>>;
    fn forget<'a>(&'a self, branch: &'a BranchContext) -> BoxFuture<'a, ()>;
    fn commit_one_phase<'a>(
        &'a self,
        branch: &'a BranchContext,
        operation: Option<&'a Operation>,
    ) -> BoxFuture<'a, RegisterAnswer>;
    fn settle<'a>(&'a self, branch: &'a BranchContext) -> BoxFuture<'a, RegisterAnswer>;
    fn examine<'a>(
        &'a self,
        questions: &'a [BranchQuestion],
    ) -> BoxFuture<'a, Result<Vec<BranchFinding>, HookError>>;
    fn examine_all<'a>(
        &'a self,
        cluster: &'a Cluster,
        limit: usize,
    ) -> BoxFuture<'a, Result<PreparedFindings, HookError>>;
    fn overrule<'a>(
        &'a self,
        branch: &'a BranchContext,
        prepared: &'a Evidence,
        commit: bool,
    ) -> BoxFuture<'a, Result<BranchPresence, HookError>>;
}

impl<R: Resource> DynResource for R {
    fn name(&self) -> &ResourceName {
        Resource::name(self)
    }

    fn bind(&self, enlister: Enlister) {
        Resource::bind(self, enlister);
    }

    fn check(&self) -> BoxFuture<'_, Result<Registration, HookError>> {
        Box::pin(Resource::check(self))
    }

    fn prepare<'a>(
        &'a self,
        branch: &'a BranchContext,
        operation: Option<&'a Operation>,
    ) -> BoxFuture<'a, Result<Prepared, AbortReason>> {
        Box::pin(Resource::prepare(self, branch, operation))
    }

    fn commit<'a>(
        &'a self,
        branch: &'a BranchContext,
        decided: &'a Evidence,
        prepared: Option<&'a Evidence>,
    ) -> BoxFuture<'a, Result<BranchOutcome, HookError>> {
        Box::pin(Resource::commit(self, branch, decided, prepared))
    }

    fn abort<'a>(
        &'a self,
        branch: &'a BranchContext,
        prepared: Option<&'a Evidence>,
    ) -> BoxFuture<'a, Result<BranchOutcome, HookError>> {
        Box::pin(Resource::abort(self, branch, prepared))
    }

    fn recover<'a>(&'a self, cluster: &'a Cluster) -> BoxFuture<'a, Result<Vec<PreparedBranch>, HookError>> {
        Box::pin(Resource::recover(self, cluster))
    }

    fn forget<'a>(&'a self, branch: &'a BranchContext) -> BoxFuture<'a, ()> {
        Box::pin(Resource::forget(self, branch))
    }

    fn commit_one_phase<'a>(
        &'a self,
        branch: &'a BranchContext,
        operation: Option<&'a Operation>,
    ) -> BoxFuture<'a, RegisterAnswer> {
        Box::pin(Resource::commit_one_phase(self, branch, operation))
    }

    fn settle<'a>(&'a self, branch: &'a BranchContext) -> BoxFuture<'a, RegisterAnswer> {
        Box::pin(Resource::settle(self, branch))
    }

    fn examine<'a>(
        &'a self,
        questions: &'a [BranchQuestion],
    ) -> BoxFuture<'a, Result<Vec<BranchFinding>, HookError>> {
        Box::pin(Resource::examine(self, questions))
    }

    fn examine_all<'a>(
        &'a self,
        cluster: &'a Cluster,
        limit: usize,
    ) -> BoxFuture<'a, Result<PreparedFindings, HookError>> {
        Box::pin(Resource::examine_all(self, cluster, limit))
    }

    fn overrule<'a>(
        &'a self,
        branch: &'a BranchContext,
        prepared: &'a Evidence,
        commit: bool,
    ) -> BoxFuture<'a, Result<BranchPresence, HookError>> {
        Box::pin(Resource::overrule(self, branch, prepared, commit))
    }
}

/// One hook to be run for one branch.
#[derive(Debug)]
pub(crate) enum Hook {
    Prepare { operation: Option<Operation> },
    OnePhase { operation: Option<Operation> },
    Settle,
    Commit { decided: Evidence, prepared: Option<Evidence> },
    Abort { prepared: Option<Evidence> },
    Forget,
}

impl Hook {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Prepare { .. } => "prepare",
            Self::OnePhase { .. } => "one-phase",
            Self::Settle => "settle",
            Self::Commit { .. } => "commit",
            Self::Abort { .. } => "abort",
            Self::Forget => "forget",
        }
    }
}

/// Runs one hook to its end, and says what came of it, if anybody waits for that.
async fn run(
    resource: &dyn DynResource,
    hook: Hook,
    branch: &BranchContext,
    observer: &Observer,
) -> Option<Event> {
    let key = BranchKey { id: branch.name.id, branch: branch.name.branch };
    let (gid, id) = (key.id.gid, key.branch);
    Some(match hook {
        Hook::Prepare { operation } => {
            let vote = prepare(resource, branch, operation.as_ref()).await;
            if matches!(vote, Vote::Commit(_)) {
                observer.see(&Step::Prepared { gid, branch: id });
            }
            Event::PrepareFinished { key, vote }
        }
        Hook::OnePhase { operation } => {
            let answer = caught(resource.commit_one_phase(branch, operation.as_ref())).await;
            Event::RegisterRead { key, answer: register("one-phase", answer) }
        }
        Hook::Settle => {
            let answer = caught(resource.settle(branch)).await;
            Event::RegisterRead { key, answer: register("settle", answer) }
        }
        Hook::Commit { decided, prepared } => {
            let end = caught(resource.commit(branch, &decided, prepared.as_ref())).await;
            ended(key, end, observer)
        }
        Hook::Abort { prepared } => {
            let end = caught(resource.abort(branch, prepared.as_ref())).await;
            ended(key, end, observer)
        }
        Hook::Forget => {
            if let Err(panic) = caught(resource.forget(branch)).await {
                error!(panic, branch = %branch.name, "the forget hook panicked");
            }
            return None;
        }
    })
}

async fn prepare(resource: &dyn DynResource, branch: &BranchContext, operation: Option<&Operation>) -> Vote {
    match caught(resource.prepare(branch, operation)).await {
        Ok(Ok(Prepared::Yes(evidence))) => {
            debug!(?evidence, "prepared");
            Vote::Commit(evidence)
        }
        Ok(Ok(Prepared::ReadOnly)) => Vote::ReadOnly,
        Ok(Err(reason)) => {
            debug!(%reason, "voted no");
            Vote::Abort(reason)
        }
        Err(panic) => {
            error!(panic, "the prepare hook panicked: the branch votes no");
            // A no says that nothing is left here. If the abort hook cannot make that true, the next
            // scan finds what is prepared, and the coordinator has it aborted.
            match caught(resource.abort(branch, None)).await {
                Ok(Ok(outcome)) => debug!(?outcome, "ended what the panic left behind"),
                Ok(Err(error)) => warn!(%error, "what the panic left behind could not be ended yet"),
                Err(panic) => error!(panic, "the abort hook panicked too"),
            }
            let text = format!("the prepare hook panicked: {panic}");
            Vote::Abort(AbortReason::new(AbortKind::VotedNo, &text))
        }
    }
}

fn register(hook: &'static str, answer: Result<RegisterAnswer, String>) -> RegisterAnswer {
    answer.unwrap_or_else(|panic| {
        error!(panic, hook, "a hook panicked: what the register holds is unknown");
        RegisterAnswer::Unknown
    })
}

fn ended(
    key: BranchKey,
    end: Result<Result<BranchOutcome, HookError>, String>,
    observer: &Observer,
) -> Event {
    let error = match end {
        Ok(Ok(outcome)) => {
            if let BranchOutcome::Heuristic(heuristic) = &outcome {
                error!(?heuristic, "the branch ended without the decision");
            }
            observer.see(&Step::BranchEnded { gid: key.id.gid, branch: key.branch });
            return Event::BranchEnded { key, outcome };
        }
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("the hook panicked: {panic}"),
    };
    warn!(error, "the branch has not ended; it is tried again");
    Event::HookFailed { key, error: error.into() }
}

/// Runs something of the user's; a panic becomes its text.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| panic_text(&*panic))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").into()
}
