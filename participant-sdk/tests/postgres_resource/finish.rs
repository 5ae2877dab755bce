//! Phase 2 where the branch is not as it was left.

use pactum::HeuristicOutcome;
use pactum::resource::Resource;
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::Evidence;
use pactum_postgres_server::PostgresServer;

use crate::bank::{Bank, resource, server, until};

const HAZARD: BranchOutcome = BranchOutcome::Heuristic(HeuristicOutcome::Hazard);
const ABORTED: BranchOutcome = BranchOutcome::Heuristic(HeuristicOutcome::Aborted);

fn with_xid(evidence: &Evidence, xid: u64) -> Evidence {
    Evidence::new(xid.to_string(), &*evidence.anchor)
}

/// Waits until a session waits for a standby; cancels the wait if told to.
async fn a_session_waits(bank: &Bank, cancel: bool) {
    until("a session waits for the standby", async || {
        sqlx::query_scalar::<_, bool>(
            "SELECT CASE WHEN $1 THEN pg_cancel_backend(pid) ELSE true END \
               FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
        )
        .bind(cancel)
        .fetch_optional(&bank.outside)
        .await
        .unwrap()
    })
    .await;
}

/// Has every commit wait for a standby that is not there. The setting is in force only once the
/// checkpointer has seen it, so commits are tried until one waits.
async fn miss_a_standby(server: &PostgresServer, bank: &Bank) {
    server.set("synchronous_standby_names", "absent").unwrap();
    loop {
        let commit = bank.run("SELECT pg_logical_emit_message(true, 'test', '')");
        tokio::pin!(commit);
        tokio::select! {
            () = &mut commit => {}
            () = a_session_waits(bank, true) => {
                commit.await;
                return;
            }
        }
    }
}

/// [C4, D3]
#[tokio::test]
async fn gone_and_committed_is_committed() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    bank.by_hand("COMMIT", &branch).await;
    for prepared in [Some(&evidence), None] {
        let outcome = bank.resource.commit(&branch, &evidence, prepared).await;
        assert_eq!(outcome, Ok(BranchOutcome::Committed));
    }
    let outcome = bank.resource.abort(&branch, Some(&evidence)).await;
    assert_eq!(outcome, Ok(BranchOutcome::Heuristic(HeuristicOutcome::Committed)));
}

/// [D3, D8]
#[tokio::test]
async fn gone_and_rolled_back_by_hand_is_a_heuristic_abort() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    bank.by_hand("ROLLBACK", &branch).await;
    for prepared in [Some(&evidence), None] {
        let outcome = bank.resource.commit(&branch, &evidence, prepared).await;
        assert_eq!(outcome, Ok(ABORTED));
    }
    let outcome = bank.resource.abort(&branch, Some(&evidence)).await;
    assert_eq!(outcome, Ok(BranchOutcome::Aborted));
}

/// [D3] the branch is prepared, but in another database of the same server.
#[tokio::test]
async fn gone_and_in_progress_is_no_outcome() {
    let (bank, elsewhere) = (Bank::open().await, Bank::open().await);
    let (branch, evidence) = bank.prepared(1).await;
    let error = elsewhere.resource.commit(&branch, &evidence, None).await.unwrap_err();
    assert!(error.to_string().contains("another database"), "{error}");
    elsewhere.resource.abort(&branch, Some(&evidence)).await.unwrap_err();
    // [D11] By name the server itself says so.
    let error = elsewhere.resource.commit(&branch, &evidence, Some(&evidence)).await.unwrap_err();
    assert!(error.to_string().contains("another database"), "{error}");
    let outcome = bank.resource.commit(&branch, &evidence, None).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
}

/// [D3, E7]
#[tokio::test]
async fn gone_and_too_old_or_never_assigned_is_a_hazard() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    bank.by_hand("ROLLBACK", &branch).await;
    for xid in [3, u64::MAX >> 8] {
        let outcome = bank.resource.commit(&branch, &with_xid(&evidence, xid), None).await;
        assert_eq!(outcome, Ok(HAZARD), "{xid}");
    }
}

