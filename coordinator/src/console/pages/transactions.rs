//! Lists of transactions: all of them, by conditions that stand in the address; and those that may be
//! in doubt, the oldest first.

use std::collections::BTreeMap;
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use pactum_proto::v1;
use pactum_proto::v1::TransactionState;
use serde::Deserialize;

use super::{Frame, Problem, failed, refused, render};
use crate::console::gate::Visitor;
use crate::console::live::Live;
use crate::console::show::{self, Row};
use crate::console::{Console, link, text};

/// Transactions on one page of the list.
const PAGE: u32 = 50;

/// Transactions on the page of those in doubt. They come newest first, so that with more than these
/// the oldest are looked for by age.
const DOUBT_PAGE: u32 = 500;

/// What a list is asked for, as it stands in its address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(in crate::console) struct ListQuery {
    filter: String,
    state: String,
    finished: String,
    page: String,
    in_doubt: String,
}

/// The states that can be asked for.
const STATES: [TransactionState; 8] = [
    TransactionState::Active,
    TransactionState::Preparing,
    TransactionState::Deciding,
    TransactionState::Committing,
    TransactionState::Aborting,
    TransactionState::Committed,
    TransactionState::Aborted,
    TransactionState::Undecided,
];

/// Those that may be in doubt, a page of them.
pub(in crate::console) fn in_doubt() -> v1::ListTransactionsRequest {
    v1::ListTransactionsRequest {
        page_size: DOUBT_PAGE,
        in_doubt: true,
        ..v1::ListTransactionsRequest::default()
    }
}

impl ListQuery {
    /// As a request.
    ///
    /// # Errors
    /// What is wrong with it, for people. The conditions are read by the service.
    pub(in crate::console) fn request(&self) -> Result<v1::ListTransactionsRequest, String> {
        if self.in_doubt == "1" {
            return Ok(v1::ListTransactionsRequest { filter: self.filter.clone(), ..in_doubt() });
        }
        let state = match self.state.as_str() {
            "" => TransactionState::Unspecified,
            name => STATES
                .into_iter()
                .find(|state| show::state(*state).text == name)
                .ok_or_else(|| format!("{name:?} is no state"))?,
        };
        Ok(v1::ListTransactionsRequest {
            page_size: PAGE,
            page_token: self.page.clone(),
            state: state.into(),
            finished: self.finished == "1",
            filter: self.filter.clone(),
            ..v1::ListTransactionsRequest::default()
        })
    }

    fn is_for(&self, state: &str) -> bool {
        self.state == state
    }

    /// As it stands in an address.
    pub(in crate::console) fn pairs(&self) -> [(&'static str, &str); 5] {
        [
            ("filter", &self.filter),
            ("state", &self.state),
            ("finished", &self.finished),
            ("page", &self.page),
            ("in_doubt", &self.in_doubt),
        ]
    }
}

#[derive(Template)]
#[template(path = "transactions.html")]
struct Page {
    frame: Frame,
    query: ListQuery,
    states: Vec<&'static str>,
    problem: Option<Problem>,
    rows: Vec<Row>,
    first: String,
    next: String,
}

pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<ListQuery>,
) -> Response {
    let query = ListQuery { in_doubt: String::new(), ..query };
    let request = match query.request() {
        Ok(request) => request,
        Err(problem) => {
            let what = (http::StatusCode::BAD_REQUEST, "Transactions", "Transactions");
            return refused(&console, &visitor, what, problem);
        }
    };
    // Older pages are history: only the first follows what happens.
    let live = if query.page.is_empty() { Live::Transactions(query.clone()) } else { Live::Still };
    let frame = Frame::new(&console, &visitor, "Transactions", "Transactions", live).await;
    let (rows, next, problem) = match console.service.list_transactions(visitor.ask(request)).await {
        Ok(listed) => {
            let listed = listed.into_inner();
            let rows = listed.transactions.iter().map(show::row).collect();
            (rows, address(&query, &listed.next_page_token), None)
        }
        // The form stays, so that a wrong condition can be put right.
        Err(status) => (Vec::new(), String::new(), Some(Problem::new(&status))),
    };
    let first = if query.page.is_empty() { String::new() } else { first_page(&query) };
    render(&Page {
        frame,
        query,
        states: STATES.map(|state| show::state(state).text).to_vec(),
        problem,
        rows,
        first,
        next,
    })
}

fn first_page(query: &ListQuery) -> String {
    let query = ListQuery { page: String::new(), ..query.clone() };
    format!("/transactions{}", link::query(query.pairs()))
}

