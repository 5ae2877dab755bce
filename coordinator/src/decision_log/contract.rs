//! What every [`DecisionLog`] must do, as a suite that its implementors run.
//!
//! Each function states one claim by its name and panics if it does not hold. Each wants an empty
//! log of its own. [`decision_log_contract!`](crate::decision_log_contract) makes a test of each:
//!
//! ```text
//! pactum_coordinator::decision_log_contract!(async || Fixture::new().await);
//! ```
//! where the fixture has a method `log(&self) -> Arc<dyn DecisionLog>` and keeps alive what the log
//! needs.
//!
//! What only a real server can show (waits, deadlocks, cancelled commits, lost connections) is tested
//! beside each implementation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{
    DecidedBranch, Decision, DecisionRecord, Details, HeuristicOutcome, LookUpResult, ProposalResult,
};
use pactum_core::vote::{AbortKind, AbortReason, Evidence};
use uuid::Uuid;

mod doubt;

pub use doubt::{
    a_doubted_owner_is_closed_by_nobody_until_it_is_released,
    a_living_coordinator_vouches_for_its_own_incarnation, a_record_that_stands_is_obeyed_whoever_is_in_doubt,
    an_incarnation_that_had_ended_is_not_doubted, an_owner_without_a_row_is_doubted_once_the_log_went_back,
};

use super::{
    DecisionLog, DecisionWriter, FinishUpdate, HeuristicRecord, ListPage, Proposal, StoredState,
    UndecidedRecord,
};

/// One `#[tokio::test]` for each claim. The argument is an async closure that makes a fixture.
#[macro_export]
macro_rules! decision_log_contract {
    ($make:expr) => {
        $crate::decision_log_contract! { $make;
            a_decision_is_written_once_and_never_changed
            whoever_loses_gets_the_record_that_stands
            a_record_reads_back_with_all_that_it_says
            a_batch_may_hold_one_gid_twice
            a_large_batch_is_answered_in_its_order
            commits_of_an_ended_incarnation_are_fenced_and_aborts_are_free
            an_incarnation_without_a_row_counts_as_ended
            at_and_under_the_floor_nothing_is_written_and_nothing_answered
            a_broken_proposal_does_not_fail_its_batch
            the_floor_is_not_raised_over_an_unfinished_commit
            stragglers_and_heuristics_outlive_the_floor
            deletion_below_the_floor_is_bounded
            the_floor_may_pass_only_what_is_old_enough
            unfinished_commits_come_in_pages_by_number
            a_recovered_incarnation_keeps_its_stragglers
            a_finish_mark_is_never_moved_back
            a_heartbeat_shows_who_is_live
            a_look_up_answers_in_the_order_asked
            prepare_records_are_listed_until_decided_or_forgotten
            heuristic_outcomes_are_listed_with_their_decision
            a_list_is_paged_and_filtered
            a_whole_gid_is_looked_up_exactly
            two_branches_of_one_resource_stand_side_by_side
            a_doubted_owner_is_closed_by_nobody_until_it_is_released
            a_living_coordinator_vouches_for_its_own_incarnation
            an_incarnation_that_had_ended_is_not_doubted
            an_owner_without_a_row_is_doubted_once_the_log_went_back
            a_record_that_stands_is_obeyed_whoever_is_in_doubt
        }
    };
    ($make:expr; $($claim:ident)*) => {$(
        #[tokio::test]
        async fn $claim() {
            let fixture = ($make)().await;
            $crate::decision_log::contract::$claim(fixture.log()).await;
        }
    )*};
}

/// The `number`th gid in order.
pub fn gid(number: u64) -> Gid {
    Gid::from_uuid(Uuid::from_u128((0x0199_c3d0_0000_7000_8000 << 48) | u128::from(number)))
}

/// A branch with a name made from `number`.
///
/// # Panics
/// Never: the name is one.
pub fn branch(number: u64) -> Branch {
    Branch {
        id: BranchId::new(u64::MAX - number),
        resource: ResourceName::new(&format!("bank-{number}")).expect("letters, a hyphen and digits"),
        instance: InstanceId::from_uuid(Uuid::from_u128(u128::from(number) + 1)),
        marker: number % 2 == 1,
    }
}

