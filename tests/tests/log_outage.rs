//! The decision log lost, slow to answer, or gone, in mid-commit: unknown is a value (law 5).

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::time::Duration;

use pactum::Pactum;
use pactum::error::Certainty;
use pactum_proto::v1;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use pactum_tests::bank::{Entry, Teller};
use pactum_tests::cluster::{Cluster, config};
use pactum_tests::faults::{Cut, Proxy};
use pactum_tests::history::{TIMEOUT, Told, check, definite_outcome, fresh_key, transfer, transfer_within};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, coordinator};
use pactum_tests::wait::eventually;
use tonic_types::StatusExt;

/// A transfer whose decision meets the fault on its way to the log.
async fn decision_meets(cut: Cut) {
    let server = postgres::shared();
    let url = postgres::database(server, "log");
    let proxy = Proxy::start(server.port()).await;
    let cluster = Cluster::start_on(&proxy.url(&url), config()).await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let (tx, key) = (pactum.begin().timeout(TIMEOUT).await.unwrap(), fresh_key());
    let (id, context) = (tx.id(), tx.context().clone());
    a.apply(&context, &Entry::new(&key, "1", -5)).await.unwrap();
    b.apply(&context, &Entry::new(&key, "1", 5)).await.unwrap();
    // The gid travels as its sixteen bytes.
    proxy.arm(cut, id.gid.as_uuid().as_bytes());
    let outcome = tx.commit().await;
    proxy.fired(1).await;
    let told = outcome.as_ref().map_or(Told::Unknown, pactum_tests::history::told);
    let definite = definite_outcome(&pactum, id, &context.enlisted()).await;
    assert!(told == definite || told == Told::Unknown, "told {outcome:?}, and it is {definite:?}");
    // Nobody closed it, so the owner's own second attempt stands, or its first.
    assert_eq!(definite, Told::Committed);
    assert_eq!(a.books.ledger().await.unwrap(), [Entry::new(&key, "1", -5)]);
    check(&pactum, &[&a.books, &b.books], Vec::new().into_iter().chain([done(&key, id, told)]).collect())
        .await;
}

