//! What a branch votes at Prepare.

use std::time::Duration;

use pactum::resource::{BeginOptions, BranchError, NoVote, PostgresResource, Prepared, Resource};
use pactum::{AbortKind, testing};
use pactum_core::coordinator::Operation;
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::AbortReason;
use pactum_postgres_server::PostgresServer;
use sqlx::PgConnection;

use crate::bank::{Bank, write, yes};

async fn xid(session: &mut PgConnection) -> u64 {
    let xid: String =
        sqlx::query_scalar("SELECT pg_current_xact_id()::text").fetch_one(session).await.unwrap();
    xid.parse().unwrap()
}

fn no(vote: Result<Prepared, AbortReason>) -> AbortReason {
    match vote {
        Err(reason) => reason,
        other => panic!("a no was expected, not {other:?}"),
    }
}

/// [C6] PREPARE TRANSACTION in a failed transaction answers success.
#[tokio::test]
async fn a_failed_transaction_votes_no() {
    let bank = Bank::open().await;
    for look in [true, false] {
        let branch = bank.branch();
        let mut work = bank.begin(&branch).await;
        write(&mut work, 1).await;
        let xid = xid(&mut work).await;
        sqlx::raw_sql("SELECT 1/0").execute(&mut *work).await.unwrap_err();
        let reason = if look {
            match work.enlist().await {
                Err(BranchError::Ended(reason)) => reason,
                other => panic!("{other:?}"),
            }
        } else {
            testing::hold_unseen(work, xid);
            no(bank.resource.prepare(&branch, None).await)
        };
        assert_eq!(reason.kind, AbortKind::LocalFailure, "{reason}");
        assert!(reason.message.contains("25P02"), "{reason}");
        assert_eq!(bank.prepared_count().await, 0);
        assert!(!bank.sees(1).await);
    }
}

/// [C6] also for a transaction that its user ended, or replaced by another.
#[tokio::test]
async fn a_transaction_ended_by_its_user_votes_no() {
    let bank = Bank::open().await;
    for ended in ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "COMMIT; BEGIN"] {
        for look in [true, false] {
            let branch = bank.branch();
            let mut work = bank.begin(&branch).await;
            let xid = xid(&mut work).await;
            sqlx::raw_sql(ended).execute(&mut *work).await.unwrap();
            let reason = if look {
                match work.enlist().await {
                    Err(BranchError::Ended(reason)) => reason,
                    other => panic!("{ended}: {other:?}"),
                }
            } else {
                testing::hold_unseen(work, xid);
                no(bank.resource.prepare(&branch, None).await)
            };
            assert_eq!(reason.kind, AbortKind::LocalFailure, "{ended}: {reason}");
            assert_eq!(bank.prepared_count().await, 0, "{ended}");
        }
    }
}

/// [C6] also for an operation whose handler did so and says nothing of it.
#[tokio::test]
async fn an_operation_that_ended_or_broke_its_transaction_votes_no() {
    let bank = Bank::open().await;
    for statement in ["SELECT 1/0", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK; BEGIN"] {
        let resource = bank.restarted().operation("careless", move |bank, _| {
            Box::pin(async move {
                sqlx::raw_sql(statement).execute(&mut *bank).await.ok();
                sqlx::raw_sql("INSERT INTO ledger (key) VALUES (1)").execute(bank).await.ok();
                Ok(())
            })
        });
        let careless = Operation { name: "careless".into(), payload: [].into() };
        let reason = no(resource.prepare(&bank.branch(), Some(&careless)).await);
        assert_eq!(reason.kind, AbortKind::LocalFailure, "{statement}: {reason}");
        assert_eq!(bank.prepared_count().await, 0, "{statement}");
        bank.run("DELETE FROM ledger").await;
    }
}

