//! Law 11: one branch is ended by hand against or ahead of the decision, never silently.

use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::{DecisionLog as _, HeuristicRecord};
use pactum_core::id::{Gid, TransactionId};
use pactum_core::outcome::HeuristicOutcome;
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;
use pactum_proto::v1::act::Act;
use uuid::Uuid;
use v1::BranchOutcome::{HeuristicAborted, HeuristicCommitted, HeuristicMixed, Unspecified};
use v1::BranchPresence as Presence;

use super::Scene;
use super::common::acts::{self, code, digits, refusal};
use super::common::database::Overrules;
use super::common::{soon, until};

/// What is decided of the branch of `bank-b`, which is prepared.
#[derive(Clone, Copy, Debug)]
enum Decided {
    Commit,
    Abort,
    Nothing,
    /// The log went back in time.
    Doubted,
    /// The log has forgotten it.
    Forgotten,
}

/// What comes of it.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Refused(ErrorCode),
    /// It is closed with abort.
    Resolved,
    /// It is ended by hand, and branches stand so to the decision.
    ByHand(v1::BranchOutcome),
}

/// A transaction in that state, with branch 2 prepared at `bank-b`.
async fn prepared(decided: Decided) -> (Scene, v1::TransactionId) {
    match decided {
        Decided::Commit => {
            let mut scene = Scene::new().await;
            let id = scene.committing().await;
            (scene, id)
        }
        Decided::Abort => {
            let mut scene = Scene::new().await;
            let id = scene.aborted().await;
            (scene, id)
        }
        Decided::Nothing => {
            let mut scene = Scene::new().await;
            let (id, commit) = scene.undecided().await;
            drop(commit);
            scene.b.put(&id, 2, Presence::Prepared);
            (scene, id)
        }
        Decided::Doubted | Decided::Forgotten => {
            let log = MemoryLog::new();
            let owner = log.start_incarnation("127.0.0.1:7600").await.unwrap();
            let id = v1::TransactionId {
                incarnation: owner.as_uuid().as_bytes().to_vec(),
                gid: Uuid::now_v7().as_bytes().to_vec(),
            };
            if matches!(decided, Decided::Doubted) {
                log.go_back(0);
            } else {
                log.end_incarnation(owner).await.unwrap();
                let gid = Gid::from_uuid(Uuid::now_v7());
                assert_eq!(log.raise_floor(gid).await.unwrap(), gid);
            }
            let scene = Scene::on(log).await;
            scene.b.put(&id, 2, Presence::Prepared);
            (scene, id)
        }
    }
}

#[tokio::test]
async fn g2_what_may_be_ended_by_hand_follows_from_what_the_log_says() {
    use Decided::{Abort, Commit, Doubted, Forgotten, Nothing};
    use ErrorCode::{AgreesWithDecision, CommitAheadOfDecision};
    use Expected::{ByHand, Refused, Resolved};
    let table = [
        (Commit, true, Refused(AgreesWithDecision)),
        // The other branch has committed.
        (Commit, false, ByHand(HeuristicMixed)),
        (Abort, true, ByHand(HeuristicCommitted)),
        (Abort, false, Refused(AgreesWithDecision)),
        (Nothing, true, Refused(CommitAheadOfDecision)),
        (Nothing, false, Resolved),
        (Doubted, true, ByHand(HeuristicCommitted)),
        (Doubted, false, ByHand(HeuristicAborted)),
        (Forgotten, true, ByHand(HeuristicCommitted)),
        (Forgotten, false, ByHand(HeuristicAborted)),
    ];
    for (decided, commit, expected) in table {
        let row = format!("{decided:?}, commit {commit}");
        let (mut scene, id) = prepared(decided).await;
        let act = acts::overrule(&id.gid, "bank-b", commit);
        // While the log does not answer nothing is done, whatever is decided.
        scene.node.log.faults().refuse_connections(true);
        let status = scene.node.plan(act.clone()).await.unwrap_err();
        assert_eq!(code(&status), ErrorCode::LogUnavailable, "{row}");
        assert!(status.message().contains("pactum branch finish"), "{row}: {status:?}");
        scene.node.log.faults().refuse_connections(false);

        let plan = scene.node.plan(act).await.unwrap();
        match expected {
            Refused(expected) => {
                assert_eq!(refusal(&plan), Some(expected), "{row}");
                assert_eq!(code(&scene.node.perform(&plan, "please").await.unwrap_err()), expected, "{row}");
                assert_eq!(scene.b.presence(&id, 2), Some(Presence::Prepared), "{row}");
                assert_eq!(scene.b.overruled(), 0, "{row}");
            }
            Resolved => {
                assert_eq!((refusal(&plan), plan.heuristic()), (None, Unspecified), "{row}");
                assert!(plan.title.contains("by closing it with abort"), "{row}: {}", plan.title);
                scene.node.perform(&plan, "please").await.unwrap();
                scene.b.stands(&id, 2, Presence::Aborted).await;
                assert_eq!(scene.b.overruled(), 0, "{row}: as decided, and not by hand");
                assert_eq!(kept(&scene, &id).await, [], "{row}");
            }
            ByHand(heuristic) => {
                assert_eq!((refusal(&plan), plan.heuristic()), (None, heuristic), "{row}");
                assert!(!plan.risk.is_empty(), "{row}");
                scene.node.perform(&plan, "please").await.unwrap();
                let (presence, outcome) = if commit {
                    (Presence::Committed, HeuristicOutcome::Committed)
                } else {
                    (Presence::Aborted, HeuristicOutcome::Aborted)
                };
                assert_eq!(scene.b.presence(&id, 2), Some(presence), "{row}");
                assert_eq!(kept(&scene, &id).await, [outcome], "{row}");
                assert_eq!(scene.b.overruled(), 1, "{row}");
            }
        }
        // The audit tells of it, whatever it was.
        let last = scene.node.audit().await.pop().unwrap();
        let name = if commit { "overrule-commit" } else { "overrule-rollback" };
        let target = format!("{} bank-b 0000000000000002", digits(&id.gid));
        assert_eq!((last.act.as_str(), last.target, last.reason.as_str()), (name, target, "please"), "{row}");
        assert_eq!(last.kind == "refused", matches!(expected, Refused(_)), "{row}");
        scene.end().await;
    }
}

