//! The context layer round real servers and clients, both ways: axum over HTTP/1 and HTTP/2, and
//! tonic, whose generated client and server stand for any service of a user.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, stop at what they did not expect")]

#[allow(dead_code, reason = "the tests of several coordinators use all of it")]
mod network;
#[path = "application/script.rs"]
#[allow(dead_code, reason = "shared with the tests of the application side")]
mod script;

use std::time::Duration;

use axum::body::Body;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pactum::context::{CONTEXT_HEADER, ENLISTED_HEADER};
use pactum::{
    Branch, BranchId, Context, ContextLayer, Gid, Incarnation, InstanceId, ResourceName, TransactionId,
    WithTransaction as _,
};
use pactum_proto::error::{ErrorCode, ErrorFacts};
use pactum_proto::v1;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use pactum_proto::v1::transactions_service_server::{TransactionsService, TransactionsServiceServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tower::{Layer as _, ServiceExt as _};
use uuid::Uuid;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn context() -> Context {
    let id = TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::now_v7()),
        gid: Gid::from_uuid(Uuid::now_v7()),
    };
    Context::new(id, Duration::from_secs(30))
}

fn branch(number: u64) -> Branch {
    Branch {
        id: BranchId::new(number),
        resource: ResourceName::new("bank-a").unwrap(),
        instance: InstanceId::from_uuid(Uuid::from_u128(1)),
        marker: number % 2 == 1,
    }
}

/// A server of any kind, until it is dropped.
struct Running {
    address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_axum(router: Router) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = router.layer(ContextLayer::server());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Running { address, task }
}

type Http = pactum::context::ClientService<HyperClient<HttpConnector, Body>>;

fn http_client(http2: bool) -> Http {
    let client = HyperClient::builder(TokioExecutor::new()).http2_only(http2).build_http();
    ContextLayer::client().layer(client)
}

async fn send(client: &Http, uri: String) -> Response<Body> {
    let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
    client.clone().oneshot(request).await.unwrap().map(Body::new)
}

/// Enlists two branches, one by the extension and one by the task-local.
async fn work(Extension(context): Extension<Context>) -> String {
    context.record_enlisted(branch(1));
    tokio::task::yield_now().await;
    Context::current().unwrap().record_enlisted(branch(2));
    context.id().to_string()
}

#[tokio::test]
async fn axum_handlers_work_in_the_callers_transaction_and_name_their_branches() {
    let router = Router::new().route("/", get(work));
    let server = serve_axum(router).await;
    for http2 in [false, true] {
        let context = context();
        let client = http_client(http2);
        let response = send(&client, server.address.clone()).with(&context).await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(body, context.id().to_string());
        assert_eq!(context.enlisted(), [branch(1), branch(2)]);
    }
}

#[tokio::test]
async fn branches_come_back_with_an_error_response_too() {
    let fail = |Extension(context): Extension<Context>| async move {
        context.record_enlisted(branch(1));
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let server = serve_axum(Router::new().route("/", get(fail))).await;
    let context = context();
    let response = send(&http_client(false), server.address.clone()).with(&context).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(context.enlisted(), [branch(1)]);
}

#[tokio::test]
async fn outside_a_transaction_everything_passes_untouched() {
    let plain = |request: Request<Body>| async move {
        assert!(Context::current().is_none());
        assert!(request.extensions().get::<Context>().is_none());
        assert!(!request.headers().contains_key(CONTEXT_HEADER));
        "done"
    };
    let server = serve_axum(Router::new().route("/", get(plain))).await;
    let response = send(&http_client(false), server.address.clone()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key(ENLISTED_HEADER));
}

#[tokio::test]
async fn a_malformed_context_never_reaches_the_handler() {
    let never = || async { unreachable_handler() };
    let server = serve_axum(Router::new().route("/", post(never))).await;
    let client = http_client(false);
    let good = context().header_value();
    for values in [vec![""], vec!["nonsense"], vec![&good, &good], vec!["\u{e4}"]] {
        let mut request = Request::post(&server.address);
        for value in &values {
            request = request.header(CONTEXT_HEADER, value.as_bytes());
        }
        let request = request.body(Body::empty()).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{values:?}");
        assert!(response.headers().contains_key("pactum-error"));
    }
}

#[tokio::test]
async fn a_service_that_calls_another_passes_on_what_enlisted_there() {
    let inner = serve_axum(Router::new().route("/", get(work))).await;
    let address = inner.address.clone();
    let relay = move |Extension(context): Extension<Context>| async move {
        context.record_enlisted(branch(7));
        send(&http_client(true), address).await.status()
    };
    let outer = serve_axum(Router::new().route("/", get(relay))).await;
    let context = context();
    let response = send(&http_client(true), outer.address.clone()).with(&context).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(context.enlisted(), [branch(1), branch(2), branch(7)]);
}

#[tokio::test]
async fn a_service_that_lost_an_answer_says_that_there_may_be_more() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let relay = move |Extension(_): Extension<Context>| async move {
        let request = Request::builder().uri(nobody).body(Body::empty()).unwrap();
        assert!(http_client(false).oneshot(request).await.is_err());
    };
    let server = serve_axum(Router::new().route("/", get(relay))).await;
    let context = context();
    let response = send(&http_client(false), server.address.clone()).with(&context).await;
    assert_eq!(response.headers().get(ENLISTED_HEADER).unwrap(), "more");
}

