//! The decision log's PostgreSQL fails over, with whole programs on it: applications, coordinators
//! and banks (B4, B6, H8). What its statements do is tested beside the log itself.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pactum::Pactum;
use pactum::application::Standing;
use pactum_coordinator::decision_log::{LogEventKind, Release};
use pactum_postgres_server::PostgresServer;
use pactum_tests::bank::{Bank, Books, Entry};
use pactum_tests::cluster::{Cluster, config};
use pactum_tests::faults::Proxy;
use pactum_tests::history::{TIMEOUT, Told, Transfer, check, definite_outcome, transfer, transfer_within};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, coordinator};
use pactum_tests::wait::eventually;

/// A bank in this process, on the shared server, that knows this coordinator and hears of others.
async fn bank(name: &str, cluster: &Cluster) -> Bank {
    cluster.bank(name).await
}

/// The name of the database in a URL.
fn database(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// Waits until the books hold so many entries more.
async fn more(books: &Books, entries: usize) {
    let before = books.ledger().await.unwrap().len();
    eventually("commits going on", || async {
        (books.ledger().await.ok()?.len() >= before + entries).then_some(())
    })
    .await;
}

/// Transfers by several tellers at once, until the other future is done.
async fn under_load(
    pactum: &Pactum,
    a: &Bank,
    b: &Bank,
    meanwhile: impl Future<Output = ()>,
) -> Vec<Transfer> {
    let stop = AtomicBool::new(false);
    let tellers = futures::future::join_all((0..4).map(|teller: i64| {
        let stop = &stop;
        async move {
            let mut done = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let within = Duration::from_secs(20);
                done.push(transfer_within(within, pactum, a, b, &teller.to_string(), 1).await);
            }
            done
        }
    }));
    let (done, ()) = futures::join!(tellers, async {
        meanwhile.await;
        stop.store(true, Ordering::SeqCst);
    });
    done.into_iter().flatten().collect()
}

/// Kills the primary and promotes the standby that is furthest ahead; the other follows it, and is
/// waited for. Answers the new primary.
fn fail_over<'a>(
    primary: &PostgresServer,
    one: &'a PostgresServer,
    two: &'a PostgresServer,
) -> &'a PostgresServer {
    primary.kill().unwrap();
    let ahead = one.wal_position().unwrap() >= two.wal_position().unwrap();
    let (new, other, name) = if ahead { (one, two, "s2") } else { (two, one, "s1") };
    new.promote().unwrap();
    other.follow(new, name).unwrap();
    new.wait_for_standbys(&[name]).unwrap();
    new
}

