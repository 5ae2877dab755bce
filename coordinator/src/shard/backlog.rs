//! Decisions that wait for room in a participant's outbox.
//!
//! After an outage, or a takeover, tens of thousands of branches of one resource are told their
//! decision at once. What fits goes out; the rest waits here, by resource, and follows as the
//! participant reads. So no stream is cut off for what we ourselves had in store for it, what is new
//! is not behind it, and one resource's backlog delays no other's (F5, F6).
//!
//! It may be dropped at any moment: the core orders again what was not acknowledged.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use pactum_core::id::{Branch, BranchId, Gid, ResourceName, TransactionId};
use pactum_core::outcome::Decision;
use pactum_core::vote::Evidence;
use tokio::time::Instant;

use crate::registry::Sessions;
use crate::service::wire::{self, ToParticipant};
use crate::session::{Sent, Session};

/// Decisions of a backlog that may wait in one outbox. More puts more before what is new; fewer than
/// two batches would let a quick participant idle until the next [`LOOK`].
const PACED_MAX: usize = 2048;

/// Between looks at whether an outbox has room again.
const LOOK: Duration = Duration::from_millis(5);

/// A decision for one branch.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) id: TransactionId,
    pub(super) branch: Branch,
    /// Of the execution to commit; none to abort.
    pub(super) commit: Option<Evidence>,
}

impl Order {
    pub(super) fn decision(&self) -> Decision {
        if self.commit.is_some() { Decision::Commit } else { Decision::Abort }
    }

    fn message(&self) -> ToParticipant {
        match &self.commit {
            Some(evidence) => wire::commit(self.id, &self.branch, evidence),
            None => wire::abort(self.id, &self.branch),
        }
    }

    /// Where it goes at this attempt.
    fn target<'a>(&self, sessions: &'a Sessions, attempt: u32) -> Option<&'a Session> {
        match self.commit {
            Some(_) => sessions.for_commit(&self.branch, turn(attempt)),
            None => sessions.for_abort(&self.branch, turn(attempt)),
        }
    }

    /// Sends it unless so many wait before it.
    pub(super) fn send(&self, sessions: &Sessions, attempt: u32, below: usize) -> Sent {
        self.target(sessions, attempt).map_or(Sent::No, |session| session.send_below(self.message(), below))
    }

    fn key(&self) -> (Gid, BranchId) {
        (self.id.gid, self.branch.id)
    }
}

/// Whose turn an attempt is: the second one still goes where the first went, since a commit may just
/// be slow.
fn turn(attempt: u32) -> usize {
    usize::try_from(attempt.saturating_sub(2)).unwrap_or(0)
}

/// What waits, by resource.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    queues: BTreeMap<ResourceName, VecDeque<Order>>,
    waiting: HashSet<(Gid, BranchId)>,
    next_look: Option<Instant>,
    paced_max: usize,
    fresh_max: usize,
}

impl Backlog {
    /// For outboxes that hold so many messages.
    pub(crate) fn new(outbox_messages_max: usize) -> Self {
        let half = outbox_messages_max.div_ceil(2);
        Self { paced_max: PACED_MAX.min(half), fresh_max: half, ..Self::default() }
    }

    /// How many messages may wait before this order: an outbox has room left for what cannot wait.
    /// None if it must not overtake what waits here.
    pub(super) fn limit_for(&self, order: &Order, is_new: bool) -> Option<usize> {
        if is_new {
            Some(self.fresh_max)
        } else {
            (!self.queues.contains_key(&order.branch.resource)).then_some(self.paced_max)
        }
    }

    /// Keeps an order for later, unless it waits already.
    pub(super) fn push(&mut self, order: Order, now: Instant) {
        if self.waiting.insert(order.key()) {
            self.queues.entry(order.branch.resource.clone()).or_default().push_back(order);
            self.next_look.get_or_insert(now + LOOK);
        }
    }

    /// When to call [`release`](Self::release) next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Sends what has room now; `attempt` is which one it is for a gid, 0 if it needs no decision any
    /// more. Answers what was sent.
    pub(super) fn release(
        &mut self,
        sessions: &Sessions,
        attempt: impl Fn(Gid) -> u32,
        now: Instant,
    ) -> Vec<Order> {
        if self.next_look.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut sent = Vec::new();
        let Self { queues, waiting, paced_max, .. } = self;
        queues.retain(|_, queue| {
            while let Some(order) = queue.front() {
                let attempt = attempt(order.id.gid);
                if attempt > 0 {
                    match order.send(sessions, attempt, *paced_max) {
                        Sent::Yes => sent.push(order.clone()),
                        Sent::Later => return true,
                        // Nobody is there: when somebody attaches, all is ordered again.
                        Sent::No => {}
                    }
                }
                waiting.remove(&order.key());
                queue.pop_front();
            }
            false
        });
        self.next_look = (!self.queues.is_empty()).then(|| now + LOOK);
        sent
    }
}
