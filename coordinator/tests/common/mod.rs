//! A coordinator with the in-memory log, and scripted peers that speak the wire's own messages.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a message that is not expected fails the test, whatever it is"
)]

pub mod acts;
pub mod database;

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pactum_coordinator::decision_log::DecisionLog;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::{Config, Coordinator, Listeners};
use pactum_proto::v1;
use pactum_proto::v1::admin_service_client::AdminServiceClient;
use pactum_proto::v1::coordinator_message::Message as Down;
use pactum_proto::v1::participant_message::Message as Up;
use pactum_proto::v1::participants_service_client::ParticipantsServiceClient;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use uuid::Uuid;

/// No test waits for anything longer than this.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

/// Looks until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Settings for tests: free ports, and times that are short where something is waited for.
pub fn config() -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        shards: 2,
        heartbeat: Duration::from_millis(50),
        lease: Duration::from_millis(500),
        unknown_bound: Duration::from_millis(300),
        retry_first: Duration::from_millis(20),
        retry_cap: Duration::from_millis(100),
        ..Config::default()
    }
}

/// A running coordinator.
pub struct Node {
    pub coordinator: Coordinator,
    pub log: MemoryLog,
    pub channel: Channel,
    pub admin: AdminServiceClient<Channel>,
}

impl Node {
    pub async fn start() -> Self {
        Self::with(config(), MemoryLog::new()).await
    }

    pub async fn with(config: Config, log: MemoryLog) -> Self {
        Self::over(config, Arc::new(log.clone()), log).await
    }

    /// One whose log is something around `log`.
    pub async fn over(config: Config, around: Arc<dyn DecisionLog>, log: MemoryLog) -> Self {
        let listeners = Listeners::bind(&config).await.unwrap();
        let coordinator = Coordinator::start(listeners, around, config).unwrap();
        soon("an incarnation", coordinator.ready()).await;
        let connect = async |url: String| Channel::from_shared(url).unwrap().connect().await.unwrap();
        let channel = connect(coordinator.public_url()).await;
        let admin = AdminServiceClient::new(connect(coordinator.admin_url()).await);
        Self { coordinator, log, channel, admin }
    }

    pub fn application(&self) -> TransactionsServiceClient<Channel> {
        TransactionsServiceClient::new(self.channel.clone())
    }

    /// The name of a new transaction, made as the SDK makes it.
    pub async fn draw(&self) -> v1::TransactionId {
        let info =
            self.admin.clone().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
        v1::TransactionId { incarnation: info.incarnation, gid: Uuid::now_v7().as_bytes().to_vec() }
    }

    pub async fn participant(&self, resource: &str) -> Participant {
        Participant::attach(self, Uuid::now_v7(), &[(resource, false)]).await.unwrap()
    }

    /// Commits in a task of its own.
    pub fn commit(
        &self,
        id: &v1::TransactionId,
        branches: &[&v1::Branch],
        wait: v1::Wait,
    ) -> tokio::task::JoinHandle<Result<v1::Outcome, Status>> {
        let mut application = self.application();
        let request = v1::CommitRequest {
            id: Some(id.clone()),
            branches: branches.iter().copied().cloned().collect(),
            wait: wait.into(),
            ..v1::CommitRequest::default()
        };
        tokio::spawn(async move { Ok(application.commit(request).await?.into_inner().outcome.unwrap()) })
    }

    pub async fn outcome(&self, id: &v1::TransactionId, branches: &[&v1::Branch]) -> v1::OutcomeState {
        let branches = branches.iter().copied().cloned().collect();
        let request = v1::GetTransactionRequest { id: Some(id.clone()), branches };
        let answer = self.application().get_transaction(request).await.unwrap().into_inner();
        answer.outcome.unwrap().state()
    }

    /// No contract was broken, and everything has ended well.
    pub async fn end(self) {
        until("the end of every transaction", async || self.coordinator.transactions_open() == 0).await;
        assert_eq!(self.coordinator.violations(), 0);
        soon("the stop", self.coordinator.stop()).await.unwrap();
    }
}

/// A participant that does what the test says.
pub struct Participant {
    pub instance: Uuid,
    pub resource: String,
    pub marker: bool,
    pub welcome: v1::Welcome,
    up: mpsc::Sender<v1::AttachRequest>,
    down: Streaming<v1::AttachResponse>,
    waiting: VecDeque<Down>,
    ended: Mutex<BTreeSet<Vec<u8>>>,
}

impl Participant {
    pub async fn attach(node: &Node, instance: Uuid, resources: &[(&str, bool)]) -> Result<Self, Status> {
        let (up, requests) = mpsc::channel(16);
        let resources_of = resources.iter().map(|(resource, marker)| v1::Registration {
            resource: (*resource).to_owned(),
            identity: format!("{resource}-identity"),
            marker: *marker,
            ..v1::Registration::default()
        });
        let hello = v1::Hello {
            instance: instance.as_bytes().to_vec(),
            resources: resources_of.collect(),
            version: "test".to_owned(),
        };
        let first =
            v1::AttachRequest { messages: vec![v1::ParticipantMessage { message: Some(Up::Hello(hello)) }] };
        up.send(first).await.unwrap();
        let mut client = ParticipantsServiceClient::new(node.channel.clone());
        let down = client.attach(ReceiverStream::new(requests)).await?.into_inner();
        let mut participant = Self {
            instance,
            resource: resources[0].0.to_owned(),
            marker: resources[0].1,
            welcome: v1::Welcome::default(),
            up,
            down,
            waiting: VecDeque::new(),
            ended: Mutex::default(),
        };
        match participant.receive().await? {
            Some(Down::Welcome(welcome)) => participant.welcome = welcome,
            other => panic!("a welcome comes first, not {other:?}"),
        }
        Ok(participant)
    }

