//! Transactions of one branch: the register is the branch's own database (H5).

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use pactum::{Branch, Pactum, TransactionId};
use pactum_core::outcome::LookUpResult;
use pactum_tests::bank::{Bank, Books, Entry, OPENING, Teller};
use pactum_tests::cluster::Cluster;
use pactum_tests::faults::Cut;
use pactum_tests::history::{Told, definite_outcome, fresh_key, told};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, coordinator};
use pactum_tests::wait::until_ok;

/// The statement with which a branch commits itself with its marker.
const COMMIT: &str = ", true); COMMIT";

/// What is recorded in the log of one transaction.
async fn in_the_log(log_url: &str, id: TransactionId) -> LookUpResult {
    let log = pactum_coordinator::open_log(log_url).await.unwrap();
    log.look_up(&[id.gid]).await.unwrap().remove(0)
}

/// A deposit: one branch. Answers what the application was told.
async fn deposit(pactum: &Pactum, bank: &impl Teller, key: &str) -> (TransactionId, Vec<Branch>, Told) {
    let tx = pactum.begin().timeout(std::time::Duration::from_secs(20)).await.unwrap();
    let (id, context) = (tx.id(), tx.context().clone());
    bank.apply(&context, &Entry::new(key, "1", 5)).await.unwrap();
    let outcome = tx.commit().await;
    (id, context.enlisted(), outcome.as_ref().map_or(Told::Unknown, told))
}

/// The books show the deposit exactly if it is committed, once, and nothing is left over.
async fn books_agree(books: &Books, key: &str, committed: bool) {
    until_ok("the books agreeing with the outcome", || async {
        let found = books.ledger().await.unwrap().iter().filter(|entry| entry.key == key).count();
        let prepared = books.prepared().await.unwrap();
        let right = found == usize::from(committed) && prepared.is_empty();
        if right { Ok(()) } else { Err(format!("{found} entries, {prepared:?} prepared")) }
    })
    .await;
}

async fn cluster_and_bank() -> (Cluster, Bank) {
    let cluster = Cluster::start().await;
    let bank = cluster.bank_with_markers("bank-a").await;
    (cluster, bank)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_branch_with_a_marker_commits_without_a_row_in_the_log() {
    let (cluster, bank) = cluster_and_bank().await;
    let pactum = cluster.application().await;
    let key = fresh_key();
    let (id, branches, told) = deposit(&pactum, &bank, &key).await;
    assert_eq!(told, Told::Committed);
    assert!(branches[0].marker);
    assert_eq!(bank.books.balance("1").await.unwrap(), OPENING + 5);
    assert!(matches!(in_the_log(&cluster.log_url, id).await, LookUpResult::NoRecord));
    assert_eq!(definite_outcome(&pactum, id, &branches).await, Told::Committed);
    books_agree(&bank.books, &key, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_branch_without_a_marker_commits_through_the_log() {
    let cluster = Cluster::start().await;
    let bank = cluster.bank("bank-a").await;
    let pactum = cluster.application().await;
    let key = fresh_key();
    let (id, branches, told) = deposit(&pactum, &bank, &key).await;
    assert_eq!(told, Told::Committed);
    assert!(!branches[0].marker);
    assert!(matches!(in_the_log(&cluster.log_url, id).await, LookUpResult::Stands(_)));
    books_agree(&bank.books, &key, true).await;
}

/// The connection of the commit meets the fault: the outcome becomes definite, and alike for all.
async fn commit_meets(cut: Cut, expected: Option<Told>) {
    let cluster = Cluster::start().await;
    let (bank, proxy) = cluster.bank_behind_proxy("bank-a", true).await;
    let pactum = cluster.application().await;
    proxy.arm(cut, COMMIT);
    let key = fresh_key();
    let (id, branches, told) = deposit(&pactum, &bank, &key).await;
    proxy.fired(1).await;
    let definite = definite_outcome(&pactum, id, &branches).await;
    assert!(told == definite || told == Told::Unknown, "told {told:?}, and it is {definite:?}");
    if let Some(expected) = expected {
        assert_eq!(definite, expected);
    }
    books_agree(&bank.books, &key, definite == Told::Committed).await;
    assert!(!matches!(in_the_log(&cluster.log_url, id).await, LookUpResult::Stands(_)), "never in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_the_one_commit_is_settled_at_the_branch() {
    // H5: it did commit; whoever asks inserts the abort marker and finds the other one standing.
    commit_meets(Cut::Answer, Some(Told::Committed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrived_is_settled_as_abort_at_the_branch() {
    commit_meets(Cut::Before, Some(Told::Aborted)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_cut_on_its_way_is_settled_either_way_and_alike() {
    commit_meets(Cut::During, None).await;
}

/// Either process dies around the one commit, and comes back.
async fn dies_at(coordinator_at: Option<At>, bank_at: Option<At>) {
    let log = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log, coordinator_at).await;
    let url = postgres::database(postgres::shared(), "bank-a");
    Books::create(&url).await;
    let bank = BankProcess::start_on("bank-a", &url, &url, &c.url(), true, bank_at).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let key = fresh_key();
    let moving = deposit(&pactum, &bank, &key);
    let dying = async {
        let victim = if coordinator_at.is_some() { &c } else { &bank.role };
        victim.died().await;
        victim.restart(None).await;
    };
    let ((id, branches, told), ()) = futures::join!(moving, dying);
    let definite = definite_outcome(&pactum, id, &branches).await;
    assert!(told == definite || told == Told::Unknown, "told {told:?}, and it is {definite:?}");
    books_agree(&bank.books, &key, definite == Told::Committed).await;
    assert!(!matches!(in_the_log(&log, id).await, LookUpResult::Stands(_)), "never in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_participant_killed_before_the_one_commit_is_settled_at_the_branch() {
    dies_at(None, Some(At::Kill("prepare-received", 1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_participant_killed_after_the_one_commit_is_settled_at_the_branch() {
    dies_at(None, Some(At::Kill("vote-sent", 1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_killed_after_asking_for_the_one_commit_is_settled_at_the_branch() {
    dies_at(Some(At::Kill("prepare-sent", 1)), None).await;
}
