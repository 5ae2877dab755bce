//! What a plan says, and when its hash is another one.

use pactum_proto::error::ErrorCode;
use pactum_proto::v1;
use pactum_proto::v1::act::Act;
use tonic::Code;
use v1::BranchPresence as Presence;

use super::Scene;
use super::common::acts::{self, code, digits, refusal};
use super::common::until;

#[tokio::test]
async fn a_plan_says_what_is_known_what_would_be_done_and_by_which_command() {
    let mut scene = Scene::new().await;
    let (id, commit) = scene.undecided().await;
    let gid = digits(&id.gid);
    let part = Act::Resolve(v1::ResolveAct { gid: gid[24..].to_owned() });
    let plan = scene.node.plan(part).await.unwrap();
    assert_eq!(plan.refusal, None);
    assert_eq!(plan.act.unwrap().act, Some(acts::resolve(&id.gid)), "with whole names");
    assert!(plan.title.contains(&gid), "{}", plan.title);
    assert_eq!(plan.command, format!("pactum tx resolve {gid} --reason TEXT"));
    assert_eq!(plan.confirmation, gid[30..]);
    assert_eq!(plan.hash.len(), 64);
    let facts = plan.facts.join("\n");
    for expected in [
        "the log says nothing: it is undecided",
        "its coordinator is this one",
        "bank-a (branch 0000000000000001): prepared as 1 for 1m00s",
        "bank-b (branch 0000000000000002): open",
    ] {
        assert!(facts.contains(expected), "{expected:?} is missing in {facts}");
    }
    assert!(plan.steps[0].starts_with("write abort into the log"), "{:?}", plan.steps);
    assert_eq!(plan.steps.len(), 3, "one for each branch: {:?}", plan.steps);
    assert!(plan.risk.contains("may be about to commit"), "{}", plan.risk);
    let shown = plan.transaction.unwrap();
    assert!(shown.branches.iter().all(|branch| branch.report.as_ref().unwrap().answered));
    scene.node.act(acts::resolve(&id.gid), "stuck").await.unwrap();
    commit.await.unwrap().unwrap();
    scene.end().await;
}

#[tokio::test]
async fn a_hash_is_the_same_while_only_time_passes_and_at_every_coordinator() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    let another = scene.another().await;
    let hash = scene.node.plan(acts::retry(&id.gid)).await.unwrap().hash;
    let attempts = async || {
        let plan = scene.node.plan(acts::retry(&id.gid)).await.unwrap();
        assert_eq!(plan.hash, hash);
        let shown = plan.transaction.unwrap();
        let branch = shown.branches.into_iter().find(|branch| branch.branch.as_ref().unwrap().id == 2);
        branch.unwrap().attempts
    };
    let before = attempts().await;
    until("further attempts", async || attempts().await > before + 2).await;
    assert_eq!(another.node.plan(acts::retry(&id.gid)).await.unwrap().hash, hash);
    scene.end().await;
    another.end().await;
}

#[tokio::test]
async fn a_hash_is_another_one_for_another_act_and_once_the_state_has_changed() {
    let mut scene = Scene::new().await;
    let (id, commit) = scene.undecided().await;
    let hash = async |act| scene.node.plan(act).await.unwrap().hash;
    let resolve = hash(acts::resolve(&id.gid)).await;
    assert_ne!(resolve, hash(acts::retry(&id.gid)).await);
    assert_ne!(
        hash(acts::overrule(&id.gid, "bank-a", true)).await,
        hash(acts::overrule(&id.gid, "bank-a", false)).await
    );
    // A branch has been prepared; somebody has rolled it back; its participant is silent.
    let mut seen = vec![resolve];
    let changes: [&dyn Fn(); 3] =
        [&|| scene.b.put(&id, 2, Presence::Prepared), &|| scene.b.put(&id, 2, Presence::Aborted), &|| {
            scene.b.habits(|habits| habits.answers = false);
        }];
    for change in changes {
        change();
        let now = hash(acts::resolve(&id.gid)).await;
        assert!(!seen.contains(&now));
        seen.push(now);
    }
    scene.node.act(acts::resolve(&id.gid), "stuck").await.unwrap();
    commit.await.unwrap().unwrap();
    scene.end().await;
}

#[tokio::test]
async fn what_is_malformed_or_names_nothing_is_told_so() {
    let scene = Scene::new().await;
    let node = &scene.node;
    let refused = async |act| node.plan(act).await.unwrap_err();
    let unknown = uuid::Uuid::now_v7();
    assert_eq!(code(&refused(acts::resolve(unknown.as_bytes())).await), ErrorCode::TransactionNotFound);
    let named = |gid: &str| Act::Resolve(v1::ResolveAct { gid: gid.to_owned() });
    assert_eq!(refused(named("xyz")).await.code(), Code::InvalidArgument);
    let overrule =
        v1::OverruleAct { gid: "0123".to_owned(), resource: "A b".to_owned(), ..Default::default() };
    assert_eq!(refused(Act::Overrule(overrule)).await.code(), Code::InvalidArgument);
    let release = v1::ReleaseAct { incarnation: vec![1, 2, 3] };
    assert_eq!(refused(Act::Release(release)).await.code(), Code::InvalidArgument);
    let nothing = node.admin.clone().plan_act(v1::PlanActRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    let drain = v1::DrainAct { resource: "bank-c".to_owned(), instance: Vec::new() };
    let plan = node.plan(Act::Drain(drain)).await.unwrap();
    assert_eq!(refusal(&plan), Some(ErrorCode::ParticipantSilent));
    let request = |reason: &str, hash: &str| v1::PerformActRequest {
        act: plan.act.clone(),
        plan_hash: hash.to_owned(),
        reason: reason.to_owned(),
        who: String::new(),
    };
    let long = "x".repeat(513);
    for malformed in [
        request("", &plan.hash),
        request("  \n", &plan.hash),
        request(&long, &plan.hash),
        request("why", ""),
        request("why", &plan.hash[1..]),
        v1::PerformActRequest { who: "w".repeat(129), ..request("why", &plan.hash) },
    ] {
        let status = node.admin.clone().perform_act(malformed).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    assert_eq!(node.trail().await, []);
    scene.end().await;
}

#[tokio::test]
async fn a_part_of_a_gid_that_fits_several_is_refused() {
    let mut scene = Scene::new().await;
    scene.b.habits(|habits| habits.votes = true);
    let (first, second) = (scene.committed().await, scene.committed().await);
    let (one, other) = (digits(&first.gid), digits(&second.gid));
    let common = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let part = one[..common].to_owned();
    let status = scene.node.plan(Act::Retry(v1::RetryAct { gid: part })).await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::AmbiguousGid);
    scene.end().await;
}
