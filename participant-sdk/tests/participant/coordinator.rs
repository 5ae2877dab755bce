//! A coordinator whose every message is written by the test.

use std::collections::VecDeque;
use std::time::Duration;

use pactum_proto::error::{ErrorCode, status};
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as ToParticipant;
use pactum_proto::v1::inquiry_answer::Answer;
use pactum_proto::v1::participant_message::Message as FromParticipant;
use pactum_proto::v1::participants_service_server::{ParticipantsService, ParticipantsServiceServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::network::Network;

/// Far longer than anything takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Coordinator {
    pub(crate) address: String,
    streams: mpsc::UnboundedReceiver<Stream>,
    server: JoinHandle<()>,
}

struct Service {
    streams: mpsc::UnboundedSender<Stream>,
}

impl Service {
    fn new() -> (ParticipantsServiceServer<Self>, mpsc::UnboundedReceiver<Stream>) {
        let (streams, accepted) = mpsc::unbounded_channel();
        (ParticipantsServiceServer::new(Self { streams }), accepted)
    }
}

#[tonic::async_trait]
impl ParticipantsService for Service {
    type AttachStream = ReceiverStream<Result<v1::AttachResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (to, responses) = mpsc::channel(64);
        let stream = Stream { requests: request.into_inner(), queue: VecDeque::new(), to, largest: 0 };
        self.streams.send(stream).map_err(|_closed| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (service, streams) = Service::new();
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, streams, server }
    }

    /// One in a network in memory, that listens at all of these.
    pub(crate) fn listen(network: &Network, authorities: &[&str]) -> Self {
        let (service, streams) = Service::new();
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(network.listen(authorities));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { address: format!("http://{}", authorities[0]), streams, server }
    }

    /// The next stream that a participant opens, with its Hello; not yet welcomed.
    pub(crate) async fn accept(&mut self) -> (Stream, v1::Hello) {
        let mut stream = timeout(PATIENCE, self.streams.recv()).await.expect("nobody attaches").unwrap();
        match stream.recv().await {
            FromParticipant::Hello(hello) => (stream, hello),
            other => panic!("the stream opened with {other:?}"),
        }
    }

    /// Whether a participant has opened another stream.
    pub(crate) fn is_called(&mut self) -> bool {
        !self.streams.is_empty()
    }

    /// The next stream, welcomed as the owner of transactions of this incarnation, and told who lives.
    pub(crate) async fn welcome_naming(&mut self, incarnation: u128, named: &[(u128, &str)]) -> Stream {
        let (stream, _) = self.accept().await;
        stream.name(incarnation, named).await;
        stream
    }

    /// The next stream, welcomed as the owner of transactions of this incarnation.
    pub(crate) async fn welcome(&mut self, incarnation: u128) -> Stream {
        let (stream, _) = self.accept().await;
        stream.welcome(incarnation).await;
        stream
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One stream. Dropping it ends it.
pub(crate) struct Stream {
    requests: Streaming<v1::AttachRequest>,
    queue: VecDeque<v1::ParticipantMessage>,
    to: mpsc::Sender<Result<v1::AttachResponse, Status>>,
    /// Messages in the largest batch so far.
    pub(crate) largest: usize,
}

impl Stream {
    pub(crate) async fn welcome(&self, incarnation: u128) {
        self.welcome_to("c1", incarnation).await;
    }

    pub(crate) async fn welcome_to(&self, cluster: &str, incarnation: u128) {
        self.welcome_with(cluster, incarnation, &[]).await;
    }

    /// Says whom it knows to live, itself included; also later on an open stream.
    pub(crate) async fn name(&self, incarnation: u128, named: &[(u128, &str)]) {
        self.welcome_with("c1", incarnation, named).await;
    }

    async fn welcome_with(&self, cluster: &str, incarnation: u128, named: &[(u128, &str)]) {
        let coordinators = named.iter().map(|(incarnation, address)| v1::Coordinator {
            incarnation: incarnation.to_be_bytes().to_vec(),
            address: (*address).to_owned(),
        });
        let welcome = v1::Welcome {
            cluster: cluster.into(),
            incarnation: incarnation.to_be_bytes().to_vec(),
            floor: vec![0; 16],
            coordinators: coordinators.collect(),
        };
        self.send([ToParticipant::Welcome(welcome)]).await;
    }

    /// Ends it, as a coordinator does when the same instance opens another one.
    pub(crate) async fn supersede(self) {
        let status = status(ErrorCode::StreamSuperseded, "a newer stream took its place", None);
        self.to.send(Err(status)).await.unwrap();
    }

    /// Answers an inquiry.
    pub(crate) async fn answer(&self, inquiry: v1::Inquiry, answer: Answer) {
        let branch = inquiry.branch.unwrap().id;
        let answer = v1::InquiryAnswer { id: inquiry.id, branch, answer: Some(answer) };
        self.send([ToParticipant::InquiryAnswer(answer)]).await;
    }

    /// Sends one batch.
    pub(crate) async fn send(&self, messages: impl IntoIterator<Item = ToParticipant>) {
        let messages = messages.into_iter().map(|message| v1::CoordinatorMessage { message: Some(message) });
        self.to.send(Ok(v1::AttachResponse { messages: messages.collect() })).await.unwrap();
    }

    /// The next message.
    pub(crate) async fn recv(&mut self) -> FromParticipant {
        self.try_recv().await.expect("the stream ended")
    }

    /// The next message; `None` if the participant ends the stream.
    pub(crate) async fn try_recv(&mut self) -> Option<FromParticipant> {
        while self.queue.is_empty() {
            let request =
                timeout(PATIENCE, self.requests.message()).await.expect("no message comes").ok()??;
            self.largest = self.largest.max(request.messages.len());
            self.queue.extend(request.messages);
        }
        self.queue.pop_front()?.message
    }

    pub(crate) async fn enlist(&mut self) -> v1::Enlist {
        match self.recv().await {
            FromParticipant::Enlist(enlist) => enlist,
            other => panic!("an Enlist was expected, not {other:?}"),
        }
    }

    /// Takes an Enlist and accepts it.
    pub(crate) async fn accept_enlist(&mut self) -> v1::Enlist {
        let enlist = self.enlist().await;
        let answer = v1::EnlistAnswer { call_id: enlist.call_id, error: None };
        self.send([ToParticipant::EnlistAnswer(answer)]).await;
        enlist
    }

    pub(crate) async fn vote(&mut self) -> v1::vote::Vote {
        match self.recv().await {
            FromParticipant::Vote(vote) => vote.vote.unwrap(),
            other => panic!("a Vote was expected, not {other:?}"),
        }
    }

    pub(crate) async fn finished(&mut self) -> v1::BranchOutcome {
        match self.recv().await {
            FromParticipant::Finished(finished) => finished.outcome(),
            other => panic!("a Finished was expected, not {other:?}"),
        }
    }

    pub(crate) async fn failed(&mut self) -> String {
        match self.recv().await {
            FromParticipant::Failed(failed) => failed.message,
            other => panic!("a Failed was expected, not {other:?}"),
        }
    }

    pub(crate) async fn register(&mut self) -> v1::register_answer::Register {
        match self.recv().await {
            FromParticipant::RegisterAnswer(answer) => answer.register.unwrap(),
            other => panic!("a RegisterAnswer was expected, not {other:?}"),
        }
    }

    pub(crate) async fn examined(&mut self) -> v1::Examined {
        match self.recv().await {
            FromParticipant::Examined(examined) => examined,
            other => panic!("an Examined was expected, not {other:?}"),
        }
    }

    pub(crate) async fn overruled(&mut self) -> v1::OverruleAnswer {
        match self.recv().await {
            FromParticipant::OverruleAnswer(answer) => answer,
            other => panic!("an OverruleAnswer was expected, not {other:?}"),
        }
    }

    pub(crate) async fn draining(&mut self) -> bool {
        match self.recv().await {
            FromParticipant::Draining(draining) => draining.draining,
            other => panic!("a Draining was expected, not {other:?}"),
        }
    }

    pub(crate) async fn inquiry(&mut self) -> v1::Inquiry {
        match self.recv().await {
            FromParticipant::Inquiry(inquiry) => inquiry,
            other => panic!("an Inquiry was expected, not {other:?}"),
        }
    }
}

pub(crate) fn prepare(id: &v1::TransactionId, branch: &v1::Branch) -> ToParticipant {
    ToParticipant::Prepare(v1::Prepare {
        id: Some(id.clone()),
        branch: Some(branch.clone()),
        ..v1::Prepare::default()
    })
}

pub(crate) fn prepare_operation(id: &v1::TransactionId, branch: &v1::Branch, name: &str) -> ToParticipant {
    let operation = v1::Operation {
        branch: branch.id,
        resource: branch.resource.clone(),
        name: name.into(),
        payload: Vec::new(),
    };
    ToParticipant::Prepare(v1::Prepare {
        id: Some(id.clone()),
        branch: Some(branch.clone()),
        operation: Some(operation),
        ..v1::Prepare::default()
    })
}

pub(crate) fn one_phase(id: &v1::TransactionId, branch: &v1::Branch) -> ToParticipant {
    ToParticipant::Prepare(v1::Prepare {
        id: Some(id.clone()),
        branch: Some(branch.clone()),
        one_phase: true,
        ..v1::Prepare::default()
    })
}

pub(crate) fn commit(id: &v1::TransactionId, branch: &v1::Branch, execution: &str) -> ToParticipant {
    ToParticipant::Commit(v1::Commit {
        id: Some(id.clone()),
        branch: Some(branch.clone()),
        evidence: Some(v1::Evidence { execution: execution.into(), anchor: String::new() }),
    })
}

pub(crate) fn abort(id: &v1::TransactionId, branch: &v1::Branch) -> ToParticipant {
    ToParticipant::Abort(v1::Abort { id: Some(id.clone()), branch: Some(branch.clone()) })
}

pub(crate) fn settle(id: &v1::TransactionId, branch: &v1::Branch) -> ToParticipant {
    ToParticipant::Settle(v1::Settle { id: Some(id.clone()), branch: Some(branch.clone()) })
}

pub(crate) fn examine(
    call_id: u64,
    resource: &str,
    branches: &[(&v1::TransactionId, &v1::Branch)],
) -> ToParticipant {
    let branches = branches.iter().map(|(id, branch)| v1::BranchQuestion {
        id: Some((*id).clone()),
        branch: Some((*branch).clone()),
        evidence: None,
    });
    let branches = branches.collect();
    ToParticipant::Examine(v1::Examine { call_id, resource: resource.into(), branches, limit: 0 })
}

pub(crate) fn overrule(
    call_id: u64,
    id: &v1::TransactionId,
    branch: &v1::Branch,
    execution: &str,
    commit: bool,
) -> ToParticipant {
    ToParticipant::Overrule(v1::Overrule {
        call_id,
        id: Some(id.clone()),
        branch: Some(branch.clone()),
        evidence: Some(v1::Evidence { execution: execution.into(), anchor: String::new() }),
        commit,
    })
}

pub(crate) fn set_draining(draining: bool) -> ToParticipant {
    ToParticipant::SetDraining(v1::SetDraining { draining })
}
