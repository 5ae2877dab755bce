//! The statements that decide: their fence, their floor, the order of their locks (H1, H8). One commit alone has a
//! statement of its own, of which every claim holds as of a batch's.

use std::sync::Arc;

use pactum_coordinator::decision_log::contract::{abort, commit, gid};
use pactum_coordinator::decision_log::{DecisionLog as _, DecisionWriter, Proposal};
use pactum_core::id::{Gid, Incarnation};
use pactum_core::outcome::ProposalResult;

use crate::fixture::{Fixture, HOLD_GID_1, LIMIT, execute, lost, results, write};

#[tokio::test]
async fn h8_ending_an_incarnation_waits_for_a_batch_that_saw_it_live() {
    ending_waits_for_commits(2).await;
}

#[tokio::test]
async fn h8_ending_an_incarnation_waits_for_a_lone_commit_that_saw_it_live() {
    ending_waits_for_commits(1).await;
}

async fn ending_waits_for_commits(count: usize) {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    // A stranger's row on gid 1, not committed, holds the batch up after it has locked the fence.
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let writing = write(writer, own, commits(own, count));
    fixture.until_waiting(1).await;
    let log = Arc::clone(&fixture.log);
    let ending = tokio::spawn(async move { log.end_incarnation(own).await });
    fixture.until_waiting(2).await;
    assert!(!ending.is_finished());
    execute(&mut stranger, "ROLLBACK").await;
    assert_eq!(results(writing).await, vec![ProposalResult::Won; count]);
    ending.await.unwrap().unwrap();
    // Whoever ended it sees all that was written before.
    assert_eq!(fixture.log.unfinished_commits(own, None, 10).await.unwrap().len(), count);
}

/// So many, from gid 1 on.
fn commits(own: Incarnation, count: usize) -> Vec<Proposal> {
    (1..).map(|n| commit(own, gid(n), n)).take(count).collect()
}

#[tokio::test]
async fn h8_a_batch_that_waited_for_the_end_of_its_incarnation_writes_no_commit() {
    let batch = |own| vec![commit(own, gid(1), 1), abort(own, gid(2))];
    after_a_wait_for(END, batch, &[ProposalResult::Fenced, ProposalResult::Won], &[gid(2)]).await;
}

#[tokio::test]
async fn h8_a_lone_commit_that_waited_for_the_end_of_its_incarnation_is_not_written() {
    after_a_wait_for(END, |own| commits(own, 1), &[ProposalResult::Fenced], &[]).await;
}

/// By a bare row lock, without the table lock that `end_incarnation` takes besides: the re-check of the
/// locked row alone must do.
const END: &str = "BEGIN; UPDATE pactum.incarnations SET ended_at = now()";

#[tokio::test]
async fn h1_an_insert_that_was_blocked_while_the_floor_was_raised_writes_nothing() {
    let batch = |own| vec![commit(own, gid(5), 1), abort(own, gid(4)), commit(own, gid(6), 2)];
    let forgotten = ProposalResult::Forgotten;
    let expected = [forgotten.clone(), forgotten, ProposalResult::Won];
    after_a_wait_for(RAISE_FLOOR_TO_5, batch, &expected, &[gid(6)]).await;
}

#[tokio::test]
async fn h1_a_lone_commit_that_was_blocked_while_the_floor_was_raised_is_not_written() {
    after_a_wait_for(RAISE_FLOOR_TO_5, |own| vec![commit(own, gid(5), 1)], &[ProposalResult::Forgotten], &[])
        .await;
}

const RAISE_FLOOR_TO_5: &str =
    "BEGIN; UPDATE pactum.log_state SET floor = '0199c3d0-0000-7000-8000-000000000005'";

/// What a batch is answered, and what it has written, that was held up by a change until that was committed.
async fn after_a_wait_for(
    change: &'static str,
    batch: impl Fn(Incarnation) -> Vec<Proposal>,
    expected: &[ProposalResult],
    written: &[Gid],
) {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, change).await;
    let writing = write(writer, own, batch(own));
    fixture.until_waiting(1).await;
    execute(&mut stranger, "COMMIT").await;
    assert_eq!(results(writing).await, expected);
    let rows: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT gid FROM pactum.decisions ORDER BY gid")
        .fetch_all(&mut stranger)
        .await
        .unwrap();
    assert_eq!(rows.into_iter().map(Gid::from_uuid).collect::<Vec<_>>(), written);
}

