//! One tower layer for both sides, and for tonic and axum alike: all of them speak `http::Request`.
//!
//! [`ContextLayer::client`] goes round a client (a tonic `Channel`, a hyper client): it writes
//! the current context into each request and reads the branches out of each response.
//! [`ContextLayer::server`] goes round a server (tonic `Server::layer`, axum `Router::layer`): it
//! reads the context, refuses a malformed one, scopes the handler in it, and names the branches
//! that enlisted meanwhile in the response's headers.
//!
//! Headers, not trailers: they are there for gRPC and HTTP/1 alike, also when tonic answers an
//! error (a response of trailers only is one of headers only). What enlists while the *body* of
//! a streaming response is being made comes too late to be named, and the transaction aborts
//! for it (law 9): finish the work before the first message.
//!
//! This file knows neither coordinators nor resources.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{self, Poll, ready};

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{CONTEXT_HEADER, CURRENT, Context, ENLISTED_HEADER, HeaderError, InTransaction, WithTransaction};

const CONTEXT: HeaderName = HeaderName::from_static(CONTEXT_HEADER);
const ENLISTED: HeaderName = HeaderName::from_static(ENLISTED_HEADER);
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Says in a refused HTTP request's response why it was refused.
const ERROR: HeaderName = HeaderName::from_static("pactum-error");

/// Carries transactions across calls. See the [module](super)'s text.
///
/// ```
/// # use pactum::context::ContextLayer;
/// # fn layers<C>(channel: C, router: axum::Router) -> (impl Sized, axum::Router) {
/// use tower::Layer as _;
/// let client = ContextLayer::client().layer(channel); // BankClient::new(client)
/// let router = router.layer(ContextLayer::server());  // handlers: Extension<pactum::Context>
/// # (client, router)
/// # }
/// ```
#[derive(Debug)]
pub struct ContextLayer<Side> {
    side: PhantomData<fn() -> Side>,
}

/// The side of a [`ContextLayer`] that makes calls.
#[derive(Debug)]
pub enum Client {}

/// The side of a [`ContextLayer`] that serves calls.
#[derive(Debug)]
pub enum Server {}

impl<Side> Clone for ContextLayer<Side> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Side> Copy for ContextLayer<Side> {}

impl ContextLayer<Client> {
    /// For clients: calls made inside [`WithTransaction::with`] carry the transaction, and what
    /// enlisted comes back. Also inside a handler behind [`Self::server`], so that a service may
    /// call others. A call outside any transaction passes untouched.
    pub fn client() -> Self {
        Self { side: PhantomData }
    }
}

impl ContextLayer<Server> {
    /// For servers: handlers find the transaction in the request's extensions and in
    /// [`Context::current`]. A request without a context passes untouched; one whose context is
    /// malformed is answered 400 (gRPC: `INVALID_ARGUMENT`) and never reaches the handler.
    pub fn server() -> Self {
        Self { side: PhantomData }
    }
}

impl<S> Layer<S> for ContextLayer<Client> {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> ClientService<S> {
        ClientService { inner }
    }
}

impl<S> Layer<S> for ContextLayer<Server> {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> ServerService<S> {
        ServerService { inner }
    }
}

/// A client whose calls carry the current transaction.
#[derive(Clone, Debug)]
pub struct ClientService<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for ClientService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ClientFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> ClientFuture<S::Future> {
        let context = Context::current();
        if let Some(context) = &context {
            let headers = request.headers_mut();
            // From here on the call counts as out: if no response comes back, what enlisted
            // is not known.
            if let Ok(value) = HeaderValue::try_from(context.header_value()) {
                headers.insert(CONTEXT, value);
            }
            // A tracing layer nearer to the application knows the span better.
            if let Some(Ok(value)) = context.traceparent().map(HeaderValue::from_str) {
                headers.entry(TRACEPARENT).or_insert(value);
            }
        }
        ClientFuture { response: self.inner.call(request), context }
    }
}

pin_project! {
    /// The response to a call of a [`ClientService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ClientFuture<F> {
        #[pin]
        response: F,
        context: Option<Context>,
    }
}

impl<F, R, E> Future for ClientFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(cx))?;
        if let Some(context) = this.context.take() {
            context.record_response(response.headers());
        }
        Poll::Ready(Ok(response))
    }
}

/// A server whose handlers run inside their caller's transaction.
#[derive(Clone, Debug)]
pub struct ServerService<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for ServerService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ServerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> ServerFuture<S::Future> {
        let stage = match read(&request) {
            Ok(None) => Stage::Outside { response: self.inner.call(request) },
            Ok(Some(context)) => {
                request.extensions_mut().insert(context.clone());
                let inner = &mut self.inner;
                // The handler's own first steps are inside, too.
                let response = CURRENT.sync_scope(context.clone(), || inner.call(request));
                Stage::Inside { response: response.with(&context), context }
            }
            Err(error) => {
                let grpc = is_grpc(&request);
                Stage::Refused { error, grpc }
            }
        };
        ServerFuture { stage }
    }
}

pin_project! {
    /// The response of a [`ServerService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ServerFuture<F> {
        #[pin]
        stage: Stage<F>,
    }
}

pin_project! {
    #[project = StageProjection]
    #[derive(Debug)]
    enum Stage<F> {
        Outside { #[pin] response: F },
        Inside { #[pin] response: InTransaction<F>, context: Context },
        Refused { error: HeaderError, grpc: bool },
    }
}

impl<F, R, E> Future for ServerFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Default,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match self.project().stage.project() {
            StageProjection::Outside { response } => response.poll(cx),
            StageProjection::Inside { response, context } => {
                let mut response = ready!(response.poll(cx))?;
                if let Some(Ok(value)) = context.response_value().map(HeaderValue::try_from) {
                    // Beside what a handler that passes a response on may have put there.
                    response.headers_mut().append(ENLISTED, value);
                }
                Poll::Ready(Ok(response))
            }
            StageProjection::Refused { error, grpc } => Poll::Ready(Ok(refuse(error, *grpc))),
        }
    }
}

/// The context of a request. More than one header is malformed: which would be meant?
fn read<B>(request: &Request<B>) -> Result<Option<Context>, HeaderError> {
    let malformed = |rule| HeaderError { header: CONTEXT_HEADER, rule };
    let mut values = request.headers().get_all(CONTEXT).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(malformed("it may stand once only"));
    }
    let text = value.to_str().map_err(|_no_more_to_say| malformed("visible ASCII is needed"))?;
    let (id, time_left) = super::header::parse_context(text)?;
    let traceparent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    Ok(Some(Context::with_traceparent(id, time_left, traceparent)))
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn refuse<R: Default>(error: &HeaderError, grpc: bool) -> Response<R> {
    if grpc {
        return pactum_proto::error::invalid_argument(error.header, error.rule).into_http();
    }
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    if let Ok(value) = HeaderValue::try_from(error.to_string()) {
        response.headers_mut().insert(ERROR, value);
    }
    response
}
