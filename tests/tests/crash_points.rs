//! A process is killed at each named step of a transfer, started again, and everybody agrees.
//!
//! Real processes, killed by themselves with SIGKILL the moment that they pass the step. Each test
//! says what the outcome must be, where the protocol leaves only one.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::time::Duration;

use pactum::Pactum;
use pactum_tests::history::{Told, check, transfer_within};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, Role, coordinator};

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Coordinator,
    BankB,
}

/// What the outcome must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Committed,
    Aborted,
    /// The kill races with a message that is on its way: either, and alike everywhere.
    Either,
}

/// One transfer during which the victim dies at the nth passing of the step and is started
/// again; then another one, which must commit as if nothing had been.
async fn killed_at(victim: Victim, step: &'static str, nth: u32, expect: Expect) {
    let at = Some(At::Kill(step, nth));
    let log = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log, at.filter(|_| victim == Victim::Coordinator)).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, at.filter(|_| victim == Victim::BankB)).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();

    let during = transfer_within(Duration::from_secs(15), &pactum, &a, &b, "1", 7);
    let dying: &Role = if victim == Victim::Coordinator { &c } else { &b.role };
    let restart = async {
        dying.died().await;
        dying.restart(None).await;
    };
    let (done, ()) = futures::join!(during, restart);
    let told = done.told;

    let books = [&a.books, &b.books];
    let counts = check(&pactum, &books, vec![done.clone()]).await;
    match expect {
        Expect::Committed => assert_eq!(counts, (1, 0), "{step}: {done:?}"),
        Expect::Aborted => assert_eq!(counts, (0, 1), "{step}: {done:?}"),
        Expect::Either => {}
    }
    // What was told once is told again, by whoever is asked (AC2).
    if told != Told::Unknown && !done.branches.is_empty() {
        let again = pactum_tests::history::definite_outcome(&pactum, done.id.unwrap(), &done.branches).await;
        assert_eq!(again, told, "{step}");
    }
    pactum_tests::wait::eventually("a transfer after the crash", || async {
        let next = transfer_within(Duration::from_secs(15), &pactum, &a, &b, "2", 3).await;
        (next.told == Told::Committed).then_some(())
    })
    .await;
}

macro_rules! crash_points {
    ($($(#[$doc:meta])* $name:ident: $victim:ident $step:literal $nth:literal $expect:ident;)*) => {
        $(
            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                killed_at(Victim::$victim, $step, $nth, Expect::$expect).await;
            }
        )*
    };
}

crash_points! {
    /// A1, A2: nobody can have voted to both, and no decision is written.
    coordinator_killed_after_the_first_prepare_aborts: Coordinator "prepare-sent" 1 Aborted;
    /// A2: some are prepared, there is no decision.
    coordinator_killed_after_the_last_prepare_aborts: Coordinator "prepare-sent" 2 Aborted;
    /// A2.
    coordinator_killed_after_the_first_vote_aborts: Coordinator "vote-received" 1 Aborted;
    /// A3: all voted yes, and still nobody may conclude commit from that.
    coordinator_killed_between_the_last_vote_and_the_log_aborts: Coordinator "vote-received" 2 Aborted;
    /// A3, A4: the record is not written yet.
    coordinator_killed_before_the_decision_is_written_aborts: Coordinator "decision-handed-over" 1 Aborted;
    /// A5: the record stands, the application was not told.
    coordinator_killed_after_the_decision_commits: Coordinator "decision-durable" 1 Committed;
    /// A6 in part: the decision is on its way to one.
    coordinator_killed_after_the_first_commit_was_sent_commits: Coordinator "decision-sent" 1 Committed;
    /// A6.
    coordinator_killed_after_the_last_commit_was_sent_commits: Coordinator "decision-sent" 2 Committed;
    /// A7: one of two has acknowledged.
    coordinator_killed_after_the_first_ack_commits: Coordinator "branch-finished" 1 Committed;
    /// A7, A8.
    coordinator_killed_after_the_last_ack_commits: Coordinator "branch-finished" 2 Committed;
    /// A8: the end record is lazy.
    coordinator_killed_at_the_end_record_commits: Coordinator "end-recorded" 1 Committed;

    /// C1: killed before PREPARE TRANSACTION; the database rolls back.
    participant_killed_before_preparing_aborts: BankB "prepare-received" 1 Aborted;
    /// C1: the work is done, nothing is promised.
    participant_killed_after_its_work_aborts: BankB "work-done" 1 Aborted;
    /// C2: prepared, and the vote never left.
    participant_killed_before_its_vote_left_aborts: BankB "prepared" 1 Aborted;
    /// C2 or C3: the vote may have left.
    participant_killed_with_its_vote_on_the_way_is_told_what_stands: BankB "vote-sent" 1 Either;
    /// C3.
    participant_killed_on_hearing_commit_commits: BankB "decision-received" 1 Committed;
    /// C4: COMMIT PREPARED is done, the ack never left.
    participant_killed_before_its_ack_left_commits: BankB "branch-ended" 1 Committed;
    /// C4, E9.
    participant_killed_after_its_ack_commits: BankB "ack-sent" 1 Committed;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinator_killed_while_it_recovers_recovers_at_the_next_start() {
    // A5 twice over: dies after the decision, and again after it read what is unfinished.
    let log = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log, Some(At::Kill("decision-durable", 1))).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let restarts = async {
        c.died().await;
        c.restart(Some(At::Kill("recovery-scanned", 1))).await;
        c.died().await;
        c.restart(None).await;
    };
    let during = transfer_within(Duration::from_secs(15), &pactum, &a, &b, "1", 7);
    let (done, ()) = futures::join!(during, restarts);
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn participant_killed_while_it_recovers_recovers_at_the_next_start() {
    // C10, and C3 before it: both are prepared and the decision is durable when it dies first.
    let log = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log, Some(At::Pause("decision-durable", 1))).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let restarts = async {
        c.paused().await;
        b.role.kill().await;
        // It may need an answer before it is ready, so the coordinator goes on meanwhile.
        futures::join!(b.role.restart(Some(At::Kill("recovery-scanned", 1))), async { c.resume() });
        b.role.died().await;
        b.role.restart(None).await;
    };
    let during = transfer_within(Duration::from_secs(15), &pactum, &a, &b, "1", 7);
    let (done, ()) = futures::join!(during, restarts);
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn participant_killed_when_it_inquires_inquires_again() {
    // A3, then C10: the coordinator is gone without a decision, and so is who asks for it.
    let log = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log, Some(At::Kill("vote-received", 2))).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, Some(At::Kill("inquiry-sent", 1))).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let during = Box::pin(transfer_within(Duration::from_mins(1), &pactum, &a, &b, "1", 7));
    // The application is gone too, without a word: if it asked again, that would close the
    // transaction, and the branches would be told without an inquiry.
    match futures::future::select(during, Box::pin(c.died())).await {
        futures::future::Either::Left(_) => panic!("no answer can have come"),
        futures::future::Either::Right(((), during)) => std::mem::forget(during),
    }
    c.restart(None).await;
    b.role.died().await;
    b.role.restart(None).await;
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![]).await, (0, 0));
}
