//! What operators ask through a coordinator: each answer with its call's id, on the stream that asked,
//! and never in anybody's way (laws 8 and 11).

use std::time::Duration;

use pactum::participant::{EnlistError, Participant, SessionStatus};
use pactum::resource::{BLOCKED_SESSIONS_MAX, BranchContext, HookError, Prepared, PreparedBranch};
use pactum::resource::{Registration, Resource};
use pactum::{AbortReason, BranchId, Cluster, ResourceName};
use pactum_core::coordinator::Operation;
use pactum_core::id::PreparedName;
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::Evidence;
use pactum_proto::v1;
use pactum_proto::v1::BranchOutcome as Outcome;
use pactum_proto::v1::BranchPresence as Presence;
use pactum_proto::v1::vote::Vote;
use tokio::time::Instant;

use crate::coordinator::{
    Coordinator, Stream, abort, commit, examine, overrule, prepare, prepare_operation, set_draining,
};
use crate::memory::{Held, Memory};
use crate::network::Network;
use crate::{OWNER, World, context, id, until};

impl World {
    /// Enlisted and prepared as the execution `x1`.
    async fn prepared(&mut self) -> (v1::TransactionId, v1::Branch) {
        let (id, branch) = self.enlisted().await;
        self.stream.send([prepare(&id, &branch)]).await;
        assert!(matches!(self.stream.vote().await, Vote::Commit(_)));
        (id, branch)
    }

    fn branch(&self, number: u64) -> v1::Branch {
        let instance = self.participant.instance().as_uuid().as_bytes().to_vec();
        v1::Branch { id: number, resource: "bank-a".into(), instance, marker: false }
    }
}

