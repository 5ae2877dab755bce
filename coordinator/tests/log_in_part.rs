//! A log that serves some calls and not, or slowly, others: what its answers are needed for waits, and
//! nothing else does.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::{Node, config, soon, until};
use pactum_coordinator::decision_log::contract::{branch, commit, gid};
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::{
    AuditDraft, AuditEntry, AuditPage, DecisionLog, DecisionLogError, DecisionWriter, FinishUpdate,
    HeuristicRecord, ListPage, LogStatus, LogView, NumberedCommit, Release, StoredHeuristic,
    StoredTransaction, UndecidedRecord,
};
use pactum_coordinator::{Coordinator, Listeners};
use pactum_core::id::{Cluster, Gid, Incarnation};
use pactum_core::outcome::{HeuristicOutcome, LookUpResult, ProposalResult};
use pactum_proto::v1;
use v1::OutcomeState;

/// Around a log in memory.
#[derive(Clone, Debug, Default)]
struct Partial {
    log: MemoryLog,
    part: Arc<Part>,
}

/// What does not work.
#[derive(Debug, Default)]
struct Part {
    no_heartbeats: AtomicBool,
    no_heuristics: AtomicBool,
    slow_pages: AtomicBool,
    beats: AtomicU64,
    pages: AtomicU64,
}

fn unless(broken: &AtomicBool) -> Result<(), DecisionLogError> {
    if broken.load(Ordering::Relaxed) { Err(DecisionLogError::Database("as ordered".into())) } else { Ok(()) }
}

#[async_trait]
impl DecisionLog for Partial {
    fn kind(&self) -> &'static str {
        self.log.kind()
    }

    fn cluster(&self) -> &Cluster {
        self.log.cluster()
    }

    async fn start_incarnation(&self, address: &str) -> Result<Incarnation, DecisionLogError> {
        self.log.start_incarnation(address).await
    }

    async fn heartbeat(&self, incarnation: Incarnation) -> Result<LogView, DecisionLogError> {
        unless(&self.part.no_heartbeats)?;
        self.part.beats.fetch_add(1, Ordering::Relaxed);
        self.log.heartbeat(incarnation).await
    }

    async fn end_incarnation(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        self.log.end_incarnation(incarnation).await
    }

    async fn open_writer(&self) -> Result<Box<dyn DecisionWriter>, DecisionLogError> {
        self.log.open_writer().await
    }

    async fn look_up(&self, gids: &[Gid]) -> Result<Vec<LookUpResult>, DecisionLogError> {
        self.log.look_up(gids).await
    }

    async fn unrecovered_incarnations(&self) -> Result<Vec<Incarnation>, DecisionLogError> {
        self.log.unrecovered_incarnations().await
    }

    async fn unfinished_commits(
        &self,
        incarnation: Incarnation,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<NumberedCommit>, DecisionLogError> {
        if self.part.slow_pages.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.part.pages.fetch_add(1, Ordering::Relaxed);
            return self.log.unfinished_commits(incarnation, after, limit.min(2)).await;
        }
        self.log.unfinished_commits(incarnation, after, limit).await
    }

    async fn mark_recovered(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        self.log.mark_recovered(incarnation).await
    }

    async fn record_finished(&self, update: &FinishUpdate) -> Result<(), DecisionLogError> {
        self.log.record_finished(update).await
    }

    async fn record_undecided(
        &self,
        add: &[UndecidedRecord],
        remove: &[Gid],
    ) -> Result<(), DecisionLogError> {
        self.log.record_undecided(add, remove).await
    }

    async fn record_heuristics(&self, heuristics: &[HeuristicRecord]) -> Result<(), DecisionLogError> {
        unless(&self.part.no_heuristics)?;
        self.log.record_heuristics(heuristics).await
    }

    async fn heuristics(&self, gids: &[Gid]) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        unless(&self.part.no_heuristics)?;
        self.log.heuristics(gids).await
    }

    async fn raise_floor(&self, to: Gid) -> Result<Gid, DecisionLogError> {
        self.log.raise_floor(to).await
    }

    async fn delete_below_floor(&self, limit: u32) -> Result<u64, DecisionLogError> {
        self.log.delete_below_floor(limit).await
    }

    async fn newest_older_than(&self, age: Duration) -> Result<Option<Gid>, DecisionLogError> {
        self.log.newest_older_than(age).await
    }

    async fn list(&self, page: &ListPage) -> Result<Vec<StoredTransaction>, DecisionLogError> {
        self.log.list(page).await
    }

    async fn status(&self) -> Result<LogStatus, DecisionLogError> {
        self.log.status().await
    }

    async fn release(&self, which: Release, reason: &str) -> Result<u64, DecisionLogError> {
        self.log.release(which, reason).await
    }

    async fn doubt_all(&self, reason: &str) -> Result<(), DecisionLogError> {
        self.log.doubt_all(reason).await
    }

    async fn doubted_of(
        &self,
        incarnations: &[Incarnation],
    ) -> Result<BTreeSet<Incarnation>, DecisionLogError> {
        self.log.doubted_of(incarnations).await
    }

    async fn list_heuristics(
        &self,
        before: Option<Gid>,
        limit: u32,
    ) -> Result<Vec<StoredHeuristic>, DecisionLogError> {
        self.log.list_heuristics(before, limit).await
    }

    async fn forget_heuristics(&self, gid: Gid) -> Result<u64, DecisionLogError> {
        self.log.forget_heuristics(gid).await
    }

    async fn clear_agreeing_heuristics(&self) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        self.log.clear_agreeing_heuristics().await
    }

    async fn append_audit(&self, draft: &AuditDraft) -> Result<AuditEntry, DecisionLogError> {
        self.log.append_audit(draft).await
    }

    async fn audit(&self, page: AuditPage, limit: u32) -> Result<Vec<AuditEntry>, DecisionLogError> {
        self.log.audit(page, limit).await
    }

    async fn unended_audits(&self) -> Result<Vec<AuditEntry>, DecisionLogError> {
        self.log.unended_audits().await
    }
}

