//! Bad days: the log, a participant, a caller or the coordinator itself is gone for a while.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Node, Participant, config, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::observe::{Observer, Step};
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as Down;
use v1::OutcomeState;

/// B2: an answer of the log is lost; the caller is told *unknown*, and the truth later.
async fn a_lost_answer_of_the_log_is_made_up_for(was_written: bool) {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    node.log.faults().fail_next_writes(1, was_written);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    // Neither outcome may be sent before the log has said which: what comes is Commit.
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(outcome.state(), OutcomeState::Committed);
    node.end().await;
}

#[tokio::test]
async fn b2_a_written_record_whose_answer_was_lost_stands() {
    a_lost_answer_of_the_log_is_made_up_for(true).await;
}

#[tokio::test]
async fn b2_an_unwritten_record_whose_answer_was_lost_is_written_again() {
    a_lost_answer_of_the_log_is_made_up_for(false).await;
}

#[tokio::test]
async fn b2_a_caller_is_told_unknown_and_asks_again() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    // They take longer than the bound, at this retry delay.
    node.log.faults().fail_next_writes(8, false);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    assert_eq!(soon("the answer", commit).await.unwrap().unwrap().state(), OutcomeState::Unknown);
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    until("the outcome", async || node.outcome(&id, &[&in_a, &in_b]).await == OutcomeState::Committed).await;
    node.end().await;
}

#[tokio::test]
async fn with_the_log_down_new_commits_are_refused_and_later_served() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    node.log.faults().refuse_connections(true);
    let available = async || {
        let info = node.admin.clone().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
        info.into_inner().log_available
    };
    until("the news", async || !available().await).await;
    let refused =
        soon("a refusal", node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished)).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    let facts = pactum_proto::error::ErrorFacts::from_status(&refused);
    assert!(facts.retry_after.is_some(), "{facts:?}");
    node.log.faults().refuse_connections(false);
    until("the good news", async || available().await).await;
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), OutcomeState::Committed);
    node.end().await;
}

#[tokio::test]
async fn a_participant_that_is_not_attached_aborts_the_transaction_by_the_deadline() {
    let node = Node::start().await;
    let (mut a, b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let begun = std::time::Instant::now();
    let request = v1::CommitRequest {
        id: Some(id.clone()),
        branches: vec![a.branch(1), b.branch(2)],
        timeout: Some(Duration::from_millis(400).try_into().unwrap()),
        ..v1::CommitRequest::default()
    };
    let in_a = a.branch(1);
    b.leave(&node).await;
    let mut application = node.application();
    let commit = tokio::spawn(async move { application.commit(request).await });
    a.vote_commit().await;
    a.ack_abort(&id, &in_a).await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap().into_inner().outcome.unwrap();
    assert_eq!(outcome.state(), OutcomeState::Aborted);
    assert_eq!(outcome.reason.unwrap().kind(), v1::AbortKind::NotAttached);
    assert!(begun.elapsed() >= Duration::from_millis(400), "not before the deadline");
    node.end().await;
}

#[tokio::test]
async fn c5_another_instance_of_the_resource_finishes_a_commit() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    b.ack_commit(&id, &in_b).await;
    drop(a);
    let mut other = node.participant("bank-a").await;
    other.ack_commit(&id, &in_a).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), OutcomeState::Committed);
    node.end().await;
}

#[tokio::test]
async fn e14_a_caller_that_hangs_up_cancels_nothing() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    let prepare = a.prepare().await;
    commit.abort();
    assert!(commit.await.unwrap_err().is_cancelled());
    a.vote(&prepare, v1::vote::Vote::Commit(common::evidence("1"))).await;
    b.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    assert_eq!(node.outcome(&id, &[&in_a, &in_b]).await, OutcomeState::Committed);
    node.end().await;
}

