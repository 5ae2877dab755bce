//! Compare and set, and the audit around each act.

use pactum_coordinator::decision_log::AuditEntry;
use pactum_coordinator::decision_log::{AuditPage, DecisionLog as _};
use pactum_core::outcome::LookUpResult;
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;
use v1::BranchPresence as Presence;

use super::Scene;
use super::common::acts::{self, code, refusal};
use super::common::database::Overrules;
use super::common::{soon, until};

#[tokio::test]
async fn the_audit_tells_who_did_what_why_and_how_it_was_before_and_after() {
    let mut scene = Scene::new().await;
    let (id, commit) = scene.undecided().await;
    let plan = scene.node.plan(acts::resolve(&id.gid)).await.unwrap();
    let done = scene.node.perform(&plan, "bank-b does not vote").await.unwrap();
    commit.await.unwrap().unwrap();
    let audit = scene.node.audit().await;
    let [begun, end] = audit.as_slice() else { panic!("two entries, not {audit:?}") };
    assert_eq!((begun.number, begun.kind.as_str(), begun.begun), (1, "begun", 0));
    assert_eq!((end.number, end.kind.as_str(), end.begun), (2, "done", 1));
    assert_eq!(done.audit_number, 2);
    for entry in [begun, end] {
        assert_eq!((entry.who.as_str(), entry.act.as_str()), ("olga", "resolve"));
        let origin = &entry.origin;
        assert!(origin.starts_with("127.0.0.1:") && origin.ends_with(" grpc"), "{origin}");
        assert_eq!(
            (entry.target.as_str(), entry.reason.as_str()),
            (&*acts::digits(&id.gid), "bank-b does not vote")
        );
        assert_eq!(entry.incarnation, id.incarnation);
    }
    assert!(begun.plan.contains(&plan.title) && begun.plan.contains(&plan.hash), "{}", begun.plan);
    assert!((&*begun.after, &*begun.result, &*end.plan) == ("", "", ""));
    assert!(begun.before.contains(r#""state":"undecided","decision":null"#), "{}", begun.before);
    assert_eq!(end.before, begun.before);
    assert!(end.after.contains(r#""state":"aborted","decision":"abort""#), "{}", end.after);
    assert_eq!(end.result, done.summary);
    let entries = scene.node.log.audit(AuditPage::After(0), 10).await.unwrap();
    assert!(entries[0].follows(None) && entries[1].follows(Some(&entries[0])));
    assert!(entries.iter().all(AuditEntry::is_whole));
    scene.end().await;
}

#[tokio::test]
async fn g5_an_act_on_another_state_than_was_planned_for_is_told_what_has_changed() {
    let mut scene = Scene::new().await;
    let (id, commit) = scene.undecided().await;
    let stale = scene.node.plan(acts::resolve(&id.gid)).await.unwrap();
    scene.b.put(&id, 2, Presence::Prepared);
    let status = scene.node.perform(&stale, "stuck").await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::PlanChanged);
    assert!(status.message().contains("bank-b (branch 0000000000000002): prepared"), "{status:?}");
    assert_eq!(scene.node.trail().await, [], "nothing has begun");
    let plan = scene.node.plan(acts::resolve(&id.gid)).await.unwrap();
    scene.node.perform(&plan, "stuck").await.unwrap();
    commit.await.unwrap().unwrap();
    // The second operator, with the same plan.
    let status = scene.node.perform(&plan, "stuck").await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::PlanChanged);
    assert!(status.message().contains("PACTUM-0024"), "it would be refused now: {status:?}");
    scene.end().await;
}

#[tokio::test]
async fn g5_of_two_operators_at_two_coordinators_at_once_one_acts() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    let another = scene.another().await;
    for round in 1..=3 {
        scene.b.put(&id, 2, Presence::Prepared);
        scene.b.habits(|habits| habits.hears = false);
        let act = acts::overrule(&id.gid, "bank-b", false);
        let plan = scene.node.plan(act.clone()).await.unwrap();
        assert_eq!(another.node.plan(act).await.unwrap().hash, plan.hash);
        let (one, other) =
            tokio::join!(scene.node.perform(&plan, "one"), another.node.perform(&plan, "other"));
        let (done, refused): (Vec<_>, Vec<_>) = [one, other].into_iter().partition(Result::is_ok);
        assert_eq!((done.len(), refused.len()), (1, 1), "{done:?} {refused:?}");
        assert_eq!(code(refused[0].as_ref().unwrap_err()), ErrorCode::PlanChanged);
        assert_eq!(scene.b.overruled(), round, "ended by hand once");
        let gid = pactum_core::id::Gid::from_slice(&id.gid).unwrap();
        scene.node.log.forget_heuristics(gid).await.unwrap();
    }
    scene.end().await;
    another.end().await;
}

#[tokio::test]
async fn without_its_beginning_in_the_audit_nothing_is_done() {
    let mut scene = Scene::new().await;
    let (id, commit) = scene.undecided().await;
    let plan = scene.node.plan(acts::resolve(&id.gid)).await.unwrap();
    let gid = pactum_core::id::Gid::from_slice(&id.gid).unwrap();
    let faults = scene.node.log.faults();
    for applied in [false, true] {
        faults.fail_next_audits(1, applied);
        let status = scene.node.perform(&plan, "stuck").await.unwrap_err();
        assert_eq!(code(&status), ErrorCode::LogUnavailable, "{status:?}");
        let stands = scene.node.log.look_up(&[gid]).await.unwrap();
        assert_eq!(stands, [LookUpResult::NoRecord], "nothing was done");
    }
    // The one that stands although its answer was lost is ended, and is in nobody's way.
    until("its end", async || scene.node.trail().await.len() == 2).await;
    let audit = scene.node.audit().await;
    assert_eq!((audit[1].kind.as_str(), audit[1].begun), ("refused", 1));
    assert!(audit[1].result.contains("nothing was done"), "{}", audit[1].result);
    scene.node.perform(&plan, "stuck").await.unwrap();
    commit.await.unwrap().unwrap();
    scene.end().await;
}

#[tokio::test]
async fn an_end_that_cannot_be_written_is_written_later_and_once() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    let plan = scene.node.plan(acts::overrule(&id.gid, "bank-b", false)).await.unwrap();
    scene.b.habits(|habits| habits.overrules = Overrules::Not);
    let performing = {
        let (node, plan) = (scene.node.admin.clone(), plan.clone());
        let request = v1::PerformActRequest {
            act: plan.act,
            plan_hash: plan.hash,
            reason: "please".to_owned(),
            who: String::new(),
        };
        let mut node = node;
        tokio::spawn(async move { node.perform_act(request).await })
    };
    until("the beginning", async || scene.node.trail().await.len() == 1).await;
    // Two answers of the log are lost, of which one entry was written.
    scene.node.log.faults().fail_next_audits(1, false);
    scene.node.log.faults().fail_next_audits(1, true);
    let status = soon("the answer", performing).await.unwrap().unwrap_err();
    assert_eq!(code(&status), ErrorCode::OutcomeUnknown);
    let audit = scene.node.audit().await;
    let kinds: Vec<(&str, &str)> =
        audit.iter().map(|entry| (entry.kind.as_str(), entry.who.as_str())).collect();
    assert_eq!(kinds, [("begun", "unnamed"), ("failed", "unnamed")]);
    scene.b.habits(|habits| habits.overrules = Overrules::Yes);
    scene.end().await;
}

#[tokio::test]
async fn an_act_ends_although_its_caller_has_hung_up() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    let plan = scene.node.plan(acts::overrule(&id.gid, "bank-b", false)).await.unwrap();
    scene.b.habits(|habits| habits.overrules = Overrules::Not);
    let mut admin = scene.node.admin.clone();
    let request = v1::PerformActRequest {
        act: plan.act,
        plan_hash: plan.hash,
        reason: "please".to_owned(),
        who: String::new(),
    };
    let caller = tokio::spawn(async move { admin.perform_act(request).await });
    until("the beginning", async || scene.node.trail().await.len() == 1).await;
    caller.abort();
    until("the end", async || scene.node.trail().await.len() == 2).await;
    assert_eq!(scene.node.trail().await[1].0, "failed");
    // Nothing of it is in the way of a further one.
    scene.b.habits(|habits| habits.overrules = Overrules::Yes);
    let plan = scene.node.plan(acts::overrule(&id.gid, "bank-b", false)).await.unwrap();
    assert_eq!(refusal(&plan), None);
    scene.node.perform(&plan, "again").await.unwrap();
    scene.end().await;
}
