//! Attaching, and attaching again.

use pactum::participant::{Participant, SessionState, StartError};
use pactum_core::id::Cluster;
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as ToParticipant;

use crate::coordinator::Coordinator;
use crate::memory::Memory;
use crate::{OWNER, World, participant};

#[tokio::test]
async fn a_participant_says_first_who_it_is() {
    let bank = Memory::new("bank-a");
    let mut coordinator = Coordinator::start().await;
    let participant = participant(&coordinator, &bank).await;
    assert_eq!(participant.cluster(), None);
    let (stream, hello) = coordinator.accept().await;
    assert_eq!(hello.instance, participant.instance().as_uuid().as_bytes());
    let bank = v1::Registration {
        resource: "bank-a".into(),
        identity: "memory of bank-a".into(),
        settings: [("server_version".into(), "1".into())].into(),
        ..v1::Registration::default()
    };
    assert_eq!(hello.resources, [bank]);
    stream.welcome(OWNER).await;
    participant.attached().await;
    assert_eq!(participant.cluster(), Some(Cluster::new("c1").unwrap()));
    assert_eq!(participant.sessions()[0].address, coordinator.address);
}

#[tokio::test]
async fn a_lost_stream_is_opened_again_by_the_same_instance() {
    let mut world = World::start().await;
    for _ in 0..3 {
        drop(world.stream);
        let (stream, hello) = world.coordinator.accept().await;
        assert_eq!(hello.instance, world.participant.instance().as_uuid().as_bytes());
        stream.welcome(OWNER).await;
        world.stream = stream;
    }
}

#[tokio::test]
async fn a_message_that_breaks_the_protocol_ends_the_stream() {
    let mut world = World::start().await;
    let commit = v1::Commit { id: None, branch: None, evidence: None };
    world.stream.send([ToParticipant::Commit(commit)]).await;
    while world.stream.try_recv().await.is_some() {}
    world.coordinator.welcome(OWNER).await;
}

#[tokio::test]
async fn a_coordinator_of_another_cluster_is_not_served() {
    let mut world = World::start().await;
    drop(world.stream);
    let (mut stream, _) = world.coordinator.accept().await;
    stream.welcome_to("c2", OWNER).await;
    while stream.try_recv().await.is_some() {}
    let _next = world.coordinator.accept().await;
    let SessionState::Detached { problem } = &world.participant.sessions()[0].state else {
        panic!("it is attached to")
    };
    assert!(problem.contains("cluster c2"), "{problem}");
}

#[tokio::test]
async fn a_resource_that_fails_its_check_is_left_out_until_it_passes() {
    let (bank, shop) = (Memory::new("bank-a"), Memory::new("shop"));
    let mut coordinator = Coordinator::start().await;
    let _participant = Participant::builder([coordinator.address.clone()])
        .resource(bank.clone())
        .resource(shop.clone())
        .start()
        .await
        .unwrap();
    let (stream, hello) = coordinator.accept().await;
    assert_eq!(hello.resources.len(), 2);
    stream.welcome(OWNER).await;
    shop.script(|script| script.check_fails = true);
    drop(stream);
    let (stream, hello) = coordinator.accept().await;
    assert_eq!(hello.resources.iter().map(|found| &*found.resource).collect::<Vec<_>>(), ["bank-a"]);
    stream.welcome(OWNER).await;
    shop.script(|script| script.check_fails = false);
    let (stream, hello) = coordinator.accept().await;
    assert_eq!(hello.resources.len(), 2);
    stream.welcome(OWNER).await;
}

#[tokio::test]
async fn a_start_that_cannot_work_is_refused_with_the_reason() {
    let bank = || Memory::new("bank-a");
    let address = "http://127.0.0.1:1";
    let none: [&str; 0] = [];
    let no_address = Participant::builder(none).resource(bank()).start().await;
    assert!(matches!(no_address, Err(StartError::Addresses { .. })), "{no_address:?}");
    let bad_address = Participant::builder(["nowhere"]).resource(bank()).start().await;
    assert!(matches!(bad_address, Err(StartError::Address(_))), "{bad_address:?}");
    let no_resource = Participant::builder([address]).start().await;
    assert!(matches!(no_resource, Err(StartError::Resources)), "{no_resource:?}");
    let twice = Participant::builder([address]).resource(bank()).resource(bank()).start().await;
    assert!(matches!(twice, Err(StartError::ResourceTwice { .. })), "{twice:?}");
    let locked = bank();
    locked.script(|script| script.check_fails = true);
    let error = Participant::builder([address]).resource(locked).start().await.unwrap_err();
    assert!(error.to_string().contains("unlock it"), "{error}");
}