fn unreachable_handler() -> StatusCode {
    panic!("the handler was called")
}

/// Some generated service; only `begin` and `abort` are called.
struct Bank;

#[tonic::async_trait]
impl TransactionsService for Bank {
    type PipelineStream = tokio_stream::Empty<Result<v1::PipelineResponse, tonic::Status>>;

    async fn begin(
        &self,
        request: tonic::Request<v1::BeginRequest>,
    ) -> Result<tonic::Response<v1::BeginResponse>, tonic::Status> {
        let context = request.extensions().get::<Context>().unwrap();
        context.record_enlisted(branch(1));
        Context::current().unwrap().record_enlisted(branch(2));
        let text = context.traceparent().unwrap_or_default().to_owned();
        Ok(tonic::Response::new(v1::BeginResponse { id: Some(context.id().into()), context: text }))
    }

    async fn abort(
        &self,
        _: tonic::Request<v1::AbortRequest>,
    ) -> Result<tonic::Response<v1::AbortResponse>, tonic::Status> {
        Context::current().unwrap().record_enlisted(branch(3));
        Err(tonic::Status::failed_precondition("no funds"))
    }

    async fn submit(
        &self,
        _: tonic::Request<v1::SubmitRequest>,
    ) -> Result<tonic::Response<v1::SubmitResponse>, tonic::Status> {
        unreachable!()
    }

    async fn commit(
        &self,
        _: tonic::Request<v1::CommitRequest>,
    ) -> Result<tonic::Response<v1::CommitResponse>, tonic::Status> {
        unreachable!()
    }

    async fn get_transaction(
        &self,
        _: tonic::Request<v1::GetTransactionRequest>,
    ) -> Result<tonic::Response<v1::GetTransactionResponse>, tonic::Status> {
        unreachable!()
    }

    async fn pipeline(
        &self,
        _: tonic::Request<tonic::Streaming<v1::PipelineRequest>>,
    ) -> Result<tonic::Response<Self::PipelineStream>, tonic::Status> {
        unreachable!()
    }
}

async fn serve_tonic() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut server = tonic::transport::Server::builder().layer(ContextLayer::server());
        let server = server.add_service(TransactionsServiceServer::new(Bank));
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    Running { address, task }
}

#[tokio::test]
async fn tonic_handlers_work_in_the_callers_transaction_and_name_their_branches() {
    let server = serve_tonic().await;
    let channel = tonic::transport::Endpoint::new(server.address.clone()).unwrap().connect_lazy();
    let mut client = TransactionsServiceClient::new(ContextLayer::client().layer(channel));
    let context = context();
    let response = client.begin(v1::BeginRequest::default()).with(&context).await.unwrap();
    assert_eq!(response.into_inner().id, Some(context.id().into()));
    assert_eq!(context.enlisted(), [branch(1), branch(2)]);
    // An error of tonic is a response of trailers only, which are headers to HTTP.
    let status = client.abort(v1::AbortRequest::default()).with(&context).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert_eq!(context.enlisted(), [branch(1), branch(2), branch(3)]);
}

#[tokio::test]
async fn tonic_answers_a_malformed_context_with_invalid_argument() {
    let server = serve_tonic().await;
    let channel = tonic::transport::Endpoint::new(server.address.clone()).unwrap().connect_lazy();
    let mut client = TransactionsServiceClient::new(channel);
    let mut request = tonic::Request::new(v1::BeginRequest::default());
    request.metadata_mut().insert(CONTEXT_HEADER, "nonsense".parse().unwrap());
    let status = client.begin(request).await.unwrap_err();
    let facts = ErrorFacts::from_status(&status);
    assert_eq!(facts.known(), Some(ErrorCode::InvalidArgument));
    assert!(facts.message.contains(CONTEXT_HEADER), "{facts:?}");
}

#[tokio::test]
async fn the_traceparent_travels_with_the_transaction_unless_the_call_has_its_own() {
    let server = serve_tonic().await;
    let channel = tonic::transport::Endpoint::new(server.address.clone()).unwrap().connect_lazy();
    let mut client = TransactionsServiceClient::new(ContextLayer::client().layer(channel));
    let coordinator = script::Coordinator::start(|_, _| script::committed()).await;
    let pactum = pactum::Pactum::connect(&coordinator.address).await.unwrap();
    let begun = pactum.begin().traceparent(TRACEPARENT).await.unwrap();
    let response = client.begin(v1::BeginRequest::default()).with(&begun).await.unwrap();
    assert_eq!(response.into_inner().context, TRACEPARENT);
    assert!(begun.commit().await.unwrap().is_committed());

    let context = context();
    let mut request = tonic::Request::new(v1::BeginRequest::default());
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    let response = client.begin(request).with(&context).await.unwrap();
    assert_eq!(response.into_inner().context, TRACEPARENT);
    let response = client.begin(v1::BeginRequest::default()).with(&context).await.unwrap();
    assert_eq!(response.into_inner().context, "");
}