#[tokio::test]
async fn evidence_that_cannot_be_read_ends_nothing() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    let strange = Evidence::new("strange", "strange");
    bank.resource.commit(&branch, &strange, None).await.unwrap_err();
    bank.resource.commit(&branch, &strange, Some(&evidence)).await.unwrap_err();
    assert_eq!(bank.prepared_count().await, 1);
}

/// [H3] both ways, with evidence from the server: the decided execution aborted, so the other
/// one stays; the decided one committed, so the other one goes.
#[tokio::test]
async fn another_execution_goes_only_once_the_decided_one_is_known_committed() {
    let bank = Bank::open().await;
    for (verb, expected, left) in [("ROLLBACK", ABORTED, 1), ("COMMIT", BranchOutcome::Committed, 0)] {
        let key = rand::random();
        let (branch, decided) = bank.prepared(key).await;
        bank.by_hand(verb, &branch).await;
        let mut work = bank.begin(&branch).await;
        crate::bank::write(&mut work, key ^ 1).await;
        work.enlist().await.unwrap();
        let other = crate::bank::yes(bank.resource.prepare(&branch, None).await);
        for prepared in [Some(&other), None] {
            let outcome = bank.resource.commit(&branch, &decided, prepared).await;
            assert_eq!(outcome.as_ref(), Ok(&expected));
            assert_eq!(bank.prepared_count().await, left);
        }
        assert!(!bank.sees(key ^ 1).await);
        bank.resource.abort(&branch, Some(&other)).await.unwrap();
    }
}

/// [D4] another session is committing it and waits for a standby that is not there.
#[tokio::test]
async fn a_busy_branch_is_waited_for() {
    let server = PostgresServer::start().unwrap();
    let bank = Bank::open_on(&server).await;
    let (branch, evidence) = bank.prepared(1).await;
    miss_a_standby(&server, &bank).await;
    let by_hand = bank.by_hand("COMMIT", &branch);
    let asking = async {
        a_session_waits(&bank, false).await;
        for prepared in [Some(&evidence), None] {
            let error = bank.resource.commit(&branch, &evidence, prepared).await.unwrap_err();
            assert!(error.to_string().contains("55000"), "{error}");
            let error = bank.resource.abort(&branch, prepared).await.unwrap_err();
            assert!(error.to_string().contains("55000"), "{error}");
        }
        for commit in [true, false] {
            let error = bank.resource.overrule(&branch, &evidence, commit).await.unwrap_err();
            assert!(error.to_string().contains("nothing was done"), "{error}");
            assert!(error.to_string().contains("55000"), "{error}");
        }
        server.set("synchronous_standby_names", "").unwrap();
    };
    tokio::join!(by_hand, asking);
    let outcome = bank.resource.commit(&branch, &evidence, None).await;
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
}

/// [D4, H8] a commit found by evidence may be visible and not replicated: somebody cancelled its
/// wait for the standby. It is acknowledged only once it cannot be lost.
#[tokio::test]
async fn a_commit_found_by_evidence_is_acknowledged_only_once_replicated() {
    let server = PostgresServer::start().unwrap();
    let bank = Bank::open_on(&server).await;
    let (branch, evidence) = bank.prepared(1).await;
    miss_a_standby(&server, &bank).await;
    tokio::join!(bank.by_hand("COMMIT", &branch), a_session_waits(&bank, true));
    assert!(bank.sees(1).await, "the premise of this test");
    let replicating = async {
        a_session_waits(&bank, false).await;
        server.set("synchronous_standby_names", "").unwrap();
    };
    let (outcome, ()) = tokio::join!(bank.resource.commit(&branch, &evidence, None), replicating);
    assert_eq!(outcome, Ok(BranchOutcome::Committed));
}

/// [D11]
#[tokio::test]
async fn the_wrong_role_is_told_what_to_do() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    let role = format!("other_{:08x}", rand::random::<u32>());
    server().psql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).unwrap();
    let (_, address) = bank.url.split_once('@').unwrap();
    let other = resource(&format!("postgres://{role}:x@{address}"));
    for error in [
        other.commit(&branch, &evidence, Some(&evidence)).await.unwrap_err(),
        other.abort(&branch, None).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("42501"), "{error}");
        assert!(error.to_string().contains("connect as that role"), "{error}");
    }
    assert_eq!(bank.prepared_count().await, 1);
}

