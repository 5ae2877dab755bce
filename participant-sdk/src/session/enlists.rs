//! Enlistments that are not answered yet.
//!
//! An enlistment waits for a stream to the transaction's owner, is sent on it, and is sent again on
//! the next one if that stream breaks before the answer: the coordinator takes the repetition as
//! the same (`failure-matrix` E11). It ends with an answer or when the transaction's time is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pactum_core::id::{Branch, Incarnation};
use pactum_core::participant::{BranchKey, SessionId};
use pactum_proto::v1;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wire;
use crate::error::Refusal;
use crate::participant::EnlistError;

/// Who waits for the end of an enlistment.
pub(crate) type Reply = oneshot::Sender<Result<Branch, EnlistError>>;

#[derive(Debug)]
struct Pending {
    branch: Branch,
    deadline: Instant,
    reply: Reply,
    /// Whether it was ever given to a stream: then the coordinator may know of it.
    sent: bool,
    /// The call under way.
    call: Option<u64>,
    /// When it is to be acted on: sent again, or given up.
    due: Instant,
}

/// All that are not answered.
#[derive(Debug, Default)]
pub(crate) struct Enlists {
    pending: BTreeMap<BranchKey, Pending>,
    due: BTreeSet<(Instant, BranchKey)>,
    calls: HashMap<u64, (SessionId, BranchKey)>,
    last_call: u64,
}

impl Enlists {
    /// Adds one. `false` if that branch is being enlisted already: whoever asked has been told.
    pub(crate) fn add(&mut self, key: BranchKey, branch: Branch, deadline: Instant, reply: Reply) -> bool {
        if self.pending.contains_key(&key) {
            // Whoever asked may have gone.
            reply.send(Err(EnlistError::BranchInUse)).ok();
            return false;
        }
        self.due.insert((deadline, key));
        let pending = Pending { branch, deadline, reply, sent: false, call: None, due: deadline };
        self.pending.insert(key, pending);
        true
    }

    /// What is to be sent to this incarnation, now that this session leads to it.
    pub(crate) fn waiting_for(&self, incarnation: Incarnation) -> Vec<BranchKey> {
        let waits = |(key, pending): &(&BranchKey, &Pending)| {
            key.id.incarnation == incarnation && pending.call.is_none()
        };
        self.pending.iter().filter(waits).map(|(key, _)| *key).collect()
    }

    /// The message that enlists the branch, to be sent on this session.
    pub(crate) fn call(
        &mut self,
        key: BranchKey,
        session: SessionId,
        now: Instant,
    ) -> Option<v1::ParticipantMessage> {
        let pending = self.pending.get_mut(&key)?;
        self.last_call += 1;
        self.calls.insert(self.last_call, (session, key));
        pending.sent = true;
        pending.call = Some(self.last_call);
        let left = pending.deadline.saturating_duration_since(now);
        Some(wire::enlist(self.last_call, key.id, &pending.branch, left))
    }

    /// The session is gone, and with it every answer that it owed.
    pub(crate) fn session_ended(&mut self, session: SessionId) {
        let pending = &mut self.pending;
        self.calls.retain(|_, (on, key)| {
            if *on == session
                && let Some(pending) = pending.get_mut(key)
            {
                pending.call = None;
            }
            *on != session
        });
    }

    /// An answer came. Returns the branch if it is not to be enlisted any more.
    pub(crate) fn answered(
        &mut self,
        session: SessionId,
        call_id: u64,
        refusal: Option<Refusal>,
        now: Instant,
    ) -> Option<BranchKey> {
        let &(on, key) = self.calls.get(&call_id)?;
        if on != session {
            return None;
        }
        self.calls.remove(&call_id);
        let pending = self.pending.get_mut(&key)?;
        let again = refusal.as_ref().and_then(Refusal::retry_after).map(|after| now + after);
        match (refusal, again) {
            (Some(_), Some(again)) if again < pending.deadline => {
                pending.call = None;
                self.due.remove(&(pending.due, key));
                pending.due = again;
                self.due.insert((again, key));
                None
            }
            (Some(refusal), _) => {
                self.finish(key, Err(EnlistError::Refused(refusal)));
                Some(key)
            }
            (None, _) => {
                let branch = pending.branch.clone();
                self.finish(key, Ok(branch));
                None
            }
        }
    }

    fn finish(&mut self, key: BranchKey, end: Result<Branch, EnlistError>) {
        let Some(pending) = self.pending.remove(&key) else { return };
        self.due.remove(&(pending.due, key));
        if let Some(call) = pending.call {
            self.calls.remove(&call);
        }
        // Whoever asked may have gone: the branch is enlisted, and the transaction decides.
        pending.reply.send(end).ok();
    }

    /// What is due: `Ok` to be sent again, `Err` given up.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Result<BranchKey, BranchKey>> {
        let mut taken = Vec::new();
        while let Some(&(at, key)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.pop_first();
            let Some(pending) = self.pending.get_mut(&key) else { continue };
            if pending.deadline > now {
                pending.due = pending.deadline;
                self.due.insert((pending.due, key));
                taken.push(Ok(key));
            } else {
                let error = if pending.sent { EnlistError::Unanswered } else { EnlistError::NotAttached };
                self.finish(key, Err(error));
                taken.push(Err(key));
            }
        }
        taken
    }

    /// Ends those that wait for this incarnation: it will not answer any more.
    pub(crate) fn owner_gone(&mut self, incarnation: Incarnation) -> Vec<BranchKey> {
        let waits = |key: &&BranchKey| key.id.incarnation == incarnation;
        let keys: Vec<BranchKey> = self.pending.keys().filter(waits).copied().collect();
        for key in &keys {
            let sent = self.pending.get(key).is_some_and(|pending| pending.sent);
            self.finish(*key, Err(if sent { EnlistError::Unanswered } else { EnlistError::NotAttached }));
        }
        keys
    }

    /// Ends all of them: the participant stops.
    pub(crate) fn stop(&mut self) -> Vec<BranchKey> {
        let keys: Vec<BranchKey> = self.pending.keys().copied().collect();
        for key in &keys {
            self.finish(*key, Err(EnlistError::Stopping));
        }
        keys
    }

    /// When [`take_due`](Self::take_due) is to be called next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}
