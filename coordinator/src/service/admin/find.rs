//! Finding transactions: among the open ones of all shards and in the log, where an open one
//! stands before its record.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use pactum_core::coordinator::TransactionView;
use pactum_core::id::{Gid, TransactionId};
use pactum_proto::v1;

use super::Admin;
use super::show;
use crate::decision_log::{ListPage, StoredTransaction};
use crate::error::ServiceError;
use crate::shard::{Inspect, Selection};

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
}

/// Fewer digits than this fit too much.
const PART_DIGITS_MIN: usize = 4;

/// Pages that one listing reads at most; after that it returns what it has with a token.
const LIST_ROUNDS_MAX: usize = 20;

const PAGE_SIZE_DEFAULT: u32 = 50;
const PAGE_SIZE_MAX: u32 = 1000;

/// A listing, checked.
#[derive(Debug)]
pub(super) struct Filter {
    size: u32,
    before: Option<Gid>,
    state: Option<v1::TransactionState>,
    in_doubt: bool,
    older_than: Duration,
    finished: bool,
}

impl Filter {
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
        Ok(Self {
            size: if request.page_size == 0 { PAGE_SIZE_DEFAULT } else { request.page_size },
            before,
            state: Some(state).filter(|state| *state != v1::TransactionState::Unspecified),
            in_doubt: request.in_doubt,
            older_than,
            finished: request.finished,
        })
    }

    fn takes(&self, found: &Found) -> bool {
        use v1::TransactionState::{Aborting, Committing, Deciding, Undecided};
        let state = show::state(found);
        self.state.is_none_or(|wanted| wanted == state)
            && (!self.in_doubt || matches!(state, Aborting | Committing | Deciding | Undecided))
            && show::age(found) >= self.older_than
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

    /// One page, newest first, and where the next one begins.
    pub(super) async fn list(&self, filter: &Filter) -> Result<(Vec<Found>, Option<Gid>), ServiceError> {
        let size = usize::try_from(filter.size).unwrap_or(usize::MAX);
        let (mut listed, mut before) = (Vec::new(), filter.before);
        for _ in 0..LIST_ROUNDS_MAX {
            let page = ListPage { limit: filter.size, before, part: None, unfinished_only: !filter.finished };
            let (found, next) = self.merged(Selection::Page { before, limit: size }, &page).await?;
            for (Reverse(gid), found) in found {
                if filter.takes(&found) {
                    listed.push(found);
                    if listed.len() == size {
                        return Ok((listed, Some(gid)));
                    }
                }
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
        Ok((found, cut))
    }
}
