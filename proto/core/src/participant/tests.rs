//! The participant's transitions, one claim a test: build a state, feed facts, compare the exact
//! orders. Rows of the failure matrix are cited by id.

mod inquiring;
mod register;

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::coordinator::{InquiryAnswer, Operation, RegisterAnswer};
use crate::id::{self, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use crate::outcome::{BranchOutcome, HeuristicOutcome};
use crate::vote::{AbortKind, AbortReason, Evidence, Vote};

const NOW: Timestamp = Timestamp::ORIGIN;
const A: SessionId = SessionId(1);
const B: SessionId = SessionId(2);

fn deadline() -> Timestamp {
    NOW + Duration::from_secs(30)
}

fn id() -> TransactionId {
    TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(1)),
        gid: Gid::from_uuid(Uuid::from_u128(2)),
    }
}

fn branch() -> id::Branch {
    id::Branch {
        id: BranchId::new(1),
        resource: ResourceName::new("bank").unwrap(),
        instance: InstanceId::from_uuid(Uuid::from_u128(3)),
        marker: true,
    }
}

fn key() -> BranchKey {
    BranchKey { id: id(), branch: branch().id }
}

fn evidence(n: u32) -> Evidence {
    Evidence::new(format!("x{n}"), "")
}

fn yes() -> Vote {
    Vote::Commit(evidence(1))
}

struct Core(Participant);

impl Core {
    fn new() -> Self {
        Self(Participant::new(Config::default()))
    }

    fn feed_at(&mut self, event: Event, now: Timestamp) -> Vec<Command> {
        self.0.handle_event(event, now).expect("the event is legal");
        std::iter::from_fn(|| self.0.poll_command()).collect()
    }

    fn feed(&mut self, event: Event) -> Vec<Command> {
        self.feed_at(event, NOW)
    }

    fn open() -> Self {
        let mut core = Self::new();
        assert_eq!(core.feed(Event::Enlisted { branch: branch(), id: id(), deadline: deadline() }), []);
        core
    }

    fn prepared() -> Self {
        let mut core = Self::open();
        core.feed(prepare(A));
        core.feed(Event::PrepareFinished { key: key(), vote: yes() });
        core
    }

    fn committed() -> Self {
        let mut core = Self::prepared();
        core.feed(commit(A));
        core.feed(ended(BranchOutcome::Committed));
        core
    }

    fn aborted() -> Self {
        let mut core = Self::open();
        core.feed(abort(A));
        core.feed(ended(BranchOutcome::Aborted));
        core
    }
}

fn prepare(from: SessionId) -> Event {
    let (id, branch, deadline) = (id(), branch(), deadline());
    Event::PrepareReceived { from, id, branch, operation: None, one_phase: false, deadline }
}

fn one_phase(from: SessionId) -> Event {
    let (id, branch, deadline) = (id(), branch(), deadline());
    Event::PrepareReceived { from, id, branch, operation: None, one_phase: true, deadline }
}

fn commit(from: SessionId) -> Event {
    Event::CommitReceived { from, id: id(), branch: branch(), evidence: evidence(1) }
}

fn abort(from: SessionId) -> Event {
    Event::AbortReceived { from, id: id(), branch: branch() }
}

fn settle(from: SessionId) -> Event {
    Event::SettleReceived { from, id: id(), branch: branch() }
}

fn found(n: u32) -> Event {
    Event::FoundPrepared { id: id(), branch: branch(), evidence: evidence(n) }
}

fn ended(outcome: BranchOutcome) -> Event {
    Event::BranchEnded { key: key(), outcome }
}

fn failed() -> Event {
    Event::HookFailed { key: key(), error: "disk full".into() }
}

fn read(answer: RegisterAnswer) -> Event {
    Event::RegisterRead { key: key(), answer }
}

fn run_prepare() -> Command {
    Command::RunPrepare { id: id(), branch: branch(), operation: None, deadline: deadline() }
}

fn run_commit(prepared: Option<Evidence>) -> Command {
    Command::RunCommit { id: id(), branch: branch(), decided: evidence(1), prepared }
}

fn run_abort(prepared: Option<Evidence>) -> Command {
    Command::RunAbort { id: id(), branch: branch(), prepared }
}

fn run_settle() -> Command {
    Command::RunSettle { id: id(), branch: branch() }
}

fn send_vote(to: SessionId, vote: Vote) -> Command {
    Command::SendVote { to, id: id(), branch: branch(), vote }
}

fn send_finished(to: SessionId, outcome: BranchOutcome) -> Command {
    Command::SendFinished { to, id: id(), branch: branch(), outcome }
}

