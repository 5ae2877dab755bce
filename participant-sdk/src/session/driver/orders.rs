//! Carrying out what the core orders: hooks, messages, reports.

use std::sync::atomic::Ordering;

use pactum_core::coordinator::RegisterAnswer;
use pactum_core::id::{Branch, PreparedName, TransactionId};
use pactum_core::participant::{BranchKey, Command, Event, SessionId};
use pactum_core::vote::{AbortKind, AbortReason, Vote};
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Span, debug, error, info_span, warn};

use super::Driver;
use crate::resource::BranchContext;
use crate::session::batch::Outgoing;
use crate::session::hooks::{Due, Hook};
use crate::session::wire;

impl Driver {
    pub(super) fn carry_out(&mut self) {
        loop {
            while let Some(command) = self.core.poll_command() {
                self.order(command);
            }
            if self.refused.is_empty() {
                break;
            }
            // As if they had been run.
            for event in std::mem::take(&mut self.refused) {
                self.hook_ended(event);
            }
        }
        for served in self.resources.values_mut().filter(|served| !served.round.is_empty()) {
            served.runner.start(std::mem::take(&mut served.round));
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
                self.send(to, wire::finished(id, &branch, &outcome));
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
    pub(super) fn send(&mut self, to: SessionId, message: impl Into<Outgoing>) {
        let Some(peer) = self.peers.get(to) else { return };
        if peer.outbox.try_send(message.into()).is_err() {
            warn!(session = to.0, "a session does not keep up, and is ended");
            self.detached(to);
        }
    }

    fn context(
        &mut self,
        id: TransactionId,
        branch: &Branch,
        deadline: Option<Instant>,
    ) -> Option<BranchContext> {
        if self.cluster.is_none() {
            self.cluster = self.shared.cluster();
        }
        let cluster = self.cluster.clone()?;
        Some(BranchContext {
            name: PreparedName { cluster, id, branch: branch.id },
            deadline: deadline.unwrap_or(self.now).into_std(),
        })
    }

    /// Has a hook run at the end of the round.
    fn start(&mut self, id: TransactionId, branch: &Branch, deadline: Option<Instant>, hook: Hook) {
        self.running += 1;
        let key = BranchKey { id, branch: branch.id };
        let foreign = !branch.instance.is_nil() && branch.instance != self.shared.instance;
        let refusal = if self.stopping && matches!(hook, Hook::Prepare { .. }) {
            Some("the participant is shutting down")
        } else if matches!(hook, Hook::Prepare { operation: Some(_) }) && self.shared.is_draining() {
            // What was begun goes on; this was not.
            Some("the participant is draining, and takes no new branches")
        } else if foreign && matches!(hook, Hook::Prepare { .. } | Hook::OnePhase { .. }) {
            // An operation executed here too could end up committed twice.
            Some("the branch belongs to another instance of the resource")
        } else {
            None
        };
        let context = self.context(id, branch, deadline);
        let served = self.resources.get_mut(&branch.resource);
        let (None, Some(served), Some(context)) = (refusal, served, context) else {
            let problem = refusal.unwrap_or(match self.cluster {
                Some(_) => "the resource is not one of this participant's",
                None => "no coordinator has named the cluster yet",
            });
            self.refused.push(refused(key, &hook, problem));
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
        served.round.push(Due { hook, branch: context, span });
    }

    fn forget(&mut self, id: TransactionId, branch: &Branch) {
        let context = self.context(id, branch, None);
        if let (Some(served), Some(branch)) = (self.resources.get_mut(&branch.resource), context) {
            served.round.push(Due { hook: Hook::Forget, branch, span: Span::none() });
        }
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
        // Nobody waits for a Forget, and it is not refused.
        Hook::Commit { .. } | Hook::Abort { .. } | Hook::Forget => {
            Event::HookFailed { key, error: problem.into() }
        }
    }
}
