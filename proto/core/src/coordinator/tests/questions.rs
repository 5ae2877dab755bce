//! Questions about transactions that are not in the table.

use super::*;
use crate::outcome::{HeuristicOutcome, LookUpResult};

fn inquiry(id: TransactionId, n: u64, request: u64) -> Event {
    Event::InquiryReceived { id, branch: branch(n), evidence: evidence(n), request: RequestId(request) }
}

fn inquiry_answer(request: u64, answer: InquiryAnswer) -> Command {
    reply(request, Answer::Inquiry(answer))
}

fn closes(orders: &[Command], id: TransactionId) -> bool {
    matches!(orders, [Command::Propose { record }] if record.decision == Decision::Abort && record.id == id)
}

fn look_up(id: TransactionId, request: u64) -> Command {
    Command::LookUp { id, request: RequestId(request) }
}

#[test]
fn an_inquiry_while_the_votes_come_in_waits_for_the_owner() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    let wait = InquiryAnswer::Wait { owner: id.incarnation };
    assert_eq!(core.feed(inquiry(id, 1, 5)), [inquiry_answer(5, wait.clone())]);
    core.yes(id, &branch(1));
    core.yes(id, &branch(2));
    assert_eq!(core.feed(inquiry(id, 1, 6)), [inquiry_answer(6, wait)]);
}

#[test]
fn an_inquiry_after_the_decision_is_answered_with_the_decided_execution() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    assert_eq!(core.feed(inquiry(id, 1, 5)), [inquiry_answer(5, InquiryAnswer::Commit(evidence(1)))]);
    assert_eq!(core.feed(inquiry(id, 9, 6)), [inquiry_answer(6, InquiryAnswer::Abort)], "not in the record");
}

#[test]
fn another_execution_is_rolled_back_only_once_the_decided_one_is_known_committed_h3() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    let other = |request| Event::InquiryReceived {
        id,
        branch: branch(1),
        evidence: evidence(77),
        request: RequestId(request),
    };
    assert_eq!(core.feed(other(5)), [inquiry_answer(5, InquiryAnswer::Wait { owner: id.incarnation })]);
    core.finished(id, &branch(1));
    assert_eq!(core.feed(other(6)), [inquiry_answer(6, InquiryAnswer::Abort)]);
}

#[test]
fn a_repeated_submit_is_no_other_request_while_another_owners_transaction_is_closed() {
    let (id, mut core) = (foreign(10), Core::new());
    assert!(closes(&core.feed(inquiry(id, 1, 5)), id));
    let operation = Operation { name: "move".into(), payload: Arc::from(&b"1"[..]) };
    let orders = core.feed(Event::SubmitRequested {
        id,
        branches: [SubmittedBranch { branch: branch(1), operation }].into(),
        details: Arc::new(Details { digest: Some([7; 16]), ..Details::default() }),
        timeout: TIMEOUT,
        wait: Wait::Decision,
        request: RequestId(6),
    });
    assert_eq!(orders, [], "it waits for the same close");
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Won);
    let answered = |order: &Command| {
        matches!(order, Command::Reply { request, answer: Answer::Outcome(TransactionOutcome::Aborted { .. }) }
            if *request == RequestId(6))
    };
    assert!(orders.iter().any(answered), "{orders:?}");
}

#[test]
fn an_inquiry_of_a_dead_owners_branch_closes_then_answers_a2_a3() {
    let (id, mut core) = (foreign(10), Core::new());
    assert!(closes(&core.feed(inquiry(id, 1, 5)), id));
    assert_eq!(core.feed(inquiry(id, 2, 6)), [], "it waits for the same close");
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Won);
    assert_eq!(
        orders,
        [
            inquiry_answer(5, InquiryAnswer::Abort),
            inquiry_answer(6, InquiryAnswer::Abort),
            Command::ForgetUndecided { gid: id.gid },
            send_abort(id, &branch(1)),
            send_abort(id, &branch(2))
        ]
    );
}

#[test]
fn a_close_that_finds_a_commit_obeys_it_and_drives_it_a4() {
    let (id, mut core) = (foreign(10), Core::new());
    core.feed(inquiry(id, 1, 5));
    let stands = record(id, &[branch(1), branch(2)]);
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Lost(Box::new(stands)));
    assert_eq!(orders[0], inquiry_answer(5, InquiryAnswer::Commit(evidence(1))));
    assert!(orders.contains(&send_commit(id, &branch(2))));
}

