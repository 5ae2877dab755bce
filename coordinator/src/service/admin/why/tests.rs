//! One test for each situation: which reason is found, and what is said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use pactum_core::id::{Branch, BranchId, Incarnation, InstanceId, TransactionId};
use pactum_core::outcome::{BranchOutcome, DecisionRecord, Details};
use pactum_core::vote::{AbortKind, AbortReason, Evidence, Vote};
use pactum_proto::v1::BranchPresence::{Aborted, Committed, Open, Prepared, Unknown};
use uuid::Uuid;

use super::*;
use crate::decision_log::UndecidedRecord;
use crate::lifecycle::Member;
use crate::registry::Registry;

const OURS: u128 = 1;
const THEIRS: u128 = 2;
const DEAD: u128 = 3;

fn id(owner: u128) -> TransactionId {
    TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(owner)),
        gid: Gid::from_uuid(Uuid::from_u128(9)),
    }
}

fn branch(number: u64, resource: &str) -> Branch {
    Branch {
        id: BranchId::new(number),
        resource: ResourceName::new(resource).unwrap(),
        instance: InstanceId::NIL,
        marker: false,
    }
}

fn view(number: u64, resource: &str) -> BranchView {
    BranchView { branch: branch(number, resource), vote: None, outcome: None, attempts: 0, last_error: None }
}

fn open(phase: Phase, branches: Vec<BranchView>) -> TransactionView {
    TransactionView {
        id: id(OURS),
        phase,
        details: Arc::default(),
        age: Duration::from_mins(1),
        reason: None,
        branches,
        next_attempt_in: None,
        log_unknown: false,
        held: None,
        own_register: false,
        time_left: None,
    }
}

fn around() -> Surroundings {
    let member =
        |owner, address: &str| Member { incarnation: id(owner).incarnation, address: address.into() };
    Surroundings {
        own: Some(id(OURS).incarnation),
        members: vec![member(OURS, "10.0.0.1:7600"), member(THEIRS, "10.0.0.2:7600")],
        doubted: Some(BTreeSet::new()),
        log_problem: None,
        registry: Arc::new(Registry::new(8)),
    }
}

/// The reason found for an open transaction, and what is said.
fn reason(open: TransactionView, reports: &[Option<v1::BranchReport>], around: &Surroundings) -> String {
    let report = |place: usize| reports.get(place).cloned().flatten();
    let shown: Vec<v1::BranchStatus> = (0..open.branches.len())
        .map(|place| v1::BranchStatus {
            last_error: open.branches[place].last_error.as_deref().unwrap_or_default().to_owned(),
            report: report(place),
            ..v1::BranchStatus::default()
        })
        .collect();
    Waits::of(&Found { open: Some(open), stored: None }, &shown, around).to_string()
}

fn stored_reason(owner: u128, state: StoredState, around: &Surroundings) -> String {
    let stored = StoredTransaction { id: id(owner), state, heuristics: Vec::new() };
    Waits::of(&Found { open: None, stored: Some(stored) }, &[], around).to_string()
}

fn undecided(owner: u128) -> StoredState {
    let (branches, details, age) = (vec![branch(1, "bank-a")], Details::default(), Duration::ZERO);
    StoredState::Undecided { record: UndecidedRecord { id: id(owner), branches, details, age } }
}

fn committed(owner: u128, finished: bool) -> StoredState {
    let record = DecisionRecord {
        id: id(owner),
        decision: Decision::Commit,
        reason: None,
        branches: Arc::new([]),
        details: Arc::default(),
    };
    StoredState::Decided { record, decided_at: SystemTime::UNIX_EPOCH, finished }
}

fn missing(presence: Presence) -> Missing {
    Missing {
        resource: ResourceName::new("bank-b").unwrap(),
        presence,
        attempts: 0,
        last_error: String::new(),
        report: None,
    }
}

fn report(presence: v1::BranchPresence, blocked: usize, note: &str) -> v1::BranchReport {
    let finding = v1::BranchFinding {
        presence: presence.into(),
        blocked: vec![v1::BlockedSession::default(); blocked],
        note: note.to_owned(),
        ..v1::BranchFinding::default()
    };
    v1::BranchReport { answered: true, problem: String::new(), finding: Some(finding) }
}

