//! Several coordinators on one log: each tells everybody who else is alive.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::collections::BTreeSet;

use common::{Node, Participant, config, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as Down;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Address by address, as a Welcome or an operator's view names them.
fn addresses(coordinators: &[v1::Coordinator]) -> BTreeSet<String> {
    assert!(coordinators.iter().all(|coordinator| coordinator.incarnation.len() == 16), "{coordinators:?}");
    coordinators.iter().map(|coordinator| coordinator.address.clone()).collect()
}

fn addresses_of(nodes: &[&Node]) -> BTreeSet<String> {
    nodes.iter().map(|node| node.coordinator.public_addr().to_string()).collect()
}

/// Waits for a Welcome to a participant that names exactly these.
async fn participant_hears_of(participant: &mut Participant, nodes: &[&Node]) {
    let expected = addresses_of(nodes);
    soon("a welcome that names the living", async {
        let mut named = addresses(&participant.welcome.coordinators);
        while named != expected {
            if let Some(Down::Welcome(welcome)) = participant.receive().await.unwrap() {
                named = addresses(&welcome.coordinators);
                participant.welcome = welcome;
            }
        }
    })
    .await;
}

/// The same for an application's pipeline.
async fn pipeline_hears_of(answers: &mut Streaming<v1::PipelineResponse>, nodes: &[&Node]) {
    let expected = addresses_of(nodes);
    soon("a welcome that names the living", async {
        loop {
            let response = answers.message().await.unwrap().unwrap();
            if response.welcome.is_some_and(|welcome| addresses(&welcome.coordinators) == expected) {
                return;
            }
        }
    })
    .await;
}

async fn info(node: &Node) -> v1::GetServerInfoResponse {
    node.admin.clone().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_coordinator_names_itself_in_its_first_welcome() {
    let node = Node::start().await;
    let a = node.participant("bank-a").await;
    assert_eq!(addresses(&a.welcome.coordinators), addresses_of(&[&node]));
    assert_eq!(a.welcome.coordinators[0].incarnation, a.welcome.incarnation);
    drop(a);
    node.end().await;
}

/// A6, A12: whoever attached to one coordinator learns of the others, and of their ends.
#[tokio::test]
async fn both_streams_are_told_who_comes_and_who_goes() {
    let log = MemoryLog::new();
    let first = Node::with(config(), log.clone()).await;
    let mut a = first.participant("bank-a").await;
    let (_calls, requests) = tokio::sync::mpsc::channel(1);
    let mut answers = first.application().pipeline(ReceiverStream::new(requests)).await.unwrap().into_inner();
    pipeline_hears_of(&mut answers, &[&first]).await;

    let second = Node::with(config(), log.clone()).await;
    participant_hears_of(&mut a, &[&first, &second]).await;
    pipeline_hears_of(&mut answers, &[&first, &second]).await;
    for node in [&first, &second] {
        until("the operator's view", async || {
            addresses(&info(node).await.coordinators) == addresses_of(&[&first, &second])
        })
        .await;
    }

    // One that stops in order is gone with its farewell, one that is killed after its lease.
    let third = Node::with(config(), log).await;
    participant_hears_of(&mut a, &[&first, &second, &third]).await;
    soon("the stop", second.coordinator.stop()).await.unwrap();
    participant_hears_of(&mut a, &[&first, &third]).await;
    third.coordinator.kill();
    participant_hears_of(&mut a, &[&first]).await;
    pipeline_hears_of(&mut answers, &[&first]).await;
    drop((a, answers));
    first.end().await;
}

#[tokio::test]
async fn who_drains_is_not_named_by_itself_any_more() {
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let stop = tokio::spawn(node.coordinator.stop());
    soon("the news", async {
        loop {
            if let Some(Down::Welcome(welcome)) = a.receive().await.unwrap() {
                assert!(welcome.incarnation.is_empty() && welcome.coordinators.is_empty(), "{welcome:?}");
                return;
            }
        }
    })
    .await;
    a.finished(&id, &in_a, v1::BranchOutcome::Aborted).await;
    drop(a);
    soon("the stop", stop).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_that_means_any_is_told_to_nobody_and_another_one_as_it_was_set() {
    let log = MemoryLog::new();
    let any = Config { listen: ([0, 0, 0, 0], 0).into(), unsafe_plaintext: true, ..config() };
    let silent = Node::with(any.clone(), log.clone()).await;
    let a = silent.participant("bank-a").await;
    assert!(a.welcome.coordinators.is_empty(), "{:?}", a.welcome);
    drop(a);
    // Operators see it all the same.
    let shown = info(&silent).await;
    assert_eq!(shown.coordinators.len(), 1, "{shown:?}");
    assert_eq!(shown.coordinators[0].address, "");

    let advertised = Config { advertise: Some("coordinator-2.example:7600".into()), ..any };
    let named = Node::with(advertised, log).await;
    let a = named.participant("bank-a").await;
    assert_eq!(addresses(&a.welcome.coordinators), BTreeSet::from(["coordinator-2.example:7600".to_owned()]));
    drop(a);
    named.end().await;
    silent.end().await;
}
