//! Overload: the excess is shed with the time to wait, nothing that was accepted is lost, and what is
//! in flight is served.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{Node, Participant, config, evidence, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_proto::error::{ErrorCode, ErrorFacts};
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as Down;
use pactum_proto::v1::participant_message::Message as Up;
use pactum_proto::v1::participants_service_client::ParticipantsServiceClient;
use pactum_proto::v1::pipeline_answer::Answer;
use pactum_proto::v1::pipeline_call::Call;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use uuid::Uuid;

/// Calls that a pipeline may have in flight: a quarter of the default, to be gentle to the machine.
const FULL_PIPELINE: usize = 2048;

const RESOURCE: &str = "willing";

/// Starts a participant that votes commit and does nothing, in batches.
async fn willing(node: &Node) -> tokio::task::JoinHandle<()> {
    let (up, requests) = mpsc::channel(16);
    let hello = v1::Hello {
        instance: Uuid::now_v7().as_bytes().to_vec(),
        resources: vec![v1::Registration { resource: RESOURCE.to_owned(), ..v1::Registration::default() }],
        version: "test".to_owned(),
    };
    let message = |message| v1::ParticipantMessage { message: Some(message) };
    up.send(v1::AttachRequest { messages: vec![message(Up::Hello(hello))] }).await.unwrap();
    let mut client = ParticipantsServiceClient::new(node.channel.clone());
    let mut down = client.attach(ReceiverStream::new(requests)).await.unwrap().into_inner();
    assert!(down.message().await.unwrap().is_some(), "a welcome");
    tokio::spawn(async move {
        while let Some(batch) = down.message().await.unwrap() {
            let answers = batch.messages.into_iter().filter_map(|order| match order.message? {
                Down::Prepare(v1::Prepare { id, branch, .. }) => {
                    let vote = Some(v1::vote::Vote::Commit(evidence("1")));
                    Some(message(Up::Vote(v1::Vote { id, branch, vote })))
                }
                Down::Commit(v1::Commit { id, branch, .. }) => {
                    let outcome = v1::BranchOutcome::Committed.into();
                    Some(message(Up::Finished(v1::Finished { id, branch, outcome })))
                }
                Down::Abort(v1::Abort { id, branch }) => {
                    let outcome = v1::BranchOutcome::Aborted.into();
                    Some(message(Up::Finished(v1::Finished { id, branch, outcome })))
                }
                _ => None,
            });
            let messages = answers.collect();
            if up.send(v1::AttachRequest { messages }).await.is_err() {
                return;
            }
        }
    })
}

/// An application with one pipeline. A call's id says whose gid it is.
struct Application {
    incarnation: Vec<u8>,
    gids: Vec<Uuid>,
    calls: mpsc::Sender<v1::PipelineRequest>,
    answers: Streaming<v1::PipelineResponse>,
}

impl Application {
    async fn start(node: &Node) -> Self {
        let (calls, requests) = mpsc::channel(16);
        let answers = node.application().pipeline(ReceiverStream::new(requests)).await.unwrap().into_inner();
        Self { incarnation: node.draw().await.incarnation, gids: Vec::new(), calls, answers }
    }

    /// Submits new transactions.
    async fn submit(&mut self, count: usize) {
        let first = self.gids.len();
        self.gids.extend((0..count).map(|_| Uuid::now_v7()));
        let numbers: Vec<usize> = (first..self.gids.len()).collect();
        self.submit_these(&numbers).await;
    }

    /// Submits these, for the first time or again.
    async fn submit_these(&self, numbers: &[usize]) {
        for some in numbers.chunks(512) {
            let calls = some.iter().map(|number| v1::PipelineCall {
                call_id: *number as u64,
                call: Some(Call::Submit(v1::SubmitRequest {
                    id: Some(self.id(*number)),
                    operations: vec![v1::Operation {
                        branch: 1,
                        resource: RESOURCE.to_owned(),
                        name: "nothing".to_owned(),
                        payload: Vec::new(),
                    }],
                    timeout: Some(Duration::from_mins(1).try_into().unwrap()),
                    ..v1::SubmitRequest::default()
                })),
            });
            self.calls.send(v1::PipelineRequest { calls: calls.collect() }).await.unwrap();
        }
    }

    fn id(&self, number: usize) -> v1::TransactionId {
        v1::TransactionId {
            incarnation: self.incarnation.clone(),
            gid: self.gids[number].as_bytes().to_vec(),
        }
    }

    /// The next answers.
    async fn answers(&mut self) -> Vec<(usize, Result<v1::OutcomeState, ErrorFacts>)> {
        let response = soon("an answer", self.answers.message()).await.unwrap().unwrap();
        let answers = response.answers.into_iter().map(|answer| {
            let told = match answer.answer.unwrap() {
                Answer::Outcome(outcome) => Ok(outcome.state()),
                Answer::Error(error) => Err(ErrorFacts::from_call_error(&error)),
            };
            (usize::try_from(answer.call_id).unwrap(), told)
        });
        answers.collect()
    }
}

