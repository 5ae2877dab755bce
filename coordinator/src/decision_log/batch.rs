//! A batch made ready for one statement: checked, sorted, each gid once.

use pactum_core::id::Incarnation;
use pactum_core::outcome::Decision;

use super::Proposal;
use super::codec::DecisionColumns;

/// A proposal with its columns, and its place in the batch as it came.
pub(super) type Placed<'a> = (usize, (&'a Proposal, DecisionColumns));

/// The proposals with their places, in rounds of distinct gids, each sorted. Those that break the
/// contract are reported and left out. One round unless a gid
/// comes twice; then the first is written first, and the second finds it.
pub(super) fn rounds(incarnation: Incarnation, proposals: &[Proposal]) -> Vec<Vec<Placed<'_>>> {
    let mut rounds: Vec<Vec<Placed<'_>>> = Vec::new();
    let mut order: Vec<usize> = (0..proposals.len()).collect();
    order.sort_by_key(|place| proposals[*place].record.id.gid);
    let (mut last, mut depth) = (None, 0);
    for place in order {
        let proposal = &proposals[place];
        let gid = proposal.record.id.gid;
        let columns = match DecisionColumns::of(proposal) {
            Ok(columns) => columns,
            Err(problem) => {
                tracing::error!(id = %proposal.record.id, problem, "contract broken: a proposal cannot be written");
                continue;
            }
        };
        if proposal.record.decision == Decision::Commit && proposal.record.id.incarnation != incarnation {
            let id = proposal.record.id;
            tracing::error!(%id, %incarnation, "contract broken: only the owner proposes commit");
            continue;
        }
        depth = if last == Some(gid) { depth + 1 } else { 0 };
        last = Some(gid);
        if rounds.len() == depth {
            rounds.push(Vec::new());
        }
        rounds[depth].push((place, (proposal, columns)));
    }
    rounds
}
