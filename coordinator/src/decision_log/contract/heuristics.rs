//! The claims about heuristic outcomes that operators list, forget, and need not see.

use std::time::{Duration, SystemTime};

use pactum_core::id::{Branch, BranchId, Gid, Incarnation, TransactionId};
use pactum_core::outcome::{Decision, HeuristicOutcome, LookUpResult, ProposalResult};

use super::{Log, abort, branch, commit, finish_through, gid, started};
use crate::decision_log::{HeuristicRecord, ListPage};

fn heuristic(incarnation: Incarnation, n: u64, at: u64, outcome: HeuristicOutcome) -> HeuristicRecord {
    let branch = Branch { id: BranchId::new(at), ..branch(at % 7) };
    HeuristicRecord { id: TransactionId { incarnation, gid: gid(n) }, branch, outcome }
}

/// Pages go from the newest gid down, show each outcome once, and part no transaction's.
///
/// # Panics
/// If the claim does not hold; so do all that follow.
pub async fn heuristics_are_listed_in_pages_that_part_no_transaction(log: Log) {
    let (own, mut writer) = started(&log).await;
    writer.write(own, &[commit(own, gid(1), 1), abort(own, gid(3))]).await;
    // Transactions 1 to 4 with as many branches each; 5 with more than a page.
    let of = |n: u64, count: u64| {
        (0..count).map(move |at| heuristic(own, n, u64::MAX - at, HeuristicOutcome::Aborted))
    };
    let mut kept: Vec<HeuristicRecord> = (1..=4).flat_map(|n| of(n, n)).collect();
    let before = SystemTime::now();
    log.record_heuristics(&kept).await.expect("they are kept");
    let mut shown = Vec::new();
    let mut pages = Vec::new();
    let mut below = None;
    loop {
        let page = log.list_heuristics(below, 5).await.expect("they are listed");
        let Some(last) = page.last() else { break };
        below = Some(last.record.id.gid);
        let mut gids: Vec<Gid> = page.iter().map(|stored| stored.record.id.gid).collect();
        gids.dedup();
        pages.push(gids);
        shown.extend(page);
        assert!(pages.len() <= 4, "{pages:?}");
    }
    assert_eq!(pages, [vec![gid(4)], vec![gid(3), gid(2)], vec![gid(1)]]);
    let key = |record: &HeuristicRecord| (record.id.gid, record.branch.id);
    for stored in &shown {
        let decision = match stored.record.id.gid {
            at if at == gid(1) => Some(Decision::Commit),
            at if at == gid(3) => Some(Decision::Abort),
            _ => None,
        };
        assert_eq!(stored.decision, decision, "{stored:?}");
        let drift = stored.recorded_at.duration_since(before).unwrap_or_default();
        assert!(drift < Duration::from_hours(1), "{stored:?}");
        assert!(before.duration_since(stored.recorded_at).unwrap_or_default() < Duration::from_hours(1));
    }
    let mut records: Vec<HeuristicRecord> = shown.iter().map(|stored| stored.record.clone()).collect();
    records.sort_by_key(key);
    kept.sort_by_key(key);
    assert_eq!(records, kept);
    // One that alone exceeds the page is shown in part, and what comes below it is not lost.
    let page = log.list_heuristics(Some(gid(5)), 3).await.expect("they are listed");
    assert_eq!(page.iter().map(|stored| stored.record.id.gid).collect::<Vec<_>>(), [gid(4); 3]);
    let page = log.list_heuristics(Some(gid(4)), 3).await.expect("they are listed");
    assert_eq!(page.len(), 3, "exactly a page");
    assert_eq!(log.list_heuristics(None, 0).await.expect("they are listed"), []);
    // Told again with another outcome, it was kept first when it was kept first.
    let first = shown[0].clone();
    let again = HeuristicRecord { outcome: HeuristicOutcome::Hazard, ..first.record.clone() };
    log.record_heuristics(std::slice::from_ref(&again)).await.expect("it is kept");
    let page = log.list_heuristics(None, 10).await.expect("they are listed");
    let found = page.iter().find(|stored| key(&stored.record) == key(&again)).expect("it is there");
    assert_eq!((found.recorded_at, &found.record), (first.recorded_at, &again));
}

