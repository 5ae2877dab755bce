//! Drain and resume: participants take no new branches, or take them again.
//!
//! A participant drains as a process, with every resource it speaks for: it enlists nothing new and goes
//! on finishing what it has. It forgets this when it ends. It is told by this coordinator and tells all
//! others itself.

use std::sync::Arc;
use std::time::Duration;

use pactum_core::id::{InstanceId, ResourceName};
use pactum_proto::error::ErrorCode;

use super::super::Admin;
use super::plan::{Work, count};
use super::state::{ParticipantState, ParticipantsState};
use super::{End, Proposal, Refusal};
use crate::session::Session;

/// How long participants may take to say that they drain; their own round trip and no more.
const HEARD_WAIT: Duration = Duration::from_secs(1);

/// Between looks at whether they have.
const HEARD_LOOK: Duration = Duration::from_millis(10);

impl Admin {
    /// Those that are meant and attached here, by instance.
    fn meant(&self, resource: &ResourceName, instance: Option<InstanceId>) -> Vec<Arc<Session>> {
        let sessions = self.registry.sessions();
        let of_it = sessions.of_resource(resource);
        let meant = of_it.filter(|session| instance.is_none_or(|instance| session.instance == instance));
        let mut meant: Vec<Arc<Session>> = meant.cloned().collect();
        drop(sessions);
        meant.sort_unstable_by_key(|session| session.instance);
        meant
    }

    /// How they stand.
    pub(super) fn draining_of(
        &self,
        resource: &ResourceName,
        instance: Option<InstanceId>,
    ) -> ParticipantsState {
        let meant = self.meant(resource, instance);
        let participants = meant.iter().map(|session| ParticipantState {
            instance: session.instance.to_string(),
            draining: session.is_draining(),
        });
        ParticipantsState { participants: participants.collect() }
    }

    /// Tells them, and waits a little until they say that it is so.
    pub(super) async fn drain(
        &self,
        resource: &ResourceName,
        instance: Option<InstanceId>,
        draining: bool,
    ) -> End {
        let told = self.examiner.set_draining(resource, instance, draining);
        if told == 0 {
            let message = format!("no participant of {resource} is attached to this coordinator any more");
            return End::Refused(Refusal::new(ErrorCode::ParticipantSilent, message));
        }
        let heard = async {
            while self.meant(resource, instance).iter().any(|session| session.is_draining() != draining) {
                tokio::time::sleep(HEARD_LOOK).await;
            }
        };
        let heard = tokio::time::timeout(HEARD_WAIT, heard).await.is_ok();
        let yet = if heard { "" } else { "; not all of them have said so yet" };
        let what = if draining { "take no new branches" } else { "take new branches again" };
        End::Done(format!("{} told to {what}{yet}", count(told, "participant was", "participants were")))
    }
}

/// What it would do: the state, the facts, the proposal.
pub(super) fn propose(
    admin: &Admin,
    resource: &ResourceName,
    instance: Option<InstanceId>,
    draining: bool,
) -> (ParticipantsState, Vec<String>, Proposal) {
    let meant = admin.meant(resource, instance);
    let state = admin.draining_of(resource, instance);
    let title = if draining {
        format!("Drain the participants of {resource}: they take no new branches")
    } else {
        format!("Resume the participants of {resource}: they take new branches again")
    };
    let facts = meant.iter().map(|session| {
        let resources: Vec<&str> = session.resources.keys().map(ResourceName::as_str).collect();
        let now = if session.is_draining() { "takes no new branches" } else { "takes new branches" };
        format!("{} at {} {now}; it speaks for {}", session.instance, session.peer, resources.join(", "))
    });
    let facts: Vec<String> = facts.collect();
    if meant.is_empty() {
        let message = format!("no participant of {resource} is attached to this coordinator");
        return (state, facts, Proposal::refused(title, ErrorCode::ParticipantSilent, message));
    }
    if state.participants.iter().all(|participant| participant.draining == draining) {
        let message = if draining { "all of them drain already" } else { "none of them drains" };
        return (state, facts, Proposal::refused(title, ErrorCode::NothingToDo, message));
    }
    let verb = if draining { "take no new branches" } else { "take new branches again" };
    let steps =
        meant.iter().map(|session| format!("tell {} to {verb}, of any of its resources", session.instance));
    let risk = if draining {
        "a transaction that needs one of their resources aborts, unless another participant speaks for it"
    } else {
        ""
    };
    let work = Ok(Work::Drain { resource: resource.clone(), instance, draining });
    let proposal = Proposal { title, steps: steps.collect(), risk: risk.to_owned(), heuristic: None, work };
    (state, facts, proposal)
}
