//! The decision log's answers.

use super::*;

#[test]
fn commit_is_sent_only_after_the_decision_is_recorded_law_2() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    assert_eq!(core.timeout(after(29)).iter().filter(|c| matches!(c, Command::SendCommit { .. })).count(), 0);
    assert_eq!(
        core.proposal(id, Decision::Commit, ProposalResult::Won),
        [Command::ForgetUndecided { gid: id.gid }, send_commit(id, &branch(1)), send_commit(id, &branch(2))]
    );
}

#[test]
fn neither_deadline_nor_application_aborts_what_was_proposed_law_4() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    let orders = core.timeout(after(100));
    assert!(
        !orders.iter().any(|c| matches!(c, Command::SendAbort { .. } | Command::Reply { .. })),
        "{orders:?}"
    );
    let abort = Event::AbortRequested {
        id,
        branches: None,
        reason: reason(AbortKind::Requested),
        request: RequestId(2),
    };
    assert_eq!(core.feed(abort), []);
    core.proposal(id, Decision::Commit, ProposalResult::Won);
    core.finished(id, &branch(1));
    let orders = core.finished(id, &branch(2));
    assert!(orders.contains(&reply(1, committed(vec![]))));
    assert!(orders.contains(&reply(2, committed(vec![]))), "the loser gets the outcome (A13): {orders:?}");
}

#[test]
fn a_lost_write_obeys_what_stands_a10_b9() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    let stands = DecisionRecord::abort(id, reason(AbortKind::OwnerEnded));
    assert_eq!(
        core.proposal(id, Decision::Commit, ProposalResult::Lost(Box::new(stands))),
        [send_abort(id, &branch(1)), send_abort(id, &branch(2))]
    );
    core.feed(Event::BranchFinished { id, branch: branch(1), outcome: BranchOutcome::Aborted });
    let orders = core.feed(Event::BranchFinished { id, branch: branch(2), outcome: BranchOutcome::Aborted });
    assert_eq!(abort_kind(&orders[0]), AbortKind::OwnerEnded);
}

#[test]
fn an_unknown_write_sends_neither_outcome_and_is_proposed_again_b2() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    assert_eq!(core.proposal(id, Decision::Commit, ProposalResult::Unknown), []);
    // The application is told unknown after a bound, and nothing else.
    let orders = core.timeout(after(3));
    assert!(orders.contains(&Command::Propose { record: record(id, &[branch(1), branch(2)]) }));
    assert!(orders.contains(&reply(1, Answer::Outcome(TransactionOutcome::Unknown))));
    assert!(!orders.iter().any(|c| matches!(c, Command::SendCommit { .. } | Command::SendAbort { .. })));
    // Our own row is found: committed.
    let own_row = ProposalResult::Lost(Box::new(record(id, &[branch(1), branch(2)])));
    assert_eq!(
        core.proposal(id, Decision::Commit, own_row),
        [Command::ForgetUndecided { gid: id.gid }, send_commit(id, &branch(1)), send_commit(id, &branch(2))]
    );
}

#[test]
fn a_proposal_waiting_for_the_log_goes_out_as_soon_as_it_is_back() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    core.proposal(id, Decision::Commit, ProposalResult::Unknown);
    assert_eq!(core.feed(Event::LogAvailabilityChanged { available: false }), []);
    assert_eq!(
        core.feed(Event::LogAvailabilityChanged { available: true }),
        [Command::Propose { record: record(id, &[branch(1), branch(2)]) }]
    );
    // One attempt at a time: the next one only after an answer.
    assert_eq!(core.feed(Event::LogAvailabilityChanged { available: true }), []);
    let again = Event::ProposalAnswered { id, proposed: Decision::Abort, result: ProposalResult::Won };
    assert!(core.0.handle_event(again, NOW).is_err());
}

#[test]
fn new_commits_are_refused_while_the_log_is_down_and_their_transaction_lives_on() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    core.enlist(id, &branch(2));
    core.feed(Event::LogAvailabilityChanged { available: false });
    assert_eq!(
        core.commit(id, set([branch(1), branch(2)]), 1),
        [reply(1, Answer::Refused(Refusal::LogUnavailable))]
    );
    core.feed(Event::LogAvailabilityChanged { available: true });
    assert_eq!(core.commit(id, set([branch(1), branch(2)]), 2).len(), 2);
}