fn send_register(to: SessionId, answer: RegisterAnswer) -> Command {
    Command::SendRegisterAnswer { to, id: id(), branch: branch(), answer }
}

fn inquiry(n: u32) -> Command {
    Command::SendInquiry { id: id(), branch: branch(), evidence: evidence(n) }
}

/// That the only order is a no vote to this session.
fn votes_no(orders: &[Command], session: SessionId) -> bool {
    matches!(orders, [Command::SendVote { to, vote: Vote::Abort(_), .. }] if *to == session)
}

fn violates(orders: &[Command]) -> bool {
    orders.iter().any(|order| matches!(order, Command::ReportViolation { .. }))
}

#[test]
fn the_vote_is_sent_only_after_the_hook_has_promised_ac3() {
    let mut core = Core::open();
    assert_eq!(core.feed(prepare(A)), [run_prepare()]);
    assert_eq!(core.feed(Event::PrepareFinished { key: key(), vote: yes() }), [send_vote(A, yes())]);
}

#[test]
fn a_repeated_prepare_waits_for_the_first_and_then_has_the_same_answer_e2_c7() {
    let mut core = Core::open();
    core.feed(prepare(A));
    assert_eq!(core.feed(prepare(B)), []);
    let votes = core.feed(Event::PrepareFinished { key: key(), vote: yes() });
    assert_eq!(votes, [send_vote(A, yes()), send_vote(B, yes())]);
    assert_eq!(core.feed(prepare(B)), [send_vote(B, yes())]);
}

#[test]
fn refusals_and_read_only_votes_are_repeated_from_memory() {
    for vote in [Vote::ReadOnly, Vote::Abort(AbortReason::new(AbortKind::VotedNo, "no"))] {
        let mut core = Core::open();
        core.feed(prepare(A));
        assert_eq!(
            core.feed(Event::PrepareFinished { key: key(), vote: vote.clone() }),
            [send_vote(A, vote.clone())]
        );
        assert_eq!(core.feed(prepare(B)), [send_vote(B, vote)]);
        assert_eq!(core.feed(abort(A)), [send_finished(A, BranchOutcome::Aborted)]);
        assert!(core.0.is_empty());
    }
}

#[test]
fn prepare_of_work_that_is_not_here_votes_no_for_good() {
    let mut core = Core::new();
    assert!(votes_no(&core.feed(prepare(A)), A));
    assert!(votes_no(&core.feed(prepare(B)), B));
}

#[test]
fn prepare_after_abort_votes_no_e3_e4() {
    let mut core = Core::new();
    assert_eq!(core.feed(abort(A)), [run_abort(None)], "it may be prepared from an earlier life");
    assert!(votes_no(&core.feed(prepare(A)), A));
    assert_eq!(core.feed(ended(BranchOutcome::Aborted)), [send_finished(A, BranchOutcome::Aborted)]);
    assert!(votes_no(&core.feed(prepare(A)), A));
    // Also a one-shot operation is not executed any more.
    let operation = Some(Operation { name: "debit".into(), payload: [].into() });
    let late = Event::PrepareReceived {
        from: A,
        id: id(),
        branch: branch(),
        operation,
        one_phase: false,
        deadline: deadline(),
    };
    assert!(votes_no(&core.feed(late), A));
}

#[test]
fn abort_during_prepare_is_carried_out_when_the_hook_ends() {
    let mut core = Core::open();
    core.feed(prepare(A));
    assert_eq!(core.feed(abort(A)), []);
    assert_eq!(core.feed(Event::PrepareFinished { key: key(), vote: yes() }), [run_abort(Some(evidence(1)))]);
    assert_eq!(core.feed(ended(BranchOutcome::Aborted)), [send_finished(A, BranchOutcome::Aborted)]);
    // If the hook refused, there is nothing left to abort.
    let mut core = Core::open();
    core.feed(prepare(A));
    core.feed(abort(A));
    let no = Vote::Abort(AbortReason::new(AbortKind::VotedNo, "no"));
    assert_eq!(
        core.feed(Event::PrepareFinished { key: key(), vote: no.clone() }),
        [send_vote(A, no), send_finished(A, BranchOutcome::Aborted)]
    );
}

#[test]
fn commit_runs_the_hook_once_and_is_acknowledged_after_it_e6_e9() {
    let mut core = Core::prepared();
    assert_eq!(core.feed(commit(A)), [run_commit(Some(evidence(1)))]);
    assert_eq!(core.feed(commit(B)), []);
    assert_eq!(
        core.feed(ended(BranchOutcome::Committed)),
        [send_finished(A, BranchOutcome::Committed), send_finished(B, BranchOutcome::Committed)]
    );
    assert_eq!(core.feed(commit(B)), [send_finished(B, BranchOutcome::Committed)]);
}

