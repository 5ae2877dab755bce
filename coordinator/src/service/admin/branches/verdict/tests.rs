//! Every verdict, from every fact that leads to it.

use std::sync::Arc;
use std::time::Duration;

use pactum_core::coordinator::BranchView;
use pactum_core::id::{Branch, Gid, Incarnation, InstanceId};
use pactum_core::outcome::DecidedBranch;
use pactum_core::vote::{AbortKind, AbortReason};
use uuid::Uuid;

use super::*;

fn id() -> TransactionId {
    TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(7)),
        gid: Gid::from_uuid(Uuid::from_u128(9)),
    }
}

fn branch(number: u64) -> Branch {
    Branch {
        id: BranchId::new(number),
        resource: ResourceName::new("bank-a").unwrap(),
        instance: InstanceId::NIL,
        marker: false,
    }
}

/// Branch 1, prepared by this execution.
fn prepared(execution: Option<&str>) -> Prepared {
    Prepared {
        resource: ResourceName::new("bank-a").unwrap(),
        id: id(),
        branch: BranchId::new(1),
        evidence: execution.map(|execution| Evidence::new(execution, "here")),
        finding: v1::BranchFinding::default(),
    }
}

/// Branch `number` has voted commit with execution 100.
fn open(phase: Phase, number: u64, held: bool) -> TransactionView {
    let view = BranchView {
        branch: branch(number),
        vote: Some(Vote::Commit(Evidence::new("100", "here"))),
        outcome: None,
        attempts: 0,
        last_error: None,
    };
    TransactionView {
        id: id(),
        phase,
        details: Arc::default(),
        age: Duration::ZERO,
        reason: None,
        branches: vec![view],
        next_attempt_in: None,
        log_unknown: false,
        held: held.then_some(TransactionView::HELD_BY_DOUBT),
        own_register: false,
        time_left: None,
    }
}

fn commit(number: u64) -> DecisionRecord {
    let decided = DecidedBranch { branch: branch(number), evidence: Evidence::new("100", "there") };
    DecisionRecord {
        id: id(),
        decision: Decision::Commit,
        reason: None,
        branches: Arc::new([decided]),
        details: Arc::default(),
    }
}

fn verdict(facts: &Facts<'_>, execution: Option<&str>) -> BranchVerdict {
    facts.judge(&prepared(execution)).0
}

#[test]
fn what_is_open_here_is_judged_by_its_phase() {
    let judged = |phase| verdict(&Facts::Open(&open(phase, 1, false)), Some("100"));
    assert_eq!(judged(Phase::Active), BranchVerdict::Owned);
    assert_eq!(judged(Phase::Preparing), BranchVerdict::Owned);
    assert_eq!(judged(Phase::Deciding), BranchVerdict::Owned);
    assert_eq!(judged(Phase::Committing), BranchVerdict::Commit);
    assert_eq!(judged(Phase::Aborting), BranchVerdict::Abort);
    assert_eq!(
        verdict(&Facts::Open(&open(Phase::Deciding, 1, true)), Some("100")),
        BranchVerdict::Quarantined
    );
}

#[test]
fn a_commit_is_of_the_decided_execution_of_the_decided_branch_only() {
    let (record, elsewhere) = (commit(1), commit(2));
    let (here, without) = (open(Phase::Committing, 1, false), open(Phase::Committing, 2, false));
    for facts in [Facts::Open(&here), Facts::Decided(&record, None)] {
        assert_eq!(verdict(&facts, Some("100")), BranchVerdict::Commit);
        assert_eq!(verdict(&facts, Some("101")), BranchVerdict::Abort);
        assert_eq!(verdict(&facts, None), BranchVerdict::Unknown);
    }
    for facts in [Facts::Open(&without), Facts::Decided(&elsewhere, None)] {
        assert_eq!(verdict(&facts, Some("100")), BranchVerdict::Abort);
    }
    let other_owner = TransactionId { incarnation: Incarnation::from_uuid(Uuid::from_u128(8)), ..id() };
    let foreign = DecisionRecord { id: other_owner, ..commit(1) };
    assert_eq!(verdict(&Facts::Decided(&foreign, None), Some("100")), BranchVerdict::Abort);
}

#[test]
fn an_abort_that_stands_is_obeyed() {
    let record = DecisionRecord::abort(id(), AbortReason::new(AbortKind::Deadline, "late"));
    let alive = Owner::Alive { address: "10.0.0.2:7600".to_owned() };
    let (judged, said) = Facts::Decided(&record, Some(alive)).judge(&prepared(Some("100")));
    assert_eq!(judged, BranchVerdict::Abort);
    assert!(said.contains("the coordinator at 10.0.0.2:7600 drives it"), "{said}");
}

#[test]
fn without_a_record_the_owner_makes_the_difference() {
    let judged = |owner| Facts::NoRecord(owner).judge(&prepared(Some("100")));
    assert_eq!(judged(Owner::Us).0, BranchVerdict::Abort);
    let (owned, said) = judged(Owner::Alive { address: "10.0.0.2:7600".to_owned() });
    assert_eq!(owned, BranchVerdict::Owned);
    assert!(said.contains("10.0.0.2:7600"), "{said}");
    assert!(judged(Owner::Alive { address: String::new() }).1.starts_with("another coordinator"));
    let (orphan, said) = judged(Owner::Ended { doubted: false });
    assert_eq!(orphan, BranchVerdict::Orphan);
    assert!(said.contains("`pactum tx resolve 00000000000000000000000000000009`"), "{said}");
    let (doubted, said) = judged(Owner::Ended { doubted: true });
    assert_eq!(doubted, BranchVerdict::Quarantined);
    assert!(said.contains("`pactum quarantine release`") && said.contains("--resource bank-a"), "{said}");
}

#[test]
fn what_the_log_has_forgotten_or_does_not_say_is_never_an_orphan() {
    let (forgotten, said) = Facts::Forgotten.judge(&prepared(Some("100")));
    assert_eq!(forgotten, BranchVerdict::Quarantined);
    assert!(
        said.contains("`pactum tx overrule 00000000000000000000000000000009 --resource bank-a`"),
        "{said}"
    );
    let away = Owner::Unknown { why: "connection refused".to_owned() };
    for facts in [Facts::Silent(Some("connection refused")), Facts::NoRecord(away)] {
        let (unknown, said) = facts.judge(&prepared(Some("100")));
        assert_eq!(unknown, BranchVerdict::Unknown);
        assert!(said.contains("connection refused"), "{said}");
    }
    assert_eq!(verdict(&Facts::Silent(None), Some("100")), BranchVerdict::Unknown);
}

#[test]
fn orphans_and_quarantined_ones_are_stuck_and_no_others() {
    use BranchVerdict::{Abort, Commit, Orphan, Owned, Quarantined, Unknown};
    for stuck in [Orphan, Quarantined] {
        assert!(is_stuck(stuck), "{stuck:?}");
    }
    for moving in [Owned, Commit, Abort, Unknown] {
        assert!(!is_stuck(moving), "{moving:?}");
    }
}
