//! Finding transactions: among the open ones of all shards and in the log, where an open one
//! stands before its record.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use pactum_core::coordinator::TransactionView;
use pactum_core::id::{Branch, Gid, TransactionId};
use pactum_core::outcome::{DecidedBranch, Details};
use pactum_proto::v1;

use super::Admin;
use super::filter::Conditions;
use crate::decision_log::{ListPage, StoredState, StoredTransaction};
use crate::error::ServiceError;
use crate::shard::{Inspect, Phases, Selection};

/// What is known of one transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) open: Option<TransactionView>,
    pub(super) stored: Option<StoredTransaction>,
}

impl Found {
    /// Its name.
    pub(super) fn id(&self) -> TransactionId {
        let open = self.open.as_ref().map(|open| open.id);
        let id = open.or_else(|| self.stored.as_ref().map(|stored| stored.id));
        id.expect("what was found is open or stored")
    }

    /// What the application said about it.
    pub(super) fn details(&self) -> Option<&Details> {
        match (&self.open, &self.stored) {
            (Some(open), _) => Some(&open.details),
            (None, Some(stored)) => Some(match &stored.state {
                StoredState::Decided { record, .. } => &record.details,
                StoredState::Undecided { record } => &record.details,
            }),
            (None, None) => None,
        }
    }

    /// Its branches, as far as they are known.
    pub(super) fn branches(&self) -> impl Iterator<Item = &Branch> {
        let open = self.open.iter().flat_map(|open| &open.branches).map(|view| &view.branch);
        let stored = self.stored.iter().filter(|_| self.open.is_none());
        let (decided, undecided): (&[DecidedBranch], &[Branch]) =
            match stored.map(|stored| &stored.state).next() {
                Some(StoredState::Decided { record, .. }) => (&record.branches, &[]),
                Some(StoredState::Undecided { record }) => (&[], &record.branches),
                None => (&[], &[]),
            };
        open.chain(decided.iter().map(|decided| &decided.branch)).chain(undecided)
    }
}

/// Fewer digits than this fit too much.
const PART_DIGITS_MIN: usize = 4;

/// Pages that one listing reads at most; after that it returns what it has with a token.
const LIST_ROUNDS_MAX: usize = 20;

const PAGE_SIZE_DEFAULT: u32 = 50;
const PAGE_SIZE_MAX: u32 = 1000;

/// Transactions that are looked at in one round where few of them may be wanted: enough to find those few
/// soon, few enough that no round holds anything up.
const SCAN_SIZE: u32 = 500;

/// A listing, checked.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    size: u32,
    before: Option<Gid>,
    conditions: Conditions,
    finished: bool,
}

impl Listing {
    pub(super) fn parse(request: &v1::ListTransactionsRequest) -> Result<Self, ServiceError> {
        let before = match request.page_token.as_str() {
            "" => None,
            token => Some(
                token
                    .parse()
                    .map_err(|_malformed| ServiceError::malformed("page_token", "it is none of ours"))?,
            ),
        };
        let state = v1::TransactionState::try_from(request.state)
            .map_err(|_unknown| ServiceError::malformed("state", "it is not a known value"))?;
        let older_than = Duration::try_from(request.older_than.unwrap_or_default())
            .map_err(|_negative| ServiceError::malformed("older_than", "it must not be negative"))?;
        if request.page_size > PAGE_SIZE_MAX {
            return Err(ServiceError::malformed("page_size", "at most 1000 are shown"));
        }
        let mut conditions = Conditions::parse(&request.filter)?;
        if state != v1::TransactionState::Unspecified {
            conditions.and_state(state);
        }
        if request.in_doubt {
            conditions.and_in_doubt();
        }
        if !older_than.is_zero() {
            conditions.and_older_than(older_than);
        }
        Ok(Self {
            size: if request.page_size == 0 { PAGE_SIZE_DEFAULT } else { request.page_size },
            before,
            finished: request.finished || conditions.want_finished(),
            conditions,
        })
    }
}

impl Admin {
    /// The one transaction that a gid, or a part of one, fits.
    pub(super) async fn find(&self, name: &str) -> Result<Found, ServiceError> {
        let part: String = name.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
        let is_hex = part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !(PART_DIGITS_MIN..=32).contains(&part.len()) {
            return Err(ServiceError::malformed("gid", "4 to 32 hexadecimal digits are needed"));
        }
        if part.len() == 32
            && let Ok(gid) = part.parse()
        {
            let found = self.find_exactly(gid).await?;
            return found.ok_or_else(|| ServiceError::NoTransaction { name: name.to_owned() });
        }
        let page = ListPage { limit: 2, before: None, part: Some(part.clone()), unfinished_only: false };
        let mut found = self.merged(Selection::Part(part), &page).await?.0.into_values();
        match (found.next(), found.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err(ServiceError::Ambiguous { part: name.to_owned() }),
            (None, _) => Err(ServiceError::NoTransaction { name: name.to_owned() }),
        }
    }

