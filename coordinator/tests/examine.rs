//! Operators' questions to participants: what their databases hold is shown beside what is known here, and
//! whoever says nothing, or what he was not asked, changes nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::time::Duration;

use common::{Node, Participant, config, evidence, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::DecisionLog as _;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_proto::v1;
use pactum_proto::v1::participants_service_client::ParticipantsServiceClient;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use v1::BranchPresence as Presence;
use v1::coordinator_message::Message as Down;
use v1::participant_message::Message as Up;

fn hex(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).unwrap().simple().to_string()
}

async fn inspect(node: &Node, id: &v1::TransactionId) -> v1::Transaction {
    let request = v1::InspectTransactionRequest { gid: hex(&id.gid), examine: false };
    node.admin.clone().inspect_transaction(request).await.unwrap().into_inner().transaction.unwrap()
}

/// Inspects with a question to the participants, in a task of its own.
fn examine(node: &Node, id: &v1::TransactionId) -> JoinHandle<v1::Transaction> {
    let request = v1::InspectTransactionRequest { gid: hex(&id.gid), examine: true };
    let mut admin = node.admin.clone();
    tokio::spawn(async move {
        admin.inspect_transaction(request).await.unwrap().into_inner().transaction.unwrap()
    })
}

/// The next question; orders that are repeated meanwhile are passed over.
async fn question(participant: &mut Participant) -> v1::Examine {
    loop {
        match participant.next().await {
            Down::Examine(examine) => return examine,
            Down::Prepare(_) | Down::Commit(_) | Down::Abort(_) => {}
            other => panic!("a question was expected, not {other:?}"),
        }
    }
}

fn finding(id: &v1::TransactionId, branch: u64, presence: Presence) -> v1::BranchFinding {
    let id = Some(id.clone());
    v1::BranchFinding { id, branch, presence: presence.into(), ..v1::BranchFinding::default() }
}

async fn answer(participant: &Participant, question: &v1::Examine, findings: Vec<v1::BranchFinding>) {
    let examined = v1::Examined {
        call_id: question.call_id,
        resource: question.resource.clone(),
        findings,
        ..v1::Examined::default()
    };
    participant.send(Up::Examined(examined)).await;
}

async fn participants(node: &Node) -> Vec<v1::Participant> {
    let list = node.admin.clone().list_participants(v1::ListParticipantsRequest {}).await.unwrap();
    list.into_inner().participants
}

async fn abort(node: &Node, id: &v1::TransactionId, ending: &mut [(&mut Participant, &v1::Branch)]) {
    let request = v1::AbortRequest { id: Some(id.clone()), ..v1::AbortRequest::default() };
    let mut application = node.application();
    let abort = tokio::spawn(async move { application.abort(request).await });
    for (participant, branch) in ending {
        participant.ack_abort(id, branch).await;
    }
    soon("the answer", abort).await.unwrap().unwrap();
}

fn report<'a>(shown: &'a v1::Transaction, resource: &str) -> &'a v1::BranchReport {
    let is_it = |status: &&v1::BranchStatus| status.branch.as_ref().unwrap().resource == resource;
    shown.branches.iter().find(is_it).unwrap().report.as_ref().unwrap()
}

fn presence(shown: &v1::Transaction, resource: &str) -> Presence {
    let report = report(shown, resource);
    assert!(report.answered, "{report:?}");
    report.finding.as_ref().unwrap().presence()
}

