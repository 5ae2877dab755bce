//! The decision log restored from a backup, with whole programs on it (B5): every transaction since
//! the backup is gone from it, and the branches of some are still prepared.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use pactum::Pactum;
use pactum::application::Standing;
use pactum::resource::PreparedName;
use pactum_coordinator::decision_log::Release;
use pactum_postgres_server::{DataCopy, PostgresServer, Restored};
use pactum_tests::history::{TIMEOUT, Told, Transfer, check, transfer, transfer_within};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, Role, coordinator};
use pactum_tests::wait::eventually;

/// A log with a server of its own, a copy of it, and a transfer that was decided since: its
/// coordinator is stopped with the decision durable, and nobody told.
struct Scene {
    server: PostgresServer,
    copy: DataCopy,
    log_url: String,
    c: Role,
    a: BankProcess,
    b: BankProcess,
    pactum: Pactum,
    /// Committed before the copy.
    first: Transfer,
}

async fn scene() -> Scene {
    let server = postgres::own(&[]);
    let log_url = postgres::database(&server, "log");
    let c = coordinator(&log_url, Some(At::Pause("decision-durable", 2))).await;
    let (a, b) = (BankProcess::start("bank-a", &c, None).await, BankProcess::start("bank-b", &c, None).await);
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let first = transfer(&pactum, &a, &b, "1", 5).await;
    assert_eq!(first.told, Told::Committed, "{first:?}");
    let copy = server.copy().unwrap();
    let losing = Box::pin(transfer_within(TIMEOUT, &pactum, &a, &b, "2", 7));
    match futures::future::select(losing, Box::pin(c.paused())).await {
        futures::future::Either::Left((done, _)) => panic!("nobody can have been told: {done:?}"),
        // Its application is gone too, without a word.
        futures::future::Either::Right(((), losing)) => std::mem::forget(losing),
    }
    Scene { server, copy, log_url, c, a, b, pactum, first }
}

impl Scene {
    /// Both branches are held, and nobody is told anything of their transaction.
    async fn both_are_held(&self) {
        for bank in [&self.a, &self.b] {
            eventually("the branch being reported", || async {
                bank.role.log().contains("stays prepared").then_some(())
            })
            .await;
        }
        let held = self.a.books.prepared().await.unwrap();
        let name: PreparedName = held[0].parse().unwrap();
        for _ in 0..5 {
            let standing = self.pactum.outcome(name.id, Vec::new()).await;
            assert!(!matches!(standing, Ok(Standing::Decided(_))), "{standing:?}");
        }
        assert_eq!(self.b.books.prepared().await.unwrap().len(), 1);
    }

    /// Work goes on beside what is held; then an operator releases it, and everything ends.
    async fn released_it_ends(self) {
        let next = eventually("new work", || async {
            let next = transfer(&self.pactum, &self.a, &self.b, "3", 1).await;
            (next.told == Told::Committed).then_some(next)
        })
        .await;
        assert_eq!(self.a.books.prepared().await.unwrap().len(), 1, "it is still held");
        let log = pactum_coordinator::open_log(&self.log_url).await.unwrap();
        assert!(log.release(Release::All, "the books were compared").await.unwrap() >= 1);
        for bank in [&self.a, &self.b] {
            eventually("the end of the held branch", || async {
                bank.books.prepared().await.ok()?.is_empty().then_some(())
            })
            .await;
        }
        let books = [&self.a.books, &self.b.books];
        assert_eq!(check(&self.pactum, &books, vec![self.first, next]).await, (2, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b5_a_log_restored_with_all_coordinators_down_is_noticed_by_its_timeline() {
    let scene = scene().await;
    scene.c.kill().await;
    tokio::task::block_in_place(|| scene.server.restore(&scene.copy, Restored::NewTimeline).unwrap());
    scene.c.restart(None).await;
    scene.both_are_held().await;
    scene.released_it_ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b5_a_log_put_back_as_files_is_noticed_by_whoever_knew_its_position() {
    // The owner is dead; another coordinator lives, and remembers how far the log went.
    let scene = scene().await;
    scene.server.psql("postgres", "create table filler as select generate_series(1, 20000)").unwrap();
    let witness = coordinator(&scene.log_url, None).await;
    let alive = Pactum::connect(witness.url()).await.unwrap();
    // It has read the log since.
    let name: PreparedName = scene.a.books.prepared().await.unwrap()[0].parse().unwrap();
    alive.outcome(name.id, Vec::new()).await.unwrap();
    scene.c.kill().await;
    tokio::task::block_in_place(|| scene.server.restore(&scene.copy, Restored::SameTimeline).unwrap());
    let log = pactum_coordinator::open_log(&scene.log_url).await.unwrap();
    eventually("the log being in doubt", || async { (!log.doubts().await.ok()?.is_empty()).then_some(()) })
        .await;
    scene.c.restart(None).await;
    scene.both_are_held().await;
    scene.released_it_ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b5_a_log_put_back_as_files_with_all_coordinators_down_is_doubted_by_an_operators_word() {
    // Nothing in it tells that it went back: whoever put it back says so, before anybody is started.
    let scene = scene().await;
    scene.c.kill().await;
    tokio::task::block_in_place(|| scene.server.restore(&scene.copy, Restored::SameTimeline).unwrap());
    let log = pactum_coordinator::open_log(&scene.log_url).await.unwrap();
    log.doubt_all("restored from the nightly copy").await.unwrap();
    scene.c.restart(None).await;
    scene.both_are_held().await;
    scene.released_it_ends().await;
}
