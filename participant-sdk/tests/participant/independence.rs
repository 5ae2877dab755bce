//! What hangs delays nothing but itself (F3, F6): neither another resource nor another branch. In
//! simulated time; whatever hangs here hangs for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use pactum::BranchId;
use pactum::participant::Participant;
use pactum_core::id::{Cluster, PreparedName};
use pactum_proto::v1;
use pactum_proto::v1::BranchOutcome as Outcome;
use pactum_proto::v1::inquiry_answer::Answer;
use pactum_proto::v1::participant_message::Message as FromParticipant;

use crate::coordinator::{Coordinator, Stream, commit, prepare, prepare_operation};
use crate::memory::{Held, Memory};
use crate::network::Network;
use crate::{OWNER, id, until};

/// Two resources of one participant.
struct World {
    coordinator: Coordinator,
    stream: Stream,
    participant: Participant,
    sick: Memory,
    well: Memory,
}

impl World {
    async fn start() -> Self {
        let network = Network::default();
        let (sick, well) = (Memory::new("sick"), Memory::new("well"));
        let mut coordinator = Coordinator::listen(&network, &["one:1"]);
        let participant = Participant::builder(["http://one:1"])
            .connector(network.connector())
            .resource(sick.clone())
            .resource(well.clone())
            .start()
            .await
            .unwrap();
        let stream = coordinator.welcome(OWNER).await;
        participant.attached().await;
        Self { coordinator, stream, participant, sick, well }
    }

    fn branch(&self, resource: &str, id: u64) -> v1::Branch {
        let instance = self.participant.instance().as_uuid().as_bytes().to_vec();
        v1::Branch { id, resource: resource.into(), instance, marker: false }
    }

    /// Has a branch of a transaction of its own executed and prepared.
    async fn prepared(&mut self, resource: &str, number: u64) -> (v1::TransactionId, v1::Branch) {
        let (id, branch) = (id(OWNER).into(), self.branch(resource, number));
        self.stream.send([prepare_operation(&id, &branch, "debit")]).await;
        self.stream.vote().await;
        (id, branch)
    }

    /// The next vote, which is to be a yes: of which branch, and the execution.
    async fn promise(&mut self) -> (v1::TransactionId, v1::Branch, String) {
        let FromParticipant::Vote(vote) = self.stream.recv().await else { panic!("another message") };
        let Some(v1::vote::Vote::Commit(evidence)) = vote.vote else { panic!("another vote") };
        (vote.id.unwrap(), vote.branch.unwrap(), evidence.execution)
    }
}

fn found(number: u64) -> PreparedName {
    let cluster = Cluster::new("c1").unwrap();
    PreparedName { cluster, id: id(OWNER), branch: BranchId::new(number) }
}

#[tokio::test(start_paused = true)]
async fn a_prepare_hook_that_hangs_delays_no_other_resource() {
    let mut world = World::start().await;
    world.sick.script(|script| script.hanging_hook = Some("prepare"));
    // More than run at once: the rest waits behind them.
    let many = (0..2000)
        .map(|number| prepare_operation(&id(OWNER).into(), &world.branch("sick", 1000 + number), "debit"));
    let many: Vec<_> = many.collect();
    for some in many.chunks(500) {
        world.stream.send(some.to_vec()).await;
    }
    let (id, branch) = world.prepared("well", 1).await;
    world.stream.send([commit(&id, &branch, "x1")]).await;
    assert_eq!(world.stream.finished().await, Outcome::Committed);
    assert!(world.sick.calls().iter().all(|call| call == "prepare hangs"));
}

