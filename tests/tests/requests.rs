//! Requests that come twice, late, at the wrong time or malformed, over the wire.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::time::Duration;

use pactum_proto::v1;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use pactum_tests::bank::{APPLY, Bank, Entry, Teller};
use pactum_tests::cluster::Cluster;
use pactum_tests::history::fresh_key;
use pactum_tests::wait::eventually;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

type Client = TransactionsServiceClient<Channel>;

async fn client(cluster: &Cluster) -> Client {
    TransactionsServiceClient::connect(cluster.coordinator.public_url()).await.unwrap()
}

/// The stable reason of an error, which every error carries beside its number.
#[track_caller]
fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "pactum.dev");
    let code = info.metadata.get("code").cloned().unwrap_or_default();
    assert!(code.starts_with("PACTUM-") && code.len() == 11, "{status:?}");
    info.reason
}

/// A transaction over two banks as a raw Commit, with its key.
async fn enlisted(cluster: &Cluster, a: &Bank, b: &Bank) -> (v1::CommitRequest, pactum::Context, String) {
    let pactum = cluster.application().await;
    let (tx, key) = (pactum.begin().timeout(Duration::from_mins(1)).await.unwrap(), fresh_key());
    let context = tx.context().clone();
    a.apply(&context, &Entry::new(&key, "1", -1)).await.unwrap();
    b.apply(&context, &Entry::new(&key, "1", 1)).await.unwrap();
    let request = v1::CommitRequest {
        id: Some(tx.id().into()),
        branches: context.enlisted().into_iter().map(Into::into).collect(),
        ..v1::CommitRequest::default()
    };
    // Dropping it would ask for an abort.
    std::mem::forget(tx);
    (request, context, key)
}