/// What an operator has seen is forgotten, and holds its decision no longer.
///
/// # Panics
/// If the claim does not hold.
pub async fn a_forgotten_heuristic_outcome_holds_its_decision_no_longer(log: Log) {
    let (own, mut writer) = started(&log).await;
    let batch = [commit(own, gid(1), 1), commit(own, gid(2), 2)];
    assert_eq!(writer.write(own, &batch).await, vec![ProposalResult::Won; 2]);
    let both = [
        heuristic(own, 1, 1, HeuristicOutcome::Aborted),
        heuristic(own, 1, 2, HeuristicOutcome::Hazard),
        heuristic(own, 2, 1, HeuristicOutcome::Mixed),
    ];
    log.record_heuristics(&both).await.expect("they are kept");
    finish_through(&log, own, 2).await;
    assert_eq!(log.raise_floor(gid(2)).await.expect("it is raised"), gid(2));
    assert_eq!(log.delete_below_floor(10).await.expect("rows are deleted"), 0, "nobody has seen them");
    assert_eq!(log.forget_heuristics(gid(1)).await.expect("they are forgotten"), 2);
    assert_eq!(log.forget_heuristics(gid(1)).await.expect("it is repeatable"), 0);
    assert_eq!(log.heuristics(&[gid(1), gid(2)]).await.expect("they are read"), both[2..]);
    assert_eq!(log.delete_below_floor(10).await.expect("rows are deleted"), 1);
    let page = ListPage { limit: 10, ..ListPage::default() };
    let left = log.list(&page).await.expect("the log is listed");
    assert_eq!(left.iter().map(|stored| stored.id.gid).collect::<Vec<_>>(), [gid(2)]);
    // Under the floor it is as forgotten as ever.
    assert_eq!(log.look_up(&[gid(2)]).await.expect("a look-up answers"), [LookUpResult::Forgotten]);
}

/// A branch that was ended by hand as it was then decided needs nobody; every other one does.
///
/// # Panics
/// If the claim does not hold.
pub async fn heuristic_outcomes_that_agree_with_the_decision_clear_themselves(log: Log) {
    let (own, mut writer) = started(&log).await;
    writer.write(own, &[commit(own, gid(1), 1), abort(own, gid(2))]).await;
    let all = [
        HeuristicOutcome::Committed,
        HeuristicOutcome::Aborted,
        HeuristicOutcome::Mixed,
        HeuristicOutcome::Hazard,
    ];
    // On a commit, on an abort, and where nothing stands.
    let kept: Vec<HeuristicRecord> = (1..=3)
        .flat_map(|n| (0..).zip(all).map(move |(at, outcome)| heuristic(own, n, at, outcome)))
        .collect();
    log.record_heuristics(&kept).await.expect("they are kept");
    let mut cleared = log.clear_agreeing_heuristics().await.expect("they are cleared");
    cleared.sort_by_key(|record| record.id.gid);
    assert_eq!(cleared, [kept[0].clone(), kept[5].clone()]);
    assert_eq!(log.clear_agreeing_heuristics().await.expect("it is repeatable"), []);
    let mut left = log.heuristics(&[gid(1), gid(2), gid(3)]).await.expect("they are read");
    left.sort_by_key(|record| (record.id.gid, record.branch.id));
    let expected: Vec<HeuristicRecord> =
        kept.iter().filter(|record| !cleared.contains(record)).cloned().collect();
    assert_eq!(left, expected);
    // Once it is decided the rest of the third is compared too.
    writer.write(own, &[abort(own, gid(3))]).await;
    assert_eq!(log.clear_agreeing_heuristics().await.expect("they are cleared"), [kept[9].clone()]);
}
