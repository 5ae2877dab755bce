//! The claims about a log that went back in time (B4, B5).

use pactum_core::id::Incarnation;
use pactum_core::outcome::{LookUpResult, ProposalResult};
use uuid::Uuid;

use super::{Log, abort, commit, gid, lost, started, write_one};
use crate::decision_log::{LogEventKind, Release};

const REASON: &str = "restored from last night's copy";

async fn doubted(log: &Log) -> Vec<Incarnation> {
    log.doubts().await.expect("doubts are read").into_iter().map(|doubted| doubted.incarnation).collect()
}

/// B5: absence proves nothing about an owner in doubt, until somebody who knows says so.
///
/// # Panics
/// If the claim does not hold; so do all that follow.
pub async fn a_doubted_owner_is_closed_by_nobody_until_it_is_released(log: Log) {
    let (dead, mut writer) = started(&log).await;
    let stands = commit(dead, gid(1), 1);
    assert_eq!(write_one(&mut *writer, dead, stands.clone()).await, ProposalResult::Won);
    log.doubt_all(REASON).await.expect("it is taken in");
    assert_eq!(doubted(&log).await, [dead]);
    let (own, mut writer) = started(&log).await;
    let batch = [
        commit(own, gid(2), 1),
        abort(dead, gid(3)),
        abort(own, gid(4)),
        abort(dead, gid(1)),
        abort(dead, gid(5)),
    ];
    let results = writer.write(own, &batch).await;
    let (won, doubt) = (ProposalResult::Won, ProposalResult::Doubted);
    assert_eq!(results, [won.clone(), doubt.clone(), won.clone(), lost(&stands), doubt.clone()]);
    let view = log.heartbeat(own).await.expect("a heartbeat answers");
    assert_eq!((view.live, view.doubted), (true, 1), "who began after it is not in doubt");
    // Nothing was written, and asking again changes nothing.
    assert_eq!(log.look_up(&[gid(3)]).await.expect("a look-up answers"), [LookUpResult::NoRecord]);
    assert_eq!(write_one(&mut *writer, own, abort(dead, gid(3))).await, doubt);
    log.end_incarnation(dead).await.expect("it may be ended");
    log.mark_recovered(dead).await.expect("it may be marked");
    assert_eq!(doubted(&log).await, [dead], "whatever else happens to it");
    let lifted = log.release(Release::One(dead), "compared with the banks").await;
    assert_eq!(lifted.expect("it is released"), 1);
    assert_eq!(log.release(Release::One(dead), "again").await.expect("it is repeatable"), 0);
    assert_eq!(write_one(&mut *writer, own, abort(dead, gid(3))).await, won);
    assert_eq!(doubted(&log).await, []);
    let events = log.status().await.expect("the log says of itself").events;
    let told: Vec<_> = events.iter().map(|event| (event.kind, event.detail.as_str())).collect();
    let is_the_doubt =
        |(kind, detail): &(LogEventKind, &str)| *kind == LogEventKind::Doubted && detail.starts_with(REASON);
    assert!(told.iter().any(is_the_doubt), "{told:?}");
    assert!(told.contains(&(LogEventKind::Released, "compared with the banks")), "{told:?}");
}

/// Whoever knows of all that was acknowledged to it, and finds it, needs no operator. Its incarnation
/// has ended all the same.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_living_coordinator_vouches_for_its_own_incarnation(log: Log) {
    let (own, mut writer) = started(&log).await;
    let stands = commit(own, gid(1), 1);
    assert_eq!(write_one(&mut *writer, own, stands.clone()).await, ProposalResult::Won);
    log.doubt_all(REASON).await.expect("it is taken in");
    // A commit could contradict a closing that was lost.
    let mut writer = log.open_writer().await.expect("a writer opens");
    assert_eq!(write_one(&mut *writer, own, commit(own, gid(2), 2)).await, ProposalResult::Fenced);
    assert_eq!(write_one(&mut *writer, own, abort(own, gid(2))).await, ProposalResult::Doubted);
    let view = log.heartbeat(own).await.expect("a heartbeat answers");
    assert_eq!((view.live, view.doubted), (false, 0));
    assert_eq!(doubted(&log).await, []);
    assert_eq!(write_one(&mut *writer, own, abort(own, gid(2))).await, ProposalResult::Won);
    assert_eq!(write_one(&mut *writer, own, abort(own, gid(1))).await, lost(&stands));
}

/// History is a line: whose end stands has lost nothing that was before it.
///
/// # Panics
/// If the claim does not hold.
pub async fn an_incarnation_that_had_ended_is_not_doubted(log: Log) {
    let (ended, _) = started(&log).await;
    log.end_incarnation(ended).await.expect("an incarnation ends");
    log.doubt_all(REASON).await.expect("it is taken in");
    let (own, mut writer) = started(&log).await;
    assert_eq!(write_one(&mut *writer, own, abort(ended, gid(1))).await, ProposalResult::Won);
    assert_eq!(doubted(&log).await, []);
}

