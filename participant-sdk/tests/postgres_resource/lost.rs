//! Connections lost in the middle of what matters.

use pactum::resource::{BeginOptions, PostgresResource, Resource};
use pactum::testing;
use pactum_core::coordinator::RegisterAnswer;
use pactum_core::outcome::BranchOutcome;
use sqlx::Connection as _;

use crate::bank::{Bank, resource, server, until, write, yes};
use crate::proxy::Proxy;

async fn behind_proxy(bank: &Bank) -> (Proxy, PostgresResource) {
    let port = server().port();
    let proxy = Proxy::start(port).await;
    let resource = resource(&proxy.url(&bank.url, port));
    (proxy, resource)
}

/// [D1] the backend dies.
#[tokio::test]
async fn a_backend_killed_during_prepare_votes_no_and_leaves_nothing() {
    let bank = Bank::open().await;
    bank.install_turnstile().await;
    let blocker = bank.block_turnstile().await;
    let branch = bank.worked(1).await;
    let killing = async {
        let pid = bank.stuck_backend().await;
        sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&bank.outside).await.unwrap();
    };
    let (vote, ()) = tokio::join!(bank.resource.prepare(&branch, None), killing);
    assert!(vote.is_err(), "{vote:?}");
    blocker.close().await.unwrap();
    assert_eq!(bank.prepared_count().await, 0);
    assert!(!bank.sees(1).await);
    // The connection that was lost is not handed out again.
    let (branch, evidence) = bank.prepared(2).await;
    let outcome = bank.resource.commit(&branch, &evidence, Some(&evidence)).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
}

/// [D1] the wire is cut and the backend lives on, in the middle of PREPARE: it would finish it
/// as soon as the turnstile opens, long after the no.
#[tokio::test]
async fn a_backend_that_outlives_its_connection_cannot_prepare_after_the_no() {
    let bank = Bank::open().await;
    bank.install_turnstile().await;
    let (proxy, resource) = behind_proxy(&bank).await;
    let blocker = bank.block_turnstile().await;
    let branch = bank.branch();
    let mut work = testing::begin(&resource, &branch, BeginOptions::new()).await.unwrap();
    write(&mut work, 1).await;
    work.enlist().await.unwrap();
    let cutting = async {
        bank.stuck_backend().await;
        proxy.cut();
    };
    let (vote, ()) = tokio::join!(resource.prepare(&branch, None), cutting);
    assert!(vote.is_err(), "{vote:?}");
    // The vote waited until the backend was gone: the turnstile may open now.
    blocker.close().await.unwrap();
    until("the backend lets its locks go", async || {
        let lingering: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks \
              WHERE relation = 'ledger'::regclass AND mode = 'RowExclusiveLock'",
        )
        .fetch_one(&bank.outside)
        .await
        .unwrap();
        (lingering == 0).then_some(())
    })
    .await;
    assert_eq!(bank.prepared_count().await, 0);
    assert!(!bank.sees(1).await);
}

/// [D1] the PREPARE succeeded and its answer was lost.
#[tokio::test]
async fn a_prepare_whose_answer_was_lost_votes_no_and_is_rolled_back() {
    let bank = Bank::open().await;
    let (proxy, resource) = behind_proxy(&bank).await;
    let branch = bank.branch();
    let mut work = testing::begin(&resource, &branch, BeginOptions::new()).await.unwrap();
    write(&mut work, 1).await;
    work.enlist().await.unwrap();
    proxy.lose_answer_to("PREPARE TRANSACTION");
    let vote = resource.prepare(&branch, None).await;
    assert!(proxy.has_lost_an_answer());
    assert!(vote.is_err(), "{vote:?}");
    assert_eq!(bank.prepared_count().await, 0);
}

/// [D2]
#[tokio::test]
async fn a_commit_or_abort_whose_answer_was_lost_is_told_by_evidence() {
    let bank = Bank::open().await;
    let (proxy, resource) = behind_proxy(&bank).await;
    for (key, remembered) in [(1, true), (2, false)] {
        let (branch, evidence) = bank.prepared(key).await;
        proxy.lose_answer_to("COMMIT PREPARED");
        let prepared = remembered.then_some(&evidence);
        let mut outcome = resource.commit(&branch, &evidence, prepared).await;
        assert!(proxy.has_lost_an_answer());
        if outcome.is_err() {
            // Without memory the first attempt is by evidence already: the hook is called again.
            outcome = resource.commit(&branch, &evidence, prepared).await;
        }
        assert_eq!(outcome, Ok(BranchOutcome::Committed));
        assert!(bank.sees(key).await);
    }
    let (branch, evidence) = bank.prepared(3).await;
    proxy.lose_answer_to("ROLLBACK PREPARED");
    let outcome = resource.abort(&branch, Some(&evidence)).await;
    assert_eq!(outcome, Ok(BranchOutcome::Aborted));
    assert_eq!(bank.prepared_count().await, 0);
}