#[test]
fn an_inquiry_of_a_living_owners_branch_is_not_closed_elsewhere() {
    let (id, mut core) = (foreign(10), Core::new());
    core.feed(Event::LiveIncarnationsRead { live: [incarnation(2)].into() });
    let wait = InquiryAnswer::Wait { owner: id.incarnation };
    assert_eq!(core.feed(inquiry(id, 1, 5)), [look_up(id, 0)]);
    let nothing = |request| Event::LookedUp {
        id,
        request: RequestId(request),
        result: LookUpResult::NoRecord,
        heuristics: vec![],
    };
    assert_eq!(core.feed(nothing(0)), [inquiry_answer(5, wait)]);
    core.feed(inquiry(id, 1, 6));
    let stands = LookUpResult::Stands(Box::new(record(id, &[branch(1)])));
    assert_eq!(
        core.feed(Event::LookedUp { id, request: RequestId(0), result: stands, heuristics: vec![] }),
        [inquiry_answer(6, InquiryAnswer::Commit(evidence(1)))]
    );
    assert!(core.0.handle_event(nothing(0), NOW).is_err(), "nobody asked");
}

#[test]
fn an_inquiry_after_all_was_finished_is_answered_from_the_log_d5() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    core.finished(id, &branch(1));
    core.finished(id, &branch(2));
    assert_eq!(core.feed(inquiry(id, 1, 5)), [look_up(id, 0)]);
    let gone =
        Event::LookedUp { id, request: RequestId(0), result: LookUpResult::NoRecord, heuristics: vec![] };
    assert_eq!(core.feed(gone), [inquiry_answer(5, InquiryAnswer::Quarantine)], "never abort (B8)");
}

#[test]
fn a_branch_that_inquires_after_its_transaction_aborted_is_heard_to_its_end_d8() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.vote(id, &branch(1), Vote::Abort(reason(AbortKind::VotedNo)));
    core.feed(Event::BranchFinished { id, branch: branch(2), outcome: BranchOutcome::Aborted });
    // Another branch of that name turns up prepared, and somebody has committed it by hand.
    let orders = core.feed(inquiry(id, 2, 5));
    assert_eq!(orders, [send_abort(id, &branch(2)), inquiry_answer(5, InquiryAnswer::Abort)]);
    let by_hand = BranchOutcome::Heuristic(HeuristicOutcome::Committed);
    let orders = core.feed(Event::BranchFinished { id, branch: branch(2), outcome: by_hand });
    let kept = Command::RecordHeuristic { id, branch: branch(2), outcome: HeuristicOutcome::Committed };
    assert_eq!(orders, [kept]);
}

#[test]
fn below_the_floor_an_inquiry_is_quarantined_and_requests_are_forgotten_b8() {
    let (id, mut core) = (own(10), Core::new());
    core.feed(Event::FloorRaised { floor: id.gid });
    assert_eq!(core.feed(inquiry(id, 1, 5)), [inquiry_answer(5, InquiryAnswer::Quarantine)]);
    assert_eq!(
        core.commit(id, set([branch(1), branch(2)]), 6),
        [reply(6, Answer::Outcome(TransactionOutcome::Forgotten))]
    );
    assert_eq!(core.enlist(id, &branch(1)), [reply(900, Answer::Refused(Refusal::Forgotten))]);
}

#[test]
fn a_retried_commit_at_another_coordinator_is_a_look_up_h4() {
    let (id, mut core) = (foreign(10), Core::new());
    // The owner lives: nothing is closed, nothing prepared.
    core.feed(Event::LiveIncarnationsRead { live: [incarnation(2)].into() });
    assert_eq!(core.commit(id, set([branch(1), branch(2)]), 1), [look_up(id, 0)]);
    let nothing =
        Event::LookedUp { id, request: RequestId(0), result: LookUpResult::NoRecord, heuristics: vec![] };
    assert_eq!(core.feed(nothing), [reply(1, Answer::Outcome(TransactionOutcome::Pending))]);
    // The owner is dead: closed, then definite.
    core.feed(Event::LiveIncarnationsRead { live: [].into() });
    assert!(closes(&core.commit(id, set([branch(1), branch(2)]), 2), id));
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Won);
    // Its branches are told at once, and awaited for the bound like those of any abort.
    assert_eq!(orders[1..], [send_abort(id, &branch(1)), send_abort(id, &branch(2))]);
    let orders = core.timeout(after(5));
    let answer = orders.iter().find(|order| matches!(order, Command::Reply { .. })).unwrap();
    assert_eq!(abort_kind(answer), AbortKind::OwnerEnded);
}

