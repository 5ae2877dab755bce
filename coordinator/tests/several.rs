//! Two coordinators meet one transaction: the log makes them agree, whatever each had in mind.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::sync::{Arc, Barrier};

use common::{Node, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::DecisionLog as _;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::observe::{Observer, Step};
use pactum_core::id::Incarnation;
use pactum_core::outcome::{Decision, LookUpResult};
use pactum_core::vote::AbortKind;
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;
use v1::OutcomeState;

/// Nobody is attached who could end what is aborted: that is not waited for.
fn config() -> Config {
    Config { finished_bound: std::time::Duration::from_millis(200), ..common::config() }
}

/// A10, H10: the owner stops between the last vote and the log; another coordinator closes with abort;
/// the owner goes on, loses, and tells its application so.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a10_an_owner_that_slept_through_its_end_loses_and_says_aborted() {
    let (asleep, awake) = (tokio::sync::watch::Sender::new(false), Arc::new(Barrier::new(2)));
    let (mut sleeps, waking) = (asleep.subscribe(), Arc::clone(&awake));
    let observer = Observer::new(move |step: &Step| {
        if step.name() == "decision-handed-over" && !asleep.send_replace(true) {
            tokio::task::block_in_place(|| waking.wait());
        }
    });
    let log = MemoryLog::new();
    let owner = Node::with(Config { observer, shards: 1, ..config() }, log.clone()).await;
    let other = Node::with(config(), log.clone()).await;
    let (mut a, mut b) = (owner.participant("bank-a").await, owner.participant("bank-b").await);
    let id = owner.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = owner.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    soon("the pause", sleeps.wait_for(|asleep| *asleep)).await.unwrap();
    assert_eq!(other.outcome(&id, &[&in_a, &in_b]).await, OutcomeState::Pending, "its owner lives");
    log.end_incarnation(Incarnation::from_slice(&id.incarnation).unwrap()).await.unwrap();
    until("the closing", async || other.outcome(&id, &[&in_a, &in_b]).await == OutcomeState::Aborted).await;
    tokio::task::block_in_place(|| awake.wait());
    a.ack_abort(&id, &in_a).await;
    b.ack_abort(&id, &in_b).await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(outcome.state(), OutcomeState::Aborted);
    // It has a new incarnation, and serves.
    until("a new incarnation", async || {
        let drawn = owner.draw().await.incarnation;
        !drawn.is_empty() && drawn != id.incarnation
    })
    .await;
    drop((a, b));
    owner.end().await;
    other.end().await;
}

/// A2, A4: asked elsewhere while the owner's lease runs, it is pending; after that, definite by itself.
#[tokio::test]
async fn a2_an_outcome_asked_elsewhere_becomes_definite_once_the_owner_has_lapsed() {
    let log = MemoryLog::new();
    let owner = Node::with(config(), log.clone()).await;
    let other = Node::with(config(), log).await;
    let mut a = owner.participant("bank-a").await;
    let id = owner.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = owner.commit(&id, &[&in_a], v1::Wait::Finished);
    a.prepare().await;
    // A retried Commit there is a look-up as well: it never prepares (H4).
    let retried = async || {
        let outcome = soon("an answer", other.commit(&id, &[&in_a], v1::Wait::Finished)).await.unwrap();
        outcome.unwrap().state()
    };
    assert_eq!(retried().await, OutcomeState::Pending);
    assert_eq!(other.outcome(&id, &[&in_a]).await, OutcomeState::Pending);
    owner.coordinator.kill();
    assert!(soon("the end of the call", commit).await.unwrap().is_err());
    until("the outcome", async || other.outcome(&id, &[&in_a]).await == OutcomeState::Aborted).await;
    assert_eq!(retried().await, OutcomeState::Aborted);
    drop(a);
    other.end().await;
}

