//! Group commit: each proposal that was taken is answered exactly once, whatever happens. And the end
//! records of what was written.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's failure")]

use std::sync::Arc;
use std::time::Duration;

use pactum_coordinator::decision_log::contract::{abort, branch, commit, gid};
use pactum_coordinator::decision_log::finisher::{Finisher, FinisherConfig};
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::writer::{Answer, LogWriter, Reply, WriterConfig};
use pactum_coordinator::decision_log::{DecisionLog, ListPage, Proposal, UndecidedRecord};
use pactum_core::id::{Gid, Incarnation};
use pactum_core::outcome::{Details, LookUpResult, ProposalResult};
use tokio::sync::mpsc;

/// Longer than anything here takes, so that reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(30);

struct Fixture {
    log: MemoryLog,
    writer: LogWriter,
    own: Incarnation,
    reply: Reply,
    answers: mpsc::UnboundedReceiver<Vec<Answer>>,
}

impl Fixture {
    async fn new(config: WriterConfig) -> Self {
        let log = MemoryLog::new();
        let own = log.start_incarnation("here").await.unwrap();
        let writer = LogWriter::start(Arc::new(log.clone()), config);
        let (sender, answers) = mpsc::unbounded_channel();
        let reply: Reply = Arc::new(move |answers| drop(sender.send(answers)));
        Self { log, writer, own, reply, answers }
    }

    fn submit(&self, gids: impl Iterator<Item = u64>) -> Result<(), usize> {
        let proposals = gids.map(|n| abort(self.own, gid(n))).collect();
        self.writer.try_submit(self.own, proposals, &self.reply).map_err(|rest| rest.len())
    }

    async fn answers(&mut self, count: usize) -> Vec<Answer> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(tokio::time::timeout(LIMIT, self.answers.recv()).await.unwrap().unwrap());
        }
        assert_eq!(all.len(), count);
        all
    }

    async fn is_available(&self, expected: bool) {
        let mut available = self.writer.available();
        tokio::time::timeout(LIMIT, available.wait_for(|now| *now == expected)).await.unwrap().unwrap();
    }
}

fn one_lane() -> WriterConfig {
    WriterConfig { lanes: 1, ..WriterConfig::default() }
}

#[tokio::test]
async fn what_waits_while_a_write_runs_becomes_one_batch() {
    let mut fixture = Fixture::new(one_lane()).await;
    fixture.log.faults().pause();
    fixture.submit(1..=1).unwrap();
    // Taken by the lane, and held there.
    while fixture.log.faults().writes() == 0 {
        tokio::task::yield_now().await;
    }
    for n in 2..=500 {
        fixture.submit(n..=n).unwrap();
    }
    fixture.log.faults().resume();
    let answers = fixture.answers(500).await;
    assert!(answers.iter().all(|answer| answer.result == ProposalResult::Won));
    assert_eq!(fixture.log.faults().writes(), 2, "one for the first, one for all that waited");
}

