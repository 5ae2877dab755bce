//! The list of what is prepared in the databases: each branch with what is known of its transaction, and
//! whoever did not say what he holds.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Node, Participant, config, evidence, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::{DecisionLog, Proposal};
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{DecidedBranch, Decision, DecisionRecord, ProposalResult};
use pactum_core::vote::{AbortKind, AbortReason, Evidence};
use pactum_proto::v1;
use tonic::Code;
use uuid::Uuid;
use v1::BranchVerdict as Verdict;
use v1::coordinator_message::Message as Down;
use v1::participant_message::Message as Up;

fn id(incarnation: Incarnation) -> TransactionId {
    TransactionId { incarnation, gid: Gid::from_uuid(Uuid::now_v7()) }
}

fn finding(id: impl Into<v1::TransactionId>, execution: &str) -> v1::BranchFinding {
    v1::BranchFinding {
        id: Some(id.into()),
        branch: 1,
        presence: v1::BranchPresence::Prepared.into(),
        evidence: Some(evidence(execution)),
        ..v1::BranchFinding::default()
    }
}

/// Of branch 1 at bank-b, execution 1.
fn commit(id: TransactionId) -> DecisionRecord {
    let branch = Branch {
        id: BranchId::new(1),
        resource: ResourceName::new("bank-b").unwrap(),
        instance: InstanceId::from_uuid(Uuid::from_u128(7)),
        marker: false,
    };
    DecisionRecord {
        id,
        decision: Decision::Commit,
        reason: None,
        branches: Arc::new([DecidedBranch { branch, evidence: Evidence::new("1", "here") }]),
        details: Arc::default(),
    }
}

async fn write(log: &MemoryLog, incarnation: Incarnation, records: Vec<DecisionRecord>) {
    let proposals: Vec<Proposal> = (1..)
        .zip(records)
        .map(|(number, record)| Proposal {
            number: if record.decision == Decision::Commit { number } else { 0 },
            record,
        })
        .collect();
    let written = log.open_writer().await.unwrap().write(incarnation, &proposals).await;
    assert!(written.iter().all(|result| *result == ProposalResult::Won), "{written:?}");
}

/// Lists while the participants answer with these findings.
async fn list(
    node: &Node,
    request: v1::ListBranchesRequest,
    answering: &mut [(&mut Participant, v1::Examined)],
) -> v1::ListBranchesResponse {
    let mut admin = node.admin.clone();
    let listed = tokio::spawn(async move { admin.list_branches(request).await.unwrap().into_inner() });
    for (participant, examined) in answering {
        let asked = loop {
            match participant.next().await {
                Down::Examine(examine) => break examine,
                Down::Commit(_) | Down::Abort(_) | Down::Prepare(_) => {}
                other => panic!("a question was expected, not {other:?}"),
            }
        };
        assert!(asked.branches.is_empty(), "all that is prepared is asked for");
        let (call_id, resource) = (asked.call_id, asked.resource);
        participant.send(Up::Examined(v1::Examined { call_id, resource, ..examined.clone() })).await;
    }
    soon("the list", listed).await.unwrap()
}

fn found(findings: Vec<v1::BranchFinding>) -> v1::Examined {
    v1::Examined { findings, ..v1::Examined::default() }
}

fn verdicts(listed: &v1::ListBranchesResponse) -> Vec<Verdict> {
    listed.branches.iter().map(v1::PreparedBranch::verdict).collect()
}