/// A promotion under load, with two coordinators that reach the log by this URL.
async fn a_promotion_loses_nothing(
    primary: &PostgresServer,
    standbys: (&PostgresServer, &PostgresServer),
    log_url: &str,
    proxy: Option<&Proxy>,
) {
    let name = database(log_url);
    let (c1, c2) = (Cluster::start_on(log_url, config()).await, Cluster::start_on(log_url, config()).await);
    let (a, b) = (bank("bank-a", &c1).await, bank("bank-b", &c2).await);
    let pactum = c1.application().await;
    let mut new = None;
    let transfers = under_load(&pactum, &a, &b, async {
        more(&a.books, 30).await;
        let promoted = tokio::task::block_in_place(|| fail_over(primary, standbys.0, standbys.1));
        if let Some(proxy) = proxy {
            proxy.redirect(promoted.port());
        }
        new = Some(promoted);
        more(&a.books, 30).await;
    })
    .await;
    let new = new.unwrap();
    let acknowledged: Vec<&Transfer> = transfers.iter().filter(|done| done.told == Told::Committed).collect();
    let gids: Vec<String> =
        acknowledged.iter().map(|done| format!("'{}'", done.id.unwrap().gid.as_uuid())).collect();
    let sql = format!(
        "select count(*) from pactum.decisions where decision = 'commit' and gid in ({})",
        gids.join(", ")
    );
    let stand = new.psql(name, &sql).unwrap();
    assert_eq!(stand, gids.len().to_string(), "every acknowledged decision is on the new primary");
    let (committed, _) = check(&pactum, &[&a.books, &b.books], transfers.clone()).await;
    assert!(committed >= 60, "{committed}");
    // It was noticed, and each coordinator found all that had been acknowledged to it.
    let log = pactum_coordinator::open_log(&new.url(name)).await.unwrap();
    eventually("no doubt being left", || async { log.doubts().await.ok()?.is_empty().then_some(()) }).await;
    let status = log.status().await.unwrap();
    assert!(status.switches >= 1, "{status:?}");
    assert!(!status.events.iter().any(|event| event.kind == LogEventKind::Lost), "{status:?}");
    assert_eq!(c1.coordinator.violations() + c2.coordinator.violations(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_a_promotion_under_load_loses_no_acknowledged_decision() {
    let primary = postgres::own(&[]);
    let log_url = postgres::database(&primary, "log");
    let (one, two) = (primary.standby("s1").unwrap(), primary.standby("s2").unwrap());
    primary.wait_for_standbys(&["s1", "s2"]).unwrap();
    let proxy = Proxy::start(primary.port()).await;
    a_promotion_loses_nothing(&primary, (&one, &two), &proxy.url(&log_url), Some(&proxy)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_a_url_of_several_hosts_follows_a_promotion_under_load() {
    let primary = postgres::own(&[]);
    let log_url = postgres::database(&primary, "log");
    let (one, two) = (primary.standby("s1").unwrap(), primary.standby("s2").unwrap());
    primary.wait_for_standbys(&["s1", "s2"]).unwrap();
    let port = |server: &PostgresServer| format!("127.0.0.1:{}", server.port());
    let hosts = [port(&primary), port(&one), port(&two)].join(",");
    let url = log_url.replace(&port(&primary), &hosts);
    a_promotion_loses_nothing(&primary, (&one, &two), &url, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_a_failover_that_loses_decisions_holds_what_is_in_doubt_and_tells_nobody_a_guess() {
    let primary = postgres::own(&[]);
    let log_url = postgres::database(&primary, "log");
    let standby = primary.standby("s1").unwrap();
    let proxy = Proxy::start(primary.port()).await;
    let url = proxy.url(&log_url);
    // The owner of what will be lost dies with it; another coordinator lives on.
    let owner = coordinator(&url, Some(At::Pause("decision-durable", 2))).await;
    let (a, b) =
        (BankProcess::start("bank-a", &owner, None).await, BankProcess::start("bank-b", &owner, None).await);
    let pactum = Pactum::connect(owner.url()).await.unwrap();
    let first = transfer(&pactum, &a, &b, "1", 5).await;
    assert_eq!(first.told, Told::Committed, "{first:?}");
    let position = primary.wal_position().unwrap();
    eventually("the standby catching up", || async {
        (standby.wal_position().ok()? >= position).then_some(())
    })
    .await;
    standby.detach().unwrap();
    // Committed, and about to be told, when the only server that knows goes away.
    let losing = Box::pin(transfer_within(TIMEOUT, &pactum, &a, &b, "2", 7));
    match futures::future::select(losing, Box::pin(owner.paused())).await {
        futures::future::Either::Left((done, _)) => panic!("nobody can have been told: {done:?}"),
        // Its application is gone too, without a word.
        futures::future::Either::Right(((), losing)) => std::mem::forget(losing),
    }
    assert_eq!(primary.psql(database(&log_url), "select count(*) from pactum.decisions").unwrap(), "2");
    owner.kill().await;
    tokio::task::block_in_place(|| {
        primary.kill().unwrap();
        standby.promote().unwrap();
    });
    proxy.redirect(standby.port());
    assert_eq!(standby.psql(database(&log_url), "select count(*) from pactum.decisions").unwrap(), "1");
    owner.restart(None).await;
    // Both branches are prepared, and nobody can know: each is reported to its operator.
    for bank in [&a, &b] {
        eventually("the branch being held", || async {
            bank.role.log().contains("stays prepared").then_some(())
        })
        .await;
        assert_eq!(bank.books.prepared().await.unwrap().len(), 1);
    }
    // And whoever asks is told nothing definite, also with the branches named.
    let held = a.books.prepared().await.unwrap().remove(0);
    let name: pactum::resource::PreparedName = held.parse().unwrap();
    for _ in 0..5 {
        let standing = pactum.outcome(name.id, Vec::new()).await;
        assert!(!matches!(standing, Ok(Standing::Decided(_))), "{standing:?}");
    }
    // New work goes on meanwhile, and the old record still tells what it told.
    let next = eventually("a transfer on the new primary", || async {
        let next = transfer(&pactum, &a, &b, "3", 1).await;
        (next.told == Told::Committed).then_some(next)
    })
    .await;
    let told = definite_outcome(&pactum, first.id.unwrap(), &first.branches).await;
    assert_eq!(told, Told::Committed);
    assert_eq!(a.books.prepared().await.unwrap(), [held], "it is still held");
    // The operator's word ends it.
    let log = pactum_coordinator::open_log(&standby.url(database(&log_url))).await.unwrap();
    assert!(!log.doubts().await.unwrap().is_empty());
    assert!(log.release(Release::All, "looked at every account").await.unwrap() >= 1);
    for bank in [&a, &b] {
        eventually("the held branch's end", || async {
            bank.books.prepared().await.ok()?.is_empty().then_some(())
        })
        .await;
    }
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![first, next]).await, (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_a_coordinator_that_misses_what_was_acknowledged_to_it_says_so_and_never_turns_it_around() {
    // The decision was told, and both banks have committed; then its record is lost, with its owner
    // alive.
    let primary = postgres::own(&[]);
    let log_url = postgres::database(&primary, "log");
    let standby = primary.standby("s1").unwrap();
    let proxy = Proxy::start(primary.port()).await;
    let cluster = Cluster::start_on(&proxy.url(&log_url), config()).await;
    let (a, b) = (bank("bank-a", &cluster).await, bank("bank-b", &cluster).await);
    let pactum = cluster.application().await;
    let first = transfer(&pactum, &a, &b, "1", 5).await;
    let position = primary.wal_position().unwrap();
    eventually("the standby catching up", || async {
        (standby.wal_position().ok()? >= position).then_some(())
    })
    .await;
    standby.detach().unwrap();
    let lost = transfer(&pactum, &a, &b, "2", 7).await;
    assert_eq!((first.told, lost.told), (Told::Committed, Told::Committed));
    tokio::task::block_in_place(|| {
        primary.kill().unwrap();
        standby.promote().unwrap();
    });
    proxy.redirect(standby.port());
    let log = pactum_coordinator::open_log(&standby.url(database(&log_url))).await.unwrap();
    eventually("the loss being recorded", || async {
        let status = log.status().await.ok()?;
        status.events.iter().any(|event| event.kind == LogEventKind::Lost).then_some(())
    })
    .await;
    assert_eq!(log.doubts().await.unwrap().len(), 1);
    // Another incarnation serves; the lost decision is told as it was, or not at all.
    let next = eventually("a transfer on the new primary", || async {
        let next = transfer(&pactum, &a, &b, "3", 1).await;
        (next.told == Told::Committed).then_some(next)
    })
    .await;
    let aborted =
        |standing: &Standing| matches!(standing, Standing::Decided(outcome) if !outcome.is_committed());
    for _ in 0..5 {
        let standing = pactum.outcome(lost.id.unwrap(), lost.branches.clone()).await;
        assert!(!standing.as_ref().is_ok_and(aborted), "{standing:?}");
    }
    assert_eq!(check(&pactum, &[&a.books, &b.books], vec![first, lost, next]).await, (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b6_an_old_primary_that_comes_back_is_refused() {
    // Split brain: clients are led back to the server that was left behind. It has rows that were
    // never replicated, and takes writes; nothing of either is acted on.
    let primary = postgres::own(&[]);
    let log_url = postgres::database(&primary, "log");
    let name = database(&log_url);
    let standby = primary.standby("s1").unwrap();
    primary.wait_for_standbys(&["s1"]).unwrap();
    let proxy = Proxy::start(primary.port()).await;
    let cluster = Cluster::start_on(&proxy.url(&log_url), config()).await;
    let (a, b) = (bank("bank-a", &cluster).await, bank("bank-b", &cluster).await);
    let pactum = cluster.application().await;
    let mut transfers = vec![transfer(&pactum, &a, &b, "1", 5).await];
    tokio::task::block_in_place(|| {
        primary.kill().unwrap();
        standby.promote().unwrap();
    });
    proxy.redirect(standby.port());
    transfers.push(
        eventually("a transfer on the new primary", || async {
            let next = transfer(&pactum, &a, &b, "2", 1).await;
            (next.told == Told::Committed).then_some(next)
        })
        .await,
    );
    tokio::task::block_in_place(|| primary.restart().unwrap());
    primary.wait_for_standbys(&[]).unwrap(); // it has none any more, and answers at once
    let before = primary.psql(name, "select count(*) from pactum.decisions").unwrap();
    proxy.redirect(primary.port());
    let refused = transfer_within(Duration::from_secs(5), &pactum, &a, &b, "3", 1).await;
    assert_ne!(refused.told, Told::Committed, "{refused:?}");
    transfers.push(refused);
    let after = primary.psql(name, "select count(*) from pactum.decisions").unwrap();
    assert_eq!(before, after, "nothing was written there");
    proxy.redirect(standby.port());
    transfers.push(
        eventually("a transfer on the right one", || async {
            let next = transfer(&pactum, &a, &b, "4", 1).await;
            (next.told == Told::Committed).then_some(next)
        })
        .await,
    );
    let (committed, _) = check(&pactum, &[&a.books, &b.books], transfers).await;
    assert!(committed >= 3, "{committed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_cancelled_wait_for_the_standby_is_told_to_nobody_until_it_is_replicated() {
    let primary = postgres::own(&[]);
    let log_url = postgres::database(&primary, "log");
    let standby = primary.standby("s1").unwrap();
    primary.wait_for_standbys(&["s1"]).unwrap();
    let cluster = Cluster::start_on(&log_url, config()).await;
    let (a, b) = (bank("bank-a", &cluster).await, bank("bank-b", &cluster).await);
    let pactum = cluster.application().await;
    standby.detach().unwrap();
    let moving = transfer_within(TIMEOUT, &pactum, &a, &b, "1", 5);
    let meddling = async {
        // Somebody keeps cancelling: each time the server says success, with a warning.
        let cancel =
            "select count(pg_cancel_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'";
        let mut cancelled = 0;
        while cancelled < 3 {
            cancelled += primary.psql("postgres", cancel).unwrap().parse::<i32>().unwrap();
            assert_eq!(a.books.ledger().await.unwrap(), [] as [Entry; 0], "not told before it is replicated");
            tokio::task::yield_now().await;
        }
        standby.follow(&primary, "s1").unwrap();
    };
    let (done, ()) = futures::join!(moving, meddling);
    assert_ne!(done.told, Told::Aborted, "{done:?}");
    let (committed, aborted) = check(&pactum, &[&a.books, &b.books], vec![done]).await;
    assert_eq!(committed + aborted, 1);
}
