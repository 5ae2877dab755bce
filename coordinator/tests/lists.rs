//! Lists of transactions: filters, pages of many, and lists that are watched.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::{Node, config, evidence, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::{DecisionLog, Proposal};
use pactum_core::id::{Branch, BranchId, Gid, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{DecidedBranch, Decision, DecisionRecord};
use pactum_core::vote::Evidence;
use pactum_proto::v1;
use tonic::Code;
use uuid::Uuid;
use v1::TransactionState;

async fn list(node: &Node, request: v1::ListTransactionsRequest) -> v1::ListTransactionsResponse {
    node.admin.clone().list_transactions(request).await.unwrap().into_inner()
}

fn filter(filter: &str) -> v1::ListTransactionsRequest {
    v1::ListTransactionsRequest { filter: filter.to_owned(), ..Default::default() }
}

/// The names of the transactions that a filter finds, in order.
async fn names(node: &Node, request: v1::ListTransactionsRequest) -> Vec<String> {
    let page = list(node, request).await;
    let names = page.transactions.into_iter().map(|shown| shown.details.unwrap().name);
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Begins a transaction of that name, with a label.
async fn begin(node: &Node, name: &str, label: &str) -> v1::TransactionId {
    let labels = [("app".to_owned(), label.to_owned())].into();
    let details = v1::Details { name: name.to_owned(), labels, ..v1::Details::default() };
    let request = v1::BeginRequest { details: Some(details), ..v1::BeginRequest::default() };
    node.application().begin(request).await.unwrap().into_inner().id.unwrap()
}

#[tokio::test]
async fn a_list_holds_what_every_condition_of_its_filter_and_its_fields_allows() {
    // Prepare records at once, so that each open transaction stands in the log as well.
    let config = Config { prepare_record_after: Duration::ZERO, ..config() };
    let node = Node::with(config, MemoryLog::new()).await;
    let mut a = node.participant("bank-a").await;
    let mut b = node.participant("bank-b").await;
    let active = begin(&node, "active", "pay").await;
    let voting = begin(&node, "voting", "pay").await;
    let deciding = begin(&node, "the last", "re fund").await;
    let in_active = a.enlist(&active, 1).await;
    let in_voting = a.enlist(&voting, 1).await;
    let (in_a, in_b) = (a.enlist(&deciding, 1).await, b.enlist(&deciding, 2).await);
    let commit_voting = node.commit(&voting, &[&in_voting], v1::Wait::Finished);
    let voting_prepare = a.prepare().await;
    // It is committed at one branch, and stays committing at the other.
    let commit = node.commit(&deciding, &[&in_a, &in_b], v1::Wait::Decision);
    let prepare = loop {
        let prepare = a.prepare().await;
        if prepare.id.as_ref() == Some(&deciding) {
            break prepare;
        }
    };
    a.vote(&prepare, v1::vote::Vote::Commit(evidence("1"))).await;
    b.vote_commit().await;
    a.ack_commit(&deciding, &in_a).await;
    soon("the decision", commit).await.unwrap().unwrap();

    let cases: [(&str, &[&str]); 13] = [
        ("", &["active", "the last", "voting"]),
        ("state=active", &["active"]),
        ("state=preparing", &["voting"]),
        ("in-doubt=true", &["the last"]),
        ("in-doubt=false", &["active", "voting"]),
        ("state=committing resource=bank-b", &["the last"]),
        ("resource=bank-b", &["the last"]),
        ("state=undecided", &[]),
        ("name=\"the last\"", &["the last"]),
        ("label.app=pay", &["active", "voting"]),
        ("label.app=\"re fund\" age<1h", &["the last"]),
        ("age>1h", &[]),
        ("label.app=pay state=active name=voting", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(names(&node, filter(text)).await, expected, "{text}");
    }
    // With the fields of the request.
    let state = TransactionState::Active.into();
    let request = v1::ListTransactionsRequest { state, ..filter("label.app=pay") };
    assert_eq!(names(&node, request).await, ["active"]);
    let request = v1::ListTransactionsRequest { in_doubt: true, ..filter("label.app=pay") };
    assert_eq!(names(&node, request).await, [""; 0]);
    let older_than = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let request = v1::ListTransactionsRequest { older_than, ..filter("") };
    assert_eq!(names(&node, request).await, [""; 0]);

    // Its branch is ended by hand; after that only a list that includes the finished shows it, and one
    // for heuristic outcomes is such a list.
    b.finished(&deciding, &in_b, v1::BranchOutcome::HeuristicAborted).await;
    until("its end", async || {
        let mixed = list(&node, filter("heuristic=mixed")).await.transactions;
        let shown = mixed.into_iter().map(|shown| (shown.details.clone().unwrap().name, shown.state()));
        shown.collect::<Vec<_>>() == [("the last".to_owned(), TransactionState::Committed)]
    })
    .await;
    assert_eq!(names(&node, filter("state=committed heuristic=any")).await, ["the last"]);
    assert_eq!(names(&node, filter("heuristic=hazard")).await, [""; 0]);
    until("its end record", async || names(&node, filter("in-doubt=true")).await.is_empty()).await;

    a.vote(&voting_prepare, v1::vote::Vote::Commit(evidence("1"))).await;
    a.ack_commit(&voting, &in_voting).await;
    soon("the outcome", commit_voting).await.unwrap().unwrap();
    let request = v1::AbortRequest { id: Some(active.clone()), ..v1::AbortRequest::default() };
    let mut application = node.application();
    let abort = tokio::spawn(async move { application.abort(request).await });
    a.ack_abort(&active, &in_active).await;
    soon("the answer", abort).await.unwrap().unwrap();
    node.end().await;
}

#[tokio::test]
async fn a_filter_that_is_wrong_is_refused_with_what_is_known() {
    let node = Node::start().await;
    for (text, told) in [
        ("colour=red", "\"colour\" is unknown; keys are state, in-doubt, age, name, resource, label.KEY"),
        ("age>soon", "\"soon\" is no length of time"),
        ("state=asleep", "\"asleep\" is none of active"),
        ("name=\"a", "the quotes of name are not closed"),
    ] {
        let status = node.admin.clone().list_transactions(filter(text)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().starts_with("filter: "), "{status:?}");
        assert!(status.message().contains(told), "{status:?}");
        let request = v1::WatchTransactionsRequest { list: Some(filter(text)) };
        let status = node.admin.clone().watch_transactions(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let page_token = "0123456789abcdef0123456789abcdef".to_owned();
    let list = Some(v1::ListTransactionsRequest { page_token, ..filter("") });
    let request = v1::WatchTransactionsRequest { list };
    let status = node.admin.clone().watch_transactions(request).await.unwrap_err();
    assert!(status.message().starts_with("list.page_token"), "{status:?}");
    node.end().await;
}

/// So many commits of a coordinator that has died, at a resource that is away: all are in doubt.
async fn many_in_doubt(count: u64) -> (Node, BTreeSet<Vec<u8>>) {
    let log = MemoryLog::new();
    let incarnation = log.start_incarnation("").await.unwrap();
    let branch = Branch {
        id: BranchId::new(1),
        resource: ResourceName::new("bank-away").unwrap(),
        instance: InstanceId::from_uuid(Uuid::from_u128(7)),
        marker: false,
    };
    let proposal = |number| Proposal {
        number,
        record: DecisionRecord {
            id: TransactionId { incarnation, gid: Gid::from_uuid(Uuid::now_v7()) },
            decision: Decision::Commit,
            reason: None,
            branches: Arc::new([DecidedBranch {
                branch: branch.clone(),
                evidence: Evidence::new("1", "here"),
            }]),
            details: Arc::default(),
        },
    };
    let proposals: Vec<Proposal> = (1..=count).map(proposal).collect();
    log.open_writer().await.unwrap().write(incarnation, &proposals).await;
    log.end_incarnation(incarnation).await.unwrap();
    let node = Node::with(config(), log).await;
    until("what was recovered", async || node.coordinator.transactions_open() as u64 == count).await;
    let gids = proposals.iter().map(|proposal| proposal.record.id.gid.as_uuid().as_bytes().to_vec());
    let gids = gids.collect();
    (node, gids)
}

#[tokio::test]
async fn a_page_of_ten_thousand_in_doubt_reads_a_page_and_not_all() {
    let (node, gids) = many_in_doubt(10_000).await;
    let listed = |before: (u64, u64)| {
        let (pages, rows) = node.log.faults().listed();
        (pages - before.0, rows - before.1)
    };
    let before = node.log.faults().listed();
    let page = list(&node, v1::ListTransactionsRequest { page_size: 50, ..filter("") }).await;
    assert_eq!((page.transactions.len(), page.next_page_token.is_empty()), (50, false));
    assert_eq!(listed(before), (1, 51), "one page of the log, one longer than what is shown");
    let before = node.log.faults().listed();
    let in_doubt = v1::ListTransactionsRequest { page_size: 50, in_doubt: true, ..filter("") };
    let page = list(&node, in_doubt).await;
    assert_eq!((page.transactions.len(), page.next_page_token.is_empty()), (50, false));
    assert!(page.transactions.iter().all(|shown| shown.state() == TransactionState::Committing));
    let (pages, rows) = listed(before);
    assert!(pages == 1 && rows <= 500, "{pages} pages, {rows} rows");

    let (mut seen, mut token, mut last) = (BTreeSet::new(), String::new(), None);
    loop {
        let request = v1::ListTransactionsRequest {
            page_size: 1000,
            page_token: token,
            in_doubt: true,
            ..v1::ListTransactionsRequest::default()
        };
        let page = list(&node, request).await;
        for shown in page.transactions {
            let gid = shown.id.unwrap().gid;
            assert!(last.as_ref().is_none_or(|last| *last > gid), "newest first");
            last = Some(gid.clone());
            assert!(seen.insert(gid), "each is shown once");
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, gids, "all are shown");
    node.coordinator.kill();
}

#[tokio::test]
async fn a_page_that_is_short_says_where_to_go_on_and_no_call_looks_at_all() {
    let (node, _gids) = many_in_doubt(11_000).await;
    let before = node.log.faults().listed();
    let page = list(&node, filter("name=nobody")).await;
    assert!(page.transactions.is_empty() && !page.next_page_token.is_empty());
    let rows = node.log.faults().listed().1 - before.1;
    assert_eq!(rows, 10_000, "20 rounds of 500");
    let request = v1::ListTransactionsRequest { page_token: page.next_page_token, ..filter("name=nobody") };
    let page = list(&node, request).await;
    assert!(page.transactions.is_empty() && page.next_page_token.is_empty());
    node.coordinator.kill();
}

#[tokio::test]
async fn a_watched_list_is_told_at_each_change_and_not_because_time_goes_by() {
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    let list = Some(v1::ListTransactionsRequest { page_size: 1, ..filter("label.app=pay") });
    let request = v1::WatchTransactionsRequest { list };
    let mut states = node.admin.clone().watch_transactions(request).await.unwrap().into_inner();
    let mut next = async || {
        let state = soon("a state", states.message()).await.unwrap().unwrap();
        let shown =
            state.transactions.into_iter().map(|shown| (shown.details.clone().unwrap().name, shown.state()));
        (shown.collect::<Vec<_>>(), state.more)
    };
    assert_eq!(next().await, (vec![], false));
    let first = begin(&node, "first", "pay").await;
    begin(&node, "not watched", "other").await;
    let active = |name: &str| (vec![(name.to_owned(), TransactionState::Active)], false);
    assert_eq!(next().await, active("first"));
    // Its age and its time left change at each look, which is nothing to tell.
    let looks = node.log.faults().listed().0;
    until("more looks", async || node.log.faults().listed().0 > looks + 4).await;
    let branch = a.enlist(&first, 1).await;
    assert_eq!(next().await, active("first"), "it has a branch now");
    let commit = node.commit(&first, &[&branch], v1::Wait::Finished);
    let preparing = loop {
        let state = next().await;
        if state != active("first") {
            break state;
        }
    };
    assert_eq!(preparing, (vec![("first".to_owned(), TransactionState::Preparing)], false));
    begin(&node, "second", "pay").await;
    assert_eq!(next().await, (vec![("second".to_owned(), TransactionState::Active)], true));
    a.vote_commit().await;
    a.ack_commit(&first, &branch).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(next().await, active("second"));
    drop(states);
    node.coordinator.kill();
}