/// The transfer as its application saw it.
fn done(key: &str, id: pactum::TransactionId, told: Told) -> pactum_tests::history::Transfer {
    pactum_tests::history::Transfer {
        key: key.to_owned(),
        id: Some(id),
        branches: Vec::new(),
        entries: vec![(0, Entry::new(key, "1", -5)), (1, Entry::new(key, "1", 5))],
        told,
        outcome: None,
        problem: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_never_reached_the_log_is_written_again() {
    decision_meets(Cut::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_cut_on_its_way_to_the_log_is_settled_by_a_conflicting_insert() {
    // A4, B2.
    decision_meets(Cut::During).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_the_log_is_settled_by_a_conflicting_insert() {
    // A4, B2: it is written and nobody knows; neither abort nor success is guessed.
    decision_meets(Cut::Answer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_restarted_between_the_votes_and_the_decision_delays_the_commit_only() {
    // B1, B2: the log is killed while the coordinator stands before its write, and comes back.
    let server = postgres::own(&[]);
    let c =
        coordinator(&postgres::database(&server, "log"), Some(At::Pause("decision-handed-over", 1))).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let moving = transfer(&pactum, &a, &b, "1", 5);
    let outage = async {
        c.paused().await;
        server.kill().unwrap();
        c.resume();
        // Both branches stay prepared meanwhile: nobody may guess.
        for books in [&a.books, &b.books] {
            assert_eq!(books.prepared().await.unwrap().len(), 1);
        }
        server.restart().unwrap();
    };
    let (done, ()) = futures::join!(moving, outage);
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_log_is_down_new_commits_are_refused_or_unknown_and_nothing_is_guessed() {
    // B1, B3; "bad days": UNAVAILABLE with RetryInfo where nothing happened.
    let server = postgres::own(&[]);
    let cluster = Cluster::start_on(&postgres::database(&server, "log"), config()).await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let mut transfers = vec![transfer(&pactum, &a, &b, "1", 5).await];
    assert_eq!(transfers[0].told, Told::Committed);
    let (tx, key) = (pactum.begin().timeout(Duration::from_secs(20)).await.unwrap(), fresh_key());
    let (id, context) = (tx.id(), tx.context().clone());
    a.apply(&context, &Entry::new(&key, "2", -5)).await.unwrap();
    b.apply(&context, &Entry::new(&key, "2", 5)).await.unwrap();
    std::mem::forget(tx);
    server.stop().unwrap();
    let request = v1::CommitRequest {
        id: Some(id.into()),
        branches: context.enlisted().into_iter().map(Into::into).collect(),
        ..v1::CommitRequest::default()
    };
    let mut client = TransactionsServiceClient::connect(cluster.coordinator.public_url()).await.unwrap();
    match client.commit(request).await {
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
            assert!(status.get_details_retry_info().is_some(), "{status:?}");
            assert!(status.get_details_error_info().is_some(), "{status:?}");
        }
        Ok(answer) => {
            let outcome = answer.into_inner().outcome.unwrap();
            assert_eq!(outcome.state(), v1::OutcomeState::Unknown, "{outcome:?}");
        }
    }
    transfers.push(transfer_within(Duration::from_secs(3), &pactum, &a, &b, "3", 5).await);
    assert_ne!(transfers[1].told, Told::Committed, "nothing can be committed without the log");
    server.restart().unwrap();
    let definite = definite_outcome(&pactum, id, &context.enlisted()).await;
    let mut held = done(&key, id, definite);
    for (_, entry) in &mut held.entries {
        "2".clone_into(&mut entry.account);
    }
    transfers.push(held);
    check(&pactum, &[&a.books, &b.books], transfers).await;
    eventually("a commit once the log is back", || async {
        (transfer(&pactum, &a, &b, "4", 5).await.told == Told::Committed).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_killed_again_and_again_under_load_keeps_every_invariant() {
    // B2 many times over, with commits in flight at each kill.
    let server = postgres::own(&[]);
    let cluster = Cluster::start_on(&postgres::database(&server, "log"), config()).await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let (pactum, a, b) = (&pactum, &a, &b);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let tellers = futures::future::join_all((0..4).map(|teller: i64| {
        let stop = &stop;
        async move {
            let mut done = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                done.push(transfer(pactum, a, b, &teller.to_string(), 1).await);
            }
            done
        }
    }));
    let killing = async {
        for _ in 0..3 {
            let before = a.books.ledger().await.unwrap().len();
            eventually("some commits between two kills", || async {
                (a.books.ledger().await.ok()?.len() >= before + 10).then_some(())
            })
            .await;
            tokio::task::block_in_place(|| {
                server.kill().unwrap();
                server.restart().unwrap();
            });
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let (done, ()) = futures::join!(tellers, killing);
    let transfers: Vec<_> = done.into_iter().flatten().collect();
    let (committed, _) = check(pactum, &[&a.books, &b.books], transfers).await;
    assert!(committed >= 30, "{committed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_an_error_of_its_own_that_can_be_asked_about() {
    // Law 5 in the type: the log goes away with the decision in flight and stays away until the
    // application's patience is over.
    let server = postgres::own(&[]);
    let c =
        coordinator(&postgres::database(&server, "log"), Some(At::Pause("decision-handed-over", 1))).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, None).await;
    let builder = Pactum::builder([c.url()]).grace(Duration::from_secs(1));
    let pactum = builder.connect().await.unwrap();
    let (tx, key) = (pactum.begin().timeout(Duration::from_secs(5)).await.unwrap(), fresh_key());
    let context = tx.context().clone();
    a.apply(&context, &Entry::new(&key, "1", -5)).await.unwrap();
    b.apply(&context, &Entry::new(&key, "1", 5)).await.unwrap();
    let committing = async { tx.commit().await };
    let outage = async {
        c.paused().await;
        server.kill().unwrap();
        c.resume();
    };
    let (answer, ()) = futures::join!(committing, outage);
    let error = answer.unwrap_err();
    assert_eq!(error.certainty(), Certainty::MayHaveHappened, "{error}");
    let pactum::CommitError::Unknown { id, branches, .. } = error else { panic!("{error}") };
    assert_eq!(branches.len(), 2);
    server.restart().unwrap();
    let definite = definite_outcome(&pactum, id, &branches).await;
    let transfer = done(&key, id, definite);
    check(&pactum, &[&a.books, &b.books], vec![transfer]).await;
}