    /// What is known of a transaction, if anything is.
    pub(super) async fn find_exactly(&self, gid: Gid) -> Result<Option<Found>, ServiceError> {
        let part = Some(gid.as_uuid().simple().to_string());
        let page = ListPage { limit: 1, before: None, part, unfinished_only: false };
        Ok(self.merged(Selection::One(gid), &page).await?.0.remove(&Reverse(gid)))
    }

    /// One page, newest first, and where the next one begins. A page may be short, and even empty, before
    /// the last one: where few of many are wanted, no call looks at more than a bounded number.
    pub(super) async fn list(&self, listing: &Listing) -> Result<(Vec<Found>, Option<Gid>), ServiceError> {
        let size = usize::try_from(listing.size).unwrap_or(usize::MAX);
        // One more than is shown: whether there is a next page is told by what is on it.
        let one_more = listing.size.saturating_add(1);
        let limit = if listing.conditions.is_empty() { one_more } else { one_more.max(SCAN_SIZE) };
        let phases = listing.conditions.phases();
        let (mut listed, mut last, mut before) = (Vec::new(), None, listing.before);
        for _ in 0..LIST_ROUNDS_MAX {
            let page = ListPage { limit, before, part: None, unfinished_only: !listing.finished };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let (found, next) = self.merged(Selection::Page { before, limit, phases }, &page).await?;
            for (Reverse(gid), found) in found {
                if !listing.conditions.hold(&found) {
                    continue;
                }
                if listed.len() == size {
                    return Ok((listed, last));
                }
                listed.push(found);
                last = Some(gid);
            }
            if next.is_none() {
                return Ok((listed, None));
            }
            before = next;
        }
        Ok((listed, before))
    }

    /// What the shards and the log show, newest first. Each source may have been cut at its
    /// limit: then only what lies above the highest cut is complete, and that cut is returned.
    async fn merged(
        &self,
        selection: Selection,
        page: &ListPage,
    ) -> Result<(BTreeMap<Reverse<Gid>, Found>, Option<Gid>), ServiceError> {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let paged = matches!(selection, Selection::Page { .. });
        let mut found: BTreeMap<Reverse<Gid>, Found> = BTreeMap::new();
        let mut cut = None;
        // The log first: what ends in between is then seen in one of the two at least.
        let stored = self
            .log
            .list(page)
            .await
            .map_err(|error| ServiceError::LogFailed { why: crate::journal::chain(&error) })?;
        if paged && stored.len() >= limit {
            cut = cut.max(stored.last().map(|last| last.id.gid));
        }
        for stored in stored {
            let gid = stored.id.gid;
            found.entry(Reverse(gid)).or_default().stored = Some(stored);
        }
        for views in self.shards.inspect(|reply| Inspect::Transactions(selection.clone(), reply)).await? {
            if paged && views.len() >= limit {
                cut = cut.max(views.last().map(|last| last.id.gid));
            }
            for view in views {
                let gid = view.id.gid;
                found.entry(Reverse(gid)).or_default().open = Some(view);
            }
        }
        if let Some(cut) = cut {
            found.retain(|Reverse(gid), _| *gid >= cut);
        }
        if matches!(selection, Selection::Page { phases, .. } if phases != Phases::Any) {
            self.add_passed_over(&mut found).await?;
        }
        Ok((found, cut))
    }

    /// What is open and was passed over for its phase is not shown as its record alone has it: that is
    /// older.
    async fn add_passed_over(&self, found: &mut BTreeMap<Reverse<Gid>, Found>) -> Result<(), ServiceError> {
        let only_stored = found.iter().filter(|(_, found)| found.open.is_none());
        let gids: Vec<Gid> = only_stored.map(|(Reverse(gid), _)| *gid).collect();
        if gids.is_empty() {
            return Ok(());
        }
        let selection = Selection::These(gids);
        for views in self.shards.inspect(|reply| Inspect::Transactions(selection.clone(), reply)).await? {
            for view in views {
                let gid = view.id.gid;
                found.entry(Reverse(gid)).or_default().open = Some(view);
            }
        }
        Ok(())
    }
}