fn is_shed(facts: &ErrorFacts) -> bool {
    facts.known() == Some(ErrorCode::Overloaded)
        && facts.grpc == Code::ResourceExhausted
        && facts.retry_after.is_some_and(|after| !after.is_zero())
}

/// A sample of a scrape that is a count.
fn value(node: &Node, series: &str) -> u64 {
    let metrics = node.coordinator.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.trim_end_matches(".0").parse().unwrap())
}

const SHED: &str = r#"pactum_shed_total{reason="overload"}"#;

/// As in service: with the short times between retries of other tests, thousands that wait would be told
/// everything ten times a second.
async fn start() -> Node {
    let Config { retry_first, retry_cap, .. } = Config::default();
    let config = Config { retry_first, retry_cap, pipeline_in_flight_max: FULL_PIPELINE, ..config() };
    Node::with(config, MemoryLog::new()).await
}

#[tokio::test]
async fn the_excess_is_shed_and_what_was_accepted_commits_when_the_log_goes_on() {
    let node = start().await;
    let willing = willing(&node).await;
    let mut application = Application::start(&node).await;
    // Enlisted before the overload: in flight, and served to its end (A5).
    let mut bank = node.participant("bank").await;
    let id = node.draw().await;
    let branch = bank.enlist(&id, 1).await;

    node.log.faults().pause();
    application.submit(FULL_PIPELINE).await;
    // One stream holds no more than this; what is beyond is shed, each call of it, with the time to wait.
    let excess = 1500;
    application.submit(excess).await;
    let mut shed = BTreeSet::new();
    while shed.len() < excess {
        for (number, told) in application.answers().await {
            let facts = told.unwrap_err();
            assert!(is_shed(&facts), "{facts:?}");
            assert!(number >= FULL_PIPELINE, "{number} had been accepted");
            shed.insert(number);
        }
    }

    // What the coordinator holds is bounded by what it has accepted.
    assert_eq!(value(&node, SHED), excess as u64);
    assert_eq!(node.coordinator.transactions_open(), FULL_PIPELINE + 1);
    let waiting = value(&node, "pactum_log_queue_rows");
    assert!(waiting <= FULL_PIPELINE as u64, "{waiting}");

    // Nothing new begins by any way in.
    let begun = node.application().begin(v1::BeginRequest::default()).await.unwrap_err();
    assert!(is_shed(&ErrorFacts::from_status(&begun)), "{begun:?}");
    let error = bank.try_enlist(&node.draw().await, 2).await.1.unwrap();
    assert!(is_shed(&ErrorFacts::from_call_error(&error)), "{error:?}");
    // What is open is added to, and committed.
    let other = bank.enlist(&id, 3).await;
    let commit = node.commit(&id, &[&branch, &other], v1::Wait::Finished);
    bank.vote_commit().await;
    bank.vote_commit().await;

    node.log.faults().resume();
    ack_both(&mut bank, &id).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), v1::OutcomeState::Committed);
    let mut committed = BTreeSet::new();
    while committed.len() < FULL_PIPELINE {
        for (number, told) in application.answers().await {
            assert_eq!(told, Ok(v1::OutcomeState::Committed), "{number}");
            assert!(number < FULL_PIPELINE && committed.insert(number), "{number} is answered once");
        }
    }

    // Nothing had happened to those that were shed: the same gids are taken when there is room again.
    application.submit_these(&shed.iter().copied().collect::<Vec<_>>()).await;
    while !shed.is_empty() {
        let mut again = Vec::new();
        for (number, told) in application.answers().await {
            match told {
                Ok(state) => {
                    assert_eq!(state, v1::OutcomeState::Committed);
                    assert!(shed.remove(&number), "{number} is answered once");
                }
                Err(facts) => {
                    assert!(is_shed(&facts), "{facts:?}");
                    again.push(number);
                }
            }
        }
        if !again.is_empty() {
            // As soon as it may be, rather than when it was told: there is nobody else.
            tokio::task::yield_now().await;
            application.submit_these(&again).await;
        }
    }
    until("the end of every transaction", async || node.coordinator.transactions_open() == 0).await;
    assert_eq!(
        value(&node, r#"pactum_transactions_total{outcome="committed"}"#),
        (FULL_PIPELINE + excess) as u64 + 1
    );
    drop(application);
    willing.abort();
    node.end().await;
}

