//! What participants say of branches that have ended: only of resources that they registered, and kept
//! also where the transaction is not open any more.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]

mod common;

use common::{Node, Participant, until};
use pactum_coordinator::decision_log::DecisionLog as _;
use pactum_core::id::Gid;
use pactum_core::outcome::HeuristicOutcome;
use pactum_proto::v1;
use pactum_proto::v1::participant_message::Message as Up;
use tonic::{Code, Status};

/// How a stream ends that the coordinator does not put up with.
async fn end_of(participant: &mut Participant) -> Status {
    loop {
        match participant.receive().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => return status,
        }
    }
}

fn finished(id: &v1::TransactionId, branch: &v1::Branch, outcome: v1::BranchOutcome) -> Up {
    Up::Finished(v1::Finished { id: Some(id.clone()), branch: Some(branch.clone()), outcome: outcome.into() })
}

#[tokio::test]
async fn g6_a_participant_acknowledges_only_for_resources_that_it_registered() {
    let node = Node::start().await;
    let id = node.draw().await;
    let committed = v1::register_answer::Register::Committed(true);
    for kind in 0..3 {
        let mut a = node.participant("bank-a").await;
        let foreign = v1::Branch { resource: "bank-b".to_owned(), ..a.branch(1) };
        let (name, branch) = (Some(id.clone()), Some(foreign.clone()));
        let message = match kind {
            0 => finished(&id, &foreign, v1::BranchOutcome::Aborted),
            1 => Up::Failed(v1::Failed { id: name, branch, message: "disk full".to_owned() }),
            _ => {
                Up::RegisterAnswer(v1::RegisterAnswer { id: name, branch, register: Some(committed.clone()) })
            }
        };
        a.send(message).await;
        let status = end_of(&mut a).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("not registered"), "{status:?}");
    }
    // The branch must be named whole.
    let mut a = node.participant("bank-a").await;
    let nameless = v1::Branch { id: 1, ..v1::Branch::default() };
    a.send(finished(&id, &nameless, v1::BranchOutcome::Aborted)).await;
    assert_eq!(end_of(&mut a).await.code(), Code::InvalidArgument);
    node.end().await;
}

/// Phase 2 may be served by any instance of the resource.
#[tokio::test]
async fn another_instance_of_the_resource_may_acknowledge() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    let other = node.participant("bank-b").await;
    assert_ne!(other.instance, b.instance);
    other.finished(&id, &in_b, v1::BranchOutcome::Committed).await;
    let outcome = common::soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!((outcome.state(), outcome.unfinished.len()), (v1::OutcomeState::Committed, 0));
    node.end().await;
}

/// D8: of a transaction without a record, without a number, and not open.
#[tokio::test]
async fn an_end_by_hand_that_is_heard_late_is_kept_once() {
    let node = Node::start().await;
    let a = node.participant("bank-a").await;
    let id = node.draw().await;
    let gid = Gid::from_slice(&id.gid).unwrap();
    let branch = a.branch(1);
    for _ in 0..3 {
        a.send(finished(&id, &branch, v1::BranchOutcome::HeuristicCommitted)).await;
    }
    until("the heuristic outcome", async || !node.log.heuristics(&[gid]).await.unwrap().is_empty()).await;
    let kept = node.log.heuristics(&[gid]).await.unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!((kept[0].outcome, kept[0].branch.id.number()), (HeuristicOutcome::Committed, 1));
    assert_eq!(kept[0].branch.resource.as_str(), "bank-a");
    // It is no transaction that anybody would have to finish.
    assert_eq!(node.coordinator.transactions_open(), 0);
    assert!(node.log.unrecovered_incarnations().await.unwrap().is_empty());
    assert_eq!(node.outcome(&id, &[]).await, v1::OutcomeState::NoRecord);
    node.end().await;
}
