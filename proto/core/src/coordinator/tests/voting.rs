//! Up to the proposal.

use super::*;

#[test]
fn commit_asks_every_branch_at_once() {
    let (id, mut core) = (own(10), Core::new());
    assert_eq!(core.enlist(id, &branch(1)), [reply(900, Answer::Enlisted)]);
    assert_eq!(core.enlist(id, &branch(2)), [reply(900, Answer::Enlisted)]);
    assert_eq!(
        core.commit(id, set([branch(1), branch(2)]), 1),
        [send_prepare(id, &branch(1), false), send_prepare(id, &branch(2), false)]
    );
}

#[test]
fn a_branch_that_is_named_but_not_enlisted_is_enlisted_by_its_name_e11() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    assert_eq!(
        core.commit(id, set([branch(1), branch(2)]), 1),
        [send_prepare(id, &branch(1), false), send_prepare(id, &branch(2), false)]
    );
}

#[test]
fn a_branch_that_is_enlisted_but_not_named_aborts_the_transaction_law_9() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    core.enlist(id, &branch(2));
    assert_eq!(
        core.commit(id, set([branch(1)]), 1),
        [send_abort(id, &branch(1)), send_abort(id, &branch(2))]
    );
    core.feed(Event::BranchFinished { id, branch: branch(1), outcome: BranchOutcome::Aborted });
    let orders = core.feed(Event::BranchFinished { id, branch: branch(2), outcome: BranchOutcome::Aborted });
    assert_eq!(abort_kind(&orders[0]), AbortKind::BranchSetDiffers);
}

#[test]
fn one_branch_id_for_two_branches_aborts_the_transaction() {
    let (id, mut core) = (own(10), Core::new());
    let twin = Branch { id: branch(1).id, ..branch(2) };
    let orders = core.commit(id, set([branch(1), twin]), 1);
    assert!(orders.iter().all(|order| matches!(order, Command::SendAbort { .. })), "{orders:?}");
}

#[test]
fn enlist_may_be_repeated_until_commit_is_asked_and_by_a_member_after_it_e10_e11() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    assert_eq!(core.enlist(id, &branch(1)), [reply(900, Answer::Enlisted)]);
    let other = Branch { id: branch(1).id, ..branch(3) };
    assert_eq!(core.enlist(id, &other), [reply(900, Answer::Refused(Refusal::BranchDiffers))]);
    core.commit(id, set([branch(1)]), 1);
    assert_eq!(core.enlist(id, &branch(1)), [reply(900, Answer::Enlisted)]);
    assert_eq!(core.enlist(id, &branch(2)), [reply(900, Answer::Refused(Refusal::CommitAlreadyAsked))]);
}

#[test]
fn only_the_owner_begins_and_enlists_law_9() {
    let mut core = Core::new();
    assert_eq!(core.enlist(foreign(10), &branch(1)), [reply(900, Answer::Refused(Refusal::NotOwner))]);
    let begin = Event::BeginRequested {
        id: foreign(10),
        details: Arc::default(),
        timeout: TIMEOUT,
        request: RequestId(1),
    };
    assert_eq!(core.feed(begin), [reply(1, Answer::Refused(Refusal::NotOwner))]);
}

#[test]
fn too_many_branches_are_refused() {
    let (id, mut core) = (own(10), Core::with(Config { branches_max: 1, ..Config::default() }));
    core.enlist(id, &branch(1));
    assert_eq!(core.enlist(id, &branch(2)), [reply(900, Answer::Refused(Refusal::TooManyBranches))]);
    assert_eq!(
        core.commit(id, set([branch(1), branch(2)]), 1),
        [reply(1, Answer::Refused(Refusal::TooManyBranches))]
    );
}

#[test]
fn commit_of_no_branches_is_committed_read_only_and_cannot_be_joined_later() {
    let (id, mut core) = (own(10), Core::new());
    let read_only = TransactionOutcome::Committed { read_only: true, unfinished: vec![], heuristic: None };
    assert_eq!(core.commit(id, set([]), 1), [reply(1, Answer::Outcome(read_only))]);
    assert_eq!(core.enlist(id, &branch(1)), [reply(900, Answer::Refused(Refusal::Ended))]);
}

#[test]
fn all_read_only_commits_without_a_record_c9() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    assert_eq!(core.vote(id, &branch(1), Vote::ReadOnly), []);
    let read_only = TransactionOutcome::Committed { read_only: true, unfinished: vec![], heuristic: None };
    assert_eq!(core.vote(id, &branch(2), Vote::ReadOnly), [reply(1, Answer::Outcome(read_only))]);
}

