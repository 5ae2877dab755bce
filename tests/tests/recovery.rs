//! What a restart owes: to applications that asked, and to branches that were promised.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::time::Duration;

use pactum::Pactum;
use pactum_proto::v1;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use pactum_tests::bank::{Entry, Teller};
use pactum_tests::history::{TIMEOUT, Told, Transfer, check, definite_outcome, fresh_key, transfer};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, Role, coordinator};
use pactum_tests::wait::eventually;

/// A coordinator and two banks, all processes of their own.
struct Scene {
    c: Role,
    a: BankProcess,
    b: BankProcess,
    pactum: Pactum,
}

async fn scene(at: Option<At>) -> Scene {
    let c = coordinator(&postgres::database(postgres::shared(), "log"), at).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    Scene { c, a, b, pactum }
}

/// Waits until both banks hold something prepared.
async fn both_prepared(scene: &Scene) {
    eventually("both branches being prepared", || async {
        let (a, b) = (scene.a.books.prepared().await.ok()?, scene.b.books.prepared().await.ok()?);
        (a.len() == 1 && b.len() == 1).then_some(())
    })
    .await;
}

/// A transfer as a raw request, with the branches that enlisted.
async fn raw_commit(scene: &Scene) -> (Transfer, v1::CommitRequest) {
    let key = fresh_key();
    let entries = vec![(0, Entry::new(&key, "1", -9)), (1, Entry::new(&key, "1", 9))];
    let tx = scene.pactum.begin().timeout(TIMEOUT).await.unwrap();
    let (id, context) = (tx.id(), tx.context().clone());
    scene.a.apply(&context, &entries[0].1).await.unwrap();
    scene.b.apply(&context, &entries[1].1).await.unwrap();
    let branches = context.enlisted();
    let request = v1::CommitRequest {
        id: Some(id.into()),
        branches: branches.iter().cloned().map(Into::into).collect(),
        ..v1::CommitRequest::default()
    };
    // Dropping it would ask for an abort.
    std::mem::forget(tx);
    let told = Told::Unknown;
    let transfer =
        Transfer { key, id: Some(id), branches, entries, told, outcome: None, problem: String::new() };
    (transfer, request)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_vanishes_in_mid_commit_does_not_cancel_it() {
    // E14: the call is dropped while the coordinator stands between its last vote and the log.
    let scene = scene(Some(At::Pause("decision-handed-over", 1))).await;
    let (transfer, request) = raw_commit(&scene).await;
    let mut client = TransactionsServiceClient::connect(scene.c.url()).await.unwrap();
    let call = tokio::spawn(async move { client.commit(request).await });
    scene.c.paused().await;
    call.abort();
    drop(call.await);
    scene.c.resume();
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![transfer]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_vanishes_before_commit_leaves_nothing() {
    // E14: enlisted, and nobody ever asks to commit; the deadline lets everything go.
    let scene = scene(None).await;
    let tx = scene.pactum.begin().timeout(Duration::from_secs(4)).await.unwrap();
    let context = tx.context().clone();
    let key = fresh_key();
    scene.a.apply(&context, &Entry::new(&key, "1", -9)).await.unwrap();
    std::mem::forget(tx);
    // The row lock is free again once the branch is gone.
    eventually("the abandoned branch letting go of its lock", || async {
        let query = "select 1 from accounts where id = '1' for update nowait";
        sqlx::query(query).execute(scene.a.books.pool()).await.ok()
    })
    .await;
    assert_eq!(scene.a.books.ledger().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_commit_is_answered_from_the_log_after_a_restart() {
    // A5: the coordinator dies after the decision; the same Commit, sent again, is a look-up.
    let scene = scene(Some(At::Kill("decision-durable", 1))).await;
    let (transfer, request) = raw_commit(&scene).await;
    let mut client = TransactionsServiceClient::connect(scene.c.url()).await.unwrap();
    client.commit(request.clone()).await.unwrap_err();
    scene.c.died().await;
    scene.c.restart(None).await;
    for _ in 0..2 {
        let outcome = eventually("an answer", || async {
            let mut client = TransactionsServiceClient::connect(scene.c.url()).await.ok()?;
            client.commit(request.clone()).await.ok()?.into_inner().outcome
        })
        .await;
        assert_eq!(outcome.state(), v1::OutcomeState::Committed, "{outcome:?}");
    }
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![transfer]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_reach_participants_that_were_dead_when_the_coordinator_restarted() {
    // A5, A6, C3: everybody dies after the decision; the coordinator is back first, the banks
    // one after the other.
    let scene = scene(Some(At::Kill("decision-durable", 1))).await;
    let moving = transfer(&scene.pactum, &scene.a, &scene.b, "1", 5);
    let dying = async {
        scene.c.died().await;
        scene.a.role.kill().await;
        scene.b.role.kill().await;
        scene.c.restart(None).await;
        scene.a.role.restart(None).await;
        scene.b.role.restart(None).await;
    };
    let (done, ()) = futures::join!(moving, dying);
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_of_the_same_resource_finishes_a_branch_whose_own_never_returns() {
    // C5: the branch belongs to the resource.
    let scene = scene(Some(At::Pause("decision-durable", 1))).await;
    let moving = transfer(&scene.pactum, &scene.a, &scene.b, "1", 5);
    let replacing = async {
        scene.c.paused().await;
        scene.b.role.kill().await;
        let url = &scene.b.database_url;
        let c = scene.c.url();
        let start = BankProcess::start_on("bank-b", url, url, &c, false, None);
        let (second, ()) = futures::join!(start, async { scene.c.resume() });
        second
    };
    let (done, _second) = futures::join!(moving, replacing);
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_coordinator_is_another_incarnation_and_adopts_nothing() {
    // A11: undecided work of the old one is not continued, and a new gid gets a new incarnation.
    let scene = scene(None).await;
    let tx = scene.pactum.begin().timeout(TIMEOUT).await.unwrap();
    let key = fresh_key();
    let (id, context) = (tx.id(), tx.context().clone());
    scene.a.apply(&context, &Entry::new(&key, "1", -9)).await.unwrap();
    scene.b.apply(&context, &Entry::new(&key, "1", 9)).await.unwrap();
    let branches = context.enlisted();
    scene.c.restart(None).await;
    let told = tx.commit().await.map(|outcome| pactum_tests::history::told(&outcome));
    assert_ne!(told.unwrap_or(Told::Unknown), Told::Committed);
    assert_eq!(definite_outcome(&scene.pactum, id, &branches).await, Told::Aborted);
    let next = eventually("a transaction of the new incarnation", || async {
        let next = transfer(&scene.pactum, &scene.a, &scene.b, "2", 1).await;
        (next.told == Told::Committed).then_some(next)
    })
    .await;
    assert_ne!(next.id.unwrap().incarnation, id.incarnation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_slept_through_its_end_aborts_what_it_did_not_propose() {
    // A10, H10: stopped between the votes and the log; another one ends it and closes the
    // transaction; it wakes up, its write is fenced, and it tells the application aborted.
    let log = postgres::database(postgres::shared(), "log");
    let sleeper = coordinator(&log, Some(At::Pause("decision-handed-over", 1))).await;
    let other = coordinator(&log, None).await;
    let both = format!("{},{}", sleeper.url(), other.url());
    let bank = |name: &'static str| {
        let both = both.clone();
        async move {
            let url = postgres::database(postgres::shared(), name);
            pactum_tests::bank::Books::create(&url).await;
            BankProcess::start_on(name, &url, &url, &both, false, None).await
        }
    };
    let (a, b) = (bank("bank-a").await, bank("bank-b").await);
    // Its transactions all belong to the one that will sleep.
    let pactum = Pactum::builder([sleeper.url()]).discovery(false).connect().await.unwrap();
    let scene = Scene { c: sleeper, a, b, pactum };
    let moving = transfer(&scene.pactum, &scene.a, &scene.b, "1", 5);
    let sleeping = async {
        scene.c.paused().await;
        both_prepared(&scene).await;
        // The other one lets both go, without the sleeper's leave.
        eventually("the other coordinator closing the transaction", || async {
            let (a, b) = (scene.a.books.prepared().await.ok()?, scene.b.books.prepared().await.ok()?);
            (a.is_empty() && b.is_empty()).then_some(())
        })
        .await;
        scene.c.resume();
    };
    let (done, ()) = futures::join!(moving, sleeping);
    assert_eq!(done.told, Told::Aborted, "{done:?}");
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![done]).await, (0, 1));
}