async fn kept(scene: &Scene, id: &v1::TransactionId) -> Vec<HeuristicOutcome> {
    let id = TransactionId::try_from(id.clone()).unwrap();
    let kept = scene.node.log.heuristics(&[id.gid]).await.unwrap();
    kept.into_iter().map(|record| record.outcome).collect()
}

#[tokio::test]
async fn what_a_person_ended_is_kept_beside_the_decision_until_it_is_forgotten() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    scene.node.act(acts::overrule(&id.gid, "bank-b", false), "its disk is lost").await.unwrap();
    // Its participant says so when the decision reaches it, and the transaction is over.
    scene.ended(&id, v1::TransactionState::Committed).await;
    let request = v1::InspectTransactionRequest { gid: digits(&id.gid), examine: false };
    let shown = scene.node.admin.clone().inspect_transaction(request).await.unwrap().into_inner();
    assert_eq!(shown.transaction.unwrap().heuristic(), HeuristicMixed);
    let forget = scene.node.plan(acts::forget(&id.gid)).await.unwrap();
    assert_eq!((refusal(&forget), forget.heuristic()), (None, HeuristicMixed));
    scene.node.perform(&forget, "the books were mended").await.unwrap();
    assert_eq!(kept(&scene, &id).await, []);
    scene.end().await;
}

#[tokio::test]
async fn a_branch_must_be_prepared_by_its_participants_own_answer() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    // Its end would be told at the next delivery.
    scene.b.habits(|habits| habits.hears = false);
    let refused = async |scene: &Scene| {
        let plan = scene.node.plan(acts::overrule(&id.gid, "bank-b", false)).await.unwrap();
        refusal(&plan)
    };
    for presence in [Presence::Open, Presence::Committed, Presence::Aborted, Presence::Unknown] {
        scene.b.put(&id, 2, presence);
        assert_eq!(refused(&scene).await, Some(ErrorCode::BranchNotPrepared), "{presence:?}");
    }
    scene.b.put(&id, 2, Presence::Prepared);
    scene.b.habits(|habits| habits.answers = false);
    assert_eq!(refused(&scene).await, Some(ErrorCode::ParticipantSilent));
    scene.b.habits(|habits| habits.answers = true);
    let nowhere = scene.node.plan(acts::overrule(&id.gid, "bank-c", false)).await.unwrap();
    assert_eq!(refusal(&nowhere), Some(ErrorCode::ParticipantSilent), "nobody speaks for it");
    let other = super::Database::attach(&scene.node, "bank-c").await;
    let nowhere = scene.node.plan(acts::overrule(&id.gid, "bank-c", false)).await.unwrap();
    assert_eq!(refusal(&nowhere), Some(ErrorCode::BranchNotPrepared), "it holds none");
    drop(other);
    // Another execution than the decided one is not the decision's to be overruled.
    scene.b.put_execution(&id, 2, "2");
    assert_eq!(refused(&scene).await, Some(ErrorCode::BranchNotPrepared));
    scene.b.put(&id, 2, Presence::Prepared);
    scene.end().await;
}

