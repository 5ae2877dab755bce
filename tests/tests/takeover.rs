//! Several coordinators on one log, and what they do when one of them is gone, stopped, or back.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::time::Duration;

use pactum::Pactum;
use pactum::participant::Participant;
use pactum_coordinator::decision_log::ListPage;
use pactum_proto::v1;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use pactum_tests::bank::{self, APPLY, Books, Entry, Teller};
use pactum_tests::cluster::Cluster;
use pactum_tests::history::{TIMEOUT, Told, Transfer, check, definite_outcome, fresh_key, transfer};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, Role, coordinator};
use pactum_tests::wait::eventually;

/// A bank that knows several coordinators.
async fn bank(name: &str, coordinators: &[&Role], at: Option<At>) -> BankProcess {
    let url = postgres::database(postgres::shared(), name);
    Books::create(&url).await;
    let coordinators: Vec<String> = coordinators.iter().map(|c| c.url()).collect();
    BankProcess::start_on(name, &url, &url, &coordinators.join(","), false, at).await
}

/// An application whose transactions all belong to this coordinator, whatever others there are.
async fn at_no_other(owner: &Role) -> Pactum {
    Pactum::builder([owner.url()]).discovery(false).connect().await.unwrap()
}

async fn prepared(books: &Books) -> Option<usize> {
    Some(books.prepared().await.ok()?.len())
}

