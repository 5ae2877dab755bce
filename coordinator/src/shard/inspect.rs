//! What operators may see of a shard's open transactions.

use std::collections::BTreeMap;

use pactum_core::coordinator::{Coordinator, TransactionView};
use pactum_core::id::{Gid, ResourceName};
use pactum_core::time::Timestamp;
use tokio::sync::oneshot;

/// Which open transactions an operator wants to see.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    /// That one.
    One(Gid),
    /// Those whose 32 digits begin or end so.
    Part(String),
    /// The newest `limit` below `before`.
    Page { before: Option<Gid>, limit: usize },
}

/// A look at a shard.
#[derive(Debug)]
pub(crate) enum Inspect {
    /// Transactions, newest first.
    Transactions(Selection, oneshot::Sender<Vec<TransactionView>>),
    /// How many branches are not finished, by resource.
    Branches(oneshot::Sender<BTreeMap<ResourceName, u64>>),
}

impl Inspect {
    /// Looks, and answers. Nothing changes.
    pub(super) fn answer(self, core: &Coordinator, now: Timestamp) {
        let heard = match self {
            Self::Transactions(selection, reply) => reply.send(select(core, &selection, now)).is_ok(),
            Self::Branches(reply) => reply.send(open_branches(core, now)).is_ok(),
        };
        if !heard {
            tracing::debug!("an operator hung up");
        }
    }
}

/// A part that fits more than this many is not worth more work: it fits several.
const PART_MATCHES_MAX: usize = 2;

fn select(core: &Coordinator, selection: &Selection, now: Timestamp) -> Vec<TransactionView> {
    match selection {
        Selection::One(gid) => core.transaction(*gid, now).into_iter().collect(),
        Selection::Part(part) => core
            .transactions(now)
            .filter(|view| {
                let digits = view.id.gid.as_uuid().simple().to_string();
                digits.starts_with(part.as_str()) || digits.ends_with(part.as_str())
            })
            .take(PART_MATCHES_MAX)
            .collect(),
        Selection::Page { before, limit } => core
            .transactions(now)
            .rev()
            .filter(|view| before.is_none_or(|before| view.id.gid < before))
            .take(*limit)
            .collect(),
    }
}

fn open_branches(core: &Coordinator, now: Timestamp) -> BTreeMap<ResourceName, u64> {
    let mut counts = BTreeMap::new();
    for view in core.transactions(now) {
        for branch in view.branches.iter().filter(|branch| branch.outcome.is_none()) {
            *counts.entry(branch.branch.resource.clone()).or_insert(0) += 1;
        }
    }
    counts
}