#[tokio::test]
async fn h1_raising_the_floor_waits_for_a_batch_that_tested_the_old_one() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let writing = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until_waiting(1).await;
    let log = Arc::clone(&fixture.log);
    let raising = tokio::spawn(async move { log.raise_floor(gid(9)).await });
    fixture.until_waiting(2).await;
    execute(&mut stranger, "ROLLBACK").await;
    assert_eq!(results(writing).await, [ProposalResult::Won]);
    assert_eq!(raising.await.unwrap().unwrap(), Gid::NIL, "the commit that it waited for is unfinished");
}

#[tokio::test]
async fn h8_what_a_batch_waited_for_is_read_by_a_second_statement() {
    what_was_waited_for_is_read(2).await;
}

#[tokio::test]
async fn h8_what_a_lone_commit_waited_for_is_read_by_a_second_statement() {
    what_was_waited_for_is_read(1).await;
}

async fn what_was_waited_for_is_read(count: usize) {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let writing = write(writer, own, commits(own, count));
    fixture.until_waiting(1).await;
    execute(&mut stranger, "COMMIT").await;
    let results = results(writing).await;
    assert!(
        matches!(&results[..], [ProposalResult::Lost(record), ..]
            if record.reason.as_ref().is_some_and(|reason| &*reason.message == "closed")),
        "{results:?}"
    );
    assert_eq!(results[1..], vec![ProposalResult::Won; count - 1]);
}

#[tokio::test]
async fn h8_heartbeats_and_finish_marks_do_not_wait_for_batches() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let writing = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until_waiting(1).await;
    let lazy = async {
        fixture.log.heartbeat(own).await.unwrap();
        let update =
            pactum_coordinator::decision_log::FinishUpdate { mark: Some((own, 0)), ..Default::default() };
        fixture.log.record_finished(&update).await.unwrap();
    };
    tokio::time::timeout(LIMIT, lazy).await.unwrap();
    assert!(!writing.is_finished(), "the batch was held all the time");
    execute(&mut stranger, "ROLLBACK").await;
    assert_eq!(results(writing).await, [ProposalResult::Won]);
}

#[tokio::test]
async fn h8_opposed_batches_of_two_writers_never_deadlock() {
    let fixture = Fixture::new().await;
    let (own, one) = fixture.started().await;
    let (other, two) = fixture.started().await;
    let mut writers = (one, two);
    for round in 0..40_u64 {
        let gids = || (1..=200_u64).map(move |n| gid(round * 200 + n));
        let up: Vec<Proposal> = gids().zip(round * 200..).map(|(gid, n)| commit(own, gid, n + 1)).collect();
        let down: Vec<Proposal> = gids().rev().map(|gid| abort(own, gid)).collect();
        let (first, second) = (write(writers.0, own, up.clone()), write(writers.1, other, down.clone()));
        let (first, second) =
            tokio::time::timeout(LIMIT, futures::future::join(first, second)).await.unwrap();
        let ((one, first), (two, second)) = (first.unwrap(), second.unwrap());
        for (n, (result, proposal)) in first.iter().zip(&up).enumerate() {
            let opposed = &second[199 - n];
            let expected = if *result == ProposalResult::Won { lost(proposal) } else { ProposalResult::Won };
            assert_eq!(*opposed, expected, "exactly one of the two stands");
        }
        writers = (one, two);
    }
}

#[tokio::test]
async fn an_incarnation_is_ended_and_the_floor_raised_while_two_lanes_never_pause() {
    let fixture = Fixture::new().await;
    let (own, one) = fixture.started().await;
    let two = fixture.log.open_writer().await.unwrap();
    let lane = |mut writer: Box<dyn DecisionWriter>, from: u64| {
        tokio::spawn(async move {
            let mut n = from;
            loop {
                let results = writer.write(own, &[commit(own, gid(1_000 + n), n)]).await;
                n += 2;
                match &results[..] {
                    [ProposalResult::Won] => {}
                    [ProposalResult::Fenced] => return n,
                    other => panic!("{other:?}"),
                }
            }
        })
    };
    let lanes = (lane(one, 1), lane(two, 2));
    assert_eq!(fixture.log.raise_floor(gid(500)).await.unwrap(), gid(500));
    fixture.log.end_incarnation(own).await.unwrap();
    let ended = futures::future::join(lanes.0, lanes.1);
    let (one, two) = tokio::time::timeout(LIMIT, ended).await.unwrap();
    let tried = (one.unwrap() / 2 + two.unwrap() / 2).saturating_sub(3);
    let stand = fixture.log.unfinished_commits(own, None, u32::MAX).await.unwrap();
    assert!(stand.len() as u64 <= tried + 2 && stand.len() as u64 + 2 >= tried, "{} of {tried}", stand.len());
}