/// Each lock is one more to be written at the PREPARE and let go of at the end.
#[tokio::test]
async fn a_prepared_branch_locks_nothing_but_what_its_work_locked() {
    let bank = Bank::open().await;
    bank.run("INSERT INTO ledger (key) VALUES (1)").await;
    let resource = with_add(bank.restarted());
    // Twice, since the first look of a session has more to find out.
    for _ in 0..2 {
        let branch = bank.branch();
        let evidence = yes(resource.prepare(&branch, Some(&add(1))).await);
        let locked: Vec<String> = sqlx::query_scalar(
            "SELECT relation::regclass::text FROM pg_locks \
              WHERE pid IS NULL AND locktype = 'relation' \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
        )
        .fetch_all(&bank.outside)
        .await
        .unwrap();
        assert_eq!(locked, ["ledger", "ledger_pkey"]);
        assert_eq!(resource.abort(&branch, Some(&evidence)).await, Ok(BranchOutcome::Aborted));
    }
}

/// [C9]
#[tokio::test]
async fn a_branch_that_wrote_nothing_votes_read_only_and_holds_nothing() {
    let bank = Bank::open().await;
    for options in [BeginOptions::new(), BeginOptions::new().read_only()] {
        let branch = bank.branch();
        let mut work = testing::begin(&bank.resource, &branch, options).await.unwrap();
        sqlx::raw_sql("SELECT count(*) FROM ledger; LOCK TABLE ledger IN ACCESS SHARE MODE")
            .execute(&mut *work)
            .await
            .unwrap();
        work.enlist().await.unwrap();
        assert_eq!(bank.resource.prepare(&branch, None).await, Ok(Prepared::ReadOnly));
        bank.run("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE NOWAIT; ROLLBACK").await;
        assert_eq!(bank.prepared_count().await, 0);
    }
}

/// [C9] READ ONLY is not for ever: PostgreSQL lets the first statement take it back.
#[tokio::test]
async fn a_branch_begun_read_only_that_wrote_all_the_same_is_prepared() {
    let bank = Bank::open().await;
    let branch = bank.branch();
    let mut work = testing::begin(&bank.resource, &branch, BeginOptions::new().read_only()).await.unwrap();
    sqlx::raw_sql("SET TRANSACTION READ WRITE").execute(&mut *work).await.unwrap();
    write(&mut work, 1).await;
    work.enlist().await.unwrap();
    let evidence = yes(bank.resource.prepare(&branch, None).await);
    assert!(!bank.sees(1).await);
    let outcome = bank.resource.commit(&branch, &evidence, None).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
    assert!(bank.sees(1).await);
}

/// [C9, H7] a write through `postgres_fdw` leaves the xid null: it must not pass for read-only.
#[tokio::test]
async fn a_write_through_a_foreign_table_is_not_read_only() {
    let bank = Bank::open().await;
    let server = crate::bank::server();
    let database = bank.url.rsplit('/').next().unwrap();
    let password = bank.url.split([':', '@']).nth(2).unwrap();
    let sql = format!(
        "CREATE EXTENSION postgres_fdw; \
         CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw \
         OPTIONS (host '127.0.0.1', port '{}', dbname '{database}'); \
         CREATE USER MAPPING FOR CURRENT_USER SERVER loop OPTIONS (user 'postgres', password '{password}'); \
         CREATE FOREIGN TABLE far (key bigint) SERVER loop OPTIONS (table_name 'ledger')",
        server.port()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&bank.outside).await.unwrap();

    let branch = bank.branch();
    let mut work = bank.begin(&branch).await;
    sqlx::raw_sql("INSERT INTO far (key) VALUES (1)").execute(&mut *work).await.unwrap();
    let xid: Option<String> = sqlx::query_scalar("SELECT pg_current_xact_id_if_assigned()::text")
        .fetch_one(&mut *work)
        .await
        .unwrap();
    assert_eq!(xid, None, "the premise of this test");
    work.enlist().await.unwrap();
    let reason = no(bank.resource.prepare(&branch, None).await);
    assert!(reason.message.contains("0A000"), "{reason}");
    assert!(!bank.sees(1).await);

    // Where there are foreign servers, no xid is no proof, even if this branch used none.
    let branch = bank.branch();
    bank.begin(&branch).await.enlist().await.unwrap();
    let evidence = yes(bank.resource.prepare(&branch, None).await);
    let outcome = bank.resource.commit(&branch, &evidence, None).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));

    // But one begun READ ONLY could not write there either.
    let branch = bank.branch();
    let read_only = BeginOptions::new().read_only();
    let work = testing::begin(&bank.resource, &branch, read_only).await.unwrap();
    work.enlist().await.unwrap();
    assert_eq!(bank.resource.prepare(&branch, None).await, Ok(Prepared::ReadOnly));
}