/// How many entries both banks have of the key.
async fn entries(a: &Bank, b: &Bank, key: &str) -> usize {
    let (a, b) = (a.books.ledger().await.unwrap(), b.books.ledger().await.unwrap());
    a.iter().chain(&b).filter(|entry| entry.key == key).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_and_aborts_at_once_all_get_the_one_outcome() {
    // A13: single flight; the first wins, and everybody else is told what stands.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    for round in 0..6 {
        let (request, _, key) = enlisted(&cluster, &a, &b).await;
        let abort = v1::AbortRequest {
            id: request.id.clone(),
            branches: request.branches.clone(),
            ..Default::default()
        };
        let calls = (0..6).map(|number| {
            let (request, abort, cluster) = (request.clone(), abort.clone(), &cluster);
            async move {
                let mut client = client(cluster).await;
                // From all commits to nearly all aborts.
                let answer = if number < 6 - round {
                    client.commit(request).await.map(|answer| answer.into_inner().outcome)
                } else {
                    client.abort(abort).await.map(|answer| answer.into_inner().outcome)
                };
                answer.unwrap().unwrap().state()
            }
        });
        let states = futures::future::join_all(calls).await;
        let first = states[0];
        assert!(matches!(first, v1::OutcomeState::Committed | v1::OutcomeState::Aborted), "{states:?}");
        assert!(states.iter().all(|state| *state == first), "{states:?}");
        let expected = if first == v1::OutcomeState::Committed { 2 } else { 0 };
        eventually("the books showing it", || async {
            (entries(&a, &b, &key).await == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_cannot_enlist_once_commit_was_asked() {
    // E10: it is refused, and rolls back.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let (request, context, key) = enlisted(&cluster, &a, &b).await;
    let outcome = client(&cluster).await.commit(request).await.unwrap().into_inner().outcome.unwrap();
    assert_eq!(outcome.state(), v1::OutcomeState::Committed);
    a.apply(&context, &Entry::new(&key, "2", -1)).await.unwrap_err();
    assert_eq!(entries(&a, &b, &key).await, 2);
    let lock = "select 1 from accounts where id = '2' for update nowait";
    sqlx::query(lock).execute(a.books.pool()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_that_commit_does_not_name_aborts_the_transaction() {
    // Law 9, E11: the set is checked, not its size.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let (mut request, _, key) = enlisted(&cluster, &a, &b).await;
    request.branches.pop();
    let outcome = client(&cluster).await.commit(request.clone()).await.unwrap().into_inner().outcome.unwrap();
    assert_eq!(outcome.state(), v1::OutcomeState::Aborted, "{outcome:?}");
    assert_eq!(outcome.reason.unwrap().kind(), v1::AbortKind::BranchSetDiffers);
    assert_eq!(entries(&a, &b, &key).await, 0);
    // As many as before, and another one.
    let (mut request, _, key) = enlisted(&cluster, &a, &b).await;
    request.branches[0].id ^= 1;
    let outcome = client(&cluster).await.commit(request).await.unwrap().into_inner().outcome.unwrap();
    assert_eq!(outcome.state(), v1::OutcomeState::Aborted, "{outcome:?}");
    assert_eq!(entries(&a, &b, &key).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_submit_is_answered_and_not_run_again_and_another_body_is_refused() {
    // I8, H2, law 10.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let mut id: v1::TransactionId = pactum.begin().await.unwrap().id().into();
    id.gid = Uuid::now_v7().as_bytes().to_vec();
    let key = fresh_key();
    let operation = |branch, resource: &str, amount| v1::Operation {
        branch,
        resource: resource.to_owned(),
        name: APPLY.to_owned(),
        payload: Entry::new(&key, "1", amount).payload(),
    };
    let request = v1::SubmitRequest {
        id: Some(id),
        operations: vec![operation(1, "bank-a", -1), operation(2, "bank-b", 1)],
        ..v1::SubmitRequest::default()
    };
    let mut client = client(&cluster).await;
    for _ in 0..3 {
        let outcome = client.submit(request.clone()).await.unwrap().into_inner().outcome.unwrap();
        assert_eq!(outcome.state(), v1::OutcomeState::Committed, "{outcome:?}");
    }
    assert_eq!(entries(&a, &b, &key).await, 2);
    let mut other = request.clone();
    other.operations[1] = operation(2, "bank-b", 2);
    let status = client.submit(other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    reason(&status);
    assert_eq!(entries(&a, &b, &key).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_invalid_arguments_that_name_the_field() {
    let cluster = Cluster::start().await;
    let mut client = client(&cluster).await;
    let id = || Some(v1::TransactionId { incarnation: vec![1; 16], gid: Uuid::now_v7().as_bytes().to_vec() });
    let branch = |number, resource: &str| v1::Branch {
        id: number,
        resource: resource.to_owned(),
        instance: vec![7; 16],
        marker: false,
    };
    let commit = |id, branches| v1::CommitRequest { id, branches, ..v1::CommitRequest::default() };
    let short = Some(v1::TransactionId { incarnation: vec![1; 16], gid: vec![1; 3] });
    let cases = [
        ("id", commit(None, vec![])),
        ("gid", commit(short, vec![])),
        ("resource", commit(id(), vec![branch(1, "Bank A")])),
        ("branches", commit(id(), (0..65).map(|number| branch(number, "bank-a")).collect())),
    ];
    for (field, request) in cases {
        let status = client.commit(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        reason(&status);
        let bad = status.get_details_bad_request().unwrap_or_else(|| panic!("{field}: {status:?}"));
        assert!(bad.field_violations.iter().any(|one| one.field.contains(field)), "{field}: {bad:?}");
    }
    let oversized = v1::BeginRequest { request_id: "x".repeat(65), ..v1::BeginRequest::default() };
    let status = client.begin(oversized).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_heard_of_is_neither_committed_nor_aborted() {
    // H9: by mere absence nothing is told.
    let cluster = Cluster::start().await;
    let mut client = client(&cluster).await;
    let id = v1::TransactionId {
        incarnation: Uuid::now_v7().as_bytes().to_vec(),
        gid: Uuid::now_v7().as_bytes().to_vec(),
    };
    let request = v1::GetTransactionRequest { id: Some(id), branches: vec![] };
    match client.get_transaction(request).await {
        Ok(answer) => {
            let outcome = answer.into_inner().outcome.unwrap();
            assert_eq!(outcome.state(), v1::OutcomeState::NoRecord, "{outcome:?}");
        }
        Err(status) => assert_eq!(status.code(), Code::NotFound, "{status:?}"),
    }
}
