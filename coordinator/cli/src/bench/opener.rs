//! Opens transactions as applications and participants that do not use the SDK do, and leaves them open: begun
//! with a label, and a branch enlisted by each of its participants. Nobody asks to commit them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as FromCoordinator;
use pactum_proto::v1::participant_message::Message as ToCoordinator;
use pactum_proto::v1::participants_service_client::ParticipantsServiceClient;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::child::Parent;
use super::wire::{Open, OpenerOrders, Report};
use crate::exit::Exit;
use crate::failure::Failure;

/// Messages in one batch, as the protocol bounds them.
const BATCH_MAX: usize = 1024;
/// Batches that wait for the connection. More would only be held here instead of by whoever begins.
const BATCHES_WAITING: usize = 4;
/// Callers of Begin, and their connections.
const CALLERS: usize = 512;
const CONNECTIONS: usize = 4;
/// The longest that a transaction may stay open.
const TIMEOUT: prost_types::Duration = prost_types::Duration { seconds: 3600, nanos: 0 };

/// Attaches, opens as many as it is told as often as it is told, and stays until stdin ends.
pub(super) async fn run(orders: OpenerOrders, parent: &mut Parent) -> Result<(), Failure> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(TransactionsServiceClient::new(connect(&orders.coordinator).await?));
    }
    let mut participants = Vec::new();
    for (resource, branch) in orders.resources.iter().zip(1..) {
        participants.push(Participant::attach(&orders.coordinator, resource, branch).await?);
    }
    parent.report(&Report::Ready { public: None, admin: None }).await?;
    while let Some(Open { transactions }) = parent.next::<Open>().await? {
        let began = Instant::now();
        participants = open(&clients, participants, transactions).await?;
        parent.report(&Report::Opened { seconds: began.elapsed().as_secs_f64() }).await?;
    }
    Ok(())
}

async fn connect(coordinator: &str) -> Result<Channel, Failure> {
    let failed =
        |error| Failure::new(Exit::CannotConnect, "no connection to the coordinator").because(&error);
    let endpoint = Endpoint::from_shared(coordinator.to_owned()).map_err(failed)?;
    endpoint.tcp_nodelay(true).connect().await.map_err(failed)
}

/// Opens so many, and returns when every branch is enlisted.
async fn open(
    clients: &[TransactionsServiceClient<Channel>],
    participants: Vec<Participant>,
    transactions: u32,
) -> Result<Vec<Participant>, Failure> {
    let broke_off = |error: tokio::task::JoinError| failed("opening broke off").because(&error);
    let mut begun = Vec::new();
    let mut enlisting = Vec::new();
    for participant in participants {
        let (queue, ids) = mpsc::channel(BATCH_MAX);
        begun.push(queue);
        enlisting.push(tokio::spawn(participant.enlist_all(ids)));
    }
    let begun_so_far = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = clients[caller % clients.len()].clone();
        callers.spawn(begin(client, begun.clone(), Arc::clone(&begun_so_far), transactions));
    }
    drop(begun);
    while let Some(ended) = callers.join_next().await {
        ended.map_err(broke_off)??;
    }
    let mut participants = Vec::new();
    for one in enlisting {
        participants.push(one.await.map_err(broke_off)??);
    }
    Ok(participants)
}

/// Begins one after the other until all callers together have begun so many.
async fn begin(
    mut client: TransactionsServiceClient<Channel>,
    queues: Vec<mpsc::Sender<v1::TransactionId>>,
    begun: Arc<AtomicU32>,
    transactions: u32,
) -> Result<(), Failure> {
    while begun.fetch_add(1, Ordering::Relaxed) < transactions {
        let labels = HashMap::from([("order".to_owned(), "4711".to_owned())]);
        let details = v1::Details { labels, ..v1::Details::default() };
        let request = v1::BeginRequest {
            details: Some(details),
            timeout: Some(TIMEOUT),
            ..v1::BeginRequest::default()
        };
        let answer = client.begin(request).await;
        let answer = answer.map_err(|status| failed("no transaction is begun").because(&status))?;
        let id = answer.into_inner().id.ok_or_else(|| failed("a transaction was begun without a name"))?;
        for queue in &queues {
            let sent = queue.send(id.clone()).await;
            sent.map_err(|error| failed("a participant has gone").because(&error))?;
        }
    }
    Ok(())
}

