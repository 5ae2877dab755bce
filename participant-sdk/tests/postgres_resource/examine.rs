//! What an operator is shown of branches in a real database.

use pactum::resource::{BranchContext, BranchFinding, BranchPresence, BranchQuestion, Resource};
use pactum_core::vote::Evidence;
use sqlx::{Connection as _, PgConnection};

use crate::bank::{Bank, resource, server, until, write, yes};

async fn shown(
    resource: &impl Resource,
    branch: &BranchContext,
    evidence: Option<&Evidence>,
) -> BranchFinding {
    let question = BranchQuestion::new(branch.name.clone(), evidence.cloned());
    let mut found = resource.examine(&[question]).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// A session of that name, and its process id.
async fn session(bank: &Bank, name: &str) -> (PgConnection, i32) {
    let separator = if bank.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}application_name={name}", bank.url);
    let mut session = PgConnection::connect(&url).await.unwrap();
    let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut session).await.unwrap();
    (session, pid)
}

/// Waits until that session waits for a lock.
async fn waits(bank: &Bank, pid: i32) {
    until("the session waits for a lock", async || {
        let waiting: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted AND waitstart IS NOT NULL)",
        )
        .bind(pid)
        .fetch_one(&bank.outside)
        .await
        .unwrap();
        waiting.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_prepared_branch_is_shown_with_its_locks_and_whom_it_keeps_waiting() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    let (other, _) = bank.prepared(2).await;
    let (mut row, row_pid) = session(&bank, "waits-for-row").await;
    let (mut table, table_pid) = session(&bank, "waits-for-table").await;
    let inserting = tokio::spawn(async move { write(&mut row, 1).await });
    waits(&bank, row_pid).await;
    let locking = tokio::spawn(async move {
        sqlx::raw_sql("BEGIN; LOCK TABLE ledger IN SHARE MODE; ROLLBACK").execute(&mut table).await.unwrap();
    });
    waits(&bank, table_pid).await;
    // Something for the branch to grow old by.
    for _ in 0..5 {
        bank.run("SELECT pg_current_xact_id()").await;
    }
    let question = |branch: &BranchContext| BranchQuestion::new(branch.name.clone(), None);
    let found = bank.restarted().examine(&[question(&branch), question(&other)]).await.unwrap();
    let of = |branch: &BranchContext| found.iter().find(|found| found.name == branch.name).unwrap();
    let first = of(&branch);
    assert_eq!(first.presence, BranchPresence::Prepared);
    assert!(first.evidence.as_ref().unwrap().same_execution(&evidence));
    assert!(first.prepared_for.is_some() && first.locks >= 2, "{first:?}");
    assert!(first.pinned_transactions >= 5, "{first:?}");
    let mut blocked: Vec<_> =
        first.blocked.iter().map(|session| (session.pid, session.application.as_str())).collect();
    blocked.sort_unstable_by_key(|(_, application)| *application);
    assert_eq!(blocked, [(row_pid, "waits-for-row"), (table_pid, "waits-for-table")]);
    assert!(first.blocked.iter().all(|session| !session.user.is_empty()), "{first:?}");
    assert_eq!(first.note, "");
    // The other one keeps nobody from its row, but has a lock on the table as well.
    let blocked: Vec<_> = of(&other).blocked.iter().map(|session| session.pid).collect();
    assert_eq!(blocked, [table_pid]);

    for branch in [&branch, &other] {
        bank.by_hand("ROLLBACK", branch).await;
    }
    inserting.await.unwrap();
    locking.await.unwrap();
}

/// Law 8: gone is not enough.
#[tokio::test]
async fn a_branch_that_is_gone_is_shown_as_the_evidence_says_or_as_unknown() {
    let bank = Bank::open().await;
    for (verb, presence) in [("COMMIT", BranchPresence::Committed), ("ROLLBACK", BranchPresence::Aborted)] {
        let (branch, evidence) = bank.prepared(rand::random()).await;
        bank.by_hand(verb, &branch).await;
        let found = shown(&bank.resource, &branch, Some(&evidence)).await;
        assert_eq!((found.presence, found.evidence), (presence, None));
        let found = shown(&bank.resource, &branch, None).await;
        assert_eq!(found.presence, BranchPresence::Unknown);
        assert!(found.note.contains("evidence"), "{found:?}");
        // H6: restored since, as far as the database's history shows.
        let (system, rest) = evidence.anchor.split_once('/').unwrap();
        let void = Evidence::new(evidence.execution.clone(), format!("1{system}/{rest}"));
        let found = shown(&bank.resource, &branch, Some(&void)).await;
        assert_eq!(found.presence, BranchPresence::Unknown);
        assert!(found.note.contains("restored"), "{found:?}");
        let old = Evidence::new("3", evidence.anchor.clone());
        assert_eq!(shown(&bank.resource, &branch, Some(&old)).await.presence, BranchPresence::Unknown);
        let strange = Evidence::new("strange", "strange");
        assert_eq!(shown(&bank.resource, &branch, Some(&strange)).await.presence, BranchPresence::Unknown);
    }
}