#[test]
fn a_fenced_proposal_closes_the_transaction_and_obeys_h10() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    core.feed(Event::IncarnationEnded);
    let orders = core.proposal(id, Decision::Commit, ProposalResult::Fenced);
    assert!(
        matches!(&orders[..], [Command::Propose { record }] if record.decision == Decision::Abort && record.id == id),
        "{orders:?}"
    );
    assert_eq!(
        core.proposal(id, Decision::Abort, ProposalResult::Won),
        [send_abort(id, &branch(1)), send_abort(id, &branch(2))]
    );
}

#[test]
fn an_ended_incarnation_aborts_what_it_did_not_propose_and_starts_nothing_h10() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    assert_eq!(core.feed(Event::IncarnationEnded), [send_abort(id, &branch(1))]);
    assert_eq!(core.enlist(own(11), &branch(1)), [reply(900, Answer::Refused(Refusal::NoIncarnation))]);
    core.feed(Event::IncarnationStarted { incarnation: incarnation(2) });
    assert_eq!(core.enlist(own(12), &branch(1)), [reply(900, Answer::Refused(Refusal::NotOwner))]);
    assert_eq!(core.enlist(foreign(12), &branch(1)), [reply(900, Answer::Enlisted)]);
}

#[test]
fn below_the_floor_a_first_proposal_is_known_unwritten_and_a_repeated_one_is_not_h1() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    assert_eq!(
        core.proposal(id, Decision::Commit, ProposalResult::Forgotten),
        [send_abort(id, &branch(1)), send_abort(id, &branch(2))]
    );
    let (id, mut core) = (own(11), Core::proposed(own(11)));
    core.proposal(id, Decision::Commit, ProposalResult::Unknown);
    core.timeout(after(1));
    assert_eq!(
        core.proposal(id, Decision::Commit, ProposalResult::Forgotten),
        [Command::ForgetUndecided { gid: id.gid }, reply(1, Answer::Outcome(TransactionOutcome::Forgotten))]
    );
}

#[test]
fn a_gid_taken_by_another_owners_transaction_aborts() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    let theirs = record(foreign(10), &[branch(7), branch(8)]);
    assert_eq!(
        core.proposal(id, Decision::Commit, ProposalResult::Lost(Box::new(theirs))),
        [send_abort(id, &branch(1)), send_abort(id, &branch(2))]
    );
}

#[test]
fn an_answer_that_nobody_asked_for_is_illegal() {
    let mut core = Core::new();
    let event =
        Event::ProposalAnswered { id: own(1), proposed: Decision::Commit, result: ProposalResult::Won };
    assert!(core.0.handle_event(event, NOW).is_err());
    let mut core = Core::decided(own(10));
    let event =
        Event::ProposalAnswered { id: own(10), proposed: Decision::Commit, result: ProposalResult::Won };
    assert_eq!(core.0.handle_event(event, NOW).unwrap_err().state, "committing");
    assert_eq!(core.drain(), []);
}

#[test]
fn resolve_of_an_undecided_transaction_goes_through_the_log_g1_h11() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.yes(id, &branch(1));
    let resolve = Event::ResolveRequested {
        id,
        branches: None,
        reason: reason(AbortKind::Resolved),
        request: RequestId(5),
    };
    let orders = core.feed(resolve);
    assert!(matches!(&orders[..], [Command::Propose { record }] if record.decision == Decision::Abort));
    // A vote that comes while it is being closed changes nothing.
    assert_eq!(core.yes(id, &branch(2)), []);
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Won);
    assert_eq!(abort_kind(&orders[0]), AbortKind::Resolved);
    assert_eq!(orders[1..], [send_abort(id, &branch(1)), send_abort(id, &branch(2))]);
}

#[test]
fn resolve_never_contradicts_a_durable_decision_i9() {
    let mut core = Core::decided(own(10));
    let resolve = Event::ResolveRequested {
        id: own(10),
        branches: None,
        reason: reason(AbortKind::Resolved),
        request: RequestId(5),
    };
    assert_eq!(core.feed(resolve), [reply(5, committed(vec![branch(1), branch(2)]))]);
}