#[test]
fn without_the_branch_set_absence_is_no_record_and_not_an_abort_h9() {
    let (id, mut core) = (foreign(10), Core::new());
    let ask = |branches, request| Event::OutcomeRequested { id, branches, request: RequestId(request) };
    assert_eq!(core.feed(ask(None, 1)), [look_up(id, 0)]);
    let nothing =
        Event::LookedUp { id, request: RequestId(0), result: LookUpResult::NoRecord, heuristics: vec![] };
    assert_eq!(core.feed(nothing), [reply(1, Answer::Outcome(TransactionOutcome::NoRecord))]);
    assert!(closes(&core.feed(ask(Some(set([branch(1), branch(2)])), 2)), id), "with it, definite");
}

#[test]
fn a_query_of_a_transaction_under_way_is_pending_at_once() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    let ask = Event::OutcomeRequested { id, branches: None, request: RequestId(7) };
    assert_eq!(core.feed(ask), [reply(7, Answer::Outcome(TransactionOutcome::Pending))]);
}

#[test]
fn a_late_vote_of_a_forgotten_transaction_closes_and_is_told_e5() {
    let (id, mut core) = (own(10), Core::new());
    assert!(closes(&core.yes(id, &branch(1)), id));
    assert_eq!(
        core.proposal(id, Decision::Abort, ProposalResult::Won),
        [Command::ForgetUndecided { gid: id.gid }, send_abort(id, &branch(1))]
    );
    // It cannot be started any more.
    core.feed(Event::BranchFinished { id, branch: branch(1), outcome: BranchOutcome::Aborted });
    assert_eq!(abort_kind(&core.commit(id, set([branch(1), branch(2)]), 1)[0]), AbortKind::OwnerEnded);
}

#[test]
fn a_late_vote_of_a_finished_commit_is_told_what_the_record_says() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    core.finished(id, &branch(1));
    core.finished(id, &branch(2));
    assert_eq!(core.yes(id, &branch(1)), [look_up(id, 0)]);
    let stands = LookUpResult::Stands(Box::new(record(id, &[branch(1), branch(2)])));
    let answered = Event::LookedUp { id, request: RequestId(0), result: stands, heuristics: vec![] };
    assert_eq!(core.feed(answered), [send_commit(id, &branch(1))]);
}

#[test]
fn a_gid_starts_once_also_when_its_ending_was_let_go_h2_law_10() {
    let mut core = Core::with(Config { remembered_max: 1, ..Config::default() });
    for n in [10, 11] {
        let id = own(n);
        core.commit(id, set([branch(1), branch(2)]), 1);
        let no = Vote::Abort(reason(AbortKind::VotedNo));
        core.vote(id, &branch(1), no);
        core.feed(Event::BranchFinished { id, branch: branch(2), outcome: BranchOutcome::Aborted });
    }
    assert_eq!(core.0.start_floor(), own(10).gid);
    assert_eq!(core.enlist(own(10), &branch(1)), [reply(900, Answer::Refused(Refusal::TooOldToStart))]);
    assert_eq!(core.enlist(own(9), &branch(1)), [reply(900, Answer::Refused(Refusal::TooOldToStart))]);
    assert!(closes(&core.commit(own(10), set([branch(1), branch(2)]), 2), own(10)), "answered from the log");
    assert_eq!(core.enlist(own(12), &branch(1)), [reply(900, Answer::Enlisted)]);
}

