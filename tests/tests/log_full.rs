//! A decision log that is full, read-only, slow, or holds what cannot be read (B3, B7, B10).

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::time::Duration;

use pactum::Pactum;
use pactum::application::Standing;
use pactum_tests::bank::{Bank, Books, Entry, Teller};
use pactum_tests::cluster::Cluster;
use pactum_tests::faults::Proxy;
use pactum_tests::history::{
    TIMEOUT, Told, Transfer, check, definite_outcome, fresh_key, transfer, transfer_within,
};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, coordinator};
use pactum_tests::wait::eventually;
use sqlx::{AssertSqlSafe, PgPool};

/// Every write to the log fails with that error, as PostgreSQL reports it.
async fn refuse_writes(log: &PgPool, sqlstate: &str) {
    let sql = format!(
        "create function refuse() returns trigger language plpgsql as
         $$ begin raise exception 'could not extend file: No space left on device' using errcode = '{sqlstate}'; end $$;
         create trigger refuse before insert or update or delete on pactum.decisions
             for each statement execute function refuse();
         create trigger refuse before insert or update or delete on pactum.progress
             for each statement execute function refuse();
         create trigger refuse before insert or update or delete on pactum.stragglers
             for each statement execute function refuse();
         create trigger refuse before insert or update or delete on pactum.undecided
             for each statement execute function refuse()"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(log).await.unwrap();
}

async fn take_writes_again(log: &PgPool) {
    sqlx::raw_sql("drop function refuse cascade").execute(log).await.unwrap();
}

/// A bank whose stream to the coordinator can be cut off.
async fn bank_behind_stream(cluster: &Cluster, name: &str) -> (Bank, Proxy) {
    let stream = Proxy::start(cluster.coordinator.public_addr().port()).await;
    let url = postgres::database(postgres::shared(), name);
    Books::create(&url).await;
    (Bank::start(name, &url, &format!("http://{}", stream.address()), false).await, stream)
}

/// Full or read-only: new commits are refused, outcomes are still told, what is undelivered is still
/// delivered, and service comes back by itself.
async fn a_log_that_takes_no_writes(sqlstate: &str) {
    let cluster = Cluster::start().await;
    let log = PgPool::connect(&cluster.log_url).await.unwrap();
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let first = transfer(&pactum, &a, &b, "1", 5).await;
    assert_eq!(first.told, Told::Committed);
    refuse_writes(&log, sqlstate).await;
    // The first one finds it out; nothing is committed, and nothing guessed.
    let mut transfers = vec![transfer_within(Duration::from_secs(10), &pactum, &a, &b, "2", 5).await];
    assert_ne!(transfers[0].told, Told::Committed, "{:?}", transfers[0]);
    // From then on they are refused before any branch promises.
    let refused = eventually("a commit being refused for certain", || async {
        let refused = transfer_within(Duration::from_secs(10), &pactum, &a, &b, "3", 5).await;
        assert_ne!(refused.told, Told::Committed, "{refused:?}");
        (refused.told == Told::Aborted).then_some(refused)
    })
    .await;
    assert!(!refused.problem.is_empty() || refused.outcome.is_some(), "{refused:?}");
    transfers.push(refused);
    // What was decided is still told.
    let told = definite_outcome(&pactum, first.id.unwrap(), &first.branches).await;
    assert_eq!(told, Told::Committed);
    take_writes_again(&log).await;
    transfers.push(
        eventually("a commit once the log takes writes again", || async {
            let next = transfer(&pactum, &a, &b, "4", 5).await;
            (next.told == Told::Committed).then_some(next)
        })
        .await,
    );
    transfers.push(first);
    // Those that were refused while waiting are among the entries of nobody.
    let keys: Vec<String> = transfers.iter().map(|done| done.key.clone()).collect();
    let ledger = a.books.ledger().await.unwrap();
    assert!(ledger.iter().all(|entry| keys.contains(&entry.key)), "{ledger:?}");
    check(&pactum, &[&a.books, &b.books], transfers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_a_full_log_refuses_commits_and_tells_outcomes() {
    a_log_that_takes_no_writes("53100").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_a_read_only_log_refuses_commits_and_tells_outcomes() {
    a_log_that_takes_no_writes("25006").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_a_full_log_keeps_every_undelivered_decision_and_delivers_it() {
    let cluster = Cluster::start().await;
    let log = PgPool::connect(&cluster.log_url).await.unwrap();
    let (a, stream) = (cluster.bank("bank-a").await, bank_behind_stream(&cluster, "bank-b").await);
    let (b, stream) = stream;
    let pactum = cluster.application().await;
    let (tx, key) = (pactum.begin().timeout(TIMEOUT).await.unwrap(), fresh_key());
    let id = tx.id();
    let entries = vec![(0, Entry::new(&key, "1", -5)), (1, Entry::new(&key, "1", 5))];
    a.apply(tx.context(), &entries[0].1).await.unwrap();
    b.apply(tx.context(), &entries[1].1).await.unwrap();
    let branches = tx.context().enlisted();
    let cut = async {
        // As soon as the vote is out: the record's text names the evidence of both.
        eventually("the decision", || async {
            let query = sqlx::query_scalar::<_, i64>("select count(*) from pactum.decisions");
            (query.fetch_one(&log).await.ok()? == 1).then_some(())
        })
        .await;
        stream.refuse(true);
        stream.cut_all();
        refuse_writes(&log, "53100").await;
    };
    let (outcome, ()) = futures::join!(async { tx.commit().wait_decision().await }, cut);
    assert!(outcome.unwrap().is_committed());
    stream.refuse(false);
    eventually("the decision's delivery", || async {
        (b.books.ledger().await.ok()?.len() == 1 && b.books.prepared().await.ok()?.is_empty()).then_some(())
    })
    .await;
    take_writes_again(&log).await;
    let (told, outcome, problem) = (Told::Committed, None, String::new());
    let done = Transfer { key, id: Some(id), branches, entries, told, outcome, problem };
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b7_a_decision_on_its_way_into_a_slow_log_is_unknown_past_its_deadline_and_nobody_guesses() {
    // The log stands still with the decision in it until the transaction's time is long up. What was
    // sent is not taken back by a deadline: it is settled in the log, either way, once that moves.
    let cluster = Cluster::start().await;
    let log = PgPool::connect(&cluster.log_url).await.unwrap();
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = Pactum::builder([cluster.coordinator.public_url()])
        .grace(Duration::from_millis(500))
        .connect()
        .await
        .unwrap();
    let mut stranger = log.begin().await.unwrap();
    sqlx::raw_sql("lock table pactum.decisions in exclusive mode").execute(&mut *stranger).await.unwrap();
    let slow = transfer_within(Duration::from_secs(6), &pactum, &a, &b, "1", 5);
    let watching = async {
        eventually("the decision waiting in the log", || async {
            let query = "select count(*) from pg_stat_activity where datname = current_database()
                         and wait_event_type = 'Lock' and query like '%INSERT INTO pactum.decisions%'";
            (sqlx::query_scalar::<_, i64>(query).fetch_one(&log).await.ok()? >= 1).then_some(())
        })
        .await;
    };
    let (done, ()) = futures::join!(slow, watching);
    // Its time is up, and its application was told what is known: nothing.
    assert_eq!(done.told, Told::Unknown, "{done:?}");
    for books in [&a.books, &b.books] {
        assert_eq!(books.prepared().await.unwrap().len(), 1, "nobody guessed");
    }
    let standing = pactum.outcome(done.id.unwrap(), Vec::new()).await;
    assert!(!matches!(standing, Ok(Standing::Decided(_))), "{standing:?}");
    stranger.rollback().await.unwrap();
    let pactum = cluster.application().await;
    let (committed, aborted) = check(&pactum, &[&a.books, &b.books], vec![done]).await;
    assert_eq!(committed + aborted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b10_a_record_that_cannot_be_read_holds_its_transaction_and_no_other() {
    let log_url = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log_url, Some(At::Pause("decision-durable", 1))).await;
    let (a, b) = (BankProcess::start("bank-a", &c, None).await, BankProcess::start("bank-b", &c, None).await);
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let log = PgPool::connect(&log_url).await.unwrap();
    let moving = Box::pin(transfer_within(TIMEOUT, &pactum, &a, &b, "1", 5));
    match futures::future::select(moving, Box::pin(c.paused())).await {
        futures::future::Either::Left((done, _)) => panic!("nobody can have been told: {done:?}"),
        futures::future::Either::Right(((), moving)) => std::mem::forget(moving),
    }
    c.kill().await;
    // A version that is not known, a text that is none: neither is skipped, neither is guessed at.
    let query = "select gid::text, branches from pactum.decisions";
    let (gid, original): (String, String) = sqlx::query_as(query).fetch_one(&log).await.unwrap();
    for spoil in ["set branches = 'no branches'", "set format = 99"] {
        let sql = format!("update pactum.decisions {spoil} where gid = '{gid}'");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&log).await.unwrap();
        let before = c.log().matches(" ERROR ").count();
        c.restart(None).await;
        eventually("the coordinator saying so", || async {
            (c.log().matches(" ERROR ").count() > before).then_some(())
        })
        .await;
        // Others go on.
        eventually("new work", || async {
            (transfer(&pactum, &a, &b, "2", 0).await.told == Told::Committed).then_some(())
        })
        .await;
        for books in [&a.books, &b.books] {
            assert_eq!(books.prepared().await.unwrap().len(), 1, "held, neither committed nor aborted");
        }
    }
    let mend = "update pactum.decisions set branches = $1, format = 1 where format = 99";
    sqlx::query(mend).bind(original).execute(&log).await.unwrap();
    for books in [&a.books, &b.books] {
        eventually("the end of the mended one", || async {
            books.prepared().await.ok()?.is_empty().then_some(())
        })
        .await;
        let amount = i64::from(books.ledger().await.unwrap().iter().any(|entry| entry.amount.abs() == 5));
        assert_eq!(amount, 1, "committed, as was decided");
    }
}
