//! A log that is full or read-only (B3): commits are refused at once, outcomes are told, and service
//! comes back by itself.

use std::sync::Arc;
use std::time::Duration;

use pactum_coordinator::decision_log::DecisionLog as _;
use pactum_coordinator::decision_log::contract::{abort, commit, gid};
use pactum_coordinator::decision_log::writer::{Answer, LogWriter, Reply, WriterConfig};
use pactum_core::id::Incarnation;
use pactum_core::outcome::{LookUpResult, ProposalResult};
use tokio::sync::mpsc;

use crate::fixture::{Fixture, LIMIT, beat, execute, look_up, server};

/// A coordinator's writer on a log.
struct Lanes {
    writer: LogWriter,
    own: Incarnation,
    reply: Reply,
    answers: mpsc::UnboundedReceiver<Vec<Answer>>,
}

impl Lanes {
    async fn on(fixture: &Fixture) -> Self {
        let own = fixture.log.start_incarnation("here").await.unwrap();
        let writer = LogWriter::start(fixture.log(), WriterConfig::default());
        let (sender, answers) = mpsc::unbounded_channel();
        let reply: Reply = Arc::new(move |answers| drop(sender.send(answers)));
        let lanes = Self { writer, own, reply, answers };
        lanes.until(true).await;
        lanes
    }

    async fn until(&self, available: bool) {
        let mut watch = self.writer.available();
        tokio::time::timeout(LIMIT, watch.wait_for(|now| *now == available)).await.unwrap().unwrap();
    }

    async fn commit(&mut self, number: u64) -> ProposalResult {
        let proposal = commit(self.own, gid(number), number);
        self.writer.try_submit(self.own, vec![proposal], &self.reply).unwrap();
        let mut answers = tokio::time::timeout(LIMIT, self.answers.recv()).await.unwrap().unwrap();
        answers.remove(0).result
    }
}

/// Outcomes and unfinished commits are read, whatever cannot be written.
async fn outcomes_are_told(fixture: &Fixture, own: Incarnation) {
    let found = look_up(&fixture.log, &[gid(1), gid(2)]).await;
    let stands = LookUpResult::Stands(Box::new(commit(own, gid(1), 1).record));
    assert_eq!(found, [stands, LookUpResult::NoRecord]);
    let left = fixture.log.unfinished_commits(own, None, 10).await.unwrap();
    assert_eq!(left.iter().map(|commit| commit.number).collect::<Vec<_>>(), [1], "it is not forgotten");
}

#[tokio::test]
async fn b3_a_full_log_refuses_commits_at_once_and_comes_back_by_itself() {
    let fixture = Fixture::new().await;
    let mut lanes = Lanes::on(&fixture).await;
    let own = lanes.own;
    assert_eq!(lanes.commit(1).await, ProposalResult::Won);
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON pactum.decisions FOR EACH ROW EXECUTE FUNCTION full_disk()";
    let mut owner = fixture.connection().await;
    execute(&mut owner, full).await;
    assert_eq!(lanes.commit(2).await, ProposalResult::Unknown);
    // Although the other lane's connection is as good as ever.
    lanes.until(false).await;
    let why = lanes.writer.last_error().unwrap();
    assert!(why.contains("could not extend file"), "{why}");
    outcomes_are_told(&fixture, own).await;
    execute(&mut owner, "DROP TRIGGER full_disk ON pactum.decisions").await;
    lanes.until(true).await;
    assert_eq!(lanes.commit(2).await, ProposalResult::Won);
}

#[tokio::test]
async fn b3_a_read_only_log_that_answers_select_is_not_taken_for_available() {
    let fixture = Fixture::new().await;
    let mut lanes = Lanes::on(&fixture).await;
    let own = lanes.own;
    assert_eq!(lanes.commit(1).await, ProposalResult::Won);
    let name = fixture.url.rsplit('/').next().unwrap();
    // As services do that run out of disk. It reaches new sessions; so the others are ended.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'pactum log'";
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    server().psql("postgres", &set).unwrap();
    execute(&mut fixture.connection().await, end).await;
    lanes.until(false).await;
    outcomes_are_told(&fixture, own).await;
    assert!(fixture.log.heartbeat(own).await.is_err(), "a beat is a write");
    assert!(fixture.log.open_writer().await.is_err());
    let why = tokio::time::timeout(LIMIT, async {
        loop {
            match lanes.writer.last_error() {
                Some(why) if why.contains("read-only") => return why,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    assert!(why.await.is_ok());
    server().psql("postgres", &format!("ALTER DATABASE {name} RESET default_transaction_read_only")).unwrap();
    lanes.until(true).await;
    assert!(beat(&fixture.log, own).await.live);
    assert_eq!(lanes.commit(2).await, ProposalResult::Won);
    let mut other = fixture.log.open_writer().await.unwrap();
    assert_eq!(other.write(own, &[abort(own, gid(3))]).await, [ProposalResult::Won]);
}
