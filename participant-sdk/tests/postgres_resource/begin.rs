//! Begin, and what becomes of connections.

use std::time::{Duration, Instant};

use pactum::resource::{BeginOptions, BranchError, PostgresResource, Resource};
use pactum::testing;
use pactum_core::outcome::BranchOutcome;
use sqlx::Connection as _;

use crate::bank::{Bank, pool, until, write, yes};

/// sqlx 0.9: a dropped begin leaves its session inside a transaction, and the next plain INSERT
/// on it is acknowledged and lost. Cancels begin at many points and looks from outside.
#[tokio::test]
async fn a_cancelled_begin_loses_no_later_write() {
    let bank = Bank::open().await;
    let shared = pool(&bank.url, 2);
    let resource = PostgresResource::new("bank", shared.clone()).unwrap();
    let mut cancelled = 0;
    for round in 0..300_u32 {
        let branch = bank.branch();
        let attempt = testing::begin(&resource, &branch, BeginOptions::new());
        // From "before anything ran" to "after it has ended", one turn of the runtime at a time.
        let patience = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            branch = attempt => drop(branch.unwrap()),
            () = patience => cancelled += 1,
        }
        let key = i64::from(round);
        sqlx::query("INSERT INTO ledger (key) VALUES ($1)").bind(key).execute(&shared).await.unwrap();
        assert!(bank.sees(key).await, "the write of round {round} was acknowledged and lost");
    }
    assert!(cancelled > 10, "only {cancelled} begins were cancelled: the test shows nothing");
}

#[tokio::test]
async fn a_dropped_branch_is_rolled_back_and_its_connection_serves_again() {
    let bank = Bank::open().await;
    let resource = PostgresResource::new("bank", pool(&bank.url, 1)).unwrap();
    for key in 0..3 {
        let branch = bank.branch();
        let mut work = testing::begin(&resource, &branch, BeginOptions::new()).await.unwrap();
        write(&mut work, 7).await;
        drop(work);
        assert!(!bank.sees(7).await, "round {key}");
    }
}

#[tokio::test]
async fn a_nested_commit_is_a_savepoint() {
    let bank = Bank::open().await;
    let branch = bank.branch();
    let mut work = bank.begin(&branch).await;
    let mut nested = work.begin().await.unwrap();
    write(&mut nested, 1).await;
    nested.commit().await.unwrap();
    let mut undone = work.begin().await.unwrap();
    write(&mut undone, 2).await;
    undone.rollback().await.unwrap();
    assert!(!bank.sees(1).await);
    work.enlist().await.unwrap();
    let evidence = yes(bank.resource.prepare(&branch, None).await);
    assert!(!bank.sees(1).await);
    let outcome = bank.resource.commit(&branch, &evidence, Some(&evidence)).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
    assert!(bank.sees(1).await && !bank.sees(2).await);
}

/// sqlx counts begins: a leaked one would make its rollback end only a savepoint.
#[tokio::test]
async fn a_leaked_nested_transaction_does_not_poison_the_pool() {
    let bank = Bank::open().await;
    let shared = pool(&bank.url, 1);
    let resource = PostgresResource::new("bank", shared.clone()).unwrap();
    let branch = bank.branch();
    let mut work = testing::begin(&resource, &branch, BeginOptions::new()).await.unwrap();
    std::mem::forget(work.begin().await.unwrap());
    write(&mut work, 1).await;
    work.enlist().await.unwrap();
    assert_eq!(resource.abort(&branch, None).await, Ok(BranchOutcome::Aborted));
    sqlx::query("INSERT INTO ledger (key) VALUES (2)").execute(&shared).await.unwrap();
    assert!(bank.sees(2).await && !bank.sees(1).await);
}

#[tokio::test]
async fn a_passed_deadline_begins_nothing() {
    let bank = Bank::open().await;
    let mut branch = bank.branch();
    branch.deadline = Instant::now();
    let begun = testing::begin(&bank.resource, &branch, BeginOptions::new()).await;
    assert!(matches!(begun, Err(BranchError::DeadlinePassed)), "{begun:?}");
}