#[tokio::test]
async fn a_full_queue_gives_back_what_it_did_not_take_and_loses_nothing() {
    let mut fixture = Fixture::new(WriterConfig { queue_rows: 10, ..one_lane() }).await;
    fixture.log.faults().pause();
    fixture.submit(1..=1).unwrap();
    while fixture.log.faults().writes() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.submit(2..=20), Err(9));
    assert!(!fixture.writer.has_room());
    fixture.log.faults().resume();
    tokio::time::timeout(LIMIT, fixture.writer.room()).await.unwrap();
    fixture.submit(12..=20).unwrap();
    let mut gids: Vec<Gid> = fixture.answers(20).await.iter().map(|answer| answer.id.gid).collect();
    gids.sort();
    assert_eq!(gids, (1..=20).map(gid).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lost_answer_is_unknown_at_once_and_the_next_attempt_finds_what_stands() {
    let mut fixture = Fixture::new(one_lane()).await;
    fixture.log.faults().fail_next_writes(1, true);
    let proposal = commit(fixture.own, gid(1), 1);
    fixture.writer.try_submit(fixture.own, vec![proposal.clone()], &fixture.reply).unwrap();
    assert_eq!(fixture.answers(1).await[0].result, ProposalResult::Unknown);
    fixture.writer.try_submit(fixture.own, vec![proposal.clone()], &fixture.reply).unwrap();
    assert_eq!(fixture.answers(1).await[0].result, ProposalResult::Lost(Box::new(proposal.record)));
}

#[tokio::test]
async fn while_the_log_is_away_proposals_are_answered_unknown_and_its_return_is_told() {
    let mut fixture = Fixture::new(WriterConfig::default()).await;
    fixture.is_available(true).await;
    fixture.log.faults().refuse_connections(true);
    fixture.submit(1..=3).unwrap();
    assert!(fixture.answers(3).await.iter().all(|answer| answer.result == ProposalResult::Unknown));
    // The other lane has an idle connection that fails with its next write.
    fixture.submit(4..=6).unwrap();
    assert!(fixture.answers(3).await.iter().all(|answer| answer.result == ProposalResult::Unknown));
    fixture.is_available(false).await;
    assert!(fixture.writer.last_error().is_some());
    fixture.log.faults().refuse_connections(false);
    fixture.is_available(true).await;
    fixture.submit(7..=7).unwrap();
    assert_eq!(fixture.answers(1).await[0].result, ProposalResult::Won);
}

#[tokio::test]
async fn shutting_down_writes_what_waits_and_takes_no_more() {
    let mut fixture = Fixture::new(WriterConfig { batch_rows: 7, ..WriterConfig::default() }).await;
    fixture.submit(1..=100).unwrap();
    fixture.writer.shut_down(LIMIT).await;
    assert!(fixture.answers(100).await.iter().all(|answer| answer.result == ProposalResult::Won));
    assert_eq!(fixture.submit(101..=102), Err(2));
    assert!(fixture.writer.is_closed());
}

#[tokio::test]
async fn what_cannot_be_written_in_time_is_answered_unknown_at_the_end() {
    let mut fixture = Fixture::new(one_lane()).await;
    fixture.log.faults().pause();
    fixture.submit(1..=1).unwrap();
    while fixture.log.faults().writes() == 0 {
        tokio::task::yield_now().await;
    }
    fixture.submit(2..=5).unwrap();
    fixture.writer.shut_down(Duration::from_millis(10)).await;
    assert!(fixture.answers(4).await.iter().all(|answer| answer.result == ProposalResult::Unknown));
    // The write under way is not cancelled: it ends by itself, and answers.
    fixture.log.faults().resume();
    assert_eq!(fixture.answers(1).await[0].result, ProposalResult::Won);
    let found = fixture.log.look_up(&[gid(2)]).await.unwrap();
    assert_eq!(found, [LookUpResult::NoRecord]);
}

#[tokio::test]
async fn dropping_the_last_handle_still_answers_everything() {
    let fixture = Fixture::new(one_lane()).await;
    fixture.submit(1..=10).unwrap();
    let Fixture { writer, mut answers, reply, .. } = fixture;
    drop((writer, reply));
    let mut count = 0;
    while let Some(more) = tokio::time::timeout(LIMIT, answers.recv()).await.unwrap() {
        count += more.len();
    }
    assert_eq!(count, 10);
}

#[tokio::test]
async fn prepare_records_are_written_after_the_decisions_and_removed_when_forgotten() {
    let mut fixture = Fixture::new(one_lane()).await;
    let record = |n: u64| UndecidedRecord {
        id: abort(fixture.own, gid(n)).record.id,
        branches: vec![branch(1)],
        details: Details::default(),
        age: Duration::from_secs(1),
    };
    let listed = async |log: &MemoryLog| -> Vec<Gid> {
        let page = ListPage { limit: 100, unfinished_only: true, ..ListPage::default() };
        log.list(&page).await.unwrap().iter().map(|stored| stored.id.gid).collect()
    };
    fixture.log.faults().pause();
    fixture.submit(1..=1).unwrap();
    while fixture.log.faults().writes() == 0 {
        tokio::task::yield_now().await;
    }
    fixture.submit(2..=2).unwrap();
    fixture.writer.record_undecided(record(10));
    fixture.writer.record_undecided(record(11));
    fixture.writer.forget_undecided(gid(11));
    assert_eq!(listed(&fixture.log).await, [], "a decision waits");
    fixture.log.faults().resume();
    fixture.answers(2).await;
    let written = async {
        while listed(&fixture.log).await != [gid(10)] {
            tokio::task::yield_now().await;
        }
        fixture.writer.forget_undecided(gid(10));
        while !listed(&fixture.log).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, written).await.unwrap();
}

#[tokio::test]
async fn a_finished_commit_is_not_found_unfinished_and_a_recovered_one_is_taken_off_when_it_ends() {
    let log = MemoryLog::new();
    let shared: Arc<dyn DecisionLog> = Arc::new(log.clone());
    let finisher = Finisher::start(Arc::clone(&shared), FinisherConfig { patience: 0, ..Default::default() });
    let own = log.start_incarnation("here").await.unwrap();
    let mut writer = log.open_writer().await.unwrap();
    let mut proposals = Vec::new();
    for n in 1..=4 {
        let proposal = commit(own, gid(n), 0);
        let number = finisher.number_for(proposal.record.id);
        proposals.push(Proposal { number, ..proposal });
    }
    // The third is never written: its fate was unknown, then it lost.
    writer.write(own, &[proposals[0].clone(), proposals[1].clone(), proposals[3].clone()]).await;
    finisher.finished(proposals[0].record.id);
    finisher.not_committed(proposals[2].record.id);
    finisher.flush().await.unwrap();
    let left = async |log: &MemoryLog| -> Vec<u64> {
        log.unfinished_commits(own, None, 10).await.unwrap().iter().map(|commit| commit.number).collect()
    };
    assert_eq!(left(&log).await, [2, 4]);
    drop(finisher);
    // The process dies; the next one recovers what is left.
    let finisher = Finisher::start(shared, FinisherConfig::default());
    log.end_incarnation(own).await.unwrap();
    let found = log.unfinished_commits(own, None, 10).await.unwrap();
    let ids: Vec<_> = found.iter().map(|commit| commit.record.id).collect();
    finisher.recovered(&ids).await.unwrap();
    log.mark_recovered(own).await.unwrap();
    assert_eq!(left(&log).await, [2, 4], "still found, should this one die too");
    finisher.finished(ids[0]);
    finisher.flush().await.unwrap();
    assert_eq!(left(&log).await, [4]);
    finisher.finished(ids[1]);
    finisher.shut_down().await.unwrap();
    assert_eq!(left(&log).await, [0; 0]);
    assert_eq!(log.unrecovered_incarnations().await.unwrap(), []);
}
