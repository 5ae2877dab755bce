//! Release from doubt, and what is refused while there is doubt.

use pactum_coordinator::decision_log::DecisionLog as _;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_core::id::Incarnation;
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;
use pactum_proto::v1::act::Act;
use uuid::Uuid;
use v1::BranchPresence as Presence;

use super::Scene;
use super::common::acts::{self, digits, refusal};

/// A log with one incarnation in doubt, and a branch that it left prepared at `bank-b`.
async fn doubted() -> (Scene, Incarnation, v1::TransactionId) {
    let log = MemoryLog::new();
    let owner = log.start_incarnation("10.0.0.7:7600").await.unwrap();
    log.go_back(0);
    let scene = Scene::on(log).await;
    let id = v1::TransactionId {
        incarnation: owner.as_uuid().as_bytes().to_vec(),
        gid: Uuid::now_v7().as_bytes().to_vec(),
    };
    scene.b.put(&id, 2, Presence::Prepared);
    (scene, owner, id)
}

fn release(incarnation: Option<Incarnation>) -> Act {
    let incarnation = incarnation.map(|one| one.as_uuid().as_bytes().to_vec()).unwrap_or_default();
    Act::Release(v1::ReleaseAct { incarnation })
}

#[tokio::test]
async fn b5_nothing_is_closed_while_its_owner_is_in_doubt_and_a_release_ends_that() {
    let (mut scene, owner, id) = doubted().await;
    let resolve = scene.node.plan(acts::resolve(&id.gid)).await.unwrap();
    assert_eq!(refusal(&resolve), Some(ErrorCode::InQuarantine));
    let retry = scene.node.plan(acts::retry(&id.gid)).await.unwrap();
    assert_eq!(refusal(&retry), Some(ErrorCode::InQuarantine));

    let plan = scene.node.plan(release(Some(owner))).await.unwrap();
    assert_eq!(plan.refusal, None);
    assert!(plan.steps[0].contains("10.0.0.7:7600"), "{:?}", plan.steps);
    assert!(plan.risk.contains("a commit that the log has lost"), "{}", plan.risk);
    assert_eq!(plan.command, format!("pactum quarantine release --incarnation {owner} --reason TEXT"));
    let text = owner.as_uuid().simple().to_string();
    assert_eq!(plan.confirmation, text[26..]);
    let done = scene.node.perform(&plan, "the databases were compared").await.unwrap();
    assert_eq!(done.summary, "1 doubt was lifted");
    assert!(scene.node.log.doubted_of(&[owner]).await.unwrap().is_empty());
    let events = scene.node.log.status().await.unwrap().events;
    assert!(events.iter().any(|event| event.detail.contains("the databases were compared")), "{events:?}");
    let nothing = scene.node.plan(release(Some(owner))).await.unwrap();
    assert_eq!(refusal(&nothing), Some(ErrorCode::NothingToDo));

    // An orphan now: of a transaction that nobody but its participant knows.
    let plan = scene.node.plan(acts::resolve(&id.gid)).await.unwrap();
    assert_eq!((refusal(&plan), plan.steps.len()), (None, 2));
    scene.node.perform(&plan, "nobody will").await.unwrap();
    scene.b.stands(&id, 2, Presence::Aborted).await;
    scene.end().await;
}

#[tokio::test]
async fn all_doubts_are_released_at_once_those_of_lost_rows_too() {
    let (scene, owner, _) = doubted().await;
    let plan = scene.node.plan(release(None)).await.unwrap();
    assert_eq!(plan.refusal, None);
    assert_eq!(
        (plan.confirmation.as_str(), plan.command.as_str()),
        ("release", "pactum quarantine release --all --reason TEXT")
    );
    assert!(plan.facts.iter().any(|fact| fact.contains(&owner.to_string())), "{:?}", plan.facts);
    assert!(plan.steps.iter().any(|step| step.contains("whose rows the log lost")), "{:?}", plan.steps);
    scene.node.perform(&plan, "the copy is whole").await.unwrap();
    let nothing = scene.node.plan(release(None)).await.unwrap();
    assert_eq!(refusal(&nothing), Some(ErrorCode::NothingToDo));
    let unknown = Incarnation::from_uuid(Uuid::now_v7());
    let nothing = scene.node.plan(release(Some(unknown))).await.unwrap();
    assert_eq!(refusal(&nothing), Some(ErrorCode::NothingToDo));
    let audit = scene.node.audit().await;
    assert_eq!((audit[0].target.as_str(), audit[1].kind.as_str()), ("doubt", "done"));
    assert!(audit[0].before.contains(&owner.to_string()) && audit[1].after.contains(r#""doubted":[]"#));
    scene.end().await;
}

#[tokio::test]
async fn an_orphan_is_found_by_its_whole_gid_and_not_by_a_part() {
    let (scene, owner, id) = doubted().await;
    let part = Act::Resolve(v1::ResolveAct { gid: digits(&id.gid)[24..].to_owned() });
    let status = scene.node.plan(part).await.unwrap_err();
    assert_eq!(acts::code(&status), ErrorCode::TransactionNotFound);
    scene.b.habits(|habits| habits.answers = false);
    let status = scene.node.plan(acts::resolve(&id.gid)).await.unwrap_err();
    assert_eq!(acts::code(&status), ErrorCode::TransactionNotFound);
    assert!(!scene.node.log.doubted_of(&[owner]).await.unwrap().is_empty());
    scene.end().await;
}
