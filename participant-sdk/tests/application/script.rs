//! A coordinator that answers by a script: a real gRPC server on loopback that records every call.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pactum::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName};
use pactum_core::coordinator::TransactionOutcome;
use pactum_core::vote::{AbortKind, AbortReason};
use pactum_proto::v1;
use pactum_proto::v1::pipeline_answer::Answer;
use pactum_proto::v1::pipeline_call::Call;
use pactum_proto::v1::transactions_service_server::{TransactionsService, TransactionsServiceServer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::network::Network;

/// Far longer than anything here takes; reached only if something is broken.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// What the script does with a call.
#[derive(Debug)]
pub(crate) enum Reply {
    Outcome(TransactionOutcome),
    Error(v1::CallError),
    /// No answer, for ever.
    Silence,
    /// The stream ends.
    Cut,
    /// An answer that no coordinator gives.
    Nonsense,
}

type Script = Box<dyn FnMut(usize, &Call) -> Reply + Send>;

/// What a stream opens with.
#[derive(Clone, Debug)]
pub(crate) enum Greeting {
    Welcome(v1::Welcome),
    /// The call is refused.
    Refuse,
}

struct Shared {
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
    messages: Mutex<Vec<Vec<Call>>>,
    greeting: watch::Sender<Greeting>,
    recorded: watch::Sender<usize>,
    opened: AtomicUsize,
}

/// The server; stops when dropped.
pub(crate) struct Coordinator {
    shared: Arc<Shared>,
    pub(crate) address: String,
    pub(crate) incarnation: Incarnation,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) fn welcome(incarnation: Option<Incarnation>, floor: Gid) -> Greeting {
    Greeting::Welcome(v1::Welcome {
        cluster: "c0ffee".into(),
        incarnation: incarnation.map(|it| it.as_uuid().as_bytes().to_vec()).unwrap_or_default(),
        floor: floor.as_uuid().as_bytes().to_vec(),
        ..v1::Welcome::default()
    })
}

/// The same, and it names these as living: incarnation and address.
pub(crate) fn welcome_naming(incarnation: Incarnation, named: &[(Incarnation, &str)]) -> Greeting {
    let bytes = |incarnation: Incarnation| incarnation.as_uuid().as_bytes().to_vec();
    let coordinators = named.iter().map(|(incarnation, address)| v1::Coordinator {
        incarnation: bytes(*incarnation),
        address: (*address).to_owned(),
    });
    Greeting::Welcome(v1::Welcome {
        cluster: "c0ffee".into(),
        incarnation: bytes(incarnation),
        floor: vec![0; 16],
        coordinators: coordinators.collect(),
    })
}

impl Coordinator {
    /// Starts one whose n-th call (from 0) is answered by `script`.
    pub(crate) async fn start(script: impl FnMut(usize, &Call) -> Reply + Send + 'static) -> Self {
        let incarnation = Incarnation::from_uuid(Uuid::now_v7());
        Self::start_with(incarnation, welcome(Some(incarnation), Gid::NIL), script).await
    }

    pub(crate) async fn start_with(
        incarnation: Incarnation,
        greeting: Greeting,
        script: impl FnMut(usize, &Call) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        Self::serve(incarnation, greeting, address, TcpListenerStream::new(listener), script)
    }

    /// The same, at these addresses of a network in memory.
    pub(crate) fn listen(
        network: &Network,
        authorities: &[&str],
        incarnation: Incarnation,
        greeting: Greeting,
        script: impl FnMut(usize, &Call) -> Reply + Send + 'static,
    ) -> Self {
        let address = format!("http://{}", authorities[0]);
        Self::serve(incarnation, greeting, address, network.listen(authorities), script)
    }

    fn serve<S>(
        incarnation: Incarnation,
        greeting: Greeting,
        address: String,
        incoming: impl Stream<Item = io::Result<S>> + Send + 'static,
        script: impl FnMut(usize, &Call) -> Reply + Send + 'static,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            calls: Mutex::default(),
            messages: Mutex::default(),
            greeting: watch::channel(greeting).0,
            recorded: watch::channel(0).0,
            opened: AtomicUsize::new(0),
        });
        let service = TransactionsServiceServer::new(Service(Arc::clone(&shared)));
        let server = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { shared, address, incarnation, server }
    }

    /// How many streams were opened.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Every message so far.
    pub(crate) fn messages(&self) -> Vec<Vec<Call>> {
        self.shared.messages.lock().unwrap().clone()
    }

    /// Waits until so many calls have come.
    pub(crate) async fn wait_for_calls(&self, count: usize) -> Vec<Call> {
        let mut recorded = self.shared.recorded.subscribe();
        let enough = recorded.wait_for(|recorded| *recorded >= count);
        tokio::time::timeout(LONG, enough).await.expect("the calls did not come").unwrap();
        self.calls()
    }

    /// Changes what new streams are greeted with; open ones get a Welcome at once.
    pub(crate) fn greet(&self, greeting: Greeting) {
        self.shared.greeting.send_replace(greeting);
    }
}

