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

use std::sync::Arc;

use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{DecidedBranch, Decision, DecisionRecord, Details, LookUpResult, ProposalResult};
use pactum_core::vote::{AbortKind, AbortReason, Evidence};
use uuid::Uuid;

mod audit;
mod doubt;
mod floor;
mod heuristics;
mod listing;

pub use audit::{
    acts_that_a_dead_coordinator_had_begun_are_found, an_audit_entry_reads_back_with_all_that_it_says,
    an_audit_entry_that_cannot_be_kept_is_refused, audit_entries_added_at_once_are_one_chain, beginning, end,
    many_acts_without_an_end_come_oldest_first_and_not_all, the_audit_is_paged_both_ways,
};
pub use doubt::{
    a_doubted_owner_is_closed_by_nobody_until_it_is_released,
    a_living_coordinator_vouches_for_its_own_incarnation, a_record_that_stands_is_obeyed_whoever_is_in_doubt,
    an_incarnation_that_had_ended_is_not_doubted, an_owner_without_a_row_is_doubted_once_the_log_went_back,
    whoever_is_in_doubt_is_told_apart,
};
pub use floor::{
    at_and_under_the_floor_nothing_is_written_and_nothing_answered, deletion_below_the_floor_is_bounded,
    stragglers_and_heuristics_outlive_the_floor, the_floor_is_not_raised_over_an_unfinished_commit,
    the_floor_may_pass_only_what_is_old_enough,
};
pub use heuristics::{
    a_forgotten_heuristic_outcome_holds_its_decision_no_longer,
    heuristic_outcomes_that_agree_with_the_decision_clear_themselves,
    heuristics_are_listed_in_pages_that_part_no_transaction,
};
pub use listing::{
    a_list_is_paged_and_filtered, a_whole_gid_is_looked_up_exactly,
    heuristic_outcomes_are_listed_with_their_decision, prepare_records_are_listed_until_decided_or_forgotten,
    two_branches_of_one_resource_stand_side_by_side,
    unfinished_ones_are_listed_in_pages_wherever_they_are_kept,
};

use super::{DecisionLog, DecisionWriter, FinishUpdate, Proposal};

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
            whoever_is_in_doubt_is_told_apart
            unfinished_ones_are_listed_in_pages_wherever_they_are_kept
            heuristics_are_listed_in_pages_that_part_no_transaction
            a_forgotten_heuristic_outcome_holds_its_decision_no_longer
            heuristic_outcomes_that_agree_with_the_decision_clear_themselves
            audit_entries_added_at_once_are_one_chain
            an_audit_entry_reads_back_with_all_that_it_says
            the_audit_is_paged_both_ways
            an_audit_entry_that_cannot_be_kept_is_refused
            acts_that_a_dead_coordinator_had_begun_are_found
            many_acts_without_an_end_come_oldest_first_and_not_all
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
    full.record.details = Arc::new(Details {
        name: "transfer".into(),
        labels: [("order".into(), "47'11\"\\".into()), ("für".into(), "\u{1f980}\n\0".into())].into(),
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