#[tokio::test(start_paused = true)]
async fn a_commit_hook_that_hangs_delays_no_other_resource_and_no_other_branch() {
    let mut world = World::start().await;
    let (dead, dead_branch) = world.prepared("sick", 1).await;
    let (alive, alive_branch) = world.prepared("sick", 2).await;
    let (other, other_branch) = world.prepared("well", 3).await;
    world.sick.script(|script| script.hanging_branches.extend([BranchId::new(1)]));
    world.stream.send([commit(&dead, &dead_branch, "x1")]).await;
    world.sick.until(|calls| calls.contains(&"commit hangs".into())).await;
    world.stream.send([commit(&alive, &alive_branch, "x2"), commit(&other, &other_branch, "x1")]).await;
    for _ in 0..2 {
        assert_eq!(world.stream.finished().await, Outcome::Committed);
    }
    assert_eq!(world.sick.held(BranchId::new(1)), Some(Held::Prepared("x1".into())));
    assert_eq!(world.sick.held(BranchId::new(2)), Some(Held::Committed("x2".into())));
    assert_eq!(world.well.held(BranchId::new(3)), Some(Held::Committed("x1".into())));
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_hangs_at_prepare_delays_no_other_branch() {
    let mut world = World::start().await;
    world.sick.script(|script| script.hanging_branches.extend([BranchId::new(1)]));
    let (id, branch): (v1::TransactionId, _) = (id(OWNER).into(), world.branch("sick", 1));
    world.stream.send([prepare_operation(&id, &branch, "debit"), prepare(&id, &branch)]).await;
    let (id, branch) = world.prepared("sick", 2).await;
    world.stream.send([commit(&id, &branch, "x1")]).await;
    assert_eq!(world.stream.finished().await, Outcome::Committed);
}

/// Hooks that are due at once are begun together, and each ends by itself.
#[tokio::test(start_paused = true)]
async fn what_waits_delays_nothing_that_came_with_it() {
    let mut world = World::start().await;
    let all: Vec<_> = (1..=9).map(|number| (id(OWNER).into(), world.branch("sick", number))).collect();
    world.sick.script(|script| script.hanging_branches.extend([1, 4, 5, 9].map(BranchId::new)));
    let prepares = all.iter().map(|(id, branch)| prepare_operation(id, branch, "debit"));
    world.stream.send(prepares.collect::<Vec<_>>()).await;
    let mut commits = BTreeMap::new();
    for _ in 0..5 {
        let (id, branch, execution) = world.promise().await;
        commits.insert(branch.id, commit(&id, &branch, &execution));
    }
    assert_eq!(commits.keys().copied().collect::<Vec<_>>(), [2, 3, 6, 7, 8]);
    world.stream.send(commits.into_values()).await;
    for _ in 0..5 {
        assert_eq!(world.stream.finished().await, Outcome::Committed);
    }
    let hang = world.sick.calls().iter().filter(|call| *call == "prepare hangs").count();
    assert_eq!(hang, 4);
}

/// Such a hook breaks its contract: it holds up its own resource, and nothing beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hook_that_blocks_its_thread_delays_no_other_resource() {
    let mut world = World::start().await;
    let _release = world.sick.release();
    world.sick.script(|script| script.blocking_hook = Some("prepare"));
    let (blocked, id): (v1::TransactionId, v1::TransactionId) = (id(OWNER).into(), id(OWNER).into());
    let (blocked_branch, branch) = (world.branch("sick", 1), world.branch("well", 2));
    let both =
        [prepare_operation(&blocked, &blocked_branch, "debit"), prepare_operation(&id, &branch, "debit")];
    world.stream.send(both).await;
    let (id, branch, execution) = world.promise().await;
    assert_eq!(branch.id, 2);
    world.stream.send([commit(&id, &branch, &execution)]).await;
    assert_eq!(world.stream.finished().await, Outcome::Committed);
    until(|| world.sick.calls() == ["prepare blocks"]).await;
    assert_eq!(world.sick.held(BranchId::new(1)), None);
}