/// A commit of two branches by `incarnation`.
pub fn commit(incarnation: Incarnation, gid: Gid, number: u64) -> Proposal {
    let decided = |n: u64| DecidedBranch {
        branch: branch(n),
        evidence: Evidence::new((700 + n).to_string(), "7300000000000000000/1/0-16B3748"),
    };
    let record = DecisionRecord {
        id: TransactionId { incarnation, gid },
        decision: Decision::Commit,
        reason: None,
        branches: [decided(1), decided(2)].into(),
        details: Arc::new(Details { name: "transfer".into(), ..Details::default() }),
    };
    Proposal { record, number }
}

/// An abort, as whoever closes a transaction of `incarnation` proposes it.
pub fn abort(incarnation: Incarnation, gid: Gid) -> Proposal {
    let reason = AbortReason::new(AbortKind::OwnerEnded, "its coordinator ended");
    Proposal { record: DecisionRecord::abort(TransactionId { incarnation, gid }, reason), number: 0 }
}

type Log = Arc<dyn DecisionLog>;

async fn started(log: &Log) -> (Incarnation, Box<dyn DecisionWriter>) {
    let incarnation = log.start_incarnation("127.0.0.1:7600").await.expect("an incarnation starts");
    (incarnation, log.open_writer().await.expect("a writer opens"))
}

async fn write_one(writer: &mut dyn DecisionWriter, by: Incarnation, proposal: Proposal) -> ProposalResult {
    let mut results = writer.write(by, &[proposal]).await;
    assert_eq!(results.len(), 1, "one answer a proposal");
    results.remove(0)
}

fn lost(proposal: &Proposal) -> ProposalResult {
    ProposalResult::Lost(Box::new(proposal.record.clone()))
}

async fn finish_through(log: &Log, incarnation: Incarnation, number: u64) {
    let update = FinishUpdate { mark: Some((incarnation, number)), ..FinishUpdate::default() };
    log.record_finished(&update).await.expect("end records are taken in");
}

async fn unfinished(log: &Log, incarnation: Incarnation) -> Vec<u64> {
    let commits = log.unfinished_commits(incarnation, None, 1000).await.expect("commits are read");
    commits.iter().map(|commit| commit.number).collect()
}

/// Law 1, B9.
///
/// # Panics
/// If the claim does not hold; so do all that follow.
pub async fn a_decision_is_written_once_and_never_changed(log: Log) {
    let (own, mut writer) = started(&log).await;
    let (first, second) = (commit(own, gid(1), 1), abort(own, gid(1)));
    assert_eq!(write_one(&mut *writer, own, first.clone()).await, ProposalResult::Won);
    assert_eq!(write_one(&mut *writer, own, second).await, lost(&first));
    // Another writer, another attempt of the owner: the record stands as it was written.
    let mut other = log.open_writer().await.expect("a writer opens");
    assert_eq!(write_one(&mut *other, own, first.clone()).await, lost(&first));
    let stands = log.look_up(&[gid(1)]).await.expect("a look-up answers");
    assert_eq!(stands, [LookUpResult::Stands(Box::new(first.record))]);
}

/// Laws 1 and 4: an owner's commit loses against whoever closed first.
///
/// # Panics
/// If the claim does not hold.
pub async fn whoever_loses_gets_the_record_that_stands(log: Log) {
    let (own, mut writer) = started(&log).await;
    let (other, mut closer) = started(&log).await;
    let standing = abort(own, gid(1));
    assert_eq!(write_one(&mut *closer, other, standing.clone()).await, ProposalResult::Won);
    let batch = [commit(own, gid(2), 2), commit(own, gid(1), 1), commit(own, gid(3), 3)];
    let results = writer.write(own, &batch).await;
    assert_eq!(results, [ProposalResult::Won, lost(&standing), ProposalResult::Won]);
}

/// The record carries branches with evidence, labels and trace context, and reads back whole.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_record_reads_back_with_all_that_it_says(log: Log) {
    let (own, mut writer) = started(&log).await;
    let mut full = commit(own, gid(1), 1);
    let labels: BTreeMap<Arc<str>, Arc<str>> =
        [("order".into(), "47'11\"\\".into()), ("für".into(), "\u{1f980}\n\0".into())].into();
    full.record.details = Arc::new(Details {
        name: "transfer".into(),
        labels,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        digest: Some(*b"\x00\x01\xfe\xffabcdefghijkl"),
    });
    let odd = AbortReason::new(AbortKind::LocalFailure, "relation \"a'b\" {is} not\tthere \u{fffd}");
    let mut aborted = abort(own, gid(2));
    aborted.record.reason = Some(odd);
    aborted.record.details = Arc::clone(&full.record.details);
    let plain = abort(own, gid(3));
    let batch = [full, aborted, plain];
    assert_eq!(writer.write(own, &batch).await, vec![ProposalResult::Won; 3]);
    let found = log.look_up(&[gid(1), gid(2), gid(3)]).await.expect("a look-up answers");
    for (found, proposal) in found.iter().zip(&batch) {
        assert_eq!(*found, LookUpResult::Stands(Box::new(proposal.record.clone())));
    }
    // A text that a database may not be able to hold costs the text a character, not the decision.
    let mut nul = abort(own, gid(4));
    nul.record.reason = Some(AbortReason::new(AbortKind::VotedNo, "a\0b"));
    assert_eq!(write_one(&mut *writer, own, nul).await, ProposalResult::Won);
}