struct Service(Arc<Shared>);

type Responses = Pin<Box<dyn Stream<Item = Result<v1::PipelineResponse, Status>> + Send>>;

#[tonic::async_trait]
impl TransactionsService for Service {
    type PipelineStream = Responses;

    async fn pipeline(
        &self,
        request: Request<Streaming<v1::PipelineRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let mut greeting = self.0.greeting.subscribe();
        if matches!(*greeting.borrow(), Greeting::Refuse) {
            return Err(Status::unavailable("refused by the script"));
        }
        greeting.mark_changed();
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&self.0);
        let mut requests = request.into_inner();
        let (responses, stream) = mpsc::channel(16);
        tokio::spawn(async move {
            loop {
                let response = tokio::select! {
                    biased;
                    changed = greeting.changed() => {
                        let now = greeting.borrow_and_update().clone();
                        match (changed, now) {
                            (Ok(()), Greeting::Welcome(welcome)) => {
                                v1::PipelineResponse { welcome: Some(welcome), answers: Vec::new() }
                            }
                            _ => return,
                        }
                    }
                    request = requests.next() => match request {
                        Some(Ok(request)) => {
                            let Some(response) = shared.answer(request) else {
                                let cut = Err(Status::unavailable("cut by the script"));
                                responses.send(cut).await.ok();
                                return;
                            };
                            response
                        }
                        _ => return,
                    },
                };
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn begin(&self, _: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn submit(&self, _: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn commit(&self, _: Request<v1::CommitRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn abort(&self, _: Request<v1::AbortRequest>) -> Result<Response<v1::AbortResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn get_transaction(
        &self,
        _: Request<v1::GetTransactionRequest>,
    ) -> Result<Response<v1::GetTransactionResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

impl Shared {
    /// `None` if the stream is to be cut.
    fn answer(&self, request: v1::PipelineRequest) -> Option<v1::PipelineResponse> {
        let calls = request.calls.iter().map(|call| call.call.clone().unwrap());
        self.messages.lock().unwrap().push(calls.collect());
        let mut answers = Vec::new();
        let mut cut = false;
        for v1::PipelineCall { call_id, call } in request.calls {
            let call = call.unwrap();
            let number = {
                let mut calls = self.calls.lock().unwrap();
                calls.push(call.clone());
                calls.len() - 1
            };
            let answer = match (self.script.lock().unwrap())(number, &call) {
                Reply::Outcome(outcome) => Some(Answer::Outcome(outcome.into())),
                Reply::Error(error) => Some(Answer::Error(error)),
                Reply::Nonsense => Some(Answer::Outcome(v1::Outcome::default())),
                Reply::Silence => None,
                Reply::Cut => {
                    cut = true;
                    None
                }
            };
            if let Some(answer) = answer {
                answers.push(v1::PipelineAnswer { call_id, answer: Some(answer) });
            }
        }
        let recorded = self.calls.lock().unwrap().len();
        self.recorded.send_replace(recorded);
        if cut { None } else { Some(v1::PipelineResponse { welcome: None, answers }) }
    }
}

pub(crate) fn committed() -> Reply {
    Reply::Outcome(TransactionOutcome::Committed {
        read_only: false,
        unfinished: Vec::new(),
        heuristic: None,
    })
}

pub(crate) fn aborted(kind: AbortKind) -> Reply {
    Reply::Outcome(TransactionOutcome::Aborted {
        reason: AbortReason::new(kind, "by the script"),
        unfinished: Vec::new(),
        heuristic: None,
    })
}

pub(crate) fn branch(number: u64) -> Branch {
    Branch {
        id: BranchId::new(number),
        resource: ResourceName::new("bank-a").unwrap(),
        instance: InstanceId::from_uuid(Uuid::from_u128(1)),
        marker: false,
    }
}

/// The gid that a call names.
pub(crate) fn gid(call: &Call) -> Gid {
    let id = match call {
        Call::Commit(call) => &call.id,
        Call::Submit(call) => &call.id,
        Call::Abort(call) => &call.id,
        Call::GetTransaction(call) => &call.id,
    };
    Gid::from_slice(&id.as_ref().unwrap().gid).unwrap()
}

/// The branches that a call names.
pub(crate) fn branches(call: &Call) -> Vec<Branch> {
    let branches = match call {
        Call::Commit(call) => &call.branches,
        Call::Abort(call) => &call.branches,
        Call::GetTransaction(call) => &call.branches,
        Call::Submit(_) => return Vec::new(),
    };
    branches.iter().map(|branch| branch.clone().try_into().unwrap()).collect()
}
