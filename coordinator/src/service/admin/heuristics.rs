//! Branches that ended without the decision, as the log keeps them until somebody forgets them.

use pactum_core::id::Gid;
use pactum_core::outcome::{BranchOutcome, Decision};
use pactum_proto::v1;

use super::Admin;
use crate::decision_log::StoredHeuristic;
use crate::error::ServiceError;

const PAGE_SIZE_DEFAULT: u32 = 50;
const PAGE_SIZE_MAX: u32 = 1000;

impl Admin {
    /// One page, newest transaction first.
    pub(super) async fn heuristics_page(
        &self,
        request: v1::ListHeuristicsRequest,
    ) -> Result<v1::ListHeuristicsResponse, ServiceError> {
        let limit = page_size(request.page_size)?;
        let before: Option<Gid> = match request.page_token.as_str() {
            "" => None,
            token => Some(
                token
                    .parse()
                    .map_err(|_malformed| ServiceError::malformed("page_token", "it is none of ours"))?,
            ),
        };
        let failed = |error| ServiceError::LogFailed { why: crate::journal::chain(&error) };
        let page = self.log.list_heuristics(before, limit).await.map_err(failed)?;
        // A page may be short because a transaction's are not parted.
        let last = page.last().map(|last| last.record.id.gid);
        let more = match last {
            Some(last) => !self.log.list_heuristics(Some(last), 1).await.map_err(failed)?.is_empty(),
            None => false,
        };
        Ok(v1::ListHeuristicsResponse {
            heuristics: page.into_iter().map(shown).collect(),
            next_page_token: last
                .filter(|_| more)
                .map(|gid| gid.as_uuid().simple().to_string())
                .unwrap_or_default(),
        })
    }
}

/// The size of a page of a list.
pub(super) fn page_size(given: u32) -> Result<u32, ServiceError> {
    match given {
        0 => Ok(PAGE_SIZE_DEFAULT),
        size if size > PAGE_SIZE_MAX => Err(ServiceError::malformed("page_size", "at most 1000 are shown")),
        size => Ok(size),
    }
}

fn shown(stored: StoredHeuristic) -> v1::Heuristic {
    let decision = match stored.decision {
        Some(Decision::Commit) => v1::BranchOutcome::Committed,
        Some(Decision::Abort) => v1::BranchOutcome::Aborted,
        None => v1::BranchOutcome::Unspecified,
    };
    v1::Heuristic {
        id: Some(stored.record.id.into()),
        branch: Some(stored.record.branch.into()),
        outcome: v1::BranchOutcome::from(BranchOutcome::Heuristic(stored.record.outcome)).into(),
        recorded_at: Some(stored.recorded_at.into()),
        decision: decision.into(),
    }
}