/// A9: nothing stands in the log of an abort whose coordinator died; an inquiry elsewhere closes it.
#[tokio::test]
async fn a9_a_branch_left_in_an_abort_is_let_go_by_another_coordinator() {
    use v1::coordinator_message::Message as Down;
    use v1::participant_message::Message as Up;
    let log = MemoryLog::new();
    let owner = Node::with(config(), log.clone()).await;
    let other = Node::with(config(), log).await;
    let (mut a, mut b) = (owner.participant("bank-a").await, owner.participant("bank-b").await);
    let id = owner.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = owner.commit(&id, &[&in_a, &in_b], v1::Wait::Decision);
    a.vote_commit().await;
    let prepare = b.prepare().await;
    let no = v1::AbortReason { kind: v1::AbortKind::VotedNo.into(), message: "no".to_owned() };
    b.vote(&prepare, v1::vote::Vote::Abort(no)).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), OutcomeState::Aborted);
    owner.coordinator.kill();
    // It never heard of it, and asks the other coordinator.
    let mut a = common::Participant::attach(&other, a.instance, &[("bank-a", false)]).await.unwrap();
    soon("the answer", async {
        loop {
            let inquiry = v1::Inquiry {
                id: Some(id.clone()),
                branch: Some(in_a.clone()),
                evidence: Some(common::evidence("1")),
            };
            a.send(Up::Inquiry(inquiry)).await;
            match a.next().await {
                Down::InquiryAnswer(answer) => match answer.answer.unwrap() {
                    v1::inquiry_answer::Answer::Wait(_) => {}
                    v1::inquiry_answer::Answer::Abort(_) => return,
                    other => panic!("abort was expected, not {other:?}"),
                },
                Down::Abort(_) => return,
                other => panic!("an answer was expected, not {other:?}"),
            }
            // The lease of the owner runs; a participant asks on a period.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    a.finished(&id, &in_a, v1::BranchOutcome::Aborted).await;
    drop((a, b));
    other.end().await;
}

/// G5: two operators at two coordinators, at once; one decision.
#[tokio::test]
async fn g5_two_concurrent_resolves_agree() {
    let log = MemoryLog::new();
    let recorded = Config { prepare_record_after: std::time::Duration::ZERO, ..config() };
    let owner = Node::with(recorded, log.clone()).await;
    let (first, second) = (Node::with(config(), log.clone()).await, Node::with(config(), log.clone()).await);
    let mut a = owner.participant("bank-a").await;
    let id = owner.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = owner.commit(&id, &[&in_a], v1::Wait::Finished);
    a.prepare().await;
    let gid = uuid::Uuid::from_slice(&id.gid).unwrap().simple().to_string();
    until("the prepare record", async || {
        let page = pactum_coordinator::decision_log::ListPage {
            limit: 1,
            part: Some(gid.clone()),
            ..Default::default()
        };
        !log.list(&page).await.unwrap().is_empty()
    })
    .await;
    owner.coordinator.kill();
    assert!(soon("the end of the call", commit).await.unwrap().is_err());
    log.end_incarnation(Incarnation::from_slice(&id.incarnation).unwrap()).await.unwrap();
    // Whoever comes first has it decided, and his reason is the one that all are told.
    let resolve =
        async |node: &Node, reason: &'static str| node.act(common::acts::resolve(&id.gid), reason).await;
    let (one, other) =
        soon("the answers", async { tokio::join!(resolve(&first, "one"), resolve(&second, "other")) }).await;
    assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
    for refused in [one, other].iter().filter_map(|answer| answer.as_ref().err()) {
        let code = common::acts::code(refused);
        assert!(matches!(code, ErrorCode::PlanChanged | ErrorCode::NothingToDo), "{refused:?}");
    }
    let stands = log.look_up(&[pactum_core::id::Gid::from_slice(&id.gid).unwrap()]).await.unwrap();
    let [LookUpResult::Stands(record)] = stands.as_slice() else { panic!("an abort stands: {stands:?}") };
    let reason = record.reason.as_ref().unwrap();
    assert_eq!((record.decision, reason.kind), (Decision::Abort, AbortKind::Resolved));
    assert!(["one", "other"].contains(&&*reason.message), "{reason:?}");
    for node in [&first, &second] {
        let again = resolve(node, "again").await.unwrap_err();
        assert_eq!(common::acts::code(&again), ErrorCode::NothingToDo);
        assert_eq!(node.outcome(&id, &[&in_a]).await, OutcomeState::Aborted);
    }
    drop(a);
    first.end().await;
    second.end().await;
}
