//! Start, stop, and what a stranger on the port can and cannot do.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Node, config, soon, until};
use pactum_coordinator::config::ConfigError;
use pactum_coordinator::decision_log::DecisionLog as _;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::{Config, Coordinator, Listeners, ServeError};
use pactum_proto::v1;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_starts_nothing_new() {
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    let prepare = a.prepare().await;
    let (application, log) = (node.application(), node.log.clone());
    let fresh = node.draw().await;
    let stop = tokio::spawn(node.coordinator.stop());
    until("the refusal of new ones", async || {
        let refused = application.clone().begin(v1::BeginRequest::default()).await;
        refused.is_err_and(|status| status.code() == Code::Unavailable)
    })
    .await;
    let request =
        v1::CommitRequest { id: Some(fresh), branches: vec![in_a.clone()], ..v1::CommitRequest::default() };
    let refused = application.clone().commit(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    a.vote(&prepare, v1::vote::Vote::Commit(common::evidence("1"))).await;
    a.ack_commit(&id, &in_a).await;
    let outcome = soon("the outcome", commit).await.unwrap().unwrap();
    assert_eq!(outcome.state(), v1::OutcomeState::Committed);
    soon("the stop", stop).await.unwrap().unwrap();
    // The successor need not wait for a lease: the incarnation was ended.
    let own = pactum_core::id::Incarnation::from_slice(&id.incarnation).unwrap();
    assert!(!log.heartbeat(own).await.unwrap().live);
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_the_stop() {
    let quick = Config { drain: Duration::from_secs(2), stop_within: Duration::from_secs(4), ..config() };
    let node = Node::with(quick, MemoryLog::new()).await;
    let _silent = tokio::net::TcpStream::connect(node.coordinator.public_addr()).await.unwrap();
    let mut half = tokio::net::TcpStream::connect(node.coordinator.public_addr()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut half, b"PRI * HT").await.unwrap();
    let public = node.coordinator.public_addr();
    let begun = Instant::now();
    soon("the stop", node.coordinator.stop()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // The port is free again.
    drop(tokio::net::TcpListener::bind(public).await.unwrap());
}

#[tokio::test]
async fn a_kill_closes_every_connection() {
    let node = Node::start().await;
    let mut a = node.participant("bank-a").await;
    node.coordinator.kill();
    soon("the end of the stream", async { while let Ok(Some(_)) = a.receive().await {} }).await;
}

#[tokio::test]
async fn an_address_that_strangers_reach_is_refused_in_plain_text() {
    let open = Config { listen: ([0, 0, 0, 0], 0).into(), unsafe_plaintext: true, ..config() };
    let listeners = Listeners::bind(&open).await.unwrap();
    // The listener counts, whatever the configuration says that it wants.
    let error = Coordinator::start(listeners, Arc::new(MemoryLog::new()), config()).unwrap_err();
    assert!(matches!(error, ServeError::Config(ConfigError::Plaintext { .. })), "{error}");
}

#[tokio::test]
async fn health_tells_whether_it_serves() {
    let node = Node::start().await;
    let request = |service: &str| tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
    let client = HealthClient::new(node.channel.clone());
    for service in ["", "pactum.v1.TransactionsService", "pactum.recovery"] {
        until("good health", async || {
            let answer = client.clone().check(request(service)).await;
            answer.is_ok_and(|answer| {
                answer.into_inner().status() == tonic_health::ServingStatus::Serving.into()
            })
        })
        .await;
    }
    node.end().await;
}

#[tokio::test]
async fn reflection_names_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let node = Node::start().await;
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(node.channel.clone());
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    assert!(list.service.iter().any(|service| service.name == "pactum.v1.TransactionsService"), "{list:?}");
    node.end().await;
}
