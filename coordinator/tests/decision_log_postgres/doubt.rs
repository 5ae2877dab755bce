//! A log that was put back from a copy (B5), and the locks that keep a closing from slipping past a doubt (H8).

use std::sync::Arc;

use pactum_coordinator::decision_log::contract::{abort, commit, gid};
use pactum_coordinator::decision_log::{DecisionLog as _, LogEventKind, Release};
use pactum_core::id::Incarnation;
use pactum_core::outcome::{LookUpResult, ProposalResult};
use pactum_postgres_server::{PostgresServer, Restored};

use crate::fixture::{Fixture, HOLD_GID_1, beat, execute, look_up, open, results, write};

async fn of_its_own() -> (PostgresServer, Fixture) {
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    let fixture = Fixture { log: Arc::new(open(&url).await), url };
    (server, fixture)
}

async fn doubted(fixture: &Fixture) -> Vec<Incarnation> {
    fixture.log.doubts().await.unwrap().into_iter().map(|doubted| doubted.incarnation).collect()
}

/// Only who knew more can tell; and what it misses it does not vouch for.
#[tokio::test]
async fn b5_a_copy_on_the_same_timeline_is_noticed_by_its_position() {
    let (server, fixture) = of_its_own().await;
    let (own, mut writer) = fixture.started().await;
    assert_eq!(writer.write(own, &[commit(own, gid(1), 1)]).await, [ProposalResult::Won]);
    let copy = server.copy().unwrap();
    // A restarted server writes some of its own; what is lost must be more for its position to tell.
    for n in 2..=200 {
        assert_eq!(writer.write(own, &[commit(own, gid(n), n)]).await, [ProposalResult::Won]);
    }
    fixture.log.heartbeat(own).await.unwrap();
    server.restore(&copy, Restored::SameTimeline).unwrap();
    let view = beat(&fixture.log, own).await;
    assert_eq!((view.live, view.doubted), (false, 1), "it misses a decision that was acknowledged");
    assert_eq!(doubted(&fixture).await, [own]);
    let events = fixture.log.status().await.unwrap().events;
    assert_eq!(events[0].kind, LogEventKind::Lost);
    assert!(events[0].detail.contains(&gid(200).to_string()), "{events:?}");
    // Whoever else comes is told nothing that is guessed, and all that stands.
    let other = open(&fixture.url).await;
    let closer = other.start_incarnation("there").await.unwrap();
    let mut writer = other.open_writer().await.unwrap();
    assert_eq!(writer.write(closer, &[abort(own, gid(200))]).await, [ProposalResult::Doubted]);
    assert!(matches!(look_up(&other, &[gid(1)]).await[..], [LookUpResult::Stands(_)]));
    // It is not vouched for at a later beat either.
    assert_eq!(fixture.log.heartbeat(own).await.unwrap().doubted, 1);
    assert_eq!(other.release(Release::One(own), "told the banks").await.unwrap(), 1);
    assert_eq!(writer.write(closer, &[abort(own, gid(200))]).await, [ProposalResult::Won]);
}

#[tokio::test]
async fn b5_a_restore_is_noticed_by_its_timeline_once_whoever_comes_first() {
    let (server, fixture) = of_its_own().await;
    let (ended, mut writer) = fixture.started().await;
    writer.write(ended, &[commit(ended, gid(1), 1)]).await;
    fixture.log.end_incarnation(ended).await.unwrap();
    let (dead, _) = fixture.started().await;
    let copy = server.copy().unwrap();
    assert_eq!(writer.write(dead, &[commit(dead, gid(2), 1)]).await, [ProposalResult::Won]);
    drop(writer);
    server.restore(&copy, Restored::NewTimeline).unwrap();
    // Four that know nothing come at once.
    let come = || open(&fixture.url);
    let (one, two, three, four) = futures::join!(come(), come(), come(), come());
    for log in [&one, &two, &three, &four] {
        let status = log.status().await.unwrap();
        assert_eq!((status.switches, status.absent_doubted), (1, true));
        assert_eq!(status.server.unwrap().timeline, 2);
    }
    let fixture = Fixture { log: Arc::new(one), ..fixture };
    assert_eq!(doubted(&fixture).await, [dead], "the end of the other one stands, so its commits do");
    let (own, mut writer) = fixture.started().await;
    let closings = [abort(dead, gid(2)), abort(ended, gid(3))];
    assert_eq!(writer.write(own, &closings).await, [ProposalResult::Doubted, ProposalResult::Won]);
}