#[tokio::test]
async fn a_transaction_is_shown_with_what_each_database_says_of_its_branch() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.prepare().await;
    until("one vote", async || {
        let shown = inspect(&node, &id).await;
        assert!(shown.branches.iter().all(|branch| branch.report.is_none()), "nobody was asked");
        shown.branches.iter().any(|branch| branch.vote == "commit")
    })
    .await;

    let shown = examine(&node, &id);
    // Both are asked before either has answered.
    let (of_a, of_b) = (question(&mut a).await, question(&mut b).await);
    assert_eq!(of_a.branches.len(), 1);
    assert_eq!(of_a.branches[0].id.as_ref(), Some(&id));
    assert_eq!(of_a.branches[0].branch.as_ref(), Some(&in_a));
    assert_eq!(of_a.branches[0].evidence, Some(evidence("1")));
    assert_eq!(of_b.branches[0].evidence, None, "it has not voted");
    let blocked = v1::BlockedSession { pid: 42, user: "clerk".to_owned(), ..v1::BlockedSession::default() };
    let prepared = v1::BranchFinding {
        evidence: Some(evidence("1")),
        locks: 3,
        blocked: vec![blocked],
        ..finding(&id, 1, Presence::Prepared)
    };
    // What nobody asked for is not shown.
    answer(&a, &of_a, vec![finding(&id, 2, Presence::Committed), prepared.clone()]).await;
    answer(&b, &of_b, vec![finding(&id, 2, Presence::Open)]).await;
    let shown = soon("the transaction", shown).await.unwrap();
    assert_eq!(report(&shown, "bank-a").finding.as_ref(), Some(&prepared));
    assert_eq!(presence(&shown, "bank-b"), Presence::Open);
    let said = "votes of bank-b (its local work is still open)";
    assert!(shown.waits_for.starts_with(said), "{}", shown.waits_for);
    assert!(shown.time_left.is_some() && shown.driven_by.is_empty());

    b.send(Up::Vote(v1::Vote {
        id: Some(id.clone()),
        branch: Some(in_b.clone()),
        vote: Some(v1::vote::Vote::Commit(evidence("2"))),
    }))
    .await;
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    soon("the outcome", commit).await.unwrap().unwrap();

    // The record names the branches, and the evidence that their databases are asked for.
    let shown = examine(&node, &id);
    let (of_a, of_b) = (question(&mut a).await, question(&mut b).await);
    assert_eq!(of_b.branches[0].evidence, Some(evidence("2")));
    answer(&a, &of_a, vec![finding(&id, 1, Presence::Committed)]).await;
    answer(&b, &of_b, vec![finding(&id, 2, Presence::Aborted)]).await;
    let shown = soon("the transaction", shown).await.unwrap();
    assert_eq!(presence(&shown, "bank-a"), Presence::Committed);
    assert_eq!(presence(&shown, "bank-b"), Presence::Aborted);
    node.end().await;
}

#[tokio::test]
async fn who_does_not_answer_is_shown_so_and_never_as_gone() {
    let config = Config {
        examine_timeout: Duration::from_millis(200),
        // Nothing is aborted for one that is away, and an abort does not wait for it for long.
        participant_grace: Duration::from_mins(10),
        finished_bound: Duration::from_millis(300),
        ..config()
    };
    let node = Node::with(config, MemoryLog::new()).await;
    let mut silent = node.participant("silent").await;
    let mut refusing = node.participant("refusing").await;
    let mut away = node.participant("away").await;
    let id = node.draw().await;
    let in_silent = silent.enlist(&id, 1).await;
    let in_refusing = refusing.enlist(&id, 2).await;
    away.enlist(&id, 3).await;
    away.leave(&node).await;

    let shown = examine(&node, &id);
    question(&mut silent).await;
    let asked = question(&mut refusing).await;
    let problem = "no connection to the database".to_owned();
    let (call_id, resource) = (asked.call_id, asked.resource.clone());
    refusing.send(Up::Examined(v1::Examined { call_id, resource, problem, ..v1::Examined::default() })).await;
    let shown = soon("the transaction", shown).await.unwrap();
    let no_answer = report(&shown, "silent");
    assert!(!no_answer.answered && no_answer.finding.is_none(), "{no_answer:?}");
    assert!(no_answer.problem.contains("did not answer in time"), "{no_answer:?}");
    let refused = report(&shown, "refusing");
    assert!(refused.answered && refused.finding.is_none(), "{refused:?}");
    assert!(refused.problem.contains("no connection to the database"), "{refused:?}");
    let not_there = report(&shown, "away");
    assert!(!not_there.answered && not_there.finding.is_none(), "{not_there:?}");
    assert!(not_there.problem.contains("no participant"), "{not_there:?}");

    abort(&node, &id, &mut [(&mut silent, &in_silent), (&mut refusing, &in_refusing)]).await;
    node.end().await;
}

#[tokio::test]
async fn an_answer_of_another_participant_than_was_asked_is_dropped() {
    let node = Node::start().await;
    let (mut own, mut other) = (node.participant("bank-a").await, node.participant("bank-a").await);
    let (id, next) = (node.draw().await, node.draw().await);
    let in_own = own.enlist(&id, 1).await;
    let shown = examine(&node, &id);
    let asked = question(&mut own).await;
    answer(&other, &asked, vec![finding(&id, 1, Presence::Committed)]).await;
    // Its next message is answered, so that the one before was taken in, and its stream goes on.
    let in_other = other.enlist(&next, 1).await;
    answer(&own, &v1::Examine { call_id: asked.call_id + 1_000, ..asked.clone() }, vec![]).await;
    answer(&own, &asked, vec![finding(&id, 1, Presence::Open)]).await;
    let shown = soon("the transaction", shown).await.unwrap();
    assert_eq!(presence(&shown, "bank-a"), Presence::Open);
    abort(&node, &id, &mut [(&mut own, &in_own)]).await;
    abort(&node, &next, &mut [(&mut other, &in_other)]).await;
    node.end().await;
}

