//! Lists for operators: heuristic outcomes, the audit, and what the log says of itself.

use std::sync::Arc;

use pactum_coordinator::decision_log::audit::verify;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::sqlite::SqliteLog;
use pactum_coordinator::decision_log::{AuditDraft, AuditKind, AuditPage, DecisionLog, HeuristicRecord};
use pactum_core::outcome::HeuristicOutcome;
use pactum_proto::v1;
use tonic::Code;

use super::common::database::Database;
use super::common::{Node, acts, soon};
use super::{Scene, config};

#[tokio::test]
async fn heuristic_outcomes_are_listed_newest_first_page_by_page() {
    let scene = Scene::new().await;
    let mut expected = Vec::new();
    for number in 0..5 {
        let id = scene.node.draw().await;
        let record = HeuristicRecord {
            id: id.clone().try_into().unwrap(),
            branch: scene.a.branch(number).try_into().unwrap(),
            outcome: HeuristicOutcome::Aborted,
        };
        scene.node.log.record_heuristics(&[record]).await.unwrap();
        expected.insert(0, id);
    }
    let list = async |page_size: u32, page_token: String| {
        let request = v1::ListHeuristicsRequest { page_size, page_token };
        scene.node.admin.clone().list_heuristics(request).await
    };
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(2, token).await.unwrap().into_inner();
        assert!(page.heuristics.len() <= 2);
        listed.extend(page.heuristics);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let ids: Vec<_> = listed.iter().map(|heuristic| heuristic.id.clone().unwrap()).collect();
    assert_eq!(ids, expected);
    for heuristic in &listed {
        assert_eq!(heuristic.outcome(), v1::BranchOutcome::HeuristicAborted);
        assert_eq!(heuristic.decision(), v1::BranchOutcome::Unspecified);
        assert!(heuristic.recorded_at.is_some() && heuristic.branch.is_some());
    }
    assert_eq!(list(1001, String::new()).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(list(0, "x".to_owned()).await.unwrap_err().code(), Code::InvalidArgument);
    scene.end().await;
}

#[tokio::test]
async fn the_audit_is_read_from_either_end() {
    let scene = Scene::new().await;
    let draft = AuditDraft {
        kind: AuditKind::Begun,
        begun: None,
        who: "olga".to_owned(),
        origin: "here".to_owned(),
        act: "retry".to_owned(),
        target: "t".to_owned(),
        reason: "r".to_owned(),
        plan: "p".to_owned(),
        before: "{}".to_owned(),
        after: String::new(),
        result: String::new(),
        incarnation: None,
    };
    for _ in 0..5 {
        scene.node.log.append_audit(&draft).await.unwrap();
    }
    let list = async |page_size: u32, after: Option<u64>, before: Option<u64>| {
        let request = v1::ListAuditRequest { page_size, after, before };
        let page = scene.node.admin.clone().list_audit(request).await?.into_inner();
        Ok::<_, tonic::Status>(page.entries.into_iter().map(|entry| entry.number).collect::<Vec<_>>())
    };
    assert_eq!(list(2, None, None).await.unwrap(), [5, 4]);
    assert_eq!(list(2, None, Some(4)).await.unwrap(), [3, 2]);
    assert_eq!(list(2, Some(0), None).await.unwrap(), [1, 2]);
    assert_eq!(list(0, Some(2), None).await.unwrap(), [3, 4, 5]);
    assert_eq!(list(1001, None, None).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(list(1, Some(1), Some(2)).await.unwrap_err().code(), Code::InvalidArgument);
    scene.end().await;
}

#[tokio::test]
async fn the_log_says_what_it_is_and_who_is_on_it() {
    let scene = Scene::new().await;
    let status = async || scene.node.admin.clone().get_log_status(v1::GetLogStatusRequest {}).await;
    let told = status().await.unwrap().into_inner();
    let fact = |name: &str| told.facts.iter().find(|fact| fact.name == name).unwrap().value.clone();
    assert_eq!((fact("kind").as_str(), fact("went_back").as_str()), ("memory", "0"));
    assert_eq!(told.write_latency, None, "it forces nothing");
    assert_eq!(told.clock_difference, Some(prost_types::Duration::default()), "the same clock");
    let own = scene.node.draw().await.incarnation;
    let seen = told.incarnations.iter().find(|seen| seen.incarnation == own).unwrap();
    assert!(!seen.doubted && !seen.recovered && !seen.address.is_empty());
    assert!(seen.started_at.is_some() && seen.ended_at.is_none(), "{seen:?}");
    scene.node.log.faults().refuse_connections(true);
    assert_eq!(status().await.unwrap_err().code(), Code::Unavailable);
    scene.node.log.faults().refuse_connections(false);
    scene.end().await;
}

/// The same acts and the same audit on a log that is a file.
#[tokio::test]
async fn acts_are_audited_in_a_log_that_is_a_file_and_survive_it_being_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let log = Arc::new(SqliteLog::open(&path).await.unwrap());
    let node = Node::over(config(), Arc::clone(&log) as Arc<dyn DecisionLog>, MemoryLog::new()).await;
    let (a, b) = (Database::attach(&node, "bank-a").await, Database::attach(&node, "bank-b").await);
    let told = node.admin.clone().get_log_status(v1::GetLogStatusRequest {}).await.unwrap().into_inner();
    assert!(told.write_latency.is_some(), "{told:?}");
    let mut scene = Scene { node, a, b };
    let (id, commit) = scene.undecided().await;
    scene.node.act(acts::resolve(&id.gid), "stuck").await.unwrap();
    commit.await.unwrap().unwrap();
    scene.a.stands(&id, 1, v1::BranchPresence::Aborted).await;
    let committing = {
        scene.b.habits(|habits| habits.votes = true);
        scene.committing().await
    };
    scene.node.act(acts::overrule(&committing.gid, "bank-b", false), "its disk is lost").await.unwrap();
    scene.ended(&committing, v1::TransactionState::Committed).await;
    scene.node.act(acts::forget(&committing.gid), "the books were mended").await.unwrap();
    let before = scene.node.audit().await;
    scene.end().await;
    drop(log);
    let log = soon("the file", async {
        loop {
            match SqliteLog::open(&path).await {
                Ok(log) => return log,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let entries = log.audit(AuditPage::After(0), 100).await.unwrap();
    verify(entries.iter(), None).unwrap();
    let acts: Vec<(&str, &str)> =
        entries.iter().map(|entry| (entry.draft.kind.name(), entry.draft.act.as_str())).collect();
    assert_eq!(
        acts,
        [
            ("begun", "resolve"),
            ("done", "resolve"),
            ("begun", "overrule-rollback"),
            ("done", "overrule-rollback"),
            ("begun", "forget"),
            ("done", "forget")
        ]
    );
    assert_eq!(before.len(), entries.len());
}