/// A4 to A7: killed at a step, a coordinator's successor on the same log ends the transaction.
async fn a_successor_ends_what_was_begun(kill_at: &'static str, expected: OutcomeState) {
    let log = MemoryLog::new();
    let (reached, seen) = tokio::sync::watch::channel(false);
    let observer = Observer::new(move |step: &Step| {
        if step.name() == kill_at && !reached.send_replace(true) {
            // The shard stops here, as in a crash; the test kills all the rest.
            std::panic::resume_unwind(Box::new("killed by the test"));
        }
    });
    let node = Node::with(Config { observer, ..config() }, log.clone()).await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    let mut seen = seen;
    soon("the step", seen.wait_for(|reached| *reached)).await.unwrap();
    node.coordinator.kill();
    assert!(soon("the end of the call", commit).await.unwrap().is_err(), "nobody was told an outcome");

    let node = Node::with(config(), log).await;
    let mut a = Participant::attach(&node, a.instance, &[("bank-a", false)]).await.unwrap();
    let mut b = Participant::attach(&node, b.instance, &[("bank-b", false)]).await.unwrap();
    if expected == OutcomeState::Committed {
        a.ack_commit(&id, &in_a).await;
        b.ack_commit(&id, &in_b).await;
    }
    until("the outcome", async || node.outcome(&id, &[&in_a, &in_b]).await == expected).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_killed_after_the_decision_it_is_committed_by_the_successor() {
    a_successor_ends_what_was_begun("decision-durable", OutcomeState::Committed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_killed_before_the_decision_it_is_aborted_when_asked() {
    a_successor_ends_what_was_begun("decision-handed-over", OutcomeState::Aborted).await;
}

#[tokio::test]
async fn every_step_of_a_commit_is_told_in_order() {
    let steps = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = Arc::clone(&steps);
    let observer = Observer::new(move |step: &Step| record.lock().unwrap().push(step.name()));
    let node = Node::with(Config { observer, ..config() }, MemoryLog::new()).await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    a.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    node.end().await;
    let mut told = steps.lock().unwrap().clone();
    told.dedup();
    let expected = [
        "incarnation-started",
        "prepare-sent",
        "vote-received",
        "decision-handed-over",
        "decision-durable",
        "decision-sent",
        "branch-finished",
    ];
    assert_eq!(told[..expected.len()], expected);
    let mut last = told[expected.len()..].to_vec();
    last.sort_unstable();
    assert_eq!(last, ["client-answered", "end-recorded"]);
}

#[tokio::test]
async fn h10_an_owner_that_was_ended_aborts_and_takes_a_new_incarnation() {
    use pactum_coordinator::decision_log::DecisionLog;
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let own = pactum_core::id::Incarnation::from_slice(&id.incarnation).unwrap();
    node.log.end_incarnation(own).await.unwrap();
    a.ack_abort(&id, &in_a).await;
    until("a new incarnation", async || node.draw().await.incarnation != id.incarnation).await;
    let welcomes = AtomicUsize::new(0);
    soon("a new welcome", async {
        loop {
            if let Down::Welcome(welcome) = a.receive().await.unwrap().unwrap() {
                welcomes.fetch_add(1, Ordering::Relaxed);
                if !welcome.incarnation.is_empty() && welcome.incarnation != id.incarnation {
                    return;
                }
            }
        }
    })
    .await;
    assert!(welcomes.load(Ordering::Relaxed) >= 1);
    node.end().await;
}

/// The shard is busy when a one-shot call comes for a resource that attaches meanwhile: the fact that it
/// has attached overtakes the call, and must not be lost on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_one_shot_call_that_waits_its_turn_meets_who_has_attached_meanwhile() {
    let (is_busy, release) = (tokio::sync::watch::Sender::new(false), std::sync::Barrier::new(2));
    let release = Arc::new(release);
    let (mut busy, released) = (is_busy.subscribe(), Arc::clone(&release));
    let observer = Observer::new(move |step: &Step| {
        if step.name() == "vote-received" && !is_busy.send_replace(true) {
            tokio::task::block_in_place(|| released.wait());
        }
    });
    let node = Node::with(Config { observer, shards: 1, ..config() }, MemoryLog::new()).await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    let request = v1::SubmitRequest {
        id: Some(node.draw().await),
        operations: vec![v1::Operation {
            branch: 1,
            resource: "bank-b".to_owned(),
            name: "debit".to_owned(),
            payload: Vec::new(),
        }],
        timeout: Some(Duration::from_secs(3).try_into().unwrap()),
        ..v1::SubmitRequest::default()
    };
    a.vote_commit().await;
    soon("the shard's pause", busy.wait_for(|busy| *busy)).await.unwrap();
    let mut application = node.application();
    let one_shot = request.id.clone().unwrap();
    let submit = tokio::spawn(async move { application.submit(request).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut b = node.participant("bank-b").await;
    until("the attachment", async || {
        let list = node.admin.clone().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
        list.into_inner().participants_attached == 2
    })
    .await;
    tokio::task::block_in_place(|| release.wait());
    a.ack_commit(&id, &in_a).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    b.vote_commit().await;
    let in_b = b.branch(1);
    b.ack_commit(&one_shot, &in_b).await;
    let outcome = soon("the outcome", submit).await.unwrap().unwrap().into_inner().outcome.unwrap();
    assert_eq!(outcome.state(), OutcomeState::Committed);
    node.end().await;
}
