//! People who end branches by hand, and evidence that tells what they did.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use pactum::application::Standing;
use pactum::{HeuristicOutcome, Outcome, Pactum};
use pactum_coordinator::decision_log::ListPage;
use pactum_tests::bank::{Entry, OPENING};
use pactum_tests::history::{Told, Transfer, check, transfer};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, Role, coordinator};
use pactum_tests::wait::eventually;

struct Scene {
    log_url: String,
    c: Role,
    a: BankProcess,
    b: BankProcess,
    pactum: Pactum,
}

async fn scene(at: At) -> Scene {
    let log_url = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log_url, Some(at)).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    Scene { log_url, c, a, b, pactum }
}

/// A transfer during which somebody runs `COMMIT PREPARED` or `ROLLBACK PREPARED` at the second
/// bank while the coordinator stands still.
async fn by_hand(scene: &Scene, statement: &str) -> Transfer {
    let moving = transfer(&scene.pactum, &scene.a, &scene.b, "1", 5);
    let meddling = async {
        scene.c.paused().await;
        let names = scene.b.books.prepared().await.unwrap();
        let [name] = &names[..] else { panic!("one branch is prepared: {names:?}") };
        let sql = format!("{statement} '{name}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(scene.b.books.pool()).await.unwrap();
        scene.c.resume();
    };
    let (done, ()) = futures::join!(moving, meddling);
    done
}

/// How the one transaction of the log is kept: with how many heuristic outcomes.
async fn heuristics_kept(scene: &Scene) -> Vec<HeuristicOutcome> {
    let log = pactum_coordinator::open_log(&scene.log_url).await.unwrap();
    let stored = log.list(&ListPage { limit: 10, ..ListPage::default() }).await.unwrap();
    stored.iter().flat_map(|one| one.heuristics.iter().map(|kept| kept.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_prepared_by_hand_after_the_decision_is_an_ack() {
    // D3: 42704, and the evidence says committed.
    let scene = scene(At::Pause("decision-durable", 1)).await;
    let done = by_hand(&scene, "commit prepared").await;
    let expected = Outcome::Committed { read_only: false, unfinished: Vec::new(), heuristic: None };
    assert_eq!(done.outcome, Some(expected), "{done:?}");
    assert_eq!(heuristics_kept(&scene).await, []);
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![done]).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_prepared_by_hand_after_the_decision_is_told_as_mixed_and_kept() {
    // D8, D3, law 8: never an ack. The first bank has committed, the second lost it.
    let scene = scene(At::Pause("decision-durable", 1)).await;
    let done = by_hand(&scene, "rollback prepared").await;
    let (id, branches) = (done.id.unwrap(), done.branches.clone());
    assert_eq!(done.told, Told::Committed, "the decision stands: {done:?}");
    let heuristic = eventually("the heuristic outcome being told", || async {
        match scene.pactum.outcome(id, branches.clone()).await {
            Ok(Standing::Decided(outcome)) => outcome.heuristic(),
            _ => None,
        }
    })
    .await;
    assert_eq!(heuristic, HeuristicOutcome::Mixed);
    assert_eq!(heuristics_kept(&scene).await, [HeuristicOutcome::Aborted]);
    // Told and kept also after a restart.
    scene.c.restart(None).await;
    let again = eventually("the heuristic outcome being told again", || async {
        match scene.pactum.outcome(id, branches.clone()).await {
            Ok(Standing::Decided(outcome)) => Some(outcome.heuristic()),
            _ => None,
        }
    })
    .await;
    assert_eq!(again, Some(HeuristicOutcome::Mixed));
    // And nobody has made up for it: the money is gone from one side only.
    assert_eq!(scene.a.books.balance("1").await.unwrap(), OPENING - 5);
    assert_eq!(scene.b.books.ledger().await.unwrap(), [] as [Entry; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_prepared_by_hand_before_an_abort_is_told_as_heuristic_and_kept() {
    // D3 on the abort side, G2 without our tools: somebody committed ahead of the decision, which
    // then is abort, because the coordinator dies without one.
    let scene = scene(At::Pause("vote-received", 2)).await;
    let moving = transfer(&scene.pactum, &scene.a, &scene.b, "1", 5);
    let meddling = async {
        scene.c.paused().await;
        let names = scene.b.books.prepared().await.unwrap();
        let [name] = &names[..] else { panic!("one branch is prepared: {names:?}") };
        let sql = format!("commit prepared '{name}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(scene.b.books.pool()).await.unwrap();
        scene.c.restart(None).await;
    };
    let (done, ()) = futures::join!(moving, meddling);
    assert_ne!(done.told, Told::Committed, "{done:?}");
    // The first bank obeys the decision.
    eventually("the end of the first branch", || async {
        scene.a.books.prepared().await.ok()?.is_empty().then_some(())
    })
    .await;
    assert_eq!(scene.a.books.ledger().await.unwrap(), []);
    assert_eq!(scene.b.books.ledger().await.unwrap().len(), 1);
    let kept = eventually("the heuristic outcome being kept", || async {
        Some(heuristics_kept(&scene).await).filter(|kept| !kept.is_empty())
    })
    .await;
    assert_eq!(kept, [HeuristicOutcome::Committed]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_prepared_by_hand_before_an_abort_is_no_heuristic() {
    // G3: it equals the decision.
    let scene = scene(At::Pause("vote-received", 2)).await;
    let moving = transfer(&scene.pactum, &scene.a, &scene.b, "1", 5);
    let meddling = async {
        scene.c.paused().await;
        let names = scene.b.books.prepared().await.unwrap();
        let sql = format!("rollback prepared '{}'", names[0]);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(scene.b.books.pool()).await.unwrap();
        scene.c.restart(None).await;
    };
    let (done, ()) = futures::join!(moving, meddling);
    assert_eq!(check(&scene.pactum, &[&scene.a.books, &scene.b.books], vec![done]).await, (0, 1));
    assert_eq!(heuristics_kept(&scene).await, []);
}
