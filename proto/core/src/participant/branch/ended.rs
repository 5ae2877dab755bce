//! What is kept of a branch that has ended: enough to answer what is repeated or late, and no more.
//!
//! Many times more branches are remembered than are open, and none of them is touched again as a rule.

use super::askers::Askers;
use super::{End, HeldBranch, State};
use crate::id::{Branch, InstanceId, ResourceName};
use crate::participant::{BranchKey, Command};
use crate::time::Timestamp;
use crate::vote::Evidence;

/// One that has ended. Its name is the key that it is kept under.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::participant) struct EndedBranch {
    resource: ResourceName,
    instance: InstanceId,
    marker: bool,
    end: End,
    decided: Option<Evidence>,
    at: Timestamp,
}

impl EndedBranch {
    /// What it was when it had ended, to take one more step.
    pub(in crate::participant) fn recalled(self, key: BranchKey) -> HeldBranch {
        HeldBranch {
            state: State::Ended(self.end),
            decided: self.decided,
            ended_at: Some(self.at),
            ..HeldBranch::unknown(
                key.id,
                Branch {
                    id: key.branch,
                    resource: self.resource,
                    instance: self.instance,
                    marker: self.marker,
                },
            )
        }
    }

    /// What is let go with the memory of it.
    pub(in crate::participant) fn forget(self, key: BranchKey) -> Command {
        let Self { resource, instance, marker, .. } = self;
        Command::Forget { branch: Branch { id: key.branch, resource, instance, marker }, id: key.id }
    }
}

impl HeldBranch {
    /// What is to be remembered of it, if it has ended; else the branch.
    pub(in crate::participant) fn into_ended(self: Box<Self>) -> Result<EndedBranch, Box<Self>> {
        let Some(at) = self.ended_at.filter(|_| self.is_ended()) else { return Err(self) };
        // Whoever asked was answered by the step that ended it.
        debug_assert!(
            [&self.prepare_asked, &self.end_asked, &self.register_asked].into_iter().all(Askers::is_empty)
        );
        let Self { id, branch, state, decided, .. } = *self;
        let State::Ended(end) = state else { unreachable!("{id} has ended") };
        let Branch { resource, instance, marker, .. } = branch;
        Ok(EndedBranch { resource, instance, marker, end, decided, at })
    }
}
