//! Carrying out what the core orders: hooks, messages, reports.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pactum_core::coordinator::RegisterAnswer;
use pactum_core::id::{Branch, PreparedName, TransactionId};
use pactum_core::participant::{BranchKey, Command, Event, SessionId};
use pactum_core::vote::{AbortKind, AbortReason, Vote};
use pactum_proto::v1;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, debug, error, info_span, warn};

use super::Driver;
use crate::resource::BranchContext;
use crate::session::hooks::{self, Hook};
use crate::session::{Input, wire};

impl Driver {
    pub(super) fn carry_out(&mut self) {
        while let Some(command) = self.core.poll_command() {
            self.order(command);
        }
    }

    fn order(&mut self, command: Command) {
        match command {
            Command::RunPrepare { id, branch, operation, deadline } => {
                let deadline = self.clock.instant(deadline);
                self.open.remove(&BranchKey { id, branch: branch.id });
                self.start(id, &branch, Some(deadline), Hook::Prepare { operation });
            }
            Command::RunOnePhase { id, branch, operation, deadline } => {
                let deadline = self.clock.instant(deadline);
                self.open.remove(&BranchKey { id, branch: branch.id });
                self.start(id, &branch, Some(deadline), Hook::OnePhase { operation });
            }
            Command::RunSettle { id, branch } => {
                self.open.remove(&BranchKey { id, branch: branch.id });
                self.start(id, &branch, None, Hook::Settle);
            }
            Command::RunCommit { id, branch, decided, prepared } => {
                self.inquiries.ended(&BranchKey { id, branch: branch.id });
                self.start(id, &branch, None, Hook::Commit { decided, prepared });
            }
            Command::RunAbort { id, branch, prepared } => {
                let key = BranchKey { id, branch: branch.id };
                self.open.remove(&key);
                self.inquiries.ended(&key);
                self.start(id, &branch, None, Hook::Abort { prepared });
            }
            Command::SendVote { to, id, branch, vote } => self.send(to, wire::vote(id, branch, vote)),
            Command::SendFinished { to, id, branch, outcome } => {
                self.send(to, wire::finished(id, branch, outcome));
            }
            Command::SendFailed { to, id, branch, error } => {
                self.send(to, wire::failed(id, branch, &error));
            }
            Command::SendRegisterAnswer { to, id, branch, answer } => {
                self.send(to, wire::register_answer(id, branch, answer));
            }
            Command::SendInquiry { id, branch, evidence } => {
                let key = BranchKey { id, branch: branch.id };
                let owner = self.peers.owner(id.incarnation);
                let to_owner = self.inquiries.ask(key, &branch, &evidence, owner.is_some());
                let other = if to_owner { None } else { self.peers.other_than(id.incarnation) };
                // Not attached: it asks again by itself.
                if let Some(to) = other.or(owner) {
                    debug!(gid = %id.gid, branch = %branch.id, session = to.0, "asking for the decision");
                    self.send(to, wire::inquiry(id, branch, evidence));
                }
            }
            Command::Forget { branch, id } => {
                self.inquiries.ended(&BranchKey { id, branch: branch.id });
                self.forget(id, &branch);
            }
            Command::ReportQuarantine { key } => self.inquiries.quarantined(key),
            Command::ReportViolation { key, what } => {
                self.shared.violations.fetch_add(1, Ordering::Relaxed);
                error!(gid = %key.id.gid, branch = %key.branch, what, "the protocol was broken");
            }
        }
    }

    /// Puts a message into a session's outbox. If the session is gone the coordinator asks again on
    /// its next one; if it does not keep up it is ended.
    pub(super) fn send(&mut self, to: SessionId, message: v1::ParticipantMessage) {
        let Some(peer) = self.peers.get(to) else { return };
        if peer.outbox.try_send(message).is_err() {
            warn!(session = to.0, "a session does not keep up, and is ended");
            self.detached(to);
        }
    }