/// A participant with a branch in each transaction.
struct Participant {
    requests: mpsc::Sender<v1::AttachRequest>,
    answers: Streaming<v1::AttachResponse>,
    branch: v1::Branch,
    next_call: u64,
}

impl Participant {
    /// Attaches, and waits to be welcome.
    async fn attach(coordinator: &str, resource: &str, branch: u64) -> Result<Self, Failure> {
        let instance = Uuid::new_v4().as_bytes().to_vec();
        let registration = v1::Registration {
            resource: resource.to_owned(),
            identity: format!("opener:{resource}"),
            ..v1::Registration::default()
        };
        let hello = v1::Hello {
            instance: instance.clone(),
            resources: vec![registration],
            version: "pactum bench".to_owned(),
        };
        let (requests, outgoing) = mpsc::channel(BATCHES_WAITING);
        let refused = |status: tonic::Status| failed("the participant is not taken").because(&status);
        let gone = |error: mpsc::error::SendError<_>| failed("the coordinator has gone").because(&error);
        requests.send(batch([ToCoordinator::Hello(hello)])).await.map_err(gone)?;
        let mut client = ParticipantsServiceClient::new(connect(coordinator).await?);
        let answers = client.attach(ReceiverStream::new(outgoing)).await.map_err(refused)?;
        let mut answers = answers.into_inner();
        answers.message().await.map_err(refused)?.ok_or_else(|| failed("the participant is sent away"))?;
        let branch = v1::Branch { id: branch, resource: resource.to_owned(), instance, marker: false };
        Ok(Self { requests, answers, branch, next_call: 0 })
    }

    /// Enlists a branch in each transaction that comes, and returns when all are answered.
    async fn enlist_all(mut self, mut ids: mpsc::Receiver<v1::TransactionId>) -> Result<Self, Failure> {
        let gone = || failed("the coordinator has gone");
        let (mut batch_of_ids, mut waiting, mut more) = (Vec::new(), 0_usize, true);
        while more || waiting > 0 {
            tokio::select! {
                count = ids.recv_many(&mut batch_of_ids, BATCH_MAX), if more => {
                    more = count > 0;
                    if more {
                        waiting += count;
                        let request = batch(batch_of_ids.drain(..).map(|id| self.enlist(id)).collect::<Vec<_>>());
                        self.requests.send(request).await.map_err(|error| gone().because(&error))?;
                    }
                }
                answers = self.answers.message() => {
                    let answers = answers.map_err(|status| gone().because(&status))?.ok_or_else(gone)?;
                    waiting = waiting.saturating_sub(enlisted(answers)?);
                }
            }
        }
        Ok(self)
    }

    fn enlist(&mut self, id: v1::TransactionId) -> ToCoordinator {
        self.next_call += 1;
        ToCoordinator::Enlist(v1::Enlist {
            call_id: self.next_call,
            id: Some(id),
            branch: Some(self.branch.clone()),
            time_left: Some(TIMEOUT),
        })
    }
}

fn batch(messages: impl IntoIterator<Item = ToCoordinator>) -> v1::AttachRequest {
    let message = |message| v1::ParticipantMessage { message: Some(message) };
    v1::AttachRequest { messages: messages.into_iter().map(message).collect() }
}

/// How many branches these answers say are enlisted.
fn enlisted(answers: v1::AttachResponse) -> Result<usize, Failure> {
    let mut count = 0;
    for message in answers.messages {
        if let Some(FromCoordinator::EnlistAnswer(answer)) = message.message {
            if let Some(error) = answer.error {
                return Err(failed("a branch is not enlisted").cause(error.message));
            }
            count += 1;
        }
    }
    Ok(count)
}

fn failed(sentence: &str) -> Failure {
    Failure::new(Exit::Failed, sentence)
}