#[tokio::test]
async fn b5_who_finds_all_that_was_acknowledged_vouches_for_itself() {
    let (server, fixture) = of_its_own().await;
    let (own, mut writer) = fixture.started().await;
    for n in 1..=3 {
        assert_eq!(writer.write(own, &[commit(own, gid(n), n)]).await, [ProposalResult::Won]);
    }
    // H1: what was forgotten is not missing.
    let update =
        pactum_coordinator::decision_log::FinishUpdate { mark: Some((own, 3)), ..Default::default() };
    fixture.log.record_finished(&update).await.unwrap();
    fixture.log.raise_floor(gid(3)).await.unwrap();
    assert_eq!(fixture.log.delete_below_floor(10).await.unwrap(), 3);
    let copy = server.copy().unwrap();
    server.restore(&copy, Restored::NewTimeline).unwrap();
    let view = beat(&fixture.log, own).await;
    assert_eq!((view.live, view.doubted), (false, 0));
    let (_, mut writer) = fixture.started().await;
    // The connections of before are void.
    assert_eq!(writer.write(own, &[abort(own, gid(4))]).await, [ProposalResult::Won]);
    assert_eq!(writer.write(own, &[commit(own, gid(5), 4)]).await, [ProposalResult::Fenced]);
}

#[tokio::test]
async fn h8_putting_an_owner_in_doubt_waits_for_the_closings_that_saw_it_without() {
    let fixture = Fixture::new().await;
    let (owner, _) = fixture.started().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let closing = write(writer, own, vec![abort(owner, gid(1))]);
    fixture.until_waiting(1).await;
    let log = Arc::clone(&fixture.log);
    let doubting = tokio::spawn(async move { log.doubt_all("as a test wants").await });
    fixture.until_waiting(2).await;
    assert!(!doubting.is_finished());
    execute(&mut stranger, "ROLLBACK").await;
    assert_eq!(results(closing).await, [ProposalResult::Won]);
    doubting.await.unwrap().unwrap();
    assert!(matches!(look_up(&fixture.log, &[gid(1)]).await[..], [LookUpResult::Stands(_)]));
}

#[tokio::test]
async fn h8_a_closing_that_waited_for_a_doubt_writes_nothing() {
    let doubts = [
        "BEGIN; UPDATE pactum.incarnations SET ended_at = now(), doubted = true",
        "BEGIN; UPDATE pactum.log_state SET switches = 1, absent_doubted = true",
    ];
    for (doubt, is_absent) in doubts.into_iter().zip([false, true]) {
        let fixture = Fixture::new().await;
        let (own, writer) = fixture.started().await;
        let absent = Incarnation::from_uuid(uuid::Uuid::from_u128(0xdead));
        let owner = if is_absent { absent } else { own };
        // By a bare row lock: the re-check of the locked row alone must do.
        let mut operator = fixture.connection().await;
        execute(&mut operator, doubt).await;
        let closing = write(writer, own, vec![abort(owner, gid(1))]);
        fixture.until_waiting(1).await;
        execute(&mut operator, "COMMIT").await;
        assert_eq!(results(closing).await, [ProposalResult::Doubted], "absent: {is_absent}");
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM pactum.decisions")
            .fetch_one(&mut operator)
            .await
            .unwrap();
        assert_eq!(rows, 0);
    }
}

/// A commit that was acknowledged before the adoption is there after it, though both ran at once.
#[tokio::test]
async fn h8_no_commit_is_acknowledged_past_a_doubt_and_none_before_it_is_missing() {
    let fixture = Fixture::new().await;
    let (own, mut writer) = fixture.started().await;
    let committing = tokio::spawn(async move {
        for n in 1.. {
            match &writer.write(own, &[commit(own, gid(n), n)]).await[..] {
                [ProposalResult::Won] => {}
                // Its era has passed, or its fence has closed.
                [ProposalResult::Fenced | ProposalResult::Unknown] => return n - 1,
                other => panic!("{other:?}"),
            }
        }
        unreachable!("it ends by the doubt")
    });
    let before = async || look_up(&fixture.log, &[gid(20)]).await;
    while !matches!(before().await[..], [LookUpResult::Stands(_)]) {}
    // As another coordinator would do it.
    open(&fixture.url).await.doubt_all("as a test wants").await.unwrap();
    let seen = fixture.log.unfinished_commits(own, None, u32::MAX).await.unwrap();
    let acknowledged = committing.await.unwrap();
    assert_eq!(seen.len() as u64, acknowledged, "all of them at the doubt, and none later");
    let view = fixture.log.heartbeat(own).await.unwrap();
    assert_eq!((view.live, view.doubted), (false, 0));
}