/// The first of a gid goes first, the second finds it.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_batch_may_hold_one_gid_twice(log: Log) {
    let (own, mut writer) = started(&log).await;
    let (first, closing) = (commit(own, gid(1), 1), abort(own, gid(1)));
    let batch = [commit(own, gid(2), 2), first.clone(), closing, first.clone()];
    let results = writer.write(own, &batch).await;
    assert_eq!(results, [ProposalResult::Won, ProposalResult::Won, lost(&first), lost(&first)]);
    // A fenced first leaves the gid free for the second.
    log.end_incarnation(own).await.expect("an incarnation ends");
    let (closing, late) = (abort(own, gid(3)), commit(own, gid(3), 3));
    let results = writer.write(own, &[late, closing]).await;
    assert_eq!(results, [ProposalResult::Fenced, ProposalResult::Won]);
}

/// Answers match their proposals whatever order the gids come in, with winners and losers mixed.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_large_batch_is_answered_in_its_order(log: Log) {
    let (own, mut writer) = started(&log).await;
    let scattered = |n: u64| gid(1 + (n * 7919) % 2048);
    let even: Vec<Proposal> = (0..2048).step_by(2).map(|n| abort(own, scattered(n))).collect();
    assert!(writer.write(own, &even).await.iter().all(|result| *result == ProposalResult::Won));
    let all: Vec<Proposal> = (0..2048).map(|n| commit(own, scattered(n), n + 1)).collect();
    let results = writer.write(own, &all).await;
    assert_eq!(results.len(), all.len());
    for (n, result) in results.iter().enumerate() {
        let expected = if n % 2 == 0 { lost(&even[n / 2]) } else { ProposalResult::Won };
        assert_eq!(*result, expected, "proposal {n}");
    }
}

/// Law 4, H10: ending an incarnation fences its commits for ever and leaves aborts free.
///
/// # Panics
/// If the claim does not hold.
pub async fn commits_of_an_ended_incarnation_are_fenced_and_aborts_are_free(log: Log) {
    let (own, mut writer) = started(&log).await;
    let stands = commit(own, gid(1), 1);
    assert_eq!(write_one(&mut *writer, own, stands.clone()).await, ProposalResult::Won);
    log.end_incarnation(own).await.expect("an incarnation ends");
    log.end_incarnation(own).await.expect("ending it is repeatable");
    assert_eq!(log.unrecovered_incarnations().await.expect("they are read"), [own]);
    let batch = [commit(own, gid(2), 2), abort(own, gid(3)), stands.clone()];
    let results = writer.write(own, &batch).await;
    assert_eq!(results, [ProposalResult::Fenced, ProposalResult::Won, lost(&stands)]);
    assert_eq!(log.look_up(&[gid(2)]).await.expect("a look-up answers"), [LookUpResult::NoRecord]);
    assert_eq!(write_one(&mut *writer, own, abort(own, gid(2))).await, ProposalResult::Won);
}

/// Design section 4: a missing row counts as ended.
///
/// # Panics
/// If the claim does not hold.
pub async fn an_incarnation_without_a_row_counts_as_ended(log: Log) {
    let (_, mut writer) = started(&log).await;
    let nobody = Incarnation::from_uuid(Uuid::from_u128(0xdead));
    let batch = [commit(nobody, gid(1), 1), abort(nobody, gid(2))];
    assert_eq!(writer.write(nobody, &batch).await, [ProposalResult::Fenced, ProposalResult::Won]);
    assert!(!log.heartbeat(nobody).await.expect("a heartbeat answers").live);
    log.end_incarnation(nobody).await.expect("it may be ended");
    log.mark_recovered(nobody).await.expect("it may be marked");
}

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

