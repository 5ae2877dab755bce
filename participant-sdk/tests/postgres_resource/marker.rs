//! [H5] The register of a transaction with one branch.

use pactum::resource::{BeginOptions, PostgresResource, Resource};
use pactum::{AbortKind, testing};
use pactum_core::coordinator::{Operation, RegisterAnswer};
use sqlx::Connection as _;

use crate::bank::{Bank, until, write};

fn aborted(answer: &RegisterAnswer) -> bool {
    matches!(answer, RegisterAnswer::Aborted(_))
}

/// A second instance asks while the first one's transaction is open, its marker written.
#[tokio::test]
async fn an_asker_waits_for_a_commit_under_way_and_does_not_read_past_it() {
    let bank = Bank::open_with_marker().await;
    bank.install_turnstile().await;
    let (branch, slow) = (bank.worked(1).await, bank.worked(2).await);
    let blocker = bank.block_turnstile().await;
    let restarted = bank.restarted();
    let asking = async {
        bank.stuck_backend().await;
        let first = restarted.settle(&slow).await;
        blocker.close().await.unwrap();
        (first, restarted.settle(&slow).await)
    };
    let (answer, (under_way, after)) = tokio::join!(bank.resource.commit_one_phase(&slow, None), asking);
    assert_eq!(under_way, RegisterAnswer::Unknown);
    assert_eq!((answer, after), (RegisterAnswer::Committed, RegisterAnswer::Committed));
    assert_eq!(bank.resource.commit_one_phase(&branch, None).await, RegisterAnswer::Committed);
}

/// The deadline passes while the commit has not begun: the register is closed first, and the
/// commit's plain insert fails (DO NOTHING would commit the data against it).
#[tokio::test]
async fn a_commit_that_comes_after_the_asker_commits_nothing() {
    let bank = Bank::open_with_marker().await;
    let branch = bank.worked(1).await;
    assert!(aborted(&bank.restarted().settle(&branch).await));
    let answer = bank.resource.commit_one_phase(&branch, None).await;
    let RegisterAnswer::Aborted(reason) = &answer else { panic!("{answer:?}") };
    assert!(reason.message.contains("23505"), "{reason}");
    assert!(!bank.sees(1).await);
}

/// Markers are forgotten only under the floor, and nothing is written or told there.
#[tokio::test]
async fn under_the_floor_nothing_is_written_and_the_answer_is_forgotten() {
    let bank = Bank::open_with_marker().await;
    let (first, second) = (bank.worked(1).await, bank.worked(2).await);
    assert_eq!(bank.resource.commit_one_phase(&first, None).await, RegisterAnswer::Committed);
    assert_eq!(bank.resource.forget_markers(second.name.id.gid).await, Ok(1));
    assert_eq!(bank.resource.settle(&first).await, RegisterAnswer::Forgotten);
    assert_eq!(bank.resource.commit_one_phase(&first, None).await, RegisterAnswer::Forgotten);
    assert_eq!(bank.resource.commit_one_phase(&second, None).await, RegisterAnswer::Forgotten);
    assert!(!bank.sees(2).await);
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM pactum_participant.marker")
        .fetch_one(&bank.outside)
        .await
        .unwrap();
    assert_eq!(rows, 0);
    // The floor does not sink.
    assert_eq!(bank.resource.forget_markers(first.name.id.gid).await, Ok(0));
    assert_eq!(bank.resource.settle(&second).await, RegisterAnswer::Forgotten);
    let third = bank.worked(3).await;
    assert_eq!(bank.resource.commit_one_phase(&third, None).await, RegisterAnswer::Committed);
}

/// The floor cannot pass a commit that is under way.
#[tokio::test]
async fn raising_the_floor_waits_for_commits_under_way() {
    let bank = Bank::open_with_marker().await;
    bank.install_turnstile().await;
    let branch = bank.worked(1).await;
    let blocker = bank.block_turnstile().await;
    let gid = branch.name.id.gid;
    let restarted = bank.restarted();
    let raising = async {
        bank.stuck_backend().await;
        let refused = restarted.forget_markers(gid).await;
        blocker.close().await.unwrap();
        refused
    };
    let (answer, refused) = tokio::join!(bank.resource.commit_one_phase(&branch, None), raising);
    assert!(refused.unwrap_err().to_string().contains("55P03"));
    assert_eq!(answer, RegisterAnswer::Committed);
    assert_eq!(restarted.settle(&branch).await, RegisterAnswer::Committed);
}

#[tokio::test]
async fn markers_older_than_their_retention_are_forgotten_in_batches() {
    let bank = Bank::open_with_marker().await;
    bank.run(
        "INSERT INTO pactum_participant.marker \
         SELECT lpad(to_hex(n), 32, '0')::uuid, gen_random_uuid(), '0000000000000001', true \
           FROM generate_series(1, 2500) n",
    )
    .await;
    let young = bank.worked(1).await;
    assert_eq!(bank.resource.commit_one_phase(&young, None).await, RegisterAnswer::Committed);
    let hour = std::time::Duration::from_hours(1);
    assert_eq!(bank.resource.forget_markers_older_than(hour).await, Ok(2500));
    assert_eq!(bank.resource.settle(&young).await, RegisterAnswer::Committed);
}