#[tokio::test]
async fn of_several_branches_at_one_resource_one_must_be_named() {
    let mut scene = Scene::new().await;
    scene.b.habits(|habits| habits.finishes = false);
    let id = scene.node.draw().await;
    let (one, other) = (scene.b.enlist(&id, 2).await, scene.b.enlist(&id, 3).await);
    let commit = scene.node.commit(&id, &[&one, &other], v1::Wait::Decision);
    soon("the outcome", commit).await.unwrap().unwrap();
    let status = scene.node.plan(acts::overrule(&id.gid, "bank-b", false)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let named =
        v1::OverruleAct { gid: digits(&id.gid), resource: "bank-b".to_owned(), branch: 3, commit: false };
    scene.node.act(Act::Overrule(named), "this one").await.unwrap();
    assert_eq!(scene.b.presence(&id, 2), Some(Presence::Prepared));
    assert_eq!(scene.b.presence(&id, 3), Some(Presence::Aborted));
    scene.end().await;
}

#[tokio::test]
async fn a_participants_no_is_a_refusal_and_its_silence_is_unknown() {
    let mut scene = Scene::new().await;
    let id = scene.committing().await;
    let act = || acts::overrule(&id.gid, "bank-b", false);
    scene.b.habits(|habits| habits.overrules = Overrules::No);
    let status = scene.node.act(act(), "please").await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::BranchNotPrepared);
    assert!(status.message().contains("it is locked away"), "{status:?}");
    scene.b.habits(|habits| habits.overrules = Overrules::Not);
    let status = scene.node.act(act(), "please").await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::OutcomeUnknown);
    assert_eq!(kept(&scene, &id).await, []);
    let kinds: Vec<String> = scene.node.trail().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["begun", "refused", "begun", "failed"]);
    // It was done, and its answer lost: evidence tells when the decision is delivered.
    scene.b.habits(|habits| habits.overrules = Overrules::Silently);
    let status = scene.node.act(act(), "please").await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::OutcomeUnknown);
    scene.ended(&id, v1::TransactionState::Committed).await;
    until("what was discovered", async || kept(&scene, &id).await == [HeuristicOutcome::Aborted]).await;
    scene.end().await;
}

/// G3: what was committed ahead of a decision, and is then decided so, is no heuristic outcome.
#[tokio::test]
async fn g3_a_heuristic_outcome_that_agrees_with_the_decision_is_cleared() {
    let (scene, id) = prepared(Decided::Doubted).await;
    scene.node.act(acts::overrule(&id.gid, "bank-b", false), "it was never committed").await.unwrap();
    assert_eq!(kept(&scene, &id).await, [HeuristicOutcome::Aborted]);
    // Released, it is resolved, as abort.
    let release = Act::Release(v1::ReleaseAct { incarnation: id.incarnation.clone() });
    scene.node.act(release, "the copy is whole").await.unwrap();
    assert_eq!(kept(&scene, &id).await, [HeuristicOutcome::Aborted], "nothing is decided yet");
    scene.node.act(acts::resolve(&id.gid), "nobody else will").await.unwrap();
    until("its end", async || kept(&scene, &id).await.is_empty()).await;
    scene.end().await;
}

/// Only what is kept tells of it: neither the log nor a database knows the transaction any more.
#[tokio::test]
async fn what_is_only_kept_is_found_by_a_part_of_its_gid() {
    let scene = Scene::new().await;
    let id = scene.node.draw().await;
    let record = HeuristicRecord {
        id: id.clone().try_into().unwrap(),
        branch: scene.a.branch(1).try_into().unwrap(),
        outcome: HeuristicOutcome::Committed,
    };
    scene.node.log.record_heuristics(&[record]).await.unwrap();
    let part = digits(&id.gid)[24..].to_owned();
    let plan = scene.node.plan(Act::Forget(v1::ForgetAct { gid: part })).await.unwrap();
    assert_eq!(plan.act.unwrap().act, Some(acts::forget(&id.gid)));
    scene.end().await;
}