#[test]
fn before_commit_is_asked_it_waits_for_the_application_until_its_deadline() {
    let mut active = open(Phase::Active, vec![view(1, "bank-a")]);
    assert_eq!(reason(active.clone(), &[], &around()), "the application to commit or abort");
    active.time_left = Some(Duration::from_millis(25_900));
    assert_eq!(
        reason(active, &[], &around()),
        "the application to commit or abort; it is aborted in 25s otherwise"
    );
}

#[test]
fn votes_are_awaited_of_those_that_have_not_voted_only() {
    let voted = BranchView { vote: Some(Vote::Commit(Evidence::default())), ..view(1, "bank-a") };
    let preparing = open(Phase::Preparing, vec![voted, view(2, "bank-b")]);
    assert_eq!(reason(preparing, &[], &around()), "votes of bank-b (not attached)");
}

#[test]
fn a_missing_vote_says_who_is_there_to_give_it() {
    let said = |presence| Waits::Votes { of: vec![missing(presence)], time_left: None }.to_string();
    assert_eq!(said(Presence::Itself), "votes of bank-b");
    assert_eq!(
        said(Presence::Nobody(Some(Duration::from_secs(192)))),
        "votes of bank-b (not attached for 3m 12s)"
    );
    assert_eq!(
        said(Presence::Others),
        "votes of bank-b (the instance that holds its work has left; another one is attached)"
    );
}

#[test]
fn a_missing_vote_says_what_its_database_says() {
    let said = |report| {
        let of = vec![Missing { report: Some(report), ..missing(Presence::Itself) }];
        Waits::Votes { of, time_left: None }.to_string()
    };
    assert_eq!(
        said(report(Open, 2, "it waits for a lock itself")),
        "votes of bank-b (its local work is still open; 2 sessions wait for its locks; it waits for a lock itself)"
    );
    assert_eq!(said(report(Prepared, 0, "")), "votes of bank-b (prepared: its vote is on the way)");
    assert!(said(report(Aborted, 0, "")).contains("cannot vote commit any more"));
    assert!(said(report(Unknown, 0, "")).contains("cannot tell"));
    let silent = v1::BranchReport { problem: "nobody answered".to_owned(), ..v1::BranchReport::default() };
    assert_eq!(said(silent), "votes of bank-b (nobody answered)");
}

#[test]
fn a_decision_on_its_way_waits_for_the_log_and_says_if_that_is_away() {
    let deciding = open(Phase::Deciding, vec![view(1, "bank-a")]);
    assert_eq!(reason(deciding.clone(), &[], &around()), "the decision to become durable in the log");
    let away = Surroundings { log_problem: Some("disk full".into()), ..around() };
    assert_eq!(reason(deciding, &[], &away), "the log, which cannot be written now: disk full");
}

#[test]
fn a_lost_answer_of_the_log_is_waited_for() {
    let unknown = TransactionView { log_unknown: true, ..open(Phase::Deciding, vec![view(1, "bank-a")]) };
    assert_eq!(reason(unknown.clone(), &[], &around()), "the log's answer to a write that may have happened");
    let away = Surroundings { log_problem: Some("connection refused".into()), ..around() };
    assert!(reason(unknown, &[], &away).ends_with("; it cannot be written now: connection refused"));
}

#[test]
fn a_transaction_of_one_branch_waits_for_the_word_of_that_branch_s_own_database() {
    let one = TransactionView { own_register: true, ..open(Phase::Deciding, vec![view(1, "bank-a")]) };
    assert_eq!(
        reason(one, &[], &around()),
        "the word of bank-a (not attached), in whose database the decision stands"
    );
}

#[test]
fn a_branch_that_has_not_finished_is_named_with_its_last_error_and_the_next_try() {
    let done = BranchView { outcome: Some(BranchOutcome::Committed), ..view(1, "bank-a") };
    let failing =
        BranchView { attempts: 14, last_error: Some("connection refused".into()), ..view(2, "bank-b") };
    let mut committing = open(Phase::Committing, vec![done, failing]);
    committing.next_attempt_in = Some(Duration::from_secs(8));
    assert_eq!(
        reason(committing.clone(), &[], &around()),
        "bank-b (not attached; tried 14 times; last error: connection refused) to finish; next try in 8s"
    );
    committing.phase = Phase::Aborting;
    assert!(reason(committing, &[], &around()).contains(") to finish its abort; next try in 8s"));
}

