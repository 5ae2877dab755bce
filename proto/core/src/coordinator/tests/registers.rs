//! One branch only: the register is the branch's own database (H5).

use super::*;

fn asked() -> (TransactionId, Core) {
    let (id, mut core) = (own(10), Core::new());
    assert_eq!(core.commit(id, set([marker_branch(1)]), 1), [send_prepare(id, &marker_branch(1), true)]);
    (id, core)
}

fn settle(id: TransactionId) -> Command {
    Command::SendSettle { id, branch: marker_branch(1) }
}

fn register(id: TransactionId, answer: RegisterAnswer) -> Event {
    Event::RegisterAnswered { id, branch: marker_branch(1), answer }
}

#[test]
fn one_branch_with_a_marker_commits_in_one_phase_without_the_log() {
    let (id, mut core) = asked();
    assert_eq!(core.feed(register(id, RegisterAnswer::Committed)), [reply(1, committed(vec![]))]);
    assert!(core.0.is_empty());
}

#[test]
fn one_branch_without_a_marker_and_two_with_one_take_two_phases() {
    let mut core = Core::new();
    assert_eq!(core.commit(own(10), set([branch(1)]), 1), [send_prepare(own(10), &branch(1), false)]);
    let two = core.commit(own(11), set([marker_branch(1), marker_branch(2)]), 2);
    assert_eq!(
        two,
        [send_prepare(own(11), &marker_branch(1), false), send_prepare(own(11), &marker_branch(2), false)]
    );
    // A read-only vote does not change the register.
    core.vote(own(11), &marker_branch(1), Vote::ReadOnly);
    assert_eq!(
        core.yes(own(11), &marker_branch(2)),
        [Command::Propose { record: record(own(11), &[marker_branch(2)]) }]
    );
}

#[test]
fn after_one_phase_was_handed_over_the_deadline_asks_the_register() {
    let (id, mut core) = asked();
    let orders = core.timeout(after(30));
    assert!(orders.contains(&settle(id)), "{orders:?}");
    assert!(!orders.iter().any(|c| matches!(c, Command::SendAbort { .. } | Command::Reply { .. })));
    // Unknown is no answer: it is asked again, and the application is told unknown.
    assert_eq!(core.feed_at(register(id, RegisterAnswer::Unknown), after(30)), []);
    let orders = core.timeout(after(40));
    assert!(orders.contains(&settle(id)));
    assert!(orders.contains(&reply(1, Answer::Outcome(TransactionOutcome::Unknown))));
    let aborted = RegisterAnswer::Aborted(reason(AbortKind::OwnerEnded));
    core.feed(register(id, aborted));
    assert_eq!(abort_kind(&core.commit(id, set([marker_branch(1)]), 2)[0]), AbortKind::OwnerEnded);
}

#[test]
fn one_phase_that_was_never_handed_over_is_aborted_freely() {
    let (id, mut core) = asked();
    core.feed(Event::PrepareNotSent { id, branch: marker_branch(1).id });
    core.timeout(after(30));
    assert_eq!(abort_kind(&core.commit(id, set([marker_branch(1)]), 2)[0]), AbortKind::NotAttached);
}

#[test]
fn one_phase_handed_over_once_stays_proposed_although_a_repeat_was_not() {
    let (id, mut core) = asked();
    let orders = core.timeout(after(1));
    assert!(orders.iter().any(|c| matches!(c, Command::SendPrepare { one_phase: true, .. })));
    core.feed(Event::PrepareNotSent { id, branch: marker_branch(1).id });
    assert!(core.timeout(after(30)).contains(&settle(id)));
}

#[test]
fn a_plain_no_to_one_phase_is_not_believed_without_the_register() {
    let (id, mut core) = asked();
    let no = Vote::Abort(reason(AbortKind::LocalFailure));
    assert_eq!(core.vote(id, &marker_branch(1), no), [settle(id)]);
    assert_eq!(core.feed(register(id, RegisterAnswer::Committed)), [reply(1, committed(vec![]))]);
}

#[test]
fn every_coordinator_finds_the_same_register_from_the_set_alone() {
    let (id, mut core) = (foreign(10), Core::new());
    assert_eq!(core.commit(id, set([marker_branch(1)]), 1), [settle(id)]);
    assert_eq!(
        core.feed(register(id, RegisterAnswer::Committed)),
        [Command::ForgetUndecided { gid: id.gid }, reply(1, committed(vec![]))]
    );
}