/// A proposal that no log can hold is answered unknown, alone.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_broken_proposal_does_not_fail_its_batch(log: Log) {
    let (own, mut writer) = started(&log).await;
    let (other, _) = started(&log).await;
    let unnumbered = Proposal { number: 0, ..commit(own, gid(1), 1) };
    let foreign = commit(other, gid(2), 1);
    let mut reasonless = abort(own, gid(3));
    reasonless.record.reason = None;
    let batch = [unnumbered, foreign, reasonless, commit(own, gid(4), 1)];
    let results = writer.write(own, &batch).await;
    let unknown = ProposalResult::Unknown;
    assert_eq!(results, [unknown.clone(), unknown.clone(), unknown, ProposalResult::Won]);
    let found = log.look_up(&[gid(1), gid(2), gid(3)]).await.expect("a look-up answers");
    assert_eq!(found, vec![LookUpResult::NoRecord; 3]);
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

/// Recovery reads commits in order of their numbers, whatever their gids.
///
/// # Panics
/// If the claim does not hold.
pub async fn unfinished_commits_come_in_pages_by_number(log: Log) {
    let (own, mut writer) = started(&log).await;
    let batch: Vec<Proposal> = (1..=7).map(|n| commit(own, gid(100 - n), n)).collect();
    writer.write(own, &batch).await;
    writer.write(own, &[abort(own, gid(200))]).await;
    let update = FinishUpdate {
        mark: Some((own, 3)),
        add_stragglers: vec![batch[1].record.id],
        remove_stragglers: Vec::new(),
    };
    log.record_finished(&update).await.expect("end records are taken in");
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = log.unfinished_commits(own, after, 2).await.expect("commits are read");
        let Some(last) = page.last() else { break };
        after = Some(last.number);
        for found in &page {
            let place = usize::try_from(found.number - 1).expect("seven fit");
            assert_eq!(found.record, batch[place].record);
        }
        pages.push(page.iter().map(|found| found.number).collect::<Vec<_>>());
    }
    assert_eq!(pages, [vec![2, 4], vec![5, 6], vec![7]]);
    let (other, _) = started(&log).await;
    assert_eq!(unfinished(&log, other).await, [0; 0], "another incarnation's commits are not its own");
}

/// Whoever recovered an incarnation may die: its stragglers are found again.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_recovered_incarnation_keeps_its_stragglers(log: Log) {
    let (own, mut writer) = started(&log).await;
    let batch = [commit(own, gid(1), 1), commit(own, gid(2), 2)];
    writer.write(own, &batch).await;
    log.mark_recovered(own).await.expect("it is asked for");
    assert_eq!(unfinished(&log, own).await, [1, 2], "a live incarnation is not recovered");
    log.end_incarnation(own).await.expect("an incarnation ends");
    let update = FinishUpdate { add_stragglers: vec![batch[1].record.id], ..FinishUpdate::default() };
    log.record_finished(&update).await.expect("end records are taken in");
    log.mark_recovered(own).await.expect("it is marked");
    assert_eq!(unfinished(&log, own).await, [2]);
    assert_eq!(log.unrecovered_incarnations().await.expect("they are read"), [own]);
    let update = FinishUpdate { remove_stragglers: vec![gid(2)], ..FinishUpdate::default() };
    log.record_finished(&update).await.expect("end records are taken in");
    assert_eq!(unfinished(&log, own).await, [0; 0]);
    assert_eq!(log.unrecovered_incarnations().await.expect("they are read"), []);
}

/// A late update of an earlier moment takes nothing back.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_finish_mark_is_never_moved_back(log: Log) {
    let (own, mut writer) = started(&log).await;
    writer.write(own, &[commit(own, gid(1), 1), commit(own, gid(2), 2), commit(own, gid(3), 3)]).await;
    finish_through(&log, own, 2).await;
    finish_through(&log, own, 1).await;
    assert_eq!(unfinished(&log, own).await, [3]);
}

/// Liveness is a count that moves, watched by whoever cares.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_heartbeat_shows_who_is_live(log: Log) {
    let (own, _) = started(&log).await;
    let other = log.start_incarnation("127.0.0.1:7700").await.expect("an incarnation starts");
    for _ in 0..3 {
        log.heartbeat(own).await.expect("a heartbeat answers");
    }
    let view = log.heartbeat(other).await.expect("a heartbeat answers");
    assert!(view.live);
    let seen = |incarnation| view.incarnations.iter().find(|seen| seen.incarnation == incarnation);
    assert_eq!(seen(own).map(|seen| (seen.beats, seen.address.as_str())), Some((3, "127.0.0.1:7600")));
    log.end_incarnation(other).await.expect("an incarnation ends");
    let view = log.heartbeat(other).await.expect("a heartbeat answers");
    assert!(!view.live);
    assert_eq!(view.incarnations.iter().map(|seen| seen.incarnation).collect::<Vec<_>>(), [own]);
}

