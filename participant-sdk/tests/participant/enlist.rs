//! Adding branches to transactions.

use std::time::Duration;

use pactum::participant::{EnlistError, Participant};
use pactum::{BranchId, Context, ResourceName};
use pactum_proto::error::{ErrorCode, call_error};
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as ToParticipant;

use crate::coordinator::{Coordinator, Stream};
use crate::memory::{Held, Memory};
use crate::{OWNER, World, context, id, participant};

const BRANCH: BranchId = BranchId::new(4);

async fn refuse(stream: &Stream, enlist: &v1::Enlist, retry_after: Option<Duration>) {
    let error = call_error(ErrorCode::CommitAlreadyAsked, "commit was asked already", retry_after);
    let answer = v1::EnlistAnswer { call_id: enlist.call_id, error: Some(error) };
    stream.send([ToParticipant::EnlistAnswer(answer)]).await;
}

/// E11: the same branch is enlisted again on the next stream.
#[tokio::test]
async fn an_enlistment_whose_answer_is_lost_is_repeated() {
    let mut world = World::start().await;
    let context = context(OWNER);
    world.bank.open(BRANCH);
    let (enlister, name) = (world.bank.enlister(), world.bank.resource_name().clone());
    let enlisting = tokio::spawn({
        let context = context.clone();
        async move { enlister.enlist(&context, &name, BRANCH).await }
    });
    let first = world.stream.enlist().await;
    drop(world.stream);
    let mut stream = world.coordinator.welcome(OWNER).await;
    let second = stream.accept_enlist().await;
    assert_eq!((&first.id, &first.branch), (&second.id, &second.branch));
    let branch = enlisting.await.unwrap().unwrap();
    assert_eq!(branch.instance, world.participant.instance());
    assert_eq!(context.enlisted(), [branch]);
    assert_eq!(world.bank.calls(), [""; 0]);
}

/// E11: two addresses lead to the owner, and the stream that owes the answer is the one that ends.
#[tokio::test]
async fn an_enlistment_is_repeated_on_the_stream_that_is_left() {
    let bank = Memory::new("bank-a");
    let (mut one, mut two) = (Coordinator::start().await, Coordinator::start().await);
    let participant = Participant::builder([one.address.clone(), two.address.clone()])
        .resource(bank.clone())
        .start()
        .await
        .unwrap();
    let mut left = one.welcome(OWNER).await;
    participant.attached().await;
    let mut ending = two.welcome(OWNER).await;
    while participant.sessions().iter().any(|status| !status.is_attached()) {
        tokio::task::yield_now().await;
    }
    let context = context(OWNER);
    bank.open(BRANCH);
    let (enlister, name) = (bank.enlister(), bank.resource_name().clone());
    let enlisting = tokio::spawn(async move { enlister.enlist(&context, &name, BRANCH).await });
    let first = ending.enlist().await;
    drop(ending);
    let second = left.accept_enlist().await;
    assert_eq!((&first.id, &first.branch), (&second.id, &second.branch));
    assert!(enlisting.await.unwrap().is_ok());
}

/// The process behind the address is another one: its incarnation will never answer.
#[tokio::test]
async fn an_enlistment_does_not_wait_for_an_owner_that_is_gone() {
    let mut world = World::start().await;
    let context = context(OWNER);
    world.bank.open(BRANCH);
    let (enlister, name) = (world.bank.enlister(), world.bank.resource_name().clone());
    let enlisting = tokio::spawn(async move { enlister.enlist(&context, &name, BRANCH).await });
    world.stream.enlist().await;
    drop(world.stream);
    let _stream = world.coordinator.welcome(OWNER + 1).await;
    assert!(matches!(enlisting.await.unwrap(), Err(EnlistError::Unanswered)));
    world.bank.until(|calls| calls == ["abort"]).await;
}

/// E10: the branch rolls back.
#[tokio::test]
async fn a_refused_enlistment_ends_the_branch() {
    let mut world = World::start().await;
    let context = context(OWNER);
    world.bank.open(BRANCH);
    let enlister = world.bank.enlister();
    let answering = async {
        let enlist = world.stream.enlist().await;
        refuse(&world.stream, &enlist, None).await;
    };
    let (added, ()) = tokio::join!(enlister.enlist(&context, world.bank.resource_name(), BRANCH), answering);
    let Err(EnlistError::Refused(refusal)) = added else { panic!("{added:?}") };
    assert_eq!(refusal.message(), "commit was asked already");
    assert!(refusal.code().starts_with("PACTUM-"));
    world.bank.until(|calls| calls == ["abort"]).await;
    assert_eq!(world.bank.held(BRANCH), Some(Held::Aborted));
    assert!(context.enlisted().is_empty());
}

