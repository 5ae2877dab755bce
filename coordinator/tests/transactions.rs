//! The course of one transaction over real gRPC: what each peer is told, and in which order.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use common::{Node, evidence, soon};
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as Down;
use pactum_proto::v1::participant_message::Message as Up;
use v1::OutcomeState;

#[tokio::test]
async fn two_branches_commit_after_the_decision_is_in_the_log() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    let decided = a.ack_commit(&id, &in_a).await;
    assert_eq!(node.log.faults().writes(), 1, "one force for one committed transaction (law 3)");
    assert_eq!(decided.evidence, Some(evidence("1")));
    b.ack_commit(&id, &in_b).await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(outcome.state(), OutcomeState::Committed);
    assert_eq!((outcome.read_only, outcome.unfinished), (false, vec![]));
    // A5: a Commit that is repeated has the same answer.
    let again = soon("the same outcome", node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.state(), OutcomeState::Committed);
    assert_eq!(node.log.faults().writes(), 1);
    node.end().await;
}

#[tokio::test]
async fn with_wait_decision_the_answer_comes_before_any_branch_has_finished() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Decision);
    a.vote_commit().await;
    b.vote_commit().await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(outcome.state(), OutcomeState::Committed);
    assert_eq!(outcome.unfinished.len(), 2);
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    node.end().await;
}

#[tokio::test]
async fn read_only_branches_write_no_log_and_hear_nothing_more() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    for participant in [&mut a, &mut b] {
        let prepare = participant.prepare().await;
        participant.vote(&prepare, v1::vote::Vote::ReadOnly(true)).await;
    }
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!((outcome.state(), outcome.read_only), (OutcomeState::Committed, true));
    assert_eq!(node.log.faults().writes(), 0);
    node.end().await;
}

#[tokio::test]
async fn one_no_aborts_the_other_branch_with_its_reason_and_without_a_write() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    let prepare = b.prepare().await;
    let reason = v1::AbortReason { kind: v1::AbortKind::VotedNo.into(), message: "no funds".to_owned() };
    b.vote(&prepare, v1::vote::Vote::Abort(reason)).await;
    a.ack_abort(&id, &in_a).await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(outcome.state(), OutcomeState::Aborted);
    let reason = outcome.reason.unwrap();
    assert_eq!(reason.kind(), v1::AbortKind::VotedNo);
    assert!(reason.message.contains("no funds"), "{reason:?}");
    assert_eq!(node.log.faults().writes(), 0, "presumed abort forces nothing (law 3)");
    node.end().await;
}

#[tokio::test]
async fn an_application_aborts_and_a_later_commit_hears_so() {
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let request =
        v1::AbortRequest { id: Some(id.clone()), branches: vec![], message: "changed my mind".to_owned() };
    let mut application = node.application();
    let abort = tokio::spawn(async move { application.abort(request).await });
    a.ack_abort(&id, &in_a).await;
    let outcome = soon("the answer", abort).await.unwrap().unwrap().into_inner().outcome.unwrap();
    assert_eq!(outcome.state(), OutcomeState::Aborted);
    let outcome = soon("the outcome", node.commit(&id, &[&in_a], v1::Wait::Finished)).await.unwrap().unwrap();
    assert_eq!(outcome.state(), OutcomeState::Aborted);
    node.end().await;
}

#[tokio::test]
async fn e10_enlisting_after_commit_was_asked_is_refused() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    let prepare = a.prepare().await;
    let (_, error) = b.try_enlist(&id, 2).await;
    assert_eq!(error.unwrap().code, tonic::Code::FailedPrecondition as i32);
    a.vote(&prepare, v1::vote::Vote::Commit(evidence("1"))).await;
    a.ack_commit(&id, &in_a).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), OutcomeState::Committed);
    node.end().await;
}

#[tokio::test]
async fn law_9_a_branch_that_is_not_named_aborts_the_transaction() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    a.ack_abort(&id, &in_a).await;
    b.ack_abort(&id, &in_b).await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(outcome.reason.unwrap().kind(), v1::AbortKind::BranchSetDiffers);
    node.end().await;
}

#[tokio::test]
async fn one_branch_with_a_marker_commits_in_one_phase_and_writes_no_log() {
    let node = Node::start().await;
    let instance = uuid::Uuid::now_v7();
    let mut a = common::Participant::attach(&node, instance, &[("bank-a", true)]).await.unwrap();
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    assert!(a.prepare().await.one_phase);
    let register = Some(v1::register_answer::Register::Committed(true));
    let answer = v1::RegisterAnswer { id: Some(id.clone()), branch: Some(in_a.clone()), register };
    a.send(Up::RegisterAnswer(answer)).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), OutcomeState::Committed);
    assert_eq!(node.log.faults().writes(), 0);
    node.end().await;
}

