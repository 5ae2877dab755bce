//! Branches in doubt that were asked about: whose turn it is to be asked, and what is in quarantine.
//!
//! Bounded by what is prepared: a branch leaves as soon as a hook is ordered that ends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use pactum_core::id::{Branch, PreparedName};
use pactum_core::participant::BranchKey;
use pactum_core::vote::Evidence;
use tracing::error;

use super::Shared;
use crate::participant::Quarantined;

/// What a coordinator says of a branch in quarantine is no more than that it is.
const WHY: &str = "a coordinator answered that nobody can know the decision: either it is older than the \
                   decision log remembers, or the log went back in time and nobody vouches for its owner";

/// One branch that was asked about.
#[derive(Debug)]
struct Inquiry {
    branch: Branch,
    evidence: Evidence,
    /// Whether its owner was asked last: then it is somebody else's turn.
    owner_was_last: bool,
}

/// All that were asked about and have not ended.
#[derive(Debug)]
pub(super) struct Inquiries {
    asked: BTreeMap<BranchKey, Inquiry>,
    shared: Arc<Shared>,
}

impl Inquiries {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { asked: BTreeMap::new(), shared }
    }

    /// A branch is asked about. Answers whether it is its owner's turn: each second time it is somebody
    /// else's, for an owner that hangs, or that the log has ended, would keep its branches prepared as
    /// long as its stream is open.
    pub(super) fn ask(
        &mut self,
        key: BranchKey,
        branch: &Branch,
        evidence: &Evidence,
        owner_attached: bool,
    ) -> bool {
        let inquiry = self.asked.entry(key).or_insert_with(|| Inquiry {
            branch: branch.clone(),
            evidence: evidence.clone(),
            owner_was_last: false,
        });
        if inquiry.evidence != *evidence {
            inquiry.evidence.clone_from(evidence);
            if let Some(quarantined) = self.shared.lock_quarantined().get_mut(&key) {
                quarantined.evidence.clone_from(evidence);
            }
        }
        inquiry.owner_was_last = owner_attached && !inquiry.owner_was_last;
        inquiry.owner_was_last
    }

    /// The branch is being ended, or is forgotten.
    pub(super) fn ended(&mut self, key: &BranchKey) {
        if self.asked.remove(key).is_some() {
            self.shared.lock_quarantined().remove(key);
        }
    }

    /// It was answered that nobody can know its decision.
    pub(super) fn quarantined(&self, key: BranchKey) {
        error!(
            gid = %key.id.gid, branch = %key.branch,
            "nobody can know the branch's decision any more: it stays prepared until an operator ends it"
        );
        // Only what was asked about is answered, and the cluster is known since the first attach.
        let (Some(inquiry), Some(cluster)) = (self.asked.get(&key), self.shared.cluster()) else { return };
        let quarantined = Quarantined {
            name: PreparedName { cluster, id: key.id, branch: key.branch },
            resource: inquiry.branch.resource.clone(),
            evidence: inquiry.evidence.clone(),
            since: SystemTime::now(),
            why: WHY.to_owned(),
        };
        self.shared.lock_quarantined().entry(key).or_insert(quarantined);
    }
}
