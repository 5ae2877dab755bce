//! Retry, resolve, forget, drain and resume: each done, and each refused for every reason that it has.

use pactum_coordinator::decision_log::{DecisionLog as _, HeuristicRecord};
use pactum_core::id::Incarnation;
use pactum_core::outcome::HeuristicOutcome;
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;
use pactum_proto::v1::act::Act;
use v1::BranchPresence as Presence;

use super::common::acts::{self, code, refusal};
use super::common::{soon, until};
use super::{Scene, config};

#[tokio::test]
async fn a_retry_has_unfinished_branches_tried_at_once() {
    // Nothing would be tried again within this test.
    let slow = pactum_coordinator::Config {
        retry_first: std::time::Duration::from_mins(10),
        retry_cap: std::time::Duration::from_mins(10),
        ..config()
    };
    let log = pactum_coordinator::decision_log::memory::MemoryLog::new();
    let node = super::Node::with(slow, log).await;
    let a = super::Database::attach(&node, "bank-a").await;
    let b = super::Database::attach(&node, "bank-b").await;
    let mut scene = Scene { node, a, b };
    let id = scene.committing().await;
    let gid = acts::digits(&id.gid);
    until("the first try", async || {
        let request = v1::InspectTransactionRequest { gid: gid.clone(), examine: false };
        let shown = scene.node.admin.clone().inspect_transaction(request).await.unwrap().into_inner();
        shown.transaction.unwrap().branches.iter().any(|branch| branch.last_error.contains("disk is full"))
    })
    .await;
    scene.b.habits(|habits| habits.finishes = true);
    let plan = scene.node.plan(acts::retry(&id.gid)).await.unwrap();
    assert_eq!(plan.steps.len(), 1, "only the unfinished one: {:?}", plan.steps);
    assert!(plan.steps[0].contains("bank-b"), "{:?}", plan.steps);
    assert_eq!((plan.risk.as_str(), plan.heuristic()), ("", v1::BranchOutcome::Unspecified));
    scene.node.perform(&plan, "the disk has room again").await.unwrap();
    scene.b.stands(&id, 2, Presence::Committed).await;
    scene.ended(&id, v1::TransactionState::Committed).await;
    let nothing = scene.node.plan(acts::retry(&id.gid)).await.unwrap();
    assert_eq!(refusal(&nothing), Some(ErrorCode::NothingToDo));
    scene.end().await;
}

#[tokio::test]
async fn a_retry_elsewhere_drives_an_unfinished_commit_by_its_record() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    let another = scene.another().await;
    let plan = another.node.plan(acts::retry(&id.gid)).await.unwrap();
    assert!(plan.steps[0].contains("by its record in the log"), "{:?}", plan.steps);
    // The owner cannot reach it any more; whoever is asked can.
    let Scene { node, a, b } = scene;
    drop(b);
    another.b.habits(|habits| habits.finishes = true);
    another.node.perform(&plan, "its owner cannot reach bank-b").await.unwrap();
    let Scene { node: other, a: other_a, b: mut other_b } = another;
    other_b.stands(&id, 2, Presence::Committed).await;
    let b = other_b.also_at(&node).await;
    Scene { node, a, b }.end().await;
    Scene { node: other, a: other_a, b: other_b }.end().await;
}

