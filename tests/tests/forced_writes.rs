//! What a transaction costs the log: one forced write for a commit, none for an abort (law 3).

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use pactum_postgres_server::PostgresServer;
use pactum_tests::bank::{Bank, Entry, Teller};
use pactum_tests::cluster::{Cluster, config};
use pactum_tests::history::{TIMEOUT, Told, fresh_key, transfer};
use pactum_tests::postgres;
use pactum_tests::wait::eventually;

/// How often the server has forced its log since it was made. Exact, because a process reports
/// at its end and nobody else is connected.
async fn forces(server: &PostgresServer) -> i64 {
    let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
    eventually("all connections to the log ending", || async {
        (server.psql("postgres", others).unwrap() == "0").then_some(())
    })
    .await;
    let version: i64 = server.psql("postgres", "show server_version_num").unwrap().parse().unwrap();
    let query = if version < 180_000 {
        "select wal_sync from pg_stat_wal"
    } else {
        "select sum(fsyncs)::bigint from pg_stat_io where object = 'wal'"
    };
    server.psql("postgres", query).unwrap().parse().unwrap()
}

/// What one run does with a coordinator and two banks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Nothing,
    Commits,
    Aborts,
}

/// Starts a coordinator, commits and aborts one transaction each, does the work, stops it in good
/// order, and answers how many forced writes all of that cost.
async fn run(server: &PostgresServer, log_url: &str, work: Work, banks: [&str; 2]) -> i64 {
    let before = forces(server).await;
    let cluster = Cluster::start_on(log_url, config()).await;
    let url = cluster.coordinator.public_url();
    let (a, b) = (
        Bank::start("bank-a", banks[0], &url, false).await,
        Bank::start("bank-b", banks[1], &url, false).await,
    );
    let pactum = cluster.application().await;
    let mut todo = vec![Work::Commits, Work::Aborts];
    if work != Work::Nothing {
        todo.extend([work; 100]);
    }
    for (number, work) in todo.into_iter().enumerate() {
        if work == Work::Commits {
            let done = transfer(&pactum, &a, &b, "1", 1).await;
            assert_eq!(done.told, Told::Committed, "{done:?}");
        } else if number % 2 == 0 {
            // Refused by a vote, after the other bank has promised.
            let entry = Entry::new(&fresh_key(), "1", 1);
            let submit = pactum.submit().operation("bank-a", "apply", entry.payload());
            let outcome = submit.operation("bank-b", "refuse", entry.payload()).await.unwrap();
            assert!(!outcome.is_committed(), "{outcome:?}");
        } else {
            let tx = pactum.begin().timeout(TIMEOUT).await.unwrap();
            let context = tx.context().clone();
            a.apply(&context, &Entry::new(&fresh_key(), "1", 1)).await.unwrap();
            b.apply(&context, &Entry::new(&fresh_key(), "1", 1)).await.unwrap();
            tx.abort().await.unwrap();
        }
    }
    drop(pactum);
    a.stop().await;
    b.stop().await;
    cluster.coordinator.stop().await.unwrap();
    forces(server).await - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_forces_the_log_once_and_an_abort_never() {
    // The server's WAL writer forces now and then what was written lazily (heartbeats, end
    // records); it is made to rest, so that what is counted is what somebody waits for.
    let server =
        postgres::own(&[("wal_writer_delay", "10s"), ("autovacuum", "off"), ("checkpoint_timeout", "1h")]);
    let log_url = postgres::database(&server, "log");
    let banks =
        [postgres::database(postgres::shared(), "bank-a"), postgres::database(postgres::shared(), "bank-b")];
    for url in &banks {
        pactum_tests::bank::Books::create(url).await;
    }
    let banks = [banks[0].as_str(), banks[1].as_str()];
    run(&server, &log_url, Work::Nothing, banks).await; // the first makes the schema
    let idle = run(&server, &log_url, Work::Nothing, banks).await;
    let commits = run(&server, &log_url, Work::Commits, banks).await - idle;
    let aborts = run(&server, &log_url, Work::Aborts, banks).await - idle;
    assert!((98..=105).contains(&commits), "100 commits forced the log {commits} times (idle: {idle})");
    assert!(aborts <= 5, "100 aborts forced the log {aborts} times (idle: {idle})");
}