async fn entries(books: &Books) -> Option<usize> {
    Some(books.ledger().await.ok()?.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_a_coordinator_killed_in_the_fan_out_of_an_abort_owes_nothing() {
    // Two banks promise, or are about to; the third refuses; the coordinator dies as it tells the
    // first of them. Nothing was written, and the inquiries of those that were not told close it.
    let log = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log, Some(At::Kill("decision-sent", 1))).await;
    let banks = [bank("bank-a", &[&c], None).await, bank("bank-b", &[&c], None).await];
    let refusing = bank("bank-c", &[&c], None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let key = fresh_key();
    let payload = |amount| Entry::new(&key, "1", amount).payload();
    let submit = pactum
        .submit()
        .operation("bank-a", APPLY, payload(-5))
        .operation("bank-b", APPLY, payload(5))
        .operation("bank-c", "refuse", payload(0))
        .timeout(TIMEOUT);
    let dying = async {
        c.died().await;
        let log = pactum_coordinator::open_log(&log).await.unwrap();
        let stored = log.list(&ListPage { limit: 10, ..ListPage::default() }).await.unwrap();
        assert!(stored.is_empty(), "an abort is presumed, not written: {stored:?}");
        c.restart(None).await;
    };
    let (answer, ()) = futures::join!(async { submit.await }, dying);
    assert!(!answer.is_ok_and(|outcome| outcome.is_committed()));
    for books in banks.iter().chain([&refusing]).map(Teller::books) {
        eventually("the end of every branch", || async { (prepared(books).await? == 0).then_some(()) }).await;
        assert_eq!(books.ledger().await.unwrap(), []);
    }
    let next = eventually("a transfer afterwards", || async {
        let next = transfer(&pactum, &banks[0], &banks[1], "1", 5).await;
        (next.told == Told::Committed).then_some(next)
    })
    .await;
    check(&pactum, &[banks[0].books(), banks[1].books()], vec![next]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_a12_a_decision_of_a_stopped_owner_is_driven_by_another_and_again_by_itself() {
    // The owner is stopped right after its decision; another one ends it and finishes the branches;
    // the owner wakes up and delivers once more. One decision, one effect, one answer.
    let log = postgres::database(postgres::shared(), "log");
    let owner = coordinator(&log, Some(At::Pause("decision-durable", 1))).await;
    let other = coordinator(&log, None).await;
    let (a, b) =
        (bank("bank-a", &[&owner, &other], None).await, bank("bank-b", &[&owner, &other], None).await);
    let pactum = at_no_other(&owner).await;
    let moving = transfer(&pactum, &a, &b, "1", 5);
    let sleeping = async {
        owner.paused().await;
        eventually("the other one finishing it", || async {
            let (a, b) = (entries(&a.books).await?, entries(&b.books).await?);
            (a == 1 && b == 1).then_some(())
        })
        .await;
        owner.resume();
    };
    let (done, ()) = futures::join!(moving, sleeping);
    assert_ne!(done.told, Told::Aborted, "{done:?}");
    let id = done.id.unwrap();
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
    let log = pactum_coordinator::open_log(&log).await.unwrap();
    let stored = log.list(&ListPage { limit: 10, ..ListPage::default() }).await.unwrap();
    let [one] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!(one.id, id, "the record is its owner's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h4_a_commit_that_reaches_another_coordinator_is_a_look_up() {
    // The owner has both votes and has proposed nothing. Whoever else is asked to commit neither
    // prepares nor proposes commit: it waits, and in the end closes.
    let log = postgres::database(postgres::shared(), "log");
    let owner = coordinator(&log, Some(At::Pause("vote-received", 2))).await;
    let other = coordinator(&log, None).await;
    let (a, b) =
        (bank("bank-a", &[&owner, &other], None).await, bank("bank-b", &[&owner, &other], None).await);
    let pactum = at_no_other(&owner).await;
    let key = fresh_key();
    let entries = vec![(0, Entry::new(&key, "1", -9)), (1, Entry::new(&key, "1", 9))];
    let tx = pactum.begin().timeout(TIMEOUT).await.unwrap();
    let (id, context) = (tx.id(), tx.context().clone());
    a.apply(&context, &entries[0].1).await.unwrap();
    b.apply(&context, &entries[1].1).await.unwrap();
    let branches = context.enlisted();
    std::mem::forget(tx); // dropping it would ask for an abort
    let request = v1::CommitRequest {
        id: Some(id.into()),
        branches: branches.iter().cloned().map(Into::into).collect(),
        ..v1::CommitRequest::default()
    };
    let mut first = TransactionsServiceClient::connect(owner.url()).await.unwrap();
    let asked = request.clone();
    let call = tokio::spawn(async move { first.commit(asked).await });
    owner.paused().await;
    let mut second = TransactionsServiceClient::connect(other.url()).await.unwrap();
    let state = eventually("a definite answer of the other one", || async {
        let mut second = second.clone();
        let state = second.commit(request.clone()).await.ok()?.into_inner().outcome?.state();
        assert_ne!(state, v1::OutcomeState::Committed, "only the owner proposes commit");
        (state == v1::OutcomeState::Aborted).then_some(state)
    })
    .await;
    assert_eq!(state, v1::OutcomeState::Aborted);
    owner.resume();
    if let Ok(answer) = call.await.unwrap() {
        assert_ne!(answer.into_inner().outcome.unwrap().state(), v1::OutcomeState::Committed);
    }
    let state = second.commit(request).await.unwrap().into_inner().outcome.unwrap().state();
    assert_eq!(state, v1::OutcomeState::Aborted, "and so for ever");
    let told = Told::Unknown;
    let done = Transfer { key, id: Some(id), branches, entries, told, outcome: None, problem: String::new() };
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_a_scan_that_meets_branches_in_flight_aborts_none_of_them() {
    // A second instance of one bank looks all the time for what is prepared, and asks about it, while
    // the first one's votes are on their way. Their owner lives: they wait for it (AC4).
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let options = (*b.books.pool().connect_options()).clone();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(4).connect_lazy_with(options);
    let scanning = Participant::builder([cluster.coordinator.public_url()])
        .resource(pactum::resource::PostgresResource::new("bank-b", pool).unwrap())
        .scan_interval(Duration::from_millis(5))
        .start()
        .await
        .unwrap();
    scanning.attached().await;
    let pactum = cluster.application().await;
    let mut transfers = Vec::new();
    for _ in 0..5 {
        let moving = (0..8).map(|account: i64| {
            let (pactum, a, b) = (&pactum, &a, &b);
            async move { transfer(pactum, a, b, &account.to_string(), 1).await }
        });
        transfers.extend(futures::future::join_all(moving).await);
    }
    assert!(transfers.iter().all(|done| done.told == Told::Committed), "{transfers:?}");
    assert_eq!(check(&pactum, &[&a.books, &b.books], transfers).await, (40, 0));
    assert_eq!(scanning.violations(), 0);
    scanning.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f6_one_dead_participant_delays_the_recovery_of_no_other() {
    let log = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log, Some(At::Kill("decision-durable", 2))).await;
    let (a, d) = (bank("bank-a", &[&c], None).await, bank("bank-d", &[&c], None).await);
    let b = bank("bank-b", &[&c], Some(At::Pause("decision-received", 1))).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    // The first waits for a bank that will not come back for long; the second is decided, no more.
    let first = transfer(&pactum, &a, &b, "1", 5);
    let (first_done, second_done) = futures::join!(first, async {
        b.role.paused().await;
        b.role.kill().await;
        let second = transfer(&pactum, &a, &d, "2", 7);
        let dying = async {
            c.died().await;
            c.restart(None).await;
        };
        let (second, ()) = futures::join!(second, dying);
        eventually("the second one at both of its banks", || async {
            let (a, d) = (a.books.ledger().await.ok()?, d.books.ledger().await.ok()?);
            let there = |books: &[Entry]| books.iter().any(|entry| entry.key == second.key);
            (there(&a) && there(&d)).then_some(())
        })
        .await;
        assert_eq!(prepared(&b.books).await, Some(1), "the first one is still waited for");
        b.role.restart(None).await;
        second
    });
    assert_ne!(first_done.told, Told::Aborted, "{first_done:?}");
    let told = definite_outcome(&pactum, second_done.id.unwrap(), &second_done.branches).await;
    assert_eq!(told, Told::Committed);
    eventually("the first one at its bank", || async { (entries(&b.books).await? == 1).then_some(()) }).await;
    assert_eq!(prepared(&b.books).await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f5_a_storm_of_branches_in_doubt_is_recovered_beside_new_work() {
    // A bank stops half way through its promises, so that the other one holds branches of both kinds:
    // decided ones, and such as wait for a vote that never comes; it dies, and the coordinator too; then
    // all come back at once.
    const STORM: usize = 60;
    const PROMISES: u32 = 30;
    let log = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log, None).await;
    let (a, d) = (bank("bank-a", &[&c], None).await, bank("bank-d", &[&c], None).await);
    let b = bank("bank-b", &[&c], Some(At::Pause("prepared", PROMISES))).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let storm = futures::future::join_all((0..STORM).map(|n| {
        let pactum = &pactum;
        async move {
            // Of accounts that nobody has, so that no two wait for one row.
            let (key, account) = (fresh_key(), format!("nobody-{n}"));
            let entries = [Entry::new(&key, &account, -1), Entry::new(&key, &account, 1)];
            let submit = pactum
                .submit()
                .operation("bank-a", APPLY, entries[0].payload())
                .operation("bank-b", APPLY, entries[1].payload())
                .timeout(TIMEOUT)
                .wait_decision();
            (entries, submit.await.ok())
        }
    }));
    let outage = async {
        b.role.paused().await;
        eventually("branches in doubt at the other bank", || async {
            (prepared(&a.books).await? >= STORM / 3).then_some(())
        })
        .await;
        b.role.kill().await;
        c.kill().await;
        c.restart(None).await;
        eventually("new work beside the storm", || async {
            let next = transfer(&pactum, &a, &d, "1", 1).await;
            (next.told == Told::Committed).then_some(())
        })
        .await;
        b.role.restart(None).await;
    };
    let (answers, ()) = futures::join!(storm, outage);
    for books in [&a.books, &b.books] {
        eventually("the end of every branch", || async { (prepared(books).await? == 0).then_some(()) }).await;
    }
    let (at_a, at_b) = (a.books.ledger().await.unwrap(), b.books.ledger().await.unwrap());
    let mut committed = 0;
    for ([debit, credit], answer) in answers {
        let times = |ledger: &[Entry], entry: &Entry| ledger.iter().filter(|one| *one == entry).count();
        let there = (times(&at_a, &debit), times(&at_b, &credit));
        assert!(there == (0, 0) || there == (1, 1), "AC1, I7: {debit:?} {there:?}");
        if let Some(outcome) = answer {
            assert_eq!(outcome.is_committed(), there == (1, 1), "I6: {debit:?}: {outcome:?}");
        }
        committed += there.0;
    }
    assert!(committed > 0 && committed < STORM, "the storm held both outcomes: {committed}");
}

/// What a bank keeps of one-shot operations is there for a second instance too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_of_one_shot_work_executes_nothing_again() {
    // H3, H2: the owner dies after the decision on a Submit; its successor drives it, and a retried
    // Submit of the same gid is answered, not run.
    let log = postgres::database(postgres::shared(), "log");
    let owner = coordinator(&log, Some(At::Kill("decision-durable", 1))).await;
    let other = coordinator(&log, None).await;
    let (a, b) =
        (bank("bank-a", &[&owner, &other], None).await, bank("bank-b", &[&owner, &other], None).await);
    let pactum = at_no_other(&owner).await;
    let mut id: v1::TransactionId = pactum.begin().await.unwrap().id().into();
    id.gid = uuid::Uuid::now_v7().as_bytes().to_vec();
    let key = fresh_key();
    let operation = |branch, resource: &str, amount| v1::Operation {
        branch,
        resource: resource.to_owned(),
        name: APPLY.to_owned(),
        payload: Entry::new(&key, "1", amount).payload(),
    };
    let request = v1::SubmitRequest {
        id: Some(id),
        operations: vec![operation(1, "bank-a", -1), operation(2, "bank-b", 1)],
        ..v1::SubmitRequest::default()
    };
    let mut first = TransactionsServiceClient::connect(owner.url()).await.unwrap();
    first.submit(request.clone()).await.unwrap_err();
    owner.died().await;
    eventually("a definite answer of the other one", || async {
        let mut second = TransactionsServiceClient::connect(other.url()).await.ok()?;
        let state = second.submit(request.clone()).await.ok()?.into_inner().outcome?.state();
        assert_ne!(state, v1::OutcomeState::Aborted);
        (state == v1::OutcomeState::Committed).then_some(())
    })
    .await;
    for books in [&a.books, &b.books] {
        eventually("the end of every branch", || async { (entries(books).await? == 1).then_some(()) }).await;
        assert_eq!(prepared(books).await, Some(0));
    }
    let opening: i64 = bank::ACCOUNTS * bank::OPENING;
    assert_eq!(a.books.total().await.unwrap() + b.books.total().await.unwrap(), 2 * opening);
}