#[test]
fn resolve_of_a_dead_owners_transaction_closes_it_if_its_branches_are_known() {
    let (id, mut core) = (foreign(10), Core::new());
    let resolve = |branches, request| Event::ResolveRequested {
        id,
        branches,
        reason: reason(AbortKind::Resolved),
        request: RequestId(request),
    };
    // Without a prepare record the log alone cannot tell whose register it is (H5).
    assert_eq!(core.feed(resolve(None, 1)), [look_up(id, 0)]);
    let nothing =
        Event::LookedUp { id, request: RequestId(0), result: LookUpResult::NoRecord, heuristics: vec![] };
    assert_eq!(core.feed(nothing), [reply(1, Answer::Outcome(TransactionOutcome::NoRecord))]);
    assert!(closes(&core.feed(resolve(Some(set([branch(1), branch(2)])), 2)), id));
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Won);
    assert_eq!(abort_kind(&orders[0]), AbortKind::Resolved);
}

#[test]
fn an_empty_set_at_another_coordinator_is_only_looked_up_law_9() {
    // The owner may have enlisted a branch that the application never heard of.
    let (id, mut core) = (foreign(10), Core::new());
    assert_eq!(core.commit(id, set([]), 1), [look_up(id, 0)]);
    let nothing =
        Event::LookedUp { id, request: RequestId(0), result: LookUpResult::NoRecord, heuristics: vec![] };
    assert_eq!(core.feed(nothing), [reply(1, Answer::Outcome(TransactionOutcome::NoRecord))]);
}

#[test]
fn heuristic_outcomes_that_are_kept_are_told_with_the_decision_d8() {
    let (id, mut core) = (foreign(10), Core::new());
    core.feed(Event::OutcomeRequested { id, branches: None, request: RequestId(1) });
    let stands = LookUpResult::Stands(Box::new(record(id, &[branch(1), branch(2)])));
    let heuristics = vec![(branch(2).id, HeuristicOutcome::Aborted)];
    let event = Event::LookedUp { id, request: RequestId(0), result: stands, heuristics };
    let mixed = TransactionOutcome::Committed {
        read_only: false,
        unfinished: vec![],
        heuristic: Some(HeuristicOutcome::Mixed),
    };
    assert_eq!(core.feed(event), [reply(1, Answer::Outcome(mixed))]);
}

#[test]
fn who_inquires_again_while_the_log_is_away_is_kept_once() {
    let (id, mut core) = (foreign(10), Core::new());
    core.feed(inquiry(id, 1, 5));
    core.proposal(id, Decision::Abort, ProposalResult::Unknown);
    let wait = InquiryAnswer::Wait { owner: id.incarnation };
    assert_eq!(core.feed(inquiry(id, 1, 6)), [inquiry_answer(5, wait)], "its first question is let go");
    assert_eq!(core.feed(inquiry(id, 2, 7)), [], "another branch's is not touched");
    core.feed(Event::LogAvailabilityChanged { available: true });
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Won);
    for request in [6, 7] {
        assert!(orders.contains(&inquiry_answer(request, InquiryAnswer::Abort)), "{request}: {orders:?}");
    }
}

#[test]
fn a_resolve_that_names_no_branch_closes_nothing_since_its_register_is_not_known_h5() {
    let (id, mut core) = (foreign(10), Core::new());
    let resolve = Event::ResolveRequested {
        id,
        branches: Some(BTreeSet::new()),
        reason: reason(AbortKind::Resolved),
        request: RequestId(4),
    };
    assert_eq!(core.feed(resolve), [look_up(id, 0)], "one branch may have committed in its own database");
}

#[test]
fn a_look_up_takes_the_smallest_number_that_is_free() {
    let (id, mut core) = (foreign(10), Core::new());
    let ask = |core: &mut Core, request| {
        let asked = Event::OutcomeRequested { id, branches: None, request: RequestId(request) };
        core.feed(asked)
    };
    let answer = |core: &mut Core, request| {
        let (request, result) = (RequestId(request), LookUpResult::NoRecord);
        core.feed(Event::LookedUp { id, request, result, heuristics: Vec::new() })
    };
    for number in 0..4 {
        assert_eq!(ask(&mut core, 10 + number), [look_up(id, number)]);
    }
    for number in [1, 3, 2] {
        assert_eq!(
            answer(&mut core, number),
            [reply(10 + number, Answer::Outcome(TransactionOutcome::NoRecord))]
        );
    }
    assert_eq!(ask(&mut core, 20), [look_up(id, 1)]);
    assert_eq!(answer(&mut core, 0).len(), 1);
    assert_eq!(ask(&mut core, 21), [look_up(id, 0)]);
    assert_eq!(ask(&mut core, 22), [look_up(id, 2)]);
}
