//! What a trace shows: one trace from the application through this coordinator to its participants, and
//! a link to it from whoever recovers the transaction.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::sync::{Arc, Mutex};

use common::{Node, config, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::trace::{Span, Tracer};
use pactum_proto::v1;

/// An application's span.
const APPLICATION: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: [u8; 16] = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes();
const SPAN: [u8; 8] = 0xb7ad_6b71_6920_3331_u64.to_be_bytes();

/// Keeps every span.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Span>>>);

impl Kept {
    /// The settings of a coordinator whose spans these are, and that sends nothing twice.
    fn config(&self) -> Config {
        let kept = Arc::clone(&self.0);
        let tracer = Tracer::new(move |span| kept.lock().unwrap().push(span));
        Config { tracer, retry_first: common::DEADLINE, retry_cap: common::DEADLINE, ..config() }
    }

    async fn named(&self, name: &str, count: usize) -> Vec<Span> {
        let named = || -> Vec<Span> {
            self.0.lock().unwrap().iter().filter(|span| span.name == name).cloned().collect()
        };
        until(name, async || named().len() >= count).await;
        assert_eq!(named().len(), count, "{:?}", named());
        named()
    }
}

fn attribute<'a>(span: &'a Span, key: &str) -> &'a str {
    &span.attributes.iter().find(|(name, _)| *name == key).unwrap().1
}

/// Commits over these branches, as part of a trace.
fn commit(
    node: &Node,
    id: &v1::TransactionId,
    branches: &[&v1::Branch],
    traceparent: &str,
) -> tokio::task::JoinHandle<Result<tonic::Response<v1::CommitResponse>, tonic::Status>> {
    let request = v1::CommitRequest {
        id: Some(id.clone()),
        branches: branches.iter().copied().cloned().collect(),
        wait: v1::Wait::Decision.into(),
        details: Some(v1::Details { traceparent: traceparent.to_owned(), ..v1::Details::default() }),
        ..v1::CommitRequest::default()
    };
    let mut application = node.application();
    tokio::spawn(async move { application.commit(request).await })
}

#[tokio::test]
async fn a_transaction_is_one_trace_from_its_application_to_its_participants() {
    let kept = Kept::default();
    let node = Node::with(kept.config(), MemoryLog::new()).await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let committed = commit(&node, &id, &[&in_a, &in_b], APPLICATION);
    let asked = [a.vote_commit().await, b.vote_commit().await];
    soon("the outcome", committed).await.unwrap().unwrap();
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;

    let transaction = &kept.named("pactum transaction", 1).await[0];
    assert_eq!((transaction.id.trace, transaction.parent), (TRACE, Some(SPAN)));
    assert!(transaction.parent_is_remote && transaction.links.is_empty() && transaction.error.is_none());
    assert_eq!(attribute(transaction, "pactum.outcome"), "committed");
    let gid = uuid::Uuid::from_slice(&id.gid).unwrap().to_string();
    assert_eq!(attribute(transaction, "pactum.gid"), gid);
    for (name, count) in [("prepare", 2), ("decide", 1), ("commit", 2)] {
        for span in kept.named(name, count).await {
            assert_eq!((span.id.trace, span.parent), (TRACE, Some(transaction.id.span)), "{span:?}");
            assert!(transaction.start <= span.start && span.start <= span.end && span.end <= transaction.end);
        }
    }
    // What a participant does hangs beneath the span of its own Prepare.
    for (prepare, resource) in asked.iter().zip(["bank-a", "bank-b"]) {
        let spans = kept.named("prepare", 2).await;
        let span = spans.iter().find(|span| attribute(span, "pactum.resource") == resource).unwrap();
        let (trace, own) = (u128::from_be_bytes(span.id.trace), u64::from_be_bytes(span.id.span));
        assert_eq!(prepare.traceparent, format!("00-{trace:032x}-{own:016x}-01"));
    }
    node.end().await;
}

#[tokio::test]
async fn a_no_vote_is_an_error_of_its_branch_and_not_of_the_transaction() {
    let kept = Kept::default();
    let node = Node::with(kept.config(), MemoryLog::new()).await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let aborted = commit(&node, &id, &[&in_a], APPLICATION);
    let prepare = a.prepare().await;
    let no = v1::AbortReason { kind: v1::AbortKind::VotedNo.into(), message: "no money".to_owned() };
    a.vote(&prepare, v1::vote::Vote::Abort(no)).await;
    soon("the outcome", aborted).await.unwrap().unwrap();
    assert_eq!(kept.named("prepare", 1).await[0].error.as_deref(), Some("no money"));
    assert_eq!(kept.named("pactum transaction", 1).await[0].error, None);
    node.end().await;
}

#[tokio::test]
async fn what_is_not_sampled_is_not_traced() {
    let kept = Kept::default();
    let node = Node::with(kept.config(), MemoryLog::new()).await;
    let mut a = node.participant("bank-a").await;
    let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    for traceparent in [unsampled, ""] {
        let id = node.draw().await;
        let in_a = a.enlist(&id, 1).await;
        let committed = commit(&node, &id, &[&in_a], traceparent);
        assert_eq!(a.vote_commit().await.traceparent, traceparent, "handed on as it came");
        soon("the outcome", committed).await.unwrap().unwrap();
        a.ack_commit(&id, &in_a).await;
    }
    until("the end", async || node.coordinator.transactions_open() == 0).await;
    assert!(kept.0.lock().unwrap().is_empty());
    node.end().await;
}

#[tokio::test]
async fn recovery_is_a_trace_of_its_own_linked_to_the_original_one() {
    let log = MemoryLog::new();
    let before = Node::with(Kept::default().config(), log.clone()).await;
    let mut a = before.participant("bank-a").await;
    let id = before.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let committed = commit(&before, &id, &[&in_a], APPLICATION);
    a.vote_commit().await;
    soon("the outcome", committed).await.unwrap().unwrap();
    before.coordinator.kill();

    let kept = Kept::default();
    let after = Node::with(kept.config(), log).await;
    let mut a = after.participant("bank-a").await;
    a.ack_commit(&id, &in_a).await;
    let recovered = &kept.named("pactum recover", 1).await[0];
    assert_ne!(recovered.id.trace, TRACE);
    assert_eq!(recovered.parent, None);
    let [link] = recovered.links.as_slice() else { panic!("{:?}", recovered.links) };
    assert_eq!((link.trace, link.span), (TRACE, SPAN));
    let finished = &kept.named("commit", 1).await[0];
    assert_eq!((finished.id.trace, finished.parent), (recovered.id.trace, Some(recovered.id.span)));
    after.end().await;
}
