//! Pages of the log for operators: what may be asked for, and how it is shown.

use std::time::SystemTime;

use pactum_core::id::{Gid, TransactionId};
use pactum_core::outcome::{Decision, DecisionRecord};

use super::{HeuristicRecord, UndecidedRecord};

/// A heuristic outcome with what is known of it, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHeuristic {
    /// It.
    pub record: HeuristicRecord,
    /// When it was kept first, by the log's clock.
    pub recorded_at: SystemTime,
    /// The decision, if one stands.
    pub decision: Option<Decision>,
}

/// Which page of the log to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// At most this many.
    pub limit: u32,
    /// Only gids below this one.
    pub before: Option<Gid>,
    /// Only gids whose 32 hexadecimal digits begin or end with this (lower case, no hyphens). All 32
    /// are looked up by the key; fewer read the log from its newest gid down.
    pub part: Option<String>,
    /// Only those that are not finished: undecided ones and unfinished commits.
    pub unfinished_only: bool,
}

/// A transaction as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransaction {
    /// The transaction.
    pub id: TransactionId,
    /// The decision, or what is known of an undecided one.
    pub state: StoredState,
    /// Branches that ended without the decision.
    pub heuristics: Vec<HeuristicRecord>,
}

/// The decision, or what is known of an undecided transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredState {
    /// A decision stands.
    Decided {
        /// It.
        record: DecisionRecord,
        /// When it was written, by the log's clock.
        decided_at: SystemTime,
        /// Whether every branch is known to have finished.
        finished: bool,
    },
    /// Only a prepare record.
    Undecided {
        /// It; its age is as of now.
        record: UndecidedRecord,
    },
}

/// What a page asks for, ready for a query: below which gid, and which part in hexadecimal digits.
/// `None` if no gid can have that part.
pub(super) fn page_filter(page: &ListPage) -> Option<PageFilter> {
    let before = page.before.map(|gid| *gid.as_uuid());
    let Some(part) = page.part.clone().filter(|part| !part.is_empty()) else {
        return Some(PageFilter { before, part: None, exact: None });
    };
    // Also keeps the wildcards of LIKE out of it.
    let is_digits = part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match part.len() {
        _ if !is_digits => None,
        // A whole gid is found by the key; comparing texts would read every row.
        DIGITS => {
            let exact = uuid::Uuid::parse_str(&part).ok()?;
            Some(PageFilter { before, part: None, exact: Some(exact) })
        }
        0..DIGITS => Some(PageFilter { before, part: Some(part), exact: None }),
        _ => None,
    }
}

/// A gid's hexadecimal digits.
const DIGITS: usize = 32;

/// See [`page_filter`].
pub(super) struct PageFilter {
    pub(super) before: Option<uuid::Uuid>,
    /// Its beginning or end.
    pub(super) part: Option<String>,
    pub(super) exact: Option<uuid::Uuid>,
}

/// Of up to `limit` + 1 heuristic outcomes, newest gid first, the page of at most `limit` that parts no
/// gid; if the first gid alone fills it, as many of that.
pub(super) fn whole_gids(mut found: Vec<StoredHeuristic>, limit: u32) -> Vec<StoredHeuristic> {
    let limit = limit as usize;
    if let Some(beyond) = found.get(limit).map(|beyond| beyond.record.id.gid) {
        let whole = found.partition_point(|one| one.record.id.gid > beyond);
        found.truncate(if whole == 0 { limit } else { whole });
    }
    found
}
