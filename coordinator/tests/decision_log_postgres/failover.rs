//! A primary with standbys, and its end (B4, B6, H8): real streaming replication.

use std::sync::Arc;

use pactum_coordinator::decision_log::contract::{abort, commit, gid};
use pactum_coordinator::decision_log::postgres::{PostgresLog, PostgresLogOptions};
use pactum_coordinator::decision_log::{DecisionLog as _, DecisionLogError};
use pactum_core::id::Gid;
use pactum_core::outcome::{LookUpResult, ProposalResult};
use pactum_postgres_server::PostgresServer;

use crate::fixture::{Fixture, LIMIT, beat, look_up};

/// One URL for several servers, whose password is the same.
fn url_of(servers: &[&PostgresServer]) -> String {
    let url = servers[0].url("log");
    let places: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    url.replace(&places[0], &places.join(","))
}

fn options(servers: &[&PostgresServer]) -> PostgresLogOptions {
    PostgresLogOptions::from_url(&url_of(servers)).unwrap()
}

#[tokio::test]
async fn b4_a_failover_to_a_synchronous_standby_loses_no_decision_and_leaves_nothing_in_doubt() {
    let primary = PostgresServer::start().unwrap();
    primary.create_database("log").unwrap();
    let standby = primary.standby("s1").unwrap();
    primary.wait_for_standbys(&["s1"]).unwrap();
    // The standby first: it is refused, and the primary is found.
    let servers = [&standby, &primary];
    let log = Arc::new(PostgresLog::open(options(&servers).with_standbys_min(1)).await.unwrap());
    let own = log.start_incarnation("here").await.unwrap();
    let mut writer = log.open_writer().await.unwrap();
    for n in 1..=50 {
        assert_eq!(writer.write(own, &[commit(own, gid(n), n)]).await, [ProposalResult::Won]);
    }
    let replication = log.heartbeat(own).await.unwrap().replication.unwrap();
    assert_eq!((replication.required, replication.confirmed, replication.visible), (1, 1, true));
    primary.kill().unwrap();
    assert_eq!(writer.write(own, &[commit(own, gid(51), 51)]).await, [ProposalResult::Unknown]);
    standby.promote().unwrap();
    // The promoted one waits for nobody: it is found and read, and not written.
    let view = beat(&log, own).await;
    assert_eq!((view.live, view.doubted), (false, 0), "it vouched for itself");
    assert!(matches!(log.open_writer().await, Err(DecisionLogError::Refused { setting, .. })
        if setting == "synchronous_standby_names"));
    let gids: Vec<Gid> = (1..=50).map(gid).collect();
    let found = look_up(&log, &gids).await;
    assert!(found.iter().all(|found| matches!(found, LookUpResult::Stands(_))), "{found:?}");
    // The old primary comes back. Nobody goes back to it, neither who knows nor who is new.
    primary.set("synchronous_standby_names", "").unwrap_err();
    primary.restart().unwrap();
    for _ in 0..4 {
        beat(&log, own).await;
    }
    let new = PostgresLog::open(options(&[&primary, &standby])).await.unwrap();
    assert_eq!(new.status().await.unwrap().server.unwrap().timeline, 2);
    let (next, mut writer) =
        (new.start_incarnation("there").await.unwrap(), new.open_writer().await.unwrap());
    assert_eq!(
        writer.write(next, &[abort(own, gid(51)), commit(next, gid(52), 1)]).await,
        [ProposalResult::Won, ProposalResult::Won]
    );
    drop(new);
}

#[tokio::test]
async fn b4_a_failover_that_loses_decisions_is_noticed_and_nobody_is_told_a_guess() {
    let primary = PostgresServer::start().unwrap();
    primary.create_database("log").unwrap();
    let log = Arc::new(PostgresLog::open(options(&[&primary])).await.unwrap());
    drop(log);
    let standby = primary.standby("s1").unwrap();
    let log = Arc::new(PostgresLog::open(options(&[&primary, &standby])).await.unwrap());
    let own = log.start_incarnation("here").await.unwrap();
    let mut writer = log.open_writer().await.unwrap();
    assert_eq!(writer.write(own, &[commit(own, gid(1), 1)]).await, [ProposalResult::Won]);
    // All that has been written so far is there, and no more.
    let position = primary.wal_position().unwrap();
    let until = std::time::Instant::now() + LIMIT;
    while standby.wal_position().unwrap() < position {
        assert!(std::time::Instant::now() < until, "the standby does not catch up");
    }
    standby.detach().unwrap();
    assert_eq!(writer.write(own, &[commit(own, gid(2), 2)]).await, [ProposalResult::Won]);
    primary.kill().unwrap();
    standby.promote().unwrap();
    let view = beat(&log, own).await;
    assert_eq!((view.live, view.doubted), (false, 1));
    let next = log.start_incarnation("here").await.unwrap();
    let mut writer = log.open_writer().await.unwrap();
    let closings = [abort(own, gid(1)), abort(own, gid(2)), commit(next, gid(3), 1)];
    let results = writer.write(next, &closings).await;
    let stands = ProposalResult::Lost(Box::new(commit(own, gid(1), 1).record));
    assert_eq!(results, [stands, ProposalResult::Doubted, ProposalResult::Won]);
}

#[tokio::test]
async fn fewer_standbys_than_asked_for_are_refused_at_once_and_noticed_later() {
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    let asked = || PostgresLogOptions::from_url(&url).unwrap().with_standbys_min(1);
    let refused = PostgresLog::open(asked()).await.unwrap_err();
    assert!(
        matches!(&refused, DecisionLogError::Refused { setting: "synchronous_standby_names", .. }),
        "{refused}"
    );
    let standby = server.standby("s1").unwrap();
    server.wait_for_standbys(&["s1"]).unwrap();
    let fixture = Fixture { log: Arc::new(PostgresLog::open(asked()).await.unwrap()), url: url.clone() };
    let (own, mut writer) = fixture.started().await;
    assert_eq!(writer.write(own, &[commit(own, gid(1), 1)]).await, [ProposalResult::Won]);
    server.wait_for_standbys(&[]).unwrap();
    // Noticed at a heartbeat; a reload reaches sessions when they are next idle.
    let waiting = async || beat(&fixture.log, own).await.replication.unwrap().required;
    while waiting().await > 0 {}
    assert_eq!(writer.write(own, &[commit(own, gid(2), 2)]).await, [ProposalResult::Unknown]);
    assert!(writer.problem().unwrap().refuses_writes);
    fixture.log.open_writer().await.unwrap_err();
    // What stands is told, and that nothing was written.
    let found = look_up(&fixture.log, &[gid(1), gid(2)]).await;
    assert!(matches!(found[..], [LookUpResult::Stands(_), LookUpResult::NoRecord]), "{found:?}");
    server.wait_for_standbys(&["s1"]).unwrap();
    while waiting().await == 0 {}
    let mut writer = fixture.log.open_writer().await.unwrap();
    assert_eq!(writer.write(own, &[commit(own, gid(2), 2)]).await, [ProposalResult::Won]);
    drop(standby);
}
