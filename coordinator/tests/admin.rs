//! What operators see and may do.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use common::{Node, evidence, soon};
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::{DecisionLog as _, Release};
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;
use tonic::Code;
use v1::TransactionState;
use v1::coordinator_message::Message as Down;
use v1::participant_message::Message as Up;

fn hex(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).unwrap().simple().to_string()
}

async fn inspect(node: &Node, gid: &str) -> Result<v1::Transaction, tonic::Status> {
    let request = v1::InspectTransactionRequest { gid: gid.to_owned(), examine: false };
    Ok(node.admin.clone().inspect_transaction(request).await?.into_inner().transaction.unwrap())
}

#[tokio::test]
async fn a_transaction_is_shown_by_a_part_of_its_gid_with_what_it_waits_for() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let gid = hex(&id.gid);
    let shown = inspect(&node, &gid[20..]).await.unwrap();
    assert_eq!((shown.id.as_ref(), shown.state()), (Some(&id), TransactionState::Active));
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    common::until("one vote", async || {
        let shown = inspect(&node, &gid).await.unwrap();
        shown.waits_for.starts_with("votes of bank-b") && shown.state() == TransactionState::Preparing
    })
    .await;
    b.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    common::until("the record", async || {
        inspect(&node, &gid).await.unwrap().state() == TransactionState::Committed
    })
    .await;
    let shown = inspect(&node, &gid).await.unwrap();
    assert!(shown.decided_at.is_some() && shown.waits_for.is_empty(), "{shown:?}");
    assert_eq!(inspect(&node, "0123abcd").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(inspect(&node, "012").await.unwrap_err().code(), Code::InvalidArgument);
    node.end().await;
}

#[tokio::test]
async fn a_part_that_fits_several_is_refused() {
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    let (first, second) = (node.draw().await, node.draw().await);
    let mut opened = Vec::new();
    for id in [&first, &second] {
        opened.push((id, a.enlist(id, 1).await));
    }
    let error = inspect(&node, &hex(&first.gid)[..6]).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    for (id, branch) in opened {
        let request = v1::AbortRequest { id: Some(id.clone()), ..v1::AbortRequest::default() };
        let mut application = node.application();
        let abort = tokio::spawn(async move { application.abort(request).await });
        a.ack_abort(id, &branch).await;
        soon("the answer", abort).await.unwrap().unwrap();
    }
    node.end().await;
}

#[tokio::test]
async fn a_listing_pages_through_open_and_finished_transactions_newest_first() {
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let id = node.draw().await;
        let branch = a.enlist(&id, 1).await;
        if number < 4 {
            let commit = node.commit(&id, &[&branch], v1::Wait::Finished);
            a.vote_commit().await;
            a.ack_commit(&id, &branch).await;
            soon("the outcome", commit).await.unwrap().unwrap();
        }
        ids.push(id);
    }
    let list = async |finished: bool| {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListTransactionsRequest {
                page_size: 2,
                page_token: token,
                finished,
                ..v1::ListTransactionsRequest::default()
            };
            let page = node.admin.clone().list_transactions(request).await.unwrap().into_inner();
            assert!(page.transactions.len() <= 2);
            listed.extend(page.transactions.into_iter().map(|shown| shown.id.unwrap()));
            token = page.next_page_token;
            if token.is_empty() {
                return listed;
            }
        }
    };
    ids.reverse();
    assert_eq!(list(true).await, ids);
    common::until("lazy end records", async || list(false).await == ids[..3]).await;
    for id in &ids[..3] {
        let request = v1::AbortRequest { id: Some(id.clone()), ..v1::AbortRequest::default() };
        let mut application = node.application();
        let abort = tokio::spawn(async move { application.abort(request).await });
        let branch = a.branch(1);
        a.ack_abort(id, &branch).await;
        soon("the answer", abort).await.unwrap().unwrap();
    }
    node.end().await;
}

