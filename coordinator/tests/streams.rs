//! Streams that misbehave: they are ended with a reason, and disturb nobody else.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use common::{Node, Participant, config, soon};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_proto::v1;
use pactum_proto::v1::participant_message::Message as Up;
use tonic::Code;

async fn end_of(participant: &mut Participant) -> tonic::Status {
    loop {
        match participant.receive().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn a_newer_stream_of_the_same_instance_ends_the_older() {
    let node = Node::start().await;
    let mut older = node.participant("bank-a").await;
    let mut newer = Participant::attach(&node, older.instance, &[("bank-a", false)]).await.unwrap();
    assert_eq!(end_of(&mut older).await.code(), Code::AlreadyExists);
    let id = node.draw().await;
    let in_newer = newer.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_newer], v1::Wait::Finished);
    newer.vote_commit().await;
    newer.ack_commit(&id, &in_newer).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    node.end().await;
}

#[tokio::test]
async fn a_participant_that_does_not_read_is_cut_off_and_others_are_served() {
    let small = Config { outbox_messages_max: 4, ..config() };
    let node = Node::with(small, MemoryLog::new()).await;
    let mut deaf = node.participant("bank-a").await;
    let mut heard = node.participant("bank-b").await;
    // Operations of 64 KiB fill the flow-control window of a stream that is not read, and then
    // the outbox; the answers that are owed in between go to nobody.
    let payload = vec![7; 64 * 1024];
    let mut submits = Vec::new();
    for _ in 0..64 {
        let operation = |branch| v1::Operation {
            branch,
            resource: "bank-a".to_owned(),
            name: "x".to_owned(),
            payload: payload.clone(),
        };
        let request = v1::SubmitRequest {
            id: Some(node.draw().await),
            operations: (1..=3).map(operation).collect(),
            timeout: Some(std::time::Duration::from_millis(1500).try_into().unwrap()),
            ..v1::SubmitRequest::default()
        };
        let mut application = node.application().max_encoding_message_size(1 << 20);
        submits.push(tokio::spawn(async move { application.submit(request).await }));
    }
    common::until("the cut", async || {
        let list = node.admin.clone().list_participants(v1::ListParticipantsRequest {}).await.unwrap();
        list.into_inner().participants.len() == 1
    })
    .await;
    let id = node.draw().await;
    let branch = heard.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&branch], v1::Wait::Finished);
    heard.vote_commit().await;
    heard.ack_commit(&id, &branch).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(end_of(&mut deaf).await.code(), Code::ResourceExhausted);
    for submit in submits {
        let outcome = soon("an outcome", submit).await.unwrap().unwrap().into_inner().outcome.unwrap();
        assert_eq!(outcome.state(), v1::OutcomeState::Aborted);
    }
    node.end().await;
}

#[tokio::test]
async fn an_oversized_message_is_refused() {
    let node = Node::start().await;
    let details = v1::Details { name: "x".repeat(2 * 1024 * 1024), ..v1::Details::default() };
    let request = v1::BeginRequest { details: Some(details), ..v1::BeginRequest::default() };
    let refused = node.application().begin(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    let details = v1::Details { name: "x".repeat(65), ..v1::Details::default() };
    let request = v1::BeginRequest { details: Some(details), ..v1::BeginRequest::default() };
    let refused = node.application().begin(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    node.end().await;
}

#[tokio::test]
async fn g6_a_participant_speaks_only_as_itself() {
    let node = Node::start().await;
    let stranger = uuid::Uuid::now_v7();
    for (instance, resource) in [(stranger, "bank-a"), (uuid::Uuid::nil(), "bank-b")] {
        let mut a = node.participant("bank-a").await;
        let instance = if instance.is_nil() { a.instance } else { instance };
        let branch = v1::Branch {
            id: 1,
            resource: resource.to_owned(),
            instance: instance.as_bytes().to_vec(),
            marker: false,
        };
        let vote = v1::Vote {
            id: Some(node.draw().await),
            branch: Some(branch),
            vote: Some(v1::vote::Vote::Commit(common::evidence("1"))),
        };
        a.send(Up::Vote(vote)).await;
        assert_eq!(end_of(&mut a).await.code(), Code::InvalidArgument);
    }
    node.end().await;
}

#[tokio::test]
async fn malformed_names_are_answered_with_their_field() {
    let node = Node::start().await;
    let id = v1::TransactionId { incarnation: vec![1; 16], gid: vec![1; 15] };
    let request = v1::CommitRequest { id: Some(id), ..v1::CommitRequest::default() };
    let refused = node.application().commit(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("gid"), "{refused:?}");
    let facts = pactum_proto::error::ErrorFacts::from_status(&refused);
    assert_eq!(facts.known(), Some(pactum_proto::error::ErrorCode::InvalidArgument));
    node.end().await;
}
