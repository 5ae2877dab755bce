//! A participant's database that went back in time, by a restore or a failover: what it lost, it
//! does not know, and what it shows again may have been ended long ago.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use pactum::application::Standing;
use pactum::{HeuristicOutcome, Pactum};
use pactum_coordinator::decision_log::ListPage;
use pactum_core::id::Gid;
use pactum_postgres_server::{DataCopy, PostgresServer, Restored};
use pactum_tests::bank::{Books, Entry, OPENING};
use pactum_tests::history::{Told, Transfer, check, transfer};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, Role, coordinator};
use pactum_tests::wait::eventually;

/// A coordinator that stops once the decision is durable, and two banks, of which the second has a
/// server of its own.
struct Scene {
    log_url: String,
    c: Role,
    a: BankProcess,
    b: BankProcess,
    server: PostgresServer,
    pactum: Pactum,
}

async fn scene() -> Scene {
    let log_url = postgres::database(postgres::shared(), "log");
    let server = postgres::own(&[]);
    let c = coordinator(&log_url, Some(At::Pause("decision-durable", 1))).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let url = postgres::database(&server, "bank-b");
    Books::create(&url).await;
    let b = BankProcess::start_on("bank-b", &url, &url, &c.url(), false, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    Scene { log_url, c, a, b, server, pactum }
}

impl Scene {
    /// A transfer, with something done while both branches are prepared and the decision is durable.
    async fn transfer_with(&self, meanwhile: impl AsyncFnOnce()) -> Transfer {
        let moving = transfer(&self.pactum, &self.a, &self.b, "1", 5);
        let meddling = async {
            self.c.paused().await;
            meanwhile().await;
            self.c.resume();
        };
        futures::join!(moving, meddling).0
    }

    /// A transfer that is committed everywhere, and a copy of the second bank's server from when its
    /// branch was prepared.
    async fn finished_transfer(&self) -> (Transfer, DataCopy) {
        let mut copy = None;
        let done = self.transfer_with(async || copy = Some(self.server.copy().unwrap())).await;
        assert_eq!(done.told, Told::Committed, "{done:?}");
        eventually("both branches committed", || async {
            let (a, b) = (self.a.books.ledger().await.ok()?, self.b.books.ledger().await.ok()?);
            (a.len() == 1 && b.len() == 1).then_some(())
        })
        .await;
        (done, copy.unwrap())
    }

    /// Waits until the second bank's branch is prepared again.
    async fn reappeared(&self) {
        eventually("the branch being prepared again", || async {
            (self.b.books.prepared().await.ok()?.len() == 1).then_some(())
        })
        .await;
    }

    async fn heuristics_kept(&self) -> Vec<HeuristicOutcome> {
        let log = pactum_coordinator::open_log(&self.log_url).await.unwrap();
        let stored = log.list(&ListPage { limit: 10, ..ListPage::default() }).await.unwrap();
        stored.iter().flat_map(|one| one.heuristics.iter().map(|kept| kept.outcome)).collect()
    }
}

/// The PREPARE that was voted yes is lost: commit is impossible, and is never acknowledged.
async fn a_lost_prepare_is_a_hazard(how: Restored) {
    let scene = scene().await;
    let copy = scene.server.copy().unwrap();
    // What follows the restore stays behind the position that the vote names. A server that has
    // overtaken it shows no sign of having gone back; a witness row inside the branch is for those.
    scene.server.psql("postgres", "create table filler as select generate_series(1, 20000)").unwrap();
    let done = scene
        .transfer_with(async || {
            let lost = scene.b.books.prepared().await.unwrap();
            assert_eq!(lost.len(), 1);
            scene.server.restore(&copy, how).unwrap();
            // H6: the xid is given to others, who commit.
            for _ in 0..8 {
                scene.server.psql("postgres", "create table again (); drop table again").unwrap();
            }
        })
        .await;
    assert_eq!(done.told, Told::Committed, "the decision stands: {done:?}");
    let (id, branches) = (done.id.unwrap(), done.branches.clone());
    let heuristic = eventually("the application being told", || async {
        match scene.pactum.outcome(id, branches.clone()).await {
            Ok(Standing::Decided(outcome)) => outcome.heuristic(),
            _ => None,
        }
    })
    .await;
    assert!(matches!(heuristic, HeuristicOutcome::Mixed | HeuristicOutcome::Hazard), "{heuristic:?}");
    let kept = eventually("the hazard being kept for operators", || async {
        Some(scene.heuristics_kept().await).filter(|kept| !kept.is_empty())
    })
    .await;
    assert_eq!(kept, [HeuristicOutcome::Hazard]);
    assert_eq!(scene.a.books.balance("1").await.unwrap(), OPENING - 5);
    assert_eq!(
        scene.b.books.ledger().await.unwrap(),
        [] as [Entry; 0],
        "nothing was acknowledged that is not there"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d7_h6_a_prepare_lost_with_a_restored_volume_is_told_as_a_hazard() {
    a_lost_prepare_is_a_hazard(Restored::SameTimeline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d7_h6_a_prepare_lost_with_a_new_timeline_is_told_as_a_hazard() {
    a_lost_prepare_is_a_hazard(Restored::NewTimeline).await;
}

/// An acknowledged COMMIT PREPARED is lost, and the branch is prepared again: while the decision
/// is kept, it is committed again.
async fn a_branch_that_reappears_is_committed_again(how: Restored) {
    let scene = scene().await;
    let (done, copy) = scene.finished_transfer().await;
    scene.server.restore(&copy, how).unwrap();
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![done]).await, (1, 0));
    assert_eq!(scene.heuristics_kept().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_a_branch_that_reappears_after_a_restore_is_committed_again() {
    a_branch_that_reappears_is_committed_again(Restored::SameTimeline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_d6_a_branch_that_reappears_on_a_new_timeline_is_committed_again() {
    a_branch_that_reappears_is_committed_again(Restored::NewTimeline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_a_branch_that_reappears_on_a_promoted_standby_is_committed_again() {
    // The database fails over to a standby that had the PREPARE and not the COMMIT PREPARED.
    let scene = scene().await;
    let standby = scene.server.standby("s1").unwrap();
    let done = scene
        .transfer_with(async || {
            let position = scene.server.wal_position().unwrap();
            eventually("the standby having the branch", || async {
                (standby.wal_position().ok()? >= position).then_some(())
            })
            .await;
            standby.detach().unwrap();
        })
        .await;
    assert_eq!(done.told, Told::Committed, "{done:?}");
    scene.server.kill().unwrap();
    scene.b.role.kill().await;
    standby.promote().unwrap();
    let database = scene.b.database_url.rsplit('/').next().unwrap();
    let url = standby.url(database);
    let b = BankProcess::start_on("bank-b", &url, &url, &scene.c.url(), false, None).await;
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b8_d5_d6_a_branch_that_reappears_below_the_floor_is_held_for_an_operator() {
    // The decision was collected: neither abort nor commit can be told of it any more.
    let scene = scene().await;
    let (done, copy) = scene.finished_transfer().await;
    let (id, branches) = (done.id.unwrap(), done.branches.clone());
    collect(&scene.log_url, id.gid).await;
    scene.server.restore(&copy, Restored::SameTimeline).unwrap();
    scene.reappeared().await;
    eventually("the branch being reported to its operator", || async {
        scene.b.role.log().contains("stays prepared").then_some(())
    })
    .await;
    // A restart of everybody changes nothing of that.
    scene.c.restart(None).await;
    scene.b.role.restart(None).await;
    eventually("the branch being reported again", || async {
        (scene.b.role.log().matches("stays prepared").count() >= 2).then_some(())
    })
    .await;
    // Whoever asks is told that it is forgotten, again and again.
    for _ in 0..5 {
        let standing = scene.pactum.outcome(id, branches.clone()).await.unwrap();
        assert_eq!(standing, Standing::Forgotten);
    }
    assert_eq!(scene.b.books.prepared().await.unwrap().len(), 1, "it is held");
    assert_eq!(scene.b.books.ledger().await.unwrap(), [] as [Entry; 0]);
    // The operator knows what the other bank did.
    let name = scene.b.books.prepared().await.unwrap().remove(0);
    let sql = format!("commit prepared '{name}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(scene.b.books.pool()).await.unwrap();
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![done]).await, (1, 0));
    // And life goes on.
    let next = eventually("a transfer afterwards", || async {
        Some(transfer(&scene.pactum, &scene.a, &scene.b, "2", 1).await)
            .filter(|next| next.told == Told::Committed)
    })
    .await;
    assert!(scene.b.books.ledger().await.unwrap().iter().any(|entry| entry.key == next.key));
}

/// Forgets everything up to the gid, as retention does in time.
async fn collect(log_url: &str, gid: Gid) {
    let log = pactum_coordinator::open_log(log_url).await.unwrap();
    // It is not raised before the lazy end record is in.
    eventually("the floor being raised", || async {
        (log.raise_floor(gid).await.ok()? >= gid).then_some(())
    })
    .await;
    assert_eq!(log.delete_below_floor(100).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g4_what_is_unfinished_cannot_be_collected() {
    // While a branch may be prepared, nothing removes the decision that it needs.
    let scene = scene().await;
    let log_url = scene.log_url.clone();
    let mut tried = None;
    let done = scene
        .transfer_with(async || {
            let log = pactum_coordinator::open_log(&log_url).await.unwrap();
            let far = Gid::from_uuid(uuid::Uuid::from_u128(u128::MAX));
            let floor = log.raise_floor(far).await.unwrap();
            let deleted = log.delete_below_floor(100).await.unwrap();
            tried = Some((floor, deleted));
        })
        .await;
    let (floor, deleted) = tried.unwrap();
    assert_eq!((floor, deleted), (Gid::NIL, 0), "a commit is unfinished");
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![done]).await, (1, 0));
}