#[tokio::test]
async fn g1_resolve_aborts_an_undecided_transaction_and_never_a_committed_one() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let resolve = async |gid: &[u8]| node.act(common::acts::resolve(gid), "stuck").await;
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    let done = resolve(&id.gid).await.unwrap();
    let shown = done.transaction.unwrap();
    assert!(matches!(shown.state(), TransactionState::Aborting | TransactionState::Aborted), "{shown:?}");
    a.ack_abort(&id, &in_a).await;
    b.ack_abort(&id, &in_b).await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    let reason = outcome.reason.unwrap();
    assert_eq!((reason.kind(), reason.message.as_str()), (v1::AbortKind::Resolved, "stuck"));

    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    a.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    let plan = node.plan(common::acts::resolve(&id.gid)).await.unwrap();
    assert_eq!(common::acts::refusal(&plan), Some(ErrorCode::AlreadyCommitted));
    // Its end may be recorded in between, which is another state than was planned for.
    let refused = node.perform(&plan, "stuck").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    node.end().await;
}

#[tokio::test]
async fn a_watch_follows_a_transaction_to_its_end() {
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let request = v1::WatchTransactionRequest { gid: hex(&id.gid) };
    let mut states = node.admin.clone().watch_transaction(request).await.unwrap().into_inner();
    let first = soon("a state", states.message()).await.unwrap().unwrap().transaction.unwrap();
    assert_eq!(first.state(), TransactionState::Active);
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    a.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    let mut last = first;
    while let Some(state) = soon("a state", states.message()).await.unwrap() {
        last = state.transaction.unwrap();
    }
    assert_eq!(last.state(), TransactionState::Committed);
    node.end().await;
}

#[tokio::test]
async fn participants_are_listed_with_their_registration() {
    let node = Node::start().await;
    let instance = uuid::Uuid::now_v7();
    let resources = [("bank-a", false), ("bank-b", true)];
    let _both = common::Participant::attach(&node, instance, &resources).await.unwrap();
    let list =
        node.admin.clone().list_participants(v1::ListParticipantsRequest {}).await.unwrap().into_inner();
    let shown: Vec<_> =
        list.participants.iter().map(|shown| (shown.resource.as_str(), shown.marker)).collect();
    assert_eq!(shown, resources);
    assert!(list.participants.iter().all(|shown| shown.instance == instance.as_bytes()));
    assert!(list.participants[0].peer.starts_with("127.0.0.1:"), "{:?}", list.participants[0]);
    let info = node.admin.clone().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.participants_attached, info.log.as_str(), info.log_available), (1, "memory", true));
    node.end().await;
}

/// B5: a person who looks at a transaction that waits for a person is told so, and what to do.
#[tokio::test]
async fn b5_a_transaction_of_a_doubted_owner_says_that_it_waits_for_a_release() {
    let log = MemoryLog::new();
    let owner = log.start_incarnation("127.0.0.1:7600").await.unwrap();
    log.go_back(0);
    let node = Node::with(common::config(), log.clone()).await;
    let mut a = node.participant("bank-a").await;
    let id = v1::TransactionId { incarnation: owner.as_uuid().as_bytes().to_vec(), ..node.draw().await };
    let branch = a.branch(1);
    let inquiry = v1::Inquiry { id: Some(id.clone()), branch: Some(branch), evidence: Some(evidence("1")) };
    a.send(Up::Inquiry(inquiry)).await;
    let Down::InquiryAnswer(answer) = a.next().await else { panic!("an inquiry is answered") };
    assert!(matches!(answer.answer, Some(v1::inquiry_answer::Answer::Quarantine(_))), "{answer:?}");
    let shown = inspect(&node, &hex(&id.gid)).await.unwrap();
    assert!(shown.waits_for.starts_with("a person: the log went back in time"), "{}", shown.waits_for);
    assert!(shown.waits_for.contains("pactum quarantine release"), "{}", shown.waits_for);
    log.release(Release::All, "the copy is whole").await.unwrap();
    let Down::Abort(abort) = a.next().await else { panic!("once released it is aborted") };
    a.finished(&id, abort.branch.as_ref().unwrap(), v1::BranchOutcome::Aborted).await;
    node.end().await;
}