#[tokio::test]
async fn a_one_shot_transaction_carries_its_operations_and_may_be_repeated() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let operation = |branch, resource: &str| v1::Operation {
        branch,
        resource: resource.to_owned(),
        name: "debit".to_owned(),
        payload: b"12".to_vec(),
    };
    let request = v1::SubmitRequest {
        id: Some(node.draw().await),
        operations: vec![operation(1, "bank-a"), operation(2, "bank-b")],
        ..v1::SubmitRequest::default()
    };
    let id = request.id.clone().unwrap();
    let submit = |request: &v1::SubmitRequest| {
        let (mut application, request) = (node.application(), request.clone());
        tokio::spawn(async move { application.submit(request).await })
    };
    let first = submit(&request);
    for participant in [&mut a, &mut b] {
        let prepare = participant.vote_commit().await;
        assert_eq!(prepare.operation.unwrap().payload, b"12");
        let branch = prepare.branch.unwrap();
        assert_eq!(branch.instance, participant.instance.as_bytes());
    }
    let (in_a, in_b) = (a.branch(1), b.branch(2));
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    for answer in [first, submit(&request)] {
        let outcome = soon("the outcome", answer).await.unwrap().unwrap().into_inner().outcome.unwrap();
        assert_eq!(outcome.state(), OutcomeState::Committed);
    }
    let other = v1::SubmitRequest { operations: vec![operation(1, "bank-a")], ..request };
    let refused = soon("the refusal", submit(&other)).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    node.end().await;
}

#[tokio::test]
async fn an_inquiry_waits_while_the_owner_works_and_is_answered_by_what_stands() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Decision);
    a.vote_commit().await;
    let inquiry =
        v1::Inquiry { id: Some(id.clone()), branch: Some(in_a.clone()), evidence: Some(evidence("1")) };
    a.send(Up::Inquiry(inquiry.clone())).await;
    let answer = loop {
        match a.next().await {
            Down::InquiryAnswer(answer) => break answer.answer,
            Down::Prepare(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answer, Some(v1::inquiry_answer::Answer::Wait(true)));
    b.vote_commit().await;
    soon("the outcome", commit).await.unwrap().unwrap();
    a.send(Up::Inquiry(inquiry)).await;
    let answer = loop {
        match a.next().await {
            Down::InquiryAnswer(answer) => break answer.answer,
            Down::Commit(_) | Down::Prepare(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answer, Some(v1::inquiry_answer::Answer::Commit(evidence("1"))));
    a.finished(&id, &in_a, v1::BranchOutcome::Committed).await;
    b.ack_commit(&id, &in_b).await;
    node.end().await;
}

#[tokio::test]
async fn begin_is_idempotent_by_its_request_id_and_hands_out_a_context() {
    let node = Node::start().await;
    let begin = async |request_id: &str| {
        let request = v1::BeginRequest { request_id: request_id.to_owned(), ..v1::BeginRequest::default() };
        node.application().begin(request).await.unwrap().into_inner()
    };
    let (first, again, other) = (begin("x").await, begin("x").await, begin("y").await);
    assert_eq!(first.id, again.id);
    assert_ne!(first.id, other.id);
    assert!(first.context.ends_with("-30000"), "{}", first.context);
    for id in [first.id.unwrap(), other.id.unwrap()] {
        let request = v1::AbortRequest { id: Some(id), ..v1::AbortRequest::default() };
        node.application().abort(request).await.unwrap();
    }
    node.end().await;
}

#[tokio::test]
async fn a_pipeline_welcomes_first_and_answers_many_calls_in_flight() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let (calls, requests) = tokio::sync::mpsc::channel(8);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = node.application().pipeline(requests).await.unwrap().into_inner();
    let welcome = soon("a welcome", answers.message()).await.unwrap().unwrap().welcome.unwrap();
    assert_eq!(welcome.incarnation, a.welcome.incarnation);
    let mut batch = v1::PipelineRequest::default();
    let mut ids = Vec::new();
    for number in 0..100 {
        let id = v1::TransactionId {
            incarnation: welcome.incarnation.clone(),
            gid: uuid::Uuid::now_v7().as_bytes().to_vec(),
        };
        let branches = vec![a.branch(1), b.branch(2)];
        let commit = v1::CommitRequest { id: Some(id.clone()), branches, ..v1::CommitRequest::default() };
        let call = Some(v1::pipeline_call::Call::Commit(commit));
        batch.calls.push(v1::PipelineCall { call_id: number, call });
        ids.push(id);
    }
    let malformed = v1::CommitRequest::default();
    batch
        .calls
        .push(v1::PipelineCall { call_id: 100, call: Some(v1::pipeline_call::Call::Commit(malformed)) });
    calls.send(batch).await.unwrap();
    let serve = async |participant: &mut common::Participant, number| {
        let branch = participant.branch(number);
        // A set, because a Commit may come twice.
        let mut finished = std::collections::BTreeSet::new();
        while finished.len() < 100 {
            match participant.next().await {
                Down::Prepare(prepare) => {
                    participant.vote(&prepare, v1::vote::Vote::Commit(evidence("1"))).await;
                }
                Down::Commit(commit) => {
                    let id = commit.id.unwrap();
                    participant.finished(&id, &branch, v1::BranchOutcome::Committed).await;
                    finished.insert(id.gid);
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(serve(&mut a, 1), serve(&mut b, 2));
    let mut committed = 0;
    while committed < 100 {
        for answer in soon("answers", answers.message()).await.unwrap().unwrap().answers {
            match answer.answer.unwrap() {
                v1::pipeline_answer::Answer::Outcome(outcome) => {
                    assert_eq!(outcome.state(), OutcomeState::Committed);
                    committed += 1;
                }
                v1::pipeline_answer::Answer::Error(error) => {
                    assert_eq!((answer.call_id, error.code), (100, tonic::Code::InvalidArgument as i32));
                }
            }
        }
    }
    node.end().await;
}