#[test]
fn a_question_to_a_register_that_does_not_answer_ends_unknown_and_establishes_nothing() {
    let (id, mut core) = (foreign(10), Core::new());
    core.commit(id, set([marker_branch(1)]), 1);
    let orders = core.timeout(after(10));
    assert!(orders.contains(&reply(1, Answer::Outcome(TransactionOutcome::Unknown))), "{orders:?}");
    assert!(core.0.is_empty());
    assert_eq!(core.commit(id, set([marker_branch(1)]), 2), [settle(id)]);
}

#[test]
fn an_application_cannot_abort_one_phase_freely() {
    let (id, mut core) = asked();
    let abort = Event::AbortRequested {
        id,
        branches: None,
        reason: reason(AbortKind::Requested),
        request: RequestId(2),
    };
    assert_eq!(core.feed(abort), []);
    let orders = core.feed(register(id, RegisterAnswer::Committed));
    assert_eq!(orders, [reply(1, committed(vec![])), reply(2, committed(vec![]))]);
}

#[test]
fn a_register_under_its_own_floor_is_forgotten_never_aborted() {
    let (id, mut core) = asked();
    assert_eq!(
        core.feed(register(id, RegisterAnswer::Forgotten)),
        [reply(1, Answer::Outcome(TransactionOutcome::Forgotten))]
    );
}

fn resolve(id: TransactionId) -> Event {
    let reason = reason(AbortKind::Resolved);
    Event::ResolveRequested { id, branches: Some(set([marker_branch(1)])), reason, request: RequestId(4) }
}

/// A prepare record may be older than an enlistment: one branch in it does not make a register.
#[test]
fn a_resolve_that_names_one_branch_asks_its_register_first_and_then_the_log_h5() {
    let (id, no) = (foreign(10), RegisterAnswer::Aborted(reason(AbortKind::OwnerEnded)));
    let asked = || {
        let mut core = Core::new();
        assert_eq!(core.feed(resolve(id)), [settle(id)], "the log is not closed over a commit there");
        core
    };

    let mut core = asked();
    let orders = core.feed(register(id, RegisterAnswer::Committed));
    assert_eq!(orders, [Command::ForgetUndecided { gid: id.gid }, reply(4, committed(vec![]))]);

    let mut core = asked();
    assert!(matches!(&core.feed(register(id, no.clone()))[..], [Command::Propose { record }]
        if record.id == id && record.decision == Decision::Abort));
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Won);
    assert!(
        orders.iter().any(|order| matches!(order, Command::Reply { request: RequestId(4), answer }
        if matches!(answer, Answer::Outcome(TransactionOutcome::Aborted { .. })))),
        "{orders:?}"
    );

    // Its owner committed it with a second branch, through the log.
    let mut core = asked();
    core.feed(register(id, no));
    let stands = Box::new(record(id, &[marker_branch(1), branch(2)]));
    let orders = core.proposal(id, Decision::Abort, ProposalResult::Lost(stands));
    assert!(orders.contains(&send_commit(id, &marker_branch(1))), "{orders:?}");
    assert!(
        orders.iter().any(|order| matches!(order, Command::Reply { request: RequestId(4), answer }
        if matches!(answer, Answer::Outcome(TransactionOutcome::Committed { .. })))),
        "{orders:?}"
    );
}

#[test]
fn what_is_said_of_another_owners_transaction_of_the_same_gid_changes_nothing_law_10() {
    let (id, mut core) = asked();
    let other = TransactionId { incarnation: foreign(10).incarnation, ..id };
    assert_eq!(core.feed(register(other, RegisterAnswer::Committed)), []);
    let finished =
        |id| Event::BranchFinished { id, branch: marker_branch(1), outcome: BranchOutcome::Aborted };
    assert_eq!(core.feed(finished(other)), []);
    let orders = core.feed(resolve(other));
    assert_eq!(orders, [reply(4, Answer::Outcome(TransactionOutcome::NoRecord))]);
    assert_eq!(core.feed(register(id, RegisterAnswer::Committed)), [reply(1, committed(vec![]))]);
}