/// [H3, H5] an operation that runs again, after a commit whose answer went astray.
#[tokio::test]
async fn an_operation_executed_again_takes_effect_once() {
    let bank = Bank::open_with_marker().await;
    let resource = bank.restarted().operation("note", |bank, _| {
        Box::pin(async move {
            sqlx::query("INSERT INTO ledger (key) VALUES ((random() * 1e15)::bigint)").execute(bank).await?;
            Ok(())
        })
    });
    let note = Operation { name: "note".into(), payload: [].into() };
    let branch = bank.branch();
    for _ in 0..3 {
        let answer = resource.commit_one_phase(&branch, Some(&note)).await;
        assert_eq!(answer, RegisterAnswer::Committed);
    }
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&bank.outside).await.unwrap();
    assert_eq!(count, 1);
    let unknown = Operation { name: "unknown".into(), payload: [].into() };
    assert!(aborted(&resource.commit_one_phase(&bank.branch(), Some(&unknown)).await));
}

/// [C6] in one phase.
#[tokio::test]
async fn a_failed_or_ended_transaction_is_aborted_in_one_phase_too() {
    let bank = Bank::open_with_marker().await;
    for statement in ["SELECT 1/0", "ROLLBACK", "ROLLBACK AND CHAIN"] {
        let branch = bank.branch();
        let mut work = bank.begin(&branch).await;
        write(&mut work, 1).await;
        sqlx::raw_sql(statement).execute(&mut *work).await.ok();
        testing::hold_unseen(work, 1000);
        let answer = bank.resource.commit_one_phase(&branch, None).await;
        let RegisterAnswer::Aborted(reason) = &answer else { panic!("{statement}: {answer:?}") };
        assert_eq!(reason.kind, AbortKind::LocalFailure, "{statement}: {reason}");
        assert!(!bank.sees(1).await);
        assert!(aborted(&bank.restarted().settle(&branch).await));
    }
}

#[tokio::test]
async fn a_read_only_branch_has_a_register_too() {
    let bank = Bank::open_with_marker().await;
    for closed in [false, true] {
        let branch = bank.branch();
        let read_only = BeginOptions::new().read_only();
        let work = testing::begin(&bank.resource, &branch, read_only).await.unwrap();
        work.enlist().await.unwrap();
        if closed {
            assert!(aborted(&bank.restarted().settle(&branch).await));
        }
        let answer = bank.resource.commit_one_phase(&branch, None).await;
        assert_eq!(aborted(&answer), closed, "{answer:?}");
        assert_eq!(bank.restarted().settle(&branch).await == RegisterAnswer::Committed, !closed);
    }
}

/// [D16] a plain COMMIT obeys `synchronous_commit`, so one phase forces it on, whoever turned it
/// off; a stronger setting stays.
#[tokio::test]
async fn one_phase_commit_is_synchronous_whatever_was_set() {
    let bank = Bank::open_with_marker().await;
    bank.run(
        "CREATE TABLE seen (value text); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO seen VALUES (current_setting(''synchronous_commit'')); RETURN NULL; END'; \
         CREATE CONSTRAINT TRIGGER note AFTER INSERT ON ledger \
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()",
    )
    .await;
    for (key, set, expected) in [
        (1, "SET LOCAL synchronous_commit = off", "on"),
        (2, "SET LOCAL synchronous_commit = local", "on"),
        (3, "SET LOCAL synchronous_commit = remote_apply", "remote_apply"),
    ] {
        let branch = bank.branch();
        let mut work = bank.begin(&branch).await;
        write(&mut work, key).await;
        sqlx::raw_sql(set).execute(&mut *work).await.unwrap();
        work.enlist().await.unwrap();
        let answer = bank.resource.commit_one_phase(&branch, None).await;
        assert_eq!(answer, RegisterAnswer::Committed);
        let seen: Vec<String> =
            sqlx::query_scalar("DELETE FROM seen RETURNING value").fetch_all(&bank.outside).await.unwrap();
        assert_eq!(seen, [expected], "{set}");
    }
}

/// Askers and committers race on many registers: all answers of one register agree, and the
/// data agree with them.
#[tokio::test]
async fn racing_askers_and_committers_agree() {
    let bank = Bank::open_with_marker().await;
    let other: PostgresResource = bank.restarted();
    for key in 0..60 {
        let branch = bank.worked(key).await;
        let (committed, first, second) = tokio::join!(
            bank.resource.commit_one_phase(&branch, None),
            other.settle(&branch),
            other.settle(&branch),
        );
        let last = until("the register is definite", async || {
            let answer = other.settle(&branch).await;
            (answer != RegisterAnswer::Unknown).then_some(answer == RegisterAnswer::Committed)
        })
        .await;
        for answer in [committed, first, second] {
            match answer {
                RegisterAnswer::Committed => assert!(last, "{key}"),
                RegisterAnswer::Aborted(_) => assert!(!last, "{key}"),
                RegisterAnswer::Unknown => {}
                RegisterAnswer::Forgotten => panic!("nothing was forgotten"),
            }
        }
        assert_eq!(bank.sees(key).await, last, "{key}");
    }
}

#[tokio::test]
async fn installing_twice_at_once_is_harmless() {
    let bank = Bank::open().await;
    let install = || PostgresResource::install(&bank.outside);
    let results = tokio::join!(install(), install(), install());
    assert_eq!(results, (Ok(()), Ok(()), Ok(())));
    sqlx::PgConnection::connect(&bank.url).await.unwrap().close().await.unwrap();
}