/// The stream ends with an error that names the field.
async fn is_malformed(node: &Node, message: Up, field: &str) {
    let mut participant = node.participant("bank-a").await;
    participant.send(message).await;
    let status = loop {
        match participant.receive().await {
            Ok(Some(Down::Welcome(_))) => {}
            Ok(other) => panic!("an error was expected, not {other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with(field), "{status:?}");
    until("its leave", async || participants(node).await.is_empty()).await;
}

#[tokio::test]
async fn an_answer_for_a_resource_of_another_stream_or_beyond_a_limit_ends_the_stream() {
    let node = Node::start().await;
    let id = node.draw().await;
    let examined = |resource: &str, findings: Vec<v1::BranchFinding>| {
        let resource = resource.to_owned();
        Up::Examined(v1::Examined { call_id: 1, resource, findings, ..v1::Examined::default() })
    };
    is_malformed(&node, examined("bank-b", vec![]), "examined.resource").await;
    let many = vec![finding(&id, 1, Presence::Prepared); 257];
    is_malformed(&node, examined("bank-a", many), "examined.findings").await;
    let noted = v1::BranchFinding { note: "x".repeat(513), ..finding(&id, 1, Presence::Prepared) };
    is_malformed(&node, examined("bank-a", vec![noted]), "examined.findings.note").await;
    let unsaid = finding(&id, 1, Presence::Unspecified);
    is_malformed(&node, examined("bank-a", vec![unsaid]), "examined.findings.presence").await;
    let overruled = v1::OverruleAnswer { call_id: 1, ..v1::OverruleAnswer::default() };
    is_malformed(&node, Up::OverruleAnswer(overruled), "overrule_answer.presence").await;
    node.end().await;
}

#[tokio::test]
async fn a_question_ends_at_once_with_the_stream_of_whom_it_went_to() {
    let config = Config {
        examine_timeout: Duration::from_mins(10),
        participant_grace: Duration::from_mins(10),
        finished_bound: Duration::from_millis(300),
        ..config()
    };
    let node = Node::with(config, MemoryLog::new()).await;
    let (mut own, mut other) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    own.enlist(&id, 1).await;
    let in_other = other.enlist(&id, 2).await;
    let shown = examine(&node, &id);
    question(&mut own).await;
    let asked = question(&mut other).await;
    answer(&other, &asked, vec![finding(&id, 2, Presence::Open)]).await;
    drop(own);
    let shown = soon("the transaction", shown).await.unwrap();
    assert!(!report(&shown, "bank-a").answered);
    assert_eq!(presence(&shown, "bank-b"), Presence::Open);
    abort(&node, &id, &mut [(&mut other, &in_other)]).await;
    node.end().await;
}

#[tokio::test]
async fn one_that_drains_is_shown_so_and_gets_nothing_new_while_another_one_is_there() {
    let node = Node::start().await;
    let (mut one, mut two) = (node.participant("bank-a").await, node.participant("bank-a").await);
    let drains = async |participant: &Participant, draining: bool| {
        participant.send(Up::Draining(v1::Draining { draining })).await;
        let instance = participant.instance.as_bytes().to_vec();
        until("its word", async || {
            let list = participants(&node).await;
            list.iter().find(|shown| shown.instance == instance).unwrap().draining == draining
        })
        .await;
    };
    let submit = |id: &v1::TransactionId| {
        let operation = v1::Operation {
            branch: 1,
            resource: "bank-a".to_owned(),
            name: "pay".to_owned(),
            payload: Vec::new(),
        };
        let request =
            v1::SubmitRequest { id: Some(id.clone()), operations: vec![operation], ..Default::default() };
        let mut application = node.application();
        tokio::spawn(async move { application.submit(request).await.unwrap().into_inner() })
    };
    let serve = async |participant: &mut Participant| {
        let id = node.draw().await;
        let submitted = submit(&id);
        let prepare = participant.vote_commit().await;
        let branch = prepare.branch.unwrap();
        assert_eq!(branch.instance, participant.instance.as_bytes());
        participant.ack_commit(&id, &branch).await;
        soon("the outcome", submitted).await.unwrap();
    };
    drains(&one, true).await;
    for _ in 0..3 {
        serve(&mut two).await;
    }
    drains(&two, true).await;
    drains(&one, false).await;
    for _ in 0..3 {
        serve(&mut one).await;
    }
    // With both draining it is asked all the same, and says no by itself.
    drains(&one, true).await;
    let id = node.draw().await;
    let submitted = submit(&id);
    let (asked, prepare) = tokio::select! {
        prepare = one.prepare() => (&one, prepare),
        prepare = two.prepare() => (&two, prepare),
    };
    let reason = v1::AbortReason { message: "it drains".to_owned(), ..v1::AbortReason::default() };
    let reason = v1::AbortReason { kind: v1::AbortKind::VotedNo.into(), ..reason };
    asked.vote(&prepare, v1::vote::Vote::Abort(reason)).await;
    let outcome = soon("the outcome", submitted).await.unwrap().outcome.unwrap();
    assert_eq!(outcome.state(), v1::OutcomeState::Aborted);
    node.end().await;
}

/// Attaches with these settings; answers the first message, or the error.
async fn attach_with(
    node: &Node,
    settings: Vec<(String, String)>,
) -> Result<tonic::Streaming<v1::AttachResponse>, tonic::Status> {
    let registration = v1::Registration {
        resource: "bank-a".to_owned(),
        settings: settings.into_iter().collect(),
        ..v1::Registration::default()
    };
    let hello = v1::Hello {
        instance: uuid::Uuid::now_v7().as_bytes().to_vec(),
        resources: vec![registration],
        version: "test".to_owned(),
    };
    let first =
        v1::AttachRequest { messages: vec![v1::ParticipantMessage { message: Some(Up::Hello(hello)) }] };
    let (up, requests) = tokio::sync::mpsc::channel(1);
    up.send(first).await.unwrap();
    let mut client = ParticipantsServiceClient::new(node.channel.clone());
    let mut down = client.attach(ReceiverStream::new(requests)).await?.into_inner();
    down.message().await?;
    // Kept for as long as the answer stream is read.
    tokio::spawn(async move { up.closed().await });
    Ok(down)
}

#[tokio::test]
async fn settings_of_a_registration_are_shown_and_too_many_are_refused() {
    let node = Node::start().await;
    let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let given = vec![setting("server_version", "17.2"), setting("max_prepared_transactions", "64")];
    let stream = attach_with(&node, given.clone()).await.unwrap();
    until("its registration", async || participants(&node).await.len() == 1).await;
    let shown = participants(&node).await.remove(0);
    assert_eq!(shown.settings, given.into_iter().collect());
    assert!(!shown.draining);
    let many = (0..33).map(|number| setting(&number.to_string(), "")).collect();
    let long_key = vec![setting(&"k".repeat(65), "")];
    let long_value = vec![setting("k", &"v".repeat(257))];
    for bad in [many, long_key, long_value] {
        let status = attach_with(&node, bad).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().starts_with("hello.resources.settings"), "{status:?}");
    }
    drop(stream);
    node.end().await;
}

/// What another coordinator drives says where, and the deadline of what it has not decided is not known
/// here.
#[tokio::test]
async fn a_transaction_of_another_living_coordinator_says_who_drives_it() {
    let log = MemoryLog::new();
    let first = Node::with(config(), log.clone()).await;
    let second = Node::with(config(), log.clone()).await;
    let owner = first.coordinator.public_addr().to_string();
    until("knowledge of the other one", async || {
        let info = second.admin.clone().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
        info.into_inner().coordinators.len() == 2
    })
    .await;
    let mut a = first.participant("bank-a").await;
    let id = first.draw().await;
    let branch = a.enlist(&id, 1).await;
    until("its prepare record", async || {
        let page = pactum_coordinator::decision_log::ListPage { limit: 1, ..Default::default() };
        !log.list(&page).await.unwrap().is_empty()
    })
    .await;
    let shown = inspect(&second, &id).await;
    assert_eq!((shown.state(), &shown.driven_by), (v1::TransactionState::Undecided, &owner));
    assert_eq!(shown.waits_for, format!("its coordinator at {owner}, which is at work on it"));
    assert!(shown.time_left.is_none());
    abort(&first, &id, &mut [(&mut a, &branch)]).await;
    second.end().await;
    first.end().await;
}
