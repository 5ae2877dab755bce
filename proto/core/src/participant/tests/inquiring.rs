//! A branch in doubt: found, asking, answered.

use super::*;

#[test]
fn an_inquiry_that_gets_no_answer_is_made_again() {
    let mut core = Core::new();
    assert_eq!(core.feed(found(1)), [inquiry(1)]);
    for round in 1..4 {
        let at = NOW + Config::default().inquiry_interval * round;
        assert_eq!(core.0.poll_timeout(), Some(at));
        core.0.handle_timeout(at);
        assert_eq!(core.0.poll_command(), Some(inquiry(1)));
    }
}

#[test]
fn a_branch_found_prepared_inquires_and_obeys_c3_c10() {
    let mut core = Core::new();
    assert_eq!(core.feed(found(1)), [inquiry(1)]);
    assert_eq!(core.feed(found(1)), [], "not again so soon");
    let later = NOW + Duration::from_secs(1);
    assert_eq!(core.feed_at(found(1), later), [inquiry(1)]);
    let answer = |answer| Event::InquiryAnswered { key: key(), answer };
    assert_eq!(core.feed(answer(InquiryAnswer::Wait { owner: id().incarnation })), []);
    assert_eq!(core.feed(answer(InquiryAnswer::Quarantine)), [Command::ReportQuarantine { key: key() }]);
    assert_eq!(core.feed_at(found(1), later + Duration::from_secs(1)), [inquiry(1)]);
    assert_eq!(core.feed(answer(InquiryAnswer::Quarantine)), [], "it is reported once");
    let slowly = NOW + Config::default().quarantine_interval;
    assert_eq!(core.0.poll_timeout(), Some(slowly), "also where nobody scans");
    core.0.handle_timeout(slowly);
    assert_eq!(core.0.poll_command(), Some(inquiry(1)));
    assert_eq!(core.feed(answer(InquiryAnswer::Abort)), [run_abort(Some(evidence(1)))]);
    assert_eq!(core.feed(answer(InquiryAnswer::Abort)), [], "a late answer");
    assert_eq!(core.feed(ended(BranchOutcome::Aborted)), []);
}

#[test]
fn a_prepared_branch_whose_decision_does_not_come_inquires_on_a_period() {
    let mut core = Core::prepared();
    assert_eq!(core.feed(found(1)), []);
    let later = NOW + Duration::from_secs(1);
    assert_eq!(core.feed_at(found(1), later), [inquiry(1)]);
    let answer = InquiryAnswer::Commit(evidence(1));
    let orders = core.feed(Event::InquiryAnswered { key: key(), answer });
    assert_eq!(orders, [run_commit(None)], "a scan does not tell whether the process prepared it itself");
}

#[test]
fn a_prepared_branch_inquires_from_memory_until_it_knows_d8() {
    let mut core = Core::prepared();
    let mut at = core.0.poll_timeout().expect("it asks by itself");
    assert_eq!(at, NOW + Config::default().patience);
    for _ in 0..3 {
        core.0.handle_timeout(at);
        assert_eq!(core.0.poll_command(), Some(inquiry(1)));
        let answer = InquiryAnswer::Wait { owner: id().incarnation };
        assert_eq!(core.feed_at(Event::InquiryAnswered { key: key(), answer }, at), []);
        let next = core.0.poll_timeout().expect("it asks again");
        assert_eq!(next, at + Config::default().inquiry_interval);
        at = next;
    }
    let answer = InquiryAnswer::Abort;
    assert_eq!(
        core.feed_at(Event::InquiryAnswered { key: key(), answer }, at),
        [run_abort(Some(evidence(1)))]
    );
    assert_eq!(core.0.poll_timeout(), None);
}

#[test]
fn a_branch_that_reappears_after_its_end_inquires_again_d5() {
    let mut core = Core::committed();
    assert_eq!(core.feed(found(1)), [], "most likely read before its end");
    assert_eq!(core.feed(commit(B)), [send_finished(B, BranchOutcome::Committed)]);
    let later = NOW + Duration::from_secs(1);
    assert_eq!(core.feed_at(found(1), later), [inquiry(1)]);
    assert!(!core.0.is_empty());
    let answer = InquiryAnswer::Commit(evidence(1));
    assert_eq!(core.feed(Event::InquiryAnswered { key: key(), answer }), [run_commit(None)]);
}

#[test]
fn another_execution_than_the_decided_one_is_rolled_back_h3() {
    // The decided execution was committed and forgotten; a late Prepare executed the branch again.
    let mut core = Core(Participant::new(Config { remembered_max: 0, ..Config::default() }));
    core.feed(found(2));
    assert_eq!(core.feed(commit(A)), [run_commit(None)], "the resource knows of the decided one");
    assert_eq!(core.feed(failed()).len(), 1);
    core.feed(found(2));
    let answer = Event::InquiryAnswered { key: key(), answer: InquiryAnswer::Abort };
    assert_eq!(core.feed(answer), [run_abort(Some(evidence(2)))], "and is no reason to keep this one");
}

#[test]
fn a_branch_found_by_a_scan_is_aborted_by_its_evidence_so_that_a_commit_by_hand_is_seen_d8() {
    // Found by the simulator: a scan made the process forget that it had prepared the branch itself, the
    // abort hook was not told which execution was meant, and so what a person had committed meanwhile
    // passed for aborted.
    for mut core in [Core::prepared(), Core::new()] {
        let later = NOW + Config::default().patience;
        assert_eq!(core.feed_at(found(1), later), [inquiry(1)]);
        let answer = Event::InquiryAnswered { key: key(), answer: InquiryAnswer::Abort };
        assert_eq!(core.feed_at(answer, later), [run_abort(Some(evidence(1)))]);
        let overruled = BranchOutcome::Heuristic(HeuristicOutcome::Committed);
        assert_eq!(core.feed_at(ended(overruled.clone()), later), []);
        assert_eq!(core.feed_at(abort(A), later), [send_finished(A, overruled)]);
    }
}

#[test]
fn a_scan_does_not_change_the_evidence_that_was_voted_with() {
    let mut core = Core::prepared();
    let elsewhere = Evidence::new("x1", "7300000000000000000/1/0-99");
    let late = NOW + Duration::from_mins(1);
    core.feed_at(Event::FoundPrepared { id: id(), branch: branch(), evidence: elsewhere }, late);
    let again = Command::SendVote { to: B, id: id(), branch: branch(), vote: yes() };
    assert_eq!(core.feed_at(prepare(B), late), [again], "two votes that differ are a broken contract");
}