/// [H5] the answer to the one-phase commit was lost: the register tells.
#[tokio::test]
async fn a_one_phase_commit_whose_answer_was_lost_is_told_by_its_register() {
    let bank = Bank::open_with_marker().await;
    let (proxy, resource) = behind_proxy(&bank).await;
    let branch = bank.branch();
    let mut work = testing::begin(&resource, &branch, BeginOptions::new()).await.unwrap();
    write(&mut work, 1).await;
    work.enlist().await.unwrap();
    proxy.lose_answer_to("INSERT INTO pactum_participant");
    let answer = resource.commit_one_phase(&branch, None).await;
    assert!(proxy.has_lost_an_answer());
    assert_eq!(answer, RegisterAnswer::Committed);
    assert!(bank.sees(1).await);
}

/// [H5] the wire is cut while the one-phase commit is on its way, and the backend lives on: its
/// marker's key makes the register wait, so the answer is "unknown" and never "aborted".
#[tokio::test]
async fn a_one_phase_commit_still_on_its_way_is_unknown_until_it_has_ended() {
    let bank = Bank::open_with_marker().await;
    bank.install_turnstile().await;
    let (proxy, resource) = behind_proxy(&bank).await;
    let blocker = bank.block_turnstile().await;
    let branch = bank.branch();
    let mut work = testing::begin(&resource, &branch, BeginOptions::new()).await.unwrap();
    write(&mut work, 1).await;
    work.enlist().await.unwrap();
    let cutting = async {
        bank.stuck_backend().await;
        proxy.cut();
    };
    let (answer, ()) = tokio::join!(resource.commit_one_phase(&branch, None), cutting);
    assert_eq!(answer, RegisterAnswer::Unknown);
    assert_eq!(bank.restarted().settle(&branch).await, RegisterAnswer::Unknown);
    blocker.close().await.unwrap();
    until("the backend commits", async || bank.sees(1).await.then_some(())).await;
    assert_eq!(bank.restarted().settle(&branch).await, RegisterAnswer::Committed);
}

/// [H5] the backend dies before its commit: aborted, for certain and for good.
#[tokio::test]
async fn a_backend_killed_during_one_phase_commit_is_aborted_for_good() {
    let bank = Bank::open_with_marker().await;
    bank.install_turnstile().await;
    let blocker = bank.block_turnstile().await;
    let branch = bank.worked(1).await;
    let killing = async {
        let pid = bank.stuck_backend().await;
        sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&bank.outside).await.unwrap();
    };
    let (answer, ()) = tokio::join!(bank.resource.commit_one_phase(&branch, None), killing);
    assert!(matches!(answer, RegisterAnswer::Aborted(_)), "{answer:?}");
    blocker.close().await.unwrap();
    let asked = bank.restarted().settle(&branch).await;
    assert!(matches!(asked, RegisterAnswer::Aborted(_)), "{asked:?}");
    assert!(!bank.sees(1).await);
}

/// [D9] [C2]
#[tokio::test]
async fn a_prepared_branch_survives_the_death_of_its_server() {
    let server = pactum_postgres_server::PostgresServer::start().unwrap();
    let bank = Bank::open_on(&server).await;
    let (committed, evidence) = bank.prepared(1).await;
    let (aborted, _) = bank.prepared(2).await;
    let open = bank.worked(3).await;
    server.kill().unwrap();
    assert!(bank.resource.commit(&committed, &evidence, Some(&evidence)).await.is_err());
    server.restart().unwrap();

    let restarted = bank.restarted();
    let found = restarted.recover(&bank.cluster).await.unwrap();
    assert_eq!(found.len(), 2);
    let found = found.iter().find(|found| found.name == committed.name).unwrap();
    assert!(found.evidence.same_execution(&evidence));
    // A restart is no restore: the evidence still holds.
    let outcome = restarted.commit(&committed, &evidence, None).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
    let outcome = restarted.commit(&committed, &evidence, None).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
    assert_eq!(restarted.abort(&aborted, None).await, Ok(BranchOutcome::Aborted));
    assert!(restarted.prepare(&open, None).await.is_err());
    // The first resource finds its way back too: none of its connections is trusted blindly.
    let vote = until("the old resource serves again", async || {
        let branch = bank.branch();
        let mut work = testing::begin(&bank.resource, &branch, BeginOptions::new()).await.ok()?;
        write(&mut work, 4).await;
        work.enlist().await.ok()?;
        Some((bank.resource.prepare(&branch, None).await, branch))
    })
    .await;
    let evidence = yes(vote.0);
    let again =
        until("it commits", async || bank.resource.commit(&vote.1, &evidence, Some(&evidence)).await.ok())
            .await;
    assert_eq!(again, BranchOutcome::Committed);
}