/// Absence is told as absence, not as abort (law 5).
///
/// # Panics
/// If the claim does not hold.
pub async fn a_look_up_answers_in_the_order_asked(log: Log) {
    let (own, mut writer) = started(&log).await;
    let batch = [commit(own, gid(1), 1), abort(own, gid(2))];
    writer.write(own, &batch).await;
    let found = log.look_up(&[gid(2), gid(9), gid(1), gid(2)]).await.expect("a look-up answers");
    let stands = |place: usize| LookUpResult::Stands(Box::new(batch[place].record.clone()));
    assert_eq!(found, [stands(1), LookUpResult::NoRecord, stands(0), stands(1)]);
    assert_eq!(log.look_up(&[]).await.expect("a look-up answers"), []);
}

/// Prepare records show what was going on, and have no say in the outcome.
///
/// # Panics
/// If the claim does not hold.
pub async fn prepare_records_are_listed_until_decided_or_forgotten(log: Log) {
    let (own, mut writer) = started(&log).await;
    let record = |n: u64| UndecidedRecord {
        id: TransactionId { incarnation: own, gid: gid(n) },
        branches: vec![branch(1), branch(2)],
        details: Details { name: "slow".into(), ..Details::default() },
        age: Duration::from_mins(1),
    };
    log.record_undecided(&[record(1), record(2), record(3)], &[]).await.expect("they are kept");
    let fewer = UndecidedRecord { branches: vec![branch(1)], ..record(1) };
    log.record_undecided(&[fewer], &[gid(2)]).await.expect("they are kept");
    assert_eq!(write_one(&mut *writer, own, abort(own, gid(3))).await, ProposalResult::Won);
    let page = ListPage { limit: 10, unfinished_only: true, ..ListPage::default() };
    let listed = log.list(&page).await.expect("the log is listed");
    assert_eq!(listed.len(), 1);
    let StoredState::Undecided { record: found } = &listed[0].state else { panic!("{listed:?}") };
    assert!(found.age >= Duration::from_mins(1), "its age goes on: {:?}", found.age);
    let expected = UndecidedRecord { branches: vec![branch(1)], age: found.age, ..record(1) };
    assert_eq!(*found, expected);
    assert_eq!(log.look_up(&[gid(1)]).await.expect("a look-up answers"), [LookUpResult::NoRecord]);
}

/// A heuristic outcome stands next to the decision, and telling it twice changes nothing.
///
/// # Panics
/// If the claim does not hold.
pub async fn heuristic_outcomes_are_listed_with_their_decision(log: Log) {
    let (own, mut writer) = started(&log).await;
    let proposal = commit(own, gid(1), 1);
    writer.write(own, &[proposal.clone(), abort(own, gid(2))]).await;
    let outcome = |n: u64, outcome| HeuristicRecord { id: proposal.record.id, branch: branch(n), outcome };
    let first = [outcome(1, HeuristicOutcome::Aborted), outcome(2, HeuristicOutcome::Hazard)];
    log.record_heuristics(&first).await.expect("they are kept");
    let second = [outcome(2, HeuristicOutcome::Mixed), outcome(2, HeuristicOutcome::Mixed)];
    log.record_heuristics(&second[..1]).await.expect("they are kept");
    let page = ListPage { limit: 10, ..ListPage::default() };
    let listed = log.list(&page).await.expect("the log is listed");
    let mut found = listed[1].heuristics.clone();
    found.sort_by_key(|heuristic| heuristic.branch.resource.clone());
    assert_eq!(found, [first[0].clone(), second[0].clone()]);
    assert_eq!(listed[0].heuristics, []);
    let mut kept = log.heuristics(&[gid(1), gid(2)]).await.expect("they are read");
    kept.sort_by_key(|heuristic| heuristic.branch.resource.clone());
    assert_eq!(kept, found);
    assert_eq!(log.heuristics(&[gid(2)]).await.expect("they are read"), []);
}