#[test]
fn commit_without_memory_goes_to_the_resource_which_finds_out_c4_law_8() {
    let mut core = Core::new();
    assert_eq!(core.feed(commit(A)), [run_commit(None)]);
    let by_hand = BranchOutcome::Heuristic(HeuristicOutcome::Aborted);
    assert_eq!(core.feed(ended(by_hand.clone())), [send_finished(A, by_hand)]);
}

#[test]
fn commit_of_a_branch_that_was_never_prepared_is_no_acknowledgement_e7() {
    let mut core = Core::open();
    let orders = core.feed(commit(A));
    assert!(violates(&orders));
    assert!(matches!(orders.last(), Some(Command::SendFailed { to: A, .. })), "{orders:?}");
}

#[test]
fn commit_of_another_execution_is_left_to_the_resource_h3() {
    let mut core = Core::new();
    core.feed(found(2));
    let answer = InquiryAnswer::Commit(evidence(1));
    assert_eq!(core.feed(Event::InquiryAnswered { key: key(), answer }), [run_commit(None)]);
}

#[test]
fn a_late_prepare_executes_nothing_again_once_commit_was_decided_h3() {
    // Found by the simulator: the commit hook failed twice, and what it did is not known.
    let mut core = Core::new();
    core.feed(commit(A));
    core.feed(failed());
    let late = Event::PrepareReceived {
        from: A,
        id: id(),
        branch: branch(),
        operation: Some(Operation { name: "debit".into(), payload: [].into() }),
        one_phase: false,
        deadline: deadline(),
    };
    assert_eq!(core.feed(late), []);
    assert_eq!(core.feed(commit(A)), [run_commit(None)]);
}

#[test]
fn a_commit_hook_that_fails_leaves_the_branch_in_doubt_c8() {
    let mut core = Core::prepared();
    core.feed(commit(A));
    let failed_to = Command::SendFailed { to: A, id: id(), branch: branch(), error: "disk full".into() };
    assert_eq!(core.feed(failed()), [failed_to]);
    // Nothing is assumed of what the failed hook did.
    assert_eq!(core.feed(commit(A)), [run_commit(None)]);
    core.feed(failed());
    assert_eq!(core.feed(commit(B)), [run_commit(None)]);
    assert_eq!(core.feed(ended(BranchOutcome::Committed)), [send_finished(B, BranchOutcome::Committed)]);
}

#[test]
fn a_decided_commit_never_turns_into_an_abort_whatever_the_hook_came_to_c8_e8() {
    for mut core in [Core::prepared(), Core::new()] {
        core.feed(commit(A));
        core.feed(failed());
        let orders = core.feed(abort(B));
        assert!(violates(&orders));
        assert!(matches!(orders.last(), Some(Command::SendFailed { to: B, .. })), "{orders:?}");
        assert_eq!(core.feed(commit(A)), [run_commit(None)]);
    }
    // Nor by the answer to an inquiry.
    let mut core = Core::prepared();
    core.feed(commit(A));
    core.feed(failed());
    assert_eq!(core.feed(found(1)), [inquiry(1)]);
    let orders = core.feed(Event::InquiryAnswered { key: key(), answer: InquiryAnswer::Abort });
    assert!(violates(&orders) && orders.len() == 1, "{orders:?}");
}

#[test]
fn commit_for_two_executions_is_a_violation_and_the_first_stands_e8() {
    let mut core = Core::committed();
    let other = Event::CommitReceived { from: B, id: id(), branch: branch(), evidence: evidence(2) };
    let orders = core.feed(other);
    assert!(violates(&orders));
    assert!(matches!(orders.last(), Some(Command::SendFailed { to: B, .. })), "{orders:?}");
    assert_eq!(core.feed(commit(B)), [send_finished(B, BranchOutcome::Committed)]);
}

#[test]
fn abort_after_the_register_has_aborted_is_acknowledged_h5() {
    let aborted = RegisterAnswer::Aborted(AbortReason::new(AbortKind::OwnerEnded, "closed"));
    for (answer, end) in
        [(aborted, BranchOutcome::Aborted), (RegisterAnswer::Committed, BranchOutcome::Committed)]
    {
        let mut core = Core::open();
        core.feed(settle(A));
        core.feed(read(answer));
        let orders = core.feed(abort(B));
        assert_eq!(orders.last(), Some(&send_finished(B, end.clone())));
        assert_eq!(violates(&orders), end == BranchOutcome::Committed);
    }
}

