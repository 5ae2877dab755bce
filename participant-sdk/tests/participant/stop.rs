//! Stopping, and the steps told to an observer.

use std::sync::{Arc, Mutex};

use pactum::BranchId;
use pactum::observe::Observer;
use pactum::participant::{EnlistError, Participant};

use crate::coordinator::{Coordinator, commit, prepare};
use crate::memory::{Held, Memory};
use crate::{OWNER, World, context};

#[tokio::test]
async fn shutting_down_ends_what_is_open_and_leaves_what_is_prepared() {
    let mut world = World::start().await;
    let (id, prepared) = world.enlisted().await;
    world.stream.send([prepare(&id, &prepared)]).await;
    world.stream.vote().await;
    let (_, open) = world.enlisted().await;
    let enlister = world.bank.enlister();
    world.participant.shutdown().await;
    assert_eq!(world.bank.held(BranchId::new(open.id)), Some(Held::Aborted));
    assert_eq!(world.bank.held(BranchId::new(prepared.id)), Some(Held::Prepared("x1".into())));
    while world.stream.try_recv().await.is_some() {}
    let late = enlister.enlist(&context(OWNER), world.bank.resource_name(), BranchId::new(1)).await;
    assert_eq!(late, Err(EnlistError::Stopping));
}

#[tokio::test]
async fn shutting_down_waits_for_running_hooks_and_sends_what_they_came_to() {
    let mut world = World::start().await;
    let (id, branch) = world.enlisted().await;
    world.bank.gate(false);
    world.stream.send([prepare(&id, &branch)]).await;
    world.bank.until(|calls| calls == ["prepare"]).await;
    let bank = world.bank.clone();
    let opening = async move {
        tokio::task::yield_now().await;
        bank.gate(true);
    };
    tokio::join!(world.participant.shutdown(), opening);
    world.stream.vote().await;
}

#[tokio::test]
async fn a_dropped_participant_lets_go_of_its_streams() {
    let mut world = World::start().await;
    drop(world.participant);
    while world.stream.try_recv().await.is_some() {}
}

#[tokio::test]
async fn every_step_that_a_crash_could_split_is_told_in_order() {
    let steps: Arc<Mutex<Vec<&str>>> = Arc::default();
    let seen = Arc::clone(&steps);
    let observer = Observer::new(move |step| {
        if step.gid().is_some() {
            seen.lock().unwrap().push(step.name());
        }
    });
    let mut coordinator = Coordinator::start().await;
    let bank = Memory::new("bank-a");
    let participant = Participant::builder([coordinator.address.clone()])
        .resource(bank.clone())
        .observer(observer)
        .start()
        .await
        .unwrap();
    let stream = coordinator.welcome(OWNER).await;
    let mut world = World { coordinator, stream, participant, bank };
    let (id, branch) = world.enlisted().await;
    world.stream.send([prepare(&id, &branch)]).await;
    world.stream.vote().await;
    world.stream.send([commit(&id, &branch, "x1")]).await;
    world.stream.finished().await;
    world.participant.shutdown().await;
    let expected = [
        "work-done",
        "prepare-received",
        "prepared",
        "vote-sent",
        "decision-received",
        "branch-ended",
        "ack-sent",
    ];
    assert_eq!(*steps.lock().unwrap(), expected);
}