impl Partial {
    async fn node(&self) -> Node {
        Node::over(config(), Arc::new(self.clone()), self.log.clone()).await
    }

    /// So many commits of a coordinator that has died.
    async fn orphans(&self, count: u64) -> Incarnation {
        let dead = self.log.start_incarnation("elsewhere").await.unwrap();
        let proposals: Vec<_> = (1..=count).map(|number| commit(dead, gid(number), number)).collect();
        let written = self.log.open_writer().await.unwrap().write(dead, &proposals).await;
        assert!(written.iter().all(|result| *result == ProposalResult::Won), "{written:?}");
        self.log.end_incarnation(dead).await.unwrap();
        dead
    }
}

/// A prepared branch that is asked about before we know who else lives would be closed under its
/// living owner's hands.
#[tokio::test]
async fn nobody_is_served_before_it_is_known_who_else_lives() {
    let log = Partial::default();
    log.part.no_heartbeats.store(true, Ordering::Relaxed);
    let config = config();
    let listeners = Listeners::bind(&config).await.unwrap();
    let coordinator = Coordinator::start(listeners, Arc::new(log.clone()), config).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), coordinator.ready()).await;
    assert!(early.is_err(), "ready before it has seen the others");
    log.part.no_heartbeats.store(false, Ordering::Relaxed);
    soon("an incarnation", coordinator.ready()).await;
    soon("the stop", coordinator.stop()).await.unwrap();
}

#[tokio::test]
async fn a_long_recovery_does_not_hold_up_the_heartbeats_f5() {
    let log = Partial::default();
    let dead = log.orphans(9).await;
    log.part.slow_pages.store(true, Ordering::Relaxed);
    let node = log.node().await;
    until("two pages", async || log.part.pages.load(Ordering::Relaxed) >= 2).await;
    let beats = log.part.beats.load(Ordering::Relaxed);
    until("two more", async || log.part.pages.load(Ordering::Relaxed) >= 4).await;
    assert!(log.part.beats.load(Ordering::Relaxed) > beats, "none between the pages");
    until("all", async || node.coordinator.transactions_open() == 9).await;
    until("the mark", async || log.part.pages.load(Ordering::Relaxed) >= 6).await;
    assert_eq!(log.log.unfinished_commits(dead, None, 100).await.unwrap().len(), 9, "none has finished");
}

