//! Spans of a served coordinator arrive at an OpenTelemetry collector: in the application's trace, with
//! a link to it after recovery.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as Down;
use pactum_proto::v1::participant_message::Message as Up;
use pactum_proto::v1::participants_service_client::ParticipantsServiceClient;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use rustix::process::Signal;
use support::{Coordinator, LONG, pactum};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

const APPLICATION: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: [u8; 16] = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes();
const SPAN: [u8; 8] = 0xb7ad_6b71_6920_3331_u64.to_be_bytes();

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ResourceSpans>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves until the test's runtime ends; answers its URL.
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(self.clone());
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        url
    }

    fn spans(&self) -> Vec<Span> {
        let kept = self.0.lock().unwrap();
        let scopes = kept.iter().flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    async fn named(&self, name: &str, count: usize) -> Vec<Span> {
        let named = || -> Vec<Span> { self.spans().into_iter().filter(|span| span.name == name).collect() };
        let found = async {
            while named().len() < count {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, found).await.unwrap_or_else(|_| panic!("{name}: {:?}", self.spans()));
        named()
    }
}

/// A coordinator that sends its spans there, its log in that directory.
fn coordinator(directory: &Path, collector: &str) -> Coordinator {
    let data = directory.join("data").display().to_string();
    let arguments = ["dev", "--random-ports", "--data", &data, "-o", "json", "--otlp-endpoint", collector];
    let mut command = pactum(&arguments);
    command.env("OTEL_BSP_SCHEDULE_DELAY", "50").env("OTEL_SERVICE_NAME", "the-coordinator");
    Coordinator::start(command)
}

/// A participant that speaks the wire's own messages.
struct Participant {
    up: mpsc::Sender<v1::AttachRequest>,
    down: Streaming<v1::AttachResponse>,
    waiting: std::collections::VecDeque<Down>,
    welcome: v1::Welcome,
    instance: Uuid,
}

impl Participant {
    async fn attach(coordinator: &Coordinator) -> Self {
        let channel = Channel::from_shared(coordinator.public.clone()).unwrap().connect().await.unwrap();
        let (up, requests) = mpsc::channel(8);
        let instance = Uuid::now_v7();
        let registration = v1::Registration { resource: "bank".to_owned(), ..v1::Registration::default() };
        let hello = v1::Hello {
            instance: instance.as_bytes().to_vec(),
            resources: vec![registration],
            version: "test".to_owned(),
        };
        let mut client = ParticipantsServiceClient::new(channel);
        let message = v1::ParticipantMessage { message: Some(Up::Hello(hello)) };
        up.send(v1::AttachRequest { messages: vec![message] }).await.unwrap();
        let down = client.attach(ReceiverStream::new(requests)).await.unwrap().into_inner();
        let waiting = std::collections::VecDeque::new();
        let mut participant = Self { up, down, waiting, welcome: v1::Welcome::default(), instance };
        participant.welcome = participant
            .next(|message| if let Down::Welcome(welcome) = message { Some(welcome) } else { None })
            .await;
        participant
    }

    fn branch(&self) -> v1::Branch {
        let instance = self.instance.as_bytes().to_vec();
        v1::Branch { id: 1, resource: "bank".to_owned(), instance, marker: false }
    }

    async fn send(&self, message: Up) {
        let message = v1::ParticipantMessage { message: Some(message) };
        self.up.send(v1::AttachRequest { messages: vec![message] }).await.unwrap();
    }

    /// The next message of a kind; others are passed over.
    async fn next<T>(&mut self, wanted: impl Fn(Down) -> Option<T>) -> T {
        loop {
            while let Some(message) = self.waiting.pop_front() {
                if let Some(message) = wanted(message) {
                    return message;
                }
            }
            let batch = tokio::time::timeout(LONG, self.down.message()).await.unwrap().unwrap().unwrap();
            self.waiting.extend(batch.messages.into_iter().filter_map(|message| message.message));
        }
    }

    async fn ack_commit(&mut self) {
        let commit =
            self.next(|message| if let Down::Commit(commit) = message { Some(commit) } else { None }).await;
        let outcome = v1::BranchOutcome::Committed.into();
        self.send(Up::Finished(v1::Finished { id: commit.id, branch: commit.branch, outcome })).await;
    }

    /// Has a traced transaction committed, up to its decision; answers the Prepare that came.
    async fn decided(&mut self, coordinator: &Coordinator) -> v1::Prepare {
        let gid = Uuid::now_v7().as_bytes().to_vec();
        let id = Some(v1::TransactionId { incarnation: self.welcome.incarnation.clone(), gid });
        let branch = self.branch();
        let enlist = v1::Enlist { call_id: 1, id: id.clone(), branch: Some(branch.clone()), time_left: None };
        self.send(Up::Enlist(enlist)).await;
        let answer = self
            .next(|message| if let Down::EnlistAnswer(answer) = message { Some(answer) } else { None })
            .await;
        assert_eq!(answer.error, None);
        let mut application = TransactionsServiceClient::connect(coordinator.public.clone()).await.unwrap();
        let details = v1::Details { traceparent: APPLICATION.to_owned(), ..v1::Details::default() };
        let request = v1::CommitRequest {
            id,
            branches: vec![branch],
            wait: v1::Wait::Decision.into(),
            details: Some(details),
            ..v1::CommitRequest::default()
        };
        let committed = tokio::spawn(async move { application.commit(request).await });
        let prepare = self
            .next(|message| if let Down::Prepare(prepare) = message { Some(prepare) } else { None })
            .await;
        let evidence = v1::Evidence { execution: "1".to_owned(), anchor: "here".to_owned() };
        let vote = Some(v1::vote::Vote::Commit(evidence));
        self.send(Up::Vote(v1::Vote { id: prepare.id.clone(), branch: prepare.branch.clone(), vote })).await;
        let outcome = committed.await.unwrap().unwrap().into_inner().outcome.unwrap();
        assert_eq!(outcome.state(), v1::OutcomeState::Committed);
        prepare
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_one_trace_and_after_recovery_a_link_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::default();
    let url = collector.serve().await;
    let mut first = coordinator(directory.path(), &url);
    let mut participant = Participant::attach(&first).await;
    let prepare = participant.decided(&first).await;
    participant.ack_commit().await;

    let transaction = collector.named("pactum transaction", 1).await.remove(0);
    assert_eq!((&*transaction.trace_id, &*transaction.parent_span_id), (&TRACE[..], &SPAN[..]));
    for name in ["prepare", "decide", "commit"] {
        let span = collector.named(name, 1).await.remove(0);
        assert_eq!((&*span.trace_id, &*span.parent_span_id), (&TRACE[..], &*transaction.span_id), "{name}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{name}");
        if name == "prepare" {
            let own = u64::from_be_bytes(span.span_id.try_into().unwrap());
            assert_eq!(prepare.traceparent, format!("00-0af7651916cd43dd8448eb211c80319c-{own:016x}-01"));
        }
    }
    let resource = collector.0.lock().unwrap()[0].resource.clone().unwrap();
    let service = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
    assert!(format!("{service:?}").contains("the-coordinator"), "{service:?}");

    // Decided and not acknowledged when the coordinator dies: its successor drives it.
    participant.decided(&first).await;
    first.signal(Signal::KILL);
    first.ended();
    let second = coordinator(directory.path(), &url);
    let mut participant = Participant::attach(&second).await;
    participant.ack_commit().await;
    let recovered = collector.named("pactum recover", 1).await.remove(0);
    assert_ne!(&*recovered.trace_id, &TRACE[..]);
    let [link] = recovered.links.as_slice() else { panic!("{recovered:?}") };
    assert_eq!((&*link.trace_id, &*link.span_id), (&TRACE[..], &SPAN[..]));
}