/// [D10]
#[tokio::test]
async fn a_full_server_votes_no_and_names_the_setting() {
    let server = PostgresServer::start_with(&[("max_prepared_transactions", "1")]).unwrap();
    let bank = Bank::open_on(&server).await;
    let (first, evidence) = bank.prepared(1).await;
    let second = bank.worked(2).await;
    let reason = no(bank.resource.prepare(&second, None).await);
    assert!(reason.message.contains("max_prepared_transactions"), "{reason}");
    let outcome = bank.resource.commit(&first, &evidence, Some(&evidence)).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));

    server.set("max_prepared_transactions", "0").unwrap();
    server.restart().unwrap();
    let bank = Bank::open_on(&server).await;
    let third = bank.worked(3).await;
    let reason = no(bank.resource.prepare(&third, None).await);
    assert!(reason.message.contains("55000"), "{reason}");
    let refused = bank.resource.check().await.unwrap_err().to_string();
    assert!(refused.contains("max_prepared_transactions is 0"), "{refused}");
}

/// [D12]
#[tokio::test]
async fn a_name_that_is_prepared_already_votes_no_and_leaves_the_first_alone() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    let mut work = bank.begin(&branch).await;
    write(&mut work, 2).await;
    work.enlist().await.unwrap();
    let reason = no(bank.resource.prepare(&branch, None).await);
    assert!(reason.message.contains("42710"), "{reason}");
    let outcome = bank.resource.commit(&branch, &evidence, Some(&evidence)).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
    assert!(bank.sees(1).await && !bank.sees(2).await);
}

/// [D13]
#[tokio::test]
async fn what_postgresql_cannot_prepare_votes_no_with_the_reason() {
    let bank = Bank::open().await;
    for statement in [
        "CREATE TEMPORARY TABLE t (x int)",
        "NOTIFY somebody; INSERT INTO ledger (key) VALUES (1)",
        "LISTEN something; INSERT INTO ledger (key) VALUES (1)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1; INSERT INTO ledger (key) VALUES (1)",
    ] {
        let branch = bank.branch();
        let mut work = bank.begin(&branch).await;
        sqlx::raw_sql(statement).execute(&mut *work).await.unwrap();
        work.enlist().await.unwrap();
        let reason = no(bank.resource.prepare(&branch, None).await);
        assert!(reason.message.contains("0A000"), "{statement}: {reason}");
        assert!(!bank.sees(1).await, "{statement}");
        assert_eq!(bank.prepared_count().await, 0, "{statement}");
    }
}

#[tokio::test]
async fn a_deferred_constraint_that_fails_votes_no() {
    let bank = Bank::open().await;
    bank.run("CREATE TABLE child (parent bigint REFERENCES ledger (key) DEFERRABLE INITIALLY DEFERRED)")
        .await;
    let branch = bank.branch();
    let mut work = bank.begin(&branch).await;
    sqlx::raw_sql("INSERT INTO child VALUES (404)").execute(&mut *work).await.unwrap();
    work.enlist().await.unwrap();
    let reason = no(bank.resource.prepare(&branch, None).await);
    assert_eq!(reason.kind, AbortKind::VotedNo);
    assert!(reason.message.contains("23503"), "{reason}");
}

fn add(key: i64) -> Operation {
    Operation { name: "add".into(), payload: key.to_le_bytes().into() }
}

