//! A participant, or the log, is away: who waits is told soon, and what is known is still answered.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::time::Duration;

use common::{Node, Participant, config, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_proto::error::{ErrorCode, ErrorFacts};
use pactum_proto::v1;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use v1::OutcomeState;

async fn node(grace: Duration) -> Node {
    Node::with(Config { participant_grace: grace, ..config() }, MemoryLog::new()).await
}

const SHORT: Duration = Duration::from_millis(200);

/// C1: it goes before its vote; nobody waits for the deadline, which is thirty seconds away.
#[tokio::test]
async fn c1_a_participant_that_goes_before_its_vote_aborts_soon() {
    let node = node(SHORT).await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Decision);
    a.vote_commit().await;
    b.prepare().await;
    drop(b);
    a.ack_abort(&id, &in_a).await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(outcome.state(), OutcomeState::Aborted);
    assert_eq!(outcome.reason.unwrap().kind(), v1::AbortKind::NotAttached);
    node.end().await;
}

/// C3: it goes after its vote, which stands; the commit waits for it and nobody is aborted.
#[tokio::test]
async fn c3_a_participant_that_goes_after_its_vote_is_waited_for() {
    let node = node(SHORT).await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    let prepare = a.prepare().await;
    b.vote_commit().await;
    let gid = uuid::Uuid::from_slice(&id.gid).unwrap().simple().to_string();
    until("its vote", async || {
        let request = v1::InspectTransactionRequest { gid: gid.clone(), examine: false };
        let shown = node.admin.clone().inspect_transaction(request).await.unwrap().into_inner();
        shown.transaction.unwrap().waits_for.starts_with("votes of bank-a;")
    })
    .await;
    let instance = b.instance;
    b.leave(&node).await;
    // Longer than the grace, with the other vote still to come.
    tokio::time::sleep(SHORT * 3).await;
    a.vote(&prepare, v1::vote::Vote::Commit(common::evidence("1"))).await;
    a.ack_commit(&id, &in_a).await;
    let mut b = Participant::attach(&node, instance, &[("bank-b", false)]).await.unwrap();
    b.ack_commit(&id, &in_b).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), OutcomeState::Committed);
    node.end().await;
}

/// Its process was not gone, only its stream: it is back within the grace, and votes.
#[tokio::test]
async fn a_participant_that_is_back_within_the_grace_has_missed_nothing() {
    let node = node(Duration::from_secs(2)).await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.prepare().await;
    let instance = b.instance;
    b.leave(&node).await;
    let mut b = Participant::attach(&node, instance, &[("bank-b", false)]).await.unwrap();
    // Its absence is over, also when the grace of it ends.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    b.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), OutcomeState::Committed);
    node.end().await;
}

async fn is_healthy(node: &Node, service: &str) -> bool {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(node.channel.clone()).check(request).await.unwrap().into_inner();
    answer.status() == tonic_health::ServingStatus::Serving.into()
}

/// B3: new commits are refused at once with the log's own words, outcomes that memory holds are told,
/// what is undelivered is delivered, and service resumes by itself.
#[tokio::test]
async fn b3_while_the_log_cannot_be_written_all_else_is_served() {
    let log = MemoryLog::new();
    let node = Node::with(config(), log.clone()).await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let mut slow = node.participant("bank-c").await;
    let mut committed = Vec::new();
    for other in [&mut b, &mut slow] {
        let id = node.draw().await;
        let (in_a, in_other) = (a.enlist(&id, 1).await, other.enlist(&id, 2).await);
        let commit = node.commit(&id, &[&in_a, &in_other], v1::Wait::Decision);
        a.vote_commit().await;
        other.vote_commit().await;
        a.ack_commit(&id, &in_a).await;
        assert_eq!(soon("the decision", commit).await.unwrap().unwrap().state(), OutcomeState::Committed);
        committed.push((id, in_a, in_other));
    }
    let (ended, _, in_b) = &committed[0];
    b.ack_commit(ended, in_b).await;
    until("its end", async || node.coordinator.transactions_open() == 1).await;

    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    log.faults().refuse_connections(true);
    until("the news", async || !is_healthy(&node, "pactum.ready").await).await;
    assert!(is_healthy(&node, "pactum.v1.TransactionsService").await, "outcomes are still told");
    let refused =
        soon("a refusal", node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished)).await.unwrap().unwrap_err();
    let facts = ErrorFacts::from_status(&refused);
    assert_eq!(facts.known(), Some(ErrorCode::LogUnavailable));
    assert!(facts.retry_after.is_some(), "{facts:?}");
    assert!(facts.message.contains("as ordered"), "the log's own words: {facts:?}");
    let info = node.admin.clone().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert!(!info.log_available && info.log_problem.contains("as ordered"), "{info:?}");

    // One that has ended and one that has not, and a repeated Commit of the former (A5).
    for (id, in_a, in_other) in &committed {
        assert_eq!(node.outcome(id, &[in_a, in_other]).await, OutcomeState::Committed);
    }
    let (ended, in_a, in_b) = &committed[0];
    let repeated = soon("the answer", node.commit(ended, &[in_a, in_b], v1::Wait::Finished)).await.unwrap();
    assert_eq!(repeated.unwrap().state(), OutcomeState::Committed);
    let (undelivered, _, in_slow) = &committed[1];
    slow.ack_commit(undelivered, in_slow).await;

    log.faults().refuse_connections(false);
    until("the good news", async || is_healthy(&node, "pactum.ready").await).await;
    let in_a = a.branch(1);
    let in_b = b.branch(2);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), OutcomeState::Committed);
    node.end().await;
}

/// A5, A13: what memory can answer is answered also by a coordinator that stops, or is overloaded.
#[tokio::test]
async fn a5_a_repeated_commit_is_answered_from_memory_while_draining_and_when_full() {
    let node = Node::with(Config { transactions_open_max: 1, shards: 1, ..config() }, MemoryLog::new()).await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    a.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    // The one that may be open, which also keeps the drain from its end.
    let open = node.draw().await;
    let in_open = a.enlist(&open, 1).await;
    let ask = |id: &v1::TransactionId| {
        let request = v1::CommitRequest {
            id: Some(id.clone()),
            branches: vec![in_a.clone()],
            ..v1::CommitRequest::default()
        };
        let mut application = node.application();
        async move { application.commit(request).await.map(|answer| answer.into_inner().outcome.unwrap()) }
    };
    let fresh = node.draw().await;
    assert_eq!(ask(&fresh).await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    assert_eq!(ask(&id).await.unwrap().state(), OutcomeState::Committed);
    let (again, new) = (ask(&id), ask(&fresh));
    let begin = node.application();
    let stop = tokio::spawn(node.coordinator.stop());
    until("the drain", async || {
        let refused = begin.clone().begin(v1::BeginRequest::default()).await;
        ErrorFacts::from_status(&refused.unwrap_err()).known() == Some(ErrorCode::Draining)
    })
    .await;
    assert_eq!(again.await.unwrap().state(), OutcomeState::Committed);
    assert_eq!(ErrorFacts::from_status(&new.await.unwrap_err()).known(), Some(ErrorCode::Draining));
    let request = v1::AbortRequest { id: Some(open.clone()), ..v1::AbortRequest::default() };
    let abort = tokio::spawn(async move { begin.clone().abort(request).await });
    a.ack_abort(&open, &in_open).await;
    soon("the answer", abort).await.unwrap().unwrap();
    soon("the stop", stop).await.unwrap().unwrap();
}
