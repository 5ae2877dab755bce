//! A log that went back in time: nobody concludes abort until a person has released the owner (B4, B5).

use super::*;

const DOUBTED: ProposalResult = ProposalResult::Doubted;

fn inquiry(id: TransactionId, n: u64, request: u64) -> Event {
    Event::InquiryReceived { id, branch: branch(n), evidence: evidence(n), request: RequestId(request) }
}

fn told(request: u64, answer: InquiryAnswer) -> Command {
    reply(request, Answer::Inquiry(answer))
}

fn closing(id: TransactionId) -> Command {
    let reason = AbortReason::new(AbortKind::OwnerEnded, "closed when a prepared branch inquired");
    Command::Propose { record: DecisionRecord::abort(id, reason) }
}

/// A dead owner's transaction of which branch 1 inquired with request 5, and whose log is doubted.
fn held(id: TransactionId) -> Core {
    let mut core = Core::new();
    assert_eq!(core.feed(inquiry(id, 1, 5)), [closing(id)]);
    assert_eq!(
        core.proposal(id, Decision::Abort, DOUBTED),
        [told(5, InquiryAnswer::Quarantine)],
        "told at once"
    );
    core
}

#[test]
fn who_inquires_of_a_held_transaction_is_told_quarantine_at_once() {
    let (id, mut core) = (foreign(10), held(foreign(10)));
    for (n, request) in [(1, 6), (2, 7)] {
        assert_eq!(core.feed(inquiry(id, n, request)), [told(request, InquiryAnswer::Quarantine)]);
    }
}

#[test]
fn the_outcome_of_a_held_transaction_is_unknown_to_those_who_wait_and_to_those_who_come() {
    let (id, mut core) = (foreign(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    let unknown = |request| reply(request, Answer::Outcome(TransactionOutcome::Unknown));
    assert_eq!(core.proposal(id, Decision::Abort, DOUBTED), [unknown(1)]);
    assert_eq!(core.commit(id, set([branch(1), branch(2)]), 2), [unknown(2)]);
    let branches = Some(set([branch(1), branch(2)]));
    let asked = Event::OutcomeRequested { id, branches: branches.clone(), request: RequestId(3) };
    assert_eq!(core.feed(asked), [unknown(3)]);
    let resolve =
        Event::ResolveRequested { id, branches, reason: reason(AbortKind::Resolved), request: RequestId(4) };
    assert_eq!(core.feed(resolve), [unknown(4)], "resolve asks the log, which cannot tell");
}

#[test]
fn a_held_transaction_is_proposed_again_at_the_slowest_pace() {
    let (id, mut core) = (foreign(10), held(foreign(10)));
    let cap = Config::default().retry.cap;
    for round in 1..3_u32 {
        let at = core.0.poll_timeout().expect("it is asked again");
        assert!(at.since(NOW) >= cap / 2, "round {round}");
        assert_eq!(core.timeout(at), [closing(id)]);
        let answered = Event::ProposalAnswered { id, proposed: Decision::Abort, result: DOUBTED };
        assert_eq!(core.feed_at(answered, at), []);
    }
}

#[test]
fn once_released_a_held_transaction_is_aborted_and_its_branches_are_told() {
    let (id, mut core) = (foreign(10), held(foreign(10)));
    core.feed(inquiry(id, 2, 6));
    core.timeout(after(3));
    assert_eq!(
        core.proposal(id, Decision::Abort, ProposalResult::Won),
        [Command::ForgetUndecided { gid: id.gid }, send_abort(id, &branch(1)), send_abort(id, &branch(2))]
    );
    assert_eq!(core.feed(inquiry(id, 1, 8)), [told(8, InquiryAnswer::Abort)]);
}

#[test]
fn a_commit_that_turns_up_after_doubt_is_obeyed() {
    let (id, mut core) = (foreign(10), held(foreign(10)));
    core.timeout(after(3));
    let stands = ProposalResult::Lost(Box::new(record(id, &[branch(1), branch(2)])));
    assert_eq!(
        core.proposal(id, Decision::Abort, stands),
        [Command::ForgetUndecided { gid: id.gid }, send_commit(id, &branch(1)), send_commit(id, &branch(2))]
    );
}

#[test]
fn a_held_transaction_that_falls_under_the_floor_stays_in_quarantine() {
    let (id, mut core) = (foreign(10), held(foreign(10)));
    core.timeout(after(3));
    core.proposal(id, Decision::Abort, ProposalResult::Forgotten);
    assert_eq!(core.feed(inquiry(id, 1, 6)), [told(6, InquiryAnswer::Quarantine)]);
}

#[test]
fn a_lost_answer_does_not_end_doubt_law_5() {
    let (id, mut core) = (foreign(10), held(foreign(10)));
    core.timeout(after(3));
    core.proposal(id, Decision::Abort, ProposalResult::Unknown);
    assert_eq!(core.feed(inquiry(id, 1, 6)), [told(6, InquiryAnswer::Quarantine)]);
    assert_eq!(
        core.commit(id, set([branch(1)]), 7),
        [reply(7, Answer::Outcome(TransactionOutcome::Unknown))]
    );
}

#[test]
fn a_fenced_owner_whose_close_is_doubted_is_held_and_tells_its_client_unknown_b4() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    core.feed(Event::IncarnationEnded);
    core.proposal(id, Decision::Commit, ProposalResult::Fenced);
    assert_eq!(
        core.proposal(id, Decision::Abort, DOUBTED),
        [reply(1, Answer::Outcome(TransactionOutcome::Unknown))]
    );
    assert_eq!(core.feed(inquiry(id, 1, 5)), [told(5, InquiryAnswer::Quarantine)]);
    core.timeout(after(3));
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Won);
    assert_eq!(
        orders[..],
        [Command::ForgetUndecided { gid: id.gid }, send_abort(id, &branch(1)), send_abort(id, &branch(2))]
    );
}

#[test]
fn a_late_vote_for_a_doubted_transaction_gets_no_answer_until_it_is_released_e5() {
    let (id, mut core) = (foreign(10), Core::new());
    core.yes(id, &branch(1));
    assert_eq!(core.proposal(id, Decision::Abort, DOUBTED), []);
    core.timeout(after(3));
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Won);
    assert!(orders.contains(&send_abort(id, &branch(1))), "{orders:?}");
}

#[test]
fn operators_see_why_a_transaction_is_held() {
    let (id, core) = (foreign(10), held(foreign(10)));
    let view = core.0.transaction(id.gid, NOW).expect("it is open");
    assert_eq!((view.phase, view.log_unknown), (Phase::Deciding, false));
    assert!(view.held.expect("it is held").contains("pactum log release"));
    let other = Core::proposed(own(11));
    assert_eq!(other.0.transaction(own(11).gid, NOW).expect("it is open").held, None);
}

#[test]
fn an_answer_that_cannot_be_to_what_was_proposed_changes_nothing() {
    let mut core = Core::proposed(own(10));
    let before = core.0.clone();
    let doubted = Event::ProposalAnswered { id: own(10), proposed: Decision::Commit, result: DOUBTED };
    assert!(core.0.handle_event(doubted, NOW).is_err(), "doubt is an answer to abort proposals only");
    assert_eq!(core.0, before);
    let mut core = Core::new();
    core.feed(inquiry(foreign(10), 1, 5));
    let before = core.0.clone();
    let fenced = Event::ProposalAnswered {
        id: foreign(10),
        proposed: Decision::Abort,
        result: ProposalResult::Fenced,
    };
    assert!(core.0.handle_event(fenced, NOW).is_err(), "abort proposals are free to all");
    assert_eq!(core.0, before);
}