#[test]
fn the_record_names_only_the_branches_that_voted_commit() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.vote(id, &branch(1), Vote::ReadOnly);
    assert_eq!(core.yes(id, &branch(2)), [Command::Propose { record: record(id, &[branch(2)]) }]);
}

#[test]
fn a_no_vote_aborts_the_others_at_once_with_its_reason() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.yes(id, &branch(1));
    let no = Vote::Abort(reason(AbortKind::LockTimeout));
    assert_eq!(core.vote(id, &branch(2), no), [send_abort(id, &branch(1))]);
    let orders = core.feed(Event::BranchFinished { id, branch: branch(1), outcome: BranchOutcome::Aborted });
    assert_eq!(orders.len(), 1);
    assert_eq!(abort_kind(&orders[0]), AbortKind::LockTimeout);
    assert!(core.0.is_empty());
}

#[test]
fn a_repeated_vote_changes_nothing_and_another_one_is_illegal_e2() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.yes(id, &branch(1));
    assert_eq!(core.yes(id, &branch(1)), []);
    let other = Event::VoteReceived { id, branch: branch(1), vote: Vote::Commit(evidence(77)) };
    assert!(core.0.handle_event(other, NOW).is_err());
    assert_eq!(core.yes(id, &branch(2)), [Command::Propose { record: record(id, &[branch(1), branch(2)]) }]);
}

#[test]
fn a_vote_of_another_instance_is_not_counted_h3() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.yes(id, &branch(2));
    let stranger = Branch { instance: branch(9).instance, ..branch(1) };
    let vote = Event::VoteReceived { id, branch: stranger.clone(), vote: Vote::Commit(evidence(1)) };
    assert!(core.0.handle_event(vote, NOW).is_err());
    assert_eq!(core.drain(), []);
}

#[test]
fn a_vote_before_prepare_was_asked_is_illegal() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    let vote = Event::VoteReceived { id, branch: branch(1), vote: Vote::Commit(evidence(1)) };
    assert_eq!(core.0.handle_event(vote, NOW).unwrap_err().state, "active");
}

#[test]
fn a_lost_prepare_is_sent_again_to_those_who_have_not_voted_e1() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.yes(id, &branch(1));
    let orders = core.timeout(after(1));
    assert!(
        orders
            .iter()
            .any(|order| matches!(order, Command::SendPrepare { branch: to, .. } if *to == branch(2))),
        "{orders:?}"
    );
    assert!(
        !orders
            .iter()
            .any(|order| matches!(order, Command::SendPrepare { branch: to, .. } if *to == branch(1))),
        "{orders:?}"
    );
}

#[test]
fn the_deadline_aborts_and_names_who_did_not_vote_e1_f2() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.yes(id, &branch(1));
    let orders = core.timeout(after(30));
    assert!(orders.contains(&send_abort(id, &branch(1))));
    assert!(orders.contains(&send_abort(id, &branch(2))));
    // Its late yes gets abort again.
    assert_eq!(core.yes(id, &branch(2)), [send_abort(id, &branch(2))]);
    // Nobody acknowledges: the application is answered after the bound.
    let orders = core.timeout(after(36));
    let answer = orders.iter().find(|order| matches!(order, Command::Reply { .. })).unwrap();
    assert_eq!(abort_kind(answer), AbortKind::Deadline);
    assert!(core.0.is_empty());
}

#[test]
fn an_absent_participant_aborts_by_the_deadline_with_that_reason() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.feed(Event::PrepareNotSent { id, branch: branch(2).id });
    core.yes(id, &branch(1));
    core.timeout(after(30));
    let orders = core.feed(Event::BranchFinished { id, branch: branch(1), outcome: BranchOutcome::Aborted });
    assert_eq!(abort_kind(orders.last().unwrap()), AbortKind::NotAttached);
}

#[test]
fn a_participant_that_attaches_is_served_at_once() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.feed(Event::PrepareNotSent { id, branch: branch(2).id });
    core.yes(id, &branch(1));
    let attached = Event::InstanceAttached { resource: branch(2).resource, instance: branch(2).instance };
    assert_eq!(core.feed(attached), [send_prepare(id, &branch(2), false)]);
    // Another instance of that resource does not hold the local transaction.
    let other = Event::InstanceAttached { resource: branch(2).resource, instance: branch(9).instance };
    assert_eq!(core.feed(other), []);
}

#[test]
fn commit_asked_after_the_deadline_aborts() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    core.timeout(after(30));
    core.timeout(after(40));
    let orders = core.commit(id, set([branch(1)]), 1);
    assert_eq!(abort_kind(&orders[0]), AbortKind::Deadline);
}