/// Pages go from the newest gid down; a part of a gid finds it by its beginning or end.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_list_is_paged_and_filtered(log: Log) {
    let (own, mut writer) = started(&log).await;
    let batch: Vec<Proposal> = (1..=5).map(|n| commit(own, gid(n), n)).collect();
    writer.write(own, &batch).await;
    finish_through(&log, own, 2).await;
    let listed = async |page: ListPage| -> Vec<Gid> {
        let found = log.list(&page).await.expect("the log is listed");
        found.iter().map(|stored| stored.id.gid).collect()
    };
    let page = ListPage { limit: 2, ..ListPage::default() };
    assert_eq!(listed(page.clone()).await, [gid(5), gid(4)]);
    assert_eq!(listed(ListPage { before: Some(gid(4)), ..page.clone() }).await, [gid(3), gid(2)]);
    let page = ListPage { limit: 10, unfinished_only: true, ..ListPage::default() };
    assert_eq!(listed(page).await, [gid(5), gid(4), gid(3)]);
    let part = |part: &str| ListPage { limit: 10, part: Some(part.into()), ..ListPage::default() };
    assert_eq!(listed(part("0000000003")).await, [gid(3)]);
    assert_eq!(listed(part("0199c3d0")).await.len(), 5);
    assert_eq!(listed(part("00000000%")).await, [], "a wildcard is no digit");
    let all = log.list(&part("")).await.expect("the log is listed");
    let finished = |stored: &super::StoredTransaction| match &stored.state {
        StoredState::Decided { finished, record, .. } => {
            assert_eq!(record.id, stored.id);
            *finished
        }
        StoredState::Undecided { .. } => panic!("{stored:?}"),
    };
    assert_eq!(all.iter().map(finished).collect::<Vec<_>>(), [false, false, false, true, true]);
}

/// All digits find one transaction, by the key.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_whole_gid_is_looked_up_exactly(log: Log) {
    let (own, mut writer) = started(&log).await;
    let batch: Vec<Proposal> = (1..=3).map(|n| commit(own, gid(n), n)).collect();
    writer.write(own, &batch).await;
    let undecided = UndecidedRecord {
        id: TransactionId { incarnation: own, gid: gid(4) },
        branches: vec![branch(1)],
        details: Details::default(),
        age: Duration::ZERO,
    };
    log.record_undecided(&[undecided], &[]).await.expect("it is kept");
    for (wanted, unfinished_only) in [(2, false), (2, true), (4, false), (4, true)] {
        let part = Some(gid(wanted).as_uuid().simple().to_string());
        let page = ListPage { limit: 10, part, unfinished_only, ..ListPage::default() };
        let listed = log.list(&page).await.expect("the log is listed");
        assert_eq!(listed.iter().map(|stored| stored.id.gid).collect::<Vec<_>>(), [gid(wanted)]);
        let before = ListPage { before: Some(gid(wanted)), ..page };
        assert_eq!(log.list(&before).await.expect("the log is listed"), []);
    }
    let too_long = ListPage { limit: 10, part: Some("0".repeat(33)), ..ListPage::default() };
    assert_eq!(log.list(&too_long).await.expect("the log is listed"), []);
}

/// A transaction may have two branches at one resource, and they end each in its own way.
///
/// # Panics
/// If the claim does not hold.
pub async fn two_branches_of_one_resource_stand_side_by_side(log: Log) {
    let (own, mut writer) = started(&log).await;
    let mut proposal = commit(own, gid(1), 1);
    let twin = |n: u64| DecidedBranch {
        branch: Branch { id: BranchId::new(n), ..branch(1) },
        evidence: Evidence::new(n.to_string(), "7300000000000000000/1/0-16B3748"),
    };
    proposal.record.branches = [twin(7), twin(u64::MAX)].into();
    assert_eq!(write_one(&mut *writer, own, proposal.clone()).await, ProposalResult::Won);
    let stands = log.look_up(&[gid(1)]).await.expect("a look-up answers");
    assert_eq!(stands, [LookUpResult::Stands(Box::new(proposal.record.clone()))]);
    let outcome =
        |n: u64, outcome| HeuristicRecord { id: proposal.record.id, branch: twin(n).branch, outcome };
    let both = [outcome(7, HeuristicOutcome::Aborted), outcome(u64::MAX, HeuristicOutcome::Committed)];
    log.record_heuristics(&both).await.expect("they are kept");
    let kept = log.heuristics(&[gid(1)]).await.expect("they are read");
    assert!(kept.len() == 2 && both.iter().all(|one| kept.contains(one)), "{kept:?}");
}
