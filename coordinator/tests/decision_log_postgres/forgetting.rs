//! Forgetting (law 7; B8, H1): with the floor moving, a log holds no more than its retention.

use std::sync::Arc;
use std::time::Duration;

use pactum_coordinator::decision_log::contract::{abort, branch, commit, gid};
use pactum_coordinator::decision_log::{DecisionLog as _, FinishUpdate, UndecidedRecord};
use pactum_core::id::TransactionId;
use pactum_core::outcome::{Details, LookUpResult, ProposalResult};
use pactum_postgres_server::PostgresServer;

use crate::fixture::{Fixture, beat, execute, look_up, open};

/// Commits in one batch, and how many batches.
const BATCH: u64 = 500;
const BATCHES: u64 = 40;

#[tokio::test]
async fn b8_the_log_stays_flat_while_twenty_thousand_commits_pass_and_the_floor_moves() {
    let fixture = Fixture::new().await;
    let (own, mut writer) = fixture.started().await;
    let mut watcher = fixture.connection().await;
    let (mut most, mut deleted) = (0, 0);
    for batch in 0..BATCHES {
        let numbers = batch * BATCH + 1..=(batch + 1) * BATCH;
        let proposals: Vec<_> = numbers.clone().map(|n| commit(own, gid(n), n)).collect();
        let results = writer.write(own, &proposals).await;
        assert!(results.iter().all(|result| *result == ProposalResult::Won));
        // All but the first of each batch finish at once; that one, a batch later.
        let straggler = |batch: u64| commit(own, gid(batch * BATCH + 1), 1).record.id;
        let update = FinishUpdate {
            mark: Some((own, *numbers.end())),
            add_stragglers: vec![straggler(batch)],
            remove_stragglers: (batch > 0).then(|| straggler(batch - 1).gid).into_iter().collect(),
        };
        fixture.log.record_finished(&update).await.unwrap();
        // What a coordinator does now and then, with no retention at all.
        if let Some(to) = fixture.log.newest_older_than(Duration::ZERO).await.unwrap() {
            assert_eq!(fixture.log.raise_floor(to).await.unwrap(), to);
        }
        loop {
            let gone = fixture.log.delete_below_floor(200).await.unwrap();
            assert!(gone <= 200);
            deleted += gone;
            if gone < 200 {
                break;
            }
        }
        let sql = "SELECT (SELECT count(*) FROM pactum.decisions) + (SELECT count(*) FROM pactum.stragglers) \
                   + (SELECT count(*) FROM pactum.undecided)";
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(&mut watcher).await.unwrap();
        most = most.max(rows);
        // B8: whoever comes late is told that it is forgotten, never abort; and writes nothing (H1).
        let late = [abort(own, gid(2)), commit(own, gid(2), 2)];
        assert_eq!(writer.write(own, &late).await, vec![ProposalResult::Forgotten; 2]);
        assert_eq!(fixture.log.look_up(&[gid(2)]).await.unwrap(), [LookUpResult::Forgotten]);
    }
    assert!(most <= 4, "the straggler of a batch and its listing, and those of the one before: {most} rows");
    assert_eq!(deleted, BATCH * BATCHES - 1, "all but the last straggler");
}

#[tokio::test]
async fn a_straggler_without_a_record_is_not_recovered_for_ever() {
    let fixture = Fixture::new().await;
    let (dead, _) = fixture.started().await;
    fixture.log.end_incarnation(dead).await.unwrap();
    let nothing = TransactionId { incarnation: dead, gid: gid(1) };
    let update = FinishUpdate { add_stragglers: vec![nothing], ..FinishUpdate::default() };
    fixture.log.record_finished(&update).await.unwrap();
    assert_eq!(fixture.log.unrecovered_incarnations().await.unwrap(), [dead]);
    fixture.log.mark_recovered(dead).await.unwrap();
    assert_eq!(fixture.log.unrecovered_incarnations().await.unwrap(), []);
    fixture.log.raise_floor(gid(1)).await.unwrap();
    fixture.log.delete_below_floor(10).await.unwrap();
    let sql = "SELECT count(*) FROM pactum.stragglers";
    let left: i64 = sqlx::query_scalar(sql).fetch_one(&mut fixture.connection().await).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn prepare_records_of_the_long_dead_are_dropped_and_those_of_others_kept() {
    let fixture = Fixture::new().await;
    let (dead, _) = fixture.started().await;
    let (unrecovered, _) = fixture.started().await;
    let (own, _) = fixture.started().await;
    let record = |owner, n: u64, age| UndecidedRecord {
        id: TransactionId { incarnation: owner, gid: gid(n) },
        branches: vec![branch(1)],
        details: Details::default(),
        age,
    };
    let (long, short) = (Duration::from_hours(2), Duration::from_mins(1));
    let records =
        [record(dead, 1, long), record(dead, 2, short), record(unrecovered, 3, long), record(own, 4, long)];
    fixture.log.record_undecided(&records, &[]).await.unwrap();
    fixture.log.end_incarnation(unrecovered).await.unwrap();
    fixture.log.end_incarnation(dead).await.unwrap();
    fixture.log.mark_recovered(dead).await.unwrap();
    let mut watcher = fixture.connection().await;
    let sql = "SELECT gid FROM pactum.undecided ORDER BY gid";
    let left: Vec<uuid::Uuid> = sqlx::query_scalar(sql).fetch_all(&mut watcher).await.unwrap();
    assert_eq!(left, [2, 3, 4].map(|n| *gid(n).as_uuid()));
    // A row of an owner that has none is as dead.
    execute(&mut watcher, "UPDATE pactum.undecided SET incarnation = gen_random_uuid()").await;
    fixture.log.delete_below_floor(10).await.unwrap();
    let left: Vec<uuid::Uuid> = sqlx::query_scalar(sql).fetch_all(&mut watcher).await.unwrap();
    assert_eq!(left, [*gid(2).as_uuid()], "young ones are kept for people to see");
}

#[tokio::test]
async fn what_a_recovery_listed_outlives_a_crash_of_the_server_before_its_mark() {
    // Nothing that is lazy is on the disk by itself.
    let server = PostgresServer::start_with(&[("wal_writer_delay", "10s")]).unwrap();
    let url = server.create_database("log").unwrap();
    let fixture = Fixture { log: Arc::new(open(&url).await), url };
    let (own, mut writer) = fixture.started().await;
    let proposals = [commit(own, gid(1), 1), commit(own, gid(2), 2)];
    assert_eq!(writer.write(own, &proposals).await, [ProposalResult::Won, ProposalResult::Won]);
    drop(writer);
    fixture.log.end_incarnation(own).await.unwrap();
    fixture.log.heartbeat(own).await.unwrap();
    let add_stragglers = proposals.iter().map(|proposal| proposal.record.id).collect();
    let listed = FinishUpdate { add_stragglers, ..FinishUpdate::default() };
    fixture.log.record_finished(&listed).await.unwrap();
    server.kill().unwrap();
    server.restart().unwrap();
    // The crash was noticed on another connection; whoever recovers goes on where he was.
    beat(&fixture.log, own).await;
    fixture.log.mark_recovered(own).await.unwrap();
    look_up(&fixture.log, &[gid(1)]).await;
    let left = fixture.log.unfinished_commits(own, None, 10).await.unwrap();
    assert_eq!(
        left.iter().map(|commit| commit.number).collect::<Vec<_>>(),
        [1, 2],
        "nobody else drives them"
    );
}
