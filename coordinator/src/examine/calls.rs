//! Questions that were sent and not answered yet: who waits for which answer, from whom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pactum_core::id::ResourceName;
use pactum_proto::v1;
use tokio::sync::oneshot;

use crate::session::Session;

/// What a participant answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// To a question.
    Examined(Examined),
    /// To an order to end a branch.
    Overruled {
        /// How the branch stands now.
        presence: v1::BranchPresence,
        /// Why it was not done.
        problem: Option<String>,
    },
}

/// What a participant found out.
#[derive(Debug)]
pub(crate) struct Examined {
    /// The resource that it speaks of.
    pub(crate) resource: ResourceName,
    /// By its own word; not compared with what was asked.
    pub(crate) findings: Vec<v1::BranchFinding>,
    /// Why nothing could be found out.
    pub(crate) problem: Option<String>,
    /// There are more than the limit.
    pub(crate) more: bool,
}

/// Which answer a call waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// About this resource.
    Examined(ResourceName),
    Overruled,
}

impl Expected {
    fn is(&self, answer: &Answer) -> bool {
        match (self, answer) {
            (Self::Examined(resource), Answer::Examined(examined)) => *resource == examined.resource,
            (Self::Overruled, Answer::Overruled { .. }) => true,
            (Self::Examined(_), Answer::Overruled { .. }) | (Self::Overruled, Answer::Examined(_)) => false,
        }
    }
}

/// All calls that wait. There are at most two for each question that an operator has open, and each
/// leaves when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Calls {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    session: Arc<Session>,
    expected: Expected,
    answer: oneshot::Sender<Answer>,
}

impl Calls {
    /// Each statement on it leaves it valid, so a panic elsewhere does not spoil it.
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that waits from now on, before it is sent.
    pub(super) fn begin(self: &Arc<Self>, session: &Arc<Session>, expected: Expected) -> Call {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting { session: Arc::clone(session), expected, answer: sender };
        self.waiting().insert(id, waiting);
        Call { calls: Arc::clone(self), id, session: Arc::clone(session), answer }
    }

    /// Hands an answer to whoever waits for it from that session; answers whether somebody does.
    pub(super) fn answered(&self, session: &Arc<Session>, id: u64, answer: Answer) -> bool {
        let mut waiting = self.waiting();
        let is_meant = |waits: &Waiting| Arc::ptr_eq(&waits.session, session) && waits.expected.is(&answer);
        if !waiting.get(&id).is_some_and(is_meant) {
            return false;
        }
        let taken = waiting.remove(&id);
        drop(waiting);
        taken.is_some_and(|taken| taken.answer.send(answer).is_ok())
    }
}

/// One call. Dropped, it waits no more.
#[derive(Debug)]
pub(super) struct Call {
    calls: Arc<Calls>,
    id: u64,
    session: Arc<Session>,
    answer: oneshot::Receiver<Answer>,
}

impl Call {
    /// Its name on the wire.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the answer; none if the session ends before.
    pub(super) async fn answer(mut self) -> Option<Answer> {
        tokio::select! {
            biased;
            answer = &mut self.answer => answer.ok(),
            () = self.session.gone.cancelled() => None,
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.waiting().remove(&self.id);
    }
}
