//! The branches of one transaction, as its coordinator knows them.
//!
//! Two are the rule and 64 the most, so they lie side by side in the transaction itself, in the order of
//! their ids: two cost no allocation, and to search is to look at each.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::coordinator::event::Operation;
use crate::id::{Branch, BranchId};
use crate::outcome::BranchOutcome;
use crate::vote::{Evidence, Vote};

/// One branch, as the coordinator knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct BranchState {
    pub(super) branch: Branch,
    ballot: Ballot,
    pub(super) last_error: Option<Arc<str>>,
    pub(super) attempts: u32,
    pub(super) outcome: Option<BranchOutcome>,
    /// Prepare could not be handed to any session so far.
    pub(super) not_attached: bool,
}

/// A vote, or what it is asked for with: nobody is asked to execute an operation who has voted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Ballot {
    /// Not in. The operation is to be executed at Prepare, in a one-shot transaction.
    Awaited(Option<Operation>),
    In(Vote),
}

impl BranchState {
    pub(super) fn new(branch: Branch, operation: Option<Operation>) -> Self {
        Self {
            branch,
            ballot: Ballot::Awaited(operation),
            last_error: None,
            attempts: 0,
            outcome: None,
            not_attached: false,
        }
    }

    pub(super) fn vote(&self) -> Option<&Vote> {
        match &self.ballot {
            Ballot::In(vote) => Some(vote),
            Ballot::Awaited(_) => None,
        }
    }

    pub(super) fn has_voted(&self) -> bool {
        matches!(self.ballot, Ballot::In(_))
    }

    /// The vote is in; an operation is of no further use.
    pub(super) fn votes(&mut self, vote: Vote) {
        self.ballot = Ballot::In(vote);
    }

    /// To be executed at Prepare, in a one-shot transaction, as long as it has not voted.
    pub(super) fn operation(&self) -> Option<&Operation> {
        match &self.ballot {
            Ballot::Awaited(operation) => operation.as_ref(),
            Ballot::In(_) => None,
        }
    }

    /// The evidence of a commit vote.
    pub(super) fn evidence(&self) -> Option<&Evidence> {
        match self.vote() {
            Some(Vote::Commit(evidence)) => Some(evidence),
            Some(Vote::ReadOnly | Vote::Abort(_)) | None => None,
        }
    }
}

/// The branches of one transaction, each id once, in the order of the ids.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Branches(SmallVec<[BranchState; 2]>);

impl Branches {
    fn place(&self, id: BranchId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |state| state.branch.id)
    }

    pub(super) fn get(&self, id: BranchId) -> Option<&BranchState> {
        self.place(id).ok().map(|place| &self.0[place])
    }

    pub(super) fn get_mut(&mut self, id: BranchId) -> Option<&mut BranchState> {
        self.place(id).ok().map(|place| &mut self.0[place])
    }

    /// Adds a branch, unless there is one of its id already; answers the one that is there now.
    pub(super) fn add(&mut self, state: BranchState) -> &mut BranchState {
        let place = match self.place(state.branch.id) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, state);
                place
            }
        };
        &mut self.0[place]
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&BranchState) -> bool) {
        self.0.retain(|state| keep(state));
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, BranchState> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, BranchState> {
        self.0.iter_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