#[tokio::test]
async fn what_cannot_be_retried_is_told_with_what_to_do() {
    let mut scene = Scene::new().await;
    let id = scene.node.draw().await;
    scene.a.enlist(&id, 7).await;
    let active = scene.node.plan(acts::retry(&id.gid)).await.unwrap();
    assert_eq!(refusal(&active), Some(ErrorCode::NothingToDo));
    assert!(active.refusal.unwrap().message.contains("waits for its application"));
    scene.node.act(acts::resolve(&id.gid), "left behind").await.unwrap();
    scene.a.stands(&id, 7, Presence::Aborted).await;

    let (undecided, commit) = scene.undecided().await;
    scene.recorded(&undecided).await;
    let another = scene.another().await;
    let elsewhere = another.node.plan(acts::retry(&undecided.gid)).await.unwrap();
    assert_eq!(refusal(&elsewhere), Some(ErrorCode::NotOwner));
    let address = scene.node.coordinator.public_addr().to_string();
    assert!(elsewhere.refusal.unwrap().message.contains(&address), "it says where");
    let Scene { node, a, b } = scene;
    node.coordinator.kill();
    assert!(commit.await.unwrap().is_err());
    let owner = Incarnation::from_slice(&undecided.incarnation).unwrap();
    another.node.log.end_incarnation(owner).await.unwrap();
    until("its owner's end", async || {
        let plan = another.node.plan(acts::retry(&undecided.gid)).await.unwrap();
        refusal(&plan) == Some(ErrorCode::NothingToDo)
    })
    .await;
    let plan = another.node.plan(acts::retry(&undecided.gid)).await.unwrap();
    assert!(plan.refusal.unwrap().message.contains("pactum tx resolve"));
    drop((a, b));
    another.node.act(acts::resolve(&undecided.gid), "its owner has died").await.unwrap();
    another.end().await;
}

#[tokio::test]
async fn g1_a_resolve_closes_an_undecided_transaction_and_says_why_it_may_not() {
    let mut scene = Scene::new().await;
    let (id, commit) = scene.undecided().await;
    let done = scene.node.act(acts::resolve(&id.gid), "bank-b does not vote").await.unwrap();
    assert!(done.audit_number > 0 && done.summary.contains("abort"), "{done:?}");
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    let reason = outcome.reason.unwrap();
    assert_eq!((reason.kind(), reason.message.as_str()), (v1::AbortKind::Resolved, "bank-b does not vote"));
    scene.a.stands(&id, 1, Presence::Aborted).await;
    scene.ended(&id, v1::TransactionState::Aborted).await;

    let again = scene.node.plan(acts::resolve(&id.gid)).await.unwrap();
    assert_eq!(refusal(&again), Some(ErrorCode::NothingToDo));
    scene.b.habits(|habits| habits.votes = true);
    let committed = scene.committed().await;
    let plan = scene.node.plan(acts::resolve(&committed.gid)).await.unwrap();
    assert_eq!(refusal(&plan), Some(ErrorCode::AlreadyCommitted));
    assert!(plan.refusal.as_ref().unwrap().message.contains("never reversed"), "law 4 is explained");
    // Whoever insists gets that error, and the audit has his attempt.
    let status = scene.node.perform(&plan, "I insist").await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::AlreadyCommitted);
    let audit = scene.node.audit().await;
    let kinds: Vec<&str> = audit.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["begun", "done", "begun", "refused"]);
    assert!(audit[3].result.starts_with("PACTUM-0007"), "{:?}", audit[3]);
    scene.end().await;
}

#[tokio::test]
async fn a_transaction_is_resolved_from_another_coordinator_while_its_owner_lives() {
    let mut scene = Scene::new().await;
    let (id, commit) = scene.undecided().await;
    scene.recorded(&id).await;
    let another = scene.another().await;
    let plan = another.node.plan(acts::resolve(&id.gid)).await.unwrap();
    assert_eq!(plan.refusal, None);
    assert!(plan.facts.iter().any(|fact| fact.contains("alive")), "{:?}", plan.facts);
    another.node.perform(&plan, "the owner cannot be reached").await.unwrap();
    // The owner may not commit any more: once the vote comes, it finds the abort.
    scene.b.habits(|habits| habits.votes = true);
    let retry = scene.node.plan(acts::retry(&id.gid)).await.unwrap();
    if retry.refusal.is_none() {
        drop(scene.node.perform(&retry, "so that it is asked again").await);
    }
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(outcome.state(), v1::OutcomeState::Aborted);
    scene.a.stands(&id, 1, Presence::Aborted).await;
    scene.end().await;
    another.end().await;
}

