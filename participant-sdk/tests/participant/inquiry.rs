//! When a branch in doubt is asked about, and whom: at start, at each attach, on a period, and when its
//! owner's stream is lost for longer than the grace (A2, A3, C2, C3, C10). In simulated time.

use std::time::Duration;

use pactum::BranchId;
use pactum::participant::{Participant, ParticipantBuilder};
use pactum_core::id::{Cluster, PreparedName};
use pactum_proto::v1;
use pactum_proto::v1::inquiry_answer::Answer;
use tokio::time::{Instant, sleep};

use crate::coordinator::{Coordinator, Stream, prepare};
use crate::memory::{Held, Memory};
use crate::network::Network;
use crate::{context, id, until};

/// Longer than any test's whole life.
const NEVER: Duration = Duration::from_hours(1);

const BOTH: [(u128, &str); 2] = [(1, "one:1"), (2, "two:1")];

/// A participant that was given one address, attached to two coordinators; the first is the owner.
struct World {
    network: Network,
    one: Coordinator,
    two: Coordinator,
    owner: Stream,
    other: Stream,
    participant: Participant,
    bank: Memory,
}

impl World {
    async fn start(settings: impl FnOnce(ParticipantBuilder) -> ParticipantBuilder) -> Self {
        let network = Network::default();
        let bank = Memory::new("bank-a");
        let mut one = Coordinator::listen(&network, &["one:1"]);
        let mut two = Coordinator::listen(&network, &["two:1"]);
        let builder = Participant::builder(["http://one:1"]).connector(network.connector());
        let participant = settings(builder.resource(bank.clone())).start().await.unwrap();
        let owner = one.welcome_naming(1, &BOTH).await;
        let other = two.welcome_naming(2, &BOTH).await;
        until(|| participant.sessions().iter().filter(|session| session.is_attached()).count() == 2).await;
        Self { network, one, two, owner, other, participant, bank }
    }

    /// Work of a transaction of the first coordinator, prepared.
    async fn prepared(&mut self) -> BranchId {
        let branch = BranchId::new(7);
        self.bank.open(branch);
        let (enlister, context) = (self.bank.enlister(), context(1));
        let (added, seen) = tokio::join!(
            enlister.enlist(&context, self.bank.resource_name(), branch),
            self.owner.accept_enlist()
        );
        added.unwrap();
        self.owner.send([prepare(&seen.id.unwrap(), &seen.branch.unwrap())]).await;
        self.owner.vote().await;
        branch
    }

    /// A branch that some process has prepared, found by the next scan.
    fn found(&self, number: u64) -> BranchId {
        let branch = BranchId::new(number);
        let name = PreparedName { cluster: Cluster::new("c1").unwrap(), id: id(1), branch };
        self.bank.put_prepared(name, &format!("x{number}"));
        branch
    }
}

/// A2: the owner dies after the vote. Its stream's loss is the reason to ask, long before the branch's
/// own patience is over; *wait* is asked again until the answer is definite.
#[tokio::test(start_paused = true)]
async fn a_lost_owner_is_asked_about_elsewhere_after_the_grace() {
    let mut world = World::start(|builder| builder.scan_interval(NEVER)).await;
    let branch = world.prepared().await;
    let lost_at = Instant::now();
    world.network.close("one:1");
    drop((world.owner, world.one));
    let inquiry = world.other.inquiry().await;
    let waited = lost_at.elapsed();
    assert!(waited >= Duration::from_secs(2), "an owner gets its grace to come back: {waited:?}");
    assert!(waited < Duration::from_secs(5), "nothing but the grace is waited for: {waited:?}");
    assert_eq!(inquiry.branch.as_ref().unwrap().id, branch.number());
    world.other.answer(inquiry, Answer::Wait(true)).await;
    let inquiry = world.other.inquiry().await;
    world.other.answer(inquiry, Answer::Abort(true)).await;
    world.bank.until(|calls| calls == ["prepare", "abort"]).await;
    assert_eq!(world.bank.held(branch), Some(Held::Aborted));
    assert_eq!(world.participant.violations(), 0);
}

/// A6: the same with a decision that stands.
#[tokio::test(start_paused = true)]
async fn what_a_dead_owner_had_committed_is_committed() {
    let mut world = World::start(|builder| builder.scan_interval(NEVER)).await;
    let branch = world.prepared().await;
    world.network.close("one:1");
    drop((world.owner, world.one));
    let inquiry = world.other.inquiry().await;
    let evidence = inquiry.evidence.clone().unwrap();
    world.other.answer(inquiry, Answer::Commit(evidence)).await;
    world.bank.until(|calls| calls == ["prepare", "commit"]).await;
    world.participant.shutdown().await;
    assert_eq!(world.bank.held(branch), Some(Held::Committed("x1".into())));
}

/// E9: what was prepared behind our back while nobody scans is asked about at the next attach.
#[tokio::test(start_paused = true)]
async fn every_attach_is_a_reason_to_ask() {
    let mut world = World::start(|builder| builder.scan_interval(NEVER)).await;
    let branch = world.found(3);
    drop(world.owner);
    let mut owner = world.one.welcome_naming(1, &BOTH).await;
    let inquiry = owner.inquiry().await;
    assert_eq!(inquiry.branch.as_ref().unwrap().id, branch.number());
    owner.answer(inquiry, Answer::Abort(true)).await;
    until(|| world.bank.held(branch) == Some(Held::Aborted)).await;
}

/// C2, C10: and on a period, also if no stream is ever lost.
#[tokio::test(start_paused = true)]
async fn what_is_prepared_is_asked_about_on_a_period() {
    let mut world = World::start(|builder| builder).await;
    sleep(Duration::from_mins(1)).await;
    for number in 3..6 {
        let branch = world.found(number);
        let inquiry = world.owner.inquiry().await;
        assert_eq!(inquiry.branch.as_ref().unwrap().id, branch.number());
        world.owner.answer(inquiry, Answer::Abort(true)).await;
        until(|| world.bank.held(branch) == Some(Held::Aborted)).await;
    }
}

/// A10: an owner that hangs with its stream open is not asked alone.
#[tokio::test(start_paused = true)]
async fn an_owner_that_hangs_is_passed_over() {
    let mut world = World::start(|builder| builder).await;
    let branch = world.found(3);
    let asked = world.owner.inquiry().await;
    assert_eq!(asked.branch.unwrap().id, branch.number());
    // It never answers.
    let inquiry = world.other.inquiry().await;
    world.other.answer(inquiry, Answer::Abort(true)).await;
    until(|| world.bank.held(branch) == Some(Held::Aborted)).await;
}

/// A11: the owner comes back as another incarnation: what it owned is asked of it as of anybody.
#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_back_as_another_incarnation_is_asked_like_anybody() {
    let mut world = World::start(|builder| builder.scan_interval(NEVER)).await;
    let branch = world.prepared().await;
    drop(world.owner);
    world.network.close("two:1");
    drop((world.other, world.two));
    let mut restarted = world.one.welcome_naming(3, &[(3, "one:1")]).await;
    let inquiry = restarted.inquiry().await;
    let owner: v1::TransactionId = inquiry.id.clone().unwrap();
    assert_eq!(owner.incarnation, 1_u128.to_be_bytes());
    restarted.answer(inquiry, Answer::Abort(true)).await;
    until(|| world.bank.held(branch) == Some(Held::Aborted)).await;
    assert_eq!(world.participant.violations(), 0);
}