#[test]
fn the_application_may_abort_freely_before_the_proposal() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    let abort = |request| Event::AbortRequested {
        id,
        branches: None,
        reason: reason(AbortKind::Requested),
        request: RequestId(request),
    };
    assert_eq!(core.feed(abort(1)), [send_abort(id, &branch(1))]);
    let orders = core.feed(Event::BranchFinished { id, branch: branch(1), outcome: BranchOutcome::Aborted });
    assert_eq!(abort_kind(&orders[0]), AbortKind::Requested);
    // Repeated: the same answer. Commit after it: the loser gets the outcome (A13).
    assert_eq!(abort_kind(&core.feed(abort(2))[0]), AbortKind::Requested);
    assert_eq!(abort_kind(&core.commit(id, set([branch(1)]), 3)[0]), AbortKind::Requested);
}

#[test]
fn abort_of_a_gid_never_seen_keeps_it_from_ever_starting() {
    let (id, mut core) = (own(10), Core::new());
    let abort = Event::AbortRequested {
        id,
        branches: None,
        reason: reason(AbortKind::Requested),
        request: RequestId(1),
    };
    assert_eq!(abort_kind(&core.feed(abort)[0]), AbortKind::Requested);
    assert_eq!(core.enlist(id, &branch(1)), [reply(900, Answer::Refused(Refusal::Ended))]);
    assert_eq!(abort_kind(&core.commit(id, set([branch(1)]), 2)[0]), AbortKind::Requested);
}

#[test]
fn a_one_shot_branch_goes_to_the_first_instance_and_to_no_other_h3() {
    let (id, mut core) = (own(10), Core::new());
    let operation = Operation { name: "debit".into(), payload: Arc::new([1]) };
    let unassigned = Branch { instance: InstanceId::NIL, ..branch(2) };
    let details = Arc::new(Details { digest: Some([7; 16]), ..Details::default() });
    let submit = |branches: &[Branch], digest: u8, request| Event::SubmitRequested {
        id,
        branches: branches
            .iter()
            .map(|branch| SubmittedBranch { branch: branch.clone(), operation: operation.clone() })
            .collect(),
        details: Arc::new(Details { digest: Some([digest; 16]), ..Details::default() }),
        timeout: TIMEOUT,
        wait: Wait::Finished,
        request: RequestId(request),
    };
    core.feed(submit(&[branch(1), unassigned.clone()], 7, 1));
    core.feed(Event::PrepareNotSent { id, branch: unassigned.id });
    let first =
        core.feed(Event::InstanceAttached { resource: branch(2).resource, instance: branch(2).instance });
    let expected = Command::SendPrepare {
        id,
        branch: branch(2),
        operation: Some(operation.clone()),
        one_phase: false,
        time_left: TIMEOUT,
        details,
    };
    assert!(first.contains(&expected), "{first:?}");
    let second =
        core.feed(Event::InstanceAttached { resource: branch(2).resource, instance: branch(8).instance });
    assert_eq!(second, []);
    // Repeated with the same body it waits; with another body it is refused (I8).
    assert_eq!(core.feed(submit(&[branch(1), unassigned.clone()], 7, 2)), []);
    assert_eq!(
        core.feed(submit(&[branch(1), unassigned], 8, 3)),
        [reply(3, Answer::Refused(Refusal::RequestDiffers))]
    );
}

#[test]
fn a_transaction_that_stays_undecided_is_recorded_once_and_dropped_when_decided() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    core.enlist(id, &branch(2));
    let orders = core.timeout(after(1));
    assert!(
        matches!(&orders[..], [Command::RecordUndecided { id: of, branches, .. }]
            if *of == id && *branches == [branch(1), branch(2)]),
        "{orders:?}"
    );
    assert_eq!(core.timeout(after(2)), []);
    let orders = core.commit(id, set([branch(1)]), 1);
    assert!(orders.contains(&Command::ForgetUndecided { gid: id.gid }), "{orders:?}");
}

#[test]
fn a_vote_that_was_read_anew_is_the_same_vote_e2() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.yes(id, &branch(1));
    let anew = Evidence::new(evidence(1).execution, "elsewhere");
    assert_eq!(core.vote(id, &branch(1), Vote::Commit(anew)), []);
    let orders = core.yes(id, &branch(2));
    assert_eq!(
        orders,
        [Command::Propose { record: record(id, &[branch(1), branch(2)]) }],
        "the first counts"
    );
}