#[tokio::test]
async fn a_refusal_for_now_is_repeated() {
    let mut world = World::start().await;
    let context = context(OWNER);
    world.bank.open(BRANCH);
    let enlister = world.bank.enlister();
    let answering = async {
        let enlist = world.stream.enlist().await;
        refuse(&world.stream, &enlist, Some(Duration::from_millis(1))).await;
        world.stream.accept_enlist().await;
    };
    let (added, ()) = tokio::join!(enlister.enlist(&context, world.bank.resource_name(), BRANCH), answering);
    assert_eq!(added.unwrap().id, BRANCH);
}

/// Only the owner enlists (law 9).
#[tokio::test]
async fn an_enlistment_goes_to_the_owner_and_waits_for_it() {
    let bank = Memory::new("bank-a");
    let (mut one, mut two) = (Coordinator::start().await, Coordinator::start().await);
    let _participant = Participant::builder([one.address.clone(), two.address.clone()])
        .resource(bank.clone())
        .start()
        .await
        .unwrap();
    let _stranger = one.welcome(1).await;
    let context = context(2);
    bank.open(BRANCH);
    let enlister = bank.enlister();
    let owner = async {
        let mut owner = two.welcome(2).await;
        owner.accept_enlist().await
    };
    let (added, seen) = tokio::join!(enlister.enlist(&context, bank.resource_name(), BRANCH), owner);
    assert_eq!(seen.branch.unwrap().id, BRANCH.number());
    assert_eq!(added.unwrap().id, BRANCH);
}

#[tokio::test]
async fn an_enlistment_ends_with_the_time_of_its_transaction() {
    let mut world = World::start().await;
    let short = |of| Context::new(id(of), Duration::from_millis(100));
    world.bank.open(BRANCH);
    let enlister = world.bank.enlister();
    let nobody = enlister.enlist(&short(OWNER + 1), world.bank.resource_name(), BRANCH).await;
    assert_eq!(nobody, Err(EnlistError::NotAttached));
    world.bank.until(|calls| calls.contains(&"abort".into())).await;

    let other = BranchId::new(5);
    world.bank.open(other);
    let context = short(OWNER);
    let (silent, seen) =
        tokio::join!(enlister.enlist(&context, world.bank.resource_name(), other), world.stream.enlist());
    assert_eq!(seen.branch.unwrap().id, 5);
    assert_eq!(silent, Err(EnlistError::Unanswered));
    world.bank.until(|calls| calls.len() == 2).await;

    let stranger = ResourceName::new("bank-z").unwrap();
    let unknown = enlister.enlist(&crate::context(OWNER), &stranger, BRANCH).await;
    assert_eq!(unknown, Err(EnlistError::UnknownResource { resource: stranger }));
}

/// Without a coordinator there is no cluster, hence no name for a branch.
#[tokio::test]
async fn nothing_enlists_before_the_first_attach() {
    let bank = Memory::new("bank-a");
    let coordinator = Coordinator::start().await;
    let _participant = participant(&coordinator, &bank).await;
    let context = Context::new(id(OWNER), Duration::from_millis(50));
    let enlisted = bank.enlister().enlist(&context, bank.resource_name(), BRANCH).await;
    assert_eq!(enlisted, Err(EnlistError::NotAttached));
    assert_eq!(bank.enlister().cluster(), None);
    assert_eq!(bank.enlister().prepared_name(context.id(), BRANCH), None);
}

/// E1: Prepare never comes.
#[tokio::test]
async fn open_work_is_ended_at_the_deadline() {
    let mut world = World::start().await;
    let context = Context::new(id(OWNER), Duration::from_millis(300));
    world.bank.open(BRANCH);
    let enlister = world.bank.enlister();
    let (added, _) = tokio::join!(
        enlister.enlist(&context, world.bank.resource_name(), BRANCH),
        world.stream.accept_enlist()
    );
    assert_eq!(added.unwrap().id, BRANCH);
    world.bank.until(|calls| calls == ["abort"]).await;
    assert_eq!(world.bank.held(BRANCH), Some(Held::Aborted));
}