#[tokio::test]
async fn waits_in_a_branch_are_bounded_by_its_deadline_and_its_own_choice() {
    let bank = Bank::open().await;
    let branch = testing::branch_context(&bank.cluster, Duration::from_secs(20));
    let setting = async |options, name: &'static str| -> u64 {
        let mut work = testing::begin(&bank.resource, &branch, options).await.unwrap();
        sqlx::query_scalar("SELECT setting::bigint FROM pg_settings WHERE name = $1")
            .bind(name)
            .fetch_one(&mut *work)
            .await
            .map(i64::cast_unsigned)
            .unwrap()
    };
    let plain = BeginOptions::new();
    assert!((1..=20_000).contains(&setting(plain, "lock_timeout").await));
    assert!((1..=20_000).contains(&setting(plain, "statement_timeout").await));
    let idle = setting(plain, "idle_in_transaction_session_timeout").await;
    assert!((5_000..=25_000).contains(&idle), "{idle}");
    let short = plain.lock_timeout(Duration::from_millis(30));
    assert_eq!(setting(short, "lock_timeout").await, 30);
    let long = plain.lock_timeout(Duration::from_hours(1));
    assert!(setting(long, "lock_timeout").await <= 20_000);
}

#[tokio::test]
async fn a_branch_has_the_isolation_asked_for() {
    let bank = Bank::open().await;
    for (options, expected) in [
        (BeginOptions::new(), "read committed"),
        (BeginOptions::new().repeatable_read(), "repeatable read"),
        (BeginOptions::new().serializable().read_only(), "serializable"),
    ] {
        let branch = bank.branch();
        let mut work = testing::begin(&bank.resource, &branch, options).await.unwrap();
        let level: String = sqlx::query_scalar("SELECT current_setting('transaction_isolation')")
            .fetch_one(&mut *work)
            .await
            .unwrap();
        assert_eq!(level, expected);
    }
}

/// All connections of the service wait for a lock that a prepared branch holds: the commit that
/// frees it must not need one of them.
#[tokio::test]
async fn a_pool_full_of_waiting_branches_does_not_keep_a_prepared_one_from_ending() {
    let bank = Bank::open().await;
    bank.run("INSERT INTO ledger (key) VALUES (1)").await;
    let resource = PostgresResource::new("bank", pool(&bank.url, 2)).unwrap();
    let update = "UPDATE ledger SET amount = amount + 1 WHERE key = 1";
    let branch = bank.branch();
    let mut work = testing::begin(&resource, &branch, BeginOptions::new()).await.unwrap();
    sqlx::raw_sql(update).execute(&mut *work).await.unwrap();
    work.enlist().await.unwrap();
    let evidence = yes(resource.prepare(&branch, None).await);

    let waiting = async || {
        let branch = bank.branch();
        let mut work = testing::begin(&resource, &branch, BeginOptions::new()).await.unwrap();
        sqlx::raw_sql(update).execute(&mut *work).await.unwrap();
    };
    let committing = async {
        until("both branches wait", async || {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .fetch_one(&bank.outside)
            .await
            .unwrap();
            (waiting == 2).then_some(())
        })
        .await;
        resource.commit(&branch, &evidence, Some(&evidence)).await
    };
    let (outcome, (), ()) = tokio::join!(committing, waiting(), waiting());
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
}

/// sqlx 0.9: a nested begin that is dropped half-way rolls back the *whole* transaction, and
/// what follows runs outside of any. The branch must not pass for a whole one.
#[tokio::test]
async fn a_cancelled_nested_begin_makes_the_branch_vote_no() {
    let bank = Bank::open().await;
    let mut work = loop {
        let mut work = bank.begin(&bank.branch()).await;
        write(&mut work, 1).await;
        let half_way = {
            let nested = work.begin();
            tokio::pin!(nested);
            tokio::select! {
                biased;
                _ = &mut nested => false,
                () = std::future::ready(()) => true,
            }
        };
        // A server may answer before it is looked at: then there was nothing to cancel.
        if half_way {
            break work;
        }
    };
    write(&mut work, 2).await;
    assert!(bank.sees(2).await, "the premise of this test");
    let enlisted = work.enlist().await;
    assert!(matches!(enlisted, Err(BranchError::Ended(_))), "{enlisted:?}");
    assert!(!bank.sees(1).await);
    assert_eq!(bank.prepared_count().await, 0);
}