#[test]
fn a_branch_that_has_not_finished_says_what_its_database_says() {
    let committing = open(Phase::Committing, vec![view(1, "bank-a")]);
    let said =
        |presence, blocked| reason(committing.clone(), &[Some(report(presence, blocked, ""))], &around());
    assert!(said(Prepared, 1).contains("still prepared; a session waits for its locks"));
    assert!(said(Committed, 0).contains("committed there: its word for it is awaited"));
    assert!(said(Aborted, 0).contains("rolled back there"));
}

#[test]
fn many_branches_are_named_in_part() {
    let branches = (0..7).map(|number| view(number, &format!("bank-{number}"))).collect();
    let said = reason(open(Phase::Committing, branches), &[], &around());
    assert!(said.contains("bank-3") && !said.contains("bank-4"), "{said}");
    assert!(said.contains(" and 3 more to finish"), "{said}");
}

#[test]
fn what_another_living_coordinator_owns_waits_for_that_one() {
    for state in [undecided(THEIRS), committed(THEIRS, false)] {
        let said = stored_reason(THEIRS, state.clone(), &around());
        assert_eq!(said, "its coordinator at 10.0.0.2:7600, which is at work on it");
        let mut hidden = around();
        hidden.members[1].address = "".into();
        assert!(stored_reason(THEIRS, state, &hidden).contains("does not say where"));
    }
}

#[test]
fn what_is_ours_and_not_open_has_just_ended() {
    for state in [undecided(OURS), committed(OURS, false)] {
        assert!(stored_reason(OURS, state, &around()).contains("the record of its end"));
    }
}

#[test]
fn a_commit_whose_coordinator_has_ended_waits_for_a_successor() {
    assert!(
        stored_reason(DEAD, committed(DEAD, false), &around()).starts_with("a coordinator that takes over")
    );
}

#[test]
fn an_undecided_one_whose_coordinator_has_ended_says_which_command_closes_it() {
    let said = stored_reason(DEAD, undecided(DEAD), &around());
    assert!(said.contains("`pactum tx resolve 00000000000000000000000000000009`"), "{said}");
    assert!(!said.contains("back in time"), "{said}");
    let unknown = Surroundings { doubted: None, ..around() };
    let said = stored_reason(DEAD, undecided(DEAD), &unknown);
    assert!(said.contains("does not say now whether it went back in time"), "{said}");
}

#[test]
fn doubt_waits_for_a_person_and_says_with_which_command() {
    let doubted = Surroundings { doubted: Some([id(DEAD).incarnation].into()), ..around() };
    let stored = stored_reason(DEAD, undecided(DEAD), &doubted);
    let held = TransactionView {
        held: Some(TransactionView::HELD_BY_DOUBT),
        ..open(Phase::Deciding, vec![view(1, "bank-a")])
    };
    for said in [stored, reason(held, &[], &around())] {
        assert!(said.starts_with("a person: the log went back in time"), "{said}");
        assert!(said.contains("`pactum quarantine release`"), "{said}");
    }
    let said = stored_reason(DEAD, committed(DEAD, false), &doubted);
    assert!(said.starts_with("a coordinator that takes over"), "a commit that stands is in no doubt: {said}");
}

#[test]
fn what_has_ended_waits_for_nothing() {
    assert_eq!(stored_reason(DEAD, committed(DEAD, true), &around()), "");
    let reason = AbortReason::new(AbortKind::Deadline, "too slow");
    let record = DecisionRecord::abort(id(DEAD), reason);
    let aborted = StoredState::Decided { record, decided_at: SystemTime::UNIX_EPOCH, finished: false };
    assert_eq!(stored_reason(DEAD, aborted, &around()), "");
}

#[test]
fn two_looks_at_the_same_reason_differ_in_numbers_only() {
    let at = |seconds, presence_seconds| {
        let presence = Presence::Nobody(Some(Duration::from_secs(presence_seconds)));
        let of = vec![missing(presence)];
        let next_try = Some(Duration::from_millis(seconds));
        timeless(&Waits::Finish { decision: Decision::Commit, of, next_try }.to_string())
    };
    assert_eq!(at(300, 59), at(7_900, 61));
    assert_eq!(at(300, 59), at(60_000, 3_600));
    let other = Waits::Finish { decision: Decision::Abort, of: Vec::new(), next_try: None };
    assert_ne!(at(300, 59), timeless(&other.to_string()));
}