/// Acknowledges both branches of a transaction, in whatever order they are told.
async fn ack_both(bank: &mut Participant, id: &v1::TransactionId) {
    let mut told = BTreeMap::new();
    while told.len() < 2 {
        match bank.receive().await.unwrap().unwrap() {
            Down::Commit(commit) if commit.id.as_ref() == Some(id) => {
                let branch = commit.branch.unwrap();
                told.insert(branch.id, branch);
            }
            Down::Prepare(_) | Down::Welcome(_) => {}
            other => panic!("a Commit was expected, not {other:?}"),
        }
    }
    for branch in told.values() {
        bank.finished(id, branch, v1::BranchOutcome::Committed).await;
    }
}

#[tokio::test]
async fn an_application_with_many_in_flight_is_not_shed_by_a_log_that_goes_on() {
    const ALL: usize = 4 * FULL_PIPELINE;
    let node = start().await;
    let willing = willing(&node).await;
    let mut application = Application::start(&node).await;
    application.submit(FULL_PIPELINE).await;
    let mut committed = 0;
    while committed < ALL {
        let answers = application.answers().await;
        for (number, told) in &answers {
            assert_eq!(told, &Ok(v1::OutcomeState::Committed), "{number}");
        }
        committed += answers.len();
        let more = ALL - application.gids.len();
        application.submit(answers.len().min(more)).await;
    }
    assert_eq!(value(&node, SHED), 0);
    drop(application);
    willing.abort();
    node.end().await;
}

/// While all are slow, nobody is told a second time what his stream carries already: the second Abort that a bank
/// hears which answers none comes with a later attempt than those that are put off.
#[tokio::test]
async fn whoever_is_slow_to_answer_in_an_overload_is_not_told_again_at_once() {
    let node = start().await;
    let willing = willing(&node).await;
    let mut application = Application::start(&node).await;
    let mut bank = node.participant("bank").await;
    let id = node.draw().await;
    let branch = bank.enlist(&id, 1).await;
    node.log.faults().pause();
    application.submit(FULL_PIPELINE).await;
    let excess = 1500;
    application.submit(excess).await;
    until("the excess to be shed, by all shards", async || value(&node, SHED) == excess as u64).await;

    let abort = v1::AbortRequest { id: Some(id.clone()), ..v1::AbortRequest::default() };
    let mut caller = node.application();
    let aborted = tokio::spawn(async move { caller.abort(abort).await });
    for _ in 0..2 {
        let told = bank.next().await;
        assert!(matches!(&told, Down::Abort(abort) if abort.id.as_ref() == Some(&id)), "{told:?}");
    }
    let gid = Uuid::from_slice(&id.gid).unwrap().simple().to_string();
    let request = v1::InspectTransactionRequest { gid, examine: false };
    let shown = node.admin.clone().inspect_transaction(request).await.unwrap().into_inner();
    let attempts = shown.transaction.unwrap().branches[0].attempts;
    assert!(attempts > 4, "the Abort was repeated with attempt {attempts}");

    bank.finished(&id, &branch, v1::BranchOutcome::Aborted).await;
    soon("the abort", aborted).await.unwrap().unwrap();
    node.log.faults().resume();
    drop(application);
    until("the end of every transaction", async || node.coordinator.transactions_open() == 0).await;
    willing.abort();
    node.end().await;
}

/// As many open transactions as are allowed: new ones are shed, whatever the log does, and taken again
/// when one has ended.
#[tokio::test]
async fn open_transactions_are_bounded() {
    let config = Config { transactions_open_max: 2, shards: 1, ..config() };
    let node = Node::with(config, MemoryLog::new()).await;
    let mut bank = node.participant("bank").await;
    let (one, two) = (node.draw().await, node.draw().await);
    let branch = bank.enlist(&one, 1).await;
    bank.enlist(&two, 1).await;
    let three = node.draw().await;
    let error = bank.try_enlist(&three, 1).await.1.unwrap();
    assert!(is_shed(&ErrorFacts::from_call_error(&error)), "{error:?}");
    assert_eq!(node.coordinator.transactions_open(), 2);
    assert_eq!(value(&node, r#"pactum_shed_total{reason="transactions"}"#), 1);
    let abort = v1::AbortRequest { id: Some(one.clone()), ..v1::AbortRequest::default() };
    let mut application = node.application();
    let aborted = tokio::spawn(async move { application.abort(abort).await });
    bank.ack_abort(&one, &branch).await;
    soon("the abort", aborted).await.unwrap().unwrap();
    until("room", async || node.coordinator.transactions_open() < 2).await;
    bank.enlist(&three, 1).await;
    for (id, number) in [(&two, 1), (&three, 1)] {
        let branch = bank.branch(number);
        let abort = v1::AbortRequest { id: Some(id.clone()), ..v1::AbortRequest::default() };
        let mut application = node.application();
        let aborted = tokio::spawn(async move { application.abort(abort).await });
        bank.ack_abort(id, &branch).await;
        soon("the abort", aborted).await.unwrap().unwrap();
    }
    node.end().await;
}