/// The start of an incarnation may be among what was lost.
///
/// # Panics
/// If the claim does not hold.
pub async fn an_owner_without_a_row_is_doubted_once_the_log_went_back(log: Log) {
    let absent = |number: u128| Incarnation::from_uuid(Uuid::from_u128(0xdead_0000 + number));
    let (own, mut writer) = started(&log).await;
    assert_eq!(write_one(&mut *writer, own, abort(absent(1), gid(1))).await, ProposalResult::Won);
    log.doubt_all(REASON).await.expect("it is taken in");
    let mut writer = log.open_writer().await.expect("a writer opens");
    assert!(log.status().await.expect("the log says of itself").absent_doubted);
    for (number, at) in [(1, 2), (2, 3), (3, 4)] {
        let result = write_one(&mut *writer, own, abort(absent(number), gid(at))).await;
        assert_eq!(result, ProposalResult::Doubted);
    }
    // Getting a row by being marked lifts no doubt; being released does.
    log.mark_recovered(absent(2)).await.expect("it may be marked");
    assert_eq!(write_one(&mut *writer, own, abort(absent(2), gid(3))).await, ProposalResult::Doubted);
    assert_eq!(log.release(Release::One(absent(1)), "seen to").await.expect("it is released"), 1);
    assert_eq!(write_one(&mut *writer, own, abort(absent(1), gid(2))).await, ProposalResult::Won);
    assert_eq!(write_one(&mut *writer, own, abort(absent(3), gid(4))).await, ProposalResult::Doubted);
    let lifted = log.release(Release::All, "all seen to").await.expect("all are released");
    assert_eq!(lifted, 2, "that of our own first incarnation, and that of the one that was marked");
    for (number, at) in [(2, 3), (3, 4)] {
        let result = write_one(&mut *writer, own, abort(absent(number), gid(at))).await;
        assert_eq!(result, ProposalResult::Won);
    }
}

/// Doubt is about absence alone: what stands is the decision.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_record_that_stands_is_obeyed_whoever_is_in_doubt(log: Log) {
    let (dead, mut writer) = started(&log).await;
    let (committed, aborted) = (commit(dead, gid(1), 1), abort(dead, gid(2)));
    writer.write(dead, &[committed.clone(), aborted.clone()]).await;
    log.doubt_all(REASON).await.expect("it is taken in");
    let (own, mut writer) = started(&log).await;
    let results = writer.write(own, &[abort(dead, gid(1)), abort(dead, gid(2))]).await;
    assert_eq!(results, [lost(&committed), lost(&aborted)]);
    let stands =
        |proposal: &crate::decision_log::Proposal| LookUpResult::Stands(Box::new(proposal.record.clone()));
    let found = log.look_up(&[gid(1), gid(2)]).await.expect("a look-up answers");
    assert_eq!(found, [stands(&committed), stands(&aborted)]);
    assert_eq!(log.unrecovered_incarnations().await.expect("they are read"), [dead]);
    let left = log.unfinished_commits(dead, None, 10).await.expect("commits are read");
    assert_eq!(left.iter().map(|commit| commit.number).collect::<Vec<_>>(), [1]);
}

/// The absence of a record proves something, or does not, for each owner by itself.
///
/// # Panics
/// If the claim does not hold.
pub async fn whoever_is_in_doubt_is_told_apart(log: Log) {
    let nobody = Incarnation::from_uuid(Uuid::from_u128(0xdead));
    let (ended, _) = started(&log).await;
    log.end_incarnation(ended).await.expect("it ends");
    let (first, _) = started(&log).await;
    let (second, _) = started(&log).await;
    let asked = [nobody, first, ended, second, first];
    let doubted = async || log.doubted_of(&asked).await.expect("it is answered");
    assert_eq!(doubted().await, [].into(), "nothing was ever lost");
    log.doubt_all(REASON).await.expect("it is taken in");
    let (own, _) = started(&log).await;
    assert_eq!(doubted().await, [nobody, first, second].into());
    assert_eq!(log.doubted_of(&[own, second]).await.expect("it is answered"), [second].into());
    assert_eq!(log.doubted_of(&[]).await.expect("it is answered"), [].into());
    log.release(Release::One(first), "compared with the banks").await.expect("it is released");
    log.release(Release::One(nobody), "it never began anything").await.expect("it is released");
    assert_eq!(doubted().await, [second].into());
    log.release(Release::All, "compared with the banks").await.expect("they are released");
    assert_eq!(doubted().await, [].into());
}