#[tokio::test]
async fn each_branch_asked_for_is_answered_with_what_is_held_of_it() {
    let mut world = World::start().await;
    let (id, prepared) = world.prepared().await;
    let (open_id, open) = world.enlisted().await;
    let (other, unheard) = (crate::id(OWNER).into(), world.branch(99));
    let asked = [(&open_id, &open), (&id, &prepared), (&other, &unheard)];
    world.stream.send([examine(41, "bank-a", &asked)]).await;
    let answer = world.stream.examined().await;
    assert_eq!((answer.call_id, &*answer.resource, &*answer.problem), (41, "bank-a", ""));
    let found: Vec<_> = answer.findings.iter().map(|found| (found.branch, found.presence())).collect();
    let expected = [(open.id, Presence::Open), (prepared.id, Presence::Prepared), (99, Presence::Unknown)];
    assert_eq!(found, expected);
    assert_eq!(answer.findings[1].evidence.as_ref().unwrap().execution, "x1");
    assert!(answer.findings[0].evidence.is_none() && !answer.more);
    assert_eq!(answer.findings[1].id.as_ref(), Some(&id));

    // What is prepared, whoever prepared it.
    world.stream.send([examine(42, "bank-a", &[])]).await;
    let answer = world.stream.examined().await;
    assert_eq!((answer.call_id, answer.findings.len(), answer.more), (42, 1, false));
    assert_eq!(answer.findings[0].branch, prepared.id);

    world.stream.send([commit(&id, &prepared, "x1"), abort(&open_id, &open)]).await;
    world.stream.finished().await;
    world.stream.finished().await;
    world.stream.send([examine(43, "bank-a", &asked)]).await;
    let answer = world.stream.examined().await;
    let found: Vec<_> = answer.findings.iter().map(v1::BranchFinding::presence).collect();
    assert_eq!(found, [Presence::Aborted, Presence::Committed, Presence::Unknown]);
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_says_why() {
    let mut world = World::start().await;
    world.stream.send([examine(1, "bank-z", &[])]).await;
    let answer = world.stream.examined().await;
    assert_eq!((answer.call_id, &*answer.resource), (1, "bank-z"));
    assert!(answer.problem.contains("not one of this participant's"), "{answer:?}");
    world.bank.script(|script| script.panicking_hook = Some("examine"));
    world.stream.send([examine(2, "bank-a", &[(&id(OWNER).into(), &world.branch(1))])]).await;
    let answer = world.stream.examined().await;
    assert_eq!((answer.call_id, answer.findings.len()), (2, 0));
    assert!(answer.problem.contains("panicked"), "{answer:?}");
}

/// Two coordinators number their calls alike, and each hears its own answer.
#[tokio::test]
async fn two_coordinators_that_ask_at_once_each_hear_their_own_answer() {
    let network = Network::default();
    let bank = Memory::new("bank-a");
    let (mut one, mut two) =
        (Coordinator::listen(&network, &["one:1"]), Coordinator::listen(&network, &["two:1"]));
    let builder = Participant::builder(["http://one:1", "http://two:1"]).connector(network.connector());
    let participant = builder.resource(bank.clone()).start().await.unwrap();
    let (mut first, mut second) = (one.welcome(1).await, two.welcome(2).await);
    until(|| participant.sessions().iter().all(SessionStatus::is_attached)).await;
    let (of_one, of_two): (v1::TransactionId, v1::TransactionId) = (id(1).into(), id(2).into());
    let branch = |number| v1::Branch { id: number, resource: "bank-a".into(), ..v1::Branch::default() };
    let (in_one, in_two) = (branch(1), branch(2));
    first.send([examine(7, "bank-a", &[(&of_one, &in_one)])]).await;
    second.send([examine(7, "bank-a", &[(&of_two, &in_two)])]).await;
    let answers = (second.examined().await, first.examined().await);
    assert_eq!((answers.0.call_id, answers.1.call_id), (7, 7));
    assert_eq!((answers.0.findings[0].branch, answers.1.findings[0].branch), (2, 1));
}

/// F3, F6: whatever hangs here hangs for ever, in simulated time.
#[tokio::test(start_paused = true)]
async fn a_question_that_hangs_delays_no_branch_and_is_given_up() {
    let network = Network::default();
    let (bank, well) = (Memory::new("bank-a"), Memory::new("well"));
    let mut coordinator = Coordinator::listen(&network, &["one:1"]);
    let builder = Participant::builder(["http://one:1"]).connector(network.connector());
    let participant = builder.resource(bank.clone()).resource(well.clone()).start().await.unwrap();
    let mut stream = coordinator.welcome(OWNER).await;
    participant.attached().await;
    bank.script(|script| script.hanging_hook = Some("examine"));
    let instance = participant.instance().as_uuid().as_bytes().to_vec();
    let branch = |number, resource: &str| v1::Branch {
        id: number,
        resource: resource.into(),
        instance: instance.clone(),
        marker: false,
    };
    let transaction: v1::TransactionId = id(OWNER).into();
    let (in_bank, in_well) = (branch(1, "bank-a"), branch(2, "well"));
    let began = Instant::now();
    // More than run at once, and more than may wait.
    for call in 0..100 {
        stream.send([examine(call, "bank-a", &[(&transaction, &in_bank)])]).await;
    }
    stream.send([examine(500, "well", &[(&transaction, &in_well)])]).await;
    stream.send([prepare_operation(&transaction, &in_bank, "debit")]).await;
    let (mut refused, mut answered, mut votes) = (0, 0, 0);
    while answered + votes < 2 {
        match stream.recv().await {
            v1::participant_message::Message::Examined(examined) if examined.call_id == 500 => {
                assert_eq!(examined.problem, "");
                answered += 1;
            }
            v1::participant_message::Message::Examined(examined) => {
                assert!(examined.problem.contains("ask again later"), "{examined:?}");
                refused += 1;
            }
            v1::participant_message::Message::Vote(_) => votes += 1,
            other => panic!("{other:?}"),
        }
    }
    stream.send([commit(&transaction, &in_bank, "x1")]).await;
    let mut given_up = 0;
    let mut finished = false;
    while refused + given_up < 100 || !finished {
        match stream.recv().await {
            v1::participant_message::Message::Examined(examined) => {
                if examined.problem.contains("in time") {
                    given_up += 1;
                    assert!(finished, "the branch had to wait for the questions");
                } else {
                    refused += 1;
                }
            }
            v1::participant_message::Message::Finished(done) => {
                assert_eq!(done.outcome(), Outcome::Committed);
                assert_eq!(done.branch.as_ref(), Some(&in_bank), "the whole branch");
                finished = true;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0 && given_up > 0, "{refused} {given_up}");
    assert!(began.elapsed() < Duration::from_secs(10), "each question has one bound, its turn included");
}

/// D8: ended by hand against the decision that comes later.
#[tokio::test]
async fn an_overruled_branch_answers_its_decision_with_a_heuristic_outcome() {
    for (by_hand, decided, expected) in [
        (false, true, Outcome::HeuristicAborted),
        (true, true, Outcome::Committed),
        (false, false, Outcome::Aborted),
    ] {
        let mut world = World::start().await;
        let (id, branch) = world.prepared().await;
        world.stream.send([overrule(9, &id, &branch, "x1", by_hand)]).await;
        let answer = world.stream.overruled().await;
        let presence = if by_hand { Presence::Committed } else { Presence::Aborted };
        assert_eq!((answer.call_id, answer.presence(), &*answer.problem), (9, presence, ""));
        let decision = if decided { commit(&id, &branch, "x1") } else { abort(&id, &branch) };
        world.stream.send([decision]).await;
        assert_eq!(world.stream.finished().await, expected);
    }
}

#[tokio::test]
async fn what_was_not_done_is_told_with_how_the_branch_stands() {
    let mut world = World::start().await;
    let (id, branch) = world.prepared().await;
    // Another execution than the one that is prepared.
    world.stream.send([overrule(1, &id, &branch, "x9", true)]).await;
    let answer = world.stream.overruled().await;
    assert_eq!((answer.call_id, answer.presence()), (1, Presence::Prepared));
    assert!(answer.problem.contains("another execution"), "{answer:?}");
    world.bank.script(|script| script.refusing_hook = Some("overrule"));
    world.stream.send([overrule(2, &id, &branch, "x1", true)]).await;
    let answer = world.stream.overruled().await;
    assert_eq!((answer.call_id, answer.presence()), (2, Presence::Prepared));
    assert!(answer.problem.contains("ask the owner"), "{answer:?}");
    world.bank.script(|script| script.refusing_hook = None);
    // It had ended the other way before.
    world.stream.send([commit(&id, &branch, "x1")]).await;
    world.stream.finished().await;
    world.stream.send([overrule(3, &id, &branch, "x1", false)]).await;
    let answer = world.stream.overruled().await;
    assert_eq!((answer.call_id, answer.presence()), (3, Presence::Committed));
    assert!(answer.problem.contains("committed already"), "{answer:?}");
    let elsewhere = v1::Branch { resource: "bank-z".into(), ..branch };
    world.stream.send([overrule(4, &id, &elsewhere, "x1", false)]).await;
    let answer = world.stream.overruled().await;
    assert!(
        answer.presence() == Presence::Unknown && answer.problem.starts_with("nothing was done"),
        "{answer:?}"
    );
}

/// Law 5: what does not come back is neither done nor undone.
#[tokio::test(start_paused = true)]
async fn an_overruling_that_hangs_is_told_as_unknown() {
    let network = Network::default();
    let bank = Memory::new("bank-a");
    let mut coordinator = Coordinator::listen(&network, &["one:1"]);
    let builder = Participant::builder(["http://one:1"]).connector(network.connector());
    let participant = builder.resource(bank.clone()).start().await.unwrap();
    let stream = coordinator.welcome(OWNER).await;
    participant.attached().await;
    let mut world = World { coordinator, stream, participant, bank };
    let (id, branch) = world.prepared().await;
    world.bank.script(|script| script.hanging_hook = Some("overrule"));
    world.stream.send([overrule(1, &id, &branch, "x1", true)]).await;
    world.bank.until(|calls| calls.contains(&"overrule hangs".into())).await;
    world.stream.send([examine(2, "bank-a", &[(&id, &branch)])]).await;
    assert_eq!(world.stream.examined().await.findings[0].presence(), Presence::Prepared);
    tokio::time::advance(Duration::from_mins(3)).await;
    let answer = answer_among_inquiries(&mut world.stream).await;
    assert_eq!((answer.call_id, answer.presence()), (1, Presence::Unknown));
    assert!(answer.problem.contains("not known"), "{answer:?}");
}

/// The branch asks about itself as time goes by.
async fn answer_among_inquiries(stream: &mut Stream) -> v1::OverruleAnswer {
    loop {
        match stream.recv().await {
            v1::participant_message::Message::OverruleAnswer(answer) => return answer,
            v1::participant_message::Message::Inquiry(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn while_draining_nothing_new_is_taken_and_what_was_begun_goes_on() {
    let mut world = World::start().await;
    let (prepared, prepared_branch) = world.prepared().await;
    let (begun, begun_branch) = world.enlisted().await;
    world.stream.send([set_draining(true)]).await;
    assert!(world.stream.draining().await);
    assert!(world.participant.is_draining());

    let (context, enlister) = (context(OWNER), world.bank.enlister());
    let refused = enlister.enlist(&context, world.bank.resource_name(), BranchId::new(5)).await;
    assert_eq!(refused, Err(EnlistError::Draining));
    assert!(context.enlisted().is_empty());
    let one_shot = id(OWNER).into();
    world.stream.send([prepare_operation(&one_shot, &world.branch(6), "debit")]).await;
    let Vote::Abort(reason) = world.stream.vote().await else { panic!("it voted yes") };
    assert!(reason.message.contains("draining"), "{reason:?}");
    assert_eq!(world.bank.held(BranchId::new(6)), None, "nothing was executed");

    world.stream.send([prepare(&begun, &begun_branch)]).await;
    assert!(matches!(world.stream.vote().await, Vote::Commit(_)));
    world.stream.send([commit(&prepared, &prepared_branch, "x1"), commit(&begun, &begun_branch, "x2")]).await;
    for _ in 0..2 {
        assert_eq!(world.stream.finished().await, Outcome::Committed);
    }

    // Said again, it is answered again; and it is said after each attach.
    world.stream.send([set_draining(true)]).await;
    assert!(world.stream.draining().await);
    drop(world.stream);
    let mut stream = world.coordinator.welcome(OWNER).await;
    assert!(stream.draining().await);
    world.participant.resume();
    assert!(!stream.draining().await);
    assert!(!world.participant.is_draining());
    world.stream = stream;
    world.enlisted().await;
}

#[tokio::test]
async fn every_coordinator_is_told_of_draining_whoever_ordered_it() {
    let network = Network::default();
    let bank = Memory::new("bank-a");
    let (mut one, mut two) =
        (Coordinator::listen(&network, &["one:1"]), Coordinator::listen(&network, &["two:1"]));
    let builder = Participant::builder(["http://one:1", "http://two:1"]).connector(network.connector());
    let participant = builder.resource(bank.clone()).start().await.unwrap();
    let (mut first, mut second) = (one.welcome(1).await, two.welcome(2).await);
    until(|| participant.sessions().iter().all(SessionStatus::is_attached)).await;
    participant.drain();
    assert!(first.draining().await && second.draining().await);
    second.send([set_draining(false)]).await;
    assert!(!first.draining().await && !second.draining().await);
    assert!(!participant.is_draining());
}

/// A resource with none but the hooks that it must have.
struct Plain(Memory);

impl Resource for Plain {
    fn name(&self) -> &ResourceName {
        self.0.resource_name()
    }

    async fn check(&self) -> Result<Registration, HookError> {
        self.0.check().await
    }

    async fn prepare(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> Result<Prepared, AbortReason> {
        self.0.prepare(branch, operation).await
    }

    async fn commit(
        &self,
        branch: &BranchContext,
        decided: &Evidence,
        prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        self.0.commit(branch, decided, prepared).await
    }

    async fn abort(
        &self,
        branch: &BranchContext,
        prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        self.0.abort(branch, prepared).await
    }

    async fn recover(&self, cluster: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
        self.0.recover(cluster).await
    }
}

#[tokio::test]
async fn a_resource_without_these_hooks_shows_what_it_lists_and_refuses_to_be_overruled() {
    let bank = Memory::new("bank-a");
    let name = |number: u64| PreparedName {
        cluster: Cluster::new("c1").unwrap(),
        id: id(OWNER),
        branch: BranchId::new(number),
    };
    let names: Vec<PreparedName> = (1..=3).map(name).collect();
    for name in &names {
        bank.put_prepared(name.clone(), "x1");
    }
    let mut coordinator = Coordinator::start().await;
    let _participant = Participant::builder([coordinator.address.clone()])
        .resource(Plain(bank.clone()))
        // Far off, so that no inquiry comes in between but the first.
        .scan_interval(Duration::from_hours(1))
        .start()
        .await
        .unwrap();
    let mut stream = coordinator.welcome(OWNER).await;
    for _ in &names {
        stream.inquiry().await;
    }
    let branch = |number| v1::Branch { id: number, resource: "bank-a".into(), ..v1::Branch::default() };
    let transaction: v1::TransactionId = names[0].id.into();
    let (first, unheard) = (branch(1), branch(9));
    stream.send([examine(1, "bank-a", &[(&transaction, &first), (&transaction, &unheard)])]).await;
    let answer = stream.examined().await;
    let found: Vec<_> = answer.findings.iter().map(|found| (found.branch, found.presence())).collect();
    assert_eq!(found, [(1, Presence::Prepared), (9, Presence::Unknown)], "never gone");
    let all = v1::Examine { call_id: 2, resource: "bank-a".into(), limit: 2, ..v1::Examine::default() };
    stream.send([v1::coordinator_message::Message::Examine(all)]).await;
    let answer = stream.examined().await;
    assert_eq!((answer.findings.len(), answer.more), (2, true));
    assert!(answer.findings.iter().all(|found| found.blocked.len() <= BLOCKED_SESSIONS_MAX));
    stream.send([overrule(3, &transaction, &first, "x1", true)]).await;
    let answer = stream.overruled().await;
    assert_eq!(answer.presence(), Presence::Prepared);
    assert!(answer.problem.contains("cannot be overruled"), "{answer:?}");
    assert_eq!(bank.held(BranchId::new(1)), Some(Held::Prepared("x1".into())));
}
