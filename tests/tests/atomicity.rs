//! All or nothing over real PostgreSQL databases, without a crash: the ordinary day, and every
//! way in which a branch may refuse.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::time::Duration;

use futures::future::join_all;
use pactum::{AbortKind, Outcome, Pactum};
use pactum_tests::bank::{APPLY, Bank, Entry, OPENING, Teller};
use pactum_tests::cluster::Cluster;
use pactum_tests::history::{Told, check, fresh_key, transfer};
use pactum_tests::postgres;
use sqlx::{Connection, Row};

/// The kind of the reason that an outcome gives, with the whole outcome for the message.
#[track_caller]
fn aborted_as(outcome: &Outcome, kind: AbortKind) -> String {
    let reason = outcome.abort_reason().unwrap_or_else(|| panic!("it is aborted: {outcome:?}"));
    assert_eq!(reason.kind, kind, "{outcome:?}");
    reason.message.to_string()
}

/// Nothing of the key is in the books, and nothing is prepared.
async fn nothing_happened(banks: &[&Bank], key: &str) {
    for bank in banks {
        assert!(bank.books.ledger().await.unwrap().iter().all(|entry| entry.key != key));
        assert_eq!(bank.books.prepared().await.unwrap(), [""; 0]);
    }
}

/// Submits a transfer of 10 with the named operation at the second bank.
async fn submit(pactum: &Pactum, key: &str, second: &str) -> Outcome {
    pactum
        .submit()
        .name("transfer")
        .operation("bank-a", APPLY, Entry::new(key, "1", -10).payload())
        .operation("bank-b", second, Entry::new(key, "1", 10).payload())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interactive_transfer_commits_over_two_databases_of_one_server() {
    // AC4: no failure and all yes, so commit.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let done = transfer(&pactum, &a, &b, "1", 25).await;
    assert_eq!(done.told, Told::Committed, "{done:?}");
    // The default answer comes when every branch has finished: callers read their own writes.
    assert_eq!(
        done.outcome,
        Some(Outcome::Committed { read_only: false, unfinished: Vec::new(), heuristic: None })
    );
    assert_eq!(a.books.balance("1").await.unwrap(), OPENING - 25);
    assert_eq!(b.books.balance("1").await.unwrap(), OPENING + 25);
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_shapes_commit_over_two_servers() {
    let second = postgres::own(&[]);
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank_on(&second, "bank-b", false).await);
    let pactum = cluster.application().await;
    let done = transfer(&pactum, &a, &b, "2", 40).await;
    assert_eq!(done.told, Told::Committed, "{done:?}");
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
    assert!(submit(&pactum, &fresh_key(), APPLY).await.is_committed());
    assert_eq!(b.books.total().await.unwrap(), 10 * OPENING + 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_shot_transfer_commits_over_two_databases() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let key = fresh_key();
    assert!(submit(&pactum, &key, APPLY).await.is_committed());
    assert_eq!(a.books.ledger().await.unwrap(), [Entry::new(&key, "1", -10)]);
    assert_eq!(b.books.ledger().await.unwrap(), [Entry::new(&key, "1", 10)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_decision_can_be_read_from_elsewhere_when_commit_is_told() {
    // I1, law 2: durable before anybody hears of it.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let other = pactum_coordinator::open_log(&cluster.log_url).await.unwrap();
    let tx = pactum.begin().await.unwrap();
    let (id, key) = (tx.id(), fresh_key());
    a.apply(tx.context(), &Entry::new(&key, "1", -1)).await.unwrap();
    b.apply(tx.context(), &Entry::new(&key, "1", 1)).await.unwrap();
    assert!(tx.commit().wait_decision().await.unwrap().is_committed());
    let answers = other.look_up(&[id.gid]).await.unwrap();
    let [pactum_core::outcome::LookUpResult::Stands(record)] = &answers[..] else {
        panic!("the record stands: {answers:?}");
    };
    assert_eq!((record.id, record.branches.len()), (id, 2));
    assert!(record.branches.iter().all(|decided| !decided.evidence.execution.is_empty()), "{record:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_a_vote_aborts_every_branch() {
    // A handler that refuses, one that panics, and a constraint that fails only when the branch is
    // prepared: each is a no vote, and the other bank's yes comes to nothing.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    for (operation, says) in [("refuse", "closed today"), ("panic", "fainted"), ("odd", "odd")] {
        let key = fresh_key();
        let outcome = submit(&pactum, &key, operation).await;
        let message =
            outcome.abort_reason().unwrap_or_else(|| panic!("{operation}: {outcome:?}")).message.clone();
        assert!(message.contains(says), "{operation}: {message}");
        nothing_happened(&[&a, &b], &key).await;
    }
    // The same constraint in an interactive transaction.
    let (tx, key) = (pactum.begin().await.unwrap(), fresh_key());
    a.apply(tx.context(), &Entry::new(&key, "1", -1)).await.unwrap();
    let mut branch = b.work(tx.context(), &Entry::new(&key, "1", 1)).await.unwrap();
    sqlx::query("insert into odd values (1)").execute(&mut *branch).await.unwrap();
    branch.enlist().await.unwrap();
    let outcome = tx.commit().await.unwrap();
    assert!(!outcome.is_committed(), "{outcome:?}");
    nothing_happened(&[&a, &b], &key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_local_statement_is_a_no_although_prepare_would_answer_success() {
    // C6. One-shot: the handler swallows the error and returns well.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let key = fresh_key();
    let outcome = submit(&pactum, &key, "swallow").await;
    aborted_as(&outcome, AbortKind::LocalFailure);
    nothing_happened(&[&a, &b], &key).await;
    // Interactive: it is found out no later than at enlist, and commit then finds nobody to prepare.
    let (tx, key) = (pactum.begin().await.unwrap(), fresh_key());
    a.apply(tx.context(), &Entry::new(&key, "1", -1)).await.unwrap();
    let mut branch = b.work(tx.context(), &Entry::new(&key, "1", 1)).await.unwrap();
    sqlx::query("select 1 / 0").execute(&mut *branch).await.unwrap_err();
    branch.enlist().await.unwrap_err();
    tx.abort().await.unwrap();
    nothing_happened(&[&b], &key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_own_nested_commit_is_a_savepoint() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    for commits in [true, false] {
        let (tx, key) = (pactum.begin().await.unwrap(), fresh_key());
        a.apply(tx.context(), &Entry::new(&key, "1", -1)).await.unwrap();
        let mut branch = b.resource.begin(tx.context()).await.unwrap();
        let mut nested = branch.begin().await.unwrap();
        pactum_tests::bank::apply(&mut nested, &Entry::new(&key, "1", 1)).await.unwrap();
        nested.commit().await.unwrap();
        assert!(b.books.ledger().await.unwrap().iter().all(|entry| entry.key != key), "not yet");
        branch.enlist().await.unwrap();
        if commits {
            assert!(tx.commit().await.unwrap().is_committed());
            assert!(b.books.ledger().await.unwrap().contains(&Entry::new(&key, "1", 1)));
        } else {
            tx.abort().await.unwrap();
            pactum_tests::wait::until_ok("the end of the aborted branches", || async {
                let prepared = b.books.prepared().await.unwrap();
                if prepared.is_empty() { Ok(()) } else { Err(format!("{prepared:?}")) }
            })
            .await;
            nothing_happened(&[&b], &key).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_that_its_user_ended_himself_cannot_take_part() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    for statement in ["commit", "rollback", "commit; begin"] {
        let (tx, key) = (pactum.begin().await.unwrap(), fresh_key());
        a.apply(tx.context(), &Entry::new(&key, "1", -1)).await.unwrap();
        let mut branch = b.resource.begin(tx.context()).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut *branch).await.unwrap();
        branch.enlist().await.unwrap_err();
        tx.abort().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_branch_takes_no_part_in_phase_two() {
    // C9, and H9 for the transaction in which every branch is one.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let (tx, key) = (pactum.begin().await.unwrap(), fresh_key());
    let id = tx.id();
    assert_eq!(a.audit(tx.context()).await.unwrap(), 10 * OPENING);
    b.apply(tx.context(), &Entry::new(&key, "1", 1)).await.unwrap();
    let outcome = tx.commit().await.unwrap();
    assert!(matches!(outcome, Outcome::Committed { read_only: false, .. }), "{outcome:?}");
    let log = pactum_coordinator::open_log(&cluster.log_url).await.unwrap();
    let answers = log.look_up(&[id.gid]).await.unwrap();
    let [pactum_core::outcome::LookUpResult::Stands(record)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(record.branches.len(), 1, "only the branch that wrote is decided: {record:?}");

    let tx = pactum.begin().await.unwrap();
    let id = tx.id();
    a.audit(tx.context()).await.unwrap();
    b.audit(tx.context()).await.unwrap();
    let outcome = tx.commit().await.unwrap();
    assert!(matches!(outcome, Outcome::Committed { read_only: true, .. }), "{outcome:?}");
    let answers = log.look_up(&[id.gid]).await.unwrap();
    assert!(matches!(answers[..], [pactum_core::outcome::LookUpResult::NoRecord]), "no row: {answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_that_writes_through_a_foreign_table_is_not_taken_for_read_only() {
    // C9, H7: the write leaves this database's xid null. Were the branch voted read-only, it would
    // be committed at its vote, and stay so although the other branch says no. PostgreSQL cannot
    // prepare such a branch, so the transaction aborts and the foreign row is not there.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let far = postgres::database(postgres::shared(), "far");
    let far_books = pactum_tests::bank::Books::create(&far).await;
    let (password, database) =
        (far.split([':', '@']).nth(2).unwrap().to_owned(), far.rsplit('/').next().unwrap().to_owned());
    let setup = format!(
        "create extension postgres_fdw;
         create server far foreign data wrapper postgres_fdw
             options (host '127.0.0.1', port '{}', dbname '{database}');
         create user mapping for current_user server far options (user 'postgres', password '{password}');
         create foreign table far_ledger (key text, account text, amount bigint)
             server far options (table_name 'ledger');",
        postgres::shared().port()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(setup)).execute(b.books.pool()).await.unwrap();
    // Attached only now, so that the check for foreign servers sees it.
    let url = postgres::shared().url(
        &sqlx::query("select current_database()")
            .fetch_one(b.books.pool())
            .await
            .unwrap()
            .get::<String, _>(0),
    );
    b.stop().await;
    let b = Bank::start("bank-b", &url, &cluster.coordinator.public_url(), false).await;
    let pactum = cluster.application().await;
    let (tx, key) = (pactum.begin().await.unwrap(), fresh_key());
    a.apply(tx.context(), &Entry::new(&key, "1", -1)).await.unwrap();
    let mut branch = b.resource.begin(tx.context()).await.unwrap();
    sqlx::query("insert into far_ledger values ($1, '1', 1)").bind(&key).execute(&mut *branch).await.unwrap();
    branch.enlist().await.unwrap();
    let outcome = tx.commit().await.unwrap();
    assert!(!outcome.is_committed(), "{outcome:?}");
    assert_eq!(far_books.ledger().await.unwrap(), []);
    nothing_happened(&[&a, &b], &key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_prepared_is_a_no_with_its_reason() {
    // D13: temporary tables, LISTEN, cursors WITH HOLD, and NOTIFY beside a write.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    for statement in [
        "create temp table scratch (n int)",
        "listen somebody",
        "notify somebody",
        "declare held cursor with hold for select 1",
    ] {
        let (tx, key) = (pactum.begin().await.unwrap(), fresh_key());
        a.apply(tx.context(), &Entry::new(&key, "1", -1)).await.unwrap();
        let mut branch = b.work(tx.context(), &Entry::new(&key, "1", 1)).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut *branch).await.unwrap();
        branch.enlist().await.unwrap();
        let outcome = tx.commit().await.unwrap();
        let reason = outcome.abort_reason().unwrap_or_else(|| panic!("{statement}: {outcome:?}"));
        assert!(reason.message.contains("PREPARE"), "{statement}: {reason:?}");
        nothing_happened(&[&a, &b], &key).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_prepared_transactions_are_a_no_with_the_settings_name() {
    // D10: the setting is reached; the branch that found no room is rolled back.
    let small = postgres::own(&[("max_prepared_transactions", "1")]);
    let cluster = Cluster::start().await;
    let (a, b) =
        (cluster.bank_on(&small, "bank-a", false).await, cluster.bank_on(&small, "bank-b", false).await);
    let pactum = cluster.application().await;
    let done = transfer(&pactum, &a, &b, "1", 5).await;
    assert_eq!(done.told, Told::Aborted, "{done:?}");
    let reason = done.outcome.as_ref().and_then(Outcome::abort_reason).unwrap().message.clone();
    assert!(reason.contains("prepared transactions"), "{reason}");
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_set_commits_and_an_unattached_resource_aborts() {
    let cluster = Cluster::start().await;
    let a = cluster.bank("bank-a").await;
    let pactum = cluster.application().await;
    assert!(pactum.begin().await.unwrap().commit().await.unwrap().is_committed());
    let key = fresh_key();
    let outcome = pactum
        .submit()
        .operation("bank-a", APPLY, Entry::new(&key, "1", -10).payload())
        .operation("bank-nowhere", APPLY, Entry::new(&key, "1", 10).payload())
        .timeout(Duration::from_secs(3))
        .await
        .unwrap();
    aborted_as(&outcome, AbortKind::NotAttached);
    nothing_happened(&[&a], &key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_across_databases_ends_in_an_abort_with_that_reason() {
    // H12, D15: no database sees it; lock_timeout comes from the time left.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let begin = || async { pactum.begin().timeout(Duration::from_secs(6)).await.unwrap() };
    let (first, second) = (begin().await, begin().await);
    let (k1, k2) = (fresh_key(), fresh_key());
    a.apply(first.context(), &Entry::new(&k1, "1", -1)).await.unwrap();
    b.apply(second.context(), &Entry::new(&k2, "1", -1)).await.unwrap();
    // Each now wants what the other holds.
    let (at_b, at_a) = (Entry::new(&k1, "1", 1), Entry::new(&k2, "1", 1));
    let (one, two) = tokio::join!(b.apply(first.context(), &at_b), a.apply(second.context(), &at_a));
    let refused = [&one, &two].into_iter().filter_map(|result| result.as_ref().err()).collect::<Vec<_>>();
    assert!(!refused.is_empty(), "somebody must give way");
    assert!(refused.iter().any(|error| error.contains("lock timeout")), "{refused:?}");
    drop((first.abort().await, second.abort().await));
    check(&pactum, &[&a.books, &b.books], Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_transfers_at_once_keep_every_invariant() {
    // AC1, AC3, I4, I6, I7; some are refused for lack of funds, so that both outcomes occur.
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let (pactum, a, b) = (&pactum, &a, &b);
    let tellers = (0..8_i64).map(|teller| async move {
        let mut done = Vec::new();
        for round in 0..12_i64 {
            let account = ((teller + round) % 10).to_string();
            let amount = if round % 6 == 5 { 100_000 } else { 1 + teller };
            // Always from a to b: whoever locks in one order cannot deadlock.
            let amount = if round % 2 == 0 || amount > 1_000 { amount } else { -amount };
            done.push(transfer(pactum, a, b, &account, amount).await);
        }
        done
    });
    let transfers: Vec<_> = join_all(tellers).await.into_iter().flatten().collect();
    let problems: Vec<_> = transfers.iter().filter(|done| done.told == Told::Unknown).collect();
    assert!(problems.is_empty(), "nothing failed, so every answer is definite: {problems:?}");
    let (committed, aborted) = check(pactum, &[&a.books, &b.books], transfers).await;
    assert_eq!((committed, aborted), (80, 16));
}