#[tokio::test]
async fn work_that_is_not_prepared_is_open_here_and_unknown_elsewhere() {
    let bank = Bank::open().await;
    let branch = bank.worked(1).await;
    assert_eq!(shown(&bank.resource, &branch, None).await.presence, BranchPresence::Open);
    assert_eq!(shown(&bank.restarted(), &branch, None).await.presence, BranchPresence::Unknown);
    // Nor does one database speak for another.
    let (prepared, evidence) = bank.prepared(2).await;
    let elsewhere = Bank::open().await;
    let found = shown(&elsewhere.resource, &prepared, Some(&evidence)).await;
    assert_eq!(found.presence, BranchPresence::Unknown);
    assert!(found.note.contains("another database"), "{found:?}");
}

/// H3
#[tokio::test]
async fn another_execution_than_the_one_asked_for_is_shown_and_said() {
    let bank = Bank::open().await;
    let (branch, first) = bank.prepared(1).await;
    bank.by_hand("COMMIT", &branch).await;
    let mut work = bank.begin(&branch).await;
    write(&mut work, 2).await;
    work.enlist().await.unwrap();
    let second = yes(bank.resource.prepare(&branch, None).await);
    let found = shown(&bank.resource, &branch, Some(&first)).await;
    assert_eq!(found.presence, BranchPresence::Prepared);
    assert!(found.evidence.as_ref().unwrap().same_execution(&second));
    assert!(found.note.contains("another execution") && found.note.contains("was committed"), "{found:?}");
}

#[tokio::test]
async fn what_is_prepared_is_listed_oldest_first_and_page_by_page() {
    let bank = Bank::open().await;
    let mut names = Vec::new();
    for key in 0..4 {
        names.push(bank.prepared(key).await.0.name);
    }
    let sql = "BEGIN; CREATE TABLE other (); PREPARE TRANSACTION 'pactum:testing:2'";
    bank.run(sql).await;
    let all = bank.resource.examine_all(&bank.cluster, 10).await.unwrap();
    assert_eq!(all.findings.iter().map(|found| found.name.clone()).collect::<Vec<_>>(), names);
    assert!(!all.more && all.findings.iter().all(|found| found.locks > 0));
    let first = bank.resource.examine_all(&bank.cluster, 3).await.unwrap();
    assert!(first.more && first.findings.len() == 3);
    let oldest: Vec<_> = first.findings.into_iter().map(|found| (found.name, found.evidence)).collect();
    let known: Vec<_> = all.findings.into_iter().map(|found| (found.name, found.evidence)).collect();
    assert_eq!(oldest.len(), 3);
    for (now, before) in oldest.iter().zip(&known) {
        assert_eq!(now.0, before.0);
        assert!(now.1.as_ref().unwrap().same_execution(before.1.as_ref().unwrap()));
    }
}

/// The rights of the role bound what it sees, and nothing fails for it.
#[tokio::test]
async fn what_the_role_may_not_see_is_said() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    bank.run("REVOKE SELECT ON pg_catalog.pg_locks FROM PUBLIC").await;
    let role = format!("looker_{:08x}", rand::random::<u32>());
    server().psql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).unwrap();
    let (_, address) = bank.url.split_once('@').unwrap();
    let looker = resource(&format!("postgres://{role}:x@{address}"));
    let found = shown(&looker, &branch, Some(&evidence)).await;
    assert_eq!((found.presence, found.locks), (BranchPresence::Prepared, 0));
    assert!(found.note.contains("pg_locks") && found.note.contains("42501"), "{found:?}");
    // The session that was refused goes on to be used.
    assert_eq!(shown(&looker, &branch, None).await.presence, BranchPresence::Prepared);
}

/// H5: the register of a one-branch transaction is read, and not closed.
#[tokio::test]
async fn a_marker_row_is_believed_and_none_proves_nothing() {
    let bank = Bank::open_with_marker().await;
    let ask = async |branch: &BranchContext| {
        let question = BranchQuestion::new(branch.name.clone(), None).with_marker(true);
        bank.resource.examine(&[question]).await.unwrap().remove(0).presence
    };
    let (committed, closed, unheard) = (bank.worked(1).await, bank.branch(), bank.branch());
    assert_eq!(ask(&committed).await, BranchPresence::Open);
    bank.resource.commit_one_phase(&committed, None).await;
    bank.resource.settle(&closed).await;
    assert_eq!(ask(&committed).await, BranchPresence::Committed);
    assert_eq!(ask(&closed).await, BranchPresence::Aborted);
    assert_eq!(ask(&unheard).await, BranchPresence::Unknown);
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM pactum_participant.marker")
        .fetch_one(&bank.outside)
        .await
        .unwrap();
    assert_eq!(rows, 2, "a question closes nothing");
}

/// A question takes none of the connections that end branches.
#[tokio::test]
async fn branches_are_looked_at_on_connections_of_their_own() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    let separator = if bank.url.contains('?') { '&' } else { '?' };
    let looked = resource(&format!("{}{separator}application_name=looks", bank.url)).ending_connections(1);
    assert_eq!(shown(&looked, &branch, None).await.presence, BranchPresence::Prepared);
    let limits: Vec<String> = sqlx::query_scalar(
        "SELECT query FROM pg_stat_activity WHERE application_name = 'looks' AND datname = current_database()",
    )
    .fetch_all(&bank.outside)
    .await
    .unwrap();
    assert_eq!(limits.len(), 1, "{limits:?}");
    looked.commit(&branch, &evidence, Some(&evidence)).await.unwrap();
    let now: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'looks' AND datname = current_database()",
    )
    .fetch_one(&bank.outside)
    .await
    .unwrap();
    assert_eq!(now, 2, "one looks, and one ends");
}
