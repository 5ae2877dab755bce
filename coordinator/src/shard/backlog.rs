//! Decisions that wait for room in a participant's outbox.
//!
//! After an outage, or a takeover, tens of thousands of branches of one resource are told their
//! decision at once. What fits goes out; the rest waits here, by resource, and follows as the
//! participant reads. So no stream is cut off for what we ourselves had in store for it, what is new
//! is not behind it, and one resource's backlog delays no other's (F5, F6).
//!
//! It may be dropped at any moment: the core orders again what was not acknowledged.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use pactum_core::id::{Branch, BranchId, Gid, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::Decision;
use pactum_core::time::Timestamp;
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

/// With so many recovered commits unfinished a participant has more before it than it ends within the first
/// retry delays, and being told again what it has would only keep it longer. With fewer, telling again costs
/// nothing and needs no memory.
const STORM_MIN: usize = 256;

/// For so long whoever took an order counts as busy with it. After that he is told again, as the protocol has it:
/// that somebody answers what he took is his promise and not ours. Shorter tells a slow one twice; longer
/// leaves a branch waiting where a participant drops what it is told.
const IN_HAND_MAX: Duration = Duration::from_secs(30);

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

/// A session that took an order, told apart from all others, later ones of the same instance too.
#[derive(Clone, Copy, Debug)]
struct Holder {
    instance: InstanceId,
    attached_at: std::time::Instant,
    until: Timestamp,
}

impl Holder {
    fn new(session: &Session, now: Timestamp) -> Self {
        let Session { instance, attached_at, .. } = *session;
        Self { instance, attached_at, until: now + IN_HAND_MAX }
    }

    /// Whether that session is busy with it still.
    fn is(&self, session: &Session, now: Timestamp) -> bool {
        (self.instance, self.attached_at) == (session.instance, session.attached_at) && now < self.until
    }
}

/// What waits, by resource.
///
/// It also knows who has which order of a storm in hand. A stream loses nothing, and whoever has an order
/// answers it or ends the stream; so he is not told again for a while, and another session at its turn is.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    queues: BTreeMap<ResourceName, VecDeque<Order>>,
    waiting: HashSet<(Gid, BranchId)>,
    /// By whom each order of a storm was taken that is not answered yet.
    in_hand: HashMap<(Gid, BranchId), Vec<Holder>>,
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

    /// Notes that an order of a recovered commit was taken; so many of these are unfinished.
    pub(super) fn taken(
        &mut self,
        order: &Order,
        sessions: &Sessions,
        attempt: u32,
        recovering: usize,
        now: Timestamp,
    ) {
        if recovering < STORM_MIN {
            // Over, whatever was not answered.
            self.in_hand.clear();
        } else if let Some(session) = order.target(sessions, attempt) {
            let holders = self.in_hand.entry(order.key()).or_default();
            // Of an instance the latest session, or streams that come and go would add up.
            holders.retain(|holder| holder.instance != session.instance);
            holders.push(Holder::new(session, now));
        }
    }

    /// Whether the session whose turn it is has this order, and has not answered it.
    pub(super) fn is_in_hand(
        &self,
        order: &Order,
        sessions: &Sessions,
        attempt: u32,
        recovering: usize,
        now: Timestamp,
    ) -> bool {
        recovering >= STORM_MIN
            && self.in_hand.get(&order.key()).is_some_and(|holders| {
                let session = order.target(sessions, attempt);
                session.is_some_and(|session| holders.iter().any(|holder| holder.is(session, now)))
            })
    }

    /// A branch has ended, or could not be ended.
    pub(super) fn answered(&mut self, gid: Gid, branch: BranchId) {
        if !self.in_hand.is_empty() {
            self.in_hand.remove(&(gid, branch));
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

#[cfg(test)]
mod tests {
    use pactum_core::id::Incarnation;
    use uuid::Uuid;

    use super::*;
    use crate::outbox::{Drain, Outbox, OutboxLimits};
    use crate::registry::Registry;

    fn bank() -> ResourceName {
        ResourceName::new("bank-a").unwrap()
    }

    fn instance(number: u128) -> InstanceId {
        InstanceId::from_uuid(Uuid::from_u128(number))
    }

    /// A participant that reads nothing.
    async fn attach(registry: &Registry, number: u128) -> (std::sync::Arc<Session>, Drain<ToParticipant>) {
        let (outbox, unread) = Outbox::new(OutboxLimits { messages_max: 16, bytes_max: 1 << 20 });
        let session = Session::scripted(instance(number), &[&bank()], outbox);
        registry.attach(&session).await.unwrap();
        (session, unread)
    }

    fn order() -> Order {
        let id = TransactionId { incarnation: Incarnation::NIL, gid: Gid::from_uuid(Uuid::from_u128(1)) };
        let branch = Branch { id: BranchId::new(1), resource: bank(), instance: instance(1), marker: false };
        Order { id, branch, commit: Some(Evidence::new("1", "here")) }
    }

    #[tokio::test]
    async fn f5_in_a_storm_nobody_is_told_again_what_he_has_and_others_are() {
        let registry = Registry::new(8);
        let first = attach(&registry, 1).await;
        let (order, mut backlog) = (order(), Backlog::new(16));
        let now = Timestamp::default();
        let in_hand_at = |backlog: &Backlog, attempt, recovering, now| {
            backlog.is_in_hand(&order, &registry.sessions(), attempt, recovering, now)
        };
        let in_hand = |backlog: &Backlog, attempt, recovering| in_hand_at(backlog, attempt, recovering, now);
        assert!(!in_hand(&backlog, 1, STORM_MIN));
        backlog.taken(&order, &registry.sessions(), 1, STORM_MIN, now);
        assert!(in_hand(&backlog, 2, STORM_MIN));
        assert!(!in_hand(&backlog, 2, STORM_MIN - 1), "a few are told again whatever was before");
        // The third attempt is another instance's turn, the fourth the first one's again.
        let second = attach(&registry, 2).await;
        assert!(!in_hand(&backlog, 3, STORM_MIN));
        backlog.taken(&order, &registry.sessions(), 3, STORM_MIN, now);
        assert_eq!([2, 3, 4].map(|attempt| in_hand(&backlog, attempt, STORM_MIN)), [true; 3]);
        // A stream that ended may have lost it.
        for (gone, _unread) in [first, second] {
            registry.detach(&gone);
        }
        let _again = attach(&registry, 1).await;
        assert!(!in_hand(&backlog, 5, STORM_MIN));
        backlog.taken(&order, &registry.sessions(), 5, STORM_MIN, now);
        assert!(in_hand(&backlog, 6, STORM_MIN));
        // It failed, and is to be tried again; or it ended.
        backlog.answered(order.id.gid, order.branch.id);
        assert!(!in_hand(&backlog, 6, STORM_MIN));
        // Nor does a participant that drops what it is told keep a branch waiting for ever.
        backlog.taken(&order, &registry.sessions(), 6, STORM_MIN, now);
        let nearly = now + IN_HAND_MAX * 9 / 10;
        assert!(in_hand_at(&backlog, 7, STORM_MIN, nearly));
        assert!(!in_hand_at(&backlog, 7, STORM_MIN, now + IN_HAND_MAX));
        // What was never answered is forgotten when the storm is over.
        backlog.taken(&order, &registry.sessions(), 6, STORM_MIN, now);
        backlog.taken(&order, &registry.sessions(), 6, STORM_MIN - 1, now);
        assert!(backlog.in_hand.is_empty());
    }
}