#[tokio::test]
async fn g4_what_is_kept_is_forgotten_only_when_no_branch_may_be_prepared() {
    let mut scene = Scene::new().await;
    let plan =
        async |scene: &Scene, id: &v1::TransactionId| scene.node.plan(acts::forget(&id.gid)).await.unwrap();
    let id = scene.committing().await;
    assert_eq!(refusal(&plan(&scene, &id).await), Some(ErrorCode::NothingToDo));
    let record = HeuristicRecord {
        id: id.clone().try_into().unwrap(),
        branch: scene.a.branch(1).try_into().unwrap(),
        outcome: HeuristicOutcome::Hazard,
    };
    scene.node.log.record_heuristics(&[record]).await.unwrap();
    assert_eq!(refusal(&plan(&scene, &id).await), Some(ErrorCode::BranchMayBePrepared), "it is unfinished");
    scene.b.habits(|habits| habits.finishes = true);
    scene.ended(&id, v1::TransactionState::Committed).await;
    scene.b.put(&id, 2, Presence::Prepared);
    assert_eq!(
        refusal(&plan(&scene, &id).await),
        Some(ErrorCode::BranchMayBePrepared),
        "its database says so"
    );
    scene.b.put(&id, 2, Presence::Unknown);
    assert_eq!(refusal(&plan(&scene, &id).await), Some(ErrorCode::BranchMayBePrepared), "it cannot tell");
    scene.b.put(&id, 2, Presence::Committed);
    scene.b.habits(|habits| habits.answers = false);
    assert_eq!(refusal(&plan(&scene, &id).await), Some(ErrorCode::BranchMayBePrepared), "nobody answers");
    scene.b.habits(|habits| habits.answers = true);
    let now = plan(&scene, &id).await;
    assert_eq!((now.refusal.clone(), now.heuristic()), (None, v1::BranchOutcome::HeuristicHazard));
    let done = scene.node.perform(&now, "the books were mended").await.unwrap();
    assert_eq!(done.summary, "1 heuristic outcome was forgotten");
    assert!(
        scene
            .node
            .log
            .heuristics(&[id.clone().try_into().map(|id: pactum_core::id::TransactionId| id.gid).unwrap()])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(refusal(&plan(&scene, &id).await), Some(ErrorCode::NothingToDo));
    scene.end().await;
}

#[tokio::test]
async fn participants_drain_and_resume() {
    let scene = Scene::new().await;
    let node = &scene.node;
    let drain =
        |resource: &str| Act::Drain(v1::DrainAct { resource: resource.to_owned(), instance: Vec::new() });
    let resume =
        |resource: &str| Act::Resume(v1::ResumeAct { resource: resource.to_owned(), instance: Vec::new() });
    assert_eq!(refusal(&node.plan(resume("bank-a")).await.unwrap()), Some(ErrorCode::NothingToDo));
    assert_eq!(refusal(&node.plan(drain("bank-c")).await.unwrap()), Some(ErrorCode::ParticipantSilent));
    let plan = node.plan(drain("bank-a")).await.unwrap();
    assert_eq!(
        (plan.confirmation.as_str(), plan.command.as_str()),
        ("bank-a", "pactum participant drain bank-a --reason TEXT")
    );
    node.perform(&plan, "an update").await.unwrap();
    let draining = async || {
        let list = node.admin.clone().list_participants(v1::ListParticipantsRequest {}).await.unwrap();
        let list = list.into_inner().participants;
        list.into_iter().map(|shown| (shown.resource, shown.draining)).collect::<Vec<_>>()
    };
    assert_eq!(draining().await, [("bank-a".to_owned(), true), ("bank-b".to_owned(), false)]);
    // The same plan is of another state now.
    let status = node.perform(&plan, "an update").await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::PlanChanged);
    assert_eq!(refusal(&node.plan(drain("bank-a")).await.unwrap()), Some(ErrorCode::NothingToDo));
    node.act(resume("bank-a"), "updated").await.unwrap();
    assert_eq!(draining().await[0], ("bank-a".to_owned(), false));
    let audit = node.audit().await;
    let told: Vec<(&str, &str, &str)> =
        audit.iter().map(|entry| (entry.kind.as_str(), entry.act.as_str(), entry.target.as_str())).collect();
    assert_eq!(
        told,
        [
            ("begun", "drain", "bank-a"),
            ("done", "drain", "bank-a"),
            ("begun", "resume", "bank-a"),
            ("done", "resume", "bank-a")
        ]
    );
    assert!(audit[1].before.contains(r#""draining":false"#) && audit[1].after.contains(r#""draining":true"#));
    scene.end().await;
}
