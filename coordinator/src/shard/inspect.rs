//! What operators may see of a shard's open transactions.

use std::collections::BTreeMap;

use pactum_core::coordinator::{Coordinator, Phase, TransactionView};
use pactum_core::id::{Gid, ResourceName};
use pactum_core::time::Timestamp;
use tokio::sync::oneshot;

/// Which open transactions an operator wants to see.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    /// That one.
    One(Gid),
    /// Those of these that are open, newest first.
    These(Vec<Gid>),
    /// Those whose 32 digits begin or end so.
    Part(String),
    /// The newest `limit` below `before`, of these phases only.
    Page { before: Option<Gid>, limit: usize, phases: Phases },
}

/// Which phases an operator wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phases {
    #[default]
    Any,
    /// Those in which a branch may be in doubt.
    InDoubt,
    One(Phase),
    /// No open transaction at all.
    None,
}

impl Phases {
    /// Whether a phase is among them.
    pub(crate) fn hold(self, phase: Phase) -> bool {
        match self {
            Self::Any => true,
            Self::InDoubt => matches!(phase, Phase::Deciding | Phase::Committing | Phase::Aborting),
            Self::One(wanted) => phase == wanted,
            Self::None => false,
        }
    }
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
            Self::Branches(reply) => reply.send(open_branches(core)).is_ok(),
        };
        if !heard {
            tracing::debug!("an operator hung up");
        }
    }
}

/// A part that fits more than this many is not worth more work: it fits several.
const PART_MATCHES_MAX: usize = 2;

fn select(core: &Coordinator, selection: &Selection, now: Timestamp) -> Vec<TransactionView> {
    let view = |gid| core.transaction(gid, now);
    match selection {
        Selection::One(gid) => view(*gid).into_iter().collect(),
        Selection::These(gids) => gids.iter().copied().filter_map(view).collect(),
        Selection::Part(part) => {
            let fits = |gid: &Gid| {
                let digits = gid.as_uuid().simple().to_string();
                digits.starts_with(part.as_str()) || digits.ends_with(part.as_str())
            };
            let gids = core.phases_below(None).map(|(gid, _)| gid).filter(fits);
            gids.take(PART_MATCHES_MAX).filter_map(view).collect()
        }
        Selection::Page { before, limit, phases } => {
            page(core.phases_below(*before).rev(), *limit, *phases).filter_map(view).collect()
        }
    }
}

/// The first so many of those phases. Lazy: whoever pages through many looks at the names of those that he
/// passes over, and at nothing more of them.
fn page(
    newest_first: impl Iterator<Item = (Gid, Phase)>,
    limit: usize,
    phases: Phases,
) -> impl Iterator<Item = Gid> {
    newest_first.filter(move |(_, phase)| phases.hold(*phase)).map(|(gid, _)| gid).take(limit)
}

fn open_branches(core: &Coordinator) -> BTreeMap<ResourceName, u64> {
    let mut counts = BTreeMap::new();
    for resource in core.unfinished_resources() {
        match counts.get_mut(resource) {
            Some(count) => *count += 1,
            None => {
                counts.insert(resource.clone(), 1);
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_page_of_ten_thousand_looks_at_no_more_than_it_shows() {
        let looked_at = Cell::new(0);
        let all = (0..10_000_u128).rev().map(|number| {
            looked_at.set(looked_at.get() + 1);
            (Gid::from_uuid(Uuid::from_u128(number)), Phase::Committing)
        });
        let shown: Vec<Gid> = page(all, 50, Phases::InDoubt).collect();
        assert_eq!((shown.len(), looked_at.get()), (50, 50));
        assert_eq!(shown[0], Gid::from_uuid(Uuid::from_u128(9_999)));
    }

    #[test]
    fn only_wanted_phases_are_on_a_page() {
        let phases = [Phase::Active, Phase::Preparing, Phase::Deciding, Phase::Committing, Phase::Aborting];
        let all =
            || (0..).zip(phases).map(|(number, phase)| (Gid::from_uuid(Uuid::from_u128(number)), phase));
        let shown = |wanted| page(all(), 10, wanted).map(|gid| gid.as_uuid().as_u128()).collect::<Vec<_>>();
        assert_eq!(shown(Phases::Any), [0, 1, 2, 3, 4]);
        assert_eq!(shown(Phases::InDoubt), [2, 3, 4]);
        assert_eq!(shown(Phases::One(Phase::Preparing)), [1]);
    }
}
