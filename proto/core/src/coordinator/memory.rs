//! What the owner remembers of transactions that have ended: a gid starts once (law 10).

use std::collections::{BTreeMap, VecDeque};

use super::command::TransactionOutcome;
use crate::id::{Gid, Incarnation, TransactionId};
use crate::outcome::HeuristicOutcome;
use crate::vote::AbortReason;

/// How a transaction ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Ending {
    /// Committed, every branch finished.
    Committed { read_only: bool, heuristic: Option<HeuristicOutcome> },
    /// Aborted.
    Aborted { reason: AbortReason, heuristic: Option<HeuristicOutcome> },
    /// Its gid fell under the floor before its outcome could be known.
    Forgotten,
}

impl Ending {
    /// The ending as an answer.
    pub(super) fn outcome(&self) -> TransactionOutcome {
        match self {
            Self::Committed { read_only, heuristic } => TransactionOutcome::Committed {
                read_only: *read_only,
                unfinished: Vec::new(),
                heuristic: *heuristic,
            },
            Self::Aborted { reason, heuristic } => TransactionOutcome::Aborted {
                reason: reason.clone(),
                unfinished: Vec::new(),
                heuristic: *heuristic,
            },
            Self::Forgotten => TransactionOutcome::Forgotten,
        }
    }
}

/// One ended transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ended {
    pub(super) id: TransactionId,
    pub(super) ending: Ending,
    /// Of a one-shot request, so that another body under the same gid is refused (I8).
    pub(super) digest: Option<[u8; 16]>,
}

/// The ended transactions, and the start floor: a gid at or under it that is not here is never
/// started any more, and is answered from the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Memory {
    ended: BTreeMap<Gid, Ended>,
    /// Oldest ending first.
    order: VecDeque<Gid>,
    start_floor: Gid,
    remembered_max: usize,
}

impl Memory {
    pub(super) fn new(remembered_max: usize) -> Self {
        Self { ended: BTreeMap::new(), order: VecDeque::new(), start_floor: Gid::NIL, remembered_max }
    }

    pub(super) fn get(&self, gid: Gid) -> Option<&Ended> {
        self.ended.get(&gid)
    }

    pub(super) fn may_start(&self, gid: Gid) -> bool {
        gid > self.start_floor
    }

    /// Gids up to this are not started any more, unless they are open already.
    pub(super) fn start_floor(&self) -> Gid {
        self.start_floor
    }

    /// Remembers an ending. The oldest one is let go when there are too many, and if it was of our
    /// `own` incarnation it raises the start floor in the same step: at no moment is a gid that we
    /// might start, and that has ended, neither here nor under the floor.
    pub(super) fn insert(&mut self, ended: Ended, own: Option<Incarnation>) {
        let gid = ended.id.gid;
        if self.ended.insert(gid, ended).is_none() {
            self.order.push_back(gid);
        }
        while self.order.len() > self.remembered_max {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(ended) = self.ended.remove(&oldest)
                && Some(ended.id.incarnation) == own
            {
                self.start_floor = self.start_floor.max(oldest);
            }
        }
    }
}
