//! Messages that come late, twice, or to somebody who has forgotten, and clocks that nobody should
//! trust (E5, E12, E13, F1, F2, F3).

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::time::Duration;

use pactum::Pactum;
use pactum_coordinator::open_log;
use pactum_core::id::Gid;
use pactum_proto::v1;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use pactum_tests::bank::{APPLY, Bank, Entry, Teller};
use pactum_tests::cluster::Cluster;
use pactum_tests::history::{TIMEOUT, Told, check, fresh_key, transfer, transfer_within};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, coordinator};
use pactum_tests::wait::eventually;
use tonic::transport::Channel;
use uuid::Uuid;

type Client = TransactionsServiceClient<Channel>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_a_vote_that_comes_after_the_deadline_is_answered_with_abort() {
    // The bank stops with its branch prepared and its vote unsent, until the time is up.
    let c = coordinator(&postgres::database(postgres::shared(), "log"), None).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, Some(At::Pause("prepared", 1))).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let done = transfer_within(Duration::from_secs(8), &pactum, &a, &b, "1", 5).await;
    assert_eq!(done.told, Told::Aborted, "{done:?}");
    b.role.paused().await;
    assert_eq!(b.books.prepared().await.unwrap().len(), 1, "its promise stands, and it does not know");
    b.role.resume();
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_a_vote_for_a_transaction_that_nobody_remembers_is_an_inquiry() {
    // Its coordinator has been replaced by one that never heard of it. A yes is not enough to commit.
    let c = coordinator(&postgres::database(postgres::shared(), "log"), None).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, Some(At::Pause("prepared", 1))).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let moving = transfer_within(Duration::from_secs(30), &pactum, &a, &b, "1", 5);
    let forgetting = async {
        b.role.paused().await;
        c.restart(None).await;
        b.role.resume();
    };
    let (done, ()) = futures::join!(moving, forgetting);
    assert_ne!(done.told, Told::Committed, "{done:?}");
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_participant_that_is_slow_to_commit_delays_nobody_but_itself() {
    let c = coordinator(&postgres::database(postgres::shared(), "log"), None).await;
    let (a, d) = (BankProcess::start("bank-a", &c, None).await, BankProcess::start("bank-d", &c, None).await);
    let b = BankProcess::start("bank-b", &c, Some(At::Pause("decision-received", 1))).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    // Who asks for the decision has it at once.
    let (tx, key) = (pactum.begin().timeout(TIMEOUT).await.unwrap(), fresh_key());
    a.apply(tx.context(), &Entry::new(&key, "1", -5)).await.unwrap();
    b.apply(tx.context(), &Entry::new(&key, "1", 5)).await.unwrap();
    assert!(tx.commit().wait_decision().await.unwrap().is_committed());
    b.role.paused().await;
    // Its sister branch has ended, and others go on.
    eventually("the other branch", || async {
        a.books.ledger().await.ok()?.iter().any(|entry| entry.key == key).then_some(())
    })
    .await;
    for account in ["2", "3", "4"] {
        assert_eq!(transfer(&pactum, &a, &d, account, 1).await.told, Told::Committed);
    }
    assert_eq!(b.books.ledger().await.unwrap(), []);
    b.role.resume();
    eventually("the slow one", || async {
        b.books.ledger().await.ok()?.iter().any(|entry| entry.key == key).then_some(())
    })
    .await;
    assert_eq!(b.books.prepared().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_a_begin_that_is_repeated_begins_one_transaction() {
    let cluster = Cluster::start().await;
    let mut client = Client::connect(cluster.coordinator.public_url()).await.unwrap();
    let begin =
        |request: &str| v1::BeginRequest { request_id: request.to_owned(), ..v1::BeginRequest::default() };
    let mut ids = Vec::new();
    for request in ["one", "one", "two", "one"] {
        ids.push(client.begin(begin(request)).await.unwrap().into_inner().id.unwrap());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[3]);
    assert_ne!(ids[0], ids[2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e13_late_requests_for_one_transaction_do_not_reach_the_next_one_of_their_client() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let mut client = Client::connect(cluster.coordinator.public_url()).await.unwrap();
    let first = transfer(&pactum, &a, &b, "1", 1).await;
    let aborted = transfer(&pactum, &a, &b, "1", -100_000).await;
    assert_eq!((first.told, aborted.told), (Told::Committed, Told::Aborted));
    let mut transfers = vec![first.clone(), aborted.clone()];
    for account in ["2", "3"] {
        // In the middle of the next one come the old ones' Commit and Abort again, both of both.
        let (tx, key) = (pactum.begin().timeout(TIMEOUT).await.unwrap(), fresh_key());
        let (id, context) = (tx.id(), tx.context().clone());
        let entries = vec![(0, Entry::new(&key, account, -1)), (1, Entry::new(&key, account, 1))];
        a.apply(&context, &entries[0].1).await.unwrap();
        for old in [&first, &aborted] {
            let branches: Vec<v1::Branch> = old.branches.iter().cloned().map(Into::into).collect();
            let id = old.id.map(Into::into);
            let commit = v1::CommitRequest {
                id: Some(id.clone().unwrap()),
                branches: branches.clone(),
                ..Default::default()
            };
            let abort = v1::AbortRequest { id, branches, ..Default::default() };
            let states = [
                client.commit(commit).await.unwrap().into_inner().outcome.unwrap().state(),
                client.abort(abort).await.unwrap().into_inner().outcome.unwrap().state(),
            ];
            let stands = if old.told == Told::Committed {
                v1::OutcomeState::Committed
            } else {
                v1::OutcomeState::Aborted
            };
            assert_eq!(states, [stands, stands]);
        }
        b.apply(&context, &entries[1].1).await.unwrap();
        let outcome = tx.commit().await.unwrap();
        assert!(outcome.is_committed(), "{outcome:?}");
        let mut done = first.clone();
        (done.key, done.id, done.entries, done.branches) = (key, Some(id), entries, context.enlisted());
        transfers.push(done);
    }
    assert_eq!(check(&pactum, &[&a.books, &b.books], transfers).await, (3, 1));
}

/// A gid as a clock would make it that stands at this time.
fn gid_at(milliseconds: u64) -> Uuid {
    let random: [u8; 10] = *Uuid::new_v4().as_bytes().first_chunk().unwrap();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}

async fn submit(
    client: &mut Client,
    id: v1::TransactionId,
    key: &str,
) -> Result<v1::OutcomeState, tonic::Status> {
    let operation = |branch, resource: &str, amount| v1::Operation {
        branch,
        resource: resource.to_owned(),
        name: APPLY.to_owned(),
        payload: Entry::new(key, "1", amount).payload(),
    };
    let operations = vec![operation(1, "bank-a", -1), operation(2, "bank-b", 1)];
    let request = v1::SubmitRequest { id: Some(id), operations, ..v1::SubmitRequest::default() };
    Ok(client.submit(request).await?.into_inner().outcome.unwrap().state())
}

async fn times(bank: &Bank, key: &str) -> usize {
    bank.books.ledger().await.unwrap().iter().filter(|entry| entry.key == key).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_clocks_that_jump_cost_a_transaction_at_most_its_life() {
    // The clock of a process is seen in the gids that it draws, and nowhere else. One that stands a
    // thousand years ahead or behind decides nothing: each of its transactions happens once or not at
    // all, says so whenever it is asked, and harms nobody whose clock is right.
    const NOW: u64 = 1_750_000_000_000;
    const THOUSAND_YEARS: u64 = 31_556_952_000_000;
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let pactum = cluster.application().await;
    let mut client = Client::connect(cluster.coordinator.public_url()).await.unwrap();
    let id: v1::TransactionId = pactum.begin().await.unwrap().id().into();
    let mut executed = 0;
    for milliseconds in [NOW + THOUSAND_YEARS, 1_000, NOW + 2 * THOUSAND_YEARS, NOW, 0] {
        let id = v1::TransactionId { gid: gid_at(milliseconds).as_bytes().to_vec(), ..id.clone() };
        let key = fresh_key();
        let answers = [submit(&mut client, id.clone(), &key).await, submit(&mut client, id, &key).await];
        let expected = match &answers[0] {
            Ok(v1::OutcomeState::Committed) => 1,
            _ => 0,
        };
        executed += expected;
        let committed =
            answers.iter().filter(|answer| matches!(answer, Ok(v1::OutcomeState::Committed))).count();
        assert!(committed == 0 || committed == 2, "{milliseconds}: {answers:?}");
        eventually("the books showing it", || async {
            (times(&a, &key).await == expected && times(&b, &key).await == expected).then_some(())
        })
        .await;
        let next = transfer(&pactum, &a, &b, "2", 1).await;
        assert_eq!(next.told, Told::Committed, "a clock that is right: {next:?}");
    }
    assert!(executed >= 1, "a clock that is ahead makes good gids");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_retention_by_a_clock_that_jumped_forgets_nothing_unfinished() {
    // The log's clock decides how long records are kept, and no more: far ahead, it forgets early,
    // and still nothing that a branch may need.
    let log_url = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log_url, Some(At::Pause("decision-durable", 1))).await;
    let (a, b) = (BankProcess::start("bank-a", &c, None).await, BankProcess::start("bank-b", &c, None).await);
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let moving = transfer(&pactum, &a, &b, "1", 5);
    let jumping = async {
        c.paused().await;
        let url = sqlx::PgPool::connect(&log_url).await.unwrap();
        let jump = "update pactum.decisions set decided_at = decided_at - interval '1000 years'";
        sqlx::query(jump).execute(&url).await.unwrap();
        let log = open_log(&log_url).await.unwrap();
        let old = log.newest_older_than(Duration::from_hours(24 * 365)).await.unwrap();
        let floor = log.raise_floor(old.unwrap()).await.unwrap();
        assert_eq!((floor, log.delete_below_floor(10).await.unwrap()), (Gid::NIL, 0));
        c.resume();
    };
    let (done, ()) = futures::join!(moving, jumping);
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
}