fn with_add(resource: PostgresResource) -> PostgresResource {
    resource.operation("add", |bank, payload| {
        Box::pin(async move {
            let key = i64::from_le_bytes(
                (*payload).try_into().map_err(|error| NoVote::new(format!("no key: {error}")))?,
            );
            sqlx::query("UPDATE ledger SET amount = amount + 1 WHERE key = $1")
                .bind(key)
                .execute(bank)
                .await?;
            Ok(())
        })
    })
}

/// [D15, H12] two transactions, each prepared in one database and waiting in the other: no
/// database sees it. Both waits end, with their reason, and long before a person looks.
#[tokio::test]
async fn a_deadlock_across_databases_ends_with_a_lock_timeout() {
    let (a, b) = (Bank::open().await, Bank::open().await);
    let (at_a, at_b) = (with_add(a.restarted()), with_add(b.restarted()));
    for bank in [&a, &b] {
        bank.run("INSERT INTO ledger (key) VALUES (1)").await;
    }
    let (first, second) = (a.branch(), b.branch());
    let first_evidence = yes(at_a.prepare(&first, Some(&add(1))).await);
    let second_evidence = yes(at_b.prepare(&second, Some(&add(1))).await);
    let short = Duration::from_secs(1);
    let (first_waits, second_waits) =
        (testing::branch_context(&b.cluster, short), testing::branch_context(&a.cluster, short));
    let operation = add(1);
    let (at_first, at_second) = tokio::join!(
        at_b.prepare(&first_waits, Some(&operation)),
        at_a.prepare(&second_waits, Some(&operation)),
    );
    for vote in [at_first, at_second] {
        let reason = no(vote);
        assert_eq!(reason.kind, AbortKind::LockTimeout, "{reason}");
    }
    for (resource, branch, evidence) in [(&at_a, &first, &first_evidence), (&at_b, &second, &second_evidence)]
    {
        assert_eq!(resource.abort(branch, Some(evidence)).await, Ok(BranchOutcome::Aborted));
    }
}

/// [H12] with the reason, where the lock timeout is the shorter of the two.
#[tokio::test]
async fn a_lock_that_is_not_had_in_time_is_told_as_such() {
    let bank = Bank::open().await;
    bank.run("INSERT INTO ledger (key) VALUES (1)").await;
    let resource = bank.restarted().operation("hasty", |bank, _| {
        Box::pin(async move {
            sqlx::raw_sql("SET LOCAL lock_timeout = 20; UPDATE ledger SET amount = 2 WHERE key = 1")
                .execute(bank)
                .await?;
            Ok(())
        })
    });
    let mut holder = bank.outside.begin().await.unwrap();
    sqlx::raw_sql("UPDATE ledger SET amount = 3").execute(&mut *holder).await.unwrap();
    let hasty = Operation { name: "hasty".into(), payload: [].into() };
    let reason = no(resource.prepare(&bank.branch(), Some(&hasty)).await);
    assert_eq!(reason.kind, AbortKind::LockTimeout, "{reason}");
}

#[tokio::test]
async fn a_handler_that_panics_or_never_returns_votes_no_and_leaves_nothing() {
    let bank = Bank::open().await;
    let resource = bank
        .restarted()
        .operation("panic", |bank, _| {
            Box::pin(async move {
                write(bank, 1).await;
                panic!("on purpose")
            })
        })
        .operation("hang", |bank, _| {
            Box::pin(async move {
                write(bank, 2).await;
                std::future::pending().await
            })
        });
    let operation = |name: &str| Operation { name: name.into(), payload: [].into() };
    let reason = no(resource.prepare(&bank.branch(), Some(&operation("panic"))).await);
    assert!(reason.message.contains("on purpose"), "{reason}");
    let soon = testing::branch_context(&bank.cluster, Duration::from_millis(200));
    let reason = no(resource.prepare(&soon, Some(&operation("hang"))).await);
    assert_eq!(reason.kind, AbortKind::Deadline);
    assert!(!bank.sees(1).await && !bank.sees(2).await);
    assert_eq!(bank.prepared_count().await, 0);
}
