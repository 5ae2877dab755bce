//! Answers that are lost, late, or not to be trusted: B2, B6, B10, H8.

use std::sync::Arc;
use std::time::Duration;

use pactum_coordinator::decision_log::contract::{abort, commit, gid};
use pactum_coordinator::decision_log::postgres::{PostgresLog, PostgresLogOptions};
use pactum_coordinator::decision_log::{DecisionLog as _, DecisionLogError};
use pactum_core::outcome::{LookUpResult, ProposalResult};
use pactum_postgres_server::PostgresServer;

use crate::fixture::{Fixture, HOLD_GID_1, LIMIT, execute, lost, new_database, open, results, write};

#[tokio::test]
async fn h8_a_cancelled_wait_for_a_synchronous_standby_is_unknown() {
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    let fixture = Fixture { log: Arc::new(open(&url).await), url };
    let (own, writer) = fixture.started().await;
    server.set("synchronous_standby_names", "nobody").unwrap();
    let writing = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until("wait_event = 'SyncRep'", 1).await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut canceller = fixture.connection().await;
    execute(&mut canceller, cancel).await;
    let (mut writer, answers) = tokio::time::timeout(LIMIT, writing).await.unwrap().unwrap();
    assert_eq!(answers, [ProposalResult::Unknown]);
    assert_eq!(writer.write(own, &[abort(own, gid(2))]).await, [ProposalResult::Unknown], "it is spent");
    // B6: the row is visible, and is handed out only after a forced write of our own. That waits too.
    let log = Arc::clone(&fixture.log);
    let looking = tokio::spawn(async move { log.look_up(&[gid(1)]).await });
    fixture.until("wait_event = 'SyncRep'", 1).await;
    assert!(!looking.is_finished());
    execute(&mut canceller, cancel).await;
    assert!(looking.await.unwrap().is_err(), "a cancelled barrier is none");
    let writer = fixture.log.open_writer().await.unwrap();
    let settling = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until("wait_event = 'SyncRep'", 1).await;
    server.set("synchronous_standby_names", "").unwrap();
    assert_eq!(results(settling).await, [lost(&commit(own, gid(1), 1))]);
}

#[tokio::test]
async fn b2_a_server_that_does_not_answer_in_time_is_unknown_and_the_key_waits_for_it() {
    let url = new_database();
    let limit = Duration::from_millis(600);
    let options = PostgresLogOptions::from_url(&url).unwrap().with_answer_limit(limit);
    let fixture = Fixture { log: Arc::new(PostgresLog::open(options).await.unwrap()), url };
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    assert_eq!(results(write(writer, own, vec![commit(own, gid(1), 1)])).await, [ProposalResult::Unknown]);
    execute(&mut stranger, "ROLLBACK").await;
    let writer = fixture.log.open_writer().await.unwrap();
    let settled = results(write(writer, own, vec![commit(own, gid(1), 1)])).await;
    assert!(settled == [ProposalResult::Won] || settled == [lost(&commit(own, gid(1), 1))], "{settled:?}");
}

#[tokio::test]
async fn b2_a_connection_that_is_killed_in_mid_write_is_unknown() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let writing = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until_waiting(1).await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                AND wait_event_type = 'Lock'";
    execute(&mut fixture.connection().await, kill).await;
    assert_eq!(results(writing).await, [ProposalResult::Unknown]);
}

#[tokio::test]
async fn b10_a_record_of_another_format_stops_recovery_and_is_never_skipped() {
    let fixture = Fixture::new().await;
    let (own, mut writer) = fixture.started().await;
    writer.write(own, &[commit(own, gid(1), 1), commit(own, gid(2), 2)]).await;
    let mut owner = fixture.connection().await;
    execute(&mut owner, "UPDATE pactum.decisions SET format = 9 WHERE number = 1").await;
    let error = fixture.log.unfinished_commits(own, None, 10).await.unwrap_err();
    assert!(matches!(&error, DecisionLogError::Corrupt { gid: named, .. } if *named == gid(1).to_string()));
    // It concerns its own transaction alone, and that is not "no record".
    let found = fixture.log.look_up(&[gid(1), gid(2), gid(3)]).await.unwrap();
    let stands = LookUpResult::Stands(Box::new(commit(own, gid(2), 2).record));
    assert_eq!(found, [LookUpResult::Unknown, stands, LookUpResult::NoRecord]);
    let results = writer.write(own, &[abort(own, gid(1)), abort(own, gid(3))]).await;
    assert_eq!(results, [ProposalResult::Unknown, ProposalResult::Won]);
}
