//! An instance that is gone: what still needs its vote is aborted at once, and nothing else is.

use super::*;

fn lost(n: u64) -> Event {
    let branch = branch(n);
    Event::InstanceLost { resource: branch.resource, instance: branch.instance }
}

#[test]
fn a_transaction_that_waits_for_the_vote_of_a_lost_instance_is_aborted_c1() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.yes(id, &branch(1));
    assert_eq!(core.feed(lost(2)), [send_abort(id, &branch(1)), send_abort(id, &branch(2))]);
    let orders = core.feed(Event::BranchFinished { id, branch: branch(1), outcome: BranchOutcome::Aborted });
    assert_eq!(abort_kind(&orders[0]), AbortKind::NotAttached, "the one that is gone is not waited for");
}

#[test]
fn a_transaction_into_which_a_lost_instance_enlisted_is_aborted_before_commit_is_asked() {
    let (id, mut core) = (own(10), Core::new());
    core.enlist(id, &branch(1));
    core.enlist(id, &branch(2));
    assert_eq!(core.feed(lost(2)), [send_abort(id, &branch(1)), send_abort(id, &branch(2))]);
    let orders = core.commit(id, set([branch(1), branch(2)]), 1);
    assert_eq!(orders, [], "it waits for the one branch that can be reached");
}

#[test]
fn other_transactions_other_instances_and_other_resources_go_on() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    assert_eq!(core.feed(lost(3)), []);
    let same_resource = Event::InstanceLost { resource: branch(1).resource, instance: branch(2).instance };
    assert_eq!(core.feed(same_resource), []);
}

#[test]
fn a_branch_that_has_voted_is_finished_by_any_instance_c5() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.yes(id, &branch(2));
    assert_eq!(core.feed(lost(2)), []);
    let orders = core.yes(id, &branch(1));
    assert!(matches!(&orders[..], [Command::Propose { record }] if record.decision == Decision::Commit));
}

#[test]
fn what_was_proposed_or_decided_is_not_aborted_law_4() {
    let mut core = Core::proposed(own(10));
    assert_eq!(core.feed(lost(1)), []);
    let mut core = Core::decided(own(10));
    assert_eq!(core.feed(lost(1)), []);
}

#[test]
fn a_late_vote_of_a_lost_instance_gets_abort_f2() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([branch(1), branch(2)]), 1);
    core.feed(lost(2));
    assert_eq!(core.yes(id, &branch(2)), [send_abort(id, &branch(2))]);
    core.feed(Event::BranchFinished { id, branch: branch(1), outcome: BranchOutcome::Aborted });
    assert_eq!(core.yes(id, &branch(2)), [send_abort(id, &branch(2))], "also from memory");
}

#[test]
fn one_phase_that_was_never_handed_over_is_aborted_and_else_its_register_is_asked_h5() {
    let (id, mut core) = (own(10), Core::new());
    core.commit(id, set([marker_branch(1)]), 1);
    assert_eq!(core.feed(lost(1)), [Command::SendSettle { id, branch: marker_branch(1) }]);
    let committed_there =
        Event::RegisterAnswered { id, branch: branch(1), answer: RegisterAnswer::Committed };
    assert_eq!(core.feed(committed_there), [reply(1, committed(vec![]))]);

    let (id, mut core) = (own(11), Core::new());
    core.commit(id, set([marker_branch(1)]), 1);
    core.feed(Event::PrepareNotSent { id, branch: branch(1).id });
    let orders = core.feed(lost(1));
    assert_eq!(orders[0], send_abort(id, &marker_branch(1)));
    assert_eq!(abort_kind(&orders[1]), AbortKind::NotAttached);
}

#[test]
fn a_submitted_branch_is_not_given_to_another_instance_h3() {
    let (id, mut core) = (own(10), Core::new());
    let operation = Operation { name: "debit".into(), payload: Arc::new([]) };
    let submitted = [1, 2].map(|n| SubmittedBranch { branch: branch(n), operation: operation.clone() });
    core.feed(Event::SubmitRequested {
        id,
        branches: submitted.into(),
        details: Arc::default(),
        timeout: TIMEOUT,
        wait: Wait::Decision,
        request: RequestId(1),
    });
    let orders = core.feed(lost(2));
    assert_eq!(abort_kind(&orders[0]), AbortKind::NotAttached);
    let other = InstanceId::from_uuid(Uuid::from_u128(99));
    let came = Event::InstanceAttached { resource: branch(2).resource, instance: other };
    let orders = core.feed(came);
    assert!(!orders.iter().any(|order| matches!(order, Command::SendPrepare { .. })), "{orders:?}");
}
