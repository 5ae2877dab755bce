//! Acts whose coordinator dies in the middle: another one says how things stand.

use pactum_coordinator::decision_log::DecisionLog as _;
use pactum_core::id::{Gid, Incarnation};
use pactum_core::outcome::HeuristicOutcome;
use pactum_proto::v1;
use v1::BranchPresence as Presence;

use super::Scene;
use super::common::acts;
use super::common::database::Overrules;
use super::common::until;

/// An overrule of `bank-b`'s branch whose coordinator dies while it waits for the answer. Answers the
/// other coordinator, before it knows that the first one has ended.
async fn died_over(scene: Scene, id: &v1::TransactionId, overrules: Overrules) -> Scene {
    let another = scene.another().await;
    scene.b.habits(|habits| habits.overrules = overrules);
    let plan = scene.node.plan(acts::overrule(&id.gid, "bank-b", false)).await.unwrap();
    let request = v1::PerformActRequest {
        act: plan.act,
        plan_hash: plan.hash,
        reason: "please".to_owned(),
        who: "olga".to_owned(),
    };
    let mut admin = scene.node.admin.clone();
    let performing = tokio::spawn(async move { admin.perform_act(request).await });
    let before = scene.b.overruled();
    until("the order", async || scene.b.overruled() > before || scene.b.overruled() == 1).await;
    let owner = another.owner_of(&scene).await;
    let Scene { node, a, b } = scene;
    node.coordinator.kill();
    assert!(performing.await.unwrap().is_err());
    another.b.habits(|habits| habits.answers = false);
    another.node.log.end_incarnation(owner).await.unwrap();
    drop((a, b));
    another
}

impl Scene {
    /// The incarnation of another one's coordinator.
    async fn owner_of(&self, other: &Scene) -> Incarnation {
        Incarnation::from_slice(&other.node.draw().await.incarnation).unwrap()
    }

    async fn kept(&self, id: &v1::TransactionId) -> Vec<HeuristicOutcome> {
        let kept = self.node.log.heuristics(&[Gid::from_slice(&id.gid).unwrap()]).await.unwrap();
        kept.into_iter().map(|record| record.outcome).collect()
    }
}

#[tokio::test]
async fn what_was_ended_by_hand_is_found_and_kept_by_another_coordinator() {
    // Nobody else would hear of it: what is quarantined is driven by nobody.
    let log = pactum_coordinator::decision_log::memory::MemoryLog::new();
    let owner = log.start_incarnation("10.0.0.7:7600").await.unwrap();
    log.go_back(0);
    let scene = Scene::on(log).await;
    let id = v1::TransactionId {
        incarnation: owner.as_uuid().as_bytes().to_vec(),
        gid: uuid::Uuid::now_v7().as_bytes().to_vec(),
    };
    scene.b.put(&id, 2, Presence::Prepared);
    let another = died_over(scene, &id, Overrules::Silently).await;
    assert_eq!(another.kept(&id).await, []);
    // While its database does not answer nothing is said of it.
    let looks = async || another.node.log.unended_audits().await.unwrap().len();
    until("its coordinator's end", async || looks().await == 1).await;
    another.b.habits(|habits| habits.answers = true);
    until("its end", async || looks().await == 0).await;
    let audit = another.node.audit().await;
    let [begun, found] = audit.as_slice() else { panic!("two entries, not {audit:?}") };
    assert_eq!((found.kind.as_str(), found.begun, found.who.as_str()), ("found", begun.number, "olga"));
    assert_eq!((&found.act, &found.target, &found.before), (&begun.act, &begun.target, &begun.before));
    assert_ne!(found.incarnation, begun.incarnation, "the one that found it");
    assert_eq!(found.result, "the branch is aborted, as was asked for");
    assert!(found.after.contains(r#""heuristic":"aborted""#), "{}", found.after);
    assert_eq!(another.kept(&id).await, [HeuristicOutcome::Aborted]);
    another.end().await;
}

#[tokio::test]
async fn an_order_that_did_not_arrive_is_found_as_such_and_is_not_repeated() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    scene.b.habits(|habits| habits.hears = false);
    let another = died_over(scene, &id, Overrules::Not).await;
    another.b.habits(|habits| habits.answers = true);
    until("its end", async || another.node.trail().await.len() == 2).await;
    let found = another.node.audit().await.pop().unwrap();
    assert_eq!(found.result, "the branch is prepared: the order did not reach it");
    assert_eq!((another.b.overruled(), another.b.presence(&id, 2)), (1, Some(Presence::Prepared)));
    assert_eq!(another.kept(&id).await, []);
    another.end().await;
}

#[tokio::test]
async fn two_coordinators_that_live_write_one_end() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    scene.b.habits(|habits| habits.hears = false);
    let third = scene.another().await;
    let another = died_over(scene, &id, Overrules::Silently).await;
    another.b.habits(|habits| habits.answers = true);
    until("its end", async || another.node.trail().await.len() >= 2).await;
    // A further act comes after whatever either of them would still write.
    another.b.habits(|habits| habits.overrules = Overrules::Yes);
    for _ in 0..3 {
        another.node.act(acts::retry(&id.gid), "go on").await.unwrap();
        third.node.act(acts::retry(&id.gid), "go on").await.unwrap();
    }
    let ends = another.node.audit().await.into_iter().filter(|entry| entry.kind == "found").count();
    assert_eq!(ends, 1);
    another.end().await;
    third.end().await;
}
