//! Phase 2.

use super::*;
use crate::outcome::HeuristicOutcome;

#[test]
fn a_commit_is_finished_only_when_the_last_branch_has_acknowledged_i2() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    assert_eq!(core.finished(id, &branch(1)), []);
    assert_eq!(core.finished(id, &branch(1)), [], "a repeated acknowledgement (E9)");
    assert_eq!(core.finished(id, &branch(2)), [Command::RecordFinished { id }, reply(1, committed(vec![]))]);
    assert_eq!(core.finished(id, &branch(2)), [], "a late acknowledgement (E9)");
}

#[test]
fn a_slow_branch_is_asked_again_and_delays_nobody_else_f3() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    core.finished(id, &branch(1));
    assert_eq!(core.timeout(after(1)), [send_commit(id, &branch(2))]);
    // The application is answered after the bound, with the list of what is unfinished.
    let orders = core.timeout(after(6));
    assert!(orders.contains(&reply(1, committed(vec![branch(2)]))), "{orders:?}");
    assert_eq!(core.finished(id, &branch(2)), [Command::RecordFinished { id }]);
}

#[test]
fn a_request_that_waits_for_the_decision_only_is_answered_at_the_commit_point() {
    let (id, mut core) = (own(10), Core::new());
    core.feed(Event::CommitRequested {
        id,
        branches: set([branch(1), branch(2)]),
        details: Arc::default(),
        timeout: TIMEOUT,
        wait: Wait::Decision,
        request: RequestId(1),
    });
    core.yes(id, &branch(1));
    core.yes(id, &branch(2));
    let orders = core.proposal(id, Decision::Commit, ProposalResult::Won);
    assert_eq!(orders[0], reply(1, committed(vec![branch(1), branch(2)])));
}

#[test]
fn a_participant_that_comes_back_is_driven_at_once_whichever_instance_c5() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    core.finished(id, &branch(1));
    let attached = |n| Event::InstanceAttached { resource: branch(n).resource, instance: branch(9).instance };
    assert_eq!(core.feed(attached(2)), [send_commit(id, &branch(2))]);
    assert_eq!(core.feed(attached(1)), []);
}

#[test]
fn a_branch_that_failed_to_commit_is_kept_and_asked_again_c8() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    core.finished(id, &branch(1));
    core.feed(Event::BranchFailed { id, branch: branch(2), error: "disk full".into() });
    let view = core.0.transaction(id.gid, NOW).unwrap();
    assert_eq!(view.branches[1].last_error.as_deref(), Some("disk full"));
    assert_eq!(core.timeout(after(60)).iter().filter(|c| **c == send_commit(id, &branch(2))).count(), 1);
    assert_eq!(core.feed(Event::RetryRequested { gid: id.gid }), [send_commit(id, &branch(2))]);
}

#[test]
fn a_branch_aborted_by_hand_is_a_heuristic_outcome_next_to_the_decision_d8() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    core.finished(id, &branch(1));
    let by_hand = BranchOutcome::Heuristic(HeuristicOutcome::Aborted);
    let orders = core.feed(Event::BranchFinished { id, branch: branch(2), outcome: by_hand });
    let mixed = TransactionOutcome::Committed {
        read_only: false,
        unfinished: vec![],
        heuristic: Some(HeuristicOutcome::Mixed),
    };
    assert_eq!(
        orders,
        [
            Command::RecordHeuristic { id, branch: branch(2), outcome: HeuristicOutcome::Aborted },
            Command::RecordFinished { id },
            reply(1, Answer::Outcome(mixed))
        ]
    );
}

#[test]
fn a_heuristic_outcome_that_agrees_with_the_decision_is_none_g3() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    core.finished(id, &branch(1));
    let by_hand = BranchOutcome::Heuristic(HeuristicOutcome::Committed);
    assert_eq!(
        core.feed(Event::BranchFinished { id, branch: branch(2), outcome: by_hand }),
        [Command::RecordFinished { id }, reply(1, committed(vec![]))]
    );
}

#[test]
fn the_end_of_a_branch_before_any_decision_is_illegal_and_changes_nothing() {
    let (id, mut core) = (own(10), Core::proposed(own(10)));
    let event = Event::BranchFinished { id, branch: branch(1), outcome: BranchOutcome::Committed };
    assert_eq!(core.0.handle_event(event, NOW).unwrap_err().state, "proposing");
    let orders = core.proposal(id, Decision::Commit, ProposalResult::Won);
    assert!(orders.contains(&send_commit(id, &branch(1))));
}

#[test]
fn a_recovered_commit_is_driven_to_the_end_a6_a7_a8() {
    let (id, mut core) = (foreign(10), Core::new());
    let recovered = || Event::CommitRecovered { record: record(id, &[branch(1), branch(2)]) };
    assert_eq!(
        core.feed(recovered()),
        [Command::ForgetUndecided { gid: id.gid }, send_commit(id, &branch(1)), send_commit(id, &branch(2))]
    );
    assert_eq!(core.feed(recovered()), [], "once is enough");
    core.finished(id, &branch(1));
    assert_eq!(core.finished(id, &branch(2)), [Command::RecordFinished { id }]);
    assert_eq!(core.feed(recovered()), [Command::RecordFinished { id }], "its end record was lost");
}

#[test]
fn a_retried_commit_gets_the_same_answer_a5_i5() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    assert_eq!(core.commit(id, set([branch(1), branch(2)]), 2), [], "single flight");
    core.finished(id, &branch(1));
    let orders = core.finished(id, &branch(2));
    assert!(orders.contains(&reply(1, committed(vec![]))) && orders.contains(&reply(2, committed(vec![]))));
    assert_eq!(core.commit(id, set([branch(1), branch(2)]), 3), [reply(3, committed(vec![]))]);
}

#[test]
fn an_instance_that_comes_and_goes_does_not_put_off_the_others_f6() {
    let (id, mut core) = (own(10), Core::decided(own(10)));
    let due = core.0.poll_timeout().unwrap();
    let attached = Event::InstanceAttached { resource: branch(2).resource, instance: branch(2).instance };
    let soon = NOW + Duration::from_millis(1);
    assert_eq!(core.feed_at(attached, soon), [send_commit(id, &branch(2))]);
    assert!(core.timeout(due).contains(&send_commit(id, &branch(1))), "when it was due before");
}

#[test]
fn a_gid_that_is_open_under_another_owners_name_is_not_begun() {
    let (id, mut core) = (foreign(10), Core::new());
    core.feed(Event::CommitRecovered { record: record(id, &[branch(1)]) });
    let event = Event::BeginRequested {
        id: own(10),
        details: Arc::default(),
        timeout: TIMEOUT,
        request: RequestId(1),
    };
    assert_eq!(core.feed(event), [reply(1, Answer::Refused(Refusal::NotOwner))]);
    assert_eq!(core.finished(id, &branch(1)), [Command::RecordFinished { id }], "it is still driven");
}