    fn context(
        &self,
        id: TransactionId,
        branch: &Branch,
        deadline: Option<Instant>,
    ) -> Option<BranchContext> {
        let cluster = self.shared.cluster()?;
        Some(BranchContext {
            name: PreparedName { cluster, id, branch: branch.id },
            deadline: deadline.unwrap_or_else(Instant::now).into_std(),
        })
    }

    fn start(&mut self, id: TransactionId, branch: &Branch, deadline: Option<Instant>, hook: Hook) {
        self.running += 1;
        let key = BranchKey { id, branch: branch.id };
        let foreign = !branch.instance.is_nil() && branch.instance != self.shared.instance;
        let refusal = if self.stopping && matches!(hook, Hook::Prepare { .. }) {
            Some("the participant is shutting down")
        } else if self.shared.is_draining() && matches!(hook, Hook::Prepare { operation: Some(_) }) {
            // What was begun goes on; this was not.
            Some("the participant is draining, and takes no new branches")
        } else if foreign && matches!(hook, Hook::Prepare { .. } | Hook::OnePhase { .. }) {
            // An operation executed here too could end up committed twice.
            Some("the branch belongs to another instance of the resource")
        } else if !self.resources.contains_key(&branch.resource) {
            Some("the resource is not one of this participant's")
        } else {
            None
        };
        let (resource, context) = (self.resources.get(&branch.resource), self.context(id, branch, deadline));
        let (None, Some(resource), Some(context)) = (refusal, resource, context) else {
            let problem = refusal.unwrap_or("no coordinator has named the cluster yet");
            self.report(refused(key, &hook, problem));
            return;
        };
        let span = info_span!(
            "hook",
            hook = hook.name(),
            gid = %id.gid,
            branch = %branch.id,
            resource = %branch.resource,
            traceparent = Empty,
        );
        // Beneath the coordinator's span, for whoever makes traces of spans.
        if matches!(hook, Hook::Prepare { .. } | Hook::OnePhase { .. })
            && let Some(traceparent) = self.traceparents.remove(&key)
        {
            span.record("traceparent", traceparent);
        }
        let (resource, observer) = (Arc::clone(resource), self.observer.clone());
        let prepares = matches!(hook, Hook::Prepare { .. } | Hook::OnePhase { .. })
            .then(|| self.prepares.get(&branch.resource).map(Arc::clone))
            .flatten();
        let inputs = self.shared.inputs.clone();
        let task = async move {
            let permit = match prepares {
                // Never closed.
                Some(prepares) => prepares.acquire_owned().await.ok(),
                None => None,
            };
            let event = hooks::run(resource, hook, context, observer).await;
            drop(permit);
            // Without a driver nobody is left to hear it: what is prepared is found by the next scan.
            inputs.send(Input::HookEnded(event)).await.ok();
        };
        self.tasks.spawn(task.instrument(span));
    }

    /// Reports the end of a hook that was not run, as if it had been.
    fn report(&self, event: Event) {
        let inputs = self.shared.inputs.clone();
        self.tasks.spawn(async move { inputs.send(Input::HookEnded(event)).await.ok() });
    }

    fn forget(&self, id: TransactionId, branch: &Branch) {
        let Some(resource) = self.resources.get(&branch.resource).map(Arc::clone) else { return };
        let Some(context) = self.context(id, branch, None) else { return };
        self.tasks.spawn(async move {
            if let Err(panic) = hooks::caught(resource.forget(&context)).await {
                error!(panic, branch = %context.name, "the forget hook panicked");
            }
        });
    }
}

/// The end of a hook that cannot be run.
fn refused(key: BranchKey, hook: &Hook, problem: &str) -> Event {
    match hook {
        Hook::Prepare { .. } => {
            let reason = AbortReason::new(AbortKind::NotAttached, problem);
            Event::PrepareFinished { key, vote: Vote::Abort(reason) }
        }
        Hook::OnePhase { .. } | Hook::Settle => Event::RegisterRead { key, answer: RegisterAnswer::Unknown },
        Hook::Commit { .. } | Hook::Abort { .. } => Event::HookFailed { key, error: problem.into() },
    }
}