#[tokio::test]
async fn every_prepared_branch_has_a_verdict_and_a_sentence() {
    let log = MemoryLog::new();
    // One coordinator that ended in good order, and one of whom records may be lost.
    let ended = log.start_incarnation("10.0.0.3:7600").await.unwrap();
    let (decided, other_execution, aborted) = (id(ended), id(ended), id(ended));
    let reason = AbortReason::new(AbortKind::Deadline, "late");
    let records = vec![commit(decided), commit(other_execution), DecisionRecord::abort(aborted, reason)];
    write(&log, ended, records).await;
    log.end_incarnation(ended).await.unwrap();
    let doubted = log.start_incarnation("10.0.0.4:7600").await.unwrap();
    log.go_back(0);
    let forgotten = TransactionId { incarnation: ended, gid: Gid::from_uuid(Uuid::from_u128(3)) };
    log.raise_floor(forgotten.gid).await.unwrap();
    let node = Node::with(config(), log.clone()).await;
    let other = Node::with(config(), log.clone()).await;
    // Commits that were recovered go to the second, which leaves them as they are.
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let open = node.draw().await;
    let in_a = a.enlist(&open, 1).await;
    let commit_open = node.commit(&open, &[&in_a, &v1::Branch { id: 2, ..in_a.clone() }], v1::Wait::Decision);
    let (orphan, missing) = (id(ended), id(doubted));
    let never_seen = id(Incarnation::from_uuid(Uuid::from_u128(77)));
    let theirs = other.draw().await;
    let own = node.draw().await;
    let cases: Vec<(v1::BranchFinding, Verdict, &str)> = vec![
        (finding(open.clone(), "1"), Verdict::Owned, "its votes are coming in here"),
        (finding(theirs, "1"), Verdict::Owned, "is at work on its transaction"),
        (finding(decided, "1"), Verdict::Commit, "commit is decided"),
        (finding(other_execution, "2"), Verdict::Abort, "another execution"),
        (finding(aborted, "1"), Verdict::Abort, "abort is decided"),
        (finding(own, "1"), Verdict::Abort, "this coordinator has aborted"),
        (finding(orphan, "1"), Verdict::Orphan, "pactum tx resolve"),
        (finding(missing, "1"), Verdict::Quarantined, "pactum quarantine release"),
        (finding(never_seen, "1"), Verdict::Quarantined, "pactum quarantine release"),
        (finding(forgotten, "1"), Verdict::Quarantined, "pactum tx overrule"),
    ];
    let findings: Vec<v1::BranchFinding> = cases.iter().map(|(finding, ..)| finding.clone()).collect();
    let request = v1::ListBranchesRequest::default();
    let mut list = async |request| {
        let (first, others) = (findings[..1].to_vec(), findings[1..].to_vec());
        list(&node, request, &mut [(&mut a, found(first)), (&mut b, found(others))]).await
    };
    let listed = list(request.clone()).await;
    assert_eq!(listed.problems, []);
    assert_eq!(listed.branches.len(), cases.len());
    for (shown, (finding, verdict, said)) in listed.branches.iter().zip(&cases) {
        assert_eq!(shown.finding.as_ref(), Some(finding));
        assert_eq!(shown.verdict(), *verdict, "{shown:?}");
        assert!(shown.explanation.contains(said), "{shown:?}");
    }

    let stuck = v1::ListBranchesRequest { stuck: true, ..request.clone() };
    let listed = list(stuck).await;
    let quarantined = Verdict::Quarantined;
    assert_eq!(verdicts(&listed), [Verdict::Orphan, quarantined, quarantined, quarantined]);

    // Without the log, what is open here is known and nothing else is: least of all that it is an orphan.
    log.faults().refuse_connections(true);
    let listed = list(request).await;
    log.faults().refuse_connections(false);
    assert_eq!(listed.branches[0].verdict(), Verdict::Owned);
    let recovered = [2, 3];
    for (place, shown) in listed.branches.iter().enumerate().skip(1) {
        if !recovered.contains(&place) {
            assert_eq!(shown.verdict(), Verdict::Unknown, "{shown:?}");
            assert!(shown.explanation.starts_with("the log did not answer"), "{shown:?}");
        }
    }

    // Looking has closed nothing: of all that had no record, none has one now.
    let gids: Vec<Gid> = [orphan, missing, never_seen].iter().map(|id| id.gid).collect();
    for result in log.look_up(&gids).await.unwrap() {
        assert_eq!(result, pactum_core::outcome::LookUpResult::NoRecord);
    }
    commit_open.abort();
    other.coordinator.kill();
    node.coordinator.kill();
}

#[tokio::test]
async fn a_commit_that_is_driven_here_is_told_from_another_execution_of_its_branch() {
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    a.vote_commit().await;
    let Down::Commit(_) = a.next().await else { panic!("commit is decided") };
    let findings = vec![finding(id.clone(), "1"), finding(id.clone(), "2")];
    let listed = list(&node, v1::ListBranchesRequest::default(), &mut [(&mut a, found(findings))]).await;
    assert_eq!(verdicts(&listed), [Verdict::Commit, Verdict::Abort]);
    assert!(listed.branches[0].explanation.contains("driven from here"), "{listed:?}");
    a.finished(&id, &in_a, v1::BranchOutcome::Committed).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    node.end().await;
}

#[tokio::test]
async fn resources_that_do_not_say_all_are_named() {
    let config = Config { examine_timeout: Duration::from_millis(300), ..config() };
    let node = Node::with(config, MemoryLog::new()).await;
    let mut full = node.participant("bank-full").await;
    let mut refusing = node.participant("bank-refusing").await;
    let _silent = node.participant("bank-silent").await;
    let ended = node.log.start_incarnation("").await.unwrap();
    node.log.end_incarnation(ended).await.unwrap();
    let three: Vec<_> = (0..3).map(|_| finding(id(ended), "1")).collect();
    let problem = "no connection".to_owned();
    let refused = v1::Examined { problem, ..v1::Examined::default() };
    let request = v1::ListBranchesRequest { limit: 2, ..v1::ListBranchesRequest::default() };
    let answers = &mut [(&mut full, found(three)), (&mut refusing, refused)];
    let listed = list(&node, request, answers).await;
    assert_eq!(listed.branches.len(), 2, "{listed:?}");
    let problems: Vec<(&str, &str)> =
        listed.problems.iter().map(|problem| (problem.resource.as_str(), problem.problem.as_str())).collect();
    let [(first, more), (second, refused), (third, silent)] = problems[..] else { panic!("{problems:?}") };
    assert_eq!((first, second, third), ("bank-full", "bank-refusing", "bank-silent"));
    assert!(more.contains("more than the 2"), "{more}");
    assert!(refused.contains("no connection"), "{refused}");
    assert!(silent.contains("did not answer in time"), "{silent}");

    let only = v1::ListBranchesRequest { resource: "bank-away".to_owned(), ..Default::default() };
    let listed = list(&node, only, &mut []).await;
    assert_eq!(listed.branches, []);
    assert_eq!(listed.problems[0].resource, "bank-away");
    assert!(listed.problems[0].problem.contains("no participant"), "{listed:?}");
    node.end().await;
}

#[tokio::test]
async fn a_list_of_branches_that_is_asked_for_wrongly_is_refused() {
    let node = Node::start().await;
    let refused = async |request: v1::ListBranchesRequest| {
        let status = node.admin.clone().list_branches(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        status.message().to_owned()
    };
    let limit = v1::ListBranchesRequest { limit: 257, ..Default::default() };
    assert!(refused(limit).await.starts_with("limit"));
    let resource = v1::ListBranchesRequest { resource: "Bank A".to_owned(), ..Default::default() };
    assert!(refused(resource).await.starts_with("resource"));
    until("nothing", async || node.coordinator.transactions_open() == 0).await;
    node.end().await;
}