/// A scan lists only names in the very spelling that this cluster writes.
#[tokio::test]
async fn names_of_others_are_not_listed() {
    let bank = Bank::open().await;
    let (ours, evidence) = bank.prepared(1).await;
    for gid in ["by hand", "pactum:test:", "pactum:testing:1", "pactum:test:x:y:z"] {
        let sql = format!("BEGIN; CREATE TABLE \"{gid}\" (); PREPARE TRANSACTION '{gid}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&bank.outside).await.unwrap();
    }
    let found = bank.resource.recover(&bank.cluster).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].name, ours.name);
    assert!(found[0].evidence.same_execution(&evidence));
    assert_eq!(bank.prepared_count().await, 5);
}

/// However many branches are decided at once, no more connections are opened than were allowed, and every
/// branch has its turn.
#[tokio::test]
async fn branches_are_ended_on_no_more_connections_than_allowed() {
    let bank = Bank::open().await;
    let mut prepared = Vec::new();
    for key in 0..24 {
        prepared.push(bank.prepared(key).await);
    }
    let marked =
        format!("{}{}application_name=few", bank.url, if bank.url.contains('?') { '&' } else { '?' });
    let few = resource(&marked).ending_connections(2);
    let commits = prepared.iter().map(|(branch, evidence)| few.commit(branch, evidence, Some(evidence)));
    for outcome in futures::future::join_all(commits).await {
        assert_eq!(outcome, Ok(BranchOutcome::Committed));
    }
    let opened: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'few'")
            .fetch_one(&bank.outside)
            .await
            .unwrap();
    assert!((1..=2).contains(&opened), "{opened} connections");
}

/// Whoever looks or lists takes his turn with those who end branches: one connection is enough for all of them.
#[tokio::test]
async fn a_recovery_needs_no_more_than_one_connection() {
    let bank = Bank::open().await;
    let mut prepared = Vec::new();
    for key in 0..5 {
        prepared.push(bank.prepared(key).await);
    }
    let restarted = bank.restarted().ending_connections(1);
    let commits = prepared.iter().map(|(branch, evidence)| restarted.commit(branch, evidence, None));
    let (outcomes, listed, listed_again) = tokio::join!(
        futures::future::join_all(commits),
        restarted.recover(&bank.cluster),
        restarted.recover(&bank.cluster),
    );
    for outcome in outcomes {
        assert_eq!(outcome, Ok(BranchOutcome::Committed));
    }
    assert!(listed.is_ok() && listed_again.is_ok(), "{listed:?}, {listed_again:?}");
    assert_eq!(restarted.recover(&bank.cluster).await, Ok(Vec::new()));
}

/// Thousands that are ended at once after an outage, by a process that remembers none of them, share their
/// look-ups: each reads all that is prepared, and one for each branch would grow with their square.
#[tokio::test]
async fn branches_without_memory_share_their_look_ups() {
    const BRANCHES: i64 = 60;
    let settings =
        [("max_prepared_transactions", "100"), ("log_statement", "all"), ("logging_collector", "off")];
    let server = PostgresServer::start_with(&settings).unwrap();
    let bank = Bank::open_on(&server).await;
    let mut prepared = Vec::new();
    for key in 0..BRANCHES {
        prepared.push(bank.prepared(key).await);
    }
    let look_ups = || {
        let log = std::fs::read_to_string(server.log_path()).unwrap();
        log.lines().filter(|line| line.contains("FROM pg_catalog.pg_prepared_xacts JOIN")).count()
    };
    let before = look_ups();
    let restarted = bank.restarted();
    let commits = prepared.iter().map(|(branch, evidence)| restarted.commit(branch, evidence, None));
    for outcome in futures::future::join_all(commits).await {
        assert_eq!(outcome, Ok(BranchOutcome::Committed));
    }
    assert_eq!(bank.prepared_count().await, 0);
    let shared = look_ups() - before;
    assert!((1..=4).contains(&shared), "{shared} look-ups for {BRANCHES} branches");
}
