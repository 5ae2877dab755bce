//! The claims about what operators see.

use std::time::Duration;

use pactum_core::id::{Branch, BranchId, Gid, TransactionId};
use pactum_core::outcome::{DecidedBranch, Details, HeuristicOutcome, LookUpResult, ProposalResult};
use pactum_core::vote::Evidence;

use super::{Log, abort, branch, commit, finish_through, gid, started, write_one};
use crate::decision_log::{
    FinishUpdate, HeuristicRecord, ListPage, Proposal, StoredState, StoredTransaction, UndecidedRecord,
};

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
    let finished = |stored: &StoredTransaction| match &stored.state {
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

/// Unfinished commits are found by the marks, by the list of stragglers, or because their owner has no
/// row, and undecided ones by their records: in pages by gid, each once, and no finished one among them.
///
/// # Panics
/// If the claim does not hold.
pub async fn unfinished_ones_are_listed_in_pages_wherever_they_are_kept(log: Log) {
    let (dead, mut writer) = started(&log).await;
    let (own, mut own_writer) = started(&log).await;
    let of = |who, gids: [u64; 6]| -> Vec<Proposal> {
        (1..).zip(gids).map(|(number, n)| commit(who, gid(n), number)).collect()
    };
    let (of_dead, of_own) = (of(dead, [12, 2, 4, 6, 8, 10]), of(own, [11, 9, 7, 5, 3, 1]));
    assert_eq!(writer.write(dead, &of_dead).await, vec![ProposalResult::Won; 6]);
    assert_eq!(own_writer.write(own, &of_own).await, vec![ProposalResult::Won; 6]);
    // Of the dead one 12 and 6 are left; our own mark stands at 7, and 9 is behind it.
    let stragglers = vec![of_dead[0].record.id, of_dead[3].record.id];
    let update = FinishUpdate { add_stragglers: stragglers, ..FinishUpdate::default() };
    log.record_finished(&update).await.expect("end records are taken in");
    log.end_incarnation(dead).await.expect("it ends");
    log.mark_recovered(dead).await.expect("it is marked");
    let update = FinishUpdate {
        mark: Some((own, 3)),
        add_stragglers: vec![of_own[1].record.id],
        remove_stragglers: Vec::new(),
    };
    log.record_finished(&update).await.expect("end records are taken in");
    // A straggler above the mark is listed once, one without a record not at all.
    let nothing = TransactionId { incarnation: own, gid: gid(20) };
    let update =
        FinishUpdate { add_stragglers: vec![of_own[4].record.id, nothing], ..FinishUpdate::default() };
    log.record_finished(&update).await.expect("end records are taken in");
    let undecided = UndecidedRecord {
        id: TransactionId { incarnation: own, gid: gid(13) },
        branches: vec![branch(1)],
        details: Details::default(),
        age: Duration::ZERO,
    };
    log.record_undecided(&[undecided], &[]).await.expect("it is kept");
    assert_eq!(write_one(&mut *own_writer, own, abort(own, gid(14))).await, ProposalResult::Won);
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let page = ListPage { limit: 3, before, unfinished_only: true, ..ListPage::default() };
        let found = log.list(&page).await.expect("the log is listed");
        let Some(last) = found.last() else { break };
        before = Some(last.id.gid);
        for stored in &found {
            assert!(!matches!(stored.state, StoredState::Decided { finished: true, .. }), "{stored:?}");
        }
        pages.push(found.iter().map(|stored| stored.id.gid).collect::<Vec<_>>());
        assert!(pages.len() <= 3, "{pages:?}");
    }
    assert_eq!(pages, [vec![gid(13), gid(12), gid(9)], vec![gid(6), gid(5), gid(3)], vec![gid(1)]]);
    let part = Some("0000000009".to_owned());
    let page = ListPage { limit: 3, part, unfinished_only: true, ..ListPage::default() };
    let found = log.list(&page).await.expect("the log is listed");
    assert_eq!(found.iter().map(|stored| stored.id.gid).collect::<Vec<_>>(), [gid(9)]);
}
