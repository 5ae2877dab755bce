//! What a coordinator leaves undone is taken over by the others, each its share, at a bearable pace.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use common::{Node, Participant, config, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::contract::gid;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::{DecisionLog, Proposal};
use pactum_coordinator::observe::{Observer, Step};
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{DecidedBranch, Decision, DecisionRecord, ProposalResult};
use pactum_core::vote::Evidence;
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as Down;

/// Commits of an incarnation that nobody drives: number and resource of each.
async fn orphans(log: &MemoryLog, dead: Incarnation, commits: impl Iterator<Item = (u64, &str)>) {
    let proposals: Vec<Proposal> = commits
        .map(|(number, resource)| {
            let branch = Branch {
                id: BranchId::new(1),
                resource: ResourceName::new(resource).unwrap(),
                instance: InstanceId::from_uuid(uuid::Uuid::from_u128(1)),
                marker: false,
            };
            let decided = DecidedBranch { branch, evidence: Evidence::new("1", "here") };
            let record = DecisionRecord {
                id: TransactionId { incarnation: dead, gid: gid(number) },
                decision: Decision::Commit,
                reason: None,
                branches: Arc::new([decided]),
                details: Arc::default(),
            };
            Proposal { record, number }
        })
        .collect();
    let written = log.open_writer().await.unwrap().write(dead, &proposals).await;
    assert!(written.iter().all(|result| *result == ProposalResult::Won));
}

/// A participant that commits whatever it is told to, until it is dropped.
struct Committer {
    committed: Arc<Mutex<Vec<Gid>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Committer {
    fn start(mut participant: Participant) -> Self {
        let committed = Arc::<Mutex<Vec<Gid>>>::default();
        let seen = Arc::clone(&committed);
        let task = tokio::spawn(async move {
            while let Ok(Some(message)) = participant.receive().await {
                if let Down::Commit(commit) = message {
                    let id = commit.id.unwrap();
                    seen.lock().unwrap().push(Gid::from_slice(&id.gid).unwrap());
                    let branch = commit.branch.unwrap();
                    participant.finished(&id, &branch, v1::BranchOutcome::Committed).await;
                }
            }
        });
        Self { committed, task }
    }

    async fn at(node: &Node, resource: &str) -> Self {
        Self::start(node.participant(resource).await)
    }

    fn committed(&self) -> BTreeSet<Gid> {
        self.committed.lock().unwrap().iter().copied().collect()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn unfinished(log: &MemoryLog, of: Incarnation) -> usize {
    log.unfinished_commits(of, None, 100_000).await.unwrap().len()
}

/// Counts the commits of each reading of an ended incarnation.
fn scans() -> (Observer, Arc<Mutex<Vec<usize>>>) {
    let scans = Arc::<Mutex<Vec<usize>>>::default();
    let record = Arc::clone(&scans);
    let observer = Observer::new(move |step: &Step| {
        if let Step::RecoveryScanned { commits, .. } = step {
            record.lock().unwrap().push(*commits);
        }
    });
    (observer, scans)
}

const ORPHANS: u64 = 600;

fn all() -> BTreeSet<Gid> {
    (1..=ORPHANS).map(gid).collect()
}

#[tokio::test]
async fn a6_a12_the_living_share_what_a_dead_coordinator_left() {
    let log = MemoryLog::new();
    let dead = log.start_incarnation("elsewhere").await.unwrap();
    orphans(&log, dead, (1..=ORPHANS).map(|number| (number, "bank-a"))).await;
    let (first_observer, first_scans) = scans();
    let (second_observer, second_scans) = scans();
    let first = Node::with(Config { observer: first_observer, ..config() }, log.clone()).await;
    let second = Node::with(Config { observer: second_observer, ..config() }, log.clone()).await;
    let (at_first, at_second) =
        (Committer::at(&first, "bank-a").await, Committer::at(&second, "bank-a").await);
    // Both see the dead one's heartbeat stand still for a lease; nothing else holds them up.
    until("every commit's end", async || {
        &at_first.committed() | &at_second.committed() == all() && unfinished(&log, dead).await == 0
    })
    .await;
    let shares = (at_first.committed(), at_second.committed());
    // About half each. While only one of them knows that the other one is there, some come twice.
    for share in [&shares.0, &shares.1] {
        assert!(share.len() > 600 / 4, "{}", share.len());
    }
    assert!(shares.0.intersection(&shares.1).count() < 600 / 2);
    for scans in [first_scans, second_scans] {
        assert!(!scans.lock().unwrap().is_empty(), "the end of the reading is a step");
    }
    drop((at_first, at_second));
    first.end().await;
    second.end().await;
}

/// A6: the second one takes over its share as well when the first dies with it in hand.
#[tokio::test]
async fn a6_a_member_that_dies_in_the_middle_of_its_share_leaves_it_to_the_others() {
    let log = MemoryLog::new();
    let dead = log.start_incarnation("elsewhere").await.unwrap();
    orphans(&log, dead, (1..=ORPHANS).map(|number| (number, "bank-a"))).await;
    let first = Node::with(config(), log.clone()).await;
    let second = Node::with(config(), log.clone()).await;
    // Nobody is attached to the first: it drives its share in vain.
    until("the first one's share", async || first.coordinator.transactions_open() > 100).await;
    let at_second = Committer::at(&second, "bank-a").await;
    until("the second one's share", async || at_second.committed().len() > 100).await;
    first.coordinator.kill();
    until("every commit's end", async || at_second.committed() == all() && unfinished(&log, dead).await == 0)
        .await;
    drop(at_second);
    second.end().await;
}

/// Everything is listed before anything of it is driven, so the incarnation is done with at once and the
/// floor is not held up by what waits for a participant (D5).
#[tokio::test]
async fn what_is_left_is_listed_although_nobody_can_finish_it() {
    let log = MemoryLog::new();
    let dead = log.start_incarnation("elsewhere").await.unwrap();
    orphans(&log, dead, (1..=20).map(|number| (number, "bank-a"))).await;
    let node = Node::with(config(), log.clone()).await;
    until("the mark", async || {
        let status = log.status().await.unwrap();
        status.incarnations.iter().all(|seen| seen.incarnation != dead)
    })
    .await;
    assert_eq!(log.raise_floor(gid(20)).await.unwrap(), gid(20), "listed ones do not bar it");
    assert_eq!(unfinished(&log, dead).await, 20, "and none is forgotten");
    let a = Committer::at(&node, "bank-a").await;
    until("every commit's end", async || unfinished(&log, dead).await == 0).await;
    drop(a);
    node.end().await;
}

/// Listed by whoever had read it before it finished: it is found by looking again.
#[tokio::test]
async fn a_straggler_that_was_listed_after_it_had_finished_does_not_stay() {
    use pactum_coordinator::decision_log::FinishUpdate;
    let log = MemoryLog::new();
    let dead = log.start_incarnation("elsewhere").await.unwrap();
    orphans(&log, dead, [(1, "bank-a")].into_iter()).await;
    let node = Node::with(config(), log.clone()).await;
    let a = Committer::at(&node, "bank-a").await;
    until("its end", async || a.committed().len() == 1 && unfinished(&log, dead).await == 0).await;
    let add_stragglers = vec![TransactionId { incarnation: dead, gid: gid(1) }];
    log.record_finished(&FinishUpdate { add_stragglers, ..FinishUpdate::default() }).await.unwrap();
    assert_eq!(unfinished(&log, dead).await, 1);
    until("its end", async || unfinished(&log, dead).await == 0).await;
    drop(a);
    node.end().await;
}

/// F5, F6: far more waits for one participant than its outbox holds. It is not cut off, another
/// resource's commits are not behind, and neither is what is new.
#[tokio::test]
async fn f5_f6_a_backlog_is_paced_and_delays_neither_others_nor_what_is_new() {
    let log = MemoryLog::new();
    let dead = log.start_incarnation("elsewhere").await.unwrap();
    let resource = |number: u64| if number.is_multiple_of(10) { "bank-b" } else { "bank-a" };
    orphans(&log, dead, (1..=3000).map(|number| (number, resource(number)))).await;
    log.end_incarnation(dead).await.unwrap();
    let small = Config { outbox_messages_max: 16, retry_cap: config().retry_first, ..config() };
    let node = Node::with(small, log.clone()).await;
    until("all of them", async || node.coordinator.transactions_open() == 3000).await;
    // The first attaches and does not read; the other one's commits go out all the same.
    let unread = node.participant("bank-a").await;
    let b = Committer::at(&node, "bank-b").await;
    until("the other resource's commits", async || b.committed().len() == 300).await;
    let mut c = node.participant("bank-c").await;
    let id = node.draw().await;
    let in_c = c.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_c], v1::Wait::Finished);
    c.vote_commit().await;
    c.ack_commit(&id, &in_c).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), v1::OutcomeState::Committed);
    // Now it reads, on the same stream: it was never cut off.
    let a = Committer::start(unread);
    until("every commit's end", async || unfinished(&log, dead).await == 0).await;
    assert_eq!(a.committed().len(), 2700);
    assert!(!a.task.is_finished());
    drop((a, b, c));
    node.end().await;
}