/// C10: one database that does not list what it holds keeps no other one's branches in doubt.
#[tokio::test(start_paused = true)]
async fn a_scan_that_hangs_delays_no_other_resource() {
    let mut world = World::start().await;
    world.sick.script(|script| script.hanging_hook = Some("recover"));
    world.sick.until(|calls| calls.contains(&"recover hangs".into())).await;
    let name = found(4);
    world.well.put_prepared(name.clone(), "x4");
    let inquiry = world.stream.inquiry().await;
    assert_eq!(inquiry.branch.as_ref().unwrap().resource, "well");
    world.stream.answer(inquiry, Answer::Abort(true)).await;
    until(|| world.well.held(name.branch) == Some(Held::Aborted)).await;
}

/// C3: a participant re-attaches for its healthy databases at once, and for the sick one when it is well.
#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_keeps_no_other_resource_from_being_attached_with() {
    let mut world = World::start().await;
    world.sick.script(|script| script.hanging_hook = Some("check"));
    let lost_at = tokio::time::Instant::now();
    drop(world.stream);
    let (stream, hello) = world.coordinator.accept().await;
    assert!(lost_at.elapsed() < Duration::from_secs(2), "{:?}", lost_at.elapsed());
    let names = |hello: &v1::Hello| hello.resources.iter().map(|it| it.resource.clone()).collect::<Vec<_>>();
    assert_eq!(names(&hello), ["well"]);
    stream.name(OWNER, &[]).await;
    world.sick.script(|script| script.hanging_hook = None);
    let (stream, hello) = world.coordinator.accept().await;
    assert_eq!(names(&hello), ["sick", "well"]);
    stream.name(OWNER, &[]).await;
    world.participant.shutdown().await;
}

/// Those that are merely slow are waited for without keeping anybody waiting, and then all are there to stay.
#[tokio::test(start_paused = true)]
async fn resources_that_are_slow_to_check_take_part_all_of_them() {
    let network = Network::default();
    let [quick, slow, slower] = ["quick", "slow", "slower"].map(Memory::new);
    let mut coordinator = Coordinator::listen(&network, &["one:1"]);
    let builder = Participant::builder(["http://one:1"]).connector(network.connector());
    let builder = builder.resource(quick).resource(slow.clone()).resource(slower.clone());
    let _participant = builder.start().await.unwrap();
    let mut streams = vec![coordinator.welcome(OWNER).await];
    slow.script(|script| script.check_takes = Duration::from_secs(2));
    slower.script(|script| script.check_takes = Duration::from_secs(3));
    for _ in 0..2 {
        drop(streams);
        streams = Vec::new();
        let mut attached = Vec::new();
        while attached.last() != Some(&3) {
            let (stream, hello) = coordinator.accept().await;
            stream.name(OWNER, &[]).await;
            attached.push(hello.resources.len());
            assert!(attached.len() <= 3, "they take turns: {attached:?}");
            streams.push(stream);
        }
        assert_eq!(attached, [1, 2, 3]);
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert!(!coordinator.is_called());
    }
}

/// A failing branch is repeated by itself, however long; what else is asked of its resource is done.
#[tokio::test(start_paused = true)]
async fn a_branch_that_fails_again_and_again_delays_no_other_branch() {
    let mut world = World::start().await;
    let (dead, dead_branch) = world.prepared("sick", 1).await;
    let (alive, alive_branch) = world.prepared("sick", 2).await;
    world.sick.script(|script| script.failing_branches.extend([BranchId::new(1)]));
    world.stream.send([commit(&dead, &dead_branch, "x1"), commit(&alive, &alive_branch, "x2")]).await;
    let (mut failed, mut finished) = (0, 0);
    while failed < 3 || finished < 1 {
        match world.stream.recv().await {
            FromParticipant::Failed(message) => {
                assert_eq!(message.branch.unwrap().id, 1);
                failed += 1;
                world.stream.send([commit(&dead, &dead_branch, "x1")]).await;
            }
            FromParticipant::Finished(message) => {
                let outcome = message.outcome();
                assert_eq!((message.branch.unwrap().id, outcome), (2, Outcome::Committed));
                finished += 1;
            }
            FromParticipant::Inquiry(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.sick.held(BranchId::new(1)), Some(Held::Prepared("x1".into())));
}