/// What was listed from a page is handed over from it: no commit is read twice.
#[tokio::test]
async fn whoever_lists_what_is_unfinished_reads_it_once() {
    let log = Partial::default();
    let dead = log.orphans(9).await;
    log.part.slow_pages.store(true, Ordering::Relaxed);
    let node = log.node().await;
    until("the mark", async || {
        let status = log.log.status().await.unwrap();
        !status.incarnations.iter().any(|seen| seen.incarnation == dead && !seen.recovered)
    })
    .await;
    until("all", async || node.coordinator.transactions_open() == 9).await;
    assert_eq!(log.part.pages.load(Ordering::Relaxed), 6, "five pages of two, and one that shows the end");
}

#[tokio::test]
async fn an_outcome_whose_heuristics_cannot_be_read_is_unknown_law_5() {
    let log = Partial::default();
    let dead = log.orphans(1).await;
    let id = commit(dead, gid(1), 1).record.id;
    let heuristic = HeuristicRecord { id, branch: branch(1), outcome: HeuristicOutcome::Aborted };
    log.log.record_heuristics(&[heuristic]).await.unwrap();
    let update = FinishUpdate { mark: Some((dead, 1)), ..FinishUpdate::default() };
    log.log.record_finished(&update).await.unwrap();
    log.part.no_heuristics.store(true, Ordering::Relaxed);
    let node = log.node().await;
    let name = v1::TransactionId {
        incarnation: dead.as_uuid().as_bytes().to_vec(),
        gid: id.gid.as_uuid().as_bytes().to_vec(),
    };
    assert_eq!(node.outcome(&name, &[]).await, OutcomeState::Unknown);
    log.part.no_heuristics.store(false, Ordering::Relaxed);
    assert_eq!(node.outcome(&name, &[]).await, OutcomeState::Committed);
    node.end().await;
}

/// A crash in between would lose the heuristic outcome: nobody drives a finished commit again.
#[tokio::test]
async fn a_commit_is_not_recorded_as_finished_before_its_heuristic_outcome_g2() {
    let log = Partial::default();
    let node = log.node().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let own = Incarnation::from_slice(&id.incarnation).unwrap();
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    log.part.no_heuristics.store(true, Ordering::Relaxed);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    b.finished(&id, &in_b, v1::BranchOutcome::HeuristicAborted).await;
    soon("the outcome", commit).await.unwrap().unwrap();
    let unfinished = async || log.log.unfinished_commits(own, None, 10).await.unwrap().len();
    // Longer than several rounds of end records.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(unfinished().await, 1);
    log.part.no_heuristics.store(false, Ordering::Relaxed);
    until("the end record", async || unfinished().await == 0).await;
    let gid = Gid::from_slice(&id.gid).unwrap();
    assert_eq!(log.log.heuristics(&[gid]).await.unwrap().len(), 1);
    node.end().await;
}

/// H10: it cannot know whether another one has ended it meanwhile, so it starts nothing; back at the log
/// it finds that it was, aborts what it had not proposed, and goes on as another incarnation.
#[tokio::test]
async fn a_coordinator_that_cannot_reach_the_log_starts_nothing_and_comes_back_as_another_h10() {
    let log = Partial::default();
    let node = log.node().await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    log.part.no_heartbeats.store(true, Ordering::Relaxed);
    until("the news", async || {
        let info = node.admin.clone().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
        !info.into_inner().log_available
    })
    .await;
    let refused = soon("a refusal", node.commit(&id, &[&in_a], v1::Wait::Finished)).await.unwrap();
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unavailable);
    log.end_incarnation(Incarnation::from_slice(&id.incarnation).unwrap()).await.unwrap();
    log.part.no_heartbeats.store(false, Ordering::Relaxed);
    a.ack_abort(&id, &in_a).await;
    until("a new incarnation", async || {
        let drawn = node.draw().await.incarnation;
        !drawn.is_empty() && drawn != id.incarnation
    })
    .await;
    let again = node.draw().await;
    let in_a = a.enlist(&again, 2).await;
    let commit = node.commit(&again, &[&in_a], v1::Wait::Finished);
    a.vote_commit().await;
    a.ack_commit(&again, &in_a).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), OutcomeState::Committed);
    node.end().await;
}