#[test]
fn a_register_that_could_not_be_read_leaves_nothing_behind() {
    let mut core = Core::new();
    core.feed(settle(A));
    assert_eq!(core.feed(read(RegisterAnswer::Unknown)), [send_register(A, RegisterAnswer::Unknown)]);
    assert_eq!(core.0, Core::new().0);
}

#[test]
fn an_abort_hook_that_fails_is_run_again_and_the_branch_stays_aborted_c8() {
    for mut core in [Core::open(), Core::prepared()] {
        core.feed(abort(A));
        core.feed(failed());
        assert!(votes_no(&core.feed(prepare(A)), A));
        let at = core.0.poll_timeout().expect("it is run again by itself");
        core.0.handle_timeout(at);
        assert!(matches!(core.0.poll_command(), Some(Command::RunAbort { .. })));
        assert_eq!(core.feed(abort(B)), []);
        assert_eq!(core.feed(ended(BranchOutcome::Aborted)), [send_finished(B, BranchOutcome::Aborted)]);
        assert_eq!(core.0.poll_timeout(), None);
    }
}

#[test]
fn one_phase_that_comes_while_the_work_is_given_up_is_unknown_for_now_h5() {
    let mut core = Core::open();
    core.0.handle_timeout(deadline());
    core.0.poll_command();
    assert_eq!(core.feed(one_phase(A)), [send_register(A, RegisterAnswer::Unknown)]);
    core.feed(ended(BranchOutcome::Aborted));
    assert_eq!(core.feed(one_phase(A)), [run_settle()]);
}

#[test]
fn what_was_ended_is_not_undone_e8() {
    let mut core = Core::committed();
    let orders = core.feed(abort(A));
    assert!(violates(&orders));
    assert_eq!(orders.last(), Some(&send_finished(A, BranchOutcome::Committed)));
    let mut core = Core::prepared();
    core.feed(commit(A));
    assert!(violates(&core.feed(abort(B))));
    assert_eq!(core.feed(ended(BranchOutcome::Committed)), [send_finished(A, BranchOutcome::Committed)]);
}

#[test]
fn an_open_branch_is_given_up_at_its_deadline_and_a_prepared_one_never_is() {
    let mut core = Core::open();
    assert_eq!(core.0.poll_timeout(), Some(deadline()));
    core.0.handle_timeout(deadline());
    assert_eq!(core.0.poll_command(), Some(run_abort(None)));
    let mut core = Core::prepared();
    core.0.handle_timeout(deadline() + Duration::from_hours(1000));
    assert_eq!(core.0.poll_command(), Some(inquiry(1)), "time makes it ask, and nothing else");
    assert_eq!(core.0.poll_command(), None);
}

#[test]
fn a_refused_enlistment_ends_the_local_work_e10() {
    let mut core = Core::open();
    assert_eq!(core.feed(Event::EnlistRefused { key: key() }), [run_abort(None)]);
    assert!(core.0.handle_event(Event::EnlistRefused { key: key() }, NOW).is_err());
}

#[test]
fn a_repeated_enlistment_changes_nothing_e11() {
    let mut core = Core::prepared();
    assert_eq!(core.feed(Event::Enlisted { branch: branch(), id: id(), deadline: deadline() }), []);
    assert_eq!(core.feed(prepare(B)), [send_vote(B, yes())]);
}

#[test]
fn ends_are_remembered_up_to_a_limit_the_oldest_forgotten_first() {
    let mut core = Core(Participant::new(Config { remembered_max: 1, ..Config::default() }));
    let other = id::Branch { id: BranchId::new(2), ..branch() };
    core.feed(abort(A));
    core.feed(ended(BranchOutcome::Aborted));
    core.feed(Event::AbortReceived { from: A, id: id(), branch: other.clone() });
    let key = BranchKey { id: id(), branch: other.id };
    let orders = core.feed(Event::BranchEnded { key, outcome: BranchOutcome::Aborted });
    assert_eq!(orders.last(), Some(&Command::Forget { branch: branch(), id: id() }));
}

#[test]
fn answers_of_hooks_that_do_not_run_are_illegal_and_change_nothing() {
    for mut core in [Core::open(), Core::committed(), Core::aborted()] {
        let before = core.0.clone();
        for event in [
            Event::PrepareFinished { key: key(), vote: yes() },
            ended(BranchOutcome::Committed),
            failed(),
            read(RegisterAnswer::Committed),
        ] {
            assert!(core.0.handle_event(event, NOW).is_err());
        }
        assert_eq!(core.0, before);
    }
}
