//! Branches that have promised and do not know: killed participants, killed databases, and
//! connections that die around the statements of the two phases.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::time::Duration;

use pactum::Pactum;
use pactum_tests::bank::{Bank, Books, Entry, Teller};
use pactum_tests::cluster::Cluster;
use pactum_tests::faults::{Cut, Proxy};
use pactum_tests::history::{Told, check, fresh_key, transfer, transfer_within};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, coordinator};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_participant_killed_after_its_vote_holds_its_locks_and_obeys_when_it_is_back() {
    // C3, C10: decided while it was dead.
    let c =
        coordinator(&postgres::database(postgres::shared(), "log"), Some(At::Pause("decision-durable", 1)))
            .await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let moving = transfer(&pactum, &a, &b, "1", 5);
    let dying = async {
        c.paused().await;
        b.role.kill().await;
        assert_eq!(b.books.prepared().await.unwrap().len(), 1);
        let query = "select 1 from accounts where id = '1' for update nowait";
        let error = sqlx::query(query).execute(b.books.pool()).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("55P03"), "the lock is held");
        c.resume();
        b.role.restart(None).await;
    };
    let (done, ()) = futures::join!(moving, dying);
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_killed_with_a_prepared_branch_still_holds_it_and_is_finished() {
    // D9: still there, locks still held.
    let server = postgres::own(&[]);
    let c =
        coordinator(&postgres::database(postgres::shared(), "log"), Some(At::Pause("decision-durable", 1)))
            .await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let url = postgres::database(&server, "bank-b");
    Books::create(&url).await;
    let b = BankProcess::start_on("bank-b", &url, &url, &c.url(), false, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let moving = transfer(&pactum, &a, &b, "1", 5);
    let dying = async {
        c.paused().await;
        server.kill().unwrap();
        c.resume(); // its Commit finds no database
        server.restart().unwrap();
    };
    let (done, ()) = futures::join!(moving, dying);
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
}

/// A transfer in which the statement of the second bank meets the fault; another one after it.
async fn cut_at(statement: &str, cut: Cut, expected: Option<Told>) {
    let cluster = Cluster::start().await;
    let a = cluster.bank("bank-a").await;
    let (b, proxy) = cluster.bank_behind_proxy("bank-b", false).await;
    let pactum = cluster.application().await;
    proxy.arm(cut, statement);
    let done = transfer_within(Duration::from_secs(20), &pactum, &a, &b, "1", 5).await;
    proxy.fired(1).await;
    if let Some(expected) = expected {
        assert_eq!(done.told, expected, "{done:?}");
    }
    check(&pactum, &[&a.books, &b.books], vec![done]).await;
    let next = transfer(&pactum, &a, &b, "2", 5).await;
    assert_eq!(next.told, Told::Committed, "{next:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_before_prepare_is_a_no() {
    // D1: it never reached the database.
    cut_at("PREPARE TRANSACTION", Cut::Before, Some(Told::Aborted)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_during_prepare_leaves_nothing_prepared() {
    // D1: the server may finish it later; "not there" is believed once that backend is gone.
    cut_at("PREPARE TRANSACTION", Cut::During, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_prepare_leaves_nothing_prepared() {
    // D1: it is prepared, and the participant does not know.
    cut_at("PREPARE TRANSACTION", Cut::Answer, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_before_commit_prepared_commits_on_another() {
    // D2.
    cut_at("COMMIT PREPARED", Cut::Before, Some(Told::Committed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_during_commit_prepared_commits_once() {
    // D2, D4: the other session may still be at it (55000): wait.
    cut_at("COMMIT PREPARED", Cut::During, Some(Told::Committed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_commit_prepared_is_settled_by_evidence() {
    // D2, D3: 42704 on the second attempt; the xid is known committed.
    cut_at("COMMIT PREPARED", Cut::Answer, Some(Told::Committed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_rollback_prepared_is_settled() {
    // D2 on the abort side: both are prepared, the coordinator is gone without a decision, and the
    // second bank rolls back over a connection that loses the answer.
    let at = Some(At::Kill("vote-received", 2));
    let c = coordinator(&postgres::database(postgres::shared(), "log"), at).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let url = postgres::database(postgres::shared(), "bank-b");
    Books::create(&url).await;
    let proxy = Proxy::start(postgres::shared().port()).await;
    let b = BankProcess::start_on("bank-b", &url, &proxy.url(&url), &c.url(), false, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    proxy.arm(Cut::Answer, "ROLLBACK PREPARED");
    let moving = transfer_within(Duration::from_secs(15), &pactum, &a, &b, "1", 5);
    let dying = async {
        c.died().await;
        c.restart(None).await;
        proxy.fired(1).await;
    };
    let (done, ()) = futures::join!(moving, dying);
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_terminated_under_an_open_branch_aborts_the_transaction() {
    // C1 at the database: the local transaction is gone before PREPARE.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let key = fresh_key();
    let tx = pactum.begin().await.unwrap();
    let entry = |amount| Entry::new(&key, "1", amount);
    a.apply(tx.context(), &entry(-5)).await.unwrap();
    b.apply(tx.context(), &entry(5)).await.unwrap();
    let query = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                 where datname = current_database() and state = 'idle in transaction'";
    let ended: i64 = sqlx::Row::get(&sqlx::query(query).fetch_one(b.books.pool()).await.unwrap(), 0);
    assert_eq!(ended, 1);
    let outcome = tx.commit().await.unwrap();
    assert!(!outcome.is_committed(), "{outcome:?}");
    assert_eq!(a.books.ledger().await.unwrap(), []);
    check(&pactum, &[&a.books, &b.books], Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_cut_again_and_again_keep_every_invariant() {
    // E1, E9, E15: the participant's stream is cut at any moment; it attaches again and inquires.
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(cluster.coordinator.public_addr().port()).await;
    let a = cluster.bank("bank-a").await;
    let url = postgres::database(postgres::shared(), "bank-b");
    Books::create(&url).await;
    let b = Bank::start("bank-b", &url, &format!("http://{}", proxy.address()), false).await;
    let pactum = cluster.application().await;
    let mut transfers = Vec::new();
    let cutting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(150));
        for _ in 0..12 {
            ticks.tick().await;
            proxy.cut_all();
        }
    };
    let moving = async {
        for round in 0..40 {
            let account = (round % 10).to_string();
            let moved =
                transfer_within(Duration::from_secs(5), &pactum, &a, &b, &account, 1 + round % 3).await;
            transfers.push(moved);
        }
    };
    futures::join!(cutting, moving);
    // And once nobody cuts any more, they commit again (AC5).
    let deadline = std::time::Instant::now() + pactum_tests::wait::SOON;
    loop {
        let last = transfer(&pactum, &a, &b, "1", 1).await;
        let committed = last.told == Told::Committed;
        transfers.push(last);
        if committed {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "nothing commits any more: {:?}", transfers.last());
    }
    check(&pactum, &[&a.books, &b.books], transfers).await;
}