    pub async fn send(&self, message: Up) {
        let message = v1::ParticipantMessage { message: Some(message) };
        self.up.send(v1::AttachRequest { messages: vec![message] }).await.unwrap();
    }

    /// The next message, whatever it is; `None` at a good end of the stream.
    pub async fn receive(&mut self) -> Result<Option<Down>, Status> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Ok(Some(message));
            }
            match soon("a message", self.down.message()).await? {
                Some(batch) => {
                    self.waiting.extend(batch.messages.into_iter().filter_map(|message| message.message));
                }
                None => return Ok(None),
            }
        }
    }

    /// The next message but Welcomes, and but orders that were acknowledged already.
    pub async fn next(&mut self) -> Down {
        loop {
            match self.receive().await.unwrap() {
                Some(Down::Welcome(_)) => {}
                // What we have acknowledged may come again.
                Some(Down::Commit(v1::Commit { id, .. }) | Down::Abort(v1::Abort { id, .. }))
                    if self.ended.lock().unwrap().contains(&id.as_ref().unwrap().gid) => {}
                Some(message) => return message,
                None => panic!("the stream ended"),
            }
        }
    }

    pub fn branch(&self, number: u64) -> v1::Branch {
        v1::Branch {
            id: number,
            resource: self.resource.clone(),
            instance: self.instance.as_bytes().to_vec(),
            marker: self.marker,
        }
    }

    /// Enlists a branch; answers the error, if any.
    pub async fn try_enlist(
        &mut self,
        id: &v1::TransactionId,
        number: u64,
    ) -> (v1::Branch, Option<v1::CallError>) {
        let branch = self.branch(number);
        let enlist = v1::Enlist {
            call_id: number,
            id: Some(id.clone()),
            branch: Some(branch.clone()),
            time_left: None,
        };
        self.send(Up::Enlist(enlist)).await;
        loop {
            match self.next().await {
                Down::EnlistAnswer(answer) => {
                    assert_eq!(answer.call_id, number);
                    return (branch, answer.error);
                }
                // An enlistment that is refused may be followed or preceded by the order to abort.
                Down::Abort(_) | Down::Examine(_) => {}
                other => panic!("an answer was expected, not {other:?}"),
            }
        }
    }

    pub async fn enlist(&mut self, id: &v1::TransactionId, number: u64) -> v1::Branch {
        let (branch, error) = self.try_enlist(id, number).await;
        assert_eq!(error, None);
        branch
    }

    pub async fn prepare(&mut self) -> v1::Prepare {
        loop {
            match self.next().await {
                Down::Prepare(prepare) => return prepare,
                // A question of an operator: this participant is silent.
                Down::Examine(_) => {}
                other => panic!("a Prepare was expected, not {other:?}"),
            }
        }
    }

    pub async fn vote(&self, prepare: &v1::Prepare, vote: v1::vote::Vote) {
        let vote = v1::Vote { id: prepare.id.clone(), branch: prepare.branch.clone(), vote: Some(vote) };
        self.send(Up::Vote(vote)).await;
    }

    /// Awaits Prepare and votes commit.
    pub async fn vote_commit(&mut self) -> v1::Prepare {
        let prepare = self.prepare().await;
        self.vote(&prepare, v1::vote::Vote::Commit(evidence("1"))).await;
        prepare
    }

    pub async fn finished(&self, id: &v1::TransactionId, branch: &v1::Branch, outcome: v1::BranchOutcome) {
        let finished =
            v1::Finished { id: Some(id.clone()), branch: Some(branch.clone()), outcome: outcome.into() };
        self.ended.lock().unwrap().insert(id.gid.clone());
        self.send(Up::Finished(finished)).await;
    }

    /// Awaits Commit and acknowledges it.
    pub async fn ack_commit(&mut self, id: &v1::TransactionId, branch: &v1::Branch) -> v1::Commit {
        loop {
            match self.next().await {
                Down::Commit(commit) if commit.id.as_ref() == Some(id) => {
                    self.finished(id, branch, v1::BranchOutcome::Committed).await;
                    return commit;
                }
                // A Prepare that was repeated before our vote arrived, or a question of an operator.
                Down::Prepare(_) | Down::Examine(_) => {}
                other => panic!("a Commit was expected, not {other:?}"),
            }
        }
    }

    /// Awaits Abort and acknowledges it.
    pub async fn ack_abort(&mut self, id: &v1::TransactionId, branch: &v1::Branch) {
        loop {
            match self.next().await {
                Down::Abort(abort) if abort.id.as_ref() == Some(id) => {
                    return self.finished(id, branch, v1::BranchOutcome::Aborted).await;
                }
                Down::Prepare(_) | Down::Examine(_) => {}
                other => panic!("an Abort was expected, not {other:?}"),
            }
        }
    }
}

/// Evidence of some execution.
pub fn evidence(execution: &str) -> v1::Evidence {
    v1::Evidence { execution: execution.to_owned(), anchor: "here".to_owned() }
}

impl Participant {
    /// Leaves, and waits until the coordinator has noticed.
    pub async fn leave(self, node: &Node) {
        let resource = self.resource.clone();
        drop(self);
        until("the participant's leave", async || {
            let list = node.admin.clone().list_participants(v1::ListParticipantsRequest {}).await.unwrap();
            list.into_inner().participants.iter().all(|participant| participant.resource != resource)
        })
        .await;
    }
}
