//! Ends that are heard after their transaction was let go of: presumed abort does not wait for ever,
//! and what somebody did by hand is kept all the same (D8, law 11).

use super::*;
use crate::outcome::HeuristicOutcome;

/// Aborted with branch 2 unfinished, and let go of after the bound.
fn let_go(id: TransactionId) -> Core {
    let mut core = Core::new();
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.vote(id, &branch(1), Vote::Abort(reason(AbortKind::VotedNo)));
    core.timeout(after(60));
    assert!(core.0.is_empty(), "presumed abort lets it go");
    core
}

fn ended(id: TransactionId, branch: Branch, heuristic: HeuristicOutcome) -> Event {
    Event::BranchFinished { id, branch, outcome: BranchOutcome::Heuristic(heuristic) }
}

fn kept(id: TransactionId, branch: Branch, outcome: HeuristicOutcome) -> Command {
    Command::RecordHeuristic { id, branch, outcome }
}

#[test]
fn a_commit_by_hand_against_an_abort_that_was_let_go_is_kept_d8() {
    let (id, heuristic) = (own(10), HeuristicOutcome::Committed);
    let mut core = let_go(id);
    assert_eq!(core.feed(ended(id, branch(2), heuristic)), [kept(id, branch(2), heuristic)]);
    // Repeated, as every message may be; the record is one and the same.
    assert_eq!(core.feed(ended(id, branch(2), heuristic)), [kept(id, branch(2), heuristic)]);
    assert_eq!(core.0.len(), 0, "nothing is opened for it");
    let hazard = HeuristicOutcome::Hazard;
    assert_eq!(core.feed(ended(id, branch(2), hazard)), [kept(id, branch(2), hazard)]);
}

#[test]
fn a_late_end_that_agrees_with_the_abort_is_not_kept_g3() {
    let id = own(10);
    let mut core = let_go(id);
    assert_eq!(core.feed(ended(id, branch(2), HeuristicOutcome::Aborted)), []);
    let plain = |outcome| Event::BranchFinished { id, branch: branch(2), outcome };
    assert_eq!(core.feed(plain(BranchOutcome::Aborted)), []);
    let contradicts = kept(id, branch(2), HeuristicOutcome::Committed);
    assert_eq!(core.feed(plain(BranchOutcome::Committed)), [contradicts], "nobody told it to");
}

#[test]
fn what_comes_after_every_branch_of_a_commit_was_heard_is_not_kept_e9() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    core.finished(id, &branch(1));
    core.finished(id, &branch(2));
    for heuristic in [HeuristicOutcome::Committed, HeuristicOutcome::Aborted, HeuristicOutcome::Hazard] {
        assert_eq!(core.feed(ended(id, branch(2), heuristic)), [], "{heuristic:?}");
    }
}

#[test]
fn what_nobody_here_remembers_is_kept_as_the_branch_says_it() {
    let (id, mut core) = (foreign(10), Core::new());
    for heuristic in [HeuristicOutcome::Committed, HeuristicOutcome::Aborted] {
        assert_eq!(core.feed(ended(id, branch(2), heuristic)), [kept(id, branch(2), heuristic)]);
    }
    core.feed(Event::FloorRaised { floor: id.gid });
    let mixed = HeuristicOutcome::Mixed;
    assert_eq!(core.feed(ended(id, branch(2), mixed)), [kept(id, branch(2), mixed)], "also under the floor");
}

#[test]
fn a_second_branch_ended_by_hand_is_heard_of_too_d8() {
    let (id, heuristic) = (own(10), HeuristicOutcome::Committed);
    let mut core = Core::new();
    core.commit(id, set([branch(1), branch(2), branch(3)]), 1);
    core.vote(id, &branch(1), Vote::Abort(reason(AbortKind::VotedNo)));
    core.feed(ended(id, branch(2), heuristic));
    core.timeout(after(60));
    assert!(core.0.is_empty());
    // It asks, and is told as a decision as well: only that is answered with how it ended.
    let inquiry =
        Event::InquiryReceived { id, branch: branch(3), evidence: evidence(3), request: RequestId(5) };
    let answer = Answer::Inquiry(InquiryAnswer::Abort);
    assert_eq!(core.feed(inquiry), [send_abort(id, &branch(3)), reply(5, answer)]);
    assert_eq!(core.feed(ended(id, branch(3), heuristic)), [kept(id, branch(3), heuristic)]);
}

#[test]
fn an_end_is_that_of_the_branch_which_is_named_whole_g6() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.vote(id, &branch(1), Vote::Abort(reason(AbortKind::VotedNo)));
    let forged = Branch { resource: branch(7).resource, ..branch(2) };
    let event = Event::BranchFinished { id, branch: forged.clone(), outcome: BranchOutcome::Aborted };
    assert_eq!(core.feed(event), []);
    assert_eq!(core.0.len(), 1, "branch 2 has not said anything");
    let error = "disk full".into();
    core.feed(Event::BranchFailed { id, branch: forged.clone(), error });
    assert_eq!(core.0.transaction(id.gid, NOW).unwrap().branches[1].last_error, None);
    let orders = core.feed(ended(id, forged, HeuristicOutcome::Committed));
    assert!(matches!(&orders[..], [Command::ReportViolation { .. }]), "{orders:?}");
    // Any instance of the resource may answer.
    let elsewhere = Branch { instance: InstanceId::from_uuid(Uuid::from_u128(99)), ..branch(2) };
    let orders = core.feed(Event::BranchFinished { id, branch: elsewhere, outcome: BranchOutcome::Aborted });
    assert_eq!(abort_kind(&orders[0]), AbortKind::VotedNo);
}

#[test]
fn a_stranger_that_was_told_to_abort_and_is_committed_is_kept_d8() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.vote(id, &branch(1), Vote::Abort(reason(AbortKind::VotedNo)));
    assert_eq!(core.yes(id, &branch(3)), [send_abort(id, &branch(3))]);
    let heuristic = HeuristicOutcome::Committed;
    assert_eq!(core.feed(ended(id, branch(3), heuristic)), [kept(id, branch(3), heuristic)]);
    assert_eq!(core.feed(ended(id, branch(3), HeuristicOutcome::Aborted)), []);
}

/// A late Prepare was answered no, since the branch was being aborted, and that found it committed.
#[test]
fn an_end_by_hand_is_kept_also_of_a_branch_that_voted_no_d8() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.vote(id, &branch(1), Vote::Abort(reason(AbortKind::VotedNo)));
    let heuristic = HeuristicOutcome::Committed;
    assert_eq!(core.feed(ended(id, branch(1), heuristic)), [kept(id, branch(1), heuristic)]);
    assert_eq!(core.feed(ended(id, branch(1), heuristic)), [], "once");
    let plain = Event::BranchFinished { id, branch: branch(2), outcome: BranchOutcome::Aborted };
    let mixed = TransactionOutcome::Aborted {
        reason: AbortReason::new(AbortKind::VotedNo, "bank-1: because"),
        unfinished: vec![],
        heuristic: Some(HeuristicOutcome::Mixed),
    };
    assert_eq!(core.feed(plain), [reply(1, Answer::Outcome(mixed))]);
}

#[test]
fn the_register_of_another_resource_is_not_believed_g6() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([marker_branch(1)]), 1);
    let forged = Branch { resource: branch(7).resource, ..marker_branch(1) };
    let event = Event::RegisterAnswered { id, branch: forged, answer: RegisterAnswer::Committed };
    assert!(core.0.handle_event(event, NOW).is_err());
    assert_eq!(core.0.len(), 1);
}