/// The address of the page that begins there; empty if none does.
fn address(query: &ListQuery, token: &str) -> String {
    if token.is_empty() {
        return String::new();
    }
    let query = ListQuery { page: token.to_owned(), ..query.clone() };
    format!("/transactions{}", link::query(query.pairs()))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DoubtQuery {
    resource: String,
}

#[derive(Template)]
#[template(path = "in_doubt.html")]
struct DoubtPage {
    frame: Frame,
    resource: String,
    groups: Vec<Group>,
    rows: Vec<Row>,
    more: bool,
}

/// What waits for one participant.
struct Group {
    resource: String,
    link: String,
    count: usize,
    oldest: String,
}

pub(super) async fn in_doubt_page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(DoubtQuery { resource }): Query<DoubtQuery>,
) -> Response {
    let filter = if resource.is_empty() { String::new() } else { format!("resource={resource}") };
    let query = ListQuery { filter, in_doubt: "1".to_owned(), ..ListQuery::default() };
    let request = match query.request() {
        Ok(request) => request,
        Err(problem) => {
            let what = (http::StatusCode::BAD_REQUEST, "In doubt", "In doubt");
            return refused(&console, &visitor, what, problem);
        }
    };
    let frame = Frame::new(&console, &visitor, "In doubt", "In doubt", Live::Transactions(query)).await;
    let listed = match console.service.list_transactions(visitor.ask(request)).await {
        Ok(listed) => listed.into_inner(),
        Err(status) => return failed(&console, &visitor, "In doubt", &status),
    };
    let mut rows: Vec<Row> = listed.transactions.iter().map(show::row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.age_exact));
    let groups = groups(&listed.transactions);
    render(&DoubtPage { frame, resource, groups, rows, more: !listed.next_page_token.is_empty() })
}

/// By the participants whose branches have not ended: those that somebody has to look after.
fn groups(transactions: &[v1::Transaction]) -> Vec<Group> {
    let mut waiting: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
    for transaction in transactions {
        let age: Duration = transaction.age.and_then(|age| age.try_into().ok()).unwrap_or_default();
        for status in &transaction.branches {
            let open = status.outcome() == v1::BranchOutcome::Unspecified && status.vote != "read-only";
            if let (true, Some(branch)) = (open, &status.branch) {
                let (count, oldest) = waiting.entry(&branch.resource).or_default();
                *count += 1;
                *oldest = age.max(*oldest);
            }
        }
    }
    let mut groups: Vec<(Duration, Group)> = waiting
        .into_iter()
        .map(|(resource, (count, oldest))| {
            let link = format!("/in-doubt{}", link::query([("resource", resource)]));
            (oldest, Group { resource: resource.to_owned(), link, count, oldest: text::duration(oldest) })
        })
        .collect();
    groups.sort_by_key(|(oldest, _)| std::cmp::Reverse(*oldest));
    groups.into_iter().map(|(_, group)| group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_asked_for_as_its_address_says() {
        let query = ListQuery {
            filter: "age>5m".into(),
            state: "committing".into(),
            finished: "1".into(),
            page: "token".into(),
            in_doubt: String::new(),
        };
        let request = query.request().unwrap();
        assert_eq!(request.state(), TransactionState::Committing);
        assert_eq!((request.filter.as_str(), request.page_token.as_str()), ("age>5m", "token"));
        assert!(request.finished && !request.in_doubt);
        let address = address(&query, "older");
        assert_eq!(address, "/transactions?filter=age%3E5m&state=committing&finished=1&page=older");
        let wrong = ListQuery { state: "gone".into(), ..ListQuery::default() };
        assert!(wrong.request().unwrap_err().contains("gone"));
    }

    #[test]
    fn a_group_counts_the_branches_that_have_not_ended_and_begins_with_the_oldest() {
        let branch = |resource: &str, outcome: v1::BranchOutcome| v1::BranchStatus {
            branch: Some(v1::Branch { resource: resource.into(), ..v1::Branch::default() }),
            vote: "commit".into(),
            outcome: outcome.into(),
            ..v1::BranchStatus::default()
        };
        let transaction = |seconds: u64, branches| v1::Transaction {
            age: Duration::from_secs(seconds).try_into().ok(),
            branches,
            ..v1::Transaction::default()
        };
        let (open, done) = (v1::BranchOutcome::Unspecified, v1::BranchOutcome::Committed);
        let groups = groups(&[
            transaction(5, vec![branch("bank-a", open), branch("bank-b", open)]),
            transaction(90, vec![branch("bank-a", done), branch("bank-b", open)]),
        ]);
        let seen: Vec<_> = groups
            .iter()
            .map(|group| (group.resource.as_str(), group.count, group.oldest.as_str()))
            .collect();
        assert_eq!(seen, [("bank-b", 2, "1 m 30 s"), ("bank-a", 1, "5.0 s")]);
    }
}
