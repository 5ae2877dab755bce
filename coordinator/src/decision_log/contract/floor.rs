//! The claims about the floor and what is forgotten under it (law 7).

use std::time::Duration;

use pactum_core::id::Gid;
use pactum_core::outcome::{HeuristicOutcome, LookUpResult, ProposalResult};

use super::{Log, abort, branch, commit, finish_through, gid, started, write_one};
use crate::decision_log::{FinishUpdate, HeuristicRecord, ListPage, Proposal};

/// Law 7, B8; one stale gid does not fail the batch (H1).
///
/// # Panics
/// If the claim does not hold.
pub async fn at_and_under_the_floor_nothing_is_written_and_nothing_answered(log: Log) {
    let (own, mut writer) = started(&log).await;
    let old = abort(own, gid(5));
    assert_eq!(write_one(&mut *writer, own, old.clone()).await, ProposalResult::Won);
    assert_eq!(log.raise_floor(gid(10)).await.expect("the floor is raised"), gid(10));
    assert_eq!(log.raise_floor(gid(9)).await.expect("it is asked for"), gid(10), "never lowered");
    assert_eq!(log.heartbeat(own).await.expect("a heartbeat answers").floor, gid(10));
    let batch = [
        commit(own, gid(10), 1),
        abort(own, gid(9)),
        commit(own, gid(11), 2),
        old.clone(),
        abort(own, gid(12)),
    ];
    let results = writer.write(own, &batch).await;
    let (forgotten, won) = (ProposalResult::Forgotten, ProposalResult::Won);
    assert_eq!(results, [forgotten.clone(), forgotten.clone(), won.clone(), forgotten, won]);
    let found = log.look_up(&[gid(5), gid(9), gid(10), gid(13)]).await.expect("a look-up answers");
    let (under, none) = (LookUpResult::Forgotten, LookUpResult::NoRecord);
    assert_eq!(found, [under.clone(), under.clone(), under, none]);
}

/// Law 7.
///
/// # Panics
/// If the claim does not hold.
pub async fn the_floor_is_not_raised_over_an_unfinished_commit(log: Log) {
    let (own, mut writer) = started(&log).await;
    let batch = [commit(own, gid(1), 1), commit(own, gid(2), 2), abort(own, gid(3))];
    assert_eq!(writer.write(own, &batch).await, vec![ProposalResult::Won; 3]);
    assert_eq!(log.raise_floor(gid(3)).await.expect("it is asked for"), Gid::NIL);
    finish_through(&log, own, 1).await;
    assert_eq!(log.raise_floor(gid(3)).await.expect("it is asked for"), Gid::NIL);
    assert_eq!(log.raise_floor(gid(1)).await.expect("it is raised"), gid(1));
    finish_through(&log, own, 2).await;
    assert_eq!(log.raise_floor(gid(3)).await.expect("it is raised"), gid(3));
}

/// Law 7: stragglers and heuristic outcomes are kept when the floor passes them.
///
/// # Panics
/// If the claim does not hold.
pub async fn stragglers_and_heuristics_outlive_the_floor(log: Log) {
    let (own, mut writer) = started(&log).await;
    let batch = [commit(own, gid(1), 1), commit(own, gid(2), 2), commit(own, gid(3), 3)];
    assert_eq!(writer.write(own, &batch).await, vec![ProposalResult::Won; 3]);
    let straggler = batch[0].record.id;
    let update =
        FinishUpdate { mark: Some((own, 3)), add_stragglers: vec![straggler], remove_stragglers: Vec::new() };
    log.record_finished(&update).await.expect("end records are taken in");
    let outcome = HeuristicOutcome::Aborted;
    let heuristic = HeuristicRecord { id: batch[1].record.id, branch: branch(1), outcome };
    log.record_heuristics(&[heuristic]).await.expect("a heuristic outcome is kept");
    assert_eq!(log.raise_floor(gid(3)).await.expect("it is raised"), gid(3));
    assert_eq!(log.delete_below_floor(100).await.expect("records are deleted"), 1);
    let left = log.unfinished_commits(own, None, 10).await.expect("commits are read");
    assert_eq!(left.iter().map(|c| &c.record).collect::<Vec<_>>(), [&batch[0].record]);
    let update = FinishUpdate { remove_stragglers: vec![straggler.gid], ..FinishUpdate::default() };
    log.record_finished(&update).await.expect("end records are taken in");
    assert_eq!(log.delete_below_floor(100).await.expect("records are deleted"), 1);
    let page = ListPage { limit: 10, ..ListPage::default() };
    let listed = log.list(&page).await.expect("the log is listed");
    assert_eq!(listed.iter().map(|stored| stored.id.gid).collect::<Vec<_>>(), [gid(2)]);
}

/// Law 7: rows are deleted in bounded batches, and only below the floor.
///
/// # Panics
/// If the claim does not hold.
pub async fn deletion_below_the_floor_is_bounded(log: Log) {
    let (own, mut writer) = started(&log).await;
    let batch: Vec<Proposal> = (1..=10).map(|n| abort(own, gid(n))).collect();
    writer.write(own, &batch).await;
    assert_eq!(log.delete_below_floor(100).await.expect("records are deleted"), 0);
    assert_eq!(log.raise_floor(gid(8)).await.expect("it is raised"), gid(8));
    for expected in [5, 3, 0] {
        assert_eq!(log.delete_below_floor(5).await.expect("records are deleted"), expected);
    }
    let found = log.look_up(&[gid(9), gid(8)]).await.expect("a look-up answers");
    let stands = LookUpResult::Stands(Box::new(batch[8].record.clone()));
    assert_eq!(found, [stands, LookUpResult::Forgotten]);
}

/// Retention is by when a record was written; the time inside a gid is not compared with a clock (law 6).
///
/// # Panics
/// If the claim does not hold.
pub async fn the_floor_may_pass_only_what_is_old_enough(log: Log) {
    let (own, mut writer) = started(&log).await;
    assert_eq!(log.newest_older_than(Duration::ZERO).await.expect("it is read"), None);
    writer.write(own, &[abort(own, gid(3)), abort(own, gid(7))]).await;
    assert_eq!(log.newest_older_than(Duration::from_hours(1)).await.expect("it is read"), None);
    assert_eq!(log.newest_older_than(Duration::ZERO).await.expect("it is read"), Some(gid(7)));
    log.raise_floor(gid(7)).await.expect("it is raised");
    assert_eq!(log.newest_older_than(Duration::ZERO).await.expect("it is read"), None);
}