/// A re-attach after an outage: our own commits, more than the outbox holds, in one go.
#[tokio::test]
async fn f5_a_participant_that_comes_back_to_more_than_its_outbox_holds_is_not_cut_off() {
    // Nothing is repeated by a timer: what follows, follows because there is room.
    let never = std::time::Duration::from_mins(10);
    let patient = Config { outbox_messages_max: 16, retry_first: never, retry_cap: never, ..config() };
    let node = Node::with(patient, MemoryLog::new()).await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let instance = a.instance;
    let mut commits = Vec::new();
    for _ in 0..200 {
        let id = node.draw().await;
        let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
        let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Decision);
        a.vote_commit().await;
        b.vote_commit().await;
        b.ack_commit(&id, &in_b).await;
        assert_eq!(soon("the decision", commit).await.unwrap().unwrap().state(), v1::OutcomeState::Committed);
        // What it is told it does not do; so all of them are left.
        assert!(matches!(a.next().await, Down::Commit(_)));
        commits.push(Gid::from_slice(&id.gid).unwrap());
    }
    drop(a);
    let back = Participant::attach(&node, instance, &[("bank-a", false)]).await.unwrap();
    let a = Committer::start(back);
    until("every commit's end", async || node.coordinator.transactions_open() == 0).await;
    assert_eq!(a.committed(), commits.into_iter().collect());
    assert!(!a.task.is_finished(), "cut off");
    drop((a, b));
    node.end().await;
}

/// C5: the instance that enlisted is attached and hangs; another one finishes its branch.
#[tokio::test]
async fn c5_an_instance_that_hangs_is_passed_over() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let second = Committer::at(&node, "bank-a").await;
    let third = Committer::at(&node, "bank-a").await;
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    b.ack_commit(&id, &in_b).await;
    // It is asked first, and never answers.
    assert!(matches!(a.next().await, Down::Commit(_)));
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), v1::OutcomeState::Committed);
    until("the end", async || node.coordinator.transactions_open() == 0).await;
    assert!(second.committed().len() + third.committed().len() >= 1);
    drop((a, b, second, third));
    node.end().await;
}
